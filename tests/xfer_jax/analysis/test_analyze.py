"""From a table to what goes together with it: planted causes are found, real tables recomputed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.files import read_rows as read
from tests.support.runs import write_run
from xfer_jax.analysis import features
from xfer_jax.cli import main as cli

CODES = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")
DATA_DIR = os.environ.get("XFER_DATA_DIR")  # at import: tests may change the environment
FIXTURES = os.environ.get("XFER_T5X_FIXTURES")
WORLDS = Path(__file__).parents[3] / "benchmarks" / "results" / "worlds"
PLANTED = sorted(p for p in WORLDS.glob("*.csv") if not p.stem.startswith("neither"))
NOTHING = sorted(WORLDS.glob("neither-*.csv"))


def analyze(capsys, *arguments: str) -> str:
    assert cli.main(["analyze", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def planted(tmp_path) -> Path:
    """Scores that syntax mostly explains; in-language scores are high."""
    syntax = features.typology(CODES, features.Options())["syntax"].values
    rng = np.random.default_rng(0)
    rows = ["source,target,score"]
    for i, source in enumerate(CODES):
        for j, target in enumerate(CODES):
            noise = 3 * rng.normal()
            rows.append(f"{source},{target},{95 if i == j else 60 * syntax[i, j] + noise:.4f}")
    path = tmp_path / "planted.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_planted_cause_comes_first(planted, tmp_path, capsys):
    out = tmp_path / "out"
    printed = analyze(capsys, "--scores", str(planted), "--out", str(out), "--permutations", "999")
    table = {row["feature"]: row for row in read(out / "correlations.csv")}
    ranked = sorted(table, key=lambda name: -abs(float(table[name]["pearson"])))
    assert ranked[0] == "syntax"
    assert float(table["syntax"]["pearson"]) > 0.8
    assert float(table["syntax"]["fdr"]) < 0.05
    assert {row["pairs"] for row in table.values()} == {"90"}
    first = next(line for line in printed.splitlines() if line.startswith("  syntax"))
    assert first.split()[1:4] == ["90", "10", f"{float(table['syntax']['pearson']):+.2f}"]
    assert printed.splitlines()[2] == first


def test_everything_that_is_printed_is_kept(planted, tmp_path, capsys):
    out = tmp_path / "out"
    analyze(capsys, "--scores", str(planted), "--out", str(out), "--permutations", "99")
    scores = {(r["source"], r["target"]): float(r["score"]) for r in read(out / "scores.csv")}
    assert len(scores) == 100
    for row in read(out / "languages.csv"):
        others = [v for (s, t), v in scores.items() if s == row["language"] and t != s]
        assert float(row["as_source"]) == pytest.approx(np.mean(others), rel=1e-5)
        received = [v for (s, t), v in scores.items() if t == row["language"] and t != s]
        assert float(row["as_target"]) == pytest.approx(np.mean(received), rel=1e-5)
        assert float(row["in_language"]) == 95
    assert len(read(out / "features.csv")) == 90
    about = json.loads((out / "analysis.json").read_text())
    assert about["permutations"] == 99
    assert about["options"] == {"measure": "cosine", "imputed": False}


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes(planted, tmp_path, capsys):
    arguments = ("--scores", str(planted), "--permutations", "99", "--out")
    for name in ("a", "b"):
        analyze(capsys, *arguments, str(tmp_path / name))
    paths = list((tmp_path / "a").iterdir())
    assert {"scores.csv", "correlations.csv"} <= {path.name for path in paths}
    for path in paths:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_zero_shot_scores_are_those_of_the_fewest_shots(planted, tmp_path, capsys):
    lines = planted.read_text().splitlines()
    more = [f"{line},100" for line in lines[1:]]
    (tmp_path / "shots.csv").write_text(
        "\n".join([f"{lines[0]},n_shots", *(f"{line},0" for line in lines[1:]), *more])
    )
    arguments = ("--permutations", "99", "--out")
    analyze(capsys, "--scores", str(planted), *arguments, str(tmp_path / "a"))
    analyze(capsys, "--scores", str(tmp_path / "shots.csv"), *arguments, str(tmp_path / "b"))
    a, b = (read(tmp_path / name / "correlations.csv") for name in "ab")
    assert a == b


def found_in(world: list[dict], folder: Path, capsys) -> list[dict[str, str]]:
    """Analyses rows of pocket worlds; the feature `words` is the planted lexical overlap."""
    (folder / "scores.csv").write_text(
        "source,target,seed,score\n"
        + "".join(f"{r['source']},{r['target']},{r['seed']},{r['score']}\n" for r in world)
    )
    words = {(r["source"], r["target"]): r["lexical_similarity"] for r in world}
    (folder / "words.csv").write_text(
        "source,target,words\n" + "".join(f"{s},{t},{v}\n" for (s, t), v in words.items())
    )
    own = ("--features", str(folder / "words.csv"), "--permutations", "1999")
    analyze(capsys, "--scores", str(folder / "scores.csv"), *own, "--out", str(folder / "out"))
    table = read(folder / "out" / "correlations.csv")
    of_pairs = [row for row in table if row["of"] == "pair"]
    return sorted(of_pairs, key=lambda row: -abs(float(row["pearson"])))


@pytest.mark.slow
@pytest.mark.parametrize("path", PLANTED, ids=lambda path: path.stem)
def test_the_planted_cause_of_a_pocket_world_comes_first(path, tmp_path, capsys):
    """The tables that `benchmarks.worlds` made: one seed each."""
    table = found_in(read(path), tmp_path, capsys)
    expected = {"syntax": "syntax", "lexicon": "words"}[path.stem.partition("-")[0]]
    assert table[0]["feature"] == expected
    assert max(table, key=lambda row: abs(float(row["within"]))) == table[0]
    assert float(table[0]["within_fdr"]) <= 0.05


@pytest.mark.slow
def test_where_nothing_was_planted_nothing_is_found(tmp_path, capsys):
    """By chance, one table in twenty may have a significant feature.

    Words do have an effect in these worlds when controlling for source and target: languages share
    half of their words only on average, and pairs that share more by chance transfer better.
    """
    tables = [found_in(read(path), tmp_path, capsys) for path in NOTHING]
    allowed = max(1, len(NOTHING) // 20)
    assert sum(any(float(row["fdr"]) <= 0.05 for row in rows) for rows in tables) <= allowed
    of_uriel = [[row for row in rows if row["feature"] != "words"] for rows in tables]
    assert sum(any(float(r["within_fdr"]) <= 0.05 for r in rows) for rows in of_uriel) <= allowed


@pytest.mark.slow
def test_planted_syntax_is_significant_over_three_seeds(tmp_path, capsys):
    """Four features were planted and sixty-one are compared: one seed may not be enough."""
    paths = sorted(WORLDS.glob("syntax-*.csv"))
    assert len(paths) >= 3
    table = found_in([row for path in paths for row in read(path)], tmp_path, capsys)
    assert table[0]["feature"] == "syntax"
    assert float(table[0]["fdr"]) <= 0.05


@pytest.mark.slow
def test_the_planted_features_are_named(tmp_path, capsys):
    """Of WALS's features one that was planted comes first: orders, adpositions, affixes."""
    paths = sorted(WORLDS.glob("syntax-*.csv"))
    found_in([row for path in paths for row in read(path)], tmp_path, capsys)
    first, *_ = read(tmp_path / "out" / "wals.csv")
    planted = (
        "SOV",
        "SVO",
        "VSO",
        "OBJECT",
        "SUBJECT",
        "ADPOSITION",
        "ADJECTIVE",
        "SUFFIX",
        "PREFIX",
    )
    assert any(word in first["feature"] for word in planted)
    assert float(first["points"]) > 0


