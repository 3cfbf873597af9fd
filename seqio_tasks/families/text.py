"""Plain text of real languages for span corruption: an intermediate task that needs no labels.

Reads `text/train-sw.txt` in the data folder, one text per line, or Wikipedia from TFDS.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqio_tasks import data_files, languages
from seqio_tasks.data_files import XTREME_SPLITS
from seqio_tasks.records import TEXT, Example, Family, Format, Source

TFDS_NAME = "wikipedia/20230601.{}:1.0.0"


def read(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads one text per line; skips blank lines."""
    del language, split
    for _, line in data_files.lines(path):
        if line.strip():
            yield {"text": line.strip()}


def preprocess(dataset: Any, language: str) -> Any:
    """Makes `targets` from the text, for span corruption."""
    del language
    return dataset.map(lambda example: {"targets": example["text"]})


FAMILY = Family(
    name=TEXT,
    title="plain text, for span corruption",
    languages=languages.XTREME_R,
    source=Source(
        files=lambda language, split: (f"text/{XTREME_SPLITS[split]}-{language}.txt",),
        read=read,
        tfds=lambda language, split: (
            (TFDS_NAME.format(language), "train") if split == "train" else None
        ),
        splits=("train", "validation"),
    ),
    format=Format(preprocess, objective="span_corruption"),
)
