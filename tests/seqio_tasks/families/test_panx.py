"""PAN-X: files and TFDS-shaped examples give the mT5 release's texts, and bad lines are named."""

import random

import pytest
from tensorflow_datasets.text.wikiann import wikiann

from seqio_tasks import catalogue
from seqio_tasks.families import panx
from tests.support.files import write
from tests.support.tasks import complaint, of_tfds, read


def test_panx_keeps_arabic_vowel_marks(texts):
    content = (
        "و\u064fل\u0650د\u064e\tO\n"
        "م\u064fح\u064eم\u0651\u064eد\tB-PER\n"
        "ع\u064eل\u0650ي\u0651\tI-PER\n"
        "في\tO\n"
        "القاهرة\tB-LOC\n"
        ".\tO\n"
        "\n"
    )
    assert texts("xfer_panx.ar", "train", "panx/train-ar.tsv", content) == [
        (
            "tag: و\u064fل\u0650د\u064e م\u064fح\u064eم\u0651\u064eد"
            " ع\u064eل\u0650ي\u0651 في القاهرة .",
            "PER: م\u064fح\u064eم\u0651\u064eد ع\u064eل\u0650ي\u0651 $$ LOC: القاهرة",
        )
    ]


def test_panx_keeps_hindi_marks_as_they_are_encoded(texts):
    # qa with nukta: one code point in one token, two in the other
    content = (
        "\u0958\u0941तुब\tB-PER\n\u0915\u093cिला\tI-PER\n"
        "हावड\u093cा\tB-ORG\nजंक्शन\tI-ORG\nमें\tO\n।\tO\n"
    )
    assert texts("xfer_panx.hi", "validation", "panx/dev-hi.tsv", content) == [
        (
            "tag: \u0958\u0941तुब \u0915\u093cिला हावड\u093cा जंक्शन में ।",
            "PER: \u0958\u0941तुब \u0915\u093cिला $$ ORG: हावड\u093cा जंक्शन",
        )
    ]


def test_entities_are_written_as_the_tags_stand(texts):
    content = (
        "rick\tB-PER\nmorty\tB-PER\nkwa\tO\nParis\tB-LOC\n"
        "\n"
        "hakuna\tO\nkitu\tO\n"
        "\n\n\n"
        "Star\tB-ORG\nTrek:\tI-ORG\nPicard\tI-ORG\n$$\tO\n:\tB-LOC\n"
        "\n"
        # as the tags stand: an I- without its B-, and one of another type than what it follows
        "New\tI-LOC\nYork\tI-LOC\nTimes\tI-ORG\nna\tO\nTimes\tI-ORG\n"
        "\n"
        "mwisho\tO"
    )
    assert texts("xfer_panx.sw", "train", "panx/train-sw.tsv", content) == [
        ("tag: rick morty kwa Paris", "PER: rick $$ PER: morty $$ LOC: Paris"),
        ("tag: hakuna kitu", ""),
        ("tag: Star Trek: Picard $$ :", "ORG: Star Trek: Picard $$ LOC: :"),
        ("tag: New York Times na Times", "LOC: New York $$ ORG: Times $$ ORG: Times"),
        ("tag: mwisho", ""),
    ]


def test_panx_line_ends_may_be_those_of_windows(texts):
    content = "rick\tB-PER\r\nsema\tO\r\n\r\nmorty\tB-PER\r\n"
    assert texts("xfer_panx.sw", "test", "panx/test-sw.tsv", content) == [
        ("tag: rick sema", "PER: rick"),
        ("tag: morty", "PER: morty"),
    ]


def test_panx_spans_are_those_of_tfds():
    rng = random.Random(0)
    for _ in range(3000):
        tags = [rng.choice(panx.TAGS) for _ in range(rng.randint(1, 9))]
        tokens = [f"w{i}" for i in range(len(tags))]
        expected = wikiann.get_spans(tokens, tags)
        assert panx.spans(tokens, tags) == (expected if expected != ["None"] else []), tags


