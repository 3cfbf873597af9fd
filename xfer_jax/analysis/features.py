"""Features of language pairs (typology, family, geography, words) and of single languages.

A feature is a matrix [N, N] over languages; rows are sources and columns are targets. Similarities
are between 0 and 1. Two languages are compared over the values that are known for both; the share
of such values is the coverage. A feature of a single language becomes a feature of the source (each
row is constant) and a feature of the target (each column is constant).

A new feature goes into `typology` or `lexical`, and its name for people into `TITLES`. The tables,
the terminal, the page and the gains take all features that they are given. Its description is
written by hand in report/templates/methods.html.j2, docgen/columns.py and docs/guides/report.md.
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

# URIEL's table syntax_wals has columns on word order and clauses, and columns on what is marked on
# words: chapters 20 to 57 of WALS, under morphology and nominal categories.
_MORPHOLOGICAL = re.compile(
    r"PREFIX|SUFFIX|AFFIX|CLITIC|HEADMARK|DEPMARK|REDUP|_MARK$|GENDER|SEX|CASE|PLURAL|AGREEMENT"
)
TYPOLOGY = {  # name: (table of URIEL, predicate that selects columns)
    "syntax": ("syntax_wals", lambda name: not _MORPHOLOGICAL.search(name)),
    "morphology": ("syntax_wals", lambda name: bool(_MORPHOLOGICAL.search(name))),
    "phonology": ("phonology_wals", lambda name: True),
    "inventory": ("inventory_average", lambda name: True),
    "genetic": ("fam", lambda name: True),
}
MEASURES = ("cosine", "agreement")
# What the terminal and the report call the features; their names in CSV files are the keys.
TITLES = {
    "inventory": "phoneme inventory",
    "genetic": "language family",
    "geography": "geographic proximity",
    "words": "shared words",
    "pieces": "shared vocabulary pieces",
    "trigrams": "shared letter trigrams",
    "in_language_source": "in-language score of source",
    "in_language_target": "in-language score of target",
    "n_train_source": "training size of source (log)",
    "mc4_source": "mC4 size of source (log)",
    "mc4_target": "mC4 size of target (log)",
    "lm_loss_source": "LM_L of source",
    "lm_loss_target": "LM_L of target",
    "lm_em_source": "LM_EM of source",
    "lm_em_target": "LM_EM of target",
    "bits_per_byte_source": "bits/byte of source",
    "bits_per_byte_target": "bits/byte of target",
}
FEWEST_VALUES = 5  # values that two languages must both have to be compared


@dataclasses.dataclass(frozen=True)
class Options:
    """Choices that the literature leaves open."""

    measure: str = "cosine"  # of typology; 'agreement' is the share of equal values
    imputed: bool = False  # fill missing WALS values with URIEL's nearest-neighbour values

    def __post_init__(self):
        if self.measure not in MEASURES:
            raise RequestError(
                f"unknown measure {self.measure!r}; choose one of {', '.join(MEASURES)}"
            )


@dataclasses.dataclass(frozen=True)
class Feature:
    """A number for every pair of languages."""

    values: np.ndarray  # [N, N], NaN where unknown
    coverage: np.ndarray | None = None  # [N, N], share of values known for both languages
    of: str = "pair"  # what it describes: 'pair', 'source' or 'target'


def title(name: str) -> str:
    """Returns what the terminal and the report call a feature; a user's feature keeps its name."""
    return TITLES.get(name, name)


def of_each(name: str, values: np.ndarray) -> dict[str, Feature]:
    """Turns values of single languages [N] into a feature of the source and one of the target."""
    grid = np.broadcast_to(values, (len(values), len(values)))
    return {
        f"{name}_source": Feature(grid.T, of="source"),
        f"{name}_target": Feature(grid, of="target"),
    }


def typology(codes: Sequence[str], options: Options) -> dict[str, Feature]:
    """Returns the similarities computed from URIEL, by name.

    Args:
      codes: languages, as `language_names.code_of` returns them.
      options: how languages are compared.
    """
    found = {}
    for name, (table, wanted) in TYPOLOGY.items():
        names, known = _of_uriel(codes, table, options.imputed)
        chosen = known[:, [i for i, column in enumerate(names) if wanted(column)]]
        found[name] = compare(chosen, options.measure if name != "genetic" else "cosine")
    _, places = _of_uriel(codes, "geo")
    # URIEL gives each language's distances to 299 points. By the triangle inequality, the largest
    # difference between two languages is their own distance, if a point lies behind one of them.
    distance = np.abs(places[:, None] - places[None]).max(axis=2)
    found["geography"] = Feature(1.0 - distance)
    return found


