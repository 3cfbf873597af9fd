"""What becomes of answers, in cases worked out by hand."""

import pytest

from seqio_tasks import catalogue
from xfer_jax.analysis import outcomes
from xfer_jax.results.predictions import Outputs


def outputs(task: str, *rows: tuple) -> Outputs:
    """Rows of (input, reference, answer)."""
    inputs, references, answers = map(list, zip(*rows, strict=True))
    return Outputs(catalogue.task(task), 1, inputs, [[] for _ in rows], references, answers)


def counted(task: str, *rows: tuple) -> tuple[dict[str, int], int]:
    found = outputs(task, *rows)
    counts, of = outcomes.count(found)
    assert set(counts) <= set(outcomes.kinds(found))  # none goes unshown
    return {kind: count for kind, count in counts.items() if count}, of


def test_labels_are_confused_by_name():
    counts, of = counted(
        "xfer_xnli.sw",
        ("", "0", "0"),
        ("", "0", "1"),
        ("", "2", "0"),
        ("", "2", "0"),
        ("", "1", "kweli"),
        ("", "1", " 1 "),
    )
    assert of == 6
    assert counts == {
        "correct": 2,
        "entailment as neutral": 1,
        "contradiction as entailment": 2,
        "neutral as no label": 1,
    }


def test_tags_are_counted_by_token():
    counts, of = counted(
        "xfer_udpos.fi",
        ("pos: a b c", "DET NOUN VERB", "DET VERB VERB"),
        ("pos: a b c", "DET NOUN VERB", "DET"),
        ("pos: a", "DET", "DET NOUN NOUN"),
        ("pos: a", "DET", ""),
    )
    assert of == 8
    assert counts == {"correct": 4, "wrong tag": 1, "no tag": 3, "too many": 2}


SENTENCE = "tag: rick sanchez went to new york city by ufo"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("PER: rick sanchez $$ LOC: new york city", {"correct": 2}),
        ("PER: rick sanchez", {"correct": 1, "missing": 1}),
        ("ORG: rick sanchez $$ LOC: new york city", {"wrong type": 1, "correct": 1}),
        ("PER: rick $$ LOC: new york city", {"wrong boundary": 1, "correct": 1}),
        ("PER: sanchez went $$ LOC: york", {"wrong boundary": 2}),
        ("PER: rick sanchez $$ LOC: new york city $$ ORG: ufo", {"correct": 2, "spurious": 1}),
        ("PER: rick sanchez $$ LOC: paris", {"correct": 1, "missing": 1, "hallucinated": 1}),
        ("PER: rick sanchez $$ new york city", {"correct": 1, "missing": 1, "malformed": 1}),
        ("", {"missing": 2}),
        # one span over both: each overlaps it
        ("PER: rick sanchez went to new york city", {"wrong boundary": 2}),
    ],
)
def test_entities_go_wrong_in_known_ways(answer, expected):
    row = (SENTENCE, "PER: rick sanchez $$ LOC: new york city", answer)
    assert counted("xfer_panx.en", row) == (expected, 2)


def test_what_there_was_to_find_adds_up():
    rows = [
        (SENTENCE, "PER: rick sanchez $$ LOC: new york city", answer)
        for answer in ("PER: rick", "LOC: rick sanchez $$ LOC: mars", "", "nonsense")
    ]
    counts, of = counted("xfer_panx.en", *rows)
    assert of == 8 == sum(counts.get(kind, 0) for kind in outcomes.ENTITIES)


def test_a_sentence_without_entities_has_nothing_to_find():
    assert counted("xfer_panx.en", ("tag: it rains", "", "LOC: rains")) == ({"spurious": 1}, 0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("the blue whale", "correct"),  # articles do not count
        ("whale", "partial"),
        ("a shark", "wrong"),
        ("an elephant", "hallucinated"),
        ("", "empty"),
        (" . ", "empty"),
    ],
)
def test_answers_go_wrong_in_known_ways(answer, expected):
    text = "question: what is it ? context: it is a blue whale , not a shark"
    assert counted("xfer_tydiqa.en", (text, ["blue whale"], answer)) == ({expected: 1}, 1)


SW, EN = {"mbwa", "anakula", "paris"}, {"dog", "eats", "paris", "tag"}


@pytest.mark.parametrize(
    ("answer", "strange"),
    [
        ("PER: dog", 1),  # English for what was asked in Swahili
        ("PER: mbwa", 0),  # taken from the input
        ("PER: paris", 0),  # known in both
        ("PER: dog $$ PER: mbwa", 1),  # what is taken from the input says nothing
        ("PER: dog zzz", 0),  # one word of two is not more than half
        ("PER: собака", 1),  # no Swahili letter
        ("", 0),
    ],
)
def test_words_of_the_source_language_are_noticed(answer, strange):
    found = outputs("xfer_panx.sw", ("tag: mbwa anakula", "PER: mbwa", answer))
    assert outcomes.in_other_language(found, "en", EN, SW) == strange


def test_latin_words_are_at_home_in_every_script_and_others_are_not():
    found = outputs(
        "xfer_panx.ru",
        ("tag: в москве", "LOC: москве", "LOC: NASA"),
        ("tag: в москве", "LOC: москве", "LOC: モスクワ"),
    )
    assert outcomes.in_other_language(found, "ja", set(), set()) == 1


def test_labels_and_ones_own_language_cannot_be_foreign():
    labels = outputs("xfer_xnli.sw", ("", "0", "dog"))
    assert outcomes.in_other_language(labels, "en", EN, SW) == 0
    own = outputs("xfer_panx.en", ("tag: x", "", "PER: dog"))
    assert outcomes.in_other_language(own, "en", EN, SW) == 0


def test_every_language_has_a_script_that_is_known():
    from seqio_tasks import languages

    scripts = {language.script for language in languages.LANGUAGES.values()}
    assert scripts == set(outcomes._SCRIPTS)
