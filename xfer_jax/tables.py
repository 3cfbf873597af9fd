"""Tables of scores, ours or a user's own: read, checked, and brought into one form.

Knows nothing of the engine. A table has the columns source, target and score, and may have task,
n_shots (examples in the target language), n_train (in the source language), seed, intermediate,
arm, metric, model, n_examples, run; others are kept.
"""

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pydantic

from seqio_tasks import files, languages, uriel
from seqio_tasks.errors import RequestError, did_you_mean

ABOUT = "analysis.json"  # in an analysis' folder: what was asked, and which tables belong to it
# What an analysis may write, each where there is something to say.
ANALYSIS_TABLES = (
    "scores", "features", "languages", "shares", "alignment", "outcomes", "correlations",
    "regression", "models", "wals", "sensitivity", "laws", "needed", "curves", "gains",
    "gain_means", "gain_features",
)  # fmt: skip
_WORDS = (  # columns of those tables that hold names, even where they look like numbers
    "task", "source", "target", "language", "feature", "name", "same", "collinear", "intermediate",
    "subset", "family", "genus", "outcome", "metric", "model", "run", "arm", "engine", "axis",
)  # fmt: skip
REQUIRED = ("source", "target", "score")
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
_FRACTION = 1.0  # a table whose scores are all below may hold fractions
FEWEST = 4  # languages: with three there are but six ways to permute them


@dataclasses.dataclass(frozen=True)
class Scores:
    """A table in one form, and what a reader should know of it."""

    table: pd.DataFrame  # columns of _KEY, `score` in percent, and what else there was
    notes: tuple[str, ...]  # what was left out or taken for granted


def read(path: Path, where: Mapping[str, str] | None = None, fractions: bool = False) -> Scores:
    """Reads a table of scores.

    Args:
      path: CSV with commas, semicolons or tabs.
      where: see `check`.
      fractions: see `check`.

    Raises:
      RequestError: see `read_csv` and `check`; fewer than four languages.
    """
    scores = check(read_csv(path), path, where, fractions)
    here = sorted({*scores.table["source"], *scores.table["target"]})
    if len(here) < FEWEST:
        raise RequestError(
            f"{path} has {len(here)} languages ({', '.join(here)}): of fewer than {FEWEST} nothing"
            " can be said"
        )
    return scores


def check(
    frame: pd.DataFrame,
    path: Path,
    where: Mapping[str, str] | None = None,
    fractions: bool = False,
) -> Scores:
    """Brings a table of text into one form.

    Args:
      frame: see `read_csv`.
      path: where it comes from, to be named.
      where: columns that must have a value, to choose of a table that holds more.
      fractions: scores are in [0, 1] and are multiplied by 100.

    Raises:
      RequestError: unknown languages or columns, contradicting rows, scores that are no
        percentages; one sentence that names the row.
    """
    for column, value in (where or {}).items():
        if column not in frame:
            hint = did_you_mean(column, frame.columns)
            raise RequestError(f"{path} has no column {column!r} to choose by{hint}")
        kept = frame[column].astype(str) == value
        if not kept.any():
            found = ", ".join(sorted(frame[column].astype(str).unique())[:8])
            raise RequestError(f"{path}: no row has {column} {value}; there are {found}")
        frame = frame[kept]
    notes: list[str] = []
    frame = _with_defaults(path, frame)
    frame["score"] = numbers(path, frame["score"])
    empty = frame["score"].isna()
    if empty.any():
        notes.append(f"{int(empty.sum())} rows have no score and are left out")
        frame = frame[~empty]
    frame["score"] = _percent(path, frame["score"], fractions)
    for column in ("source", "target"):
        codes = {name: code_of(name) for name in frame[column].unique()}
        frame[column] = frame[column].map(codes)
    frame, dropped = _without_repeats(path, frame)
    if dropped:
        notes.append(f"{dropped} rows repeat another to the letter and count once")
    strange = [
        code
        for code in sorted({*frame["source"], *frame["target"]})
        if not uriel.known(uriel_row(code))
    ]
    if strange:
        notes.append(
            f"URIEL does not know {', '.join(strange)}: nothing is known of their typology"
        )
    for column in ("model", "metric"):
        for task, of_task in frame.groupby("task") if column in frame else ():
            several = sorted(set(of_task[column]))
            if len(several) > 1:
                raise RequestError(
                    f"{path} has scores of {task} by {column} {', '.join(several[:4])}: choose one"
                    f" by --where {column}={several[0]}"
                )
    for task, of_task in frame.groupby("task"):
        pairs = of_task[["source", "target"]].drop_duplicates()
        possible = pairs["source"].nunique() * pairs["target"].nunique()
        if len(pairs) < possible:
            notes.append(f"{task}: {possible - len(pairs)} of {possible} cells have no score")
    return Scores(frame.reset_index(drop=True), tuple(notes))