def wals(codes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the WALS features in URIEL, and their values [N, features]: 0, 1 or NaN."""
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
      codes: languages; `language_codes.uriel_row` gives the row of each.
      table: a table of `TYPOLOGY`.
      imputed: use URIEL's nearest-neighbour values for missing values.
    """
    rows = [language_codes.uriel_row(code, table) for code in codes]
    known_rows = [i for i, row in enumerate(rows) if uriel.known(row)]
    if imputed:
        table = table.replace("_wals", "_knn").replace("_average", "_knn")
    names, known = uriel.values([rows[i] for i in known_rows], table)
    values = np.full((len(rows), len(names)), np.nan)
    values[known_rows] = known
    return names, values


# Tokens in mC4, in billions, by language. Written from memory of Table 6 of Xue et al. 2021 (arXiv
# 2010.11934) and not verified: code that prints them must add a note that says so.
MC4_BILLIONS = {
    "en": 2733, "ru": 713, "es": 433, "de": 347, "id": 69, "ar": 57, "fi": 35, "hi": 24, "bn": 7,
    "sw": 1,
}  # fmt: skip


def pretraining(codes: Sequence[str]) -> dict[str, Feature]:
    """Returns the base-10 logarithm of the number of mC4 tokens, for source and target."""
    return of_each("mc4", np.log10([MC4_BILLIONS.get(code, np.nan) * 1e9 for code in codes]))


def compare(values: np.ndarray, measure: str = "cosine") -> Feature:
    """Returns the similarity of languages over the values that are known for both.

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
            # |a - b| = a + b - 2 min(a, b), and min(a, b) = a b for values 0 and 1
            difference = filled @ known.T + known @ filled.T - 2 * (filled @ filled.T)
            similarity = 1.0 - difference / both
    similarity[both < FEWEST_VALUES] = np.nan
    return Feature(similarity, both / max(values.shape[1], 1))


# --- Lexical overlap ------------------------------------------------------------------------------


def _trigrams(word: str) -> list[str]:
    """Returns the character trigrams of a word, with a space at each end."""
    units = [" ", *characters(word), " "]
    return ["".join(units[i : i + 3]) for i in range(len(units) - 2)]


def lexical(
    texts: Mapping[str, Sequence[str]],
    codes: Sequence[str],
    pieces: Mapping[str, Set[int]] | None = None,
) -> dict[str, Feature]:
    """Returns the lexical overlap of languages.

    `words` is LangRank's word overlap (Lin et al. 2019), |A∩B| / (|A|+|B|) over the word types of
    two languages; `pieces` is the same over vocabulary pieces; `trigrams` is the cosine similarity
    of the counts of character trigrams inside words.

    Args:
      texts: by language.
      codes: languages; a language without text has no value.
      pieces: ids of the pieces in the tokenised texts, by language; without them there is no
        feature `pieces`.
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
    """Returns |A∩B| / (|A|+|B|) of all pairs, NaN where a set is empty."""
    overlap = np.full((len(codes), len(codes)), np.nan)
    for i, one in enumerate(codes):
        for j, other in enumerate(codes):
            a, b = sets.get(one, set()), sets.get(other, set())
            if a and b:
                overlap[i, j] = len(a & b) / (len(a) + len(b))
    return overlap


# --- Features of a user, and the table ------------------------------------------------------------


def read(path: Path, codes: Sequence[str]) -> tuple[dict[str, Feature], list[str]]:
    """Reads a user's features from a CSV file; returns them, and notes on what is skipped.

    A table of pairs has the columns `source` and `target`, and each other column is a feature; a
    tidy table with `task` and `score` gives one feature per task. A table of single languages has
    the column `language`, and each numeric column gives two features, of source and target. Columns
    without numbers are skipped, with a note.

    Args:
      path: the CSV file.
      codes: the languages of the analysis.

    Raises:
      RequestError: the file is no such table, a value is no number, or a pair has two values.
    """
    notes: list[str] = []
    frame = csv_file.read(path)
    if "language" in frame:
        return _read_languages(path, frame, codes, notes), notes
    missing = [name for name in ("source", "target") if name not in frame]
    if missing:
        raise RequestError(
            f"{path} is no table of features: it has the columns {', '.join(frame.columns)};"
            " expected source and target, or language"
        )
    for column in ("source", "target"):
        frame[column] = _codes_of(path, frame[column], notes)
    tidy = {"task", "score"} <= set(frame.columns)
    names = ["score"] if tidy else _numeric(path, frame, ("source", "target"), notes)
    if tidy:
        rest = [name for name in frame if name not in ("source", "target", "task", "score")]
        _skip(path, rest, "are not used in a table with task and score", notes)
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
            raise RequestError(
                f"{where}: {path.name} gives {name} for {source} and {target} twice; keep one row"
            )
        cells = pd.Series(values.to_numpy(), index=pd.MultiIndex.from_frame(pairs))
        matrix = cells.unstack().reindex(index=list(codes), columns=list(codes))
        found[str(name)] = Feature(matrix.to_numpy(float))
    if not found:
        raise RequestError(
            f"{path} has no feature column besides source and target{_non_numeric(frame)}"
        )
    return found, notes


def _numeric(path: Path, frame: pd.DataFrame, key: Sequence[str], notes: list[str]) -> list[str]:
    """Returns the columns that hold numbers, and appends a note on the other columns."""
    rest = [str(name) for name in frame if name not in key]
    numeric = [name for name in rest if csv_file.is_number(frame[name]).any()]
    # Our own features.csv has a column of coverage for a feature: it is no feature.
    coverage = {f"{name}_coverage" for name in rest}
    others = [name for name in rest if name not in numeric]
    _skip(path, [_with_example(frame[name]) for name in others], "hold no numbers", notes)
    return [name for name in numeric if name not in coverage]


def _non_numeric(frame: pd.DataFrame) -> str:
    """Returns the first column that is not numeric, with an example, for an error message."""
    for name in frame.columns.difference(["source", "target", "language", "task"], sort=False):
        filled = frame[name][~csv_file.is_empty(frame[name])]
        if len(filled) and not csv_file.is_number(filled).any():
            return f": {name} {filled.iloc[0][:40]!r} is not a number"
    return ""


def _with_example(texts: pd.Series) -> str:
    filled = texts[~csv_file.is_empty(texts)]
    return f"{texts.name} ({filled.iloc[0][:20]!r})" if len(filled) else f"{texts.name} (empty)"


def _skip(path: Path, names: Sequence[str], why: str, notes: list[str]) -> None:
    if names:
        notes.append(f"{path}: columns that {why} are ignored: {', '.join(names)}")


def _codes_of(path: Path, names: pd.Series, notes: list[str]) -> pd.Series:
    """Returns the codes of languages; keeps unknown names, and appends a note on them."""
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
        notes.append(f"{path}: rows of unknown languages are ignored: {shown}{more}")
    return names.map(codes)


def _read_languages(
    path: Path, frame: pd.DataFrame, codes: Sequence[str], notes: list[str]
) -> dict[str, Feature]:
    of = _codes_of(path, frame["language"], notes)
    twice = of[of.duplicated()]
    if len(twice):
        raise RequestError(
            f"{csv_file.at(path, twice)}: a second row for {twice.iloc[0]}; keep one row"
        )
    found: dict[str, Feature] = {}
    for name in _numeric(path, frame, ("language",), notes):
        values = csv_file.numbers(path, frame[name]).set_axis(of).reindex(list(codes))
        found |= of_each(name, values.to_numpy(float))
    if not found:
        raise RequestError(f"{path} has no feature column besides language{_non_numeric(frame)}")
    return found


def table(features: Mapping[str, Feature], codes: Sequence[str]) -> pd.DataFrame:
    """Returns one row per pair of two languages, and one column per feature and its coverage."""
    rows, columns = np.nonzero(~np.eye(len(codes), dtype=bool))
    names = np.asarray(codes)
    frame = pd.DataFrame({"source": names[rows], "target": names[columns]})
    for name, feature in features.items():
        frame[name] = feature.values[rows, columns]
        if feature.coverage is not None:
            frame[f"{name}_coverage"] = feature.coverage[rows, columns]
    return frame
