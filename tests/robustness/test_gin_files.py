"""Gin files that are broken, go in circles, or would run code."""

import pytest

from benchmarks.bad_input import FOLDER, Case, Link

TRAIN = "train --gin_file=$WORLD/tiny.gin --gin_file=mine.gin --gin.MODEL_DIR=\"'out'\""
STUDY = "study plan mine.gin"
# Would leave a trace if it ran.
PY = "import pathlib\npathlib.Path('ran').touch()\n"


def of(id: str, words: str, content, **more) -> list[Case]:
    """The same file for a run and for a study."""
    files = {**more.pop("files", {}), "mine.gin": content}
    return [
        Case(f"train-{id}", TRAIN, words, files, **more),
        Case(f"study-{id}", STUDY, words, files, **more),
    ]


BROKEN = [
    *of("unbalanced", r"mine\.gin", "BATCH_SIZE = (3\n"),
    *of("unbalanced-string", r"mine\.gin", "BATCH_SIZE = 'x\n"),
    *of("unbalanced-block", r"mine\.gin", "study.Study:\n  model = 'pocket\n"),
    *of("no-value", r"mine\.gin", "BATCH_SIZE =\n"),
    *of("no-equals", r"mine\.gin", "BATCH_SIZE 3\n"),
    *of("prose", r"mine\.gin", "This is no configuration.\n"),
    *of("indented", r"mine\.gin", "   BATCH_SIZE = 3\n  TRAIN_STEPS = 3\n"),
    *of("json", r"mine\.gin", '{"BATCH_SIZE": 3}\n'),
    *of("python", r"mine\.gin", "def f():\n    return 3\n"),
    *of("expression", r"mine\.gin", "BATCH_SIZE = 2 + 2\n"),
    *of("unquoted", r"mine\.gin|quote", "SOURCE = en\n"),
    *of("binary", r"mine\.gin", bytes(range(256)) * 4),
    *of("nul", r"mine\.gin", b"BATCH_SIZE = 3\0\n"),
    *of("utf-16", r"mine\.gin", "BATCH_SIZE = 3\n".encode("utf-16")),
    *of("latin-1", r"mine\.gin", "SUBSET = 'Zürich'\n".encode("latin-1")),
    *of("folder", r"mine\.gin", FOLDER),
    *of("dangling", r"mine\.gin", Link("nope.gin")),
    *of("link-to-itself", r"mine\.gin", Link("mine.gin")),
    *of("deep", r"mine\.gin|deep|nested", "BATCH_SIZE = " + "[" * 5000 + "]" * 5000 + "\n"),
    *of("digits", r"mine\.gin|digits", f"BATCH_SIZE = {'9' * 5000}\n"),
    *of("include-missing", r"nope\.gin", "include 'nope.gin'\n"),
    *of("include-itself", r"mine\.gin|include|circle|loop", "include 'mine.gin'\n"),
    *of("include-circle", r"(a|b|mine)\.gin", "include 'a.gin'\n",
        files={"a.gin": "include 'b.gin'\n", "b.gin": "include 'a.gin'\n"}),
    *of("include-unquoted", r"mine\.gin", "include nope\n"),
    *of("include-folder", r"sub", "include 'sub'\n", files={"sub": FOLDER}),
    *of("include-binary", r"a\.gin", "include 'a.gin'\n", files={"a.gin": b"\xff\xfe\0\1" * 9}),
    *of("macro-of-itself", "LOOP", "LOOP = %LOOP\nstudy.Study.model = %LOOP\nBATCH_SIZE = %LOOP\n"),
    *of("macro-circle", "LOOP", "LOOP = %LOOP2\nLOOP2 = %LOOP\n"
        "study.Study.model = %LOOP\nBATCH_SIZE = %LOOP\n"),
    *of("macro-of-nothing", "NOWHERE", "BATCH_SIZE = %NOWHERE\nstudy.Study.model = %NOWHERE\n"),
    *of("macro-unused", "NOWHERE", "NOWHERE = 3\n"),
    *of("unknown", "nope", "nope.Nope.x = 3\n"),
    *of("unknown-field", "nope", "study.Study.nope = 3\n"),
    *of("unknown-reference", "nope", "BATCH_SIZE = @nope()\nstudy.Study.model = @nope()\n"),
]  # fmt: skip

