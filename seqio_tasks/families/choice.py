"""Multiple choice, as text `xcopa: premise: … question: … choice1: … choice2: …` -> `choice1`.

All tasks have the same format, so that one task can help another. The format is ours: the mT5
release has none of these tasks. XCOPA (Ponti et al. 2020; `en` is COPA, the only one with training
data) is a task of XTREME-R, which trains on Social IQa (Sap et al. 2019) and then on COPA.
HellaSwag (Zellers et al. 2019), Cosmos QA (Huang et al. 2019) and CommonsenseQA (Talmor et al.
2019) are intermediate tasks of Phang et al. 2020.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqio_tasks import metrics, sources, strict_metrics
from seqio_tasks.errors import RequestError
from seqio_tasks.records import INTERMEDIATE, XTREME_R, Example, Family

XCOPA_LANGUAGES = ("en", "et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
LABELS = ("choice1", "choice2", "choice3", "choice4", "choice5")
_LETTERS = ("A", "B", "C", "D", "E")
_FILE_SPLIT = {"train": "train", "validation": "val", "test": "test"}


# ------------------------------------------------------------------------------------------ reading


def _label(value: Any, names: Sequence[Any], where: str) -> int:
    if not isinstance(value, str | int) or isinstance(value, bool) or value not in names:
        found = sources.shown(value) if isinstance(value, list | dict) else repr(str(value)[:40])
        raise RequestError(f"{where}: label {found} is not one of {', '.join(map(str, names))}")
    return names.index(value)


def _texts(record: dict[str, Any], fields: Iterable[str], where: str) -> Example:
    return {field: sources.text(record, field, where) for field in fields}


def read_xcopa(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads the JSON lines of XCOPA and COPA.

    Raises:
      RequestError: a line is malformed (names file and line), or a test file has no labels:
        XTREME's scripts set all to 0.
    """
    del language
    examples = []
    for where, record in sources.records(path):
        fields = ("premise", "question", "choice1", "choice2")
        label = _label(record.get("label"), (0, 1), where)
        examples.append({**_texts(record, fields, where), "label": label})
    if split == "test" and examples and not any(example["label"] for example in examples):
        raise RequestError(
            f"{path}: all labels are 0; XTREME removes the test labels, use XCOPA's original files"
        )
    yield from examples