def zero_shot(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Chooses the rows that pairs of languages are compared by, task by task.

    Those with the fewest examples in the target language, without an intermediate task and of all
    training data where there are such; of a cell that was trained on several amounts of data, the
    largest.

    Returns:
      The rows, and what a reader should know of the choice.
    """
    notes, chosen = [], []
    for task, of_task in table.groupby("task", sort=False):
        rows = of_task
        for column in ("arm", "intermediate"):
            first = min(rows[column], key=lambda name: (name not in ("", "more"), name))
            if first:
                notes.append(f"{task}: only rows of {column} {first} are compared")
            rows = rows[rows[column] == first]
        shots = rows["n_shots"].min()
        if shots:
            notes.append(f"{task} has no zero-shot scores: those of {shots} shots are compared")
        rows = rows[rows["n_shots"] == shots]
        largest = rows.groupby(["source", "target", "seed"])["n_train"].transform("max")
        if (rows["n_train"] < largest).any():
            notes.append(
                f"{task}: of the numbers of training examples that a source has, the largest is"
                f" compared: {_range(largest)}"
            )
        rows = rows[rows["n_train"] == largest]
        lost = sorted(set(of_task["source"]) - set(rows["source"]))
        if lost:
            notes.append(f"{task}: sources without such a score are left out: {', '.join(lost)}")
        chosen.append(rows)
    return pd.concat(chosen), tuple(notes)


def _range(numbers: pd.Series) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def read_csv(path: Path, required: Sequence[str] = REQUIRED) -> pd.DataFrame:
    """Reads a CSV with commas, semicolons or tabs as text, and checks its columns.

    Raises:
      RequestError: it is no table, or lacks a column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False,
            decimal=".", quoting=csv.QUOTE_MINIMAL,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise RequestError(f"{path} is no table: {str(error).splitlines()[0]}") from None
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    width = len(next(rows))
    long = next((i for i, row in enumerate(rows, 2) if len(row) > width), None)
    if long is not None:
        raise RequestError(f"{path}, line {long}: more values than the header has names")
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise RequestError(f"{path} has two columns {twice!r} (capitals do not count)")
    missing = [name for name in required if name not in frame]
    if missing:
        raise RequestError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(frame.columns)}"
        )
    if frame.empty:
        raise RequestError(f"{path} has no rows")
    return frame.apply(lambda column: column.str.strip())


