"""T5X's current checkpoints, and those of this tool: arrays in Orbax's format.

A folder has `state/` with `_METADATA` (JSON that lists the arrays) and the arrays, in one OCDBT
database or as zarr folders.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints.arrays import (
    STEP,
    Contents,
    Stored,
    checked_step,
    kvstore,
    open_zarr,
    read_file,
    write_zarr,
)

TREE = "state/_METADATA"


def write(contents: Contents, folder: Path) -> None:
    """Writes a checkpoint in Orbax's format, a few arrays at a time; Orbax needs all in memory.

    Args:
      contents: parameters and moments.
      folder: an empty folder; it is recognised as a checkpoint only when it is complete.
    """
    unfinished = folder.absolute() / ".state"
    base = kvstore(unfinished)
    leaves = contents.arrays | {STEP: step_array(contents.step)}
    write_zarr(leaves, lambda name: _ocdbt(base, name))
    tree = {str(tuple(name.split("/"))): _leaf(name.split("/")) for name in leaves}
    metadata = {
        "tree_metadata": tree,
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    (folder / ".state" / "_METADATA").write_text(json.dumps(metadata), encoding="utf-8")
    unfinished.rename(folder / "state")


def step_array(step: int) -> Stored:
    """Returns a step as a stored array."""
    value = np.asarray(step, np.int32)
    return Stored((), value.dtype, lambda index: value)


def _ocdbt(base: Any, name: str) -> dict[str, Any]:
    """Returns TensorStore's spec of an array's folder inside Orbax's database."""
    return {"driver": "ocdbt", "base": base, "path": f"{name.replace('/', '.')}/"}


def _leaf(keys: list[str]) -> dict[str, Any]:
    return {
        "key_metadata": [{"key": key, "key_type": 2} for key in keys],  # 2: of a dictionary
        "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
    }


def read(location: str | Path, form: str) -> Contents:
    """Opens a checkpoint with TensorStore, because Orbax needs TensorFlow to read gs://.

    Args:
      location: its folder, local or gs://.
      form: `native` or `t5x`, for the result.

    Raises:
      RequestError: it is damaged.
    """
    damaged = RequestError(f"{location} is damaged, or not a checkpoint of a T5X model")
    try:
        tree = files.parse_json(read_file(location, TREE) or b"", f"{location}/{TREE}")
        names = [
            "/".join(str(part["key"]) for part in leaf["key_metadata"])
            for leaf in tree["tree_metadata"].values()
        ]
        flags = "use_ocdbt", "use_zarr3", "store_array_data_equal_to_fill_value"
        ocdbt, zarr3, whole = (bool(tree.get(flag)) for flag in flags)
    except (RequestError, KeyError, TypeError, AttributeError):
        raise damaged from None
    base = kvstore(f"{location}/state")
    stores = {
        name: _ocdbt(base, name) if ocdbt else kvstore(f"{location}/state/{name.replace('/', '.')}")
        for name in names
    }
    if STEP not in stores:
        raise RequestError(f"{damaged}: it has no step")
    arrays = open_zarr(str(location), stores, "zarr3" if zarr3 else "zarr", sparse=not whole)
    stored_step = arrays.pop(STEP)
    step = checked_step(location, stored_step.read(()) if not stored_step.shape else None)
    return Contents(str(location), form, step, arrays)
