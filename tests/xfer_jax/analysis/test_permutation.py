"""Correlations over pairs of languages, against SciPy, enumeration, and simulated truth."""

import itertools

import numpy as np
import pytest
from scipy import stats

from benchmarks import calibration
from xfer_jax.analysis import permutation

OFF = ~np.eye(6, dtype=bool)


def random_problem(seed: int, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    similarity = rng.random((n, n))
    return rng.random((n, n)) * 100, (similarity + similarity.T) / 2


@pytest.mark.parametrize("seed", range(4))
def test_correlations_are_scipys_over_the_same_pairs(seed):
    scores, feature = random_problem(seed)
    scores[seed, 3] = np.nan  # a cell that was not run
    found = permutation.correlate(scores, feature, range(6), range(6), permutations=9)
    there = OFF & np.isfinite(scores)
    assert found.pairs == there.sum() == 30 - (seed != 3)
    assert found.pearson == pytest.approx(stats.pearsonr(feature[there], scores[there])[0], 1e-12)
    assert found.spearman == pytest.approx(stats.spearmanr(feature[there], scores[there])[0], 1e-12)
    assert found.naive_p == pytest.approx(stats.pearsonr(feature[there], scores[there])[1], 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_qap_equals_the_p_value_of_all_permutations(seed):
    scores, feature = random_problem(seed)
    for method, values in (("qap_p", scores), ("qap_p_spearman", scores)):
        rank = stats.rankdata if method == "qap_p_spearman" else np.asarray
        x = np.full((6, 6), np.nan)
        x[OFF] = rank(feature[OFF])
        y = rank(values[OFF])
        observed = np.corrcoef(x[OFF], y)[0, 1]
        every = [
            np.corrcoef(x[np.ix_(order, order)][OFF], y)[0, 1]
            for order in itertools.permutations(range(6))
        ]
        exact = np.mean(np.abs(every) >= abs(observed) - 1e-12)
        found = permutation.correlate(scores, feature, range(6), range(6), permutations=20_000)
        # standard error of a share of 20,000 draws: at most 0.0036
        assert getattr(found, method) == pytest.approx(exact, abs=0.012)


def test_a_rectangular_table_with_unknown_features_equals_a_loop():
    rng = np.random.default_rng(1)
    n, sources, targets = 9, np.asarray([0, 2, 4, 7]), np.asarray([0, 1, 2, 3, 5, 7])
    feature = rng.random((n, n))
    feature = feature + feature.T
    feature[3] = feature[:, 3] = np.nan  # a language without features
    feature[0, 5] = feature[5, 0] = np.nan  # two that share too few
    scores = rng.random((4, 6))
    found = permutation.correlate(scores, feature, sources, targets, permutations=4000)
    pairs = [(s, t) for s, t in itertools.product(sources, targets) if s != t and 3 not in (s, t)]

    def correlation(place) -> float:
        kept = [(s, t) for s, t in pairs if np.isfinite(feature[place[s], place[t]])]
        x = [feature[place[s], place[t]] for s, t in kept]
        y = [scores[list(sources).index(s), list(targets).index(t)] for s, t in kept]
        return np.corrcoef(x, y)[0, 1]

    observed = correlation(np.arange(n))
    assert found.pearson == pytest.approx(observed, 1e-12)
    assert found.languages == 6  # 0 1 2 4 5 7
    known = np.asarray([0, 1, 2, 4, 5, 7])
    null = []
    for _ in range(4000):
        place = np.arange(n)
        place[known] = rng.permutation(known)
        null.append(correlation(place))
    expected = np.mean(np.abs(null) >= abs(observed) - 1e-12)
    assert found.qap_p == pytest.approx(expected, abs=0.04)


def test_the_interval_is_that_of_a_loop_over_drawn_languages():
    scores, feature = random_problem(5, n=12)
    feature = feature + 0.01 * scores  # a correlation that is not zero
    found = permutation.correlate(scores, feature, range(12), range(12), permutations=9)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        chosen = rng.integers(12, size=12)
        pairs = [(s, t) for s in chosen for t in chosen if s != t]
        x, y = (np.asarray([m[p] for p in pairs]) for m in (feature, scores))
        drawn.append(np.corrcoef(x, y)[0, 1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low < found.pearson < found.high
    assert (found.low, found.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))


def rejections(draw, tables: int) -> dict[str, float]:
    """Returns how often each test rejects at 5%."""
    wals, rng = calibration.similarity(), np.random.default_rng(0)
    found = [calibration.p_values(draw(rng, wals), wals, 199, i) for i in range(tables)]
    return {test: float(np.mean([p[test] <= 0.05 for p in found])) for test in found[0]}


@pytest.mark.slow
def test_without_an_effect_one_in_twenty_is_found_and_the_naive_test_is_wrong():
    """Of 400 tables the standard error is 1.1 points; the benchmark draws more."""
    rates = rejections(calibration.without_effect, 400)
    for test in ("qap", "qap_spearman", "within"):
        assert 0.02 <= rates[test] <= 0.085
    assert rates["wals"] <= 0.085  # the best of many, adjusted
    assert rates["naive"] > 0.15


@pytest.mark.slow
def test_a_planted_effect_is_found():
    rates = rejections(calibration.with_effect, 100)
    assert rates["qap"] >= 0.8
    assert rates["within"] >= 0.8


def table_of(sources: int, targets: int, rng: np.random.Generator) -> np.ndarray:
    """Scores with only main effects of languages, and noise."""
    levels = 5 * rng.normal(size=(sources, 1)) + 5 * rng.normal(size=(1, targets))
    return 50 + levels + 3 * rng.normal(size=(sources, targets))


@pytest.mark.parametrize("of", ["source", "pair"])
@pytest.mark.parametrize(("sources", "targets"), [(4, 20), (10, 40)])
def test_a_feature_that_is_known_of_the_sources_alone_is_no_more_often_found(of, sources, targets):
    """Were languages of which it is not known to take a source's place, p would mean nothing."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(200):
        feature = np.full((targets, targets), np.nan)
        size = (sources, 1) if of == "source" else (sources, targets)
        feature[:sources] = rng.normal(size=size)
        scores = table_of(sources, targets, rng)
        table = (scores, feature, range(sources), range(targets))
        found.append(permutation.correlate(*table, permutations=199, seed=i, brief=True).qap_p)
    # standard error 1.5 points; with four sources there are 24 permutations, and p is coarse
    assert np.mean(np.asarray(found) <= 0.05) <= 0.10
    assert np.mean(np.asarray(found) <= 0.5) >= 0.35


def test_a_source_feature_is_found_even_if_known_only_for_sources():
    rng = np.random.default_rng(1)
    feature = np.full((40, 40), np.nan)
    feature[:10] = rng.normal(size=(10, 1))
    scores = table_of(10, 40, rng) + 20 * feature[:10, :1]
    found = permutation.correlate(scores, feature, range(10), range(40), permutations=999)
    assert found.qap_p < 0.02


def test_a_feature_of_wals_that_is_known_of_few_targets_is_no_more_often_found():
    rng = np.random.default_rng(0)
    sources, targets = np.arange(10), np.arange(30)
    there = sources[:, None] != targets
    p_values: list[float] = []
    for i in range(30):
        rest = permutation.without_main_effects(table_of(10, 30, rng), there)
        scores = np.where(there, rest, 0.0)
        values = (rng.random((30, 12)) < 0.5).astype(float)
        values[10:][rng.random((20, 12)) < 0.6] = np.nan
        p_values += list(permutation.agreement_p(scores, sources, targets, values, targets, 199, i))
    assert np.mean(np.asarray(p_values) <= 0.05) <= 0.085  # standard error 1.1 points


@pytest.mark.parametrize(("feature", "scores"), [(1.0, None), (None, 3.0)])
def test_constant_scores_or_features_are_refused(feature, scores):
    table, similarity = random_problem(0)
    if feature is not None:
        similarity = np.full((6, 6), feature)
    if scores is not None:
        table = np.full((6, 6), scores)
    with pytest.raises(ValueError, match="two different scores and two different values"):
        permutation.correlate(table, similarity, range(6), range(6), 9)


def test_false_discovery_is_benjamini_and_hochbergs():
    assert permutation.false_discovery([0.01, 0.04, 0.03]).tolist() == pytest.approx(
        [0.03, 0.04, 0.04]
    )


def test_an_unknown_correlation_has_no_p_value():
    assert np.isnan(permutation.two_sided(np.nan, np.zeros(9)))
    null = np.asarray([np.nan, np.nan, 0.1, 0.9])
    assert permutation.two_sided(0.5, null) == pytest.approx(2 / 3)
