"""Checkpoints: the state of a run, in T5X's tree, written whole or not at all by Orbax.

A checkpoint is a folder `checkpoint_<step>` with `state/` (Orbax) and `run.json` (what the run must
know besides arrays). Its tree is T5X's: `target` holds the parameters, `state/step` the step and
`state/param_states` Adafactor's moments by parameter. T5X reads it as its own; this module reads,
besides, what T5X wrote, new or old, and what Hugging Face's library wrote.
"""

import errno
import hashlib
import json
import os
import re
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

from seqio_tasks.errors import RequestError, did_you_mean
from seqio_tasks.vocabulary import Vocabulary
from xfer_jax import huggingface, model, optimizer, partitioning, t5x_legacy
from xfer_jax.stored import (
    MOMENTS,
    STEP,
    TARGET,
    Contents,
    Index,
    Stored,
    exists,
    is_remote,
    kvstore,
    open_zarr,
    read_file,
    reason,
    write_zarr,
)

RUN_FILE = "run.json"
_DISK_SPARE = 1.2  # times a checkpoint's arrays is what must be free before it is written
SUMS_FILE = "SHA256SUMS"  # of what `save` wrote, as `sha256sum --check` reads it
_SAMPLED = 1 << 20  # bytes of a file's beginning and end that `identity` reads
_ORBAX_TREE = "state/_METADATA"  # JSON that lists the arrays
_SHOWN = 8  # mismatches that an error spells out
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
    """Writes `checkpoint_<step>`; it has its name only once it is whole.

    Of several processes, all call this, and each writes the parts that it holds.

    Args:
      model_dir: the run's folder.
      tree: from `to_tree`.
      about: what `run.json` holds, JSON.

    Raises:
      OSError: the disk is full. Orbax, which would find out too, prints much before it says so.
    """
    model_dir.mkdir(parents=True, exist_ok=True)
    shards = [s for leaf in jax.tree.leaves(tree) for s in getattr(leaf, "addressable_shards", ())]
    size = sum(shard.data.nbytes for shard in shards if shard.replica_id == 0)
    if shutil.disk_usage(model_dir).free < _DISK_SPARE * size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(model_dir))
    final = model_dir.absolute() / f"checkpoint_{int(tree['state']['step'])}"
    temporary, replaced = (final.with_name(f".{final.name}.{kind}") for kind in ("new", "old"))
    first = partitioning.is_first()
    if first:
        tidy(model_dir)
    partitioning.meet("leftovers are gone")
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(temporary / "state", tree)
    if first:
        (temporary / RUN_FILE).write_text(json.dumps(about, indent=1, sort_keys=True))
        sums = (f"{_digest(file)}  {name}\n" for name, file in _state_files(temporary).items())
        (temporary / SUMS_FILE).write_text("".join(sums))
        if final.exists():  # a run that resumed from an older checkpoint comes by again
            final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    partitioning.meet("the checkpoint has its name")
    return final


