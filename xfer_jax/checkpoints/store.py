"""Checkpoints: the state of a run in T5X's tree, written atomically by Orbax.

A checkpoint is a folder `checkpoint_<step>` with `state/` (Orbax) and `run.json` (metadata of the
run). Its tree is T5X's: `target` has the parameters, `state/step` the step and `state/param_states`
Adafactor's moments by parameter. T5X can read it. This module also reads checkpoints of T5X, in its
current and its older format, and of Hugging Face's library.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from seqio_tasks import files
from seqio_tasks.errors import RequestError, RunError, did_you_mean
from xfer_jax.checkpoints import checksums, huggingface, locations, run_file, t5x_legacy, t5x_orbax
from xfer_jax.checkpoints.arrays import (
    MOMENTS,
    STEP,
    TARGET,
    Contents,
    Index,
    Stored,
    memory,
    reason,
    refuse_odd_names,
)
from xfer_jax.mt5 import model, optimizer, partitioning

_DISK_SPARE = 1.2  # free disk space for a checkpoint, relative to its arrays
_SHOWN = 8  # mismatches that an error message lists
_COMPARED = 2000  # names that a missing name is compared with
_AT_ONCE = 8  # arrays that are read at the same time, for gs://


# --- A run's state and T5X's tree -----------------------------------------------------------------


def to_tree(params: dict, state: optax.FactoredState, step: int) -> dict[str, Any]:
    """Returns the state of a run as T5X's tree.

    Args:
      params: the parameters.
      state: the optimizer's state.
      step: the next step.
    """
    param_states = jax.tree.map(
        lambda v_row, v_col, v: {
            "m": np.zeros((1,), np.float32),  # T5X has a slot for momentum, which mT5 does not use
            "v": v,
            "v_col": v_col,
            "v_row": v_row,
        },
        state.v_row,
        state.v_col,
        state.v,
    )
    step_state = {"step": np.asarray(step, np.int32), "param_states": param_states}
    return {"target": params, "state": step_state}


def optimizer_state(tree: dict[str, Any], step: Any) -> optax.FactoredState:
    """Returns the optimizer's state from T5X's tree.

    Args:
      tree: from `restore` or `to_tree`, with moments; of arrays, shapes or other values.
      step: the value of its counter.
    """

    def slot(name: str) -> dict:
        return jax.tree.map(
            lambda slots: slots[name],
            tree["state"]["param_states"],
            is_leaf=lambda x: isinstance(x, dict) and "v_row" in x,
        )

    return optax.FactoredState(step, slot("v_row"), slot("v_col"), slot("v"))


def shapes(config: model.Config) -> dict[str, Any]:
    """Returns the tree of a model's checkpoint, of `jax.ShapeDtypeStruct`."""
    return jax.eval_shape(
        lambda params: to_tree(params, optimizer.init(params), 0), model.parameter_shapes(config)
    )


# --- Writing --------------------------------------------------------------------------------------


def save(model_dir: Path, tree: dict[str, Any], about: dict[str, Any]) -> Path:
    """Writes `checkpoint_<step>`; it gets its name only when it is whole and on the disk.

    All processes must call this; each writes its own parts of the arrays.

    Args:
      model_dir: the run's folder.
      tree: from `to_tree`.
      about: the content of `run.json`, see `run_file.about`.

    Raises:
      OSError: the disk is full; checked first, because Orbax prints much before it fails.
      RunError: the disk fails while Orbax writes.
    """
    model_dir = files.absolute(model_dir)
    model_dir.mkdir(parents=True, exist_ok=True)
    shards = [s for leaf in jax.tree.leaves(tree) for s in getattr(leaf, "addressable_shards", ())]
    size = sum(shard.data.nbytes for shard in shards if shard.replica_id == 0)
    if shutil.disk_usage(model_dir).free < _DISK_SPARE * size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(model_dir))
    final = model_dir / f"checkpoint_{int(tree['state']['step'])}"
    temporary, replaced = (final.with_name(f".{final.name}.{kind}") for kind in ("new", "old"))
    first = partitioning.is_first()
    if first:
        locations.tidy(model_dir)
    partitioning.meet("leftovers are removed")
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(temporary / "state", tree)
    except ValueError as error:  # TensorStore's
        raise RunError(f"{final} cannot be written: {reason(error)}") from error
    if first:
        text = json.dumps(about, indent=1, sort_keys=True)
        (temporary / run_file.RUN_FILE).write_text(text, encoding="utf-8")
        checksums.write(temporary)
        if os.path.lexists(final):  # the run resumed from an older checkpoint
            final.rename(replaced)
        temporary.rename(final)
        checksums.sync_folder(model_dir)
        locations.remove(replaced)
    partitioning.meet("the checkpoint has its name")
    return final


# --- Reading --------------------------------------------------------------------------------------


def read(location: str | Path) -> Contents:
    """Opens a checkpoint of any format; its arrays are read on request.

    Does not compare its hashes: read the arrays within `checksums.verified`.

    Args:
      location: from `locate`.

    Raises:
      RequestError: the checkpoint is damaged.
    """
    kind = locations.form(location)
    if kind is None:
        raise RequestError(f"{location} is damaged: it has no arrays")
    if kind == "hf":
        contents = huggingface.read(location)
    elif kind == "t5x-legacy":
        contents = t5x_legacy.read(location)
    else:
        contents = t5x_orbax.read(location, kind)
    _check_arrays(contents)
    return contents


