"""T5X's older checkpoints, the kind that Google's public mT5 ones are: msgpack and zarr.

A folder holds the file `checkpoint` (msgpack: `version`, and `optimizer` with the tree of arrays)
and one zarr-v2 folder an array, `target.encoder.encoder_norm.scale`; in the tree stands, in its
place, a TensorStore spec that names the folder. Arrays of one element are in the tree itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from seqio_tasks.errors import RequestError
from xfer_jax.stored import STEP, Contents, Index, Stored, kvstore, read_file, reason

FILE = "checkpoint"
VERSION = 3  # of the layout, as T5X numbers it; 2 differs for bfloat16 only, which is refused
_CHUNK_BYTES = 64 << 20  # what T5X aims at


def read(location: str | Path) -> Contents:
    """Opens a checkpoint.

    Args:
      location: its folder, local or gs://.

    Raises:
      RequestError: it is damaged, or of a version that T5X itself no longer reads.
    """
    content = read_file(location, FILE)
    assert content is not None, "recognised by this file"
    if content.lstrip().startswith(b"model_checkpoint_path"):
        raise RequestError(
            f"{location} is a TensorFlow checkpoint; take T5X's conversion of it, e.g."
            " gs://t5-data/pretrained_models/t5x/mt5_base/checkpoint_1000000"
        )
    try:
        state = serialization.msgpack_restore(content)
        leaves = flatten_dict(state["optimizer"], is_leaf=lambda _, x: "kvstore" in x, sep="/")
        step = int(leaves.pop(STEP))
    except Exception as error:  # msgpack raises many kinds; all mean the same
        raise RequestError(f"{location}/{FILE} is damaged: {reason(error)}") from None
    if state.get("version", 0) < 2:
        raise RequestError(
            f"{location} is of T5X's layout {state.get('version', 0)}; 2 and {VERSION} can be read"
        )
    specs = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, dict)}
    arrays = {name: _held(leaf) for name, leaf in leaves.items() if name not in specs}
    return Contents(str(location), "t5x-legacy", step, arrays | _open(location, specs))


def _held(array: np.ndarray) -> Stored:
    array = np.asarray(array)
    return Stored(array.shape, array.dtype, lambda index: array[index])


def _open(location: str | Path, specs: dict[str, dict]) -> dict[str, Stored]:
    """Opens the zarr folders, all at once since they may be far away."""
    opening = {
        name: ts.open(
            {
                "driver": "zarr",
                "kvstore": kvstore(f"{location}/{_folder(spec)}"),
                "fill_missing_data_reads": False,  # else a lost file reads as zeros
            },
            open=True,
        )
        for name, spec in specs.items()
    }
    stores, problems = {}, []
    for name, future in opening.items():
        try:
            stores[name] = future.result()
        except ValueError as error:
            problems.append(f"{name} ({reason(error)})")
    if problems:
        more = f" and {len(problems) - 4} more" if problems[4:] else ""
        raise RequestError(f"{location} lacks arrays: {'; '.join(problems[:4])}{more}")
    return {name: _stored(location, name, store) for name, store in stores.items()}


def _folder(spec: dict[str, Any]) -> str:
    # Checkpoints written to gs:// by older TensorStores have the path beside the kvstore.
    return (spec["kvstore"].get("path") or spec["path"]).strip("/")


def _stored(location: str | Path, name: str, store: ts.TensorStore) -> Stored:
    def read_part(index: Index) -> np.ndarray:
        try:
            return store[index].read().result() if index else store.read().result()
        except ValueError as error:
            raise RequestError(f"{location}: {name} cannot be read: {reason(error)}") from None

    return Stored(tuple(store.shape), store.dtype.numpy_dtype, read_part)


def write(contents: Contents, folder: Path) -> None:
    """Writes a checkpoint, an array at a time.

    Args:
      contents: parameters and moments.
      folder: to make; is whole only when this returns.
    """
    folder.mkdir(parents=True)
    leaves: dict[str, Any] = {STEP: np.asarray(contents.step, np.int32)}
    for name, array in contents.arrays.items():
        leaves[name] = _write_array(folder, name, array)
    tree = {"version": VERSION, "optimizer": unflatten_dict(leaves, sep="/")}
    (folder / FILE).write_bytes(serialization.msgpack_serialize(tree))


def _write_array(folder: Path, name: str, array: Stored) -> np.ndarray | dict[str, Any]:
    """Returns what stands for the array in the msgpack file."""
    values = array.read(())
    if values.size <= 1:
        return values
    row_bytes = values.nbytes // values.shape[0]
    rows = min(values.shape[0], max(1, _CHUNK_BYTES // row_bytes))
    path = name.replace("/", ".")
    metadata = {
        "shape": list(values.shape),
        "chunks": [rows, *values.shape[1:]],
        "compressor": None,  # weights hardly compress: gzip is slower than any disk
    }
    spec = {"driver": "zarr", "dtype": values.dtype.name, "metadata": metadata}
    store = ts.open(spec | {"kvstore": kvstore(folder / path)}, create=True).result()
    store.write(values, can_reference_source_data_indefinitely=True).result()
    return spec | {"kvstore": {"driver": "file", "path": f"{path}/"}}
