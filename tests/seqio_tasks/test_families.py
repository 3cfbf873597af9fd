"""The families beyond the mT5 release's three: texts to the byte, and malformed files."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from seqio_tasks import catalogue, data_config, raw_data, registry
from seqio_tasks.errors import RequestError
from seqio_tasks.families import choice, pairs, squad, tagging
from seqio_tasks.records import Task


def lines(*records: dict) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))

    def write(**files: str) -> None:
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content.encode())

    write.path = tmp_path
    return write


def texts(name: str, split: str) -> list[tuple[str, str]]:
    """Returns what a task makes of its files: (inputs, targets)."""
    source = registry.StudySource(catalogue.task(name))
    rows = source.get_dataset(split, shuffle=False).as_numpy_iterator()
    return [(row["inputs"].decode(), row["targets"].decode()) for row in rows]


def complaint(name: str, split: str) -> str:
    with pytest.raises(RequestError) as caught:
        texts(name, split)
    message = str(caught.value)
    assert "\n" not in message
    return message


def of_tfds(task: Task, split: str, tmp_path, examples: list[dict]) -> list:
    """Returns the texts of examples that went through the TFDS source's features."""
    found = task.family.tfds(task.language, split)
    assert found is not None
    features = tfds.builder(found[0], data_dir=tmp_path).info.features
    records = [features.serialize_example(example) for example in examples]
    dataset = tf.data.Dataset.from_tensor_slices(records).map(features.deserialize_example)
    rows = task.family.preprocess(dataset, task.language).as_numpy_iterator()
    return [(row["inputs"].decode(), row["targets"].decode()) for row in rows]


# --------------------------------------------------------------------------------- in SQuAD's form


def squad_json(*questions: dict) -> str:
    paragraphs = [{"context": "He, said.", "qas": [question]} for question in questions]
    return json.dumps({"version": "1", "data": [{"paragraphs": paragraphs}]})


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
def test_questions(folder, name, split, path):
    folder(**{path: squad_json(question("q", "a.", "b"))})
    assert texts(name, split) == [(INPUT, "a . ")]
    # as XTREME's scripts leave the sets that it scores on
    folder(**{path: squad_json(question("q", ""))})
    assert complaint(name, split) == (
        f"{folder.path / path}: question q has no answer; XTREME removes the dev and test answers,"
        " use the data set's original files"
    )


def test_a_question_may_have_no_answer(folder):
    folder(
        **{
            "squad2/dev-v2.0.json": squad_json(
                question("q", is_impossible=True, plausible_answers=[{"text": "x"}]),
                question("q", "a", "b.", is_impossible=False),
            )
        }
    )
    assert texts("xfer_squad2.en", "validation") == [(INPUT, "unanswerable"), (INPUT, "a")]
    source = registry.StudySource(catalogue.task("xfer_squad2.en"))
    rows = source.get_dataset("validation", shuffle=False).as_numpy_iterator()
    assert [row["answers"].tolist() for row in rows] == [[b"unanswerable"], [b"a", b"b . "]]


def test_only_an_impossible_question_has_no_answer(folder):
    folder(**{"squad2/train-v2.0.json": squad_json(question("q", is_impossible=False))})
    assert "question q has no answer" in complaint("xfer_squad2.en", "train")


def test_squad_of_tfds(tmp_path):
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
    assert xquad.metric is xquad.family.metric


# -------------------------------------------------------------------------------------------- tags


def test_parts_of_speech(folder):
    # white space within a token, and the joiners of Persian, are left out as XTREME does
    content = "10\u00a0000\tNUM\na fin de\tADP\n\nمی\u200cشود\tVERB\r\n.\tPUNCT\n"
    folder(**{"udpos/test-fa.tsv": content, "udpos/dev-fa.tsv": "#\tSYM"})
    assert texts("xfer_udpos.fa", "test") == [
        ("pos: 10000 afinde", "NUM ADP"),
        ("pos: میشود .", "VERB PUNCT"),
    ]
    assert texts("xfer_udpos.fa", "validation") == [("pos: #", "SYM")]


