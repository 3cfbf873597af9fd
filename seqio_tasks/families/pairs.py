"""Pairs of sentences with a label: paraphrases, and English natural language inference.

PAWS-X is in the format of the mT5 release (data of Yang et al. 2019), Quora's question pairs in
T5's format for GLUE, MultiNLI and ANLI in the format of XNLI. ANLI is "ANLI+" of Phang et al. 2020:
its three rounds with MultiNLI and SNLI for training, and only its rounds for evaluation (Nie et al.
2020).
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqio_tasks import data_files
from seqio_tasks.data_files import XTREME_SPLITS
from seqio_tasks.errors import RequestError
from seqio_tasks.families import classification, xnli
from seqio_tasks.records import INTERMEDIATE, Example, Family, Format, Source

PAWSX_LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")
PAWSX_LABELS = ("different_meaning", "paraphrase")
QQP_LABELS = ("not_duplicate", "duplicate")
_QQP_COLUMNS = ("question1", "question2", "is_duplicate")
_ANLI_LABELS = {"e": 0, "n": 1, "c": 2}


def _index(label: str, where: str) -> int:
    if label not in ("0", "1"):
        raise RequestError(f"{where}: label {label[:40]!r} is not one of 0, 1")
    return int(label)


def read_pawsx(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads the three columns that XTREME's scripts write.

    Raises:
      RequestError: a line is malformed (names file and line), or the file has no labels, such as
        the test files of XTREME.
    """
    del language
    for where, fields in data_files.table(path):
        if len(fields) == 2 and split == "test":
            raise RequestError(f"{where}: no label; XTREME removes the test labels, use validation")
        if len(fields) != 3:
            raise RequestError(
                f"{where}: expected sentence1<TAB>sentence2<TAB>label, found {len(fields)} columns"
            )
        first, second, label = fields
        yield {"sentence1": first, "sentence2": second, "label": _index(label, where)}


def read_qqp(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads GLUE's table; like TFDS, drops lines with too few columns, which GLUE has.

    Raises:
      RequestError: the header is missing, or a label is not 0 or 1 (names file and line).
    """
    del language, split
    header: list[str] = []
    for number, line in data_files.lines(path):
        fields = line.split("\t")
        if number == 1:
            header = fields
            missing = [name for name in _QQP_COLUMNS if name not in header]
            if missing:
                raise RequestError(f"{path}, line 1: the header lacks {', '.join(missing)}")
            continue
        if len(fields) < len(header):
            continue
        row = dict(zip(header, fields, strict=False))
        yield {
            "question1": row["question1"],
            "question2": row["question2"],
            "label": _index(row["is_duplicate"], f"{path}, line {number}"),
        }


def read_nli(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads the JSON lines of MultiNLI or SNLI; drops pairs without a gold label (`-`).

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    for where, record in data_files.records(path):
        label = data_files.text(record, "gold_label", where)
        if label != "-":
            yield {
                "premise": data_files.text(record, "sentence1", where),
                "hypothesis": data_files.text(record, "sentence2", where),
                "label": xnli.label_of(label, where),
            }


def read_anli(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads a round of ANLI.

    Raises:
      RequestError: a line is malformed (names file and line).
    """
    del language, split
    for where, record in data_files.records(path):
        label = data_files.text(record, "label", where)
        if label not in _ANLI_LABELS:
            raise RequestError(f"{where}: label {label[:40]!r} is not one of e, n, c")
        yield {
            "context": data_files.text(record, "context", where),
            "hypothesis": data_files.text(record, "hypothesis", where),
            "label": _ANLI_LABELS[label],
        }


PAWSX = Family(
    name="pawsx",
    title="PAWS-X paraphrases",
    languages=PAWSX_LANGUAGES,
    source=Source(
        files=lambda language, split: (f"pawsx/{XTREME_SPLITS[split]}-{language}.tsv",),
        read=read_pawsx,
        tfds=lambda language, split: (f"paws_x_wiki/{language}:1.0.0", split),
    ),
    format=classification.text_format(
        "paws", {"sentence1": "sentence1", "sentence2": "sentence2"}, PAWSX_LABELS
    ),
    scoring=classification.scoring(PAWSX_LABELS),
)

QQP = Family(
    name="qqp",
    title="Quora question pairs",
    languages=("en",),
    source=Source(
        files=lambda language, split: (f"qqp/{XTREME_SPLITS[split]}.tsv",),
        read=read_qqp,
        tfds=lambda language, split: ("glue/qqp:2.0.0", split),
        splits=("train", "validation"),
        remedy="put GLUE's QQP files there",
    ),
    format=classification.text_format(
        "qqp", {"question1": "question1", "question2": "question2"}, QQP_LABELS
    ),
    scoring=classification.scoring(QQP_LABELS),
    groups=(INTERMEDIATE,),
)

MNLI = Family(
    name="mnli",
    title="MultiNLI natural language inference",
    languages=("en",),
    source=Source(
        files=lambda language, split: (
            f"mnli/multinli_1.0_{'train' if split == 'train' else 'dev_matched'}.jsonl",
        ),
        read=read_nli,
        tfds=lambda language, split: (
            "multi_nli:1.1.0",
            "train" if split == "train" else "validation_matched",
        ),
        splits=("train", "validation"),
        sizes={"train": 392_702},  # the English training set of XNLI
        remedy="put MultiNLI's files there",
    ),
    format=xnli.FORMAT,
    scoring=xnli.SCORING,
    groups=(INTERMEDIATE,),
)


def _anli(source: Source, format: Format = xnli.FORMAT) -> Family:
    title = "ANLI natural language inference, with MultiNLI and SNLI"
    return Family("anli", title, ("en",), source, format, xnli.SCORING, (INTERMEDIATE,))


def _context_is_premise(dataset: Any, language: str) -> Any:
    """Formats examples whose premise is in the field `context`."""
    renamed = dataset.map(lambda example: {**example, "premise": example["context"]})
    return xnli.FORMAT.preprocess(renamed, language)


def _labelled(dataset: Any, language: str) -> Any:
    """Formats the pairs with a gold label; TFDS has others."""
    labelled = dataset.filter(lambda example: example["label"] >= 0)
    return xnli.FORMAT.preprocess(labelled, language)


def _round(number: int) -> Source:
    return Source(
        files=lambda language, split: (f"anli/R{number}/{XTREME_SPLITS[split]}.jsonl",),
        read=read_anli,
        tfds=lambda language, split: (f"anli/r{number}:0.1.0", split),
        remedy="put ANLI's files there",
    )


_ANLI_FORMAT = dataclasses.replace(xnli.FORMAT, preprocess=_context_is_premise)
_ROUNDS = tuple(_anli(_round(number), _ANLI_FORMAT) for number in (1, 2, 3))
_SNLI = _anli(
    Source(
        files=lambda language, split: (f"snli/snli_1.0_{XTREME_SPLITS[split]}.jsonl",),
        read=read_nli,
        tfds=lambda language, split: ("snli:1.1.0", split),
        splits=("train", "validation"),
        remedy="put SNLI's files there",
    ),
    dataclasses.replace(xnli.FORMAT, preprocess=_labelled),
)
_OTHERS = (_anli(MNLI.source), _SNLI)

ANLI = _anli(
    dataclasses.replace(
        _round(1),
        parts=lambda split: (*_ROUNDS, *_OTHERS) if split == "train" else _ROUNDS,
        sizes={"validation": 3200, "test": 3200},  # of the rounds, TFDS's catalogue
    ),
    _ANLI_FORMAT,
)

FAMILIES = (PAWSX, QQP, MNLI, ANLI)
