"""Checkpoints: the state of a run, in T5X's tree, written whole or not at all by Orbax.

A checkpoint is a folder `checkpoint_<step>` with `state/` (Orbax) and `run.json` (what the run must
know besides arrays). Its tree is T5X's: `target` holds the parameters, `state/step` the step and
`state/param_states` Adafactor's moments by parameter. T5X reads it as its own; this module reads,
besides, what T5X wrote, new or old, and what Hugging Face's library wrote.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental import multihost_utils

from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax import huggingface, optimizer, t5x_legacy
from xfer_jax.stored import (
    MOMENTS,
    STEP,
    TARGET,
    Contents,
    Index,
    Stored,
    is_remote,
    read_file,
    reason,
)

_MOMENTS = ("v_row", "v_col", "v")
_RUN_FILE = "run.json"
_SHOWN = 8  # mismatches that an error spells out


# --- A run's state and T5X's tree -----------------------------------------------------------------


def to_tree(params: dict, opt_state: optax.OptState, step: int) -> dict[str, Any]:
    """Arranges a run's state as T5X does.

    Args:
      params: the parameters.
      opt_state: of `optimizer.adafactor`.
      step: the next step.
    """
    factored = _factored(opt_state)
    param_states = jax.tree.map(
        lambda v_row, v_col, v: {
            "m": np.zeros((1,), np.float32),  # T5X has a slot for momentum, mT5 has none
            "v": v,
            "v_col": v_col,
            "v_row": v_row,
        },
        factored.v_row,
        factored.v_col,
        factored.v,
    )
    state = {"step": np.asarray(step, np.int32), "param_states": param_states}
    return {"target": params, "state": state}


def from_tree(
    tree: dict[str, Any], tx: optax.GradientTransformation
) -> tuple[dict, optax.OptState, int]:
    """Takes a run's state out of T5X's arrangement.

    Args:
      tree: from `restore`.
      tx: the optimizer, `optimizer.adafactor`.

    Returns:
      Parameters, optimizer state (fresh where the checkpoint has none) and step.
    """
    step = int(tree["state"]["step"])
    opt_state = jax.eval_shape(tx.init, tree["target"])
    if "param_states" not in tree["state"]:
        return tree["target"], optimizer.at_step(tx.init(tree["target"]), step), step
    is_moments = lambda x: isinstance(x, dict) and "v_row" in x  # noqa: E731
    factored = optax.FactoredState(
        count=jnp.asarray(step, jnp.int32),
        **{
            name: jax.tree.map(
                lambda slots, name=name: slots[name],
                tree["state"]["param_states"],
                is_leaf=is_moments,
            )
            for name in _MOMENTS
        },
    )
    opt_state = jax.tree.map(
        lambda part: factored if isinstance(part, optax.FactoredState) else part,
        opt_state,
        is_leaf=lambda part: isinstance(part, optax.FactoredState),
    )
    return tree["target"], optimizer.at_step(opt_state, step), step


def _factored(opt_state: optax.OptState) -> optax.FactoredState:
    parts = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, optax.FactoredState))
    return next(part for part in parts if isinstance(part, optax.FactoredState))


# --- Writing --------------------------------------------------------------------------------------


def save(model_dir: Path, tree: dict[str, Any], about: dict[str, Any]) -> Path:
    """Writes `checkpoint_<step>`; it has its name only once it is whole.

    Of several processes, all call this, and each writes the parts that it holds.

    Args:
      model_dir: the run's folder.
      tree: from `to_tree`.
      about: what `run.json` holds, JSON.
    """
    final = model_dir.absolute() / f"checkpoint_{int(tree['state']['step'])}"
    temporary, replaced = (final.with_name(f".{final.name}.{kind}") for kind in ("new", "old"))
    first = jax.process_index() == 0
    if first:
        for leftover in model_dir.glob(".checkpoint_*"):  # of a run that was killed while saving
            shutil.rmtree(leftover, ignore_errors=True)
    _meet("leftovers are gone")
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(temporary / "state", tree)
    if first:
        (temporary / _RUN_FILE).write_text(json.dumps(about, indent=1, sort_keys=True))
        if final.exists():  # a run that resumed from an older checkpoint comes by again
            final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    _meet("the checkpoint has its name")
    return final


def _meet(where: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


class _OneAtATime(ocp.type_handlers.NumpyHandler):
    """Has Orbax write `Stored` arrays, each read and written before the next."""

    def __init__(self):
        super().__init__(deepcopy_host_arrays=False)

    async def serialize(self, values, infos, args=None):
        args = args or [ocp.SaveArgs()] * len(values)
        for value, info, arg in zip(values, infos, args, strict=True):
            for written in await super().serialize([value.read(())], [info], [arg]):
                written.result()
        return []

    def memory_size(self, values):
        return [(0, 0) for _ in values]  # none of them is in memory yet


def write(contents: Contents, folder: Path) -> None:
    """Writes a checkpoint in Orbax's layout, an array at a time.

    Args:
      contents: parameters and moments.
      folder: to make; is whole only when this returns.
    """
    step = np.asarray(contents.step, np.int32)
    leaves = contents.arrays | {STEP: Stored((), step.dtype, lambda index: step)}
    registry = ocp.type_handlers.create_type_handler_registry(
        (Stored, _OneAtATime()), (jax.Array, ocp.type_handlers.ArrayHandler())
    )
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with ocp.Checkpointer(handler) as checkpointer:
        tree = unflatten_dict(leaves, sep="/")
        checkpointer.save(folder.absolute() / "state", args=ocp.args.PyTreeSave(tree))


# --- Reading --------------------------------------------------------------------------------------


def steps(model_dir: Path) -> list[int]:
    """Returns the steps of a folder's whole checkpoints, in order."""
    found = (
        re.fullmatch(r"checkpoint_(\d+)", path.name) for path in model_dir.glob("checkpoint_*")
    )
    return sorted(int(match[1]) for match in found if match)


