"""Folders in T5X's layout, made by hand, by this engine and by the real T5X."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from tests.support.runs import RIGHT, WRONG, write_run
from xfer_jax.analysis import alignment, features, permutation
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
