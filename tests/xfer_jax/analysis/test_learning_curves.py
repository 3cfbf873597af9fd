"""Laws of learning curves: fitted as SciPy fits them, compared by their held-out errors."""

import numpy as np
import pytest
from scipy import optimize

from xfer_jax.analysis import learning_curves

N = np.asarray([10.0, 50, 100, 500, 1000])
TRUE = {
    "log": 20 + 7 * np.log(N),
    "linear": 30 + 0.03 * N,
    "power": 12 * N**0.25,
}


@pytest.mark.parametrize("law", learning_curves.LAWS)
def test_a_law_finds_itself(law):
    found = learning_curves.fit(law, N, TRUE[law])
    assert found(N) == pytest.approx(TRUE[law], rel=1e-3)
    assert found.b == pytest.approx({"log": 7, "linear": 0.03, "power": 0.25}[law], rel=0.01)


def test_the_power_law_is_that_of_least_squares():
    scores = TRUE["log"] + np.asarray([1.0, -2, 2, -1, 0.5])
    found = learning_curves.fit("power", N, scores)
    expected, _ = optimize.curve_fit(lambda n, a, b: a * n**b, N, scores, p0=(20, 0.2))
    assert (found.a, found.b) == pytest.approx(tuple(expected), rel=0.02)


@pytest.mark.parametrize("law", learning_curves.LAWS)
def test_the_law_that_made_the_curves_is_nearest_at_numbers_left_out(law):
    rng = np.random.default_rng(0)
    curves = [(N, scale * TRUE[law] + 0.1 * rng.normal(size=5)) for scale in (0.5, 0.8, 1.0, 1.2)]
    judged = {found.law: found for found in learning_curves.compare_laws(curves)}
    assert min(judged.values(), key=lambda found: found.beyond).law == law
    assert min(judged.values(), key=lambda found: found.inside).law == law
    assert judged[law].best == 1.0
    assert judged[law].curves == 4


def test_errors_are_those_of_fits_that_did_not_see_the_point():
    scores = TRUE["log"] + np.asarray([1.0, -2, 2, -1, 0.5])
    judged = {found.law: found for found in learning_curves.compare_laws([(N, scores)])}
    b, a = np.polyfit(np.log(N[:-1]), scores[:-1], 1)
    assert judged["log"].beyond == pytest.approx(abs(a + b * np.log(1000) - scores[-1]))
    inside = []
    for k in (1, 2, 3):
        b, a = np.polyfit(np.delete(N, k), np.delete(scores, k), 1)
        inside.append(abs(a + b * N[k] - scores[k]))
    assert judged["linear"].inside == pytest.approx(np.mean(inside))


def test_of_three_points_none_is_between_and_unseen_but_one():
    judged = learning_curves.compare_laws([(N[:3], TRUE["log"][:3])])
    assert [found.curves for found in judged] == [1, 1, 1]
    assert judged[0].inside == pytest.approx(0, abs=1e-9)


def test_examples_needed_are_where_the_curve_reaches_the_score():
    exact = learning_curves.needed(N, TRUE["log"], 20 + 7 * np.log(2000))
    assert exact.examples == pytest.approx(2000)
    assert (exact.low, exact.high) == pytest.approx((2000, 2000), rel=1e-3)
    noisy = learning_curves.needed(N, TRUE["log"] + np.asarray([1.0, -2, 2, -1, 0.5]), 75.0)
    assert noisy.low < noisy.examples < noisy.high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    truth = 3000.0
    held = 0
    for _ in range(300):
        found = learning_curves.needed(
            N, TRUE["log"] + 2 * rng.normal(size=5), 20 + 7 * np.log(truth)
        )
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 300 <= 0.985  # 95%, give or take three standard errors


def test_where_more_examples_do_not_help_none_are_enough():
    falling = learning_curves.needed(N, 60 - np.log(N), 90)
    assert np.isinf(falling.examples)
    assert np.isinf(falling.high)
    two = learning_curves.needed(N[:2], TRUE["log"][:2], 60)
    assert np.isnan(two.low)  # two points say nothing of their own error


def test_a_score_that_is_reached_already_needs_no_more_than_the_fewest():
    falling = learning_curves.needed(
        np.asarray([1.0, 10, 100, 1000]), np.asarray([80, 79, 78, 78.5]), 60
    )
    assert falling.examples == 1
    assert learning_curves.needed(N, TRUE["log"], 30).examples == 10
