"""Metrics: hand-made cases, brute-force recomputation, and real PAN-X sentences."""

import itertools
import json
import random
import warnings
from pathlib import Path

import pytest

from seqio_tasks import metrics, strict_metrics

COMPAT = {
    "accuracy": lambda t, p: metrics.accuracy(t, p),
    "span_f1": lambda t, p: metrics.span_f1(t, p),
    "squad": lambda t, p: metrics.squad([[x] for x in t], p),
    "mlqa": lambda t, p: metrics.mlqa([[x] for x in t], p, "de"),
    "tag_f1": lambda t, p: metrics.tag_f1(t, p),
    "token_accuracy": lambda t, p: metrics.token_accuracy(t, p),
}


@pytest.mark.parametrize("metric", COMPAT.values(), ids=COMPAT)
@pytest.mark.parametrize(("targets", "predictions"), [(["0"], []), (["0"], ["0", "0"]), ([], [])])
def test_compat_refuses_unequal_or_no_columns(metric, targets, predictions):
    with pytest.raises(ValueError, match="a metric needs"):
        metric(targets, predictions)


@pytest.mark.parametrize("answers", ["paris", []])
def test_answers_must_be_lists(answers):
    for score in (
        lambda: metrics.squad([answers], ["paris"]),
        lambda: metrics.mlqa([answers], ["paris"], "en"),
        lambda: strict_metrics.squad(["q"], [answers], ["paris"], "en"),
    ):
        with pytest.raises(ValueError, match="must be a list of at least one answer"):
            score()


def test_accuracy_compares_strings():
    assert metrics.accuracy(["0", "1", "2"], ["0", "1 ", "1"]) == {
        "accuracy": pytest.approx(100 / 3)
    }


@pytest.mark.parametrize(
    ("target", "prediction", "expected"),
    [
        ("PER: rick $$ LOC: paris", "LOC: paris $$ PER: rick", 1.0),  # order does not count
        ("PER: rick $$ LOC: paris", "PER: rick", 2 / 3),
        ("PER: rick", "LOC: rick", 0.0),
        ("PER: rick", "PER:rick", 1.0),  # nor does space
        ("PER: rick $$ PER: rick", "PER: rick", 2 / 3),  # a multiset
        ("ORG: a: b $$ PER: rick", "PER: rick", 1.0),  # a second colon drops the span …
        ("PER: rick", "PER: rick $$ ORG: a: b", 1.0),  # … on either side
        ("PER: rick", "PER: rick $$ rubbish", 1.0),  # as does none
        ("", "", 0.0),
        ("None", "PER: rick", 0.0),
    ],
)
def test_span_f1_and_its_quirks(target, prediction, expected):
    assert metrics.span_f1([target], [prediction])["span_f1"] == pytest.approx(expected, abs=1e-9)


def test_span_f1_of_a_perfect_output_falls_short_by_the_denominators():
    assert 1 - 1e-12 < metrics.span_f1(["PER: rick"], ["PER: rick"])["span_f1"] < 1


def test_span_f1_matches_pairs_by_brute_force():
    rng = random.Random(0)
    choices = [("PER", "a"), ("PER", "b"), ("LOC", "a")]
    for _ in range(100):
        rows = [[rng.choices(choices, k=rng.randint(0, 4)) for _ in range(2)] for _ in range(3)]
        matched = sum(
            max(
                sum(g == p for g, p in zip(gold + [None] * 4, order, strict=False))
                for order in itertools.permutations(guess + [0] * (4 - len(guess)))
            )
            for gold, guess in rows
        )
        total = sum(len(gold) + len(guess) for gold, guess in rows)
        columns = [[" $$ ".join(f"{k}: {s}" for k, s in row[i]) for row in rows] for i in (0, 1)]
        expected = 2 * matched / total if total else 0.0
        assert metrics.span_f1(*columns)["span_f1"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("answers", "prediction", "em", "f1"),
    [
        (["the Eiffel Tower"], "eiffel tower!", 100, 100),
        (["Paris", "in Paris, France"], "Paris France", 0, 80),  # F1 against the best answer
        (["die Stadt"], "Stadt", 0, 200 / 3),  # German articles stay …
        (["a casa"], "casa", 100, 100),  # … and a Portuguese preposition goes
        (["১৯৭১।"], "১৯৭১", 0, 0),  # punctuation beyond ASCII stays
        (["U.S."], "us", 100, 100),
        (["the"], "a", 100, 0),  # nothing is left of either
    ],
)
def test_squad_and_its_quirks(answers, prediction, em, f1):
    scores = metrics.squad([answers], [prediction])
    assert scores == {"em": em, "f1": pytest.approx(f1)}


@pytest.mark.parametrize(
    ("language", "answer", "prediction", "em"),
    [
        ("de", "Die Stadt", "stadt", 100),
        ("es", "«El Quijote»", "quijote", 100),
        ("ar", "العالم", "عالم", 100),
        ("ar", "مالك", "م ك", 100),  # 'ال' goes inside words too
        ("vi", "thủ đô của Pháp", "thủ đô Pháp", 100),
        ("hi", "दिल्ली।", "दिल्ली", 100),
        ("zh", "北京市", "北 京 市", 100),
        ("zh", "abc北京", "abc 北京", 100),
        ("en", "die Stadt", "Stadt", 0),
    ],
)
def test_mlqa_and_its_quirks(language, answer, prediction, em):
    assert metrics.mlqa([[answer]], [prediction], language)["em"] == em


