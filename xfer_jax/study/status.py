"""The progress of a study, from its jobs' folders and its owner's state file."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from seqio_tasks import files
from xfer_jax.runtime import progress
from xfer_jax.study import folder_lock
from xfer_jax.study.job import Job
from xfer_jax.study.job_record import DONE_FILE

STATE = "state.json"  # in the study's folder: what its owner knows beside what is done
_RENEW_SECONDS = 1.0  # between looks at the jobs' folders


def render(every: Sequence[Job], out: Path) -> str:
    """Renders the progress of a study, from its jobs' folders and its owner's state file.

    Args:
      every: the study's jobs.
      out: its folder.
    """
    done = {job.name for job in every if (out / job.name / DONE_FILE).is_file()}
    state: dict[str, dict[str, str]] = {"running": {}, "failed": {}}
    if (out / STATE).is_file():
        state |= files.read_json(out / STATE)
    owner = folder_lock.owner(out)
    running = {name: far for name, far in state["running"].items() if name not in done}
    failed = {name: why for name, why in state["failed"].items() if name not in done}
    kinds = ("done", "running", "failed", "to do")
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for job in every:
        kind = "done" if job.name in done else "failed" if job.name in failed else "to do"
        kind = "running" if owner and job.name in running else kind
        stage = counts.setdefault(job.group, dict.fromkeys(kinds, 0))
        stage[kind] += 1
    rows: list[tuple] = [("stage", "task", *kinds)]
    rows += [(*stage, *(numbers[kind] for kind in kinds)) for stage, numbers in counts.items()]
    lines = [progress.aligned(rows)]
    if owner:
        lines += [f"running {name}{f': {far}' if far else ''}" for name, far in running.items()]
    lines += [f"failed  {name}: {why}" for name, why in failed.items()]
    left = len(every) - len(done)
    if owner:
        lines.append(f"run by {owner}; {left} jobs to go")
    elif running:
        lines.append(
            f"not running: the last run was killed during {', '.join(running)}; {left}"
            " jobs to go, run the same command to continue"
        )
    elif left:
        lines.append(f"not running; {left} jobs to go")
    return "\n".join(lines)


class Display(contextlib.AbstractContextManager):
    """A table of a study's progress, updated in place on a terminal; nothing in a log."""

    def __init__(self, every: Sequence[Job], out: Path):
        self._every, self._out = every, out
        self._live = Live(console=Console(), auto_refresh=False, transient=True)
        self._shown = 0.0

    def __enter__(self) -> "Display":
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def show(self) -> None:
        """Updates the table, at most once a second."""
        if self._live.console.is_terminal and time.monotonic() - self._shown > _RENEW_SECONDS:
            self._live.update(Text(render(self._every, self._out)), refresh=True)
            self._shown = time.monotonic()


def follow(every: Sequence[Job], out: Path) -> None:
    """Shows the progress of a study until it ends."""
    with Display(every, out) as display:
        while folder_lock.owner(out):
            display.show()
            time.sleep(_RENEW_SECONDS)
    progress.say(render(every, out))