def test_there_are_tables_of_every_world():
    names = {path.stem.partition("-")[0] for path in WORLDS.glob("*.csv")}
    assert names == {"syntax", "lexicon", "neither"}
    assert len(NOTHING) >= 10


@pytest.mark.skipif(
    not DATA_DIR or not Path(DATA_DIR, "transfer", "tidy").is_dir(),
    reason="XFER_DATA_DIR names no folder that holds transfer/tidy",
)
def test_a_real_table_gives_the_published_numbers(tmp_path, capsys):
    """De Vries et al. 2022: Romanian is the best source, and LDND correlates negatively."""
    tidy = Path(str(DATA_DIR), "transfer", "tidy")
    printed = analyze(
        capsys, "--scores", str(tidy / "xpos.csv"), "--where", "n_train=10000",
        "--features", str(tidy / "xpos_ldnd.csv"), "--out", str(tmp_path), "--permutations", "99",
    )  # fmt: skip
    assert "best source languages: ro 67.2" in printed
    assert "English is number 19 with 62.4" in printed
    table = {row["feature"]: float(row["pearson"]) for row in read(tmp_path / "correlations.csv")}
    assert table["ldnd"] == pytest.approx(-0.32, abs=0.005)


@pytest.mark.skipif(
    not DATA_DIR or not Path(DATA_DIR, "transfer", "tidy").is_dir(),
    reason="XFER_DATA_DIR names no folder that holds transfer/tidy",
)
def test_without_a_choice_the_largest_training_size_is_compared(tmp_path, capsys):
    scores = str(Path(str(DATA_DIR), "transfer", "tidy", "xpos.csv"))
    printed = analyze(capsys, "--scores", scores, "--out", str(tmp_path), "--permutations", "9")
    assert "best source languages: ro 67.2" in printed
    assert "the largest is compared: 10,000" in printed
    laws = {row["law"]: float(row["beyond"]) for row in read(tmp_path / "laws.csv")}
    assert min(laws, key=lambda law: laws[law]) == "log"
    assert laws["linear"] > 2 * laws["log"]


