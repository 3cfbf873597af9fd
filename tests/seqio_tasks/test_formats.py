"""Text formats: files and TFDS-shaped examples give the mT5 release's texts, to the byte."""

import csv
import functools
import io
import json
import random
import unicodedata

import pytest
import regex
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.text.wikiann import wikiann

from seqio_tasks import catalogue, data_config, registry, sentencepiece_model, vocabulary
from seqio_tasks.families import panx, tydiqa
from seqio_tasks.records import Family


@pytest.fixture(scope="module")
def vocabulary_file(tmp_path_factory):
    texts = ["tag: xnli: premise: hypothesis: question: context: $$ PER ORG LOC 0 1 2 a b c"] * 9
    path = tmp_path_factory.mktemp("formats") / "small.model"
    return str(sentencepiece_model.train(texts, 140, path, exact=False))


@pytest.fixture
def texts(tmp_path, monkeypatch, vocabulary_file):
    """Returns what a task makes of a file's text: a list of (inputs, targets)."""
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))

    def of(name: str, split: str, path: str, content: str) -> list[tuple[str, str]]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content.encode())
        loaded = vocabulary.load(vocabulary_file)
        pairs = []
        config = data_config.configured(vocabulary_file=vocabulary_file)
        for example in registry.tokenised(catalogue.task(name), split, config):
            pair = tuple(example[f"{f}_pretokenized"].decode() for f in ("inputs", "targets"))
            ids = tuple(example[feature].tolist() for feature in ("inputs", "targets"))
            assert ids == tuple(map(loaded.encode, pair))
            pairs.append(pair)
        return pairs

    return of


def tfds_texts(family: str, language: str, split: str, tmp_path, examples: list[dict]):
    """Returns the (inputs, targets) of examples that went through the TFDS source's features."""
    source = catalogue.families()[family]
    found = source.tfds(language, split)
    assert found is not None
    features = tfds.builder(found[0], data_dir=tmp_path).info.features
    return preprocessed(source, features, language, examples)


def preprocessed(family: Family, features, language: str, examples: list[dict]):
    records = [features.serialize_example(example) for example in examples]
    dataset = tf.data.Dataset.from_tensor_slices(records).map(features.deserialize_example)
    rows = family.preprocess(dataset, language).as_numpy_iterator()
    return [(row["inputs"].decode(), row["targets"].decode()) for row in rows]


# ------------------------------------------------------------------------------------------- PAN-X


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


def test_panx_entities(texts):
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


def test_panx_of_tfds(tmp_path):
    tags = ["B-PER", "B-PER", "I-PER", "O"]
    example = wikiann_example(["rick", "morty", "smith", "."], tags)
    assert tfds_texts("panx", "sw", "train", tmp_path, [example]) == [
        ("tag: rick morty smith .", "PER: rick $$ PER: morty smith")
    ]


# -------------------------------------------------------------------------------------------- XNLI

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


def test_xnli_of_19_columns(texts):
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


def test_xnli_of_xtreme_three_columns(texts):
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


def test_xnli_of_tfds(tmp_path):
    languages = catalogue.families()["xnli"].languages
    example = {
        "premise": {code: f"Premise  in {code}." for code in languages},
        # a list of translations in the example: which place a language has depends on the others
        "hypothesis": {code: f"Hypothesis in {code}" for code in reversed(languages)},
        "label": "contradiction",
    }
    for language, split in (("en", "validation"), ("sw", "test"), ("zh", "train")):
        assert tfds_texts("xnli", language, split, tmp_path, [example]) == [
            (
                f"xnli: premise: Premise  in {language}. hypothesis: Hypothesis in {language}",
                "2",
            )
        ]


def test_english_xnli_trains_on_multinli_of_tfds(tmp_path):
    example = {"premise": 'One "a" .', "hypothesis": "two", "label": "neutral"}
    assert tfds_texts("xnli", "en", "train", tmp_path, [example]) == [
        ('xnli: premise: One "a" . hypothesis: two', "1")
    ]


# ------------------------------------------------------------------------------------------ TyDiQA


def squad_json(*questions: tuple[str, str, list[str]]) -> str:
    articles = [
        {
            "paragraphs": [
                {
                    "context": context,
                    "qas": [
                        {
                            "id": f"{i}-1",
                            "question": question,
                            "answers": [{"text": text, "answer_start": 0} for text in answers],
                        }
                    ],
                }
            ]
        }
        for i, (question, context, answers) in enumerate(questions)
    ]
    return json.dumps({"version": "v1.1", "data": articles})


BENGALI_DEV = "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.bn.dev.json"


