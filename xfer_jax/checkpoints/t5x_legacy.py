"""T5X's older checkpoints, such as Google's public mT5 checkpoints: msgpack and zarr.

A folder has the file `checkpoint` (msgpack: `version`, and `optimizer` with the tree of arrays) and
one zarr-v2 folder per array, such as `target.encoder.encoder_norm.scale`; for these arrays, the
tree has TensorStore specs that name the folder. Small arrays are in the tree itself.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints.arrays import (
    STEP,
    Contents,
    Stored,
    checked_step,
    kvstore,
    open_zarr,
    read_file,
    reason,
    write_zarr,
)

FILE = "checkpoint"
VERSION = 3  # T5X's version of the layout; 2 differs only in bfloat16, which is not supported


def read(location: str | Path) -> Contents:
    """Opens a checkpoint.

    Args:
      location: its folder, local or gs://.

    Raises:
      RequestError: it is damaged, or of a version that T5X no longer reads.
    """
    content = read_file(location, FILE)
    assert content is not None, "recognised by this file"
    if content.lstrip().startswith(b"model_checkpoint_path"):
        raise RequestError(
            f"{location} is a TensorFlow checkpoint; use T5X's conversion of it, e.g."
            " gs://t5-data/pretrained_models/t5x/mt5_base/checkpoint_1000000"
        )
    try:
        state = serialization.msgpack_restore(content)
        version = int(state.get("version", 0))
        leaves = flatten_dict(state["optimizer"], is_leaf=lambda _, x: "kvstore" in x, sep="/")
        step = checked_step(location, leaves.pop(STEP))
        folders = {name: _folder(leaf) for name, leaf in leaves.items() if isinstance(leaf, dict)}
    except RequestError:
        raise
    except Exception as error:  # msgpack raises errors of many types
        raise RequestError(f"{location}/{FILE} is damaged: {reason(error)}") from None
    if version < 2:
        raise RequestError(
            f"{location} has T5X's layout {version}, which T5X no longer reads; use layout 2 or"
            f" {VERSION}"
        )
    arrays = {name: _in_memory(leaf) for name, leaf in leaves.items() if name not in folders}
    stores = {name: kvstore(f"{location}/{folder}") for name, folder in folders.items()}
    return Contents(str(location), "t5x-legacy", step, arrays | open_zarr(str(location), stores))


def _in_memory(array: np.ndarray) -> Stored:
    array = np.asarray(array)
    return Stored(array.shape, array.dtype, lambda index: array[index])


def _folder(spec: dict[str, Any]) -> str:
    # Before version 0.1.14, TensorStore writes the path outside of `kvstore`.
    folder = (spec["kvstore"].get("path") or spec["path"]).strip("/")
    if not folder.isprintable() or {"", ".", ".."} & set(folder.split("/")):
        raise ValueError(f"an array cannot be in {ascii(folder)[:100]}")
    return folder


def write(contents: Contents, folder: Path) -> None:
    """Writes a checkpoint, a few arrays at a time.

    Args:
      contents: parameters and moments.
      folder: an empty folder; it is complete when this function returns.
    """
    # T5X expects factored moments, like all arrays that it does not shard, in the tree.
    sharded = {
        name: array
        for name, array in contents.arrays.items()
        if math.prod(array.shape) > 1 and not name.endswith(("/v_row", "/v_col"))
    }
    folders = {name: name.replace("/", ".") for name in sharded}
    specs = write_zarr(sharded, lambda name: kvstore(folder / folders[name]))
    leaves: dict[str, Any] = {STEP: np.asarray(contents.step, np.int32)}
    for name, array in contents.arrays.items():
        if name in sharded:
            where = {"kvstore": {"driver": "file", "path": f"{folders[name]}/"}}
            leaves[name] = specs[name] | where
        else:
            leaves[name] = array.read(())
    tree = {"version": VERSION, "optimizer": unflatten_dict(leaves, sep="/")}
    (folder / FILE).write_bytes(serialization.msgpack_serialize(tree))
