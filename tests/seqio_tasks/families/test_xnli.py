"""XNLI: files and TFDS-shaped examples give the mT5 release's texts, and bad lines are named."""

import csv
import io
import random

import pytest

from seqio_tasks import catalogue
from tests.support.files import write
from tests.support.tasks import complaint, of_tfds

XNLI_COLUMNS = (
    *("language", "gold_label", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
    *("promptID", "pairID", "genre", "label1", "label2", "label3", "label4", "label5"),
    *("sentence1_tokenized", "sentence2_tokenized", "match"),
)


def xnli_line(language: str, label: str, premise: str, hypothesis: str) -> str:
    filled = {"language": language, "gold_label": label, "genre": "face to face"}
    filled |= {"sentence1": premise, "sentence2": hypothesis}
    return "\t".join(filled.get(column, "") for column in XNLI_COLUMNS) + "\n"


def test_xnli_of_19_columns_is_read_by_its_header(texts):
    content = "\t".join(XNLI_COLUMNS) + "\n"
    content += xnli_line("de", "neutral", 'Er  sagte, "Mama".', '" Er rief an.')
    content += xnli_line("en", "neutral", "And he said.", "He called.")
    content += xnli_line("de", "contradiction", "Fran\u00e7ois ging .", "")
    content += xnli_line("de", "entailment", " vorn und hinten ", "ein\u00a0Raum")
    assert texts("xfer_xnli.de", "validation", "xnli/xnli.dev.tsv", content) == [
        ('xnli: premise: Er  sagte, "Mama". hypothesis: " Er rief an.', "1"),
        ("xnli: premise: Fran\u00e7ois ging . hypothesis: ", "2"),
        ("xnli: premise:  vorn und hinten  hypothesis: ein\u00a0Raum", "0"),
    ]
    assert texts("xfer_xnli.en", "test", "xnli/xnli.test.tsv", content) == [
        ("xnli: premise: And he said. hypothesis: He called.", "1")
    ]


def test_xnli_of_xtremes_three_columns_is_quoted_as_in_csv(texts):
    content = (
        'He said, ""no"".\tplain\tneutral\r\n'  # quotes inside a field that is not quoted
        '"""Hm,"" he  said."\tHe\'s   here.\tentailment\r\n'
        '"a ""tab"""\t" b "\tcontradictory\r\n'
    )
    assert texts("xfer_xnli.en", "train", "xnli/train-en.tsv", content) == [
        ('xnli: premise: He said, ""no"". hypothesis: plain', "1"),
        ('xnli: premise: "Hm," he  said. hypothesis: He\'s   here.', "0"),
        ('xnli: premise: a "tab" hypothesis:  b ', "2"),
    ]


def test_xnli_reads_what_xtreme_writes(texts):
    rng = random.Random(1)
    rows = [
        ("".join(rng.choices("ab \"',:ي", k=8)), "".join(rng.choices('ab "', k=5)), label)
        for label in ("entailment", "neutral", "contradiction") * 20
    ]
    file = io.StringIO()
    csv.writer(file, delimiter="\t").writerows(rows)
    assert texts("xfer_xnli.ar", "validation", "xnli/dev-ar.tsv", file.getvalue()) == [
        (f"xnli: premise: {premise} hypothesis: {hypothesis}", str(i % 3))
        for i, (premise, hypothesis, _) in enumerate(rows)
    ]


def test_xnli_training_translations_have_a_header(texts):
    content = "premise\thypo\tlabel\nEr ging .\tEr  kam .\tcontradictory\n"
    assert texts("xfer_xnli.de", "train", "xnli/multinli.train.de.tsv", content) == [
        ("xnli: premise: Er ging . hypothesis: Er  kam .", "2")
    ]


def test_xnli_training_translations_are_not_quoted(texts):
    content = 'premise\thypo\tlabel\n"Ja", sagte er .\tEr  kam .\tneutral\n" Nein .\tx\tneutral\n'
    assert texts("xfer_xnli.de", "train", "xnli/multinli.train.de.tsv", content) == [
        ('xnli: premise: "Ja", sagte er . hypothesis: Er  kam .', "1"),
        ('xnli: premise: " Nein . hypothesis: x', "1"),
    ]


def test_xnli_of_tfds_takes_the_languages_own_texts(tmp_path):
    languages = catalogue.families()["xnli"].languages
    example = {
        "premise": {code: f"Premise  in {code}." for code in languages},
        # a list of translations in the example: which place a language has depends on the others
        "hypothesis": {code: f"Hypothesis in {code}" for code in reversed(languages)},
        "label": "contradiction",
    }
    for language, split in (("en", "validation"), ("sw", "test"), ("zh", "train")):
        assert of_tfds(catalogue.task(f"xfer_xnli.{language}"), split, tmp_path, [example]) == [
            (
                f"xnli: premise: Premise  in {language}. hypothesis: Hypothesis in {language}",
                "2",
            )
        ]


def test_english_xnli_trains_on_multinli_of_tfds(tmp_path):
    example = {"premise": 'One "a" .', "hypothesis": "two", "label": "neutral"}
    assert of_tfds(catalogue.task("xfer_xnli.en"), "train", tmp_path, [example]) == [
        ('xnli: premise: One "a" . hypothesis: two', "1")
    ]


@pytest.mark.parametrize("label", ["neutrale", "", "-", "Neutral", "0", "x" * 1000])
def test_a_label_that_is_none_is_named(folder, label):
    path = write(folder / "xnli/train-en.tsv", f"a\tb\tneutral\na\tb\t{label}\n")
    assert complaint("xfer_xnli.en", "train") == (
        f"{path}, line 2: label {label[:40]!r} is not one of entailment, neutral, contradiction"
    )


@pytest.mark.parametrize(
    ("line", "found"), [("a\tb", 2), ("a", 1), ("", 0), ("a\tb\tc\tneutral", 4), ("a b neutral", 1)]
)
def test_a_wrong_number_of_columns_is_named(folder, line, found):
    path = write(folder / "xnli/dev-en.tsv", f"a\tb\tneutral\n{line}\n")
    assert complaint("xfer_xnli.en", "validation") == (
        f"{path}, line 2: expected premise<TAB>hypothesis<TAB>label, found {found} columns"
    )


HEADER = "language\tgold_label\tsentence1\tsentence2\tpairID\n"


def test_a_wrong_number_of_columns_under_a_header_is_named(folder):
    # the last column may be missing, since nobody reads it
    content = f"{HEADER}en\tneutral\ta\tb\nde\tneutral\ta\n"
    path = write(folder / "xnli/xnli.dev.tsv", content)
    assert complaint("xfer_xnli.en", "validation") == (
        f"{path}, line 3: expected 5 columns, found 3"
    )


def test_a_label_that_is_none_under_a_header_is_named(folder):
    path = write(folder / "xnli/xnli.test.tsv", f"{HEADER}de\t?\ta\tb\t1\nen\t-\ta\tb\t1\n")
    assert complaint("xfer_xnli.en", "test").startswith(f"{path}, line 3: label '-' is not one of")


def test_a_language_that_is_not_in_the_file_is_named(folder):
    path = write(folder / "xnli/xnli.dev.tsv", f"{HEADER}en\tneutral\ta\tb\t1\n")
    assert complaint("xfer_xnli.th", "validation") == f"{path} has no line in language 'th'"
    write(path, HEADER)
    assert complaint("xfer_xnli.en", "validation") == f"{path} has no line in language 'en'"


def test_a_line_with_a_return_in_its_midst_is_refused(folder):
    path = write(folder / "xnli/train-en.tsv", "a\rb\tc\tneutral\n")
    assert complaint("xfer_xnli.en", "train").startswith(f"{path}, line 1")
