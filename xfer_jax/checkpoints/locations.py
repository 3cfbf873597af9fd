"""Where checkpoints are: a run's steps, the latest whole one, and what kind a folder holds."""

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
    """Removes what a save that was killed has left, and gives back what it was replacing."""
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


def named(model_dir: Path) -> list[int]:
    """Returns the steps in the names of a folder's checkpoints, and of what is called like one."""
    found = (step_of(path.name) for path in model_dir.glob("checkpoint_*"))
    return sorted(step for step in found if step is not None)


def steps(model_dir: Path) -> list[int]:
    """Returns the steps of a folder's checkpoints, damaged ones among them, in order.

    A file, an empty folder, a link that leads nowhere, or a folder without arrays is none.
    """
    return [step for step in named(model_dir) if _is_one(model_dir / f"checkpoint_{step}")]


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
    """Resolves a checkpoint of any form, or a run's folder to its chosen or latest checkpoint.

    It is taken even if it is damaged, and then refused by whoever reads it: an older one in
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
            chosen = selection.read(location)
            for step in [chosen.step] if chosen else reversed(named(location)):
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
    keep_only(model_dir, set(found) if count is None else set(found[len(found) - count :]))


def keep_only(model_dir: Path, kept: Set[int]) -> None:
    """Removes a run's checkpoints but those of some steps, see `keep`."""
    for step in steps(model_dir):
        if step in kept:
            continue
        # Renamed first: a checkpoint that is half removed must not look like one.
        gone = (model_dir / f"checkpoint_{step}").rename(model_dir / f".checkpoint_{step}.gone")
        remove(gone)