IMPORTS = [
    *of("import-subprocess", "import|subprocess", "import subprocess\n"),
    *of("import-os", r"import|\bos\b", "import os\n"),
    *of("from-import", "import", "from os import path\n"),
    *of("import-as", "import", "import os.path as p\n"),
    *of("import-unknown", "import|nope", "import nope\n"),
    *of("import-own", "import|mine", "import mine\n", files={"mine.py": PY}),
    *of("import-relative", "import", "import .mine\n", files={"mine.py": PY}),
    *of("import-included", "import|subprocess", "include 'a.gin'\n",
        files={"a.gin": "import subprocess\n"}),
    *of("import-after-comment", "import|subprocess", "# a comment\n\n   \nimport subprocess  # x\n"),
    *of("import-continued", "import|gin", "import \\\n  subprocess\n"),
    *of("dynamic-registration", "import|dynamic",
        "from __gin__ import dynamic_registration\nimport os\n"),
    *of("dynamic-call", "import|dynamic",
        "from __gin__ import dynamic_registration\nimport subprocess\n"
        "BATCH_SIZE = @subprocess.getoutput()\nsubprocess.getoutput.cmd = 'touch ran'\n"
        "study.Study.model = @subprocess.getoutput()\n"),
    *of("dynamic-builtins", "import|dynamic|eval",
        "from __gin__ import dynamic_registration\nimport builtins\n"
        "builtins.eval.source = '1'\nBATCH_SIZE = @builtins.eval()\n"),
]  # fmt: skip

FOUND = [
    Case("gin-file-missing", "train --gin_file=nope.gin", r"nope\.gin"),
    Case("gin-file-empty-name", "train --gin_file=", "gin_file|path|empty|gin file"),
    Case("gin-file-nul", ["train", "--gin_file=a\0b"], "a"),
    Case("gin-file-newline", ["train", "--gin_file=a\nb"], "a"),
    Case("gin-file-long", ["train", "--gin_file=" + "x" * 5000], "x"),
    Case("gin-file-of-another-suffix", "train --gin_file=t.csv", r"t\.csv", {"t.csv": "a,b\n1,2\n"}),
    Case("nothing-set", "train", "MODEL_DIR"),
    Case("only-a-model", "train --gin_file=gin/models/pocket.gin", "TASK|MODEL_DIR"),
    Case("eval-nothing", "eval", "CHECKPOINT_PATH"),
    Case("infer-nothing", "infer", "CHECKPOINT_PATH"),
    Case("probe-nothing", "probe", "CHECKPOINT_PATH"),
    Case("retrieve-nothing", "retrieve", "CHECKPOINT_PATH"),
    Case("search-path-missing", "train --gin_file=a.gin --gin_search_paths=nope", r"a\.gin"),
    Case("study-of-a-run", "study plan $WORLD/tiny.gin", r"TRAIN_STEPS|model|study", {}),
    Case("study-empty", "study plan mine.gin", r"mine\.gin|model", {"mine.gin": ""}),
    Case("study-of-nothing", "study plan mine.gin", "stages",
         {"mine.gin": "study.Study.model = 'pocket'\n"}),
    Case("study-a-table", "study plan scores.csv", r"scores\.csv", ready=("scores.csv",)),
    Case("run-of-a-study", "train --gin_file=$WORLD/study.gin", "MODEL_DIR|study"),
]  # fmt: skip


@pytest.mark.parametrize("case", [*BROKEN, *IMPORTS, *FOUND], ids=str)
def test_a_wrong_gin_file_is_refused(refused, case):
    refused(case)