def form(location: str | Path) -> str | None:
    """Recognises a checkpoint.

    Args:
      location: local or gs://.

    Returns:
      `native`, `t5x` (Orbax), `t5x-legacy`, `hf`, or None if it is none.
    """
    if is_remote(location):
        if read_file(location, "state/_METADATA") is not None:
            return "t5x" if read_file(location, _RUN_FILE) is None else "native"
        return "t5x-legacy" if read_file(location, t5x_legacy.FILE) is not None else None
    path = Path(location)
    if (path / "state").is_dir():
        return "native" if (path / _RUN_FILE).is_file() else "t5x"
    if (path / t5x_legacy.FILE).is_file():
        return "t5x-legacy"
    return "hf" if huggingface.recognise(path) else None


def locate(path: str | Path) -> str | Path:
    """Resolves a checkpoint of any form, or a run's folder to its latest checkpoint.

    Args:
      path: local, or an address gs://….

    Raises:
      RequestError: there is none.
    """
    location: str | Path = str(path).rstrip("/")
    if not is_remote(path):
        location = Path(path).expanduser().absolute()
        if form(location) is None and location.is_dir() and steps(location):
            location = location / f"checkpoint_{steps(location)[-1]}"
    if form(location) is None:
        raise RequestError(
            f"{location} is no checkpoint: neither one of this tool's or of T5X's"
            " (checkpoint_<step>), nor of Hugging Face's (config.json and model.safetensors), nor a"
            " run's folder that holds one"
        )
    return location


def about(location: str | Path) -> dict[str, Any]:
    """Returns what `save` was told of the run; empty for a checkpoint of another tool's."""
    content = read_file(location, _RUN_FILE)
    return json.loads(content) if content else {}


