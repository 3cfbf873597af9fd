"""Finds the data folder, in the layout of XTREME's download scripts, and reads its files."""

import csv
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic

from seqio_tasks import files
from seqio_tasks.errors import RequestError

# A cell may be longer than the 131,072 characters that Python's csv module allows.
csv.field_size_limit(2**31 - 1)

XTREME_SPLITS = {"train": "train", "validation": "dev", "test": "test"}  # in names of files
_TAG = re.compile("[A-Z]+(-[A-Z]+)?")  # the form of most tags
_SHOWN = 80  # characters of a wrong value in an error message


def cache_dir() -> Path:
    """Returns the cache folder: `XFER_CACHE_DIR`, or ~/.cache/xfer-jax.

    Raises:
      RequestError: there is no home folder, or the variable is not a valid path.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "xfer-jax"
    try:
        return files.absolute(os.environ.get("XFER_CACHE_DIR") or default)
    except RequestError as error:
        raise RequestError(f"set XFER_CACHE_DIR to a cache folder: {error}") from None


def writable_cache(*parts: str) -> Path:
    """Returns a folder inside the cache folder, and creates it if it is missing.

    Args:
      parts: the parts of its path, e.g. 'tokens'.

    Raises:
      RequestError: the folder cannot be created or written; the remedy is `XFER_CACHE_DIR`.
      RunError: the disk is full or fails.
    """
    folder = cache_dir().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "Permission denied, or a read-only file system")
    except OSError as error:
        doing = f"the cache folder {folder} cannot be written, set XFER_CACHE_DIR to another one"
        raise files.refusal(error, doing) from None
    return folder


def _exists(path: Path, kind: Callable[[Path], bool]) -> bool:
    """Returns whether a path exists and has a kind, `Path.is_file` or `Path.is_dir`."""
    try:
        return kind(path)
    except (
        OSError,
        ValueError,
    ) as error:  # a folder without permission, or a name that is too long
        raise RequestError(f"{path} cannot be read: {error}") from None


def find(
    folder: Path | None,
    candidates: tuple[str, ...],
    task: str,
    split: str,
    tfds_name: str | None,
    remedy: str = "put it there with XTREME's download scripts",
) -> Path:
    """Finds the file of a task in the data folder.

    Args:
      folder: the data folder; None: there is none.
      candidates: possible paths of the split inside the folder, first choice first.
      task: name of the task, for the error message.
      split: name of the split, for the error message.
      tfds_name: name of the data set in TFDS, for the error message.
      remedy: how to get the file, for the error message.

    Raises:
      RequestError: there is no folder, or none of the files exists; names the files, the task and
        the ways to get the files.
    """
    if not candidates:
        raise RequestError(
            f"{task} has no data for {split}: train on another language, or evaluate on another"
            " split"
        )
    names = " or ".join(candidates)
    if folder is None:
        raise RequestError(
            f"{task} ({split}) is not in TFDS and needs {names} in the folder XFER_DATA_DIR, which"
            f" is not set: {remedy}"
        )
    for candidate in candidates:
        if _exists(folder / candidate, Path.is_file):
            return folder / candidate
        if _exists(folder / candidate, Path.is_dir):
            raise RequestError(
                f"{task} ({split}) needs the file {folder / candidate}, which is a folder: {remedy}"
            )
    elsewhere = f", or unset XFER_DATA_DIR to read TFDS {tfds_name}" if tfds_name else ""
    raise RequestError(
        f"{task} ({split}) needs {names} in {folder}, which is missing: {remedy}{elsewhere}"
    )


# --- Lines ----------------------------------------------------------------------------------------


def lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yields (line number from 1, text without its line end) of a UTF-8 file.

    Lines end only in `\n` or `\r\n`: other line ends of Unicode are text. Reads line by line,
    because a file may be larger than the memory.

    Raises:
      RequestError: the file cannot be read, a line is not UTF-8 or contains NUL characters (names
        the line), or all lines end in `\r`.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield number, _decoded(raw, number, path)
    except OSError as error:
        raise files.refusal(error, f"{path} cannot be read") from None


def _decoded(raw: bytes, number: int, path: Path) -> str:
    if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RequestError(f"{path} is UTF-16; save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise RequestError(f"{path}, line {number}: not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        raise RequestError(f"{path}, line {number}: a NUL character; this is not a text file")
    if number == 1 and not text.endswith("\n") and "\r" in text.rstrip("\r"):
        raise RequestError(
            f"{path}: its lines end in carriage returns only; save it with line feeds"
        )
    return text.rstrip("\r\n")


# --- Tokens and tags ------------------------------------------------------------------------------


def tagged_sentences(
    path: Path,
    split: str,
    known: tuple[str, ...] = (),
    clean: Callable[[str], str] = str.strip,
    remedy: str = "use validation",
) -> Iterator[dict[str, Any]]:
    """Yields the tokens and tags of `token<TAB>tag` lines, with blank lines between sentences.

    Args:
      path: the file.
      split: name of the split; test files may lack tags.
      known: the valid tags; empty: any tag is valid.
      clean: cleans a token; a token that becomes empty is an error.
      remedy: what to do if the test labels are missing, for the error message.

    Raises:
      RequestError: a line has another form (names file and line, and the form if it is a common
        one), or the file has no tags, such as the test files of XTREME.
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
        token = clean(token)
        if not token or len(tag.split()) != 1 or (known and tag not in known):
            where, kind = f"{path}, line {number}", _kind(line, known)
            if not tab and not kind and split == "test":
                raise RequestError(f"{where}: no tag; XTREME removes the test labels, {remedy}")
            form = f"a tag of {', '.join(known)}" if known else "a tag without spaces"
            raise RequestError(
                f"{where}: expected token<TAB>tag with {form}, found {kind}{shown(line)}"
            )
        tokens.append(token)
        tags.append(tag)
    if tokens:
        yield {"tokens": tokens, "tags": tags}