def _check_arrays(contents: Contents) -> None:
    """Raises RequestError if an array cannot be a model's weights."""
    location = contents.location
    refuse_odd_names(location, contents.arrays)
    for name, array in contents.arrays.items():
        if array.nbytes > memory():
            raise RequestError(
                f"{location}: {name} of shape {array.shape} is larger than this machine's memory"
            )
    odd = [
        n for n, array in contents.arrays.items() if not jnp.issubdtype(array.dtype, np.floating)
    ]
    if odd:
        dtype = contents.arrays[odd[0]].dtype
        raise RequestError(f"{location}: {odd[0]} has {dtype} numbers, which are not weights")


def restore(
    location: str | Path, like: dict[str, Any], compare_hashes: bool = True
) -> dict[str, Any]:
    """Reads a checkpoint of any format onto the devices, and compares the hashes of its files.

    All processes must call this; an error of one process is raised in all.

    Args:
      location: from `locate`.
      like: tree of `jax.ShapeDtypeStruct` (with shardings) that the checkpoint must match; in
        `state`, only `step` is required.
      compare_hashes: False if `latest` has just compared them.

    Returns:
      The tree, without `param_states` if the checkpoint has none.

    Raises:
      RequestError: files are damaged; arrays are missing, unknown, or of another shape (the message
        lists them); or weights are NaN or infinite.
    """
    with (
        partitioning.together(),
        checksums.verified(location) if compare_hashes else contextlib.nullcontext(),
    ):
        contents = read(location)
        there = contents.arrays | {STEP: t5x_orbax.step_array(contents.step)}
        wanted = _fitting(location, there, flatten_dict(like, sep="/"))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            placed = list(pool.map(lambda name: _place(there[name], wanted[name]), wanted))
    tree = unflatten_dict(dict(zip(wanted, placed, strict=True)), sep="/")
    _check_finite(location, tree["target"])
    return tree


def _place(array: Stored, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Reads the part of an array for this process's devices, and gives each device its own part."""

    def ends(index: Index | None) -> list[tuple[int, int]]:
        parts = zip(index or (), leaf.shape, strict=True)
        return [part.indices(size)[:2] for part, size in parts]

    here = list(map(ends, leaf.sharding.addressable_devices_indices_map(leaf.shape).values()))
    low = [min(along)[0] for along in zip(*here, strict=True)]
    high = [max(end for _, end in along) for along in zip(*here, strict=True)]
    values = np.asarray(array.read(tuple(map(slice, low, high))), leaf.dtype, order="C")

    def part(index: Index | None) -> np.ndarray:
        spans = zip(ends(index), low, strict=True)
        return values[tuple(slice(start - first, end - first) for (start, end), first in spans)]

    return jax.make_array_from_callback(leaf.shape, leaf.sharding, part)


def _fitting(
    location: str | Path, there: Mapping[str, Any], wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Compares names and shapes; returns the leaves of `wanted` to read."""
    both = [any(name.startswith(MOMENTS) for name in names) for names in (there, wanted)]
    if not all(both):  # no moments in the checkpoint, or none wanted
        wanted = {name: leaf for name, leaf in wanted.items() if not name.startswith(MOMENTS)}
        there = {name: leaf for name, leaf in there.items() if not name.startswith(MOMENTS)}
    check_fits(location, _shapes(there), _shapes(wanted))
    return dict(wanted)


def _shapes(leaves: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}


def check_fits(
    location: str | Path,
    there: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
) -> None:
    """Compares the names and shapes of a checkpoint's arrays with a model's.

    Raises:
      RequestError: arrays are missing, unknown, or of another shape; the message lists them.
    """
    problems = [
        f"{name} is {there[name]}, the model has {shape}"
        for name, shape in wanted.items()
        if name in there and there[name] != shape
    ]
    left = sorted(there.keys() - wanted.keys())
    near = left[:_COMPARED]
    for name in (name for name in wanted if name not in there):
        hint = did_you_mean(name, near) if len(problems) < _SHOWN else ""  # slow for many names
        problems.append(f"{name} is missing{hint}")
    problems += [f"{name} is not in the model" for name in left]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        shown = "; ".join(problems[:_SHOWN])
        raise RequestError(f"{location} does not fit the model: {shown}{more}")


@jax.jit
def _finite(params: dict) -> dict:
    return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), params)


def _check_finite(location: str | Path, params: dict) -> None:
    finite = flatten_dict(jax.device_get(_finite(params)), sep="/")
    refuse_not_finite(location, [TARGET + name for name, good in finite.items() if not good])


def refuse_not_finite(location: str | Path, names: list[str]) -> None:
    """Raises RequestError if there are any names, of arrays that contain NaN or infinity."""
    if names:
        more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
        raise RequestError(
            f"{location} has NaN or infinite weights in {', '.join(names[:_SHOWN])}{more}; it is"
            " damaged, or the training had diverged: use another checkpoint"
        )
