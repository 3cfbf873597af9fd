"""Where raw data comes from: TFDS, or files in the layout of XTREME's download scripts."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gin

from seqio_tasks.errors import RequestError


@gin.configurable(module="seqio_tasks.sources")
def data_dir(path: str | None = None) -> Path | None:
    """Returns the folder of XTREME-layout files to read instead of TFDS, or None.

    Args:
      path: the folder; by default the environment's `XFER_DATA_DIR`, and TFDS when that is unset.

    Raises:
      RequestError: the folder does not exist.
    """
    path = path or os.environ.get("XFER_DATA_DIR")
    if not path:
        return None
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise RequestError(
            f"the data folder {folder} (XFER_DATA_DIR) does not exist; name a folder in the layout"
            " of XTREME's download scripts, or unset it to read from TFDS"
        )
    return folder


def cache_dir() -> Path:
    """Returns the folder of what is made once and kept: `XFER_CACHE_DIR`, or ~/.cache/xfer-jax."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "xfer-jax"
    return Path(os.environ.get("XFER_CACHE_DIR") or default).expanduser()


def find(
    candidates: tuple[str, ...],
    task: str,
    split: str,
    tfds_name: str | None,
    remedy: str = "put it there with XTREME's download scripts",
) -> Path:
    """Finds a task's file in the data folder.

    Args:
      candidates: paths inside the folder that may hold the split, first choice first.
      task: the task's name, for the error.
      split: likewise.
      tfds_name: where TFDS has it, for the error.
      remedy: how to come by the file, for the error.

    Raises:
      RequestError: there is no folder, or none of the files exists; names the files, the task and
        the ways to get them.
    """
    if not candidates:
        raise RequestError(
            f"{task} has no data for {split}: train on another language, score on another split"
        )
    folder = data_dir()
    files = " or ".join(candidates)
    if folder is None:
        raise RequestError(
            f"{task} ({split}) is not in TFDS and needs {files} in a folder that XFER_DATA_DIR"
            f" names: {remedy}"
        )
    for candidate in candidates:
        if (folder / candidate).is_file():
            return folder / candidate
    elsewhere = f", or unset XFER_DATA_DIR to read TFDS {tfds_name}" if tfds_name else ""
    raise RequestError(
        f"{task} ({split}) needs {files} in {folder}, which is not there: {remedy}{elsewhere}"
    )


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, text without its line end) of a UTF-8 file.

    Raises:
      RequestError: the file is not UTF-8; names the line.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise RequestError(f"{path}, line {number}: not UTF-8") from None
            yield number, text.rstrip("\r\n")


def tagged_sentences(
    path: Path,
    split: str,
    known: tuple[str, ...] = (),
    clean: Callable[[str], str] = str.strip,
    remedy: str = "use validation",
) -> Iterator[dict[str, Any]]:
    """Yields the tokens and tags of `token<TAB>tag` lines, a blank line between sentences.

    Args:
      path: the file.
      split: of the data; test files may lack the tags.
      known: the tags that there are; empty: any.
      clean: of a token.
      remedy: where the test labels are lacking, for the error.

    Raises:
      RequestError: a line of another form (file and line number), or a file without tags, such as
        XTREME's test files.
    """
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in lines(path):
        if not line.strip():
            if tokens:
                yield {"tokens": tokens, "tags": tags}
                tokens, tags = [], []
            continue
        token, tab, tag = line.partition("\t")
        where = f"{path}, line {number}"
        if not tab and split == "test":
            raise RequestError(f"{where}: no tag; XTREME strips the test labels, {remedy}")
        token = clean(token)
        if not token or len(tag.split()) != 1 or (known and tag not in known):
            form = f"a tag of {', '.join(known)}" if known else "a tag without spaces"
            raise RequestError(f"{where}: expected token<TAB>tag with {form}, found {line[:80]!r}")
        tokens.append(token)
        tags.append(tag)
    if tokens:
        yield {"tokens": tokens, "tags": tags}


def unquote(line: str, where: str) -> list[str]:
    """Splits a line that XTREME's scripts wrote with Python's csv module.

    Raises:
      RequestError: it is no such line.
    """
    try:
        return next(csv.reader([line], delimiter="\t"), [])
    except csv.Error as error:
        raise RequestError(f"{where}: {error}") from None


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (file and line, for errors; object) of a file of one JSON object a line.

    Raises:
      RequestError: a line that is none.
    """
    for number, line in lines(path):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise RequestError(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(record, dict):
            raise RequestError(f"{where}: not a JSON object, found {line[:80]!r}")
        yield where, record


def text(record: dict[str, Any], field: str, where: str) -> str:
    """Returns a record's text.

    Raises:
      RequestError: it has no such field, or no text in it.
    """
    value = record.get(field)
    if not isinstance(value, str):
        raise RequestError(f"{where}: expected text in the field {field!r}, found {value!r:.80}")
    return value


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, which names the caches made from it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
