"""What is known of pairs of languages: typology, descent, place, words; and of each of the two.

A feature is a matrix [N, N] over languages, rows sources and columns targets; a similarity lies
between 0 and 1. Values are compared over what is known in both languages, and the share of the
table that this is stands beside it as coverage. What is known of one language is a feature of the
source or of the target: all its rows, or all its columns, are the same.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import pandas as pd

from seqio_tasks import uriel
from seqio_tasks.errors import RequestError
from seqio_tasks.words import characters, words
from xfer_jax import csv_file, tables

# Of URIEL's table syntax_wals some columns are of word order and clauses, others of what is marked
# on words: WALS has chapters 20 to 57 under morphology and nominal categories.
_MORPHOLOGICAL = re.compile(
    r"PREFIX|SUFFIX|AFFIX|CLITIC|HEADMARK|DEPMARK|REDUP|_MARK$|GENDER|SEX|CASE|PLURAL|AGREEMENT"
)
TYPOLOGY = {  # name: (table of URIEL, which of its columns)
    "syntax": ("syntax_wals", lambda name: not _MORPHOLOGICAL.search(name)),
    "morphology": ("syntax_wals", lambda name: bool(_MORPHOLOGICAL.search(name))),
    "phonology": ("phonology_wals", lambda name: True),
    "inventory": ("inventory_average", lambda name: True),
    "genetic": ("fam", lambda name: True),
}
MEASURES = ("cosine", "agreement")
FEWEST_VALUES = 5  # known in both languages, or two languages are not compared


@dataclasses.dataclass(frozen=True)
class Options:
    """What the literature leaves open."""

    measure: str = "cosine"  # of typology; 'agreement' is the share of equal values
    imputed: bool = False  # take URIEL's nearest-neighbour values where WALS has none

    def __post_init__(self):
        if self.measure not in MEASURES:
            raise RequestError(f"unknown measure {self.measure!r}: there are {', '.join(MEASURES)}")


@dataclasses.dataclass(frozen=True)
class Feature:
    """A number for every pair of languages."""

    values: np.ndarray  # [N, N], NaN where it is not known
    coverage: np.ndarray | None = None  # [N, N], share of the table known in both
    of: str = "pair"  # or 'source', 'target': of which it is known


def of_each(name: str, values: np.ndarray) -> dict[str, Feature]:
    """Returns what is known of single languages, [N], as a feature of source and one of target."""
    grid = np.broadcast_to(values, (len(values), len(values)))
    return {
        f"{name}_source": Feature(grid.T, of="source"),
        f"{name}_target": Feature(grid, of="target"),
    }


def typology(codes: Sequence[str], options: Options) -> dict[str, Feature]:
    """Returns the similarities that URIEL knows, by name.

    Args:
      codes: languages, as `tables.code_of` calls them.
      options: how to compare.
    """
    found = {}
    for name, (table, wanted) in TYPOLOGY.items():
        names, known = _of_uriel(codes, table, options.imputed)
        chosen = known[:, [i for i, column in enumerate(names) if wanted(column)]]
        found[name] = compare(chosen, options.measure if name != "genetic" else "cosine")
    _, places = _of_uriel(codes, "geo")
    # The largest difference of two languages' distances to URIEL's 299 points is their own
    # distance, by the triangle inequality, when a point lies behind one of them.
    distance = np.abs(places[:, None] - places[None]).max(axis=2)
    found["geography"] = Feature(1.0 - distance)
    return found


def wals(codes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the features of WALS that URIEL has, and their values [N, features], 0, 1 or NaN."""
    names: list[str] = []
    blocks = []
    for table in ("syntax_wals", "phonology_wals"):
        of_table, values = _of_uriel(codes, table)
        names += of_table
        blocks.append(values)
    return names, np.concatenate(blocks, axis=1)


