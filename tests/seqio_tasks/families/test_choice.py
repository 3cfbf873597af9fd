"""Multiple choice: texts to the byte, and malformed files."""

import pytest

from seqio_tasks import catalogue
from tests.support.files import fill, lines, write
from tests.support.tasks import complaint, of_tfds, texts

COPA = {"premise": "P.", "choice1": "A", "choice2": "B", "question": "cause", "label": 1, "idx": 0}
SIQA = {"context": "C.", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c"}
HELLASWAG = {"ind": 1, "ctx": "C he", "endings": ["a", "b", "c", "d"], "label": 2}
COSMOS = {"id": "1", "context": "C.", "question": "Q?", "answer0": "a", "answer1": "b"}
COSMOS |= {"answer2": "c", "answer3": "d", "label": "3"}
COMMONSENSE = {
    "answerKey": "E",
    "id": "1",
    "question": {
        "question_concept": "x",
        "stem": "Q?",
        "choices": [{"label": label, "text": label.lower()} for label in "ABCDE"],
    },
}
CHOICES = {
    "xfer_xcopa.sw": (
        *("validation", "xcopa/val-sw.jsonl", COPA),
        ("xcopa: premise: P. question: cause choice1: A choice2: B", "choice2"),
    ),
    "xfer_siqa.en": (
        *("train", "siqa/socialIQa_v1.4_trn.jsonl", SIQA | {"correct": "A"}),
        ("siqa: context: C. question: Q? choice1: a choice2: b choice3: c", "choice1"),
    ),
    "xfer_hellaswag.en": (
        *("validation", "hellaswag/hellaswag_val.jsonl", HELLASWAG),
        ("hellaswag: context: C he choice1: a choice2: b choice3: c choice4: d", "choice3"),
    ),
    "xfer_cosmosqa.en": (
        *("validation", "cosmosqa/valid.jsonl", COSMOS),
        (
            "cosmosqa: context: C. question: Q? choice1: a choice2: b choice3: c choice4: d",
            "choice4",
        ),
    ),
    "xfer_commonsenseqa.en": (
        *("train", "commonsenseqa/train_rand_split.jsonl", COMMONSENSE),
        (
            "commonsenseqa: question: Q? choice1: a choice2: b choice3: c choice4: d choice5: e",
            "choice5",
        ),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_written_out_to_the_byte(folder, name):
    split, path, record, expected = CHOICES[name]
    fill(folder, {path: lines(record, record)})
    assert texts(name, split) == [expected] * 2


def test_cosmos_qa_as_a_table(folder):
    header = "id,context,question,answer0,answer1,answer2,answer3,label\n"
    fill(folder, {"cosmosqa/train.csv": header + '1,"a, ""b""\nc",Q?,x,y,z,w,0\n'})
    assert texts("xfer_cosmosqa.en", "train") == [
        (
            'cosmosqa: context: a, "b"\nc question: Q? choice1: x choice2: y choice3: z choice4: w',
            "choice1",
        )
    ]
    fill(folder, {"cosmosqa/train.csv": header + "1,a,Q?,x,y,z,w,0\n2,a,Q?,x,y,z,w,4\n"})
    assert complaint("xfer_cosmosqa.en", "train") == (
        f"{folder / 'cosmosqa/train.csv'}, line 3: label '4' is not one of 0, 1, 2, 3"
    )


def test_choices_of_tfds_give_the_same_texts(tmp_path):
    copa = COPA | {"label": "choice2"}
    hellaswag = {"context": "C he", "endings": ["a", "b", "c", "d"], "activity_label": "x"}
    hellaswag |= {"label": 2, "split_type": "indomain", "source_id": "x"}
    for name, example in (
        ("xfer_xcopa.en", copa),
        ("xfer_hellaswag.en", hellaswag),
        ("xfer_cosmosqa.en", COSMOS),
    ):
        expected = CHOICES[name.replace(".en", ".sw") if "xcopa" in name else name][-1]
        assert of_tfds(catalogue.task(name), "validation", tmp_path, [example]) == [expected]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("xfer_xcopa.sw", {"label": 2}, "label '2' is not one of 0, 1"),
        ("xfer_xcopa.sw", {"label": True}, "label 'True' is not one of 0, 1"),
        ("xfer_xcopa.sw", {"premise": 1}, "expected text in the field 'premise', found 1"),
        ("xfer_siqa.en", {"correct": "D"}, "label 'D' is not one of A, B, C"),
        ("xfer_siqa.en", {"correct": "AB"}, "label 'AB' is not one of A, B, C"),
        ("xfer_hellaswag.en", {"endings": ["a"]}, "expected four texts in the field 'endings'"),
        ("xfer_hellaswag.en", {"label": 4}, "label '4' is not one of 0, 1, 2, 3"),
        ("xfer_cosmosqa.en", {"label": "x"}, "label 'x' is not one of 0, 1, 2, 3"),
        ("xfer_commonsenseqa.en", {"question": "Q?"}, "expected a question with choices"),
        (
            "xfer_commonsenseqa.en",
            {"question": {"stem": "Q?", "choices": [{"label": "A", "text": "a"}]}},
            "expected choices A, B, C, D, E",
        ),
        ("xfer_commonsenseqa.en", {"answerKey": ""}, "label '' is not one of A, B, C, D, E"),
    ],
)
def test_malformed_choices_are_named(folder, name, change, expected):
    split, path, record, _ = CHOICES[name]
    fill(folder, {path: lines(record, record | change)})
    assert complaint(name, split) == f"{folder / path}, line 2: {expected}"


def test_xcopa_without_test_labels_is_refused(folder):
    fill(folder, {"xcopa/test-sw.jsonl": lines(COPA | {"label": 0}, COPA | {"label": 0})})
    assert complaint("xfer_xcopa.sw", "test") == (
        f"{folder / 'xcopa/test-sw.jsonl'}: all labels are 0; XTREME removes the test labels,"
        " use XCOPA's original files"
    )
    fill(folder, {"xcopa/test-sw.jsonl": lines(COPA, COPA | {"label": 0})})
    assert [target for _, target in texts("xfer_xcopa.sw", "test")] == ["choice2", "choice1"]


@pytest.mark.parametrize(("language", "split"), [("sw", "train"), ("en", "test")])
def test_xcopa_has_not_every_split(folder, language, split):
    assert folder  # set
    assert complaint(f"xfer_xcopa.{language}", split).startswith(
        f"xfer_xcopa.{language} has no data for {split}: "
    )


PLAIN = {
    "xcopa": (CHOICES["xfer_xcopa.sw"][-1][0], "P. A B"),
    "siqa": (CHOICES["xfer_siqa.en"][-1][0], "C. Q? a b c"),
    "hellaswag": (CHOICES["xfer_hellaswag.en"][-1][0], "C he a b c d"),
    "commonsenseqa": (CHOICES["xfer_commonsenseqa.en"][-1][0], "Q? a b c d e"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_text_is_the_inputs_without_the_formats_words(name):
    inputs, expected = PLAIN[name]
    assert catalogue.families()[name].format.plain_text(inputs) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"label": 1, "label": 0}', "not JSON (the key 'label' occurs twice in one object)"),
        ("[" * 5000, "this JSON is nested too deeply"),
        ('{"label": ' + "1" * 5000 + "}", "not JSON ("),
        ('{"label": NaN}', "label 'nan' is not one of 0, 1"),
        ('{"label": 1.0}', "label '1.0' is not one of 0, 1"),
        ('{"label": [1]}', "label a list is not one of 0, 1"),
        ('{"label": 1, "premise": {}}', "expected text in the field 'premise', found an object"),
        (
            '{"label": 1, "premise": "\\udc00"}',
            "the field 'premise' has a lone surrogate \\udc00, which is not valid text",
        ),
    ],
)
def test_json_lines_of_wrong_values(folder, line, said):
    path = write(folder / "xcopa/val-sw.jsonl", f"\n{line}\n")
    assert complaint("xfer_xcopa.sw", "validation").startswith(f"{path}, line 2: {said}")
