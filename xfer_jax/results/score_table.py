"""Reads tables of scores, from a study or from a user, checks them, and converts them to one form.

Does not import the engine. A table has the columns source, target and score. It may also have the
others of `COLUMNS`, which runs and studies write: n_shots are training examples in the target
language, n_train in the source language. Further columns are kept.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax.results import csv_file, language_names

REQUIRED = ("source", "target", "score")
COLUMNS = (
    "task", "source", "target", "intermediate", "arm", "n_shots", "n_train", "seed", "metric",
    "score", "baseline", "n_examples", "split", "step", "selected_by", "model", "engine", "run",
)  # fmt: skip
MORE = "more"  # in the column `intermediate`: as many steps more in the source, on the same task
_KEY = ("task", "source", "target", "intermediate", "n_shots", "n_train", "arm", "model", "seed")
_DEFAULTS = {
    "task": "task",
    "intermediate": "",
    "n_shots": 0,
    "n_train": 0,  # unknown
    "arm": "",
    "model": "",
    "seed": 0,
}
FEWEST = 4  # languages; three have only six permutations
_SHOWN = 6  # names in a list of a note


@dataclasses.dataclass(frozen=True)
class ScoreTable:
    """A checked table of scores, and notes for the reader."""

    table: pd.DataFrame  # columns of _KEY, `score` in percent, and the other columns
    notes: tuple[str, ...]  # what was left out or assumed


def text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns rows as the text of a `scores.csv`; a column that a row lacks is empty."""
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        percents = {name: f"{row[name]:.6g}" for name in ("score", "baseline") if name in row}
        writer.writerow({**row, **percents})
    return written.getvalue()


def read(path: Path, where: Mapping[str, str] | None = None, fractions: bool = False) -> ScoreTable:
    """Reads a table of scores.

    Args:
      path: a CSV file with commas, semicolons or tabs.
      where: see `check`.
      fractions: see `check`.

    Raises:
      RequestError: see `csv_file.read` and `check`; or there are fewer than four languages.
    """
    scores = check(csv_file.read(path, REQUIRED), path, where, fractions)
    codes = sorted({*scores.table["source"], *scores.table["target"]})
    if len(codes) < FEWEST:
        raise RequestError(
            f"{path} has {len(codes)} languages ({', '.join(codes)}): an analysis needs at least"
            f" {FEWEST}"
        )
    return scores


def check(
    frame: pd.DataFrame,
    path: Path,
    where: Mapping[str, str] | None = None,
    fractions: bool = False,
) -> ScoreTable:
    """Checks a table of text and converts it to one form.

    Args:
      frame: see `csv_file.read`.
      path: its file, for error messages.
      where: keep only the rows with these values, by column.
      fractions: scores are in [0, 1] and are multiplied by 100.

    Raises:
      RequestError: unknown languages or columns, contradicting rows, or scores that are not
        percentages; names the row.
    """
    frame = _chosen(frame, path, where or {})
    notes: list[str] = []
    unused = [str(name) for name in frame if name not in COLUMNS and name not in (where or {})]
    if unused:
        notes.append(f"{path}: columns that are ignored: {_list(unused)}")
    frame = _with_defaults(path, frame)
    ours = {"run", "engine"} <= set(frame.columns)  # the table of a study is in percent
    frame["score"] = csv_file.numbers(path, frame["score"])
    empty = frame["score"].isna()
    if empty.any():
        notes.append(f"{int(empty.sum())} rows have no score and are left out")
        frame = frame[~empty]
    if frame.empty:
        raise RequestError(f"{path}: no row has a score")
    frame["score"] = _percent(path, frame, "score", fractions, ours)
    if "baseline" in frame:
        frame["baseline"] = csv_file.numbers(path, frame["baseline"])
        frame["baseline"] = _percent(path, frame, "baseline", fractions, ours=True)
    for column in ("source", "target"):
        frame[column] = language_names.codes_of(path, frame[column])
    frame, dropped = _without_repeats(path, frame)
    if dropped:
        notes.append(f"{dropped} rows are exact duplicates of another row and count once")
    notes += language_names.typology_notes({*frame["source"], *frame["target"]})
    for column in ("model", "metric"):
        for task, of_task in frame.groupby("task") if column in frame else ():
            several = sorted(set(of_task[column]))
            if len(several) > 1:
                raise RequestError(
                    f"{path} has scores of {task} for several values of {column}"
                    f" ({', '.join(several[:4])}): choose one with --where {column}={several[0]}"
                )
    for task, of_task in frame.groupby("task"):
        pairs = of_task[["source", "target"]].drop_duplicates()
        possible = pairs["source"].nunique() * pairs["target"].nunique()
        if len(pairs) < possible:
            notes.append(f"{task}: {possible - len(pairs)} of {possible} cells have no score")
    return ScoreTable(frame.reset_index(drop=True), tuple(notes))


def _chosen(frame: pd.DataFrame, path: Path, where: Mapping[str, str]) -> pd.DataFrame:
    """Returns the rows with the requested values."""
    for column, value in where.items():
        if column not in frame:
            hint = did_you_mean(column, frame.columns)
            raise RequestError(f"{path} has no column {column!r} for --where{hint}")
        kept = frame[column].astype(str) == value
        if not kept.any():
            found = ", ".join(sorted(frame[column].astype(str).unique())[:8])
            raise RequestError(f"{path}: no row has {column} {value}; choose one of {found}")
        frame = frame[kept]
    return frame


