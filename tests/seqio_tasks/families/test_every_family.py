"""What every family has: plain text, scores of its labels, and words for what is missing."""

import subprocess
import sys

import pytest

from seqio_tasks import catalogue, data_config
from seqio_tasks.families import choice, pairs, squad, tagging
from tests.support.files import fill, lines
from tests.support.tasks import complaint

FAMILIES = (*squad.FAMILIES, *tagging.FAMILIES, *pairs.FAMILIES, *choice.FAMILIES)


PLAIN = {
    "squad": ("question: q ? context: a . b", "a . b"),
    "udpos": ("pos: pos: a b", "pos: a b"),
    "ccg": ("ccg: a b", "a b"),
    "pawsx": ("paws sentence1: a sentence2: b", "a b"),
    "qqp": ("qqp question1: a question2: b", "a b"),
    "anli": ("xnli: premise: a hypothesis: b", "a b"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_text_is_the_inputs_without_the_formats_words(name):
    inputs, expected = PLAIN[name]
    plain_text = catalogue.families()[name].format.plain_text
    assert plain_text is not None
    assert plain_text(inputs) == expected


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_labels_are_scored(family):
    for language in (family.languages[0], family.languages[-1]):
        task = catalogue.task(f"xfer_{family.name}.{language}")
        target = family.format.labels[0] if family.format.labels else "NOUN"
        references = [[target]] if family.format.answers_field else [target]
        for output, expected in ((target, 100), ("?", 0)):
            scores = task.metric(references, [output])
            assert family.scoring.percent * scores[family.scoring.score] == expected
            strict = family.scoring.strict_metric(["x"], references, [output], language)
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
        f" {folder}, which is missing: put HellaSwag's files there, or unset XFER_DATA_DIR"
        " to read TFDS hellaswag:1.1.0 (train)"
    )
    assert data_config.configured().data_dir == folder


def test_files_are_read_without_tensorflow(folder):
    nli = lines({"sentence1": "m", "sentence2": "h", "gold_label": "neutral"})
    anli = lines({"context": "r", "hypothesis": "h", "label": "e"})
    fill(folder, {f"anli/R{i}/train.jsonl": anli for i in (1, 2, 3)})
    fill(folder, {"mnli/multinli_1.0_train.jsonl": nli, "snli/snli_1.0_train.jsonl": nli})
    siqa = {"context": "C.", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c"}
    fill(folder, {"siqa/socialIQa_v1.4_trn.jsonl": lines(siqa | {"correct": "B"})})
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
