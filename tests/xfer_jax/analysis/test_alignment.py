"""Cells are aligned with their errors, and with single features of WALS."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.runs import RIGHT, WRONG, write_run
from xfer_jax.analysis import alignment, features, permutation
from xfer_jax.results import predictions


def test_cells_are_aligned_with_their_errors_and_with_wals(tmp_path):
    answers = {"xfer_panx.sw": [RIGHT, WRONG], "xfer_panx.en": [RIGHT]}
    write_run(tmp_path / "a", "xfer_panx.en", answers)
    rows = predictions.table(predictions.runs_in(tmp_path))
    rows.loc[rows["target"] == "en", "score"] = 12.0  # somebody changed the table
    found = alignment.align(rows, Path())
    assert found is not None
    assert found.notes == (
        "1 scores differ from the scores of the outputs: compare the columns score and recomputed"
        " of alignment.csv",
    )
    assert found.texts == {"sw": ["rick", "rick"], "en": ["rick"]}
    assert found.pieces["sw"] == {1, 5, 6}
    names, values = features.wals(["en", "sw"])
    wide = alignment.wide(rows, found, names, values, ["en", "sw"]).set_index("target")
    assert wide.loc["en", "recomputed"] == pytest.approx(100)
    assert wide.loc["sw", ["correct", "wrong type", "missing"]].to_list() == [0.5, 0.5, 0]
    place = names.index("S_SVO")
    assert wide.loc["sw", "S_SVO"] == float(values[0, place] == values[1, place])
    assert set(wide.loc["en", [n for n in names if n in wide]].dropna()) == {1.0}


def test_scores_without_outputs_are_not_aligned(tmp_path):
    run = write_run(tmp_path, "xfer_panx.en", {"xfer_panx.sw": [RIGHT]})
    rows = predictions.table([run])
    assert alignment.align(rows.drop(columns="run"), Path()) is None
    assert alignment.align(rows.assign(run="elsewhere"), Path()) is None


def test_a_feature_that_counts_is_found_among_those_that_do_not():
    rng = np.random.default_rng(0)
    n = 12
    values = (rng.random((n, 20)) < 0.5).astype(float)
    values[3, 7] = np.nan
    equal = alignment.agreement(values)
    scores = 50 + 5 * np.nan_to_num(equal[..., 4]) + rng.normal(size=(n, n))
    scores += 10 * rng.normal(size=(n, 1)) + 10 * rng.normal(size=(1, n))
    names = [f"f{i}" for i in range(20)]
    found = alignment.by_feature(scores, range(n), range(n), names, values, 1999, 0)
    assert found.loc[0, "feature"] == "f4"
    assert found.loc[0, "points"] == pytest.approx(5, abs=0.6)
    assert found.loc[0, "fdr"] < 0.05
    others = found[found["feature"] != "f4"]
    assert (others["fdr"] < 0.05).sum() <= 1
    off = ~np.eye(n, dtype=bool)
    agree = off & (equal[..., 4] == 1)
    assert found.loc[0, "agree"] == agree.sum()
    assert found.loc[0, "score_agree"] == pytest.approx(scores[agree].mean())


def test_p_values_of_agreement_equal_a_loop():
    rng = np.random.default_rng(2)
    n, sources = 9, np.asarray([0, 2, 3, 5, 8])
    targets = np.arange(n)
    values = (rng.random((n, 3)) < 0.5).astype(float)
    values[4, 1] = np.nan
    there = sources[:, None] != targets
    scores = np.where(there, rng.normal(size=(5, n)), np.nan)
    rest = permutation.without_main_effects(scores, there)
    assert np.nansum(rest, axis=0) == pytest.approx(0, abs=1e-9)
    assert np.nansum(rest, axis=1) == pytest.approx(0, abs=1e-9)
    filled = np.where(there, rest, 0.0)
    found = permutation.agreement_p(filled, sources, targets, values, np.arange(n), 4000, 0)
    for k in range(3):
        equal = alignment.agreement(values[:, [k]])[..., 0]
        mean = np.nanmean(equal[np.ix_(sources, targets)][there])
        centred = np.nan_to_num(equal - mean)

        def statistic(order, centred=centred) -> float:
            return float(np.sum(filled * centred[np.ix_(order, order)][np.ix_(sources, targets)]))

        known, null = np.flatnonzero(np.isfinite(values[:, k])), []
        for _ in range(4000):  # places are traded among those of which the feature is known
            order = np.arange(n)
            order[known] = rng.permutation(known)
            null.append(statistic(order))
        expected = np.mean(np.abs(null) >= abs(statistic(np.arange(n))) - 1e-12)
        assert found[k] == pytest.approx(expected, abs=0.04)
