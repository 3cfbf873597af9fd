"""Whatever a file holds, it is read or refused in one sentence: properties of the readers."""

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from seqio_tasks.language_codes import code_of
from xfer_jax.analysis import features
from xfer_jax.results import csv_file, predictions, probe_table, score_table

FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
CELL = st.one_of(
    WORD,
    st.sampled_from(["en", "sw", "arz", "all", "pt-PT", "1,5", "15%", "1e400", "nan", "-3", "50"]),
    st.floats().map(str),
    st.integers().map(str),
)
HEADER = st.lists(
    st.sampled_from(["source", "target", "score", "language", "task", "seed", "n_train", "x", ""]),
    min_size=1,
    max_size=6,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=6,
)


def one_sentence(error: RequestError) -> None:
    assert len(str(error).splitlines()) == 1


@FEW
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    try:
        csv_file.read(path)
    except RequestError as error:
        one_sentence(error)


@FEW
@given(
    HEADER, st.lists(st.lists(CELL, min_size=6, max_size=6), max_size=5), st.sampled_from(",;\t")
)
def test_any_table_is_read_or_refused(tmp_path, header, rows, separator):
    path = tmp_path / "table.csv"
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([header, *(row[: len(header)] for row in rows)])
    path.write_text(text.getvalue(), encoding="utf-8", errors="replace", newline="")
    for read in (lambda: score_table.read(path), lambda: features.read(path, ("en", "sw"))):
        try:
            read()
        except RequestError as error:
            one_sentence(error)


@FEW
@given(CELL)
def test_any_name_is_a_language_or_refused(name):
    try:
        code = code_of(name)
    except RequestError as error:
        one_sentence(error)
    else:
        assert code_of(code) == code


@FEW
@given(
    JSON,
    st.sampled_from(["panx", "xnli", "mlqa", "udpos"]),
    st.sampled_from(["target", "output", "input", ""]),
)
def test_any_line_of_outputs_is_read_or_refused(tmp_path, value, family, field):
    target = ["a"] if family == "mlqa" else "0" if family == "xnli" else "PER: a"
    record = {"input": {"inputs_pretokenized": "x", "inputs": [1]}, "target": target, "output": "b"}
    record = record | {field: value} if field else value
    task = catalogue.task(f"xfer_{family}.hi")
    path = tmp_path / "inference_eval" / f"{task.name}-1.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record) + "\n")
    try:
        found = predictions.read(tmp_path, task)
        assert found is not None
        assert 0 <= found.score <= 100
        assert 0 <= found.baseline <= found.perfect + 1e-9
    except RequestError as error:
        one_sentence(error)
    finally:
        path.unlink()


@FEW
@given(JSON)
def test_any_line_of_a_probe_is_read_or_refused(tmp_path, value):
    for name in probe_table.MODES:
        probe_table.path(tmp_path, "xfer_probe.panx.sw", name).write_text(json.dumps(value) + "\n")
    with pytest.raises(RequestError) as refused:
        probe_table.collect(tmp_path)
    one_sentence(refused.value)
