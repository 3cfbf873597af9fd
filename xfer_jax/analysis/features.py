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

from seqio_tasks import language_codes, uriel
from seqio_tasks.errors import RequestError
from seqio_tasks.words import characters, words
from xfer_jax.results import csv_file, language_names

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
      codes: languages, as `language_names.code_of` calls them.
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
    rows = [language_codes.uriel_row(code, table) for code in codes]
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


def read(path: Path, codes: Sequence[str], notes: list[str] | None = None) -> dict[str, Feature]:
    """Reads features from a CSV with a column a feature.

    Of pairs it has `source` and `target`; a tidy table of `score` by `task`, as scores are kept,
    yields a feature a task. Of single languages it has `language`, and every column of numbers
    yields two features. Columns without a number are passed over, with a note.

    Args:
      path: of the CSV.
      codes: the languages that features are wanted of.
      notes: gets what is passed over.

    Raises:
      RequestError: no such table, a value that is no number, or a pair with two values.
    """
    notes = [] if notes is None else notes
    frame = csv_file.read(path)
    if "language" in frame:
        return _read_languages(path, frame, codes, notes)
    missing = [name for name in ("source", "target") if name not in frame]
    if missing:
        raise RequestError(
            f"{path} is no table of features: it has {', '.join(frame.columns)}; expected source"
            " and target, or language"
        )
    for column in ("source", "target"):
        frame[column] = _codes_of(path, frame[column], notes)
    tidy = {"task", "score"} <= set(frame.columns)
    names = ["score"] if tidy else _numeric(path, frame, ("source", "target"), notes)
    if tidy:
        rest = [name for name in frame if name not in ("source", "target", "task", "score")]
        _pass_over(path, rest, "are not read beside task and score", notes)
    frame = frame[frame["source"].isin(codes) & frame["target"].isin(codes)]
    groups = {str(task): rows for task, rows in frame.groupby("task")} if tidy else {}
    columns = {task: rows["score"] for task, rows in groups.items()} or {
        name: frame[name] for name in names
    }
    found = {}
    for name, texts in columns.items():
        values = csv_file.numbers(path, texts)
        pairs = frame.loc[texts.index, ["source", "target"]]
        twice = pairs.duplicated()
        if twice.any():
            source, target = pairs[twice].iloc[0]
            where = csv_file.at(path, pairs[twice])
            raise RequestError(f"{where}: {path.name} gives {name} of {source} and {target} twice")
        cells = pd.Series(values.to_numpy(), index=pd.MultiIndex.from_frame(pairs))
        matrix = cells.unstack().reindex(index=list(codes), columns=list(codes))
        found[str(name)] = Feature(matrix.to_numpy(float))
    if not found:
        raise RequestError(f"{path} holds no feature beside source and target{_words_in(frame)}")
    return found


def _numeric(path: Path, frame: pd.DataFrame, key: Sequence[str], notes: list[str]) -> list[str]:
    """Returns the columns of features: those in which a number is; the others are noted."""
    rest = [str(name) for name in frame if name not in key]
    numeric = [name for name in rest if csv_file.is_number(frame[name]).any()]
    # The share that is known stands beside each of our own features.
    coverage = {f"{name}_coverage" for name in rest}
    words = [name for name in rest if name not in numeric]
    _pass_over(path, [_with_example(frame[name]) for name in words], "hold no numbers", notes)
    return [name for name in numeric if name not in coverage]


def _words_in(frame: pd.DataFrame) -> str:
    """Returns why a table holds no feature, where it has other columns."""
    for name in frame.columns.difference(["source", "target", "language", "task"], sort=False):
        there = frame[name][~csv_file.is_empty(frame[name])]
        if len(there) and not csv_file.is_number(there).any():
            return f": {name} {there.iloc[0][:40]!r} is no number"
    return ""


def _with_example(texts: pd.Series) -> str:
    there = texts[~csv_file.is_empty(texts)]
    return f"{texts.name} ({there.iloc[0][:20]!r})" if len(there) else f"{texts.name} (empty)"


def _pass_over(path: Path, names: Sequence[str], why: str, notes: list[str]) -> None:
    if names:
        notes.append(f"{path}: columns that {why} are passed over: {', '.join(names)}")


def _codes_of(path: Path, names: pd.Series, notes: list[str]) -> pd.Series:
    """Returns the codes of languages; unknown ones stay as they are and are noted."""
    codes, unknown = {}, []
    for name in names.unique():
        try:
            codes[name] = language_names.code_of(name)
        except RequestError:
            codes[name] = name.lower()
            unknown.append(name)
    if unknown:
        shown = ", ".join(repr(name) for name in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        notes.append(f"{path}: rows of unknown languages are left out: {shown}{more}")
    return names.map(codes)


def _read_languages(
    path: Path, frame: pd.DataFrame, codes: Sequence[str], notes: list[str]
) -> dict[str, Feature]:
    of = _codes_of(path, frame["language"], notes)
    twice = of[of.duplicated()]
    if len(twice):
        raise RequestError(f"{csv_file.at(path, twice)}: a second row of {twice.iloc[0]}")
    found: dict[str, Feature] = {}
    for name in _numeric(path, frame, ("language",), notes):
        values = csv_file.numbers(path, frame[name]).set_axis(of).reindex(list(codes))
        found |= of_each(name, values.to_numpy(float))
    if not found:
        raise RequestError(f"{path} holds no feature beside language{_words_in(frame)}")
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
