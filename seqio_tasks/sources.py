"""Where raw data comes from: TFDS, or files in the layout of XTREME's download scripts."""

import csv
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import gin
import pydantic

from seqio_tasks import files
from seqio_tasks.errors import RequestError

# A cell may be longer than the 131,072 characters that Python's csv module allows.
csv.field_size_limit(2**31 - 1)

XTREME_SPLITS = {"train": "train", "validation": "dev", "test": "test"}  # in names of files
_TAG = re.compile("[A-Z]+(-[A-Z]+)?")  # what tags look like, of one set or another
_SHOWN = 80  # characters of a bad value that an error shows


@gin.configurable(module="seqio_tasks.sources")
def data_dir(path: str | None = None) -> Path | None:
    """Returns the folder of XTREME-layout files to read instead of TFDS, or None.

    Args:
      path: the folder; by default the environment's `XFER_DATA_DIR`, and TFDS when that is unset.

    Raises:
      RequestError: the folder does not exist, or may not be looked into.
    """
    if path is None or path == "":
        path = os.environ.get("XFER_DATA_DIR")
    if path is None or path == "":
        return None
    folder = files.absolute(path, "DATA_DIR or XFER_DATA_DIR")
    if not _exists(folder, Path.is_dir):
        raise RequestError(
            f"the data folder {folder} (XFER_DATA_DIR) does not exist; name a folder in the layout"
            " of XTREME's download scripts, or unset it to read from TFDS"
        )
    return folder


def cache_dir() -> Path:
    """Returns the folder of what is made once and kept: `XFER_CACHE_DIR`, or ~/.cache/xfer-jax.

    Raises:
      RequestError: there is no home folder, or the variable holds no path.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "xfer-jax"
    try:
        return files.absolute(os.environ.get("XFER_CACHE_DIR") or default)
    except RequestError as error:
        raise RequestError(f"name a cache folder by XFER_CACHE_DIR: {error}") from None


def writable_cache(*parts: str) -> Path:
    """Returns a folder inside the cache folder, which it makes where it is missing.

    Args:
      parts: of its path, e.g. 'tokens'.

    Raises:
      RequestError: it cannot be made or written in; names `XFER_CACHE_DIR` as the remedy.
      RunError: the disk is full or fails.
    """
    folder = cache_dir().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "Permission denied, or a read-only file system")
    except OSError as error:
        doing = f"the cache folder {folder} cannot be written, name another by XFER_CACHE_DIR"
        raise files.refusal(error, doing) from None
    return folder


def _exists(path: Path, kind: Callable[[Path], bool]) -> bool:
    """Whether a path is there and of a kind, `Path.is_file` or `Path.is_dir`."""
    try:
        return kind(path)
    except (OSError, ValueError) as error:  # a folder that may not be searched, too long a name
        raise RequestError(f"{path} cannot be read: {error}") from None


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
    names = " or ".join(candidates)
    if folder is None:
        raise RequestError(
            f"{task} ({split}) is not in TFDS and needs {names} in a folder that XFER_DATA_DIR"
            f" names: {remedy}"
        )
    for candidate in candidates:
        if _exists(folder / candidate, Path.is_file):
            return folder / candidate
        if _exists(folder / candidate, Path.is_dir):
            raise RequestError(
                f"{task} ({split}) needs a file {folder / candidate}, which is a folder: {remedy}"
            )
    elsewhere = f", or unset XFER_DATA_DIR to read TFDS {tfds_name}" if tfds_name else ""
    raise RequestError(
        f"{task} ({split}) needs {names} in {folder}, which is not there: {remedy}{elsewhere}"
    )


# --- Lines ----------------------------------------------------------------------------------------


def lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yields (line number from 1, text without its line end) of a UTF-8 file.

    Lines end in `\n` or `\r\n` alone: other characters that Unicode calls line ends are text.
    It does not read the file whole, which may be larger than the memory.

    Raises:
      RequestError: the file cannot be read, or a line is not UTF-8 or holds NUL characters (file
        and line number), or all lines end in `\r`.
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
        raise RequestError(f"{path}, line {number}: a NUL character; this is no text file")
    if number == 1 and not text.endswith("\n") and "\r" in text.rstrip("\r"):
        raise RequestError(
            f"{path}: its lines end in carriage returns alone; save it with line feeds"
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
    """Yields the tokens and tags of `token<TAB>tag` lines, a blank line between sentences.

    Args:
      path: the file.
      split: of the data; test files may lack the tags.
      known: the tags that there are; empty: any.
      clean: of a token; what it leaves nothing of is no token.
      remedy: where the test labels are lacking, for the error.

    Raises:
      RequestError: a line of another form (file and line number; says what the line is where it is
        of a form that files of tags often have), or a file without tags, such as XTREME's test
        files.
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
                raise RequestError(f"{where}: no tag; XTREME strips the test labels, {remedy}")
            form = f"a tag of {', '.join(known)}" if known else "a tag without spaces"
            raise RequestError(
                f"{where}: expected token<TAB>tag with {form}, found {kind}{shown(line)}"
            )
        tokens.append(token)
        tags.append(tag)
    if tokens:
        yield {"tokens": tokens, "tags": tags}