def test_mlqa_refuses_other_languages():
    with pytest.raises(ValueError, match="not 'fi'; use squad"):
        metrics.mlqa([["x"]], ["x"], "fi")


def test_answer_scores_are_means_over_questions():
    targets = [["red"], ["green tea", "tea"], ["blue"]]
    assert metrics.squad(targets, ["red", "tea pot", "none"]) == {
        "em": pytest.approx(100 / 3),
        "f1": pytest.approx((100 + 200 / 3 + 0) / 3),
    }


def test_token_f1_by_brute_force():
    rng = random.Random(2)
    for _ in range(200):
        gold, guess = (rng.choices("pqr", k=rng.randint(1, 5)) for _ in range(2))
        left, common = list(gold), 0
        for token in guess:
            if token in left:
                left.remove(token)
                common += 1
        expected = 100 * 2 * common / (len(gold) + len(guess))
        f1 = metrics.squad([[" ".join(gold)]], [" ".join(guess)])["f1"]
        assert f1 == pytest.approx(expected)


UPOS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN"),
    *("PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
CHUNKS = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC")
ODD = (
    "O",
    "B",
    "I",
    "E",
    "S",
    ".",
    "-",
    "X",
    "PER",
    "XX",
    "X-",
    "B-",
    "I--a",
    "I-a-b",
    "-a",
    "A-a",
)
POOLS = {
    "upos": UPOS,
    "chunks": CHUNKS,
    "odd": ODD,
    "all": UPOS + CHUNKS + ODD,
    "few": ("X", "NOUN", "SYM"),
}


@pytest.mark.parametrize("pool", POOLS)
def test_tag_f1_is_seqevals(pool):
    seqeval = pytest.importorskip("seqeval.metrics", reason="the extra parity is not installed")
    rng = random.Random(0)
    for _ in range(400):
        gold = [rng.choices(POOLS[pool], k=rng.randint(1, 7)) for _ in range(rng.randint(1, 4))]
        guess = [[t if rng.random() < 0.6 else rng.choice(POOLS[pool]) for t in s] for s in gold]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "tag_f1": 100 * seqeval.f1_score(gold, guess),
                "tag_precision": 100 * seqeval.precision_score(gold, guess),
                "tag_recall": 100 * seqeval.recall_score(gold, guess),
            }
        scores = metrics.tag_f1(list(map(" ".join, gold)), list(map(" ".join, guess)))
        assert scores == pytest.approx(expected, abs=1e-9), (gold, guess)


@pytest.mark.parametrize(
    ("target", "prediction", "f1", "accuracy"),
    [
        ("DET NOUN VERB", "DET NOUN VERB", 100, 100),
        ("DET NOUN VERB", " DET  NOUN\nVERB ", 100, 100),
        ("DET NOUN NOUN", "DET NOUN VERB", 40, 200 / 3),  # two NOUN are one entity
        ("DET NOUN", "DET NOUN VERB", 100, 100),  # cut
        ("DET NOUN VERB", "DET NOUN", 80, 200 / 3),  # filled up
        ("DET NOUN", "", 0, 0),
        ("ADJ", "CDJ", 100, 0),  # the first letter is no part of the kind
        ("X", "SYM", 0, 0),
    ],
)
def test_tags_and_their_quirks(target, prediction, f1, accuracy):
    assert metrics.tag_f1([target], [prediction])["tag_f1"] == pytest.approx(f1)
    assert metrics.token_accuracy([target], [prediction]) == {
        "token_accuracy": pytest.approx(accuracy)
    }
    strict = strict_metrics.tags(["x"], [target], [prediction], "en")
    assert strict == {
        "strict_token_accuracy": pytest.approx(accuracy),
        "other_length": 100.0 * (len(target.split()) != len(prediction.split())),
    }


def test_tags_are_needed():
    with pytest.raises(ValueError, match="at least one tag"):
        metrics.token_accuracy([""], ["NOUN"])
    assert metrics.tag_f1([""], ["NOUN"])["tag_f1"] == 0


XTREME = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "xtreme" / "scores.json").read_text("utf-8")
)["tasks"]
OURS = {  # what XTREME's evaluate.py calls a score -> the same of ours
    "accuracy": lambda language, t, p: metrics.accuracy(t, p)["accuracy"],
    "precision": lambda language, t, p: metrics.tag_f1(t, p)["tag_precision"],
    "recall": lambda language, t, p: metrics.tag_f1(t, p)["tag_recall"],
    "f1": lambda language, t, p: metrics.tag_f1(t, p)["tag_f1"],
}
OURS_QA = {"exact_match": "em", "f1": "f1"}


@pytest.mark.parametrize("task", sorted(set(XTREME) - {"mewslix"}))
def test_scores_are_xtremes(task):
    for language, cell in XTREME[task].items():
        targets, predictions = cell["targets"], cell["predictions"]
        if task in ("xquad", "tydiqa"):
            ours = metrics.squad(targets, predictions)
        elif task == "mlqa":
            ours = metrics.mlqa(targets, predictions, language)
        else:
            ours = {name: OURS[name](language, targets, predictions) for name in cell["scores"]}
        for name, expected in cell["scores"].items():
            mine = ours.get(OURS_QA.get(name, name), ours.get(name))
            assert mine == pytest.approx(expected, abs=1e-9), (language, name)