def read_siqa(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads Social IQa's JSON lines, with the letter of the correct answer as `correct`.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    for where, record in sources.records(path):
        fields = ("context", "question", "answerA", "answerB", "answerC")
        label = _label(record.get("correct"), _LETTERS[:3], where)
        yield {**_texts(record, fields, where), "label": label}


def read_hellaswag(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads HellaSwag's JSON lines.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    for where, record in sources.records(path):
        endings = record.get("endings")
        if not isinstance(endings, list) or len(endings) != 4:
            raise RequestError(f"{where}: expected four texts in the field 'endings'")
        yield {
            "context": sources.text(record, "ctx", where),
            "endings": [sources.as_text(ending, "endings", where) for ending in endings],
            "label": _label(record.get("label"), range(4), where),
        }


def read_cosmosqa(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads the table of Cosmos QA, or the same data as JSON lines.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    texts = ("context", "question", "answer0", "answer1", "answer2", "answer3")
    rows = _csv_records(path, (*texts, "label")) if path.suffix == ".csv" else sources.records(path)
    for where, record in rows:
        label = record.get("label")
        label = _label(str(label) if type(label) is int else label, ("0", "1", "2", "3"), where)
        yield {**_texts(record, texts, where), "label": label}


def _csv_records(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = ((where, cells) for where, cells in sources.table(path, ",") if cells)
    return sources.named_rows(rows, columns)


def read_commonsenseqa(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads CommonsenseQA's JSON lines.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    for where, record in sources.records(path):
        question = record.get("question")
        question = question if isinstance(question, dict) else {}
        choices = question.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise RequestError(f"{where}: expected a question with choices")
        if [choice.get("label") for choice in choices] != list(_LETTERS):
            raise RequestError(f"{where}: expected choices A, B, C, D, E")
        yield {
            "question": sources.text(question, "stem", where),
            "choices": [sources.text(choice, "text", where) for choice in choices],
            "label": _label(record.get("answerKey"), _LETTERS, where),
        }


# ------------------------------------------------------------------------------------------- format


def _prompts(name: str, given: Sequence[str], choices: int) -> list[str]:
    """Returns the prompt before each part of an input."""
    parts = [*given, *LABELS[:choices]]
    return [f"{name}: {parts[0]}: ", *(f" {part}: " for part in parts[1:])]


def _preprocess(
    name: str, given: Sequence[str], choices: Sequence[str] | str, count: int
) -> Callable[[Any, str], Any]:
    """Returns the preprocessing function of a family.

    Args:
      name: name of the task.
      given: fields before the choices, under their own names.
      choices: one field per choice, or the field that is a list of choices.
      count: number of choices.
    """
    prompts = _prompts(name, given, count)

    def preprocess(dataset: Any, language: str) -> Any:
        """Makes `inputs` and `targets` from a question, its choices and the correct index."""
        import tensorflow as tf

        del language

        def as_text(example):
            if isinstance(choices, str):
                offered = [example[choices][i] for i in range(count)]
            else:
                offered = [example[field] for field in choices]
            texts = [*(example[field] for field in given), *offered]
            pieces = [piece for pair in zip(prompts, texts, strict=True) for piece in pair]
            return {
                "inputs": tf.strings.join(pieces),
                "targets": tf.gather(tf.constant(LABELS[:count]), example["label"]),
            }

        return dataset.map(as_text, num_parallel_calls=tf.data.AUTOTUNE)

    return preprocess


def _plain_text(name: str, given: Sequence[str], count: int) -> Callable[[str], str]:
    prompts = _prompts(name, given, count)

    def plain_text(inputs: str) -> str:
        """Returns the parts, joined by spaces, without XCOPA's question (a word of the format)."""
        rest, parts = inputs.removeprefix(prompts[0]), []
        for prompt in reversed(prompts[1:]):
            rest, _, part = rest.rpartition(prompt)
            if (name, prompt) != ("xcopa", " question: "):
                parts.append(part)
        return " ".join([rest, *reversed(parts)])

    return plain_text


def _family(
    name: str, given: Sequence[str], choices: Sequence[str] | str, count: int, **other: Any
) -> Family:
    labels = LABELS[:count]
    settings: dict[str, Any] = {
        "languages": ("en",),
        "tfds": lambda language, split: None,
        "splits": ("train", "validation"),
    }
    return Family(
        name=name,
        preprocess=_preprocess(name, given, choices, count),
        plain_text=_plain_text(name, given, count),
        metric=metrics.accuracy,
        strict_metric=functools.partial(strict_metrics.accuracy, labels=labels),
        score="accuracy",
        labels=labels,
        **settings | other,
    )


def _xcopa_files(language: str, split: str) -> tuple[str, ...]:
    """Returns no file for COPA's test split (hidden labels) and the translations' train split."""
    if split == ("test" if language == "en" else "train"):
        return ()
    return (f"xcopa/{_FILE_SPLIT[split]}-{language}.jsonl",)


def _xcopa_tfds(language: str, split: str) -> tuple[str, str] | None:
    """Returns TFDS's name and split; TFDS has only COPA."""
    return ("super_glue/copa:1.0.2", split) if language == "en" and split != "test" else None


FAMILIES = (
    _family(
        "xcopa",
        ("premise", "question"),
        ("choice1", "choice2"),
        2,
        title="XCOPA causes and effects",
        languages=XCOPA_LANGUAGES,
        files=_xcopa_files,
        read=read_xcopa,
        tfds=_xcopa_tfds,
        splits=("train", "validation", "test"),
        groups=(XTREME_R,),
        sizes={"validation": 100},  # the files as read
    ),
    _family(
        "siqa",
        ("context", "question"),
        ("answerA", "answerB", "answerC"),
        3,
        title="Social IQa",
        files=lambda language, split: (
            f"siqa/socialIQa_v1.4_{'trn' if split == 'train' else 'dev'}.jsonl",
        ),
        read=read_siqa,
    ),
    _family(
        "hellaswag",
        ("context",),
        "endings",
        4,
        title="HellaSwag endings",
        files=lambda language, split: (f"hellaswag/hellaswag_{_FILE_SPLIT[split]}.jsonl",),
        read=read_hellaswag,
        tfds=lambda language, split: ("hellaswag:1.1.0", split),
        groups=(INTERMEDIATE,),
        sizes={"train": 39_905, "validation": 10_042},  # TFDS's catalogue
        remedy="put HellaSwag's files there",
    ),
    _family(
        "cosmosqa",
        ("context", "question"),
        ("answer0", "answer1", "answer2", "answer3"),
        4,
        title="Cosmos QA",
        files=lambda language, split: tuple(
            f"cosmosqa/{'train' if split == 'train' else 'valid'}.{ending}"
            for ending in ("jsonl", "csv")
        ),
        read=read_cosmosqa,
        tfds=lambda language, split: ("cosmos_qa:1.0.0", split),
        groups=(INTERMEDIATE,),
        sizes={"train": 25_262, "validation": 2985},  # TFDS's catalogue
        remedy="put Cosmos QA's files there",
    ),
    _family(
        "commonsenseqa",
        ("question",),
        "choices",
        5,
        title="CommonsenseQA",
        files=lambda language, split: (
            f"commonsenseqa/{'train' if split == 'train' else 'dev'}_rand_split.jsonl",
        ),
        read=read_commonsenseqa,
        groups=(INTERMEDIATE,),
        sizes={"train": 9741, "validation": 1221},  # its card on Hugging Face
        remedy="put CommonsenseQA's files there",
    ),
)