def _kind(line: str, known: tuple[str, ...]) -> str:
    """Says what a line that is not `token<TAB>tag` seems to be; nothing where that is not clear.

    Args:
      line: that is not blank.
      known: the tags that there are; empty: any.
    """
    columns = line.split("\t")
    words = line.split()
    if line.startswith("-DOCSTART-"):
        return "a -DOCSTART- line of CoNLL, remove such lines: "
    if len(columns) == 1 and len(words) > 1 and (not known or _TAG.fullmatch(words[-1])):
        return "spaces in place of the tab: "
    if len(columns) == 1 and len(words) > 1 and line.startswith("#"):
        return "a comment, remove such lines: "
    if len(columns) == 10:
        return "a line of CoNLL-U, keep its columns FORM and UPOS: "
    if len(columns) > 2:
        return f"{len(columns)} columns: "
    return ""


def is_visible(text: str) -> bool:
    """Whether a text has a character that is neither white space nor invisible, as U+200B is."""
    return any(unicodedata.category(character)[0] not in "CZ" for character in text)


# --- Tables ---------------------------------------------------------------------------------------


def table(path: Path, delimiter: str = "\t") -> Iterator[tuple[str, list[str]]]:
    """Yields (file and line, for errors; cells) of a table that Python's csv module wrote.

    A cell in quotation marks may go over several lines, and holds its own doubled. Quotation marks
    within a cell that does not begin with one are text.

    Raises:
      RequestError: a cell begins with a quotation mark and is not quoted as csv has it (file and
        line number).
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
    remedy = 'write it as csv has it: "He said ""no""", in quotation marks and its own doubled'
    if "unexpected end of data" in str(error):
        return f"a cell begins with a quotation mark that is never closed; {remedy}"
    if "expected after" in str(error):
        return (
            f"a cell begins with a quotation mark and does not end with its closing one; {remedy}"
        )
    return f"no line of a table ({str(error).partition(' - ')[0]})"


def named_rows(
    rows: Iterable[tuple[str, list[str]]], needed: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (file and line, for errors; cells by column) of a table's rows, the first its header.

    Cells beyond the header are left out; `needed` ones are always there.

    Raises:
      RequestError: the header lacks a column, or a row a cell (file and line number).
    """
    header: list[str] | None = None
    for where, cells in rows:
        if header is None:
            header = cells
            missing = [name for name in needed if name not in header]
            if missing:
                raise RequestError(f"{where}: a header without {', '.join(missing)}")
            continue
        row = dict(zip(header, cells, strict=False))
        if not row.keys() >= set(needed):
            raise RequestError(f"{where}: expected {len(header)} columns, found {len(cells)}")
        yield where, row


# --- JSON -----------------------------------------------------------------------------------------


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (file and line, for errors; object) of a file of one JSON object a line.

    Raises:
      RequestError: a line that is none.
    """
    for number, line in lines(path):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        record = files.parse_json(line, where, unique_keys=True)
        if not isinstance(record, dict):
            raise RequestError(f"{where}: not a JSON object, found {line[:_SHOWN]!r}")
        yield where, record


def text(record: dict[str, Any], field: str, where: str) -> str:
    """Returns a record's text.

    Raises:
      RequestError: it has no such field, or no text in it.
    """
    return as_text(record.get(field), field, where)


def as_text(value: Any, field: str, where: str) -> str:
    """Returns a value of JSON that must be text.

    Raises:
      RequestError: it is not, or `whole_characters` refuses it.
    """
    if not isinstance(value, str):
        raise RequestError(f"{where}: expected text in the field {field!r}, found {shown(value)}")
    try:
        return whole_characters(value)
    except ValueError as error:
        raise RequestError(f"{where}: the field {field!r} {error}") from None


def whole_characters(value: str) -> str:
    r"""Returns a text that UTF-8 can hold.

    Raises:
      ValueError: it has half a character: JSON can say `\ud800`.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise ValueError(f"has {half} alone, which is half a character and no text") from None
    return value


Text = Annotated[str, pydantic.AfterValidator(whole_characters)]
# Data sets name their parts by texts or by whole numbers.
Name = Annotated[Text, pydantic.BeforeValidator(lambda n: str(n) if type(n) is int else n)]


class Form(pydantic.BaseModel):
    """What an object of JSON must hold, of exactly these types; what else it holds is left out."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True)


_Form = TypeVar("_Form", bound=Form)


def formed(form: type[_Form], value: Any, where: str) -> _Form:
    """Returns a value of JSON as the form that it must have.

    Args:
      form: that it must have.
      value: of JSON.
      where: it comes from and what it is not, for the error, e.g. 'a.json: not of SQuAD's form'.

    Raises:
      RequestError: it has another form; names the field.
    """
    try:
        return form.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        if first["type"] == "missing":
            raise RequestError(f"{where} (it lacks {field!r})") from None
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = "" if first["type"] == "value_error" else f", found {shown(first['input'])}"
        raise RequestError(f"{where} ({field!r} {said}{found})") from None


def shown(value: Any) -> str:
    """Returns a value as an error shows it: short, and of a list or an object only that it is."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return f"{value!r:.{_SHOWN}}" if not isinstance(value, str) else repr(value[:_SHOWN])


def one_line(name: Any) -> str:
    """Returns a name that a file gives as an error shows it: short, and in one line."""
    short = str(name)[:_SHOWN]
    return short if short.isprintable() else repr(short)


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, which names the caches made from it.

    Raises:
      RequestError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise files.refusal(error, f"{path} cannot be read") from None
