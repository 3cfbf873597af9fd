"""Whatever a file holds, its reader returns what it should or refuses it in one sentence."""

import contextlib
import json
import string
from pathlib import Path

import gin
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqio_tasks import catalogue, languages
from seqio_tasks.errors import RequestError
from xfer_jax import configuration
from xfer_jax.analysis import analysis_folder
from xfer_jax.checkpoints import run_file
from xfer_jax.engine import train
from xfer_jax.results import csv_file, predictions, probe_table, score_table
from xfer_jax.study import definition

# The same examples on every machine; a folder is shared by a test's examples, which overwrite it.
quick = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextlib.contextmanager
def read_or_refused(*names: str):
    """Passes whatever is read; a refusal must be one printable sentence that names the file."""
    try:
        yield
    except RequestError as error:
        said = str(error)
        assert said
        assert "\n" not in said
        assert any(name in said for name in names), said


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, "<extra_id_0>", "xfer_panx.sw", "en", "\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=6) | st.sampled_from(["inputs", "targets", "score"]), inner,
                      max_size=4),
    max_leaves=12,
)  # fmt: skip
raw = st.binary(max_size=200) | st.text(max_size=100).map(str.encode)


def altered(good: dict, values=anything):
    """Records like a good one, some of whose fields, at any depth, hold anything or are lacking."""

    def places(value, path=()):
        yield path
        if isinstance(value, dict):
            for key in value:
                yield from places(value[key], (*path, key))

    def replaced(args):
        path, new, lacking = args
        record = json.loads(json.dumps(good))
        if not path:
            return new
        inner = record
        for key in path[:-1]:
            inner = inner[key]
        if lacking:
            del inner[path[-1]]
        else:
            inner[path[-1]] = new
        return record

    return st.tuples(st.sampled_from(list(places(good))), values, st.booleans()).map(replaced)


def written(path: Path, *records) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


CELLS = st.one_of(
    st.sampled_from(
        ["en", "sw", "ar", "", "nan", "1e999", "-1", "50", "12,5", '"', "a\rb", "mean"]
    ),
    st.text(max_size=6),
    st.floats().map(str),
)
NAMES = st.sampled_from(
    [*score_table.REQUIRED, "task", "n_shots", "n_train", "seed", "arm", "metric", "x"]
)


@st.composite
def csv_texts(draw) -> str:
    """Tables that are nearly right, with any separator and line end."""
    separator, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    header = draw(st.permutations(["source", "target", "score"])) + draw(
        st.lists(NAMES, max_size=2)
    )
    width = len(header)
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))
    return end.join(separator.join(row) for row in [header, *rows])


@quick
@given(csv_texts() | st.text(max_size=200))
def test_any_table_is_read_or_refused(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with read_or_refused("t.csv", "unknown language"):
        scores = score_table.check(csv_file.read(path, score_table.REQUIRED), path).table
        assert scores["score"].between(0, 100).all()
        assert (scores[["n_shots", "n_train"]] >= 0).all(axis=None)
        assert not scores.duplicated(["task", "source", "target", "seed", "n_shots"]).any() or (
            {"arm", "n_train", "metric"} & set(scores.columns)
        )


@quick
@given(raw)
def test_any_bytes_are_a_table_or_refused(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with read_or_refused("t.csv", "unknown language"):
        score_table.check(csv_file.read(path, score_table.REQUIRED), path)


KNOWN = sorted(languages.LANGUAGES)[:8]


@quick
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(KNOWN), st.sampled_from(KNOWN)),
        st.integers(0, 10_000).map(lambda n: n / 100),
        min_size=2,
    ),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path, cells, separator, end, mark):
    if max(cells.values()) <= 1:
        return  # may be fractions, of which a user is asked
    lines = ["source,target,score", *(f"{a},{b},{score}" for (a, b), score in cells.items())]
    text = end.join(lines).replace(",", separator)
    path = tmp_path / "t.csv"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode())
    table = score_table.check(csv_file.read(path, score_table.REQUIRED), path).table
    found = {(row.source, row.target): row.score for row in table.itertuples()}
    assert found == cells


ANSWER = {
    "input": {"inputs_pretokenized": "tag: Rick", "inputs": [5, 6, 1]},
    "target": "PER: Rick",
    "output": "PER: Rick",
    "prediction": "PER: Rick",
}
PANX = catalogue.task("xfer_panx.sw")


@quick
@given(altered(ANSWER))
def test_any_answer_is_read_or_refused(tmp_path, record):
    name = f"{PANX.name}-000004.jsonl"
    written(tmp_path / "inference_eval" / name, ANSWER, record)
    with read_or_refused(name):
        found = predictions.read(tmp_path, PANX)
        assert len(found.answers) == 2
        assert 0 <= found.score <= 100


@quick
@given(raw)
def test_any_bytes_are_answers_or_refused(tmp_path, content):
    path = tmp_path / "inference_eval" / f"{PANX.name}-000004.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with read_or_refused(path.name):
        assert 0 <= predictions.read(tmp_path, PANX).score <= 100


