"""Regressions over pairs of languages, against statsmodels, enumeration, and simulated truth."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import variance_inflation_factor

from xfer_jax.analysis import regression


def table(seed: int = 0, n: int = 8, slopes=(3.0, 0.0, 1.0)):
    """Scores with effects of source and target, and features of which some have an effect."""
    rng = np.random.default_rng(seed)
    features = {}
    for k in range(len(slopes)):
        half = rng.normal(size=(n, n))
        features[f"x{k}"] = half + half.T
    scores = (
        50 + 4 * rng.normal(size=(n, 1)) + 2 * rng.normal(size=(1, n)) + rng.normal(size=(n, n))
    )
    for slope, feature in zip(slopes, features.values(), strict=True):
        scores = scores + slope * feature
    return scores, features


def sample(seed: int = 0, n: int = 8, **options) -> regression.Sample:
    scores, features = table(seed, n, **options)
    return regression.sample(scores, features, range(n), range(n))


def test_a_sample_is_of_languages_of_whose_pairs_everything_is_known():
    scores, features = table(n=8)
    features["x1"][3] = features["x1"][:, 3] = np.nan  # a language of which nothing is known
    features["x0"][0, 5] = np.nan  # a pair
    scores[1, 2] = np.nan  # a cell that was not run
    pairs = regression.sample(scores, features, range(8), range(8))
    assert 3 not in pairs.languages
    assert len({0, 5} & set(pairs.languages)) == 1
    assert len(pairs.scores) == 6 * 5 - 1
    assert np.isfinite(pairs.x).all()
    assert pairs.x.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert pairs.x.std(axis=0) == pytest.approx(1)
    for score, row, column in zip(pairs.scores, pairs.rows, pairs.columns, strict=True):
        assert score == scores[row, column]


def test_sources_and_targets_may_be_different_languages():
    scores, features = table(n=8)
    pairs = regression.sample(scores[:3], features, [1, 4, 6], range(8))
    assert set(pairs.rows) == {1, 4, 6}
    assert len(pairs.scores) == 3 * 7


def test_too_little_is_refused():
    scores, features = table(n=4)
    with pytest.raises(ValueError, match="12 pairs are too few for 3 features"):
        regression.sample(scores, features, range(4), range(4))
    scores, features = table(n=8)
    features["x1"][:] = 7
    with pytest.raises(ValueError, match="x1 has the same value for all 56 pairs"):
        regression.sample(scores, features, range(8), range(8))


def test_coefficients_and_inflation_are_those_of_statsmodels():
    pairs = sample()
    found = regression.regress(pairs, permutations=9)
    design = sm.add_constant(pairs.x)
    ordinary = sm.OLS((pairs.scores - pairs.scores.mean()) / pairs.scores.std(), design).fit()
    assert [c.beta for c in found.coefficients] == pytest.approx(ordinary.params[1:], rel=1e-9)
    assert found.r2 == pytest.approx(ordinary.rsquared, rel=1e-9)
    expected = [variance_inflation_factor(design, k) for k in (1, 2, 3)]
    assert [c.vif for c in found.coefficients] == pytest.approx(expected, rel=1e-9)
    # a coefficient's t gives the partial correlation: r = t / sqrt(t² + degrees of freedom)
    t = ordinary.tvalues[1:]
    partial = t / np.sqrt(t**2 + ordinary.df_resid)
    assert [c.partial for c in found.coefficients] == pytest.approx(partial, rel=1e-9)


def test_features_that_others_tell_are_left_out():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    kept, dropped = regression.distinct(
        {"a": a, "b": b, "sum": a + b + 0.01 * rng.normal(size=200)}
    )
    assert len(kept) == 2
    assert len(dropped) == 1
    assert regression.distinct({"a": a, "b": b}) == (["a", "b"], [])
    assert np.isinf(regression.collinearity(np.stack([a, a], axis=1))).all()


def test_p_values_equal_those_of_all_permutations():
    scores, features = table(seed=3, n=6, slopes=(0.4, 1.0))
    pairs = regression.sample(scores, features, range(6), range(6))
    found = regression.regress(pairs, permutations=20_000).coefficients[0]
    off = ~np.eye(6, dtype=bool)
    first, other = features["x0"], features["x1"]
    slope, constant = np.polyfit(other[off], first[off], 1)
    rest = first - slope * other - constant

    def t_value(order) -> float:
        x = rest[np.ix_(order, order)][off]
        return (
            sm.OLS(scores[off], sm.add_constant(np.stack([x, other[off]], axis=1))).fit().tvalues[1]
        )

    observed = t_value(range(6))
    every = [t_value(order) for order in itertools.permutations(range(6))]
    exact = np.mean(np.abs(every) >= abs(observed) - 1e-9)
    assert found.qap_p == pytest.approx(exact, abs=0.012)  # standard error at most 0.0036


def test_planted_coefficients_are_significant_and_others_are_not():
    pairs = sample(seed=5, n=12)
    coefficients = regression.regress(pairs, permutations=999).coefficients
    p = {c.feature: c.qap_p for c in coefficients}
    assert p["x0"] < 0.01 < p["x1"]


def test_r2_of_unseen_languages_equals_a_loop():
    pairs = sample(n=7)
    errors, spreads = [], []
    for language in range(7):
        held_out = (pairs.rows == language) | (pairs.columns == language)
        model = sm.OLS(pairs.scores[~held_out], sm.add_constant(pairs.x[~held_out])).fit()
        truth = pairs.scores[held_out]
        errors += list((truth - model.predict(sm.add_constant(pairs.x[held_out]))) ** 2)
        spreads += list((truth - pairs.scores[~held_out].mean()) ** 2)
    expected = 1 - sum(errors) / sum(spreads)
    assert regression.unseen_r2(pairs) == pytest.approx(expected, rel=1e-9)


def test_noise_does_not_predict_unseen_languages():
    pairs = sample(n=8, slopes=(0.0, 0.0, 0.0))
    assert regression.regress(pairs, permutations=9).r2 > 0 > regression.unseen_r2(pairs)


def test_partial_correlation_equals_a_regression_on_dummies():
    scores, features = table(seed=2)
    scores[2, 5] = np.nan
    pairs = regression.sample(scores, {"x0": features["x0"]}, range(8), range(8))
    r, p = regression.partial_correlation(pairs, permutations=999)
    dummies = [
        pd.get_dummies(side, drop_first=True).to_numpy(float)
        for side in (pairs.rows, pairs.columns)
    ]
    design = sm.add_constant(np.concatenate(dummies, axis=1))
    rests = [sm.OLS(values, design).fit().resid for values in (pairs.scores, pairs.x[:, 0])]
    assert r == pytest.approx(np.corrcoef(rests)[0, 1], rel=1e-9)
    assert p < 0.05


def test_partial_correlation_ignores_main_effects():
    n = 8
    level = np.arange(n, dtype=float)
    scores = 10 * level[:, None] + np.random.default_rng(0).random((n, n))
    pairs = regression.sample(scores, {"x": np.add.outer(level, 0 * level)}, range(n), range(n))
    assert np.isnan(regression.partial_correlation(pairs, permutations=9)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_mixed_model_is_that_of_statsmodels(seed):
    pairs = sample(seed)
    found = regression.mixed(pairs.scores, pairs.x, pairs.rows, pairs.columns)
    frame = pd.DataFrame(pairs.x, columns=["x0", "x1", "x2"])
    frame = frame.assign(y=pairs.scores, s=pairs.rows, t=pairs.columns, everything=1)
    effects = {"s": "0 + C(s)", "t": "0 + C(t)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own convergence
        model = sm.MixedLM.from_formula(
            "y ~ x0 + x1 + x2", groups="everything", vc_formula=effects, re_formula="0", data=frame
        ).fit(reml=True)
    assert found.slopes == pytest.approx(model.fe_params.to_numpy()[1:], rel=2e-3, abs=2e-3)
    # its own standard errors also count that the variances are estimates: those of GLS do not
    alike = [(side[:, None] == side).astype(float) for side in (pairs.rows, pairs.columns)]
    v = np.eye(len(frame)) * model.scale + np.tensordot(model.vcomp, alike, axes=1)
    general = sm.GLS(pairs.scores, sm.add_constant(pairs.x), sigma=v).fit()
    assert found.errors == pytest.approx(general.bse[1:], rel=2e-3)
    sds = np.sqrt([*model.vcomp, model.scale])
    assert [found.source_sd, found.target_sd, found.rest_sd] == pytest.approx(sds, rel=0.02)


def test_effects_that_are_not_there_are_near_zero():
    rng = np.random.default_rng(4)
    rows, columns = (side.ravel() for side in np.indices((12, 12)))
    x = rng.normal(size=(144, 1))
    found = regression.mixed(2 * x[:, 0] + rng.normal(size=144), x, rows, columns)
    assert found.slopes[0] == pytest.approx(2, abs=4 * found.errors[0])
    assert max(found.source_sd, found.target_sd) < 0.4
    assert found.rest_sd == pytest.approx(1, abs=0.2)


def test_language_effects_recover_the_planted_effects():
    donor, recipient = np.asarray([4.0, 0, -1, -3]), np.asarray([2.0, 1, -2, -1])
    scores = 50 + donor[:, None] + recipient
    scores[1, 2] = np.nan  # the effects do not depend on which cells were run
    found = regression.language_effects(scores, range(4), range(4), 5)
    assert found.donor[:4] == pytest.approx(donor)
    assert found.recipient[:4] == pytest.approx(recipient)
    assert np.isnan(found.donor[4])
    assert found.shares.of_pair == pytest.approx(0, abs=1e-9)
    assert found.donor_error[:4] == pytest.approx(0, abs=1e-6)


def test_language_effects_and_errors_equal_statsmodels():
    scores, _ = table(seed=1, n=7)
    scores = scores[:4]
    found = regression.language_effects(scores, [0, 2, 3, 6], range(7), 7)
    i, j = np.nonzero(np.asarray([0, 2, 3, 6])[:, None] != np.arange(7))
    frame = pd.DataFrame({"y": scores[i, j], "s": i, "t": j})
    model = sm.OLS.from_formula("y ~ C(s, Sum) + C(t, Sum)", frame).fit()
    names = [name for name in model.params.index if name.startswith("C(s")]
    assert found.donor[[0, 2, 3]] == pytest.approx(model.params[names].to_numpy())
    assert found.donor_error[[0, 2, 3]] == pytest.approx(model.bse[names].to_numpy())
    assert np.nansum(found.donor) == pytest.approx(0, abs=1e-9)
    assert found.shares.of_pair == pytest.approx(1 - model.rsquared)
    of_source = sm.OLS.from_formula("y ~ C(s)", frame).fit().rsquared
    assert found.shares.of_target == pytest.approx(model.rsquared - of_source)


def test_reciprocity_is_seen():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(10, 10))
    for scores, expected in ((half + half.T, 1), (half - half.T, -1)):
        found = regression.language_effects(scores, range(10), range(10), 10)
        assert found.shares.reciprocity == pytest.approx(expected)


def test_too_few_pairs_have_no_language_effects():
    with pytest.raises(ValueError, match="2 pairs are too few to estimate 3 parameters"):
        regression.language_effects(np.ones((2, 2)), [0, 1], [0, 1], 2)