def test_supertags(folder):
    folder(**{"ccg/train.tsv": "He\tNP\nsaid\t(S[dcl]\\NP)/NP\n\n\nso\tNP\n"})
    assert texts("xfer_ccg.en", "train") == [
        ("ccg: He said", "NP (S[dcl]\\NP)/NP"),
        ("ccg: so", "NP"),
    ]


@pytest.mark.parametrize(
    "line",
    ["the DET", "the", "\tDET", "the\t", "the\tdet", "the\tDT", "the\tDET\tDET", "\u200b\tX"],
)
def test_parts_of_speech_malformed(folder, line):
    folder(**{"udpos/train-en.tsv": f"a\tX\n\n{line}\n"})
    path = folder.path / "udpos/train-en.tsv"
    message = complaint("xfer_udpos.en", "train")
    assert message.startswith(f"{path}, line 3: expected token<TAB>tag with a tag of ADJ, ADP, ")
    kind = {"the DET": "spaces instead of a tab: ", "the\tDET\tDET": "3 columns: "}
    assert message.endswith(f"found {kind.get(line, '')}{line!r}")


def test_supertags_malformed(folder):
    folder(**{"ccg/dev.tsv": "a\tNP\nb\tN P\n"})
    assert complaint("xfer_ccg.en", "validation") == (
        f"{folder.path / 'ccg/dev.tsv'}, line 2: expected token<TAB>tag with a tag without spaces,"
        " found 'b\\tN P'"
    )


def test_parts_of_speech_without_test_labels(folder):
    folder(**{"udpos/test-en.tsv": "the\ncat\n"})
    assert complaint("xfer_udpos.en", "test").startswith(
        f"{folder.path / 'udpos/test-en.tsv'}, line 1: no tag; XTREME removes the test labels"
    )


# ------------------------------------------------------------------------------------------- pairs


def test_paws(folder, tmp_path):
    content = '"He said ""no""."\tHe said  no.\t0\na\tb\t1\n'
    folder(**{"pawsx/dev-de.tsv": content, "pawsx/test-de.tsv": "a\tb\n"})
    assert texts("xfer_pawsx.de", "validation") == [
        ('paws sentence1: He said "no". sentence2: He said  no.', "different_meaning"),
        ("paws sentence1: a sentence2: b", "paraphrase"),
    ]
    assert complaint("xfer_pawsx.de", "test") == (
        f"{folder.path / 'pawsx/test-de.tsv'}, line 1: no label; XTREME removes the test labels,"
        " use validation"
    )
    example = {"sentence1": "a", "sentence2": "b", "label": 1}
    assert of_tfds(catalogue.task("xfer_pawsx.de"), "test", tmp_path, [example]) == [
        ("paws sentence1: a sentence2: b", "paraphrase")
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a\tb", "expected sentence1<TAB>sentence2<TAB>label, found 2 columns"),
        ("a\tb\t1\t1", "expected sentence1<TAB>sentence2<TAB>label, found 4 columns"),
        ("a\tb\tparaphrase", "label 'paraphrase' is not one of 0, 1"),
    ],
)
def test_paws_malformed(folder, line, expected):
    folder(**{"pawsx/train-en.tsv": f"a\tb\t0\n{line}\n"})
    path = folder.path / "pawsx/train-en.tsv"
    assert complaint("xfer_pawsx.en", "train") == f"{path}, line 2: {expected}"


QQP_HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def test_question_pairs(folder, tmp_path):
    # a line of GLUE's that is broken in two, and quotes that are none
    content = QQP_HEADER + '1\t2\t3\t"Why?\tHow?\t0\n4\t5\t6\tWhy\n?\tHow?\t1\n7\t8\t9\ta\tb\t1\n'
    folder(**{"qqp/train.tsv": content})
    assert texts("xfer_qqp.en", "train") == [
        ('qqp question1: "Why? question2: How?', "not_duplicate"),
        ("qqp question1: a question2: b", "duplicate"),
    ]
    example = {"question1": "a", "question2": "b", "label": 1, "idx": 0}
    assert of_tfds(catalogue.task("xfer_qqp.en"), "validation", tmp_path, [example]) == [
        ("qqp question1: a question2: b", "duplicate")
    ]


