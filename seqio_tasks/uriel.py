"""Reads URIEL's tables of languages (Littell et al. 2017) from the package lang2vec.

Reads the files of the package directly, because its code takes seconds to import and ten seconds
for the families: it unpacks a file again for every column.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqio_tasks.errors import RequestError

_UNKNOWN = -1.0
_TABLES = {  # by name in lang2vec: file, layer of its array, prefix of the column names
    "syntax_wals": ("features", "WALS", "S_"),
    "phonology_wals": ("features", "WALS", "P_"),
    "syntax_knn": ("feature_predictions", "predicted", "S_"),
    "phonology_knn": ("feature_predictions", "predicted", "P_"),
    "inventory_knn": ("feature_predictions", "predicted", "INV_"),
    "inventory_average": ("feature_averages", "avg", "INV_"),
    "fam": ("family_features", "FAM", ""),
    "geo": ("geocoord_features", "GEOCOORDS", ""),
}


def _folder() -> Path:
    """Returns the folder of lang2vec's files.

    Searches for the files, because a script `lang2vec.py`, which its wheel installs, may come first
    on the path.

    Raises:
      RequestError: lang2vec is not installed.
    """
    for place in sys.path:
        folder = Path(place, "lang2vec", "data")
        if (folder / "features.npz").is_file():
            return folder
    raise RequestError(
        "the package lang2vec, which contains URIEL's tables, is not installed: install it"
    )


@functools.lru_cache(maxsize=4)
def _layer(file: str, layer: str) -> tuple[dict[str, int], list[str], np.ndarray]:
    """Returns the rows by code, the column names, and float32 [rows, columns]."""
    with np.load(_folder() / f"{file}.npz") as archive:
        rows = {str(code): i for i, code in enumerate(archive["langs"])}
        names = [str(name) for name in archive["feats"]]
        (index,) = np.flatnonzero(archive["sources"] == layer)
        return rows, names, archive["data"][:, :, index]


def codes() -> frozenset[str]:
    """Returns the ISO 639-3 codes of the rows in URIEL."""
    return frozenset(_layer(*_TABLES["syntax_wals"][:2])[0])


def known(code: str) -> bool:
    """Returns whether URIEL has a row for an ISO 639-3 code."""
    return code in _layer(*_TABLES["syntax_wals"][:2])[0]


def count(code: str, feature_set: str) -> int:
    """Returns the number of known values of a language in a table; for `fam`, of its groups."""
    if not known(code):
        return 0
    found = values([code], feature_set)[1]
    return int(np.isfinite(found).sum() if feature_set != "fam" else (found == 1).sum())


@functools.cache
def group_sizes() -> np.ndarray:
    """Returns the number of languages in each group of the table `fam`."""
    return (_layer(*_TABLES["fam"][:2])[2] == 1).sum(axis=0)


def values(codes: Sequence[str], feature_set: str) -> tuple[list[str], np.ndarray]:
    """Returns the column names of a table, and float64 [languages, columns], NaN where unknown.

    Args:
      codes: ISO 639-3 codes of rows in URIEL: see `languages.Language.uriel`.
      feature_set: 'syntax_wals', 'phonology_wals', 'fam', 'geo', 'syntax_knn', …
    """
    file, layer, prefix = _TABLES[feature_set]
    rows, names, data = _layer(file, layer)
    columns = [i for i, name in enumerate(names) if name.startswith(prefix)]
    table = data[np.ix_([rows[code] for code in codes], columns)].astype(np.float64)
    return [names[i] for i in columns], np.where(table == _UNKNOWN, np.nan, table)
