"""TyDiQA-GoldP: questions and answers, as text `question: … context: …` -> `answer`.

Format and metric of the mT5 release (multilingual_t5 `preprocessors.xquad`, SQuAD's EM and F1);
data of Clark et al. 2020.
"""

import dataclasses
from typing import Any

from seqio_tasks.families import squad
from seqio_tasks.records import XTREME_R, Family, Source

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
    """Returns XTREME's file of the language, then TyDiQA's name of the dev file."""
    if split == "train":
        return (f"tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",)
    folder = "tydiqa/tydiqa-goldp-v1.1-dev"
    return (
        f"{folder}/tydiqa.goldp.{language}.dev.json",
        f"{folder}/tydiqa-goldp-dev-{NAMES[language]}.json",
    )


def tfds(language: str, split: str) -> tuple[str, str] | None:
    """Returns TFDS's name and split; its train split contains all languages."""
    if split == "train":
        return (TFDS_NAME, "train")
    return (TFDS_NAME, f"validation-{language}")


def preprocess(dataset: Any, language: str) -> Any:
    """Makes `inputs`, `targets` and `answers` like `squad.preprocess`, for one language.

    Drops TFDS's training examples in other languages: the language is the first part of their id
    (`finnish--76…`).
    """
    import tensorflow as tf

    def of_language(example):
        prefix = tf.strings.split(example["id"], "-")[0]
        return tf.equal(prefix, NAMES[language]) | ~tf.reduce_any(
            tf.equal(prefix, list(NAMES.values()))
        )

    if language in NAMES:
        dataset = dataset.filter(of_language)
    return squad.preprocess(dataset, language)


FAMILY = Family(
    name="tydiqa",
    title="TyDiQA-GoldP question answering",
    languages=tuple(NAMES),
    source=Source(
        files=files,
        read=squad.read,
        tfds=tfds,
        splits=("train", "validation"),
        matched_size=2390,  # training questions of Bengali, the smallest of the study languages
    ),
    format=dataclasses.replace(squad.FORMAT, preprocess=preprocess),
    scoring=squad.SCORING,
    groups=(XTREME_R,),
)
