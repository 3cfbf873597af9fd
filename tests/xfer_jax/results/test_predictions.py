"""Folders in T5X's layout, made by hand, by this engine and by the real T5X."""

import json
import os
from pathlib import Path

import pytest

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from tests.support.runs import RIGHT, WRONG, write_run
from xfer_jax.analysis import alignment
from xfer_jax.results import predictions

FIXTURES = os.environ.get("XFER_T5X_FIXTURES")  # at import: tests may change the environment


def test_a_table_is_computed_from_the_outputs(tmp_path):
    write_run(
        tmp_path / "a", "xfer_panx.en", {"xfer_panx.sw": [RIGHT, WRONG], "xfer_panx.en": [RIGHT]}
    )
    write_run(tmp_path / "b", "xfer_panx.sw.matched.s0", {"xfer_panx.en": [WRONG]})
    found = predictions.table(predictions.runs_in(tmp_path)).set_index(["source", "target"])
    assert found["score"].to_dict() == {
        ("en", "en"): pytest.approx(100),
        ("en", "sw"): pytest.approx(50),
        ("sw", "en"): 0,
    }
    assert found["arm"].to_list() == ["", "", "matched"]
    assert set(found["seed"]) == {3}
    assert set(found["task"]) == {"xfer_panx"}


def test_the_last_step_counts(tmp_path):
    for step, row in ((9, WRONG), (100, RIGHT), (20, WRONG)):
        run = write_run(tmp_path, "xfer_panx.en", {"xfer_panx.sw": [row]}, step)
    found = predictions.read(run, catalogue.task("xfer_panx.sw"))
    assert found is not None
    assert (found.step, found.score) == (100, pytest.approx(100))
    assert found.tokens == [[5, 6, 1]]
    assert predictions.read(run, catalogue.task("xfer_panx.hi")) is None


def test_lines_end_where_json_says(tmp_path):
    strange = ("tag: a\u2028b\u0085c", "PER: a", "PER: a\u2029")
    run = write_run(tmp_path, "xfer_panx.en", {"xfer_panx.sw": [strange, RIGHT]})
    path = run / "inference_eval" / "xfer_panx.sw-000010.jsonl"
    records = map(json.loads, path.read_text().split("\n")[:-1])
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = predictions.read(run, catalogue.task("xfer_panx.sw"))
    assert found is not None
    assert found.inputs == [strange[0], RIGHT[0]]


def test_this_tools_own_configuration_says_what_was_trained_on(tmp_path):
    run = write_run(tmp_path, "unused", {"xfer_panx.sw": [RIGHT]})
    (run / "config.gin").write_text(
        "MIXTURE_OR_TASK_NAME = @train/catalogue.name()\nTASK = 'xfer_panx'\nSOURCE = 'hi'\n"
        "SUBSET = 'n10.s0'\n"
    )
    found = predictions.table([run]).iloc[0]
    assert (found["source"], found["arm"], found["seed"]) == ("hi", "n10", 0)


def test_wrong_folders_are_refused(tmp_path):
    run = write_run(tmp_path, "xfer_panx.en", {"xfer_panx.sw": [RIGHT]})
    path = run / "inference_eval" / "xfer_panx.sw-000010.jsonl"
    for text in ("{", '{"input": {}}\n', ""):
        path.write_text(text)
        with pytest.raises(RequestError, match=r"xfer_panx\.sw-000010\.jsonl is damaged"):
            predictions.table([run])
    path.rename(path.with_name("mt5_ner.sw-000010.jsonl"))
    with pytest.raises(
        RequestError,
        match="has no outputs of a task of this project: it has only outputs of mt5_ner",
    ):
        predictions.table([run])
    write_run(tmp_path, "xfer_panxx.en", {"xfer_panx.sw": [RIGHT]})
    with pytest.raises(RequestError, match="does not say what the model was trained on"):
        predictions.table([run])
    (run / "config.gin").unlink()
    with pytest.raises(RequestError, match="says which task and language the model was trained on"):
        predictions.table([run])


@pytest.mark.skipif(not FIXTURES, reason="XFER_T5X_FIXTURES names no folder of T5X's output")
def test_scores_of_t5xs_outputs_are_those_that_t5x_computed():
    run = Path(str(FIXTURES), "model_dir_example")
    table = predictions.table(predictions.runs_in(run)).set_index("target")
    for target, row in table.iterrows():
        lines = (run / "inference_eval" / f"xfer_panx.{target}-metrics.jsonl").read_text()
        last = json.loads(lines.splitlines()[-1])
        assert row["score"] == pytest.approx(last["span_f1"], rel=1e-9)
    assert set(table["source"]) == {"en"}
    assert set(table["seed"]) == {42}


