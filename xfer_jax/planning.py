"""What a study costs, and how far it is."""

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from seqio_tasks import files
from xfer_jax import cost, folder_lock, progress, study
from xfer_jax.study import DONE_FILE, Job, Study

_TOO_LARGE = (
    ": too much for one; let several share a batch or a model, set REMAT, or take a smaller"
    " BATCH_SIZE"
)
STATE = "state.json"  # in the study's folder: what its owner knows beside what is done
_RENEW_SECONDS = 1.0  # between looks at the jobs' folders


def plan(grid: Study, out: Path | None, device_name: str) -> str:
    """Renders a study's jobs and what they cost on one device, without running anything.

    Args:
      grid: what to plan.
      out: the study's folder; jobs that are done there do not count.
      device_name: of `cost.DEVICES`.
    """
    device = cost.device(device_name)
    every = study.jobs(grid)
    done = {job.name for job in every if out and (out / job.name / DONE_FILE).is_file()}
    stages: dict[tuple[str, str], list[Job]] = {}
    for job in every:
        stages.setdefault((job.task, job.kind), []).append(job)
    rows: list[tuple] = [
        ("task", "job", "jobs", "done", "cells", "steps", "batch", "PFLOP", "h train", "h score")
    ]
    training = scoring = peak = 0.0
    checkpoints = at_once = 0  # that are kept; of one run while it saves
    unknown = False  # how much there is to score
    for (task, kind), of_stage in stages.items():
        run, _ = study.load(grid, of_stage[0], out or Path("OUT"))
        longest = run.lengths["inputs"], run.lengths["targets"]
        limit = run.eval_examples or 0
        assumed = (grid.assumed or {}).get(task)
        inputs, targets, examples = assumed or (*longest, limit)
        examples = min(examples, limit) if limit else examples
        steps = run.train_steps_relative or run.train_steps or 0
        doing = [job for job in of_stage if job.name not in done]
        written = _checkpoints(steps, run.save_period)
        kept = min(written, run.keep_checkpoints or written)
        at_once = max(at_once, min(written, kept + 1))
        checkpoints += sum(kept for job in doing if grid.keep_few_shot or not job.n_shots)
        # T5X pads every example to the longest.
        count, row, scored = float(run.batch_size), longest, longest[0]
        if assumed and grid.engine == "native":
            row = min(cost.LONGEST * inputs, longest[0]), min(cost.LONGEST * targets, longest[1])
            full = max(inputs / row[0], targets / row[1]) / (1 - cost.PADDING)
            count *= min(full, 1.0)
            scored = min(math.ceil(inputs / (1 - cost.PADDING)), longest[0])
        flops = len(doing) * steps * count * cost.training_flops(run.model, *row)
        hours = flops / (device.tflops * 1e12 * cost.UTILISATION) / 3600
        cells = sum(len(job.targets) for job in doing)
        emitted = min(cost.LONGEST * targets, longest[1])
        one_cell = cost.decoding_seconds(
            run.model, device, examples, run.eval_batch_size, scored, emitted
        )
        training, scoring = training + hours, scoring + cells * one_cell / 3600
        unknown |= bool(cells) and not examples
        peak = max(peak, cost.training_bytes(run.model, count, *row))
        total_cells = sum(len(job.targets) for job in of_stage)
        rows.append(
            (task, kind, len(of_stage), len(of_stage) - len(doing), total_cells or "",
             f"{steps:,}", run.batch_size, _rounded(flops / 1e15), f"{hours:,.2f}",
             f"{cells * one_cell / 3600:,.2f}" if cells else "")
        )  # fmt: skip
    sizes = run.model
    sources = {(job.task, job.source) for job in every if job.source and not job.n_shots}
    shared = sum(job.parent is not None for job in every)
    summary = [
        f"{len(every)} jobs, {len(done)} done; {len(sources)} source models,"
        f" {sum(len(job.targets) for job in every)} cells (task, source, target, shots,"
        f" intermediate, seed); {shared} jobs start from another's model",
        f"{grid.model}: {cost.parameters(sizes) / 1e6:,.1f} M parameters; about"
        f" {_rounded(peak / 2**30)} GiB to train, of {device.gib} on {device.title}"
        + (_TOO_LARGE if peak / 2**30 > device.gib else ""),
        f"time on one: about {_duration(training + scoring)}, {_duration(training)} of it training"
        f" at {cost.UTILISATION:.0%} of its peak",
        _disk(checkpoints, at_once, cost.checkpoint_bytes(sizes) / 2**30),
    ]
    if not grid.assumed:
        summary.append("lengths are the longest that the tasks allow: examples are mostly shorter")
    if unknown:
        summary.append("not counted: scoring, as study.Study.assumed does not say of how much")
    return _aligned(rows) + "\n" + "\n".join(summary)


def _checkpoints(steps: int, period: int | None) -> int:
    """Returns how many checkpoints a run of so many steps writes."""
    return -(-steps // period) if period and steps else 1


def _disk(checkpoints: int, at_once: int, gib: float) -> str:
    """Says what room checkpoints of a size take: in the end, and while workers are at work."""
    return (
        f"disk: about {_rounded(checkpoints * gib)} GiB of checkpoints in the end; while it runs,"
        f" up to {_rounded(at_once * gib)} GiB more for every worker"
    )


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _duration(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


# --- How far a study is ---------------------------------------------------------------------------


def status(every: Sequence[Job], out: Path) -> str:
    """Renders how far a study is, from its jobs' folders and what its owner says.

    Args:
      every: the study's jobs.
      out: its folder.
    """
    done = {job.name for job in every if (out / job.name / DONE_FILE).is_file()}
    state = {"running": {}, "failed": {}}
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
        stage = counts.setdefault((job.task, job.kind), dict.fromkeys(kinds, 0))
        stage[kind] += 1
    rows: list[tuple] = [("task", "job", *kinds)]
    rows += [(*stage, *(numbers[kind] for kind in kinds)) for stage, numbers in counts.items()]
    lines = [_aligned(rows)]
    if owner:
        lines += [f"running {name}{f': {far}' if far else ''}" for name, far in running.items()]
    lines += [f"failed  {name}: {why}" for name, why in failed.items()]
    left = len(every) - len(done)
    if owner:
        lines.append(f"run by {owner}; {left} jobs to go")
    elif running:
        lines.append(
            f"nobody runs it: the last run ended before its time, in {', '.join(running)}; {left}"
            " jobs to go, and the same command goes on"
        )
    elif left:
        lines.append(f"nobody runs it; {left} jobs to go")
    return "\n".join(lines)


class Display(contextlib.AbstractContextManager):
    """A table of how far a study is that renews itself on a terminal; nothing in a log."""

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
        """Renews the table, at most once a second."""
        if self._live.console.is_terminal and time.monotonic() - self._shown > _RENEW_SECONDS:
            self._live.update(Text(status(self._every, self._out)), refresh=True)
            self._shown = time.monotonic()


def follow(every: Sequence[Job], out: Path) -> None:
    """Shows how far a study is, until nobody runs it."""
    with Display(every, out) as display:
        while folder_lock.owner(out):
            display.show()
            time.sleep(_RENEW_SECONDS)
    progress.say(status(every, out))


def _aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Renders rows as columns: the first two to the left, numbers to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    )
