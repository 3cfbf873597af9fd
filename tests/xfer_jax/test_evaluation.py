"""Settings of evaluation and prediction: what cannot be meant is refused, naming the macro."""

import math

import pytest

from seqio_tasks.errors import RequestError
from xfer_jax import evaluation
from xfer_jax.prediction import Method


@pytest.mark.parametrize("macro", ["EVAL_BATCH_SIZE", "EVALUATOR_NUM_EXAMPLES"])
@pytest.mark.parametrize("value", [0, -1, 10**12, 1.5, True, "8", None, (8,)])
def test_numbers_that_are_none(macro, value):
    with pytest.raises(RequestError, match=f"^{macro} must be"):
        evaluation.check_number(macro, value)


def test_numbers_that_can_be_meant():
    for value in (1, 256, 1 << 20):
        evaluation.check_number("EVAL_BATCH_SIZE", value)
    evaluation.check_number("EVALUATOR_NUM_EXAMPLES", 10**9)


@pytest.mark.parametrize(
    ("settings", "macro"),
    [
        *(({"num_beams": value}, "NUM_BEAMS") for value in (0, True, 2.0, "4", 10**12)),
        *(({"alpha": value}, "BEAM_ALPHA") for value in (-1, True, "x", math.nan, math.inf)),
        ({"name": 5}, "PREDICT_BY"),
    ],
)
def test_methods_that_are_none(settings, macro):
    with pytest.raises(RequestError, match=macro):
        Method(**settings)