VALUES = st.sampled_from(
    ["'xfer_panx'", "'en'", "'n100.s0'", "3", "None", "('a', 'b')", "%OTHER", "@f()", "'", "(", "",
     "\\\n    'xfer_panx.sw'", "0x", "9" * 5000, "'xx'", "f'{1}'", "__import__('os')"]
)  # fmt: skip
MACROS = st.sampled_from(["TASK", "SOURCE", "SUBSET", "MIXTURE_OR_TASK_NAME", "RANDOM_SEED", "X"])


@quick
@given(st.lists(st.tuples(MACROS, VALUES), max_size=6) | st.text(max_size=100))
def test_any_configuration_of_a_run_is_read_or_refused(tmp_path, lines):
    written(tmp_path / "inference_eval" / f"{PANX.name}-000004.jsonl", ANSWER)
    text = lines if isinstance(lines, str) else "".join(f"{a} = {b}\n" for a, b in lines)
    (tmp_path / "config.gin").write_bytes(text.encode("utf-8", "surrogatepass"))
    with read_or_refused("config.gin"):
        table = predictions.table([tmp_path])
        assert list(table["target"]) == ["sw"]
        assert set(table["source"]) <= set(languages.LANGUAGES)


PROBE = "xfer_probe.panx.en"
ASKED = {"inputs": {"targets": [279, 5, 278, 7, 1], "targets_pretokenized": "<extra_id_0> a"}}


@quick
@given(
    altered(ASKED | {"score": -3.0}), altered(ASKED | {"prediction_tokens": [279, 5, 278, 7, 1]})
)
def test_any_probe_is_read_or_refused(tmp_path, scored, said):
    written(probe_table.path(tmp_path, PROBE, "score"), scored)
    written(probe_table.path(tmp_path, PROBE, "predict"), said)
    with read_or_refused(PROBE):
        answers = probe_table.read(tmp_path, PROBE)
        assert pd.notna(answers.loss).all()
        assert (answers.exact <= answers.spans).all()


ABOUT = {
    "first_step": 0, "vocabulary": "0" * 64, "vocabulary_file": "v.model", "task": "xfer_panx.en",
    "source": "en", "n_shots": None, "examples": 9, "seed": 0, "data": ["a"],
}  # fmt: skip


@quick
@given(altered(ABOUT).map(lambda of: json.dumps(of).encode("utf-8", "surrogatepass")) | raw)
def test_any_run_json_is_read_or_refused(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with read_or_refused("run.json"):
        about = run_file.about(tmp_path)
        assert isinstance(about, dict)


TOKENS = st.sampled_from(
    ["BATCH_SIZE", "TASK", "NOPE", " = ", "=", "3", "'x'", "(", ")", "[", "{", "'", '"', "%BATCH_SIZE",
     "%TASK", "@", "@nope()", "\n", "\\", "#", ":", "include ", "import ", "os", "'a.gin'", ".", "/",
     "train.Run", "None", "1e999", "  ", "\0", "ü", "from __gin__ import dynamic_registration"]
)  # fmt: skip


CONFIGURABLE = (definition.Study, train.Run)  # imported, so that gin knows them


@pytest.fixture(autouse=True)
def _no_files_of_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@quick
@given(st.lists(TOKENS, max_size=8).map("".join) | st.text(max_size=40))
def test_any_binding_is_taken_or_refused(binding):
    required = [
        "MODEL_DIR = 'out'",
        "TASK = 'xfer_panx'",
        "SOURCE = 'en'",
        "TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 8}",
    ]
    with read_or_refused(""):
        text = configuration.load("train", [], [*required, binding])
        assert "BATCH_SIZE" in text


@quick
@given(st.lists(TOKENS, max_size=12).map("".join) | st.text(max_size=60))
def test_any_gin_file_is_taken_or_refused(tmp_path, text):
    path = tmp_path / "mine.gin"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with read_or_refused("mine.gin", "gin", "macro", "must be set", "NOPE"):
        configuration.load("study", [str(path)], [])
    gin.clear_config()


@quick
@given(st.text(string.printable + "üñ日", max_size=20))
def test_a_text_survives_gin(text):
    """What a user sets is what a run is given, whatever characters it has."""
    configuration.load("study", [], [f"study.Study.model = {text!r}"])
    assert gin.query_parameter("study.Study.model") == text


@quick
@given(altered({"scores": ["a"], "where": {}, "features": [], "options": {}, "permutations": 9,
                "seed": 0, "kinds": {"syntax": "pair"}, "made_up": False, "notes": ["a"]})
       .map(lambda of: json.dumps(of).encode("utf-8", "surrogatepass")) | raw)  # fmt: skip
def test_any_analysis_is_read_or_refused(world, tmp_path, content):
    folder = tmp_path / "analysis"
    if not folder.exists():
        folder.symlink_to(world / "analysis")
        kept = (folder / analysis_folder.ABOUT).read_bytes()
        assert kept
    copy = tmp_path / "copy"
    copy.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and not (copy / path.name).exists():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / analysis_folder.ABOUT).write_bytes(content)
    with read_or_refused("copy"):
        analysis_folder.read(copy)
