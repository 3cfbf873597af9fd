"""Files that tests write."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fill(folder: Path, files: Mapping[str, str]) -> None:
    """Writes files by their paths in a data folder."""
    for path, content in files.items():
        write(folder / path, content)


def lines(*records: object) -> str:
    """Returns records as lines of JSON."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def jsonl(path: Path) -> list[dict]:
    """Reads lines of JSON."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Reads a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def flip(path: Path, place: int) -> None:
    """Flips a bit of a file, given its number."""
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def squad(*questions: object, context: str = "c") -> str:
    """Returns JSON in SQuAD's form, with a paragraph for each question."""
    paragraphs = [{"context": context, "qas": [question]} for question in questions]
    return json.dumps({"version": "1", "data": [{"paragraphs": paragraphs}]})
