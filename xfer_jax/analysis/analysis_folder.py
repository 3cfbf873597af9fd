"""The folder of an analysis: its tables, and the options that it was made with."""

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

ABOUT = "analysis.json"  # the options of the analysis, and the tables that belong to it
# The tables that an analysis can write; it writes those that are not empty.
ANALYSIS_TABLES = (
    "scores", "features", "languages", "shares", "alignment", "outcomes", "correlations",
    "regression", "models", "wals", "sensitivity", "laws", "needed", "curves", "gains",
    "gain_means", "gain_features", "checkpoints",
)  # fmt: skip
_TEXT_COLUMNS = (  # columns of those tables that hold names, even if they look like numbers
    "task", "source", "target", "language", "feature", "name", "same", "collinear", "intermediate",
    "subset", "family", "genus", "outcome", "metric", "model", "run", "arm", "engine", "axis",
    "rule", "split", "selected_by",
)  # fmt: skip


# --- The tables of an analysis --------------------------------------------------------------------


class About(pydantic.BaseModel):
    """The contents of `analysis.json`: the inputs, the options, and the tables of the analysis."""

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
    # SHA-256 of each file, by name of the table
    tables: dict[Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z_]{1,40}$")], str]


def write(folder: Path, about: Mapping[str, Any], found: Mapping[str, pd.DataFrame]) -> None:
    """Writes the tables that are not empty, and last `analysis.json`, which marks them as complete.

    Removes the tables of an earlier analysis from the folder.

    Args:
      folder: created if it is missing.
      about: the fields of `About`, except `tables`.
      found: tables by name.

    Raises:
      RequestError: the files cannot be written there.
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
    """Reads an analysis that `analyze` wrote, and verifies that it is complete.

    Returns:
      The contents of `analysis.json`, see `About`, and the tables by name. Columns of names are
      text, and pandas infers the type of the others; an empty value is NaN.

    Raises:
      RequestError: there is no analysis, or its files do not come from one and the same analysis.
    """
    again = "run `xfer-jax analyze` again"
    path = folder / ABOUT
    if not path.is_file():
        present = [name for name in ANALYSIS_TABLES if (folder / f"{name}.csv").is_file()]
        if present:
            raise RequestError(f"{folder} contains an incomplete analysis: {again}")
        raise RequestError(
            f"{folder} contains no analysis: run `xfer-jax analyze --scores … --out {folder}` first"
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
                f"{table} is not a valid table ({str(error).splitlines()[0]}): {again}"
            ) from None
    return about, found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parsed(name: str, content: bytes) -> pd.DataFrame:
    words = dict.fromkeys((*_TEXT_COLUMNS, *(("baseline",) if name == "gains" else ())), str)
    return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""], dtype=words)