def test_question_pairs_malformed(folder):
    path = folder.path / "qqp/dev.tsv"
    folder(**{"qqp/dev.tsv": QQP_HEADER + "1\t2\t3\ta\tb\tyes\n"})
    message = f"{path}, line 2: label 'yes' is not one of 0, 1"
    assert complaint("xfer_qqp.en", "validation") == message
    folder(**{"qqp/dev.tsv": "1\t2\t3\ta\tb\t1\n"})
    message = f"{path}, line 1: the header lacks question1, question2, is_duplicate"
    assert complaint("xfer_qqp.en", "validation") == message


def nli(premise: str, hypothesis: str, label: str) -> dict:
    return {"sentence1": premise, "sentence2": hypothesis, "gold_label": label, "genre": "x"}


def anli(premise: str, hypothesis: str, label: str) -> dict:
    return {"uid": "1", "context": premise, "hypothesis": hypothesis, "label": label, "reason": ""}


def test_multinli(folder):
    folder(
        **{
            "mnli/multinli_1.0_train.jsonl": lines(
                nli("A  b.", "c", "neutral"), nli("x", "y", "-"), nli("d", "e", "contradiction")
            ),
            "mnli/multinli_1.0_dev_matched.jsonl": lines(nli("f", "g", "entailment")),
        }
    )
    assert texts("xfer_mnli.en", "train") == [
        ("xnli: premise: A  b. hypothesis: c", "1"),
        ("xnli: premise: d hypothesis: e", "2"),
    ]
    assert texts("xfer_mnli.en", "validation") == [("xnli: premise: f hypothesis: g", "0")]


ANLI = {
    "anli/R1/train.jsonl": lines(anli("r1", "h", "e")),
    "anli/R2/train.jsonl": lines(anli("r2", "h", "n")),
    "anli/R3/train.jsonl": lines(anli("r3", "h", "c")),
    "mnli/multinli_1.0_train.jsonl": lines(nli("m", "h", "neutral")),
    "snli/snli_1.0_train.jsonl": lines(nli("x", "h", "-"), nli("s", "h", "entailment")),
    "anli/R1/dev.jsonl": lines(anli("d1", "h", "e")),
    "anli/R2/dev.jsonl": lines(anli("d2", "h", "e"), anli("d2", "i", "n")),
    "anli/R3/dev.jsonl": lines(anli("d3", "h", "c")),
}


def test_anli_is_trained_on_five_files(folder):
    folder(**ANLI)
    assert texts("xfer_anli.en", "train") == [
        (f"xnli: premise: {premise} hypothesis: h", label)
        for premise, label in (("r1", "0"), ("r2", "1"), ("r3", "2"), ("m", "1"), ("s", "0"))
    ]
    assert [inputs[15:] for inputs, _ in texts("xfer_anli.en", "validation")] == [
        "d1 hypothesis: h",
        "d2 hypothesis: h",
        "d2 hypothesis: i",
        "d3 hypothesis: h",
    ]
    assert len(texts("xfer_anli.en.n3.s0", "train")) == 3


def test_each_of_anlis_files_counts(folder):
    task = catalogue.task("xfer_anli.en")
    folder(**ANLI)
    before = raw_data.origin(task, "train", data_config.configured())
    folder(**{"snli/snli_1.0_train.jsonl": lines(nli("t", "h", "entailment"))})
    assert raw_data.origin(task, "train", data_config.configured()) != before
    (folder.path / "anli/R2/train.jsonl").unlink()
    assert complaint("xfer_anli.en", "train").startswith(
        f"xfer_anli.en (train) needs anli/R2/train.jsonl in {folder.path}"
    )


