"""Strict metrics: hand-made cases, brute-force recomputation, and real PAN-X sentences."""

import itertools
import os
import random
import re
from pathlib import Path

import pytest

from seqio_tasks import metrics, strict_metrics

STRICT = {
    "strict_span_f1": lambda i, t, p: strict_metrics.span_f1(i, t, p, "en"),
    "strict_squad": lambda i, t, p: strict_metrics.squad(i, [[x] for x in t], p, "en"),
    "strict_accuracy": lambda i, t, p: strict_metrics.accuracy(i, t, p, "en"),
    "strict_tags": lambda i, t, p: strict_metrics.tags(i, t, p, "en"),
}


@pytest.mark.parametrize("metric", STRICT.values(), ids=STRICT)
@pytest.mark.parametrize(
    "columns", [([], ["0"], ["0"]), (["x"], ["0"], []), (["x"], [], ["0"]), ([], [], [])]
)
def test_strict_refuses_unequal_or_no_columns(metric, columns):
    with pytest.raises(ValueError, match="a metric needs"):
        metric(*columns)


def test_strict_accuracy_strips_and_counts_non_labels():
    scores = strict_metrics.accuracy(
        ["x"] * 4, ["0", "1", "2", "2"], ["0", " 1 ", "", "true"], "sw"
    )
    assert scores == {"strict_accuracy": 50.0, "invalid": 50.0}


def test_strict_accuracy_with_other_labels():
    labels = ("different_meaning", "paraphrase")
    scores = strict_metrics.accuracy(["x"] * 2, [labels[0]] * 2, [labels[1], "0"], "en", labels)
    assert scores == {"strict_accuracy": 0.0, "invalid": 50.0}
    with pytest.raises(ValueError, match="found \\['paraphrase'\\]"):
        strict_metrics.accuracy(["x"], ["paraphrase"], ["0"], "en")


def strict_f1(sentence: str, target: str, prediction: str) -> float:
    return strict_metrics.span_f1([f"tag: {sentence}"], [target], [prediction], "en")[
        "strict_span_f1"
    ]


@pytest.mark.parametrize(
    ("sentence", "target", "prediction", "expected"),
    [
        ("rick is in paris", "PER: rick $$ LOC: paris", "PER: rick $$ LOC: paris", 1.0),
        ("rick is in paris", "PER: rick $$ LOC: paris", "LOC: paris $$ PER: rick", 1.0),
        ("rick is in paris", "PER: rick", "LOC: rick", 0.0),
        ("rick is in paris", "PER: rick", "PER: rick is", 0.0),
        ("rick is in paris", "PER: rick", "PER: rick $$ PER: rick", 2 / 3),  # there is but one
        ("rick is in paris", "PER: rick", "PER: rick $$ LOC: london", 2 / 3),  # stands nowhere
        ("rick is in paris", "PER: rick", "PER: rick $$ rubbish", 2 / 3),  # malformed
        ("rick is in paris", "PER: rick", "PER: rick $$ LOC:", 2 / 3),
        ("saw : ii with rick", "ORG: saw : ii", "ORG: saw : ii", 1.0),  # colons count
        ("blade: runner with rick", "ORG: blade: runner", "ORG: blade: runner", 1.0),
        ("rick is here", "None", "", 0.0),
        ("rick is here", "PER: rick", "None", 0.0),
        ("ﬁnland ½ x", "LOC: ﬁnland ½", "LOC: finland 1⁄2", 1.0),  # what SentencePiece makes of it
        ("ba\u200dla is", "LOC: ba\u200dla", "LOC: ba la", 1.0),
    ],
)
def test_strict_span_f1_is_as_worked_out_by_hand(sentence, target, prediction, expected):
    assert strict_f1(sentence, target, prediction) == pytest.approx(expected)


def test_strict_span_f1_is_micro_averaged():
    scores = strict_metrics.span_f1(
        ["tag: a b c", "tag: a b c"],
        ["PER: a $$ LOC: b $$ ORG: c", "None"],
        ["PER: a", "LOC: b"],
        "en",
    )
    assert scores == {
        "strict_span_precision": 1 / 2,
        "strict_span_recall": 1 / 3,
        "strict_span_f1": pytest.approx(2 / 5),
    }


@pytest.mark.parametrize(
    ("sentence", "spans", "expected"),
    [
        # repeats go from left to right
        ("a b a b", [("X", "a"), ("X", "a")], [("X", 0, 1), ("X", 2, 3)]),
        # after the span before it, though the words stand earlier too
        ("a b a", [("X", "b"), ("X", "a")], [("X", 1, 2), ("X", 2, 3)]),
        # earlier, if nowhere else
        ("a b", [("X", "b"), ("Y", "a")], [("X", 1, 2), ("Y", 0, 1)]),
        # never twice the same words
        ("a b c", [("X", "a b"), ("Y", "b c"), ("Y", "c")], [("X", 0, 2), None, ("Y", 2, 3)]),
        ("a b", [("X", ""), ("X", "a b c")], [None, None]),
    ],
)
def test_spans_are_aligned_with_the_first_free_words(sentence, spans, expected):
    spans = [(kind, surface.split()) for kind, surface in spans]
    assert strict_metrics.align(sentence.split(), spans) == expected


