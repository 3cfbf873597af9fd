"""Questions in SQuAD's form: texts to the byte, and malformed files."""

import functools

import pytest

from seqio_tasks import catalogue, registry
from tests.support.files import fill, squad, write
from tests.support.tasks import complaint, of_tfds, read, texts

squad_json = functools.partial(squad, context="He, said.")


def question(name: str, *answers: str, **more: object) -> dict:
    found = [{"text": text, "answer_start": 0} for text in answers]
    return {"id": name, "question": f"{name}?", "answers": found, **more}


INPUT = "question: q ? context: He , said . "


@pytest.mark.parametrize(
    ("name", "split", "path"),
    [
        ("xfer_squad.en", "train", "squad/train-v1.1.json"),
        ("xfer_squad.en", "validation", "squad/dev-v1.1.json"),
        ("xfer_xquad.ro", "test", "xquad/xquad.ro.json"),
        (
            "xfer_mlqa.zh",
            "validation",
            "mlqa/MLQA_V1/dev/dev-context-zh-question-zh.json",
        ),
        ("xfer_mlqa.hi", "test", "mlqa/MLQA_V1/test/test-context-hi-question-hi.json"),
    ],
)
def test_questions_are_written_out_to_the_byte(folder, name, split, path):
    fill(folder, {path: squad_json(question("q", "a.", "b"))})
    assert texts(name, split) == [(INPUT, "a . ")]
    # as XTREME's scripts leave the sets that it scores on
    fill(folder, {path: squad_json(question("q", ""))})
    assert complaint(name, split) == (
        f"{folder / path}: question q has no answer; XTREME removes the dev and test answers,"
        " use the data set's original files"
    )


def test_a_question_may_have_no_answer(folder):
    fill(
        folder,
        {
            "squad2/dev-v2.0.json": squad_json(
                question("q", is_impossible=True, plausible_answers=[{"text": "x"}]),
                question("q", "a", "b.", is_impossible=False),
            )
        },
    )
    assert texts("xfer_squad2.en", "validation") == [(INPUT, "unanswerable"), (INPUT, "a")]
    source = registry.StudySource(catalogue.task("xfer_squad2.en"))
    rows = source.get_dataset("validation", shuffle=False).as_numpy_iterator()
    assert [row["answers"].tolist() for row in rows] == [[b"unanswerable"], [b"a", b"b . "]]


def test_only_an_impossible_question_has_no_answer(folder):
    fill(folder, {"squad2/train-v2.0.json": squad_json(question("q", is_impossible=False))})
    assert "question q has no answer" in complaint("xfer_squad2.en", "train")


def test_questions_of_tfds_give_the_same_texts(tmp_path):
    example = {"id": "1", "title": "t", "context": "He, said.", "question": "q?"}
    answers = [{"text": "a.", "answer_start": 0}]
    for name, split in (("squad", "train"), ("xquad", "test"), ("mlqa", "validation")):
        task = catalogue.task(f"xfer_{name}.en")
        assert of_tfds(task, split, tmp_path, [example | {"answers": answers}]) == [(INPUT, "a . ")]
    v2 = example | {"answers": [], "plausible_answers": [], "is_impossible": True}
    task = catalogue.task("xfer_squad2.en")
    assert of_tfds(task, "train", tmp_path, [v2]) == [(INPUT, "unanswerable")]


def test_mlqa_is_scored_by_its_language():
    german, english = (catalogue.task(f"xfer_mlqa.{code}") for code in ("de", "en"))
    assert german.metric([["die Stadt"]], ["Stadt"])["em"] == 100
    assert english.metric([["die Stadt"]], ["Stadt"])["em"] == 0
    (registered,) = registry.get("xfer_mlqa.de").metric_fns
    assert registered([["die Stadt"]], ["Stadt"])["em"] == 100
    xquad = catalogue.task("xfer_xquad.de")
    assert xquad.metric is xquad.family.scoring.metric


@pytest.mark.parametrize(
    "said",
    [
        {"is_impossible": True, "answers": [{"text": "", "answer_start": -1}]},
        {"is_impossible": True, "answers": [{"text": " "}, {"text": ""}]},
        {"is_impossible": True, "answers": []},
        {"is_impossible": True},
    ],
)
def test_a_question_without_an_answer_is_one_however_it_is_said(folder, said):
    write(folder / "squad2/dev-v2.0.json", squad({"id": 7, "question": "q"} | said))
    (example,) = read("xfer_squad2.en", "validation")
    assert (example["id"], example["answers"]) == ("7", {"text": []})
    source = registry.StudySource(catalogue.task("xfer_squad2.en"))
    (row,) = source.get_dataset("validation", shuffle=False).as_numpy_iterator()
    assert (row["targets"], row["answers"].tolist()) == (b"unanswerable", [b"unanswerable"])


def test_an_answer_without_text_is_none(folder):
    answers = [{"text": "", "answer_start": 0}, {"text": "London", "answer_start": 19}]
    write(folder / "squad2/dev-v2.0.json", squad({"id": "4", "question": "q", "answers": answers}))
    assert read("xfer_squad2.en", "validation")[0]["answers"] == {"text": ["London"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_impossible": "false"}, "'is_impossible' should be a valid boolean, found 'false'"),
        ({"is_impossible": None}, "'is_impossible' should be a valid boolean, found None"),
        ({"answers": None}, "'answers' should be a valid list, found None"),
        ({"answers": [{"text": 3}]}, "'answers.0.text' should be a valid string, found 3"),
        ({"question": ["q"]}, "'question' should be a valid string, found a list"),
        (
            {"question": "\ud800"},
            "'question' has a lone surrogate \\ud800, which is not valid text",
        ),
    ],
)
def test_wrong_types_are_named(folder, change, said):
    question = {"id": "q-1", "question": "q", "answers": [{"text": "a"}]}
    path = write(folder / "squad2/dev-v2.0.json", squad(question | change))
    assert complaint("xfer_squad2.en", "validation") == (
        f"{path}, question q-1: not of SQuAD's form ({said})"
    )


def test_an_impossible_question_with_an_answer_is_refused(folder):
    question = {"id": "q-1", "question": "q", "answers": [{"text": "a"}], "is_impossible": True}
    path = write(folder / "squad2/dev-v2.0.json", squad(question))
    assert complaint("xfer_squad2.en", "validation") == (
        f"{path}: question q-1 is marked impossible but has the answer 'a'; remove one of the two"
    )
