"""Checkpoints: the state of a run, in T5X's tree, written whole or not at all by Orbax.

A checkpoint is a folder `checkpoint_<step>` with `state/` (Orbax) and `run.json` (what the run must
know besides arrays). Its tree is T5X's: `target` holds the parameters, `state/step` the step and
`state/param_states` Adafactor's moments by parameter. T5X reads it as its own; this module reads,
besides, what T5X wrote, new or old, and what Hugging Face's library wrote.
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

_DISK_SPARE = 1.2  # times a checkpoint's arrays is what must be free before it is written
_SHOWN = 8  # mismatches that an error spells out
_COMPARED = 2000  # names that one which is missing may be a misspelling of
_AT_ONCE = 8  # arrays read at the same time, which matters when they come from gs://


# --- A run's state and T5X's tree -----------------------------------------------------------------


def to_tree(params: dict, state: optax.FactoredState, step: int) -> dict[str, Any]:
    """Arranges a run's state as T5X does.

    Args:
      params: the parameters.
      state: the optimizer's.
      step: the next step.
    """
    param_states = jax.tree.map(
        lambda v_row, v_col, v: {
            "m": np.zeros((1,), np.float32),  # T5X has a slot for momentum, mT5 has none
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
    """Takes the optimizer's state out of T5X's arrangement.

    Args:
      tree: from `restore` or `to_tree`, with moments; of arrays, shapes or anything else.
      step: what its counter is set to.
    """

    def slot(name: str) -> dict:
        return jax.tree.map(
            lambda slots: slots[name],
            tree["state"]["param_states"],
            is_leaf=lambda x: isinstance(x, dict) and "v_row" in x,
        )

    return optax.FactoredState(step, slot("v_row"), slot("v_col"), slot("v"))


def shapes(config: model.Config) -> dict[str, Any]:
    """Returns the tree of `jax.ShapeDtypeStruct` that a checkpoint of a model has."""
    return jax.eval_shape(
        lambda params: to_tree(params, optimizer.init(params), 0), model.parameter_shapes(config)
    )


# --- Writing --------------------------------------------------------------------------------------


def save(model_dir: Path, tree: dict[str, Any], about: dict[str, Any]) -> Path:
    """Writes `checkpoint_<step>`; it has its name only once it is whole and on the disk.

    Of several processes, all call this, and each writes the parts that it holds.

    Args:
      model_dir: the run's folder.
      tree: from `to_tree`.
      about: what `run.json` holds, JSON; see `about`.

    Raises:
      OSError: the disk is full. Orbax, which would find out too, prints much before it says so.
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
    partitioning.meet("leftovers are gone")
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(temporary / "state", tree)
    except ValueError as error:  # TensorStore's
        raise RunError(f"{final} cannot be written: {reason(error)}") from error
    if first:
        text = json.dumps(about, indent=1, sort_keys=True)
        (temporary / run_file.RUN_FILE).write_text(text, encoding="utf-8")
        checksums.write(temporary)
        if os.path.lexists(final):  # a run that resumed from an older checkpoint comes by again
            final.rename(replaced)
        temporary.rename(final)
        checksums.settle(model_dir)
        locations.remove(replaced)
    partitioning.meet("the checkpoint has its name")
    return final


# --- Reading --------------------------------------------------------------------------------------


def read(location: str | Path) -> Contents:
    """Opens a checkpoint of any form; its arrays are read when they are asked for.

    Its hashes are not compared: whoever uses the arrays reads within `checksums.verified`.

    Args:
      location: from `locate`.

    Raises:
      RequestError: it is damaged.
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
    """Refuses arrays that are no weights, or that no model has."""
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
        raise RequestError(f"{location}: {odd[0]} holds {dtype} numbers, which are no weights")


def restore(
    location: str | Path, like: dict[str, Any], compare_hashes: bool = True
) -> dict[str, Any]:
    """Reads a checkpoint of any form, laid out over devices as asked.

    Its files are hashed meanwhile. Of several processes, all call this; if one cannot read the
    checkpoint, all raise that.

    Args:
      location: from `locate`.
      like: tree of `jax.ShapeDtypeStruct` (with shardings) that the checkpoint must match; of
        `state`, `step` alone is enough.
      compare_hashes: False where `latest` has just done so.

    Returns:
      The tree, with `param_states` left out where the checkpoint has none.

    Raises:
      RequestError: files that are not as they were written; arrays that are missing, left over, or
        of another shape, all at once; NaNs.
    """
    with (
        partitioning.together(),
        checksums.verified(location) if compare_hashes else contextlib.nullcontext(),
    ):
        contents = read(location)
        there = contents.arrays | {STEP: t5x_orbax.held_step(contents.step)}
        wanted = _fitting(location, there, flatten_dict(like, sep="/"))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            placed = list(pool.map(lambda name: _place(there[name], wanted[name]), wanted))
    tree = unflatten_dict(dict(zip(wanted, placed, strict=True)), sep="/")
    _check_finite(location, tree["target"])
    return tree


def _place(array: Stored, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Reads at once what this process's devices hold of an array, and hands each its part."""

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
    """Returns what of `wanted` is to be read, once the two are found to agree."""
    both = [any(name.startswith(MOMENTS) for name in names) for names in (there, wanted)]
    if not all(both):  # no moments there, or none wanted
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
      RequestError: arrays that are missing, left over, or of another shape; all at once.
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
    problems += [f"{name} is not the model's" for name in left]
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
    """Raises RequestError if there are names of arrays that hold NaN or infinity."""
    if names:
        more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
        raise RequestError(
            f"{location} holds NaN or infinite weights in {', '.join(names[:_SHOWN])}{more}; it is"
            " damaged, or was saved after the training had diverged"
        )
