"""What intermediate tasks add: planted benefits are found, absent ones are not invented."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xfer_jax.analysis import features, gains, permutation
from xfer_jax.cli import main as cli
from xfer_jax.results import score_table

CODES = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")
SOURCES = ("en", "de", "ar", "fi")
TASK = "xfer_pocket_ner"
SYNTAX = features.typology(CODES, features.Options())["syntax"].values
PERMUTATIONS = 499


def scores(
    points: float,
    seed: int = 0,
    intermediates=("", "more", "pocket_ner.hi", "pocket_ner.id"),
    sources=SOURCES,
    noise: float = 2.0,
) -> pd.DataFrame:
    """Scores to which an intermediate task adds `points` times the similarity in syntax."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 3, len(CODES))
    rows = []
    for source in sources:
        for intermediate in intermediates:
            for j, target in enumerate(CODES):
                score = 40 + 10 * SYNTAX[CODES.index(source), j] + level[j] + rng.normal(0, noise)
                if intermediate == "more":
                    score += 2
                elif intermediate:
                    score += 5 + points * SYNTAX[CODES.index(intermediate[-2:]), j]
                rows.append((TASK, intermediate, source, target, score))
    frame = pd.DataFrame(rows, columns=["task", "intermediate", "source", "target", "score"])
    return frame.assign(n_shots=0, arm="", seed=0, n_train=0)


def analyse(table: pd.DataFrame, made_up: bool = True):
    return gains.analyse(table, features.Options(), PERMUTATIONS, 0, made_up)


def syntax_of_targets(found) -> pd.Series:
    rows = found["gain_features"]
    return rows[(rows["feature"] == "syntax") & (rows["of"] == "target")].iloc[0]


def test_gains_are_differences_to_the_source_model_that_trained_as_long():
    table = scores(0.0, noise=0.0)
    found, notes = analyse(table)
    cells = found["gains"]
    assert not notes
    assert len(cells) == 2 * len(SOURCES) * len(CODES)
    assert set(cells["baseline"]) == {"more"}
    np.testing.assert_allclose(cells["gain"], 3.0)  # 5, less the 2 of more steps
    means = found["gain_means"].set_index(["intermediate", "subset"])
    assert means.loc[("pocket_ner.hi", "all"), "gain"] == pytest.approx(3.0)
    # Hindi and the source itself are no targets of "all": 4 sources, 10 targets
    assert means.loc[("pocket_ner.hi", "all"), "pairs"] == 4 * 8
    assert means.loc[("pocket_ner.hi", "seen"), "targets"] == 1
    assert means.loc[("pocket_ner.hi", "own"), "pairs"] == 4


def test_without_longer_training_the_baseline_is_no_intermediate_task_and_a_note_says_so():
    found, notes = analyse(scores(0.0, intermediates=("", "pocket_ner.hi"), noise=0.0))
    np.testing.assert_allclose(found["gains"]["gain"], 5.0)
    assert set(found["gains"]["baseline"]) == {"none"}
    assert "was trained for fewer steps" in notes[0]


def test_without_a_baseline_there_are_no_gains():
    found, notes = analyse(scores(0.0, intermediates=("pocket_ner.hi",)))
    assert not found
    assert "no gains, because the table has no baseline" in notes[0]
    assert gains.lines(TASK, found) == []


def test_seeds_are_compared_with_their_own():
    table = scores(0.0, noise=0.0)
    other = table.assign(seed=1, score=table["score"] + 7)
    found, _ = analyse(pd.concat([table, other]))
    np.testing.assert_allclose(found["gains"]["gain"], 3.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_benefit_of_similar_languages_is_found(seed):
    found, _ = analyse(scores(30.0, seed))
    row = syntax_of_targets(found)
    assert row["p"] < 0.02
    assert row["within"] > 0.8
    assert 2.0 < row["contrast"] < 10.0
    assert row["low"] > 0
    assert "it adds more where the target language" in gains.answer(TASK, found)


def test_a_negative_effect_is_reported_as_negative():
    found, _ = analyse(scores(-30.0))
    assert syntax_of_targets(found)["contrast"] < 0
    assert "it adds less where the target language" in gains.answer(TASK, found)
    assert "most similar third minus least similar third: -" in gains.answer(TASK, found)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["source", "target"])