def test_aligned_spans_hold_their_words_and_do_not_overlap():
    rng = random.Random(1)
    for _ in range(300):
        tokens = rng.choices("abc", k=8)
        spans = [("X", rng.choices("abc", k=rng.randint(1, 3))) for _ in range(4)]
        taken: list[int] = []
        for (_, wanted), found in zip(spans, strict_metrics.align(tokens, spans), strict=True):
            if found:
                assert tokens[found[1] : found[2]] == wanted
                taken.extend(range(found[1], found[2]))
            else:  # every place is taken, in part at least, by a span before it
                places = (range(i, i + len(wanted)) for i in range(9 - len(wanted)))
                free = [p for p in places if tokens[p.start : p.stop] == wanted]
                assert all(set(p) & set(taken) for p in free)
        assert len(taken) == len(set(taken))


def panx_sentences(path: Path) -> list[tuple[list[str], list[str]]]:
    blocks = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    rows = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    return [([r[0] for r in row], [r[1] for r in row]) for row in rows]


def bio_positions(tokens: list[str], tags: list[str]) -> list[tuple[str, int, int]]:
    """Reads entities off the tags; positions in the words that the metric sees."""
    starts = [0, *itertools.accumulate(len(strict_metrics.words(token)) for token in tokens)]
    letters = "".join(tag[0] for tag in tags)
    return [
        (tags[m.start()][2:], starts[m.start()], starts[m.end()])
        for m in re.finditer("BI*", letters)
    ]


@pytest.mark.skipif(
    "XFER_DATA_DIR" not in os.environ, reason="real PAN-X files: set XFER_DATA_DIR to their folder"
)
@pytest.mark.parametrize("language", ["en", "ar", "hi"])
def test_positions_found_again_in_real_sentences(language):
    path = Path(os.environ["XFER_DATA_DIR"]) / "panx" / f"dev-{language}.tsv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    inputs, targets = [], []
    wrong = total = 0
    for tokens, tags in panx_sentences(path):
        raw_starts = [m.span() for m in re.finditer("BI*", "".join(tag[0] for tag in tags))]
        surfaces = [f"{tags[a][2:]}: {' '.join(tokens[a:b])}" for a, b in raw_starts]
        inputs.append("tag: " + " ".join(tokens))
        targets.append(" $$ ".join(surfaces))
        found = strict_metrics.align(
            strict_metrics.words(" ".join(tokens)),
            strict_metrics.parse_spans(" $$ ".join(surfaces)),
        )
        true = bio_positions(tokens, tags)
        wrong += sum(a != b for a, b in zip(found, true, strict=True))
        total += len(true)
    print(f"{language}: {wrong} of {total} entities aligned elsewhere than tagged")
    assert total > 1000
    assert wrong / total < 0.005
    scores = strict_metrics.span_f1(inputs, targets, targets, language)
    assert set(scores.values()) == {1.0}
    assert metrics.span_f1(targets, targets)["span_f1"] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("language", "text", "tokens"),
    [
        ("en", "The Eiffel Tower!", ["eiffel", "tower"]),
        ("de", "die a Stadt", ["a", "stadt"]),
        ("pt", "a casa", ["casa"]),
        ("fi", "a talo", ["a", "talo"]),
        ("fr", "L'eau de l’Oise", ["eau", "de", "oise"]),
        ("fr", "l ' eau", ["eau"]),  # as the punctuation padding leaves it
        ("it", "un'amica, lo zio", ["amica", "zio"]),
        ("af", "'n Boer", ["boer"]),
        ("vi", "những thủ đô của Pháp", ["thủ", "đô", "của", "pháp"]),
        ("ar", "العالم،", ["عالم"]),
        ("ar", "مالك السلال", ["مالك", "سلال"]),  # within a word it is no article
        ("ar", "اَلْعَالَمُ", ["عَالَمُ"]),  # vocalised
        ("ar", "الشَّمْس", ["شَّمْس"]),
        ("ar", "أَلَم", ["أَلَم"]),  # another letter, no article
        ("bn", "১৯৭১।", ["১৯৭১"]),
        ("fa", "می\u200cخواهم", ["می", "خواهم"]),  # decoded text may have a space there
        ("fr", "l’e\u0301te\u0301", ["été"]),
        ("vi", "Tie\u0302\u0301ng Vie\u0323\u0302t", ["tiếng", "việt"]),
        ("hi", "दिल्ली।", ["दिल्ली"]),
        ("ru", "«Война и мир»", ["война", "и", "мир"]),
        ("en", "ｆｕｌｌ １２", ["full", "12"]),
        ("en", "$5 million", ["$5", "million"]),
        ("en", "The The", ["the", "the"]),  # or nothing would be left
        ("zh", "《北京》 2008 olympic", ["北", "京", "2008", "olympic"]),
        ("th", "ที่นี่", ["ที่", "นี่"]),
        ("my", "မြန်မာ 12", ["မြ", "န်", "မာ", "12"]),
        ("en", "?", []),
    ],
)
def test_answers_are_cut_into_tokens_by_their_language(language, text, tokens):
    assert strict_metrics.answer_tokens(text, language) == tokens


def test_strict_squad_is_as_worked_out_by_hand():
    scores = strict_metrics.squad(
        ["q"] * 4,
        [["die Stadt Köln", "Bonn"], ["Bonn"], ["der Rhein"], ["?"]],
        ["Köln", "bonn.", "Rhein", "!"],
        "de",
    )
    assert scores == {
        "strict_em": 75.0,
        "strict_f1": pytest.approx((200 / 3 + 100 + 100 + 100) / 4),
    }


@pytest.mark.parametrize("answer", ["L'eau, de (l'Oise)", "10 %", "«Le Monde»"])
def test_punctuation_padding_makes_no_difference(answer):
    padded = re.sub(r"([^\w\s])", r" \1 ", answer)
    assert strict_metrics.answer_tokens(answer, "fr") == strict_metrics.answer_tokens(padded, "fr")