def _with_defaults(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    for column, default in _DEFAULTS.items():
        if column not in frame:
            frame = frame.assign(**{column: default})
        elif isinstance(default, int):
            whole = pd.to_numeric(
                frame[column].astype(str).replace("", str(default)), errors="coerce"
            )
            if whole.isna().any() or (whole % 1 != 0).any():
                bad = frame[column][whole.isna() | (whole % 1 != 0)].iloc[0]
                raise RequestError(f"{path}: {column} must be whole numbers, not {bad!r}")
            frame = frame.assign(**{column: whole.astype(int)})
    return frame.copy()


def numbers(path: Path, texts: pd.Series) -> pd.Series:
    """Turns text into numbers; empty, `nan` and `na` become NaN.

    Raises:
      RequestError: something else that is no number.
    """
    texts = texts.astype(str)
    found = pd.to_numeric(texts.replace("", "nan"), errors="coerce")
    odd = found.isna() & ~texts.str.lower().isin(["", "nan", "na"])
    if odd.any():
        line, text = texts[odd].index[0] + 2, texts[odd].iloc[0]
        raise RequestError(f"{path}, line {line}: {texts.name} {text!r} is no number")
    if np.isinf(found).any():
        line = found[np.isinf(found)].index[0] + 2
        raise RequestError(f"{path}, line {line}: {texts.name} is infinite; leave it empty")
    return found


def _percent(path: Path, scores: pd.Series, fractions: bool) -> pd.Series:
    if fractions:
        if scores.max() > _FRACTION:
            raise RequestError(f"{path}: a score of {scores.max():g} is no fraction of 1")
        scores = scores * 100
    elif scores.max() <= _FRACTION and scores.nunique() > 2:
        raise RequestError(
            f"{path}: all scores are at most 1: give --fractions if they are fractions of 1;"
            " percentages are expected"
        )
    if scores.min() < 0 or scores.max() > 100:
        odd = scores.min() if scores.min() < 0 else scores.max()
        raise RequestError(f"{path}: a score of {odd:g} is no percentage")
    return scores


_OTHER_ROWS = {row: code for code, rows in languages.URIEL_ALTERNATIVES.items() for row in rows}


def code_of(name: str, strict: bool = True) -> str:
    """Returns the code that the analysis calls a language by: that of our table, else ISO 639-3.

    Args:
      name: a code of two or three letters, or an English name.
      strict: refuse what neither our table knows nor has three letters; else return it as it is.

    Raises:
      RequestError: an unknown language; names the nearest.
    """
    lower = name.strip().lower()
    if lower in _OTHER_ROWS:
        return _OTHER_ROWS[lower]
    try:
        return languages.get(name).code
    except RequestError:
        if not strict or (len(lower) == 3 and lower.isascii() and lower.isalpha()):
            return lower
        raise


def uriel_row(code: str) -> str:
    """Returns the row of URIEL that stands for a language of `code_of`."""
    known = languages.LANGUAGES.get(code)
    return known.uriel if known else code


def _without_repeats(path: Path, frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    key = [name for name in (*_KEY, "metric") if name in frame]
    distinct = frame.drop_duplicates([*key, "score"])
    twice = distinct[distinct.duplicated(key, keep=False)]
    if len(twice):
        row = twice.iloc[0]
        values = twice[(twice[key] == row[key]).all(axis=1)]["score"].tolist()
        names = ", ".join(f"{name} {row[name]}" for name in key if row[name] not in ("", 0))
        raise RequestError(
            f"{path} gives {' and '.join(f'{v:g}' for v in values[:3])} for one cell ({names}); if"
            " other columns tell them apart, choose by --where COLUMN=VALUE"
        )
    return distinct, len(frame) - len(distinct)


def matrix(table: pd.DataFrame, sources: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """Returns mean scores [sources, targets] over seeds; NaN where there is none."""
    means = table.groupby(["source", "target"])["score"].mean()
    return means.unstack().reindex(index=list(sources), columns=list(targets)).to_numpy(float)


def write(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV, whole or not at all.

    Raises:
      RequestError: it cannot be written there.
      RunError: the disk is full or fails.
    """
    files.write(path, _as_csv(table))


def _as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


# --- The tables of an analysis --------------------------------------------------------------------


class About(pydantic.BaseModel):
    """What `analysis.json` says: what was analysed, how, and which tables belong to it."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    scores: list[str]  # paths
    where: dict[str, str]
    features: list[str]
    options: dict[str, str | bool]
    permutations: int
    seed: int
    kinds: dict[str, str]  # by feature: 'pair', 'source' or 'target'
    made_up: bool
    notes: list[str]
    # by name of a table, the SHA-256 of its file
    tables: dict[Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z_]{1,40}$")], str]


def write_analysis(
    folder: Path, about: Mapping[str, Any], found: Mapping[str, pd.DataFrame]
) -> None:
    """Writes an analysis: its tables, those that are not empty, and last what says they are whole.

    Tables of an earlier analysis in the folder are removed.

    Args:
      folder: made where it is missing.
      about: the fields of `About`, but for `tables`.
      found: tables by name.

    Raises:
      RequestError: they cannot be written there.
      RunError: the disk is full or fails.
    """
    texts = {name: _as_csv(table) for name, table in found.items() if not table.empty}
    digests = {name: _digest(text.encode()) for name, text in texts.items()}
    stated = About.model_validate({**about, "tables": digests}).model_dump()
    contents = {f"{name}.csv": text for name, text in texts.items()}
    contents[ABOUT] = json.dumps(stated, indent=1, ensure_ascii=False) + "\n"
    stale = [f"{name}.csv" for name in ANALYSIS_TABLES if name not in texts]
    files.write_all(folder, contents, ABOUT, stale)
    files.tidy(folder)


def read_analysis(folder: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Reads an analysis that `analyze` wrote, and verifies that it is whole.

    Returns:
      What `analysis.json` says, see `About`, and the tables by name. Columns that name something
      are text, all others as pandas reads them; an empty value is NaN.

    Raises:
      RequestError: there is none, or its files are not those that one analysis wrote.
    """
    again = "run `xfer-jax analyze` again"
    path = folder / ABOUT
    if not path.is_file():
        here = [name for name in ANALYSIS_TABLES if (folder / f"{name}.csv").is_file()]
        if here:
            raise RequestError(f"{folder} holds an analysis that is incomplete: {again}")
        raise RequestError(
            f"{folder} holds no analysis: run `xfer-jax analyze --scores … --out {folder}` first"
        )
    try:
        about = About.model_validate(files.read_json(path)).model_dump()
    except pydantic.ValidationError:
        raise RequestError(f"{path} was changed, or written by an older version: {again}") from None
    except RequestError as error:
        raise RequestError(f"{error}: {again}") from None
    found = {}
    for name, digest in about["tables"].items():
        table = folder / f"{name}.csv"
        content = files.read_bytes(table) if table.is_file() else b""
        if _digest(content) != digest:
            raise RequestError(
                f"{table} is missing or was changed after the analysis wrote it: {again}"
            )
        try:
            found[name] = _parsed(name, content)
        except ValueError as error:
            raise RequestError(
                f"{table} is no table ({str(error).splitlines()[0]}): {again}"
            ) from None
    return about, found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parsed(name: str, content: bytes) -> pd.DataFrame:
    words = dict.fromkeys((*_WORDS, *(("baseline",) if name == "gains" else ())), str)
    return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""], dtype=words)
