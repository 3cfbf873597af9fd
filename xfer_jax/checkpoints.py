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
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental import multihost_utils

from seqio_tasks import files
from seqio_tasks.errors import RequestError, RunError, did_you_mean
from xfer_jax import (
    checksums,
    huggingface,
    model,
    optimizer,
    partitioning,
    progress,
    run_file,
    t5x_legacy,
    t5x_orbax,
)
from xfer_jax.checksums import SUMS_FILE, damage
from xfer_jax.stored import (
    MOMENTS,
    MOST_STEPS,
    STEP,
    TARGET,
    Contents,
    Index,
    Stored,
    exists,
    is_remote,
    memory,
    reason,
    refuse_odd_names,
)

RUN_FILE, about, check_vocabulary = run_file.RUN_FILE, run_file.about, run_file.check_vocabulary
_DISK_SPARE = 1.2  # times a checkpoint's arrays is what must be free before it is written
_SHOWN = 8  # mismatches that an error spells out
_COMPARED = 2000  # names that one which is missing may be a misspelling of
_AT_ONCE = 8  # arrays read at the same time, which matters when they come from gs://
_NAME = re.compile(r"checkpoint_(0|[1-9][0-9]{0,9})")  # as this tool and T5X write the step
_LEFTOVER = re.compile(r"\.(checkpoint_[0-9]+)\.(new|old|gone)")
_SAID_BYTES = 4096  # of what one process tells the others


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
        tidy(model_dir)
    partitioning.meet("leftovers are gone")
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(temporary / "state", tree)
    except ValueError as error:  # TensorStore's
        raise RunError(f"{final} cannot be written: {reason(error)}") from error
    if first:
        text = json.dumps(about, indent=1, sort_keys=True)
        (temporary / RUN_FILE).write_text(text, encoding="utf-8")
        checksums.write(temporary)
        if os.path.lexists(final):  # a run that resumed from an older checkpoint comes by again
            final.rename(replaced)
        temporary.rename(final)
        checksums.settle(model_dir)
        _remove(replaced)
    partitioning.meet("the checkpoint has its name")
    return final


def tidy(model_dir: Path) -> None:
    """Removes what a save that was killed has left, and gives back what it was replacing."""
    for leftover in model_dir.glob(".checkpoint_*"):
        match = _LEFTOVER.fullmatch(leftover.name)
        if not match:
            continue
        final = model_dir / match[1]
        if match[2] == "old" and not os.path.lexists(final):
            leftover.rename(final)
        else:
            _remove(leftover)


def _remove(path: Path) -> None:
    """Removes a folder, a file, or a link but not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# --- Finding --------------------------------------------------------------------------------------


def step_of(name: str) -> int | None:
    """Returns the step in the name of a checkpoint's folder, `checkpoint_<step>`, or None."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and int(match[1]) <= MOST_STEPS else None


def _named(model_dir: Path) -> list[int]:
    """Returns the steps in the names of a folder's checkpoints, and of what is called like one."""
    found = (step_of(path.name) for path in model_dir.glob("checkpoint_*"))
    return sorted(step for step in found if step is not None)


def steps(model_dir: Path) -> list[int]:
    """Returns the steps of a folder's checkpoints, damaged ones among them, in order.

    A file, an empty folder, a link that leads nowhere, or a folder without arrays is none.
    """
    return [step for step in _named(model_dir) if _is_one(model_dir / f"checkpoint_{step}")]


def _is_one(path: Path) -> bool:
    """Whether a folder is a checkpoint, or what is left of one."""
    return form(path) is not None or any((path / name).is_file() for name in (SUMS_FILE, RUN_FILE))


def _passed_over(checkpoint: Path) -> str:
    return f"{checkpoint} is no checkpoint and is passed over"


def form(location: str | Path) -> str | None:
    """Recognises a checkpoint.

    Args:
      location: local or gs://.

    Returns:
      `native`, `t5x` (Orbax), `t5x-legacy`, `hf`, or None if it is none.
    """
    # Locally the folder is enough: without the list it is a damaged checkpoint, not none.
    if exists(location, t5x_orbax.TREE) or (
        not is_remote(location) and (Path(location) / "state").is_dir()
    ):
        return "native" if exists(location, RUN_FILE) else "t5x"
    if exists(location, t5x_legacy.FILE):
        return "t5x-legacy"
    return "hf" if huggingface.recognise(location) else None