def _of_uriel(
    codes: Sequence[str], table: str, imputed: bool = False
) -> tuple[list[str], np.ndarray]:
    """Returns the columns of a table of URIEL, and its values [N, columns], NaN where unknown.

    Args:
      codes: languages; see `language_codes.uriel_row` for the rows that stand for them.
      table: of `TYPOLOGY`.
      imputed: take its nearest-neighbour values, of the same rows.
    """
    rows = [tables.uriel_row(code, table) for code in codes]
    there = [i for i, row in enumerate(rows) if uriel.known(row)]
    if imputed:
        table = table.replace("_wals", "_knn").replace("_average", "_knn")
    names, known = uriel.values([rows[i] for i in there], table)
    values = np.full((len(rows), len(names)), np.nan)
    values[there] = known
    return names, values


# mC4's tokens in billions, by language. Recalled from Table 6 of Xue et al. 2021 (arXiv 2010.11934)
# and not checked against it: whoever prints them says so.
MC4_BILLIONS = {
    "en": 2733, "ru": 713, "es": 433, "de": 347, "id": 69, "ar": 57, "fi": 35, "hi": 24, "bn": 7,
    "sw": 1,
}  # fmt: skip


def pretraining(codes: Sequence[str]) -> dict[str, Feature]:
    """Returns the logarithm (base 10) of the tokens that mC4 has of source and of target."""
    return of_each("mc4", np.log10([MC4_BILLIONS.get(code, np.nan) * 1e9 for code in codes]))