def test_anlis_origin_in_tfds_names_all_parts(monkeypatch):
    monkeypatch.delenv("XFER_DATA_DIR", raising=False)
    task = catalogue.task("xfer_anli.en")
    assert raw_data.origin(task, "validation", data_config.configured()) == (
        "anli/r1:0.1.0/validation+anli/r2:0.1.0/validation+anli/r3:0.1.0/validation"
    )


def test_anlis_parts_of_tfds(tmp_path):
    *rounds, mnli, snli = raw_data.parts(catalogue.task("xfer_anli.en"), "train")
    example = {"uid": "1", "context": "p", "hypothesis": "h", "label": "c"}
    for task in rounds:
        assert of_tfds(task, "train", tmp_path, [example]) == [
            ("xnli: premise: p hypothesis: h", "2")
        ]
    unlabelled, labelled = ({"premise": "p", "hypothesis": "h", "label": i} for i in (-1, 1))
    expected = [("xnli: premise: p hypothesis: h", "1")]
    assert of_tfds(snli, "train", tmp_path, [unlabelled, labelled]) == expected
    assert of_tfds(mnli, "train", tmp_path, [labelled]) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"context": "p", "hypothesis": "h", "label": "x"}, "label 'x' is not one of e, n, c"),
        ({"context": "p", "label": "e"}, "expected text in the field 'hypothesis', found None"),
        ({"context": "p", "hypothesis": "h"}, "expected text in the field 'label', found None"),
        (["p"], "expected a JSON object, found '[\"p\"]'"),
    ],
)
def test_anli_malformed(folder, record, expected):
    folder(**ANLI | {"anli/R3/dev.jsonl": lines(anli("p", "h", "e"), record)})
    path = folder.path / "anli/R3/dev.jsonl"
    assert complaint("xfer_anli.en", "validation") == f"{path}, line 2: {expected}"


def test_multinli_malformed(folder):
    path = folder.path / "mnli/multinli_1.0_train.jsonl"
    folder(**{"mnli/multinli_1.0_train.jsonl": '{"a"\n'})
    assert complaint("xfer_mnli.en", "train").startswith(f"{path}, line 1: not JSON (")
    folder(**{"mnli/multinli_1.0_train.jsonl": lines(nli("a", "b", "maybe"))})
    assert complaint("xfer_mnli.en", "train").startswith(f"{path}, line 1: label 'maybe' is not")


# --------------------------------------------------------------------------------- multiple choice

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
def test_choices(folder, name):
    split, path, record, expected = CHOICES[name]
    folder(**{path: lines(record, record)})
    assert texts(name, split) == [expected] * 2


def test_cosmos_qa_as_a_table(folder):
    header = "id,context,question,answer0,answer1,answer2,answer3,label\n"
    folder(**{"cosmosqa/train.csv": header + '1,"a, ""b""\nc",Q?,x,y,z,w,0\n'})
    assert texts("xfer_cosmosqa.en", "train") == [
        (
            'cosmosqa: context: a, "b"\nc question: Q? choice1: x choice2: y choice3: z choice4: w',
            "choice1",
        )
    ]
    folder(**{"cosmosqa/train.csv": header + "1,a,Q?,x,y,z,w,0\n2,a,Q?,x,y,z,w,4\n"})
    assert complaint("xfer_cosmosqa.en", "train") == (
        f"{folder.path / 'cosmosqa/train.csv'}, line 3: label '4' is not one of 0, 1, 2, 3"
    )


def test_choices_of_tfds(tmp_path):
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
def test_choices_malformed(folder, name, change, expected):
    split, path, record, _ = CHOICES[name]
    folder(**{path: lines(record, record | change)})
    assert complaint(name, split) == f"{folder.path / path}, line 2: {expected}"


def test_xcopa_without_test_labels(folder):
    folder(**{"xcopa/test-sw.jsonl": lines(COPA | {"label": 0}, COPA | {"label": 0})})
    assert complaint("xfer_xcopa.sw", "test") == (
        f"{folder.path / 'xcopa/test-sw.jsonl'}: all labels are 0; XTREME removes the test labels,"
        " use XCOPA's original files"
    )
    folder(**{"xcopa/test-sw.jsonl": lines(COPA, COPA | {"label": 0})})
    assert [target for _, target in texts("xfer_xcopa.sw", "test")] == ["choice2", "choice1"]