def line(**changes) -> str:
    record = {
        "input": {"inputs_pretokenized": "x", "inputs": [1]},
        "target": "PER: a",
        "output": "b",
    }
    return json.dumps(record | changes)


DAMAGED = {
    "a number for a target": ("panx", line(target=3), "line 2, target"),
    "no output": ("panx", line(output=None), "line 2, output: Input should be a valid string"),
    "a list for an input": ("panx", line(input=[1]), "line 2, input"),
    "tokens that are text": (
        "panx",
        line(input={"inputs_pretokenized": "x", "inputs": ["a"]}),
        "line 2, input.inputs",
    ),
    "a list": ("panx", "[]", "line 2, the line: "),
    "deep": ("panx", "[" * 100_000, "line 2, the line: Invalid JSON"),
    "cut short": ("panx", line()[:-5], "line 2, the line: Invalid JSON"),
    "text for a list of answers": ("tydiqa", line(target="a"), "line 1, target: expected a list"),
    "no answers": ("tydiqa", line(target=[]), "line 1, target"),
    "an answer that is none": ("tydiqa", line(target=[None]), "line 1, target"),
    "a list for text": ("panx", line(target=["a"]), "line 2, target: expected text"),
    "no label": ("xnli", line(target="7"), "line 1, target: expected one of 0, 1, 2"),
    "nothing": ("panx", "null", "line 2"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_line_is_named(tmp_path, case):
    family, bad, why = DAMAGED[case]
    run = write_run(tmp_path, "xfer_panx.en", {f"xfer_{family}.sw": [RIGHT]})
    path = run / "inference_eval" / f"xfer_{family}.sw-000010.jsonl"
    path.write_text(f"{line()}\n{bad}\n" if family == "panx" else f"{bad}\n")
    with pytest.raises(RequestError) as refused:
        predictions.read(run, catalogue.task(f"xfer_{family}.sw"))
    assert f"{path} is damaged: {why}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    run = write_run(tmp_path, "xfer_panx.en", {"xfer_panx.sw": [RIGHT]})
    path = run / "inference_eval" / "xfer_panx.sw-000010.jsonl"
    for content, why in (
        (b"\xff\xfe{\x00", "UTF-16"),
        (b"{\xff", "line 1: not UTF-8"),
        (b"\0", "NUL"),
    ):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=why):
            predictions.read(run, catalogue.task("xfer_panx.sw"))
    path.write_text(line())
    (run / "config.gin").write_bytes(b"TASK = '\xff'")
    with pytest.raises(RequestError, match=r"config\.gin, line 1: not UTF-8"):
        predictions.table([run])
    (run / "config.gin").write_text("TASK = " + "(" * 9000)
    with pytest.raises(RequestError, match="does not say what the model was trained on"):
        predictions.table([run])


def test_the_baseline_is_the_better_of_the_commonest_answer_and_none(tmp_path):
    labels = [("a", label, "0") for label in "0112"]
    answers = [("q", ["red", "blue"], "x"), ("q", ["red"], "x"), ("q", ["green"], "x")]
    run = write_run(tmp_path, "xfer_panx.en", {"xfer_xnli.sw": labels, "xfer_tydiqa.sw": answers})
    found = {
        name: predictions.read(run, catalogue.task(f"xfer_{name}.sw"))
        for name in ("xnli", "tydiqa")
    }
    assert found["xnli"].baseline == 50  # always 1
    assert found["xnli"].score == 25
    assert found["tydiqa"].baseline == pytest.approx(100 * 2 / 3)  # always 'red'
    assert [one.perfect for one in found.values()] == [100, 100]


def test_a_note_names_answers_that_can_never_score(tmp_path):
    """WikiANN's raw release: an entity with a second colon is dropped by the release's metric."""
    raw = ("tag: en:Ada en:lived", "PER: en:Ada", "PER: en:Ada")
    nothing = ("tag: lived", "", "")
    write_run(tmp_path, "xfer_panx.en", {"xfer_panx.en": [raw], "xfer_panx.sw": [nothing, RIGHT]})
    write_run(tmp_path / "b", "xfer_panx.sw", {"xfer_panx.hi": [nothing, ("tag: x", "None", "")]})
    rows = predictions.table([tmp_path, tmp_path / "b"])
    assert rows["score"].tolist()[0] == 0
    found = alignment.align(rows, Path())
    (note,) = found.unscorable
    assert note.startswith(
        "xfer_panx: span_f1 counts none of the expected answers in en, so perfect"
    )
    assert "strip the prefixes" in note
    assert note in found.notes