def _kind(line: str, known: tuple[str, ...]) -> str:
    """Returns what a line that is not `token<TAB>tag` seems to be; empty if that is unclear.

    Args:
      line: a line that is not blank.
      known: the valid tags; empty: any tag is valid.
    """
    columns = line.split("\t")
    words = line.split()
    if line.startswith("-DOCSTART-"):
        return "a -DOCSTART- line of CoNLL, remove such lines: "
    if len(columns) == 1 and len(words) > 1 and (not known or _TAG.fullmatch(words[-1])):
        return "spaces instead of a tab: "
    if len(columns) == 1 and len(words) > 1 and line.startswith("#"):
        return "a comment, remove such lines: "
    if len(columns) == 10:
        return "a line of CoNLL-U, keep its columns FORM and UPOS: "
    if len(columns) > 2:
        return f"{len(columns)} columns: "
    return ""


def is_visible(text: str) -> bool:
    """Returns whether a text has a visible character (white space and U+200B are not visible)."""
    return any(unicodedata.category(character)[0] not in "CZ" for character in text)


# --- Tables ---------------------------------------------------------------------------------------


def table(path: Path, delimiter: str = "\t") -> Iterator[tuple[str, list[str]]]:
    """Yields (file and line, for errors; cells) of a table that Python's csv module wrote.

    A quoted cell may have several lines; a quotation mark in it is doubled. In other cells,
    quotation marks are text.

    Raises:
      RequestError: a cell begins with a quotation mark and is not a valid quoted cell (names file
        and line).
    """
    rows = csv.reader((line + "\n" for _, line in lines(path)), delimiter=delimiter, strict=True)
    first = 1  # line of the row
    try:
        for row in rows:
            yield f"{path}, line {first}", row
            first = rows.line_num + 1
    except csv.Error as error:
        raise RequestError(f"{path}, line {first}: {_csv_fault(error)}") from None