@pytest.mark.parametrize(("language", "split"), [("sw", "train"), ("en", "test")])
def test_xcopa_has_not_every_split(folder, language, split):
    assert folder  # set
    assert complaint(f"xfer_xcopa.{language}", split).startswith(
        f"xfer_xcopa.{language} has no data for {split}: "
    )


# ------------------------------------------------------------------------------ what all have

FAMILIES = (*squad.FAMILIES, *tagging.FAMILIES, *pairs.FAMILIES, *choice.FAMILIES)
PLAIN = {
    "squad": ("question: q ? context: a . b", "a . b"),
    "udpos": ("pos: pos: a b", "pos: a b"),
    "ccg": ("ccg: a b", "a b"),
    "pawsx": ("paws sentence1: a sentence2: b", "a b"),
    "qqp": ("qqp question1: a question2: b", "a b"),
    "anli": ("xnli: premise: a hypothesis: b", "a b"),
    "xcopa": (CHOICES["xfer_xcopa.sw"][-1][0], "P. A B"),
    "siqa": (CHOICES["xfer_siqa.en"][-1][0], "C. Q? a b c"),
    "hellaswag": (CHOICES["xfer_hellaswag.en"][-1][0], "C he a b c d"),
    "commonsenseqa": (CHOICES["xfer_commonsenseqa.en"][-1][0], "Q? a b c d e"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_text(name):
    inputs, expected = PLAIN[name]
    plain_text = catalogue.families()[name].plain_text
    assert plain_text is not None
    assert plain_text(inputs) == expected


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_labels_are_scored(family):
    for language in (family.languages[0], family.languages[-1]):
        task = catalogue.task(f"xfer_{family.name}.{language}")
        target = family.labels[0] if family.labels else "NOUN"
        references = [[target]] if family.answers_field else [target]
        for output, expected in ((target, 100), ("?", 0)):
            scores = task.metric(references, [output])
            assert family.percent * scores[family.score] == expected
            strict = family.strict_metric(["x"], references, [output], language)
            assert expected in strict.values()
            assert not set(strict) & set(scores)


def test_what_tfds_lacks_is_said(monkeypatch):
    monkeypatch.delenv("XFER_DATA_DIR", raising=False)
    assert complaint("xfer_ccg.en", "train") == (
        "xfer_ccg.en (train) is not in TFDS and needs ccg/train.tsv in the folder XFER_DATA_DIR,"
        " which is not set: CCGbank needs a licence of the Linguistic Data Consortium, make"
        " token<TAB>supertag lines from your copy"
    )
    assert "siqa/socialIQa_v1.4_dev.jsonl" in complaint("xfer_siqa.en", "validation")


def test_a_missing_file_is_named_with_what_to_do(folder):
    assert complaint("xfer_hellaswag.en", "train") == (
        "xfer_hellaswag.en (train) needs hellaswag/hellaswag_train.jsonl in"
        f" {folder.path}, which is missing: put HellaSwag's files there, or unset XFER_DATA_DIR"
        " to read TFDS hellaswag:1.1.0 (train)"
    )
    assert data_config.configured().data_dir == folder.path


def test_files_are_read_without_tensorflow(folder):
    for _, path, record, _ in CHOICES.values():
        folder(**{path: lines(record)})
    folder(**ANLI)
    code = (
        "import sys; from seqio_tasks import catalogue, data_config, raw_data\n"
        "folder = data_config.configured().data_dir\n"
        "for name, split in (('xfer_anli.en', 'train'), ('xfer_siqa.en', 'train')):\n"
        "    for part in raw_data.parts(catalogue.task(name), split):\n"
        "        assert list(raw_data.read(part, split, folder))\n"
        "print([m for m in ('tensorflow', 'seqio', 'jax') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
