"""SQuAD and what has its form: questions, as text `question: … context: …` -> `answer`.

Format and metrics of the mT5 release (multilingual_t5 `preprocessors.xquad`, SQuAD's and MLQA's EM
and F1). Data of Rajpurkar et al. 2016 (SQuAD v1.1) and 2018 (v2.0, where some questions have no
answer: the target is `unanswerable`), Artetxe et al. 2020 (XQuAD) and Lewis et al. 2020 (MLQA). The
last two have no training data of their own: models are trained on SQuAD.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqio_tasks import metrics, sources
from seqio_tasks.catalogue import INTERMEDIATE, XTREME_R, Example, Family
from seqio_tasks.errors import RequestError

UNANSWERABLE = "unanswerable"  # the target of a question without an answer
XQUAD_LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
MLQA_LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")


def read(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads questions in SQuAD's JSON; those that v2.0 calls impossible have no answers.

    Raises:
      RequestError: not JSON (file and line), not of SQuAD's form, or a question without answers
        (XTREME strips those of the sets that it scores on).
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
            texts = [answer["text"] for answer in qa["answers"]]
            if not all(isinstance(text, str) for text in (qa["question"], context, *texts)):
                raise TypeError("text that is no string")
            if not any(texts) and not qa.get("is_impossible"):
                raise RequestError(
                    f"{path}: question {qa['id']} has no answer; XTREME strips the dev and test"
                    " answers, take the data set's original files"
                )
            yield {
                "id": str(qa["id"]),
                "question": qa["question"],
                "context": context,
                "answers": {"text": texts},
            }
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise RequestError(f"{path}: not of SQuAD v1.1's form ({error})") from None


def preprocess(dataset: Any, language: str) -> Any:
    """Makes `inputs`, `targets` and `answers` of SQuAD-like examples, punctuation padded.

    Every character but `_`, white space, numbers, letters and marks gets a space on both sides,
    then runs of white space become one.
    """
    import tensorflow as tf

    del language

    def pad_punctuation(text):
        text = tf.strings.regex_replace(text, r"([^_\s\p{N}\p{L}\p{M}])", r" \1 ")
        return tf.strings.regex_replace(text, r"\s+", " ")

    def as_text(example):
        answers = pad_punctuation(example["answers"]["text"])
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
    """Returns the context, its punctuation padded as the model reads it.

    The padding sets every colon of question and context apart, so that `context:` occurs once.
    """
    return inputs.partition(" context: ")[2]


def _family(name: str, title: str, languages: tuple[str, ...], **different: Any) -> Family:
    settings: dict[str, Any] = {
        "read": read,
        "preprocess": preprocess,
        "plain_text": plain_text,
        "metric": metrics.squad,
        "strict_metric": metrics.strict_squad,
        "score": "f1",
        "answers_field": "answers",
    }
    return Family(name=name, title=title, languages=languages, **settings | different)


def _squad_file(split: str, version: str) -> str:
    return f"{'train' if split == 'train' else 'dev'}-{version}.json"


def _mlqa_file(language: str, split: str) -> str:
    part = "dev" if split == "validation" else split
    return f"mlqa/MLQA_V1/{part}/{part}-context-{language}-question-{language}.json"


FAMILIES = (
    _family(
        "squad",
        "SQuAD v1.1 question answering",
        ("en",),
        files=lambda language, split: (f"squad/{_squad_file(split, 'v1.1')}",),
        tfds=lambda language, split: ("squad/v1.1:3.0.0", split),
        splits=("train", "validation"),
        groups=(INTERMEDIATE,),
    ),
    _family(
        "squad2",
        "SQuAD v2.0 question answering",
        ("en",),
        files=lambda language, split: (f"squad2/{_squad_file(split, 'v2.0')}",),
        tfds=lambda language, split: ("squad/v2.0:3.0.0", split),
        splits=("train", "validation"),
        groups=(INTERMEDIATE,),
        sizes={"train": 130_319, "validation": 11_873},  # a card on Hugging Face
        remedy="put SQuAD v2.0's files there",
    ),
    _family(
        "xquad",
        "XQuAD question answering",
        XQUAD_LANGUAGES,
        files=lambda language, split: (f"xquad/xquad.{language}.json",),
        # TFDS has the eleven languages of XTREME
        tfds=lambda language, split: (
            (f"xquad/{language}:3.0.0", split) if language != "ro" else None
        ),
        splits=("test",),
        groups=(XTREME_R,),
        sizes={"test": 1190},  # TFDS's description
    ),
    _family(
        "mlqa",
        "MLQA question answering",
        MLQA_LANGUAGES,
        files=lambda language, split: (_mlqa_file(language, split),),
        tfds=lambda language, split: (f"mlqa/{language}:1.0.0", split),
        metric=metrics.mlqa,
        metric_by_language=True,
        splits=("validation", "test"),
        groups=(XTREME_R,),
    ),
)
