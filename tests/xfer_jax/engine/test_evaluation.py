"""Settings of evaluation and prediction: what cannot be meant is refused, naming the macro."""

import math

import pytest

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from xfer_jax.data import selection
from xfer_jax.engine import evaluation, probe
from xfer_jax.engine.prediction import Method

MACROS = {"batch_size": "EVAL_BATCH_SIZE", "examples": "EVALUATOR_NUM_EXAMPLES"}
LENGTHS = {"inputs": 8, "targets": 8}


def data(**changes) -> selection.EvalData:
    return selection.EvalData(("xfer_panx.sw",), LENGTHS, **changes)


@pytest.mark.parametrize("field", MACROS)
@pytest.mark.parametrize("value", [0, -1, 10**12, 1.5, True, "8", (8,)])
def test_numbers_that_are_none_are_refused(field, value):
    with pytest.raises(RequestError, match=f"^{MACROS[field]} must be"):
        data(**{field: value})


def test_numbers_that_can_be_meant_are_taken():
    for value in (1, 256, 1 << 20):
        assert data(batch_size=value).batch_size == value
    for value in (None, 10**9):
        assert data(examples=value).examples == value


@pytest.mark.parametrize(
    ("kind", "macro"),
    [(selection.EvalData, "TASK_FEATURE_LENGTHS"), (probe.ProbeData, "PROBE_FEATURE_LENGTHS")],
)
@pytest.mark.parametrize("lengths", [None, {"inputs": 8}, {"inputs": 8, "targets": "8"}])
def test_wrong_lengths_name_the_macro_that_the_user_has_set(kind, macro, lengths):
    with pytest.raises(RequestError, match=rf"^{macro}\b"):
        kind(("xfer_panx.sw",), lengths)


@pytest.mark.parametrize(
    ("settings", "macro"),
    [
        *(({"num_beams": value}, "NUM_BEAMS") for value in (0, True, 2.0, "4", 10**12)),
        *(({"alpha": value}, "BEAM_ALPHA") for value in (-1, True, "x", math.nan, math.inf)),
        ({"name": 5}, "PREDICT_BY"),
    ],
)
def test_methods_that_are_none_are_refused(settings, macro):
    with pytest.raises(RequestError, match=macro):
        Method(**settings)


@pytest.mark.parametrize("source", ["en", None])
def test_results_say_what_is_known_of_the_training(tmp_path, source):
    tasks = [catalogue.task(f"xfer_pocket_nli.{language}") for language in ("en", "sw")]
    scores = [evaluation.TargetScore(task, "test", 3, {}, 50.0, 25.0, 4, 0) for task in tasks]
    title, _, *rows = evaluation.table(scores, source).splitlines()
    if source:
        assert title.endswith("accuracy in percent, trained on en")
        assert [row.split("  ")[-1] for row in rows[:2]] == ["source language", "zero-shot"]
    else:
        assert title.endswith("by a checkpoint that does not say what it was trained on")
        assert [row.split()[-1] for row in rows[:2]] == ["4", "4"]  # neither is known to be so
    evaluation.write_scores(tmp_path, scores, {"source": source} if source else {})
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == [source or ""] * 2
