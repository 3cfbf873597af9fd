"""The folder of an analysis: its tables, and what was asked."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pydantic

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.results import csv_file

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


def write(folder: Path, about: Mapping[str, Any], found: Mapping[str, pd.DataFrame]) -> None:
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
    texts = {name: csv_file._as_csv(table) for name, table in found.items() if not table.empty}
    digests = {name: _digest(text.encode()) for name, text in texts.items()}
    stated = About.model_validate({**about, "tables": digests}).model_dump()
    contents = {f"{name}.csv": text for name, text in texts.items()}
    contents[ABOUT] = json.dumps(stated, indent=1, ensure_ascii=False) + "\n"
    stale = [f"{name}.csv" for name in ANALYSIS_TABLES if name not in texts]
    files.write_all(folder, contents, ABOUT, stale)
    files.tidy(folder)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
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
