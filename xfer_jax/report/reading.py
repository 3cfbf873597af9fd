"""Reads an analysis for the page, and checks every column that the page uses.

`analysis_folder.read` verifies that the files belong together; their values are still not trusted.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqio_tasks.errors import RequestError
from xfer_jax.analysis import analysis_folder

_LARGEST = 1e12  # a larger number cannot be a score, a count or a correlation
# Invalid in HTML and SVG: control characters, lone surrogates, non-characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns of a table that the page uses."""

    text: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()  # numbers that only some analyses have
    unbounded: tuple[str, ...] = ()  # numbers that may be infinite
    key: tuple[str, ...] = ()  # columns that identify a row


_PAIR = ("task", "source", "target")
_INTERVAL = ("low", "high")
_TABLES = {
    "languages": _Columns(
        ("task", "language", "name", "family", "genus"),
        ("as_source", "as_target"),
        ("donor", "recipient", "lm_loss", "lm_em", "baseline", "as_source_baseline"),
        key=("task", "language"),
    ),
    "alignment": _Columns(_PAIR, ("score",)),
    "features": _Columns(("source", "target"), key=("source", "target")),  # the rest: numbers
    "correlations": _Columns(
        ("task", "feature", "of"),
        (
            "pairs", "languages", "pearson", "spearman", "naive_p", "qap_p", *_INTERVAL, "within",
            "within_p", "coverage", "fdr", "within_fdr",
        ),
        key=("task", "feature"),
    ),
    "regression": _Columns(
        ("task", "feature"),
        ("beta", "partial", "qap_p", "mixed", "mixed_low", "mixed_high"),
        unbounded=("vif",),
        key=("task", "feature"),
    ),
    "checkpoints": _Columns(
        ("task", "rule"), ("pairs", "own", "transfer", "minus_last"), key=("task", "rule")
    ),
    "models": _Columns(
        ("task", "collinear"),
        ("pairs", "languages", "r2", "unseen_r2", "source_sd", "target_sd", "rest_sd"),
        key=("task",),
    ),
    "wals": _Columns(
        ("task", "feature", "same"),
        ("agree", "differ", "score_agree", "score_differ", "points", "qap_p", "fdr"),
    ),
    "shares": _Columns(("task",), ("of_source", "of_target", "of_pair", "reciprocity")),
    "sensitivity": _Columns(("task", "feature"), ("pearson", "qap_p", "pairs")),
    "laws": _Columns(
        ("task", "axis", "law"), ("curves", "r2", "inside", "beyond", "best"), key=("task", "law")
    ),
    "needed": _Columns(
        ("task", "target"), ("reach", "each_doubling"), unbounded=("examples", *_INTERVAL)
    ),
    "curves": _Columns(("task", "target"), ("n", "score")),
    "outcomes": _Columns((*_PAIR, "outcome"), ("count", "of")),
    "gains": _Columns((*_PAIR, "intermediate", "baseline"), ("gain",)),
    "gain_means": _Columns(
        ("task", "intermediate", "subset"),
        ("gain", *_INTERVAL),
        key=("task", "intermediate", "subset"),
    ),
    "gain_features": _Columns(
        ("task", "feature", "of"), ("pairs", "within", "p", "fdr", "contrast", *_INTERVAL)
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The checked results of `analyze`."""

    about: dict[str, Any]  # see `analysis_folder.About`
    tables: Mapping[str, pd.DataFrame]  # text without NaN; numbers finite or NaN, but `unbounded`

    @property
    def tasks(self) -> list[str]:
        return list(self.tables["languages"]["task"].unique())

    def of(self, name: str, task: str) -> pd.DataFrame:
        """Returns the rows of a table that belong to a task; empty if the table is missing."""
        frame = self.tables.get(name, pd.DataFrame())
        return frame if frame.empty else frame[frame["task"] == task]


def read(folder: Path) -> Analysis:
    """Reads the analysis in a folder.

    Raises:
      RequestError: see `analysis_folder.read`; or a table lacks a column, has text instead of a
        number, or has two rows with the same key.
    """
    about, found = analysis_folder.read(folder)
    if "languages" not in found:
        raise RequestError(f"{folder} has no languages.csv: run `xfer-jax analyze` again")
    return Analysis(
        _cleaned(about),
        {name: _checked(folder / f"{name}.csv", name, found[name]) for name in _TABLES
         if name in found},
    )  # fmt: skip


def clean(text: str) -> str:
    """Replaces the characters that are invalid in HTML or XML."""
    return _UNPRINTABLE.sub("\ufffd", text)


def _cleaned(value: Any) -> Any:
    """Returns a JSON value with all its texts cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(part) for name, part in value.items()}
    return [_cleaned(part) for part in value] if isinstance(value, list) else value


def _checked(path: Path, name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Checks the columns that the page uses, and converts them to their types."""
    columns = _TABLES[name]
    wanted = [*columns.text, *columns.numbers, *columns.unbounded]
    for column in wanted:
        if column not in frame:
            raise RequestError(f"{path} has no column {column!r}: run `xfer-jax analyze` again")
    numbers = [*columns.numbers, *columns.unbounded, *(c for c in columns.optional if c in frame)]
    if name == "features":
        numbers = [column for column in frame if column not in columns.text]
    typed = {column: _text(frame[column]) for column in columns.text} | {
        column: _numbers(path, frame[column], column in columns.unbounded) for column in numbers
    }
    frame = frame.assign(**typed).rename(columns={c: clean(str(c)) for c in frame})
    if columns.key and frame.duplicated(list(columns.key)).any():
        row = frame[frame.duplicated(list(columns.key))].iloc[0]
        key = ", ".join(f"{column} {row[column]}" for column in columns.key)
        raise RequestError(f"{path} has two rows of {key}: run `xfer-jax analyze` again")
    return frame


def _text(values: pd.Series) -> pd.Series:
    return values.map(lambda value: "" if pd.isna(value) else clean(str(value))).astype(object)


def _numbers(path: Path, values: pd.Series, unbounded: bool) -> pd.Series:
    """Returns a column as numbers; infinite values become NaN, unless they are allowed.

    Raises:
      RequestError: a value is no number; names the file and the column.
    """
    where = f"{path}, column {clean(str(values.name))!r}"
    found = pd.to_numeric(values, errors="coerce")
    odd = found.isna() & values.notna() & (values.astype(str).str.lower() != "nan")
    if odd.any():
        raise RequestError(
            f"{where}: expected a number, found {clean(str(values[odd].iloc[0]))[:40]!r};"
            " run `xfer-jax analyze` again"
        )
    if unbounded:
        return found.astype(float)
    infinite = np.isinf(found)
    if infinite.any():
        found = found.mask(infinite)
    if (found.abs() > _LARGEST).any():
        raise RequestError(
            f"{where}: {float(found.abs().max()):g} is too large to be right;"
            " run `xfer-jax analyze` again"
        )
    return found


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a table as dictionaries, for the templates."""
    return frame.to_dict("records")