def test_tydiqa_pads_punctuation(texts):
    content = squad_json(
        ("Who's a_b?", 'He said: "1,000.5"\n\n\tand left.', ["a."]),
        ("Fran\u00e7ois, Franc\u0327ois", "(ok) $5+6=11 \u20ac!", ["\u20ac5"]),
        (
            "\u09ac\u09be\u0982\u09b2\u09be \u0995\u09c0?",
            "\u0939\u093f\u0928\u094d\u0926\u0940\u0964",
            ["x"],
        ),
        ("a\u00a0b", "\u2014", [" . "]),  # only ASCII white space is white space
    )
    assert texts("xfer_tydiqa.bn", "validation", BENGALI_DEV, content) == [
        (
            'question: Who \' s a_b ? context: He said : " 1 , 000 . 5 " and left . ',
            "a . ",
        ),
        (
            "question: Fran\u00e7ois , Franc\u0327ois context: ( ok ) $ 5 + 6 = 11 \u20ac ! ",
            " \u20ac 5",
        ),
        (
            "question: \u09ac\u09be\u0982\u09b2\u09be \u0995\u09c0 ? context:"
            " \u0939\u093f\u0928\u094d\u0926\u0940 \u0964 ",
            "x",
        ),
        ("question: a \u00a0 b context: \u2014 ", " . "),
    ]


def test_tydiqa_references_are_all_answers_padded(texts, vocabulary_file):
    content = squad_json(("q", "c", ["1.5 m", "Fran\u00e7ois"]), ("q", "c", ["z"]))
    assert texts("xfer_tydiqa.bn", "validation", BENGALI_DEV, content) == [
        ("question: q context: c", "1 . 5 m"),
        ("question: q context: c", "z"),
    ]
    task = registry.get("xfer_tydiqa.bn")
    config = data_config.configured(vocabulary_file=vocabulary_file)
    examples = registry.tokenised(catalogue.task(task.name), "validation", config)
    references = [
        task.postprocess_fn("1 . 5 m", example=example, is_target=True) for example in examples
    ]
    assert references == [["1 . 5 m", "Fran\u00e7ois"], ["z"]]
    assert task.postprocess_fn("a b", example={"answers": [b"c"]}, is_target=False) == "a b"


def test_tydiqa_reads_the_releases_own_name_of_the_dev_file(texts):
    path = "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-finnish.json"
    assert texts("xfer_tydiqa.fi", "validation", path, squad_json(("q", "c", ["d"]))) == [
        ("question: q context: c", "d")
    ]


def tydiqa_example(name: str, *answers: str) -> dict:
    return {
        "id": name,
        "title": "t",
        "context": "C.",
        "question": f"{name}?",
        "answers": [{"text": text, "answer_start": 0} for text in answers],
    }


def test_tydiqa_of_tfds_takes_the_languages_own_examples():
    squad_like = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "title": tfds.features.Text(),
            "context": tfds.features.Text(),
            "question": tfds.features.Text(),
            "answers": tfds.features.Sequence(
                {"text": tfds.features.Text(), "answer_start": tf.int32}
            ),
        }
    )
    examples = [
        tydiqa_example("finnish--7-1", "a.", "b"),
        tydiqa_example("english-2-1", "c"),
        tydiqa_example("finnish-3-0", "d"),
        tydiqa_example("telugu-4-1", "finnish"),
    ]
    family = catalogue.families()["tydiqa"]
    assert preprocessed(family, squad_like, "fi", examples) == [
        ("question: finnish - - 7 - 1 ? context: C . ", "a . "),
        ("question: finnish - 3 - 0 ? context: C . ", "d"),
    ]
    assert [targets for _, targets in preprocessed(family, squad_like, "te", examples)] == [
        "finnish"
    ]


def padded(text: str) -> str:
    """The release's two substitutions in another engine; RE2's white space is that of ASCII."""
    text = regex.sub(r"([^_\t\n\f\r \p{N}\p{L}\p{M}])", r" \1 ", text)
    return regex.sub(r"[\t\n\f\r ]+", " ", text)


def padded_by_tydiqa(texts: list[str]) -> list[str]:
    raw = {"id": "x", "question": "q", "context": "c", "answers": {"text": texts}}
    (example,) = tydiqa.preprocess(tf.data.Dataset.from_tensors(raw), "en").as_numpy_iterator()
    return [answer.decode() for answer in example["answers"]]


@functools.cache
def characters() -> list[str]:
    """All characters of Unicode 3.2: those since may be letters to one engine and not the other."""
    category = unicodedata.ucd_3_2_0.category
    return [chr(c) for c in range(1, 0x110000) if category(chr(c)) not in ("Cn", "Cs", "Co")]


def test_every_character_is_padded_or_not_as_in_another_engine():
    text = "a".join(["", *characters(), ""])
    assert padded_by_tydiqa([text]) == [padded(text)]


# one call of TensorFlow an example is slow, one for many texts is not
@settings(max_examples=8, deadline=None, database=None, derandomize=True)
@given(
    st.lists(
        st.text(
            st.one_of(st.sampled_from(" \t\n_.,'a1é\u0301\u0940"), st.sampled_from(characters()))
        ).filter(str.strip),  # an answer of white space is none and left out
        min_size=20,
        max_size=60,
    )
)
def test_padding_equals_another_engines(texts):
    assert padded_by_tydiqa(texts) == [padded(text) for text in texts]


# --------------------------------------------------------------------------------- the two sources


def test_a_sentence_without_entities_is_the_same_from_files_and_from_tfds(tmp_path, texts):
    (from_file,) = texts("xfer_panx.sw", "train", "panx/train-sw.tsv", "hakuna\tO\n")
    example = wikiann_example(["hakuna"], ["O"])
    assert tfds_texts("panx", "sw", "train", tmp_path, [example]) == [from_file]
