"""Finds checkpoints: the steps of a run, the latest undamaged one, and the format of a folder."""

import os
import re
import shutil
from collections.abc import Set
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax import selection
from xfer_jax.checkpoints import huggingface, t5x_legacy, t5x_orbax
from xfer_jax.checkpoints.arrays import MOST_STEPS, exists, is_remote
from xfer_jax.checkpoints.checksums import SUMS_FILE, damage
from xfer_jax.checkpoints.run_file import RUN_FILE
from xfer_jax.mt5 import partitioning
from xfer_jax.runtime import progress

_NAME = re.compile(r"checkpoint_(0|[1-9][0-9]{0,9})")  # as this tool and T5X write the step
_LEFTOVER = re.compile(r"\.(checkpoint_[0-9]+)\.(new|old|gone)")


def tidy(model_dir: Path) -> None:
    """Removes the leftovers of a killed save, and restores the checkpoint that it was replacing."""
    for leftover in model_dir.glob(".checkpoint_*"):
        match = _LEFTOVER.fullmatch(leftover.name)
        if not match:
            continue
        final = model_dir / match[1]
        if match[2] == "old" and not os.path.lexists(final):
            leftover.rename(final)
        else:
            remove(leftover)


def remove(path: Path) -> None:
    """Removes a folder, a file, or a link (not its target)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# --- Finding --------------------------------------------------------------------------------------


def step_of(name: str) -> int | None:
    """Returns the step in the name of a checkpoint's folder, `checkpoint_<step>`, or None."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and int(match[1]) <= MOST_STEPS else None


def named(model_dir: Path) -> list[int]:
    """Returns the steps in the names `checkpoint_<step>` in a folder, whatever has the name."""
    found = (step_of(path.name) for path in model_dir.glob("checkpoint_*"))
    return sorted(step for step in found if step is not None)


def steps(model_dir: Path) -> list[int]:
    """Returns the steps of a folder's checkpoints in order, including damaged ones.

    A file, an empty folder, a broken link, or a folder without arrays is not a checkpoint.
    """
    return [step for step in named(model_dir) if _is_checkpoint(model_dir / f"checkpoint_{step}")]


def _is_checkpoint(path: Path) -> bool:
    """Returns whether a folder is a checkpoint, even a damaged one."""
    return form(path) is not None or any((path / name).is_file() for name in (SUMS_FILE, RUN_FILE))


def _skipped(checkpoint: Path) -> str:
    return f"{checkpoint} is not a checkpoint and is skipped"


def form(location: str | Path) -> str | None:
    """Returns the format of a checkpoint.

    Args:
      location: local or gs://.

    Returns:
      `native`, `t5x` (Orbax), `t5x-legacy`, `hf`, or None if it is not a checkpoint.
    """
    # A local folder is enough: without the list of arrays, it is a damaged checkpoint.
    if exists(location, t5x_orbax.TREE) or (
        not is_remote(location) and (Path(location) / "state").is_dir()
    ):
        return "native" if exists(location, RUN_FILE) else "t5x"
    if exists(location, t5x_legacy.FILE):
        return "t5x-legacy"
    return "hf" if huggingface.recognise(location) else None


def locate(path: str | Path) -> str | Path:
    """Returns the location of a checkpoint, or of the chosen or latest one in a run's folder.

    This can be a damaged one, which raises an error when it is read: an older checkpoint instead
    would silently give the results of an older step.

    Args:
      path: local, or an address gs://….

    Raises:
      RequestError: there is no checkpoint.
    """
    if is_remote(path):
        location: str | Path = str(path).rstrip("/")
    else:
        location = files.absolute(path)
        if form(location) is None and location.is_dir():
            chosen = selection.read(location)
            for step in [chosen.step] if chosen else reversed(named(location)):
                checkpoint = location / f"checkpoint_{step}"
                if _is_checkpoint(checkpoint):
                    location = checkpoint
                    break
                progress.say(f"warning: {_skipped(checkpoint)}")
    if form(location) is None and damage(location) is None:
        raise RequestError(
            f"{location} is not a checkpoint: name a folder checkpoint_<step> of this tool or of"
            " T5X, a folder of Hugging Face (config.json and model.safetensors), or a run's folder"
        )
    return location


def latest(model_dir: Path) -> tuple[Path | None, list[str]]:
    """Finds the latest undamaged checkpoint of a run.

    All processes must call this; the first one searches, and sends its result to the others.

    Returns:
      The checkpoint, or None if there is none; and the problems of later checkpoints.

    Raises:
      RequestError: all checkpoints are damaged.
    """
    model_dir = files.absolute(model_dir)
    found: list[tuple[int | None, list[str]]] = []
    with partitioning.together():
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
    for step in reversed(named(model_dir)):
        checkpoint = model_dir / f"checkpoint_{step}"
        if not _is_checkpoint(checkpoint):
            complaints.append(_skipped(checkpoint))
            continue
        problem = damage(checkpoint)
        if problem is None and form(checkpoint) is None:
            problem = "it has no arrays"
        if problem is None:
            return step, complaints
        damaged = True
        complaints.append(f"{checkpoint} is damaged: {problem}")
    if damaged:
        raise RequestError(f"{'; '.join(complaints)}; remove {model_dir} to start again")
    return None, complaints


def keep(model_dir: Path, count: int | None) -> None:
    """Removes the oldest checkpoints of a run; a partly removed one does not count as a checkpoint.

    Args:
      model_dir: the run's folder.
      count: number of latest checkpoints to keep; None: all.
    """
    found = steps(model_dir)
    keep_only(model_dir, set(found) if count is None else set(found[max(len(found) - count, 0) :]))


def keep_only(model_dir: Path, kept: Set[int]) -> None:
    """Removes a run's checkpoints but those of some steps, see `keep`."""
    for step in steps(model_dir):
        if step in kept:
            continue
        # Renamed first, because a partly removed checkpoint must not look like one.
        gone = (model_dir / f"checkpoint_{step}").rename(model_dir / f".checkpoint_{step}.gone")
        remove(gone)
