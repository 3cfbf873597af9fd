"""TyDiQA-GoldP: questions and answers, as text `question: … context: …` -> `answer`.

Format and metric of the mT5 release (multilingual_t5 `preprocessors.xquad`, SQuAD's EM and F1);
data of Clark et al. 2020.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqio_tasks import metrics, sources
from seqio_tasks.catalogue import Example, Family
from seqio_tasks.errors import RequestError

TFDS_NAME = "tydi_qa/goldp:3.0.0"  # the mT5 release's 2.1.0 is no longer in TFDS
NAMES = {
    "ar": "arabic",
    "bn": "bengali",
    "en": "english",
    "fi": "finnish",
    "id": "indonesian",
    "ko": "korean",
    "ru": "russian",
    "sw": "swahili",
    "te": "telugu",
}


def files(language: str, split: str) -> tuple[str, ...]:
    """Returns XTREME's per-language file, then TyDiQA's own name of the dev file."""
    if split == "train":
        return (f"tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",)
    folder = "tydiqa/tydiqa-goldp-v1.1-dev"
    return (
        f"{folder}/tydiqa.goldp.{language}.dev.json",
        f"{folder}/tydiqa-goldp-dev-{NAMES[language]}.json",
    )


def read(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads questions in SQuAD v1.1's JSON.

    Raises:
      RequestError: not JSON (file and line), not of SQuAD's form, or a question without answers
        (XTREME strips those of the dev files).
    """
    del language, split
    try:
        text = "\n".join(line for _, line in sources.lines(path))
        articles = json.loads(text)["data"]
        questions = [
            (paragraph["context"], qa)
            for article in articles
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
        for context, qa in questions:
            if not qa["answers"]:
                raise RequestError(
                    f"{path}: question {qa['id']} has no answer; XTREME strips the dev answers,"
                    " take the original TyDiQA-GoldP dev files"
                )
            texts = [answer["text"] for answer in qa["answers"]]
            if not all(isinstance(text, str) for text in (qa["question"], context, *texts)):
                raise TypeError("text that is no string")
            yield {
                "id": str(qa["id"]),
                "question": qa["question"],
                "context": context,
                "answers": {"text": texts},
            }
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except (KeyError, TypeError) as error:
        raise RequestError(f"{path}: not of SQuAD v1.1's form ({error})") from None


def tfds(language: str, split: str) -> tuple[str, str] | None:
    """Returns TFDS's name and split; its train split holds all languages."""
    if split == "train":
        return (TFDS_NAME, "train")
    return (TFDS_NAME, f"validation-{language}")


def preprocess(dataset: Any, language: str) -> Any:
    """Makes `inputs`, `targets` and `answers` of SQuAD-like examples, punctuation padded.

    Every character but `_`, white space, numbers, letters and marks gets a space on both sides,
    then runs of white space become one. TFDS's training examples of other languages are left out:
    their language is the first part of their id (`finnish--76…`).
    """
    import tensorflow as tf

    def pad_punctuation(text):
        text = tf.strings.regex_replace(text, r"([^_\s\p{N}\p{L}\p{M}])", r" \1 ")
        return tf.strings.regex_replace(text, r"\s+", " ")

    def of_language(example):
        prefix = tf.strings.split(example["id"], "-")[0]
        return tf.equal(prefix, NAMES[language]) | ~tf.reduce_any(
            tf.equal(prefix, list(NAMES.values()))
        )

    def as_text(example):
        answers = pad_punctuation(example["answers"]["text"])
        text = tf.strings.join(
            [
                "question:",
                pad_punctuation(example["question"]),
                "context:",
                pad_punctuation(example["context"]),
            ],
            separator=" ",
        )
        return {
            "inputs": tf.strings.regex_replace(text, r"\s+", " "),
            "targets": answers[0],
            "answers": answers,
        }

    if language in NAMES:
        dataset = dataset.filter(of_language)
    return dataset.map(as_text, num_parallel_calls=tf.data.AUTOTUNE)


def plain_text(inputs: str) -> str:
    """Returns the context, its punctuation padded as the model reads it.

    The padding sets every colon of question and context apart, so that `context:` occurs once.
    """
    return inputs.partition(" context: ")[2]


FAMILY = Family(
    name="tydiqa",
    title="TyDiQA-GoldP question answering",
    languages=tuple(NAMES),
    files=files,
    read=read,
    tfds=tfds,
    preprocess=preprocess,
    plain_text=plain_text,
    metric=metrics.squad,
    strict_metric=metrics.strict_squad,
    score="f1",
    answers_field="answers",
    splits=("train", "validation"),
    matched_size=2390,  # Bengali's training questions; the least of the study languages
)