def compare(values: np.ndarray, measure: str = "cosine") -> Feature:
    """Returns how alike languages are over the values that both have.

    Args:
      values: [N, columns] in [0, 1], NaN where unknown.
      measure: 'cosine', or 'agreement', the mean of 1 - |difference|.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    both = known.astype(float) @ known.T.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        if measure == "cosine":
            squares = (filled**2) @ known.T
            similarity = (filled @ filled.T) / np.sqrt(squares * squares.T)
        else:
            # |a - b| = a + b - 2 min(a, b), and of 0 and 1 min(a, b) is a b
            difference = filled @ known.T + known @ filled.T - 2 * (filled @ filled.T)
            similarity = 1.0 - difference / both
    similarity[both < FEWEST_VALUES] = np.nan
    return Feature(similarity, both / max(values.shape[1], 1))


# --- Words ----------------------------------------------------------------------------------------


def _trigrams(word: str) -> list[str]:
    """Returns the three neighbours at each character of a word, with its edges for characters."""
    units = [" ", *characters(word), " "]
    return ["".join(units[i : i + 3]) for i in range(len(units) - 2)]


def lexical(
    texts: Mapping[str, Sequence[str]],
    codes: Sequence[str],
    pieces: Mapping[str, Set[int]] | None = None,
) -> dict[str, Feature]:
    """Returns how much of their words languages share.

    `words` is LangRank's overlap (Lin et al. 2019): shared types over the types of both,
    |A∩B| / (|A|+|B|); `pieces` the same of the vocabulary's pieces; `trigrams` the cosine of the
    counts of characters' trigrams within words.

    Args:
      texts: by language.
      codes: languages; those without text have no value.
      pieces: ids that occur in the tokenised texts, by language; without them no `pieces`.
    """
    vocabulary = {code: {w for text in texts.get(code, ()) for w in words(text)} for code in codes}
    grams = [
        pd.Series([gram for word in vocabulary[code] for gram in _trigrams(word)], dtype=str)
        for code in codes
    ]
    grams = [series.value_counts() for series in grams]
    counts = pd.concat(grams, axis=1).fillna(0.0).to_numpy() if grams else np.zeros((0, 0))
    n = len(codes)
    cosine = np.full((n, n), np.nan)
    norms = np.linalg.norm(counts, axis=0)
    for i, one in enumerate(codes):
        for j, other in enumerate(codes):
            if vocabulary[one] and vocabulary[other]:
                cosine[i, j] = counts[:, i] @ counts[:, j] / (norms[i] * norms[j])
    found = {"words": Feature(_overlap(vocabulary, codes)), "trigrams": Feature(cosine)}
    if pieces:
        found["pieces"] = Feature(_overlap(pieces, codes))
    return found


def _overlap(sets: Mapping[str, Set], codes: Sequence[str]) -> np.ndarray:
    """Returns |A∩B| / (|A|+|B|) of all pairs, NaN where a language has nothing."""
    overlap = np.full((len(codes), len(codes)), np.nan)
    for i, one in enumerate(codes):
        for j, other in enumerate(codes):
            a, b = sets.get(one, set()), sets.get(other, set())
            if a and b:
                overlap[i, j] = len(a & b) / (len(a) + len(b))
    return overlap


# --- A user's own, and the table ------------------------------------------------------------------


def read(path: Path, codes: Sequence[str]) -> dict[str, Feature]:
    """Reads features from a CSV with a column a feature.

    Of pairs it has `source` and `target`; a tidy table of `score` by `task`, as scores are kept,
    yields a feature a task. Of single languages it has `language`, and every column of numbers
    yields two features; columns of words are passed over.

    Raises:
      RequestError: no such table, a value that is no number, or a pair with two values.
    """
    frame = csv_file.read(path, ())
    if "language" in frame:
        return _read_languages(path, frame, codes)
    missing = [name for name in ("source", "target") if name not in frame]
    if missing:
        raise RequestError(
            f"{path} is no table of features: it has {', '.join(frame.columns)}; expected source"
            " and target, or language"
        )
    for column in ("source", "target"):
        frame[column] = _codes_of(frame[column])
    frame = frame[frame["source"].isin(codes) & frame["target"].isin(codes)]
    if {"task", "score"} <= set(frame.columns):
        groups = frame.groupby("task")
        columns = {task: rows[["source", "target", "score"]] for task, rows in groups}
    else:
        names = [c for c in frame if c not in ("source", "target") and not c.endswith("_coverage")]
        columns = {name: frame[["source", "target", name]] for name in names}
    found = {}
    for name, rows in columns.items():
        values = csv_file.numbers(path, rows.iloc[:, 2])
        twice = rows.duplicated(["source", "target"])
        if twice.any():
            source, target = rows[twice].iloc[0][["source", "target"]]
            raise RequestError(f"{path} gives {name} of {source} and {target} twice")
        pairs = pd.MultiIndex.from_frame(rows[["source", "target"]])
        cells = pd.Series(values.to_numpy(), index=pairs)
        matrix = cells.unstack().reindex(index=list(codes), columns=list(codes))
        found[str(name)] = Feature(matrix.to_numpy(float))
    if not found:
        raise RequestError(f"{path} holds no feature beside source and target")
    return found


def _codes_of(names: pd.Series) -> pd.Series:
    return names.map({name: tables.code_of(name, strict=False) for name in names.unique()})


def _read_languages(path: Path, frame: pd.DataFrame, codes: Sequence[str]) -> dict[str, Feature]:
    of = _codes_of(frame["language"])
    if of.duplicated().any():
        raise RequestError(f"{path} has two rows of {of[of.duplicated()].iloc[0]}")
    found: dict[str, Feature] = {}
    for name in frame.columns.drop("language"):
        if pd.to_numeric(frame[name], errors="coerce").isna().all():
            continue  # words
        values = csv_file.numbers(path, frame[name]).set_axis(of).reindex(list(codes))
        found |= of_each(str(name), values.to_numpy(float))
    if not found:
        raise RequestError(f"{path} holds no feature beside language")
    return found


def table(features: Mapping[str, Feature], codes: Sequence[str]) -> pd.DataFrame:
    """Returns a row a pair of two languages, a column a feature, and its coverage."""
    rows, columns = np.nonzero(~np.eye(len(codes), dtype=bool))
    names = np.asarray(codes)
    frame = pd.DataFrame({"source": names[rows], "target": names[columns]})
    for name, feature in features.items():
        frame[name] = feature.values[rows, columns]
        if feature.coverage is not None:
            frame[f"{name}_coverage"] = feature.coverage[rows, columns]
    return frame
