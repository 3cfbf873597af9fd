"""URIEL's tables of languages (Littell et al. 2017), as the package lang2vec holds them."""

import functools
import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqio_tasks.errors import RequestError

_UNKNOWN = -1.0


def lang2vec() -> Any:
    """Imports lang2vec.

    Its wheel also puts a script `lang2vec.py` beside `xfer-jax`, and the folder of the running
    script comes first on the path: there the import would find the script.

    Raises:
      RequestError: it cannot be imported.
    """
    path = sys.path
    sys.path = [folder for folder in path if not Path(folder, "lang2vec.py").is_file()]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            return importlib.import_module("lang2vec.lang2vec")
    except ImportError as error:
        raise RequestError(
            f"URIEL's tables are read with lang2vec, which cannot be imported ({error}): install"
            " lang2vec and setuptools<81"
        ) from error
    finally:
        sys.path = path


def _open(feature_set: str) -> tuple[Any, str, str]:
    """Opens a table's file; returns it, and by what its layer and its columns are known."""
    file, source, prefix = lang2vec().FEATURE_SETS_DICT[feature_set]
    return np.load(Path(lang2vec().__file__).parent / "data" / file), source, prefix


@functools.cache
def _codes() -> frozenset[str]:
    with _open("syntax_wals")[0] as archive:
        return frozenset(map(str, archive["langs"]))


def known(code: str) -> bool:
    """Whether URIEL has a row under an ISO 639-3 code."""
    return code in _codes()


def values(codes: Sequence[str], feature_set: str) -> tuple[list[str], np.ndarray]:
    """Returns a table's columns, and float64 [languages, columns] with NaN where unknown.

    lang2vec's own function opens and unpacks the file anew for every column, which takes it ten
    seconds for the families.

    Args:
      codes: rows of URIEL, ISO 639-3: see `languages.Language.uriel`.
      feature_set: 'syntax_wals', 'phonology_wals', 'fam', 'geo', 'syntax_knn', …
    """
    names, table = _values(tuple(codes), feature_set)
    return list(names), table.copy()


@functools.lru_cache(maxsize=32)
def _values(codes: tuple[str, ...], feature_set: str) -> tuple[tuple[str, ...], np.ndarray]:
    archive, source, prefix = _open(feature_set)
    with archive:
        rows = {str(code): i for i, code in enumerate(archive["langs"])}
        names = [str(name) for name in archive["feats"]]
        columns = [i for i, name in enumerate(names) if name.startswith(prefix)]
        (layer,) = np.flatnonzero(archive["sources"] == source)
        wanted = archive["data"][[rows[code] for code in codes]]
    table = wanted[:, columns, layer].astype(np.float64)
    return tuple(names[i] for i in columns), np.where(table == _UNKNOWN, np.nan, table)
