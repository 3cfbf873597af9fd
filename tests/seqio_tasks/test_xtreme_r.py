"""XTREME-R's table and averages, as its own evaluate.py has them."""

import json
from pathlib import Path
from statistics import fmean

import pytest

from seqio_tasks import catalogue, records, xtreme_r

FIXTURE = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "xtreme" / "scores.json").read_text("utf-8")
)
OURS = {
    "udpos": {"f1": "tag_f1"},
    "panx": {"f1": "span_f1"},
    "xquad": {"exact_match": "em"},
    "mlqa": {"exact_match": "em"},
    "tydiqa": {"exact_match": "em"},
}
SCORES = {
    task: {
        code: {OURS.get(task, {}).get(name, name): score for name, score in cell["scores"].items()}
        for code, cell in cells.items()
    }
    for task, cells in FIXTURE["tasks"].items()
}
_CODES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
LAREQA = {code: {"map@20": 10.0 + i} for i, code in enumerate(_CODES)}


def test_languages_are_those_of_xtreme_r():
    for task in xtreme_r.TASKS:
        expected = FIXTURE["tasks"].get(task.name, LAREQA)
        assert sorted(task.languages) == sorted(expected)
    assert len(xtreme_r.TASKS) == 10
    assert {task.group for task in xtreme_r.TASKS} == set(xtreme_r.GROUPS)


def test_tasks_are_families_of_the_group():
    families = catalogue.families()
    named = {task.family for task in xtreme_r.TASKS if task.family}
    assert named == {f.name for f in families.values() if records.XTREME_R in f.groups}
    for task in xtreme_r.TASKS:
        if task.family:
            family = families[task.family]
            assert set(task.languages) <= set(family.languages)
            assert family.scoring.score in task.metrics


def test_averages_are_xtremes():
    found = xtreme_r.overall(SCORES, partial=True)
    assert found.missing == ("lareqa",)
    assert found.tasks == pytest.approx(FIXTURE["averages"], abs=1e-9)
    expected = {name: FIXTURE["groups"][name] for name in ("classification", "tagging", "qa")}
    assert found.groups == pytest.approx(expected, abs=1e-9)
    assert found.overall is None


def test_overall_is_the_mean_of_the_ten():
    found = xtreme_r.overall({**SCORES, "lareqa": LAREQA})
    lareqa = fmean(10.0 + i for i in range(11))
    assert found.missing == ()
    assert found.overall == pytest.approx(fmean([*FIXTURE["averages"].values(), lareqa]), abs=1e-9)
    of = FIXTURE["averages"]
    retrieval = fmean([of["tatoeba"], of["mewslix"], lareqa])
    assert found.groups["retrieval"] == pytest.approx(retrieval, abs=1e-9)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match=r"missing: lareqa$"):
        xtreme_r.overall(SCORES)
    scores = {
        **SCORES,
        "lareqa": LAREQA,
        "xnli": dict(SCORES["xnli"]),
        "mlqa": dict(SCORES["mlqa"]),
    }
    del scores["xnli"]["sw"]
    scores["mlqa"]["hi"] = {"em": 1.0}
    scores["xcopa"] = {**SCORES["xcopa"], "en": {"accuracy": 0.0}}  # COPA does not count
    with pytest.raises(ValueError, match=r"missing: xnli\.sw, mlqa\.hi\.f1$"):
        xtreme_r.overall(scores)
    found = xtreme_r.overall(scores, partial=True)
    assert found.missing == ("xnli.sw", "mlqa.hi.f1")
    assert found.tasks.keys() == {task.name for task in xtreme_r.TASKS} - {"xnli", "mlqa"}
    assert found.tasks["xcopa"] == pytest.approx(FIXTURE["averages"]["xcopa"], abs=1e-9)
    assert found.groups.keys() == {"tagging", "retrieval"}
    assert found.overall is None


def test_much_that_is_missing_is_counted():
    with pytest.raises(ValueError, match=r"missing: xnli, .*tatoeba and 2 more"):
        xtreme_r.overall({})
