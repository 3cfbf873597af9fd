"""SQuAD and data sets in its form: questions, as text `question: … context: …` -> `answer`.

Format and metrics of the mT5 release (multilingual_t5 `preprocessors.xquad`, SQuAD's and MLQA's EM
and F1). Data of Rajpurkar et al. 2016 (SQuAD v1.1) and 2018 (v2.0, where some questions have no
answer: the target is `unanswerable`), Artetxe et al. 2020 (XQuAD) and Lewis et al. 2020 (MLQA). The
last two have no training data of their own: models are trained on SQuAD.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

from seqio_tasks import data_files, files, metrics, strict_metrics
from seqio_tasks.data_files import XTREME_SPLITS
from seqio_tasks.errors import RequestError
from seqio_tasks.records import (
    INTERMEDIATE,
    XTREME_R,
    Example,
    Family,
    Format,
    Scoring,
    Source,
)

UNANSWERABLE = "unanswerable"  # the target of a question without an answer
XQUAD_LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
MLQA_LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")


class _Answer(data_files.Form):
    text: data_files.Text


class _Question(data_files.Form):
    id: data_files.Name
    question: data_files.Text
    answers: list[_Answer] = pydantic.Field(default_factory=list)
    is_impossible: bool = False


class _Paragraph(data_files.Form):
    context: data_files.Text
    qas: list[dict[str, Any]]


class _Article(data_files.Form):
    paragraphs: list[_Paragraph]


class _File(data_files.Form):
    data: list[_Article]


def read(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads questions in SQuAD's JSON; questions marked impossible in v2.0 have no answers.

    Empty answers do not count, so that all forms of impossible questions are the same.

    Raises:
      RequestError: the file is not JSON (names the line) or not in SQuAD's form (names the
        question); a question has no answers but is not marked impossible (XTREME removes the
        answers of evaluation sets); or a question has answers but is marked impossible.
    """
    del language, split
    content = files.parse_json(files.read_text(path), str(path), unique_keys=True)
    found = data_files.formed(_File, content, f"{path}: not of SQuAD's form")
    number = 0
    for article in found.data:
        for paragraph in article.paragraphs:
            for qa in paragraph.qas:
                number += 1
                yield _example(qa, paragraph.context, path, number)


def _example(qa: dict[str, Any], context: str, path: Path, number: int) -> Example:
    known = isinstance(qa.get("id"), str | int)
    name = data_files.one_line(qa["id"]) if known else f"number {number}"
    question = data_files.formed(_Question, qa, f"{path}, question {name}: not of SQuAD's form")
    texts = [answer.text for answer in question.answers if answer.text.strip()]
    if not texts and not question.is_impossible:
        raise RequestError(
            f"{path}: question {name} has no answer; XTREME removes the dev and test"
            " answers, use the data set's original files"
        )
    if texts and question.is_impossible:
        raise RequestError(
            f"{path}: question {name} is marked impossible but has the answer"
            f" {data_files.shown(texts[0])}; remove one of the two"
        )
    return {
        "id": question.id,
        "question": question.question,
        "context": context,
        "answers": {"text": texts},
    }


def preprocess(dataset: Any, language: str) -> Any:
    """Makes `inputs`, `targets` and `answers` from SQuAD-like examples, with padded punctuation.

    Every character except `_`, white space, numbers, letters and marks gets a space on both sides;
    then runs of white space become one space. Empty answers are dropped; a question without answers
    has the answer `UNANSWERABLE`.
    """
    import tensorflow as tf

    del language

    def pad_punctuation(text):
        text = tf.strings.regex_replace(text, r"([^_\s\p{N}\p{L}\p{M}])", r" \1 ")
        return tf.strings.regex_replace(text, r"\s+", " ")

    def as_text(example):
        answers = example["answers"]["text"]
        answers = pad_punctuation(tf.boolean_mask(answers, tf.strings.strip(answers) != ""))
        answers = tf.cond(
            tf.size(answers) > 0, lambda: answers, lambda: tf.constant([UNANSWERABLE])
        )
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

    return dataset.map(as_text, num_parallel_calls=tf.data.AUTOTUNE)


def plain_text(inputs: str) -> str:
    """Returns the context, with padded punctuation as in the model's input.

    Padding separates every colon in question and context, so that `context:` occurs only once.
    """
    return inputs.partition(" context: ")[2]


FORMAT = Format(preprocess, plain_text=plain_text, answers_field="answers")
SCORING = Scoring(metrics.squad, strict_metrics.squad, score="f1")


def _mlqa_files(language: str, split: str) -> tuple[str, ...]:
    part = XTREME_SPLITS[split]
    return (f"mlqa/MLQA_V1/{part}/{part}-context-{language}-question-{language}.json",)


FAMILIES = (
    Family(
        name="squad",
        title="SQuAD v1.1 question answering",
        languages=("en",),
        source=Source(
            files=lambda language, split: (f"squad/{XTREME_SPLITS[split]}-v1.1.json",),
            read=read,
            tfds=lambda language, split: ("squad/v1.1:3.0.0", split),
            splits=("train", "validation"),
        ),
        format=FORMAT,
        scoring=SCORING,
        groups=(INTERMEDIATE,),
    ),
    Family(
        name="squad2",
        title="SQuAD v2.0 question answering",
        languages=("en",),
        source=Source(
            files=lambda language, split: (f"squad2/{XTREME_SPLITS[split]}-v2.0.json",),
            read=read,
            tfds=lambda language, split: ("squad/v2.0:3.0.0", split),
            splits=("train", "validation"),
            sizes={"train": 130_319, "validation": 11_873},  # a card on Hugging Face
            remedy="put SQuAD v2.0's files there",
        ),
        format=FORMAT,
        scoring=SCORING,
        groups=(INTERMEDIATE,),
    ),
    Family(
        name="xquad",
        title="XQuAD question answering",
        languages=XQUAD_LANGUAGES,
        source=Source(
            files=lambda language, split: (f"xquad/xquad.{language}.json",),
            read=read,
            # TFDS has the eleven languages of XTREME
            tfds=lambda language, split: (
                (f"xquad/{language}:3.0.0", split) if language != "ro" else None
            ),
            splits=("test",),
            sizes={"test": 1190},  # TFDS's description
        ),
        format=FORMAT,
        scoring=SCORING,
        groups=(XTREME_R,),
    ),
    Family(
        name="mlqa",
        title="MLQA question answering",
        languages=MLQA_LANGUAGES,
        source=Source(
            files=_mlqa_files,
            read=read,
            tfds=lambda language, split: (f"mlqa/{language}:1.0.0", split),
            splits=("validation", "test"),
        ),
        format=FORMAT,
        scoring=dataclasses.replace(SCORING, metric=metrics.mlqa, metric_by_language=True),
        groups=(XTREME_R,),
    ),
)