def test_the_effect_of_one_side_is_not_found_on_the_other(side):
    """Every language is a source and a target, and no cell is of one with itself."""
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = []
        for intermediate in ("hi", "id", "fi", "ar", "ru"):
            likeness = SYNTAX[CODES.index(intermediate)]
            for source in CODES:
                for target in CODES:
                    gain = 30 * likeness[CODES.index(source if side == "source" else target)]
                    row = (intermediate, source, target, gain + rng.normal(0, 2), ("all",))
                    if source != target and intermediate not in (source, target):
                        rows.append(row)
        frame = pd.DataFrame(rows, columns=["intermediate", "source", "target", "gain", "subset"])
        known = {"syntax": SYNTAX}
        found.append(
            {
                of: gains._correlated(frame, of, CODES, known, 299, seed)[0]["p"]
                for of in ("source", "target")
            }
        )
    other = {"source": "target", "target": "source"}[side]
    assert sum(p[side] <= 0.02 for p in found) >= 11
    assert sum(p[other] <= 0.05 for p in found) <= 3


def test_the_interval_of_the_own_language_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    codes = [f"l{i}" for i in range(16)]
    rows = pd.DataFrame({"source": codes, "target": codes, "gain": rng.normal(0, 3, 16)})
    found = gains._mean(rows, 0)
    expected = 2 * 1.96 * rows["gain"].std() / 4
    assert found["high"] - found["low"] == pytest.approx(expected, rel=0.15)


def test_of_several_training_sizes_the_largest_is_compared_task_by_task():
    table = scores(0.0, noise=0.0)
    fewer = table[table["intermediate"] == "more"].assign(n_train=10)
    fewer["score"] -= 20
    other = table.assign(task="xfer_pocket_nli", arm="matched")
    cells, _ = gains.of_cells(pd.concat([table.assign(n_train=100), fewer, other]))
    np.testing.assert_allclose(cells["gain"], 3.0)
    assert set(cells["task"]) == {TASK, "xfer_pocket_nli"}


def test_an_absent_benefit_is_not_invented():
    """Under the null a nominal 5% may reject 5% of the time: of 60 tables, 8 at most (99.4%)."""
    p = [
        gains._partial_correlation(
            np.random.default_rng((seed, 1)).normal(size=(2, 10)) + np.arange(10),
            SYNTAX[[CODES.index("hi"), CODES.index("id")]],
            199,
            seed,
        )["p"]
        for seed in range(60)
    ]
    assert sum(value <= 0.05 for value in p) <= 8
    assert np.mean(p) == pytest.approx(0.5, abs=0.15)
    found, _ = analyse(scores(0.0))
    assert "makes no significant difference" in gains.answer(TASK, found)


@pytest.mark.parametrize(("world", "planted"), [("syntax", True), ("neither", False)])
def test_gains_separate_the_syntax_world_from_the_neither_world(world, planted):
    """Pocket studies of named entities in Hindi or Indonesian, between; four source languages."""
    folder = Path(__file__).parents[3] / "benchmarks" / "results" / "intermediate"
    table = score_table.read(folder / f"{world}.csv").table
    found, notes = gains.analyse(table, features.Options(), 4999, 0, True)
    assert not notes
    rows = found["gain_features"]
    rows = rows[rows["of"] == "target"].set_index("feature")
    assert (rows["p"].idxmin() == "syntax") or not planted
    assert (rows.loc["syntax", "p"] < 0.02) == planted
    assert (rows.loc["syntax", "low"] > 0) == planted
    assert planted or (rows["fdr"] > 0.05).all()


def test_intervals_of_means_cover_the_planted_gain():
    """Target effects cancel in a gain, so its interval is that of the noise: 95%."""
    inside = []
    for seed in range(40):
        cells, _ = gains.of_cells(scores(0.0, seed))
        rows = cells[(cells["intermediate"] == "pocket_ner.hi") & (cells["target"] != "hi")]
        found = gains._mean(rows[rows["source"] != rows["target"]], 0)
        inside.append(found["low"] <= 3.0 <= found["high"])
    assert np.mean(inside) >= 0.8


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("pocket_ner.hi", ("hi",)),
        ("pocket_ner.indic", ("bn", "hi")),
        ("panx.uralic.n3000.s0", ("et", "fi", "hu")),
        ("squad.en", ("en",)),
        ("hi", ("hi",)),
        ("Swahili", ("sw",)),
        ("something", ()),
        ("qqp", ()),
    ],
)
def test_an_intermediate_s_languages_are_read_off_its_name(name, spoken):
    assert gains.languages_of(name) == spoken


