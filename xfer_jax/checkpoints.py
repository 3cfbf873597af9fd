"""Checkpoints: the state of a run, in T5X's tree, written whole or not at all by Orbax.

A checkpoint is a folder `checkpoint_<step>` with `state/` (Orbax) and `run.json` (what the run must
know besides arrays). Its tree is T5X's: `target` holds the parameters, `state/step` the step and
`state/param_states` Adafactor's moments by parameter.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict

from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax import optimizer

_MOMENTS = ("v_row", "v_col", "v")


def to_tree(params: dict, opt_state: optax.OptState, step: int) -> dict[str, Any]:
    """Arranges a run's state as T5X does.

    Args:
      params: the parameters.
      opt_state: of `optimizer.adafactor`.
      step: the next step.
    """
    factored = _factored(opt_state)
    moments = {name: getattr(factored, name) for name in _MOMENTS}
    param_states = jax.tree.map(
        lambda v_row, v_col, v: {
            "m": jnp.zeros((1,), jnp.float32),  # T5X has a slot for momentum, mT5 has none
            "v": v,
            "v_col": v_col,
            "v_row": v_row,
        },
        moments["v_row"],
        moments["v_col"],
        moments["v"],
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
      Parameters, optimizer state and step.
    """
    step = int(tree["state"]["step"])
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
        tx.init(tree["target"]),
        is_leaf=lambda part: isinstance(part, optax.FactoredState),
    )
    return tree["target"], optimizer.at_step(opt_state, step), step


def _factored(opt_state: optax.OptState) -> optax.FactoredState:
    parts = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, optax.FactoredState))
    return next(part for part in parts if isinstance(part, optax.FactoredState))


def save(model_dir: Path, tree: dict[str, Any], about: dict[str, Any]) -> Path:
    """Writes `checkpoint_<step>`; it has its name only once it is whole.

    Args:
      model_dir: the run's folder.
      tree: from `to_tree`.
      about: what `run.json` holds, JSON.
    """
    final = model_dir.absolute() / f"checkpoint_{int(tree['state']['step'])}"
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    for leftover in model_dir.glob(".checkpoint_*"):  # of a run that was killed while saving
        shutil.rmtree(leftover, ignore_errors=True)
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(temporary / "state", tree)
    (temporary / "run.json").write_text(json.dumps(about, indent=1, sort_keys=True))
    if final.exists():  # a run that resumed from an older checkpoint comes by again
        shutil.rmtree(final)
    temporary.rename(final)
    return final


def steps(model_dir: Path) -> list[int]:
    """Returns the steps of a folder's whole checkpoints, in order."""
    found = (
        re.fullmatch(r"checkpoint_(\d+)", path.name) for path in model_dir.glob("checkpoint_*")
    )
    return sorted(int(match[1]) for match in found if match)


def locate(path: str | Path) -> Path:
    """Resolves a checkpoint's folder, or a run's folder to its latest checkpoint.

    Raises:
      RequestError: there is none.
    """
    folder = Path(path).expanduser()
    if (folder / "state").is_dir():
        return folder.absolute()
    if folder.is_dir() and steps(folder):
        return (folder / f"checkpoint_{steps(folder)[-1]}").absolute()
    raise RequestError(
        f"{folder} is neither a checkpoint (checkpoint_<step>, with a folder `state`) nor a run's"
        " folder that holds one"
    )


def about(checkpoint: Path) -> dict[str, Any]:
    """Returns what `save` was told of the run; empty for a checkpoint of T5X."""
    file = checkpoint / "run.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def restore(checkpoint: Path, like: dict[str, Any]) -> dict[str, Any]:
    """Reads a checkpoint, laid out over devices as asked.

    Args:
      checkpoint: from `locate`.
      like: tree of `jax.ShapeDtypeStruct` (with shardings) that the checkpoint must match; of
        `state`, `step` alone is enough.

    Raises:
      RequestError: arrays that are missing, left over, or of another shape; all at once.
    """
    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            found = checkpointer.metadata(checkpoint / "state").item_metadata
        except (ValueError, FileNotFoundError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise RequestError(f"{checkpoint} is not a readable checkpoint: {reason}") from None
        _check(checkpoint, getattr(found, "tree", None), like)
        restore_args = jax.tree.map(
            lambda leaf: ocp.ArrayRestoreArgs(sharding=leaf.sharding, dtype=leaf.dtype), like
        )
        try:
            return checkpointer.restore(
                checkpoint / "state", item=like, restore_args=restore_args, partial_restore=True
            )
        except Exception as error:  # Orbax and TensorStore raise all kinds, plain ones too
            reason = str(error).splitlines()[0][:300]
            raise RequestError(f"{checkpoint} cannot be read: {reason}") from None


def _check(checkpoint: Path, metadata: Any, like: dict) -> None:
    if not isinstance(metadata, dict) or not {"target", "state"} <= metadata.keys():
        raise RequestError(f"{checkpoint} is damaged or no checkpoint of a T5X model")
    if "param_states" not in like["state"]:  # only the parameters and the step are asked for
        metadata = {"target": metadata["target"], "state": {"step": metadata["state"]["step"]}}
    there = {"/".join(k): tuple(v.shape) for k, v in flatten_dict(metadata).items()}
    asked = {"/".join(k): tuple(v.shape) for k, v in flatten_dict(like).items()}
    problems = [
        f"{name} is {there[name]}, the model has {shape}"
        for name, shape in asked.items()
        if name in there and there[name] != shape
    ]
    problems += [
        f"{name} is missing{did_you_mean(name, there)}" for name in asked if name not in there
    ]
    problems += [f"{name} is not the model's" for name in sorted(there.keys() - asked.keys())]
    if problems:
        shown = "; ".join(problems[:8]) + (
            f"; and {len(problems) - 8} more" if problems[8:] else ""
        )
        raise RequestError(f"{checkpoint} does not fit the model: {shown}")