def wikiann_example(tokens: list[str], tags: list[str]) -> dict:
    return {
        "tokens": tokens,
        "tags": tags,
        "langs": ["sw"] * len(tokens),
        "spans": wikiann.get_spans(tokens, tags),
    }


def test_panx_of_tfds_gives_the_same_texts(tmp_path):
    tags = ["B-PER", "B-PER", "I-PER", "O"]
    example = wikiann_example(["rick", "morty", "smith", "."], tags)
    assert of_tfds(catalogue.task("xfer_panx.sw"), "train", tmp_path, [example]) == [
        ("tag: rick morty smith .", "PER: rick $$ PER: morty smith")
    ]


def test_a_sentence_without_entities_is_the_same_from_files_and_from_tfds(tmp_path, texts):
    (from_file,) = texts("xfer_panx.sw", "train", "panx/train-sw.tsv", "hakuna\tO\n")
    example = wikiann_example(["hakuna"], ["O"])
    assert of_tfds(catalogue.task("xfer_panx.sw"), "train", tmp_path, [example]) == [from_file]


@pytest.mark.parametrize(
    "line",
    [
        "rick B-PER",
        "rick",
        "\tO",
        "rick\t",
        "rick\tB-per",
        "rick\tB-MISC",
        "rick\tPER",
        "rick\tB-PER\tO",
        "rick\t B-PER",
    ],
)
def test_a_malformed_line_is_named(folder, line):
    path = write(folder / "panx/dev-en.tsv", f"ok\tO\n\n{line}\nok\tO\n")
    message = complaint("xfer_panx.en", "validation")
    assert message.startswith(f"{path}, line 3: expected token<TAB>tag with a tag of O, B-PER, ")
    kind = {"rick B-PER": "spaces instead of a tab: ", "rick\tB-PER\tO": "3 columns: "}
    assert message.endswith(f"found {kind.get(line, '')}{line!r}")


RAW = "en:Ada\tB-PER\nen:Byron\tI-PER\nen:at\tO\nen:12:30\tO\nen::\tO\n\nen:b:c\tB-LOC\n"


def test_wikianns_own_files_have_the_language_before_every_token(folder):
    write(folder / "panx/dev-en.tsv", RAW)
    first, second = read("xfer_panx.en", "validation")
    assert first["tokens"] == ["Ada", "Byron", "at", "12:30", ":"]
    assert (first["spans"], second["spans"]) == (["PER: Ada Byron"], ["LOC: b:c"])
    metric = catalogue.task("xfer_panx.en").metric
    targets = [" $$ ".join(example["spans"]) for example in (first, second)]
    assert metric(targets, targets)["span_f1"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("token", ["12:30", "a:b", "en:Ada", "en:"])
def test_tokens_with_a_colon_are_what_they_are(folder, token):
    write(folder / "panx/dev-en.tsv", f"{token}\tB-PER\nAda\tO\n")
    assert read("xfer_panx.en", "validation")[0]["tokens"] == [token, "Ada"]
    write(folder / "panx/dev-en.tsv", "a:b\tO\n\na:c\tB-PER\n")  # of no language's name
    assert read("xfer_panx.en", "validation")[1]["tokens"] == ["a:c"]


def test_wikianns_own_file_of_another_language_is_refused(folder):
    path = write(folder / "panx/dev-en.tsv", "de:Ada\tB-PER\nde:12:30\tO\n")
    assert complaint("xfer_panx.en", "validation") == (
        f"{path}: its tokens begin with de: and are in that language, not in en"
    )
    write(path, "en:Ada\tO\n\nen:\tO\n")
    assert complaint("xfer_panx.en", "validation") == (
        f"{path}, sentence 2: a token that is empty after en:"
    )


def test_panx_without_test_labels_is_refused(folder):
    path = write(folder / "panx/test-en.tsv", "rick\nsaid\n")
    assert complaint("xfer_panx.en", "test") == (
        f"{path}, line 1: no tag; XTREME removes the test labels, use validation"
    )


def test_a_long_line_is_quoted_in_part(folder):
    write(folder / "panx/dev-en.tsv", "x" * 10_000)
    assert len(complaint("xfer_panx.en", "validation")) < 300 + len(str(folder))
