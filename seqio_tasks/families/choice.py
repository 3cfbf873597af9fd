"""Multiple choice, as text `xcopa: premise: … question: … choice1: … choice2: …` -> `choice1`.

All tasks have the same format, so that one task can help another. The format is ours: the mT5
release has none of these tasks. XCOPA (Ponti et al. 2020; `en` is COPA, the only one with training
data) is a task of XTREME-R, which trains on Social IQa (Sap et al. 2019) and then on COPA.
HellaSwag (Zellers et al. 2019), Cosmos QA (Huang et al. 2019) and CommonsenseQA (Talmor et al.
2019) are intermediate tasks of Phang et al. 2020.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqio_tasks import data_files
from seqio_tasks.data_files import XTREME_SPLITS
from seqio_tasks.errors import RequestError
from seqio_tasks.families import classification
from seqio_tasks.records import INTERMEDIATE, XTREME_R, Example, Family, Source

XCOPA_LANGUAGES = ("en", "et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
LABELS = ("choice1", "choice2", "choice3", "choice4", "choice5")
_LETTERS = ("A", "B", "C", "D", "E")
_COSMOSQA_TEXTS = ("context", "question", "answer0", "answer1", "answer2", "answer3")
_FILE_SPLIT = {"train": "train", "validation": "val", "test": "test"}


def _label(value: Any, names: Sequence[Any], where: str) -> int:
    if not isinstance(value, str | int) or isinstance(value, bool) or value not in names:
        found = data_files.shown(value) if isinstance(value, list | dict) else repr(str(value)[:40])
        raise RequestError(f"{where}: label {found} is not one of {', '.join(map(str, names))}")
    return names.index(value)


def _texts(record: dict[str, Any], fields: Iterable[str], where: str) -> Example:
    return {field: data_files.text(record, field, where) for field in fields}


def read_xcopa(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads the JSON lines of XCOPA and COPA.

    Raises:
      RequestError: a line is malformed (names file and line), or a test file has no labels:
        XTREME's scripts set all to 0.
    """
    del language
    examples = []
    for where, record in data_files.records(path):
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
    for where, record in data_files.records(path):
        fields = ("context", "question", "answerA", "answerB", "answerC")
        label = _label(record.get("correct"), _LETTERS[:3], where)
        yield {**_texts(record, fields, where), "label": label}


def read_hellaswag(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads HellaSwag's JSON lines.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    for where, record in data_files.records(path):
        endings = record.get("endings")
        if not isinstance(endings, list) or len(endings) != 4:
            raise RequestError(f"{where}: expected four texts in the field 'endings'")
        yield {
            "context": data_files.text(record, "ctx", where),
            "endings": [data_files.as_text(ending, "endings", where) for ending in endings],
            "label": _label(record.get("label"), range(4), where),
        }


def read_cosmosqa(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads the table of Cosmos QA, or the same data as JSON lines.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    read = _csv_records if path.suffix == ".csv" else data_files.records
    for where, record in read(path):
        label = record.get("label")
        label = _label(str(label) if type(label) is int else label, ("0", "1", "2", "3"), where)
        yield {**_texts(record, _COSMOSQA_TEXTS, where), "label": label}


def _csv_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = ((where, cells) for where, cells in data_files.table(path, ",") if cells)
    return data_files.named_rows(rows, (*_COSMOSQA_TEXTS, "label"))


def read_commonsenseqa(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads CommonsenseQA's JSON lines.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    for where, record in data_files.records(path):
        question = record.get("question")
        question = question if isinstance(question, dict) else {}
        choices = question.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise RequestError(f"{where}: expected a question with choices")
        if [choice.get("label") for choice in choices] != list(_LETTERS):
            raise RequestError(f"{where}: expected choices A, B, C, D, E")
        yield {
            "question": data_files.text(question, "stem", where),
            "choices": [data_files.text(choice, "text", where) for choice in choices],
            "label": _label(record.get("answerKey"), _LETTERS, where),
        }


def _family(
    name: str,
    title: str,
    source: Source,
    given: Sequence[str],
    choices: Sequence[classification.Field],
    languages: tuple[str, ...] = ("en",),
    groups: tuple[str, ...] = (INTERMEDIATE,),
) -> Family:
    """Returns a family whose inputs have the fields `given`, then the choices."""
    labels = LABELS[: len(choices)]
    parts = dict(zip((*given, *labels), (*given, *choices), strict=True))
    question = "question" if name == "xcopa" else None  # 'cause' or 'effect'
    format = classification.text_format(f"{name}:", parts, labels, question)
    return Family(name, title, languages, source, format, classification.scoring(labels), groups)


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
        "XCOPA causes and effects",
        Source(
            files=_xcopa_files,
            read=read_xcopa,
            tfds=_xcopa_tfds,
            sizes={"validation": 100},  # the files as read
        ),
        given=("premise", "question"),
        choices=("choice1", "choice2"),
        languages=XCOPA_LANGUAGES,
        groups=(XTREME_R,),
    ),
    _family(
        "siqa",
        "Social IQa",
        Source(
            files=lambda language, split: (
                f"siqa/socialIQa_v1.4_{'trn' if split == 'train' else 'dev'}.jsonl",
            ),
            read=read_siqa,
            splits=("train", "validation"),
        ),
        given=("context", "question"),
        choices=("answerA", "answerB", "answerC"),
        groups=(),
    ),
    _family(
        "hellaswag",
        "HellaSwag endings",
        Source(
            files=lambda language, split: (f"hellaswag/hellaswag_{_FILE_SPLIT[split]}.jsonl",),
            read=read_hellaswag,
            tfds=lambda language, split: ("hellaswag:1.1.0", split),
            splits=("train", "validation"),
            sizes={"train": 39_905, "validation": 10_042},  # TFDS's catalogue
            remedy="put HellaSwag's files there",
        ),
        given=("context",),
        choices=[("endings", i) for i in range(4)],
    ),
    _family(
        "cosmosqa",
        "Cosmos QA",
        Source(
            files=lambda language, split: tuple(
                f"cosmosqa/{'train' if split == 'train' else 'valid'}.{ending}"
                for ending in ("jsonl", "csv")
            ),
            read=read_cosmosqa,
            tfds=lambda language, split: ("cosmos_qa:1.0.0", split),
            splits=("train", "validation"),
            sizes={"train": 25_262, "validation": 2985},  # TFDS's catalogue
            remedy="put Cosmos QA's files there",
        ),
        given=("context", "question"),
        choices=("answer0", "answer1", "answer2", "answer3"),
    ),
    _family(
        "commonsenseqa",
        "CommonsenseQA",
        Source(
            files=lambda language, split: (
                f"commonsenseqa/{XTREME_SPLITS[split]}_rand_split.jsonl",
            ),
            read=read_commonsenseqa,
            splits=("train", "validation"),
            sizes={"train": 9741, "validation": 1221},  # its card on Hugging Face
            remedy="put CommonsenseQA's files there",
        ),
        given=("question",),
        choices=[("choices", i) for i in range(5)],
    ),
)