def tidy(model_dir: Path) -> None:
    """Removes what a save that was killed has left, and gives back what it was replacing."""
    for leftover in model_dir.glob(".checkpoint_*"):
        final = model_dir / leftover.name.removeprefix(".").removesuffix(".old")
        if leftover.suffix == ".old" and not final.exists():
            leftover.rename(final)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _state_files(checkpoint: Path) -> dict[str, Path]:
    files = sorted(path for path in (checkpoint / "state").rglob("*") if path.is_file())
    return {str(path.relative_to(checkpoint)): path for path in files}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write(contents: Contents, folder: Path) -> None:
    """Writes a checkpoint as Orbax does, a few arrays at a time; Orbax itself wants all at once.

    Args:
      contents: parameters and moments.
      folder: an empty one; is taken for a checkpoint only once it is whole.
    """
    unfinished = folder.absolute() / ".state"
    base = kvstore(unfinished)
    leaves = contents.arrays | {STEP: _held_step(contents.step)}
    write_zarr(leaves, lambda name: _ocdbt(base, name))
    tree = {str(tuple(name.split("/"))): _orbax_leaf(name.split("/")) for name in leaves}
    metadata = {
        "tree_metadata": tree,
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    (folder / ".state" / "_METADATA").write_text(json.dumps(metadata))
    unfinished.rename(folder / "state")


def _ocdbt(base: Any, name: str) -> dict[str, Any]:
    """Returns TensorStore's spec of an array's folder inside the database that Orbax makes."""
    return {"driver": "ocdbt", "base": base, "path": f"{name.replace('/', '.')}/"}


def _orbax_leaf(keys: list[str]) -> dict[str, Any]:
    return {
        "key_metadata": [{"key": key, "key_type": 2} for key in keys],  # 2: of a dictionary
        "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
    }


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
    # Locally the folder is enough: without the list it is a damaged checkpoint, not none.
    if exists(location, _ORBAX_TREE) or (
        not is_remote(location) and (Path(location) / "state").is_dir()
    ):
        return "native" if exists(location, RUN_FILE) else "t5x"
    if exists(location, t5x_legacy.FILE):
        return "t5x-legacy"
    return "hf" if huggingface.recognise(location) else None


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
    """Returns what `save` was told of the run; empty for a checkpoint of another tool's.

    Raises:
      RequestError: its file is damaged.
    """
    content = read_file(location, RUN_FILE)
    try:
        return dict(json.loads(content)) if content is not None else {}
    except (ValueError, TypeError) as error:
        raise RequestError(f"{location}/{RUN_FILE} is damaged: {reason(error)}") from None


def damage(checkpoint: Path) -> str | None:
    """Compares a checkpoint's files with the hashes that it was saved with.

    Returns:
      What is wrong; None if nothing is, or if the checkpoint came without hashes.
    """
    sums = checkpoint / SUMS_FILE
    if not sums.is_file():
        return None
    files = _state_files(checkpoint)
    for line in sums.read_text().splitlines():
        expected, _, name = line.partition("  ")
        if name not in files:
            return f"{name} is missing"
        if _digest(files[name]) != expected:
            return f"{name} is not as it was written"
    return None


def latest(model_dir: Path) -> tuple[Path | None, list[str]]:
    """Finds a run's latest checkpoint that is whole.

    Returns:
      It, or None if there is no checkpoint at all; and what is wrong with those after it.

    Raises:
      RequestError: there are checkpoints and all are damaged.
    """
    complaints: list[str] = []
    for step in reversed(steps(model_dir)):
        checkpoint = model_dir.absolute() / f"checkpoint_{step}"
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint, complaints
        complaints.append(f"{checkpoint} is damaged: {problem}")
    if complaints:
        raise RequestError(f"{'; '.join(complaints)}; remove {model_dir} to begin anew")
    return None, []


def identity(location: str | Path) -> str:
    """Returns a digest that tells a checkpoint from others, wherever it is.

    It is that of the checkpoint's list of hashes; where there is no such list, of the sizes and the
    first and last part of its files; of an address without a list, the address.

    Args:
      location: from `locate`.
    """
    sums = read_file(location, SUMS_FILE)
    if sums is not None:
        return hashlib.sha256(sums).hexdigest()
    if is_remote(location):
        return str(location)
    whole = hashlib.sha256()
    root = Path(location)
    for path in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            whole.update(f"{path.relative_to(root)} {size} ".encode())
            for start in {0, max(0, size - _SAMPLED)}:
                file.seek(start)
                whole.update(file.read(_SAMPLED))
    return whole.hexdigest()


def keep(model_dir: Path, count: int | None) -> None:
    """Removes a run's oldest checkpoints.

    Args:
      model_dir: the run's folder.
      count: how many of the latest stay; None: all.
    """
    for step in steps(model_dir)[: -count if count else 0]:
        # Renamed first: a checkpoint that is half removed must not look like one.
        gone = (model_dir / f"checkpoint_{step}").rename(model_dir / f".checkpoint_{step}.gone")
        shutil.rmtree(gone, ignore_errors=True)


def check_vocabulary(location: str | Path, about: Mapping[str, Any], used: Vocabulary) -> None:
    """Raises RequestError if a checkpoint says that it was trained with another vocabulary.

    Args:
      location: of the checkpoint.
      about: from `about`.
      used: the vocabulary that it is to be used with.
    """
    if about.get("vocabulary", used.digest) != used.digest:
        raise RequestError(
            f"{location} was trained with another vocabulary ({about['vocabulary_file']}) than"
            f" {used.name}; name its own by VOCAB_FILE"
        )


def read(location: str | Path) -> Contents:
    """Opens a checkpoint of any form; its arrays are read when they are asked for.

    Args:
      location: from `locate`.

    Raises:
      RequestError: it is damaged.
    """
    kind = form(location)
    assert kind is not None, "located"
    if kind == "hf":
        contents = huggingface.read(location)
    elif kind == "t5x-legacy":
        contents = t5x_legacy.read(location)
    else:
        contents = _read_orbax(location, kind)
    odd = [
        n for n, array in contents.arrays.items() if not jnp.issubdtype(array.dtype, np.floating)
    ]
    if odd:
        dtype = contents.arrays[odd[0]].dtype
        raise RequestError(f"{location}: {odd[0]} holds {dtype} numbers, which are no weights")
    return contents


def _read_orbax(location: str | Path, kind: str) -> Contents:
    """Reads by TensorStore what Orbax wrote: Orbax itself reads gs:// by way of TensorFlow."""
    content = read_file(location, _ORBAX_TREE) or b""
    try:
        tree = json.loads(content)
        names = [
            "/".join(str(part["key"]) for part in leaf["key_metadata"])
            for leaf in tree["tree_metadata"].values()
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RequestError(f"{location} is damaged or no checkpoint of a T5X model") from None
    base = kvstore(f"{location}/state")
    stores = {
        name: _ocdbt(base, name)
        if tree.get("use_ocdbt")
        else kvstore(f"{location}/state/{name.replace('/', '.')}")
        for name in names
    }
    if STEP not in stores:
        raise RequestError(f"{location} is damaged or no checkpoint of a T5X model: it has no step")
    arrays = open_zarr(
        str(location),
        stores,
        "zarr3" if tree.get("use_zarr3") else "zarr",
        sparse=not tree.get("store_array_data_equal_to_fill_value"),
    )
    step = int(arrays.pop(STEP).read(()))
    return Contents(str(location), kind, step, arrays)


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
    contents = read(location)
    there = contents.arrays | {STEP: _held_step(contents.step)}
    wanted = _fitting(location, there, flatten_dict(like, sep="/"))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        placed = pool.map(lambda name: _place(there[name], wanted[name]), wanted)
        tree = unflatten_dict(dict(zip(wanted, placed, strict=True)), sep="/")
    _check_finite(location, tree["target"])
    return tree


def _held_step(step: int) -> Stored:
    value = np.asarray(step, np.int32)
    return Stored((), value.dtype, lambda index: value)


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
    for name in (name for name in wanted if name not in there):
        hint = did_you_mean(name, left) if len(problems) < _SHOWN else ""  # slow for many names
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