def test_similarity_to_several_languages_is_their_mean():
    codes = ["en", "et", "fi", "hu"]
    similarity = np.arange(16.0).reshape(4, 4)
    assert gains._mean_similarity(similarity, codes, ["et", "fi", "hu"], "en") == 8.0
    assert gains._mean_similarity(similarity, codes, ["et", "fi", "hu"], "fi") == 10.0
    assert np.isnan(gains._mean_similarity(similarity, codes, ["fi"], "fi"))


def test_main_effects_are_subtracted_for_many_draws_at_once():
    rng = np.random.default_rng(0)
    values, there = rng.normal(size=(4, 9)), rng.random((4, 9)) > 0.2
    weights = rng.multinomial(9, np.full(9, 1 / 9), size=20)
    found = gains._without_main_effects(values, there, weights.astype(float))
    for of_draw, times in zip(found, weights, strict=True):
        columns = np.repeat(np.arange(9), times)
        expected = permutation.without_main_effects(values[:, columns], there[:, columns])
        np.testing.assert_allclose(of_draw[:, columns], expected, atol=1e-9)


def test_permuted_correlations_and_contrasts_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    alike, clear = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    alike[1, 4] = np.nan
    both = np.isfinite(alike) & (rng.random((3, 8)) > 0.1)
    places = np.stack([rng.permutation(8) for _ in range(30)])
    found = gains._correlations(alike, clear, both, places)
    for value, place in zip(found, places, strict=True):
        there = both & np.isfinite(alike[:, place])
        expected = np.corrcoef(alike[:, place][there], clear[there])[0, 1]
        assert value == pytest.approx(expected)
    weights = rng.multinomial(8, np.full(8, 1 / 8), size=30)
    x, y = (np.broadcast_to(np.where(both, v, np.nan), (30, 3, 8)) for v in (alike, clear))
    contrasts = gains._contrasts(x, y, weights.astype(float))
    for value, times in zip(contrasts, weights, strict=True):
        columns = np.repeat(np.arange(8), times)
        order = np.argsort(alike[:, columns][both[:, columns]], kind="stable")
        sorted_gains = clear[:, columns][both[:, columns]][order]
        third = len(order) // 3
        expected = sorted_gains[-third:].mean() - sorted_gains[:third].mean()
        assert value == pytest.approx(expected)


def test_subsets_follow_their_rules():
    table = scores(0.0, intermediates=("", "panx.sw")).assign(task="xfer_panx")
    cells = analyse(table, made_up=False)[0]["gains"]
    by_pair = cells.set_index(["source", "target"])["subset"]
    assert by_pair["en", "sw"] == "seen"
    assert by_pair["en", "en"] == "own"
    assert "low-resource" in by_pair["en", "hi"]  # 24 billion tokens
    assert "low-resource" not in by_pair["en", "ar"]  # 57
    pairs = cells[cells["source"] != cells["target"]]
    alike = [SYNTAX[CODES.index(s), CODES.index(t)] for s, t in by_pair.index if s != t]
    third = np.quantile(alike, 1 / 3)
    for row in pairs[pairs["target"] != "sw"].itertuples():
        likeness = SYNTAX[CODES.index(row.source), CODES.index(row.target)]
        assert ("distant" in row.subset) == (likeness <= third)


@pytest.mark.slow
def test_the_commands_write_and_draw_them(tmp_path, capsys):
    path, out = tmp_path / "scores.csv", tmp_path / "out"
    two = [scores(30.0).assign(task=task) for task in (TASK, "xfer_pocket_nli")]
    pd.concat(two).to_csv(path, index=False)
    assert (
        cli.main(["analyze", "--scores", str(path), "--out", str(out), "--permutations", "99"]) == 0
    )
    printed = capsys.readouterr().out
    assert f"{TASK}: points that an intermediate task adds" in printed
    assert "Points that an intermediate task adds on targets in other languages" in printed
    assert {"gains.csv", "gain_means.csv", "gain_features.csv"} <= {p.name for p in out.iterdir()}
    assert cli.main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "What an intermediate task adds" in page
    assert "Points that an intermediate task adds" in page  # intermediates down, tasks across
    assert list((out / "figures").glob("*gains.svg"))
    mean = pd.read_csv(out / "gain_means.csv").query("subset == 'all'")["gain"].iloc[0]
    assert f"{mean:+.1f}" in page
