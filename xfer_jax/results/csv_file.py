"""Reads a user's CSV files as text, checks them, and converts text to numbers.

Commas, semicolons or tabs separate values, and lines end with LF, CRLF or CR. If semicolons or tabs
separate values, numbers may have decimal commas.
"""

import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from seqio_tasks import files
from seqio_tasks.errors import RequestError

_SEPARATORS = ",;\t"
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
_EMPTY = ("", "nan", "na")
_PERCENT = ("score", "baseline")  # in these columns, `12,345` cannot mean twelve thousand
LARGEST = 10**15  # largest whole number; floats represent these exactly
_LINE = "line"  # name of the index of a table that was read from a file


def read(path: Path, required: Sequence[str] = ()) -> pd.DataFrame:
    """Reads a CSV file as text, and checks its columns.

    Args:
      path: the file.
      required: columns that it must have.

    Returns:
      A table of stripped text with lower-case column names; the index is the line in the file.

    Raises:
      RequestError: the file is not a table, or lacks a column; names the line.
    """
    text = files.read_text(path)
    separator = _separator(text)
    header, rows, lines = _rows(path, text, separator)
    names = _names(path, header, rows)
    frame = pd.DataFrame(
        [row[: len(names)] for row in rows], columns=names, index=pd.Index(lines, name=_LINE)
    )
    missing = [name for name in required if name not in frame]
    if missing:
        raise RequestError(
            f"{path} has no column {', '.join(missing)}; it has the columns {', '.join(names)}"
        )
    if frame.empty:
        raise RequestError(f"{path} has no rows")
    return frame if separator == "," else frame.apply(_with_decimal_points)


def _separator(text: str) -> str:
    """Returns the separator that gives the most names in the first line."""
    first = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    counts = {c: len(next(csv.reader([first], delimiter=c), [])) for c in _SEPARATORS}
    return max(counts, key=lambda c: counts[c])


def _rows(path: Path, text: str, separator: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Returns the header, the rows that are not empty, and their line numbers."""
    csv.field_size_limit(
        sys.maxsize
    )  # a cell may be longer than the default limit of 131,072 characters
    header: list[str] | None = None
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if header is None:
                header = [cell.lower() for cell in cells] if any(cells) else None
                _check_distinct(path, header or [])
            elif any(cells):
                if len(cells) > len(header):
                    raise RequestError(
                        f"{path}, line {line}: more values than the header has names"
                    )
                if len(cells) < len(header):
                    raise RequestError(
                        f"{path}, line {line}: {len(cells)} values, but the header has"
                        f" {len(header)} names"
                    )
                rows.append(cells)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        why = "a quotation mark is not closed" if "end of data" in str(error) else str(error)
        raise RequestError(f"{path}, line {line}: this is not a valid table ({why})") from None
    if header is None:
        raise RequestError(f"{path} is not a table: it is empty")
    return header, rows, lines


def _check_distinct(path: Path, header: Sequence[str]) -> None:
    twice = next((name for i, name in enumerate(header) if name and name in header[:i]), None)
    if twice is not None:
        raise RequestError(
            f"{path} has two columns {twice!r} (upper and lower case are the same); rename one"
        )


def _names(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the names of the columns, without empty columns at the end that have no name."""
    names = list(header)
    while names and not names[-1] and not any(row[len(names) - 1] for row in rows):
        names.pop()
    if "" in names:
        raise RequestError(f"{path}: column {names.index('') + 1} has no name")
    return names


def _with_decimal_points(column: pd.Series) -> pd.Series:
    """Replaces the decimal commas in a column of numbers with points.

    If all commas could also be thousands separators (`1,234`), the column stays unchanged, and
    `numbers` refuses it. A column in which other numbers have points also stays unchanged.
    """
    filled = column[~column.str.lower().isin(_EMPTY)]
    if not filled.map(_DECIMAL_COMMA.fullmatch).map(bool).all():
        return column
    with_comma = filled[filled.str.contains(",")]
    thousands = with_comma.map(_THOUSANDS.fullmatch).map(bool).all()
    if thousands and column.name not in _PERCENT:
        return column
    return column.str.replace(",", ".")


# --- Numbers --------------------------------------------------------------------------------------


def at(path: Path, rows: pd.Series | pd.DataFrame, position: int = 0) -> str:
    """Returns the file and the line of a row, for an error message."""
    place = rows.index[position]
    return f"{path}, line {place}" if rows.index.name == _LINE else f"{path}, row {place + 1}"


def is_number(texts: pd.Series) -> pd.Series:
    """Returns which texts are numbers; infinity is one."""
    return texts.map(_NUMBER.fullmatch).map(bool)


def is_empty(texts: pd.Series) -> pd.Series:
    """Returns which texts are missing values: an empty text, `nan` or `na`."""
    return texts.str.lower().isin(_EMPTY)


def numbers(path: Path, texts: pd.Series) -> pd.Series:
    """Converts text to numbers; missing values (`is_empty`) become NaN.

    Raises:
      RequestError: a text is not a number, or a number is infinite; names the line.
    """
    texts = texts.astype(str)
    empty = is_empty(texts)
    odd = texts[~empty & ~is_number(texts)]
    if len(odd):
        raise RequestError(
            f"{at(path, odd)}: {texts.name} {_short(odd.iloc[0])} is not a number"
            f"{_hint(odd.iloc[0])}"
        )
    found = texts.where(~empty, "nan").astype(float)
    endless = found[np.isinf(found)]
    if len(endless):
        raise RequestError(f"{at(path, endless)}: {texts.name} is infinite; leave the cell empty")
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _hint(text: str) -> str:
    if _THOUSANDS.fullmatch(text):
        return " with only one meaning: write it without a comma"
    if _DECIMAL_COMMA.fullmatch(text):
        return ": decimal commas are allowed only if semicolons or tabs separate values"
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1].strip().replace(",", ".")):
        return ": remove the percent sign"
    return ""


def whole_numbers(path: Path, texts: pd.Series, default: int) -> pd.Series:
    """Converts text to whole numbers; missing values become the default.

    Raises:
      RequestError: a text is not a whole number from 0 to `LARGEST`; names the line.
    """
    texts = texts.astype(str)
    texts = texts.where(~is_empty(texts), str(default))
    found = texts.where(is_number(texts), "nan").astype(float)
    found = found.where(found.between(0, LARGEST))
    odd = texts[found.isna() | (found % 1 != 0)]
    if len(odd):
        raise RequestError(
            f"{at(path, odd)}: {texts.name} must be a whole number, not {_short(odd.iloc[0])};"
            f" expected 0 to {LARGEST:,}"
        )
    return found.astype("int64")


def write(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as a CSV file, atomically.

    Raises:
      RequestError: the file cannot be written.
      RunError: the disk is full or fails.
    """
    files.write(path, _as_csv(table))


def _as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
