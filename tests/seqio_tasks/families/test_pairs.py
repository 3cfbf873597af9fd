"""Pairs of sentences: texts to the byte, and malformed files."""

import pytest

from seqio_tasks import catalogue, data_config, raw_data, registry
from tests.support.files import fill, lines
from tests.support.tasks import complaint, of_tfds, texts


def test_paws_is_written_out_to_the_byte(folder, tmp_path):
    content = '"He said ""no""."\tHe said  no.\t0\na\tb\t1\n'
    fill(folder, {"pawsx/dev-de.tsv": content, "pawsx/test-de.tsv": "a\tb\n"})
    assert texts("xfer_pawsx.de", "validation") == [
        ('paws sentence1: He said "no". sentence2: He said  no.', "different_meaning"),
        ("paws sentence1: a sentence2: b", "paraphrase"),
    ]
    assert complaint("xfer_pawsx.de", "test") == (
        f"{folder / 'pawsx/test-de.tsv'}, line 1: no label; XTREME removes the test labels,"
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
def test_malformed_paws_is_named(folder, line, expected):
    fill(folder, {"pawsx/train-en.tsv": f"a\tb\t0\n{line}\n"})
    path = folder / "pawsx/train-en.tsv"
    assert complaint("xfer_pawsx.en", "train") == f"{path}, line 2: {expected}"


QQP_HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def test_question_pairs_are_written_out_to_the_byte(folder, tmp_path):
    # a line of GLUE's that is broken in two, and quotes that are none
    content = QQP_HEADER + '1\t2\t3\t"Why?\tHow?\t0\n4\t5\t6\tWhy\n?\tHow?\t1\n7\t8\t9\ta\tb\t1\n'
    fill(folder, {"qqp/train.tsv": content})
    assert texts("xfer_qqp.en", "train") == [
        ('qqp question1: "Why? question2: How?', "not_duplicate"),
        ("qqp question1: a question2: b", "duplicate"),
    ]
    example = {"question1": "a", "question2": "b", "label": 1, "idx": 0}
    assert of_tfds(catalogue.task("xfer_qqp.en"), "validation", tmp_path, [example]) == [
        ("qqp question1: a question2: b", "duplicate")
    ]


def test_malformed_question_pairs_are_named(folder):
    path = folder / "qqp/dev.tsv"
    fill(folder, {"qqp/dev.tsv": QQP_HEADER + "1\t2\t3\ta\tb\tyes\n"})
    message = f"{path}, line 2: label 'yes' is not one of 0, 1"
    assert complaint("xfer_qqp.en", "validation") == message
    fill(folder, {"qqp/dev.tsv": "1\t2\t3\ta\tb\t1\n"})
    message = f"{path}, line 1: the header lacks question1, question2, is_duplicate"
    assert complaint("xfer_qqp.en", "validation") == message


def nli(premise: str, hypothesis: str, label: str) -> dict:
    return {"sentence1": premise, "sentence2": hypothesis, "gold_label": label, "genre": "x"}


def anli(premise: str, hypothesis: str, label: str) -> dict:
    return {"uid": "1", "context": premise, "hypothesis": hypothesis, "label": label, "reason": ""}


def test_multinli_leaves_out_what_has_no_label(folder):
    fill(
        folder,
        {
            "mnli/multinli_1.0_train.jsonl": lines(
                nli("A  b.", "c", "neutral"), nli("x", "y", "-"), nli("d", "e", "contradiction")
            ),
            "mnli/multinli_1.0_dev_matched.jsonl": lines(nli("f", "g", "entailment")),
        },
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


@pytest.mark.slow
def test_anli_is_trained_on_five_files(folder):
    fill(folder, ANLI)
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


def test_the_probe_of_anli_masks_its_texts(folder):
    fill(folder, ANLI)
    source = registry.StudySource(catalogue.task("xfer_probe.anli.en"))
    rows = source.get_dataset("train", shuffle=False).as_numpy_iterator()
    plain_text = catalogue.families()["anli"].format.plain_text
    expected = [plain_text(inputs) for inputs, _ in texts("xfer_anli.en", "train")]
    assert [row["targets"].decode() for row in rows] == expected


def test_each_of_anlis_files_counts(folder):
    task = catalogue.task("xfer_anli.en")
    fill(folder, ANLI)
    before = raw_data.origin(task, "train", data_config.configured())
    fill(folder, {"snli/snli_1.0_train.jsonl": lines(nli("t", "h", "entailment"))})
    assert raw_data.origin(task, "train", data_config.configured()) != before
    (folder / "anli/R2/train.jsonl").unlink()
    assert complaint("xfer_anli.en", "train").startswith(
        f"xfer_anli.en (train) needs anli/R2/train.jsonl in {folder}"
    )


def test_anlis_origin_in_tfds_names_all_parts(monkeypatch):
    monkeypatch.delenv("XFER_DATA_DIR", raising=False)
    task = catalogue.task("xfer_anli.en")
    assert raw_data.origin(task, "validation", data_config.configured()) == (
        "anli/r1:0.1.0/validation+anli/r2:0.1.0/validation+anli/r3:0.1.0/validation"
    )


def test_anlis_parts_of_tfds_give_the_same_texts(tmp_path):
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
def test_malformed_anli_is_named(folder, record, expected):
    fill(folder, ANLI | {"anli/R3/dev.jsonl": lines(anli("p", "h", "e"), record)})
    path = folder / "anli/R3/dev.jsonl"
    assert complaint("xfer_anli.en", "validation") == f"{path}, line 2: {expected}"


def test_malformed_multinli_is_named(folder):
    path = folder / "mnli/multinli_1.0_train.jsonl"
    fill(folder, {"mnli/multinli_1.0_train.jsonl": '{"a"\n'})
    assert complaint("xfer_mnli.en", "train").startswith(f"{path}, line 1: not JSON (")
    fill(folder, {"mnli/multinli_1.0_train.jsonl": lines(nli("a", "b", "maybe"))})
    assert complaint("xfer_mnli.en", "train").startswith(f"{path}, line 1: label 'maybe' is not")