def _csv_fault(error: csv.Error) -> str:
    remedy = 'quote it as in CSV, with quotation marks inside doubled: "He said ""no"""'
    if "unexpected end of data" in str(error):
        return f"a cell begins with a quotation mark that is never closed; {remedy}"
    if "expected after" in str(error):
        return f"a cell begins with a quotation mark and has text after its closing one; {remedy}"
    return f"not a line of a table ({str(error).partition(' - ')[0]})"


def named_rows(
    rows: Iterable[tuple[str, list[str]]], needed: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (file and line, for errors; cells by column) of the rows after the header.

    Drops cells beyond the header; every row has the `needed` columns.

    Raises:
      RequestError: the header lacks a column, or a row lacks a cell (names file and line).
    """
    header: list[str] | None = None
    for where, cells in rows:
        if header is None:
            header = cells
            missing = [name for name in needed if name not in header]
            if missing:
                raise RequestError(f"{where}: the header lacks {', '.join(missing)}")
            continue
        row = dict(zip(header, cells, strict=False))
        if not row.keys() >= set(needed):
            raise RequestError(f"{where}: expected {len(header)} columns, found {len(cells)}")
        yield where, row


# --- JSON -----------------------------------------------------------------------------------------


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (file and line, for errors; object) of a file with one JSON object per line.

    Raises:
      RequestError: a line is not a JSON object.
    """
    for number, line in lines(path):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        record = files.parse_json(line, where, unique_keys=True)
        if not isinstance(record, dict):
            raise RequestError(f"{where}: expected a JSON object, found {line[:_SHOWN]!r}")
        yield where, record


def text(record: dict[str, Any], field: str, where: str) -> str:
    """Returns the text in a field of a record.

    Raises:
      RequestError: the field is missing, or is not text.
    """
    return as_text(record.get(field), field, where)


def as_text(value: Any, field: str, where: str) -> str:
    """Returns a JSON value that must be text.

    Raises:
      RequestError: the value is not text, or `whole_characters` refuses it.
    """
    if not isinstance(value, str):
        raise RequestError(f"{where}: expected text in the field {field!r}, found {shown(value)}")
    try:
        return whole_characters(value)
    except ValueError as error:
        raise RequestError(f"{where}: the field {field!r} {error}") from None


def whole_characters(value: str) -> str:
    r"""Returns a text that can be encoded in UTF-8.

    Raises:
      ValueError: it contains a lone surrogate, such as `\ud800`, which JSON allows.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        surrogate = f"\\u{ord(value[error.start]):04x}"
        raise ValueError(f"has a lone surrogate {surrogate}, which is not valid text") from None
    return value


Text = Annotated[str, pydantic.AfterValidator(whole_characters)]
# Identifiers in data sets are texts or whole numbers.
Name = Annotated[Text, pydantic.BeforeValidator(lambda n: str(n) if type(n) is int else n)]


class Form(pydantic.BaseModel):
    """The required fields of a JSON object, with exact types; other fields are ignored."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True)


_Form = TypeVar("_Form", bound=Form)


def formed(form: type[_Form], value: Any, where: str) -> _Form:
    """Converts a JSON value to the form that it must have.

    Args:
      form: the form.
      value: the JSON value.
      where: beginning of the error message, e.g. 'a.json: not of SQuAD's form'.

    Raises:
      RequestError: the value has another form; names the field.
    """
    try:
        return form.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        if first["type"] == "missing":
            raise RequestError(f"{where} (the field {field!r} is missing)") from None
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = "" if first["type"] == "value_error" else f", found {shown(first['input'])}"
        raise RequestError(f"{where} ({field!r} {message}{found})") from None


def shown(value: Any) -> str:
    """Returns a short form of a value for an error message; of a list or object, only its type."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return f"{value!r:.{_SHOWN}}" if not isinstance(value, str) else repr(value[:_SHOWN])


def one_line(name: Any) -> str:
    """Returns a short form, on one line, of a name from a file, for an error message."""
    short = str(name)[:_SHOWN]
    return short if short.isprintable() else repr(short)


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file; names of caches contain it.

    Raises:
      RequestError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise files.refusal(error, f"{path} cannot be read") from None