def _list(names: Iterable[str]) -> str:
    """Returns the first names of a list for a note, and the number of the others."""
    shown = list(names)
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def zero_shot(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Chooses the rows by which language pairs are compared, task by task.

    These are the rows with the fewest training examples in the target language; if possible,
    without an intermediate task and with all training data. If a cell has several sizes of training
    data, the largest counts.

    Returns:
      The rows, and notes on the choice.
    """
    notes, chosen = [], []
    for task, of_task in table.groupby("task", sort=False):
        rows = of_task
        for column in ("arm", "intermediate"):
            first = min(rows[column], key=lambda name: (name not in ("", MORE), name))
            if first:
                notes.append(f"{task}: only rows with {column} {first} are compared")
            rows = rows[rows[column] == first]
        shots = rows["n_shots"].min()
        if shots:
            notes.append(
                f"{task} has no zero-shot scores: scores with {shots} training examples in the"
                " target language are compared"
            )
        rows = rows[rows["n_shots"] == shots]
        largest = rows.groupby(["source", "target", "seed"])["n_train"].transform("max")
        if (rows["n_train"] < largest).any():
            notes.append(
                f"{task}: each source has several numbers of training examples; the largest is"
                f" compared: {_range(largest)}"
            )
        rows = rows[rows["n_train"] == largest]
        lost = sorted(set(of_task["source"]) - set(rows["source"]))
        if lost:
            notes.append(
                f"{task}: source languages without such a score are left out: {', '.join(lost)}"
            )
        chosen.append(rows)
    return pd.concat(chosen), tuple(notes)


def _range(numbers: pd.Series) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _with_defaults(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Fills in the columns that identify a cell."""
    for column, default in _DEFAULTS.items():
        if column not in frame:
            frame = frame.assign(**{column: default})
        elif isinstance(default, int):
            whole = csv_file.whole_numbers(path, frame[column], default)
            frame = frame.assign(**{column: whole})
        else:
            texts = frame[column].astype(str)
            odd = texts[texts.str.contains(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")]
            if len(odd):
                where = csv_file.at(path, odd)
                raise RequestError(
                    f"{where}: {column} {odd.iloc[0]!r} contains a control character"
                )
            frame = frame.assign(**{column: texts.replace("", str(default))})
    return frame.copy()


def _percent(
    path: Path, frame: pd.DataFrame, column: str, fractions: bool, ours: bool
) -> pd.Series:
    """Returns scores in percent; checks the unit for each task.

    Args:
      path: file of the table.
      frame: has the columns `task` and `column`, the latter with numbers.
      column: name of the column with scores.
      fractions: whether the user says that all scores are fractions of 1.
      ours: whether all scores are known to be in percent, even if they are small.

    Raises:
      RequestError: the scores of a task do not have the expected unit; names the task.
    """
    for task, scores in frame.groupby("task", sort=False)[column]:
        if fractions and scores.max() > 1:
            odd = scores[scores > 1]
            raise RequestError(
                f"{csv_file.at(path, odd)}: a {column} of {odd.iloc[0]:g} is not a fraction of 1"
                f" (task {task}); expected 0 to 1"
            )
        if not (fractions or ours) and scores.max() <= 1 and ((scores > 0) & (scores < 1)).any():
            raise RequestError(
                f"{path}: all scores of {task} are at most 1, but percentages are expected: give"
                " --fractions if all scores are fractions of 1, or multiply these by 100"
            )
    scores = frame[column] * 100 if fractions else frame[column]
    odd = scores[(scores < 0) | (scores > 100)]
    if len(odd):
        raise RequestError(
            f"{csv_file.at(path, odd)}: a {column} of {odd.iloc[0]:g} is not a percentage;"
            " expected 0 to 100"
        )
    return scores


def _without_repeats(path: Path, frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    key = [name for name in (*_KEY, "metric") if name in frame]
    distinct = frame.drop_duplicates([*key, "score"])
    twice = distinct[distinct.duplicated(key, keep=False)]
    if len(twice):
        row = twice.iloc[0]
        same = twice[(twice[key] == row[key]).all(axis=1)]
        names = ", ".join(f"{name} {row[name]}" for name in key if row[name] not in ("", 0))
        lines = ""
        if same.index.name is not None:
            lines = f", {same.index.name}s {' and '.join(map(str, same.index[:3]))}"
        raise RequestError(
            f"{path} gives {' and '.join(f'{v:g}' for v in same['score'][:3])} for the same cell"
            f" ({names}{lines}); if another column distinguishes them, choose one with --where"
            " COLUMN=VALUE"
        )
    return distinct, len(frame) - len(distinct)


def matrix(table: pd.DataFrame, sources: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """Returns mean scores [sources, targets] over seeds; NaN where there is none."""
    means = table.groupby(["source", "target"])["score"].mean()
    return means.unstack().reindex(index=list(sources), columns=list(targets)).to_numpy(float)