@pytest.fixture
def runs(tmp_path) -> Path:
    """Six source models, each with a set number of correct sentences (of twenty) per language."""
    folder = tmp_path / "study"
    rows = ["task,source,target,score,run,n_train"]
    for i, source in enumerate(CODES[:6]):
        answers = {}
        for j, target in enumerate(CODES[:6]):
            right = 20 if i == j else 4 + 2 * ((i + 2 * j) % 6)
            sentence = (f"tag: neno{target} {target}ja", f"PER: neno{target}")
            good, bad = (*sentence, sentence[1]), (*sentence, f"LOC: neno{source}")
            answers[f"xfer_panx.{target}"] = [good] * right + [bad] * (20 - right)
            score = 200 * right / (20 + right + 20 - right)
            rows.append(f"xfer_panx,{source},{target},{score:.4f},panx/{source},{100 * (i + 1)}")
        write_run(folder / "panx" / source, f"xfer_panx.{source}", answers)
    (folder / "scores.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
def test_a_study_and_the_folders_of_its_runs_give_the_same(runs, tmp_path, capsys):
    arguments = ("--permutations", "99", "--out")
    analyze(capsys, "--scores", str(runs), *arguments, str(tmp_path / "a"))
    folders = sorted(str(path) for path in (runs / "panx").iterdir())
    analyze(capsys, "--scores", *folders, *arguments, str(tmp_path / "b"))
    (runs / "scores.csv").rename(runs / "other.csv")
    analyze(capsys, "--scores", str(runs), *arguments, str(tmp_path / "c"))
    for name in ("outcomes", "wals"):
        one, *others = (read(tmp_path / x / f"{name}.csv") for x in "abc")
        assert others[0] == others[1]
        same = ("source", "target", "outcome", "count") if name == "outcomes" else ("feature",)
        found, expected = (
            [[row[key] for key in same] for row in rows] for rows in (one, others[0])
        )
        assert found == expected


@pytest.mark.slow
def test_outputs_give_errors_words_and_pieces(runs, tmp_path, capsys):
    printed = analyze(capsys, "--scores", str(runs), "--out", str(tmp_path), "--permutations", "99")
    found = {row["feature"] for row in read(tmp_path / "correlations.csv")}
    assert "n_train_source" in found
    assert "n_train_target" not in found
    known = read(tmp_path / "features.csv")[0]
    # no two of these languages share a word; all tokens are the same
    assert (float(known["words"]), float(known["pieces"])) == (0, 0.5)
    rows = read(tmp_path / "alignment.csv")
    assert len(rows) == 36
    for row in rows:
        assert float(row["score"]) == pytest.approx(float(row["recomputed"]), abs=1e-3)
        own = row["source"] == row["target"]
        assert (float(row["correct"]) == 1) == own
        # the words that models add are of the source language, and not of the target
        if not own:
            wrong = 1 - float(row["correct"])
            assert float(row["other language"]) == pytest.approx(wrong)
            assert float(row["hallucinated"]) == pytest.approx(wrong)
    assert "other language" in printed


@pytest.mark.slow
def test_probes_and_chosen_predictors_are_compared(planted, tmp_path, capsys):
    probe = tmp_path / "probe.csv"
    probe.write_text(
        "task,language,lm_loss,lm_em\n"
        + "".join(f"task,{code},{1 + i / 7:.3f},{i / 20}\n" for i, code in enumerate(CODES))
        + "other,en,9,9\n"
    )
    arguments = ("--scores", str(planted), "--probe", str(probe), "--permutations", "99")
    chosen = "syntax,lm_loss_target,lm_em_source"
    analyze(capsys, *arguments, "--predictors", chosen, "--out", str(tmp_path / "out"))
    regression = {row["feature"]: row for row in read(tmp_path / "out" / "regression.csv")}
    assert set(regression) == set(chosen.split(","))
    assert float(regression["syntax"]["qap_p"]) <= 0.02
    kinds = {row["feature"]: row["of"] for row in read(tmp_path / "out" / "correlations.csv")}
    assert (kinds["lm_loss_source"], kinds["lm_em_target"]) == ("source", "target")
    languages = {row["language"]: row for row in read(tmp_path / "out" / "languages.csv")}
    assert float(languages["bn"]["lm_loss"]) == pytest.approx(1.143)
    wrong = ("--predictors", "syntex", "--out", str(tmp_path / "none"))
    assert cli.main(["analyze", *arguments, *wrong]) == 2
    assert "did you mean syntax" in capsys.readouterr().err


@pytest.mark.slow
def test_every_choice_that_is_open_is_tried(planted, tmp_path, capsys):
    analyze(capsys, "--scores", str(planted), "--permutations", "99", "--out", str(tmp_path))
    rows = [row for row in read(tmp_path / "sensitivity.csv") if row["feature"] == "syntax"]
    choices = {(row["measure"], row["imputed"], row["scores"]) for row in rows}
    assert len(choices) == len(rows) == 2 * 2 * 3
    assert all(float(row["pearson"]) > 0.5 for row in rows)
    plain = next(r for r in rows if (r["measure"], r["imputed"]) == ("cosine", "False"))
    table = {row["feature"]: row for row in read(tmp_path / "correlations.csv")}
    assert float(plain["pearson"]) == pytest.approx(float(table["syntax"]["pearson"]), rel=1e-5)


def test_examples_needed_are_counted_for_the_score_that_is_asked_for(planted, tmp_path, capsys):
    lines = planted.read_text().splitlines()
    rows = [f"{lines[0]},n_shots", *(f"{line},0" for line in lines[1:])]
    for line in lines[1:]:
        source, target, _ = line.split(",")
        if source != target:
            rows += [f"{source},{target},{20 + 5 * np.log(n)},{n}" for n in (10, 100, 1000)]
    (tmp_path / "shots.csv").write_text("\n".join(rows))
    arguments = ("--scores", str(tmp_path / "shots.csv"), "--permutations", "9", "--reach", "70")
    analyze(capsys, *arguments, "--out", str(tmp_path / "out"))
    needed = read(tmp_path / "out" / "needed.csv")
    assert len(needed) == 10
    for row in needed:
        assert float(row["examples"]) == pytest.approx(np.exp(10), rel=1e-3)
        assert float(row["each_doubling"]) == pytest.approx(5 * np.log(2), rel=1e-4)


def test_means_of_a_curve_are_of_the_same_sources_throughout(planted, tmp_path, capsys):
    """Weak sources alone have many examples: scores grow all the same."""
    lines = ["source,target,n_shots,n_train,score"]
    for i, source in enumerate(CODES):
        for target in CODES:
            if source != target:
                sizes = (10, 100, 1000, 10_000) if i < 3 else (10, 100, 1000)
                level = 20 if i < 3 else 60
                lines.append(f"{source},{target},0,500,{level}")
                lines += [f"{source},{target},{n},500,{level + 5 * np.log10(n)}" for n in sizes]
                lines += [f"{source},{target},100,50,1"]  # of a smaller source model
    (tmp_path / "shots.csv").write_text("\n".join(lines))
    arguments = ("--scores", str(tmp_path / "shots.csv"), "--permutations", "9", "--reach", "70")
    analyze(capsys, *arguments, "--out", str(tmp_path / "out"))
    for row in read(tmp_path / "out" / "needed.csv"):
        assert float(row["each_doubling"]) == pytest.approx(5 * np.log10(2), rel=1e-3)


def test_an_analysis_does_not_overwrite_its_inputs(planted, runs, tmp_path, capsys):
    before = (runs / "scores.csv").read_bytes()
    assert cli.main(["analyze", "--scores", str(runs), "--out", str(runs)]) == 2
    own = tmp_path / "features.csv"
    own.write_text("language,size\n" + "".join(f"{c},{i}\n" for i, c in enumerate(CODES)))
    again = ["--scores", str(planted), "--features", str(own), "--out", str(tmp_path)]
    assert cli.main(["analyze", *again]) == 2
    assert capsys.readouterr().err.count("name another folder") == 2
    assert (runs / "scores.csv").read_bytes() == before


def test_errors_name_what_is_wrong_with_a_table(planted, tmp_path, capsys):
    table = tmp_path / "wrong.csv"
    features_file = tmp_path / "own.csv"
    header, *rows = planted.read_text().splitlines()
    same = [",".join([*row.split(",")[:2], "50"]) for row in rows]
    diagonal = [row for row in rows if len(set(row.split(",")[:2])) == 1]
    pairs = [",".join([*row.split(",")[:2], "1"]) for row in rows if row not in diagonal]
    for scores, own, why in (
        ([header, *same], None, "all pairs of two languages have the same score"),
        ([header, *diagonal], None, "no pair of two different languages has a score"),
        ([header + ",Score", *(row + ",1" for row in rows)], None, "two columns 'score'"),
        ([header, *(row + "," for row in rows)], None, "line 2: more values than the header"),
        ([header, *rows], ["source,target,syntax", *pairs], "the name 'syntax' is taken"),
        ([header, *rows], ["source,target,score", *pairs], "the name 'score' is taken"),
        ([header, *rows], ["source,target,x", "en,sw,-inf"], "line 2: x is infinite"),
        ([header, *rows], ["language,in_language", "en,1"], "'in_language_source' is taken"),
    ):
        table.write_text("\n".join(scores) + "\n")
        arguments = ["--scores", str(table), "--out", str(tmp_path / "out")]
        if own:
            features_file.write_text("\n".join(own) + "\n")
            arguments += ["--features", str(features_file)]
        assert cli.main(["analyze", *arguments]) == 2
        err = capsys.readouterr().err
        assert why in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_each_task_is_compared_by_its_own_rows(planted, tmp_path, capsys):
    header, *rows = planted.read_text().splitlines()
    lines = [f"{header},task,arm,n_shots"]
    for row in rows:
        lines += [f"{row},one,,0", f"{row},two,matched,0", f"{row},three,,10"]
        if row.startswith("hi"):
            lines[-3] = f"{row},one,matched,0"
    (tmp_path / "tasks.csv").write_text("\n".join(lines))
    arguments = ("--scores", str(tmp_path / "tasks.csv"), "--permutations", "9")
    printed = analyze(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert {row["task"] for row in read(tmp_path / "out" / "correlations.csv")} == {
        "one",
        "two",
        "three",
    }
    for note in (
        "two: only rows with arm matched are compared",
        "three has no zero-shot scores: scores with 10 training examples in the target language are"
        " compared",
        "one: source languages without such a score are left out: hi",
    ):
        assert f"note: {note}" in printed


@pytest.mark.skipif(not FIXTURES, reason="XFER_T5X_FIXTURES names no folder of T5X's output")
def test_a_folder_that_t5x_wrote_is_analysed(tmp_path, capsys):
    folder = str(Path(str(FIXTURES), "model_dir_example"))
    printed = analyze(capsys, "--scores", folder, "--out", str(tmp_path))
    assert "trained on en: en 100.0, sw 48.6" in printed
    assert "hallucinated 92.7%" in printed
    assert "with fewer than 4 no correlations" in printed
    assert not (tmp_path / "correlations.csv").exists()


def test_a_later_analysis_leaves_nothing_of_an_earlier_one(planted, runs, tmp_path, capsys):
    out = str(tmp_path / "out")
    analyze(capsys, "--scores", str(runs), "--permutations", "9", "--out", out)
    assert (tmp_path / "out" / "outcomes.csv").exists()
    analyze(capsys, "--scores", str(planted), "--permutations", "9", "--out", out)
    assert not (tmp_path / "out" / "outcomes.csv").exists()


@pytest.mark.slow
def test_a_baseline_stands_beside_the_scores(planted, tmp_path, capsys):
    """As for SIB-200, where the best source is below the most frequent label."""
    header, *rows = planted.read_text().splitlines()
    table = tmp_path / "scores.csv"
    arguments = ("--scores", str(table), "--permutations", "9", "--out", str(tmp_path / "out"))
    values = [f"{row},{99 if row.split(',')[1] == 'en' else 25}" for row in rows]
    table.write_text("\n".join([f"{header},baseline", *values]) + "\n")
    printed = analyze(capsys, *arguments)
    found = {row["language"]: row for row in read(tmp_path / "out" / "languages.csv")}
    assert (float(found["en"]["baseline"]), float(found["sw"]["baseline"])) == (99, 25)
    assert float(found["en"]["as_source_baseline"]) == 25
    assert float(found["sw"]["as_source_baseline"]) == pytest.approx((99 + 8 * 25) / 9, rel=1e-5)
    above = sum(
        float(row["as_source"]) > float(row["as_source_baseline"]) for row in found.values()
    )
    assert (
        "  baseline (always giving the most frequent target, or nothing): 25.0 to 33.2;"
        f" {above} of 10 source languages exceed it"
    ) in printed.splitlines()
    table.write_text("\n".join([header, *rows]) + "\n")
    printed = analyze(capsys, *arguments)
    assert (
        "the baseline (always giving the most frequent target) is unknown for task: add" in printed
    )
    assert "baseline" not in read(tmp_path / "out" / "languages.csv")[0]


def test_the_baseline_of_outputs_is_computed(runs, tmp_path, capsys):
    printed = analyze(capsys, "--scores", str(runs), "--out", str(tmp_path), "--permutations", "9")
    assert "or nothing): 100.0; 0 of 6 source languages exceed it" in printed  # one sentence each
    for name in ("languages", "scores", "alignment"):
        assert {row["baseline"] for row in read(tmp_path / f"{name}.csv")} == {"100"}


def test_answers_that_can_never_score_are_named_if_nothing_correlates(tmp_path, capsys):
    answers = {
        f"xfer_panx.{x}": [(f"tag: {x}:Ada", f"PER: {x}:Ada", "")] for x in ("en", "hi", "bn", "ar")
    }
    for code in ("en", "hi", "bn", "ar"):
        write_run(tmp_path / code, f"xfer_panx.{code}", answers)
    assert cli.main(["analyze", "--scores", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "the same score; xfer_panx: span_f1 counts none of the expected answers in ar, bn" in err
    assert "strip the prefixes" in err
    assert not (tmp_path / "out").exists()


def test_ignored_columns_and_rows_of_features_are_named(planted, tmp_path, capsys):
    own = tmp_path / "own.csv"
    own.write_text(
        "language;size;share;people\n"
        + "".join(f"{code};{i},5;{i}%;x\n" for i, code in enumerate(CODES))
        + "martian;1,5;2%;y\n"
    )
    arguments = ("--scores", str(planted), "--features", str(own), "--permutations", "9")
    printed = analyze(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert "columns that hold no numbers are ignored: share ('0%'), people ('x')" in printed
    assert "rows of unknown languages are ignored: 'martian'" in printed
    known = read(tmp_path / "out" / "correlations.csv")
    assert {"size_source", "size_target"} <= {row["feature"] for row in known}
    sizes = {row["language"]: row["name"] for row in read(tmp_path / "out" / "languages.csv")}
    assert sizes["sw"] == "Swahili"


@pytest.mark.parametrize("reach", ["nan", "inf", "-1", "101"])
def test_a_score_that_cannot_be_reached_is_refused(planted, tmp_path, capsys, reach):
    arguments = ["--scores", str(planted), f"--reach={reach}", "--out", str(tmp_path / "out")]
    assert cli.main(["analyze", *arguments]) == 2
    assert "--reach must be a score from 0 to 100, not" in capsys.readouterr().err


def test_wrong_requests_are_refused(planted, tmp_path, capsys):
    for arguments, why in (
        (["--scores", str(tmp_path / "none.csv")], "cannot be read"),
        (["--scores", str(planted), "--where", "seed=7"], "has no column 'seed'"),
        (["--scores", str(planted), "--permutations", "0"], "--permutations must be at least 1"),
        (["--scores", str(planted), str(planted)], "takes one table, or folders"),
        (["--scores", str(tmp_path)], "contains neither scores.csv nor inference_eval/ of a run"),
        (["--scores", str(planted), "--probe", str(planted)], "has no column task, language"),
    ):
        assert cli.main(["analyze", *arguments, "--out", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert why in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_analysis_does_not_import_the_engine():
    code = (
        "import sys; from xfer_jax.analysis import analyze, xtreme_r; "
        "print([m for m in sys.modules if m in ('jax', 'flax', 'tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