def locate(path: str | Path) -> str | Path:
    """Resolves a checkpoint of any form, or a run's folder to its latest checkpoint.

    The latest is taken even if it is damaged, and then refused by whoever reads it: an older one in
    its place would give an older step's results in silence.

    Args:
      path: local, or an address gs://….

    Raises:
      RequestError: there is none.
    """
    if is_remote(path):
        location: str | Path = str(path).rstrip("/")
    else:
        location = files.absolute(path)
        if form(location) is None and location.is_dir():
            for step in reversed(_named(location)):
                checkpoint = location / f"checkpoint_{step}"
                if _is_one(checkpoint):
                    location = checkpoint
                    break
                progress.say(f"warning: {_passed_over(checkpoint)}")
    if form(location) is None and damage(location) is None:
        raise RequestError(
            f"{location} is no checkpoint: neither one of this tool's or of T5X's"
            " (checkpoint_<step>), nor of Hugging Face's (config.json and model.safetensors), nor a"
            " run's folder that holds one"
        )
    return location


def latest(model_dir: Path) -> tuple[Path | None, list[str]]:
    """Finds a run's latest checkpoint that is whole.

    Of several processes, all call this; the first looks, and tells the others.

    Returns:
      It, or None if there is no checkpoint at all; and what is wrong with those after it.

    Raises:
      RequestError: there are checkpoints and all are damaged.
    """
    model_dir = files.absolute(model_dir)
    found: list[tuple[int | None, list[str]]] = []
    with _together():
        if partitioning.is_first():
            found.append(_latest(model_dir))
    step, complaints = found[0] if found else (None, [])
    if jax.process_count() > 1:
        mine = np.asarray(-1 if step is None else step, np.int32)
        told = int(multihost_utils.broadcast_one_to_all(mine))
        step = None if told < 0 else told
    return (None if step is None else model_dir / f"checkpoint_{step}"), complaints


def _latest(model_dir: Path) -> tuple[int | None, list[str]]:
    complaints, damaged = [], False
    for step in reversed(_named(model_dir)):
        checkpoint = model_dir / f"checkpoint_{step}"
        if not _is_one(checkpoint):
            complaints.append(_passed_over(checkpoint))
            continue
        problem = damage(checkpoint)
        if problem is None and form(checkpoint) is None:
            problem = "it has no arrays"
        if problem is None:
            return step, complaints
        damaged = True
        complaints.append(f"{checkpoint} is damaged: {problem}")
    if damaged:
        raise RequestError(f"{'; '.join(complaints)}; remove {model_dir} to begin anew")
    return None, complaints


def keep(model_dir: Path, count: int | None) -> None:
    """Removes a run's oldest checkpoints. One that is half removed when it is killed is none.

    Args:
      model_dir: the run's folder.
      count: how many of the latest stay, 0: none of them; None: all.
    """
    found = steps(model_dir)
    for step in found[: max(len(found) - count, 0)] if count is not None else []:
        # Renamed first: a checkpoint that is half removed must not look like one.
        gone = (model_dir / f"checkpoint_{step}").rename(model_dir / f".checkpoint_{step}.gone")
        _remove(gone)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Has an error of one process raised in all; else the others would wait for one that is gone.

    Raises:
      RequestError: of this process, or of the first that has one.
    """
    said = ""
    try:
        yield
    except RequestError as error:
        said = str(error)
        if jax.process_count() == 1:
            raise
    if jax.process_count() == 1:
        return
    mine = np.frombuffer(said.encode("utf-8", "replace")[:_SAID_BYTES].ljust(_SAID_BYTES), np.uint8)
    everyone = multihost_utils.process_allgather(mine)
    texts = [row.tobytes().decode("utf-8", "replace").rstrip() for row in np.asarray(everyone)]
    said = said or next(filter(None, texts), "")
    if said:
        raise RequestError(said)


# --- Reading --------------------------------------------------------------------------------------


def read(location: str | Path) -> Contents:
    """Opens a checkpoint of any form; its arrays are read when they are asked for.

    Its hashes are not compared: whoever uses the arrays reads within `checksums.verified`.

    Args:
      location: from `locate`.

    Raises:
      RequestError: it is damaged.
    """
    kind = form(location)
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
        _together(),
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
