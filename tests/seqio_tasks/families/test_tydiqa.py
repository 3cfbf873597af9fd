"""TyDiQA: files and TFDS-shaped examples give the mT5 release's texts, and bad ones are named."""

import functools
import json
import unicodedata

import pytest
import regex
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from seqio_tasks import catalogue, data_config, registry
from seqio_tasks.families import tydiqa
from tests.support.files import squad, write
from tests.support.tasks import complaint, preprocessed


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
@pytest.mark.slow
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


TYDIQA = "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.en.dev.json"


@pytest.mark.parametrize(
    ("content", "line"),
    [("", 1), ("{", 1), ('{"data":\n\n[}', 3), ('{"data": []} x', 1), ('{\n"data": [],\n}', 3)],
)
def test_what_is_no_json_is_named(folder, content, line):
    path = write(folder / TYDIQA, content)
    where = f"{path}, line {line}" if line > 1 else path
    assert complaint("xfer_tydiqa.en", "validation").startswith(f"{where}: not JSON (")


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ('{"dada": []}', "'data'"),
        ('{"data": [{}]}', "'data.0.paragraphs'"),
        ('{"data": [{"paragraphs": [{"context": "c"}]}]}', "'data.0.paragraphs.0.qas'"),
        ('{"data": [{"paragraphs": [{"qas": [{"answers": [1], "id": 1, "question": "q"}]}]}]}', ""),
        (squad({"id": "1", "answers": [{"text": "a"}]}), "'question'"),
        (squad({"question": "q", "answers": [{"text": "a"}]}), "'id'"),
        (squad({"id": "1", "question": "q", "answers": [{"answer_start": 1}]}), ".text'"),
        ("[]", ""),
        ('{"data": null}', ""),
        (squad("q"), ""),
    ],
)
def test_json_of_another_form_is_named(folder, content, missing):
    path = write(folder / TYDIQA, content)
    message = complaint("xfer_tydiqa.en", "validation")
    assert message.startswith(str(path))
    assert ": not of SQuAD's form (" in message
    assert missing in message


def test_a_question_without_an_answer_is_refused(folder):
    path = write(folder / TYDIQA, squad({"id": "english-1", "question": "q", "answers": []}))
    message = complaint("xfer_tydiqa.en", "validation")
    assert message.startswith(f"{path}: question english-1 has no answer; XTREME removes the dev")
