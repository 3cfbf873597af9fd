"""gin files of strangers: nothing of theirs runs; what is wrong is said in one sentence."""

import re
import sys

import pytest

from seqio_tasks import settings
from seqio_tasks.errors import RequestError
from xfer_jax import configuration
from xfer_jax.engine import train
from xfer_jax.study import definition

REQUIRED = [
    "MODEL_DIR = 'out'",
    "TASK = 'xfer_panx'",
    "SOURCE = 'en'",
    "TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 8}",
    "VOCAB_SIZE = 512",
    "TRAIN_STEPS = 1",
]


def refused(pattern: str, command: str, *arguments):
    """Checks that a configuration is refused, when it is parsed or when it is built."""
    made = {"train": train.Run, "study": definition.Study}[command]
    try:
        configuration.load(command, *arguments)
        configuration.build(made)
    except RequestError as error:
        sentence = str(error)
    else:
        pytest.fail("it was accepted")
    assert re.search(pattern, sentence), sentence
    assert "\n" not in sentence


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module on the path that leaves a mark when it is imported."""
    name = f"module_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        f"import gin\nfrom pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
        "@gin.configurable\ndef steps_of_mine():\n    return 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


HOSTILE = [
    "import {module}",
    "from {module} import steps_of_mine",
    "import {module} as m",
    "from __gin__ import dynamic_registration\nimport {module}",
    "from __gin__ import dynamic_registration\nimport os\nTRAIN_STEPS = @os.getpid()",
    "import subprocess",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_stranger_s_file_imports_nothing(tmp_path, module, text):
    file = tmp_path / "a.gin"
    file.write_text(text.format(module=module) + "\n")
    (tmp_path / "b.gin").write_text(f"BATCH_SIZE = 3\ninclude '{file}'\n")
    for name in ("a.gin", "b.gin"):
        with pytest.raises(RequestError, match=r"a\.gin, line \d: (the file imports|dynamic_reg)"):
            configuration.load("train", [name], REQUIRED, [str(tmp_path)])
    with pytest.raises(RequestError):
        configuration.load(
            "train", [], [*REQUIRED, "BATCH_SIZE = 3\n" + text.format(module=module)]
        )
    assert not (tmp_path / "ran").exists()


def test_a_module_that_the_user_names_may_be_imported(tmp_path, module):
    file = tmp_path / "a.gin"
    file.write_text(f"import {module}\nTRAIN_STEPS = @steps_of_mine()\n")
    configuration.load("train", [str(file)], REQUIRED[:-1], imports=[module])
    assert configuration.build(train.Run).optimisation.train_steps == 7
    with pytest.raises(RequestError, match=r"--import no_such_module: .*cannot be"):
        configuration.load("train", [], REQUIRED, imports=["no_such_module"])


def test_folders_of_an_earlier_load_are_not_searched(tmp_path):
    for seed in ("7", "8"):
        folder = tmp_path / seed
        folder.mkdir()
        (folder / "of_mine.gin").write_text(f"RANDOM_SEED = {seed}\n")
        text = configuration.load("train", ["of_mine.gin"], REQUIRED, [str(folder)])
        assert f"RANDOM_SEED = {seed}\n" in text


BROKEN = {
    "BATCH_SIZE = (1,\n": r"a\.gin is no gin file: a bracket .* is never closed",
    "SOURCE = en\n": r"a\.gin.*text needs quotation marks: SOURCE = 'en'",
    "include 'none.gin'\n": r"there is no gin file none\.gin.*, which .*a\.gin includes",
    "include 'a.gin'\n": r"include each other in a circle: .*a\.gin includes .*a\.gin",
    "BATCH_SIZE = " + "[" * 5000 + "\n": r"a\.gin.*(no gin|nested)",
    "BATCH_SIZE = %LOG_PERIOD\nLOG_PERIOD = %BATCH_SIZE\n": r"the macro \w+ refers to itself",
    "BATCH_SIZE = 3 = 4\n": r"a\.gin.*this is no gin",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / "a.gin").write_text(text)
    refused(BROKEN[text], "train", ["a.gin"], REQUIRED, [str(tmp_path)])


def test_a_file_that_is_no_text_is_named(tmp_path):
    for content in (b"\xff\xfeB", b"A = 1\0", b"A = '\xe9'\n", bytes(range(256))):
        (tmp_path / "a.gin").write_bytes(content)
        with pytest.raises(RequestError, match=r"a\.gin"):
            configuration.load("train", [str(tmp_path / "a.gin")], REQUIRED)
    with pytest.raises(RequestError, match="no gin file"):
        configuration.load("train", [str(tmp_path)], REQUIRED)


WRONG = {
    "BATCH_SIZE = -1": "BATCH_SIZE must be at least 1, not -1",
    "BATCH_SIZE = 1.5": "BATCH_SIZE must be a whole number, not 1.5",
    "BATCH_SIZE = True": "BATCH_SIZE must be a whole number, not True",
    "BATCH_SIZE = 'x'": "BATCH_SIZE must be a whole number, not 'x'",
    "BATCH_SIZE = 10**12": "--gin.BATCH_SIZE",
    "BATCH_SIZE = 1000000000000": "BATCH_SIZE must be at most 1048576, not 1000000000000",
    "Z_LOSS = -0.1": "Z_LOSS must be at least 0.0, not -0.1",
    "KEEP_CHECKPOINTS = 0": "KEEP_CHECKPOINTS must be at least 1, not 0",
    "MODEL_DIR = 'a\\0b'": "MODEL_DIR: a path must not contain a NUL character",
    "MODEL_DIR = ''": "MODEL_DIR: a path must be text that is not empty",
    "TRAIN_SPLIT = 'a\\nb'": "TRAIN_SPLIT must be text on one line",
    "NUM_ENCODER_LAYERS = 999999999": "NUM_ENCODER_LAYERS must be at most 1024",
}


@pytest.mark.parametrize("binding", WRONG)
def test_a_value_of_a_wrong_type_or_size_is_said(binding):
    refused(re.escape(WRONG[binding]), "train", [], [*REQUIRED, binding])


WRONG_STUDY = {
    "s/study.Stage.tasks = ('panx')": "s/study.Stage.tasks must be a list, such as ('en',) with",
    "s/study.Stage.tasks = ('../panx',)": "s/study.Stage.tasks[0] must be a name of letters",
    "study.Study.model = 'a b'": "study.Study.model must be a name of letters",
    "s/study.Stage.train_on = ('e\\nn',)": "s/study.Stage.train_on[0] must be",
    "study.Study.seeds = (0, -1)": "study.Study.seeds[1] must be at least 0, not -1",
    "s/study.Stage.variants = 5": "s/study.Stage.variants must be a dictionary",
    "s/study.Stage.variants = {'10': ()}": "s/study.Stage.variants['10'] must be",
    "study.Study.stages = ('s',)": "study.Study.stages[0] must be",
}


@pytest.mark.parametrize("line", WRONG_STUDY)
def test_a_study_s_wrong_value_is_said(tmp_path, line):
    study = "study.Study.model = 'pocket'\nstudy.Study.stages = (@s/study.Stage(),)\n"
    (tmp_path / "s.gin").write_text(f"{study}s/study.Stage.tasks = ('pocket_nli',)\n{line}\n")
    refused(re.escape(WRONG_STUDY[line]), "study", [str(tmp_path / "s.gin")], [])


def test_a_settings_class_names_what_is_missing_unknown_or_refused():
    @settings.settings({"b": "B_MACRO"})
    class Two:
        a: settings.Count
        b: settings.AboveZero | None = None

        def __post_init__(self):
            if self.a == 7:
                raise RequestError("seven is refused")

    assert (Two(1, 2).a, Two(1, 2).b) == (1, 2.0)
    for wrong, sentence in (
        ({}, "A must be set"),
        ({"a": 1, "bb": 2}, "there is no setting 'bb' (did you mean b?)"),
        ({"a": 1, "b": float("nan")}, "B_MACRO must be"),
        ({"a": 7}, "seven is refused"),
    ):
        with pytest.raises(RequestError, match=re.escape(sentence)):
            Two(**wrong)


def test_later_settings_win(tmp_path):
    first, second = tmp_path / "a.gin", tmp_path / "b.gin"
    first.write_text("BATCH_SIZE = 3\nEMB_DIM = 48\n")
    second.write_text("BATCH_SIZE = 4\n")
    bindings = [*REQUIRED, "EMB_DIM = 56"]
    text = configuration.load("train", [str(first), "b.gin"], bindings, [str(tmp_path)])
    assert "BATCH_SIZE = 4" in text
    assert "EMB_DIM = 56" in text


def test_the_configuration_s_text_does_not_depend_on_the_order_of_settings():
    settings = [*REQUIRED, "BATCH_SIZE = 3", "EMB_DIM = 48"]
    a, b = (configuration.load("train", [], order) for order in (settings, settings[::-1]))
    assert a == b