def read(location: str | Path) -> Contents:
    """Opens a checkpoint of any form; its arrays are read when they are asked for.

    Args:
      location: from `locate`.

    Raises:
      RequestError: it is damaged.
    """
    kind = form(location)
    if kind == "hf":
        return huggingface.read(Path(location))
    if kind == "t5x-legacy":
        return t5x_legacy.read(location)
    assert kind is not None, "located"
    checkpointer = ocp.PyTreeCheckpointer()
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)

    def value(name: str) -> np.ndarray:
        return _restore_orbax(checkpointer, location, {name: as_numpy})[name]

    def stored(name: str, leaf: Any) -> Stored:
        def read_part(index: Index) -> np.ndarray:
            return np.asarray(value(name))[index]

        return Stored(tuple(leaf.shape), np.dtype(leaf.dtype), read_part)

    leaves = _orbax_leaves(checkpointer, location)
    if STEP not in leaves:
        raise RequestError(f"{location} is damaged or no checkpoint of a T5X model: it has no step")
    arrays = {name: stored(name, leaf) for name, leaf in leaves.items() if name != STEP}
    return Contents(str(location), kind, int(value(STEP)), arrays)


def restore(location: str | Path, like: dict[str, Any]) -> dict[str, Any]:
    """Reads a checkpoint of any form, laid out over devices as asked.

    Args:
      location: from `locate`.
      like: tree of `jax.ShapeDtypeStruct` (with shardings) that the checkpoint must match; of
        `state`, `step` alone is enough.

    Returns:
      The tree, with `param_states` left out where the checkpoint has none.

    Raises:
      RequestError: arrays that are missing, left over, or of another shape, all at once; NaNs.
    """
    wanted = flatten_dict(like, sep="/")
    if form(location) in ("native", "t5x"):
        with ocp.PyTreeCheckpointer() as checkpointer:
            wanted = _fitting(location, _orbax_leaves(checkpointer, location), wanted)
            args = {
                name: ocp.ArrayRestoreArgs(sharding=leaf.sharding, dtype=leaf.dtype)
                for name, leaf in wanted.items()
            }
            leaves = _restore_orbax(checkpointer, location, args)
    else:
        contents = read(location)
        step = np.asarray(contents.step, np.int32)
        there = contents.arrays | {STEP: Stored((), step.dtype, lambda index: step)}
        wanted = _fitting(location, there, wanted)
        leaves = {name: _place(there[name], leaf) for name, leaf in wanted.items()}
    tree = unflatten_dict(leaves, sep="/")
    _check_finite(location, tree["target"])
    return tree


def _place(array: Stored, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Reads an array, of each device's part as much as it holds."""

    def part(index: Index | None) -> np.ndarray:
        return np.asarray(array.read(index or ()), leaf.dtype, order="C")

    if leaf.sharding is None:
        return jnp.asarray(part(()))
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, part)


def _orbax_leaves(checkpointer: ocp.Checkpointer, location: str | Path) -> dict[str, Any]:
    """Returns the metadata of every array of an Orbax checkpoint by its name."""
    try:
        found = checkpointer.metadata(epath.Path(location) / "state").item_metadata
    except (ValueError, FileNotFoundError, KeyError) as error:
        raise RequestError(f"{location} is not a readable checkpoint: {reason(error)}") from None
    tree = getattr(found, "tree", None)
    if not isinstance(tree, dict) or not {"target", "state"} <= tree.keys():
        raise RequestError(f"{location} is damaged or no checkpoint of a T5X model")
    return flatten_dict(tree, sep="/")


def _restore_orbax(
    checkpointer: ocp.Checkpointer, location: str | Path, args: Mapping[str, ocp.RestoreArgs]
) -> dict[str, Any]:
    try:
        tree = checkpointer.restore(
            epath.Path(location) / "state",
            item=unflatten_dict(dict.fromkeys(args, 0), sep="/"),
            restore_args=unflatten_dict(dict(args), sep="/"),
            partial_restore=True,
        )
    except Exception as error:  # Orbax and TensorStore raise all kinds, plain ones too
        raise RequestError(f"{location} cannot be read: {reason(error)}") from None
    return flatten_dict(tree, sep="/")


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
    problems += [
        f"{name} is missing{did_you_mean(name, there)}" for name in wanted if name not in there
    ]
    problems += [f"{name} is not the model's" for name in sorted(there.keys() - wanted.keys())]
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
