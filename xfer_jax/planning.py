"""What a study costs, and how far it is."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from seqio_tasks import files
from xfer_jax import cost, folder_lock, progress, study, train
from xfer_jax.study import DONE_FILE, Job, Study

_TOO_LARGE = (
    ": too much for one; let several share a batch or a model, set REMAT, or take a smaller"
    " BATCH_SIZE"
)
STATE = "state.json"  # in the study's folder: what its owner knows beside what is done
_RENEW_SECONDS = 1.0  # between looks at the jobs' folders


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the jobs of one stage of a study cost on one device."""

    task: str
    kind: str
    jobs: int
    to_do: int
    cells: int  # of all jobs
    run: train.Run  # of one job
    steps: int
    flops: float  # to train what is to do
    hours: float
    scoring_hours: float
    checkpoints: int  # that stay, of a job
    at_once: int  # while a job saves
    training_bytes: float
    unknown: bool  # how much there is to score

    @property
    def hours_a_job(self) -> float:
        return (self.hours + self.scoring_hours) / max(self.to_do, 1)


def estimates(grid: Study, out: Path | None, device_name: str) -> list[Estimate]:
    """Returns what a study's stages cost on one device, without running anything.

    Args:
      grid: what to plan.
      out: the study's folder; jobs that are done there do not count.
      device_name: of `cost.DEVICES`.
    """
    device = cost.device(device_name)
    stages: dict[tuple[str, str], list[Job]] = {}
    for job in study.jobs(grid):
        stages.setdefault((job.task, job.kind), []).append(job)
    return [_estimate(grid, out, device, jobs) for jobs in stages.values()]


def _estimate(grid: Study, out: Path | None, device: cost.Device, jobs: Sequence[Job]) -> Estimate:
    run, _ = study.load(grid, jobs[0], out or Path("OUT"))
    longest = run.lengths["inputs"], run.lengths["targets"]
    limit = run.eval_examples or 0
    assumed = (grid.assumed or {}).get(jobs[0].task)
    inputs, targets, examples = assumed or (*longest, limit)
    examples = min(examples, limit) if limit else examples
    steps = run.train_steps_relative or run.train_steps or 0
    doing = [job for job in jobs if not (out and (out / job.name / DONE_FILE).is_file())]
    # T5X pads every example to the longest.
    count, row, scored = float(run.batch_size), longest, longest[0]
    if assumed and grid.engine == "native":
        row = min(cost.LONGEST * inputs, longest[0]), min(cost.LONGEST * targets, longest[1])
        full = max(inputs / row[0], targets / row[1]) / (1 - cost.PADDING)
        count *= min(full, 1.0)
        scored = min(math.ceil(inputs / (1 - cost.PADDING)), longest[0])
    flops = len(doing) * steps * count * cost.training_flops(run.model, *row)
    cells = sum(len(job.targets) for job in doing)
    emitted = min(cost.LONGEST * targets, longest[1])
    one_cell = cost.decoding_seconds(
        run.model, device, examples, run.eval_batch_size, scored, emitted
    )
    written = _checkpoints(steps, run.save_period)
    kept = min(written, run.keep_checkpoints or written)
    return Estimate(
        jobs[0].task,
        jobs[0].kind,
        len(jobs),
        len(doing),
        sum(len(job.targets) for job in jobs),
        run,
        steps,
        flops,
        flops / (device.tflops * 1e12 * cost.UTILISATION) / 3600,
        cells * one_cell / 3600,
        kept if grid.keep_few_shot or not jobs[0].n_shots else 0,
        min(written, kept + 1),
        cost.training_bytes(run.model, count, *row),
        bool(cells) and not examples,
    )


def plan(grid: Study, out: Path | None, device_name: str) -> str:
    """Renders a study's jobs and what they cost on one device; arguments as of `estimates`."""
    device, every = cost.device(device_name), study.jobs(grid)
    stages = estimates(grid, out, device_name)
    rows: list[tuple] = [
        ("task", "job", "jobs", "done", "cells", "steps", "batch", "PFLOP", "h train", "h score")
    ]
    rows += [
        (e.task, e.kind, e.jobs, e.jobs - e.to_do, e.cells or "", f"{e.steps:,}",
         e.run.batch_size, _rounded(e.flops / 1e15), f"{e.hours:,.2f}",
         f"{e.scoring_hours:,.2f}" if e.scoring_hours else "")
        for e in stages
    ]  # fmt: skip
    training, scoring = sum(e.hours for e in stages), sum(e.scoring_hours for e in stages)
    peak = max(e.training_bytes for e in stages) / 2**30
    sizes = stages[-1].run.model
    gib = cost.checkpoint_bytes(sizes) / 2**30
    kept = sum(e.checkpoints * e.to_do for e in stages)
    sources = {(job.task, job.source) for job in every if job.source and not job.n_shots}
    summary = [
        f"{len(every)} jobs, {len(every) - sum(e.to_do for e in stages)} done; {len(sources)}"
        f" source models, {sum(e.cells for e in stages)} cells (task, source, target, shots,"
        " intermediate, seed);"
        f" {sum(job.parent is not None for job in every)} jobs start from another's model",
        f"{grid.model}: {cost.parameters(sizes) / 1e6:,.1f} M parameters; about {_rounded(peak)}"
        f" GiB to train, of {device.gib} on {device.title}"
        + (_TOO_LARGE if peak > device.gib else ""),
        f"time on one: about {_duration(training + scoring)}, {_duration(training)} of it training"
        f" at {cost.UTILISATION:.0%} of its peak",
        f"disk: about {_rounded(kept * gib)} GiB of checkpoints in the end; while it runs, up to"
        f" {_rounded(max(e.at_once for e in stages) * gib)} GiB more for every worker",
    ]
    if not grid.assumed:
        summary.append("lengths are the longest that the tasks allow: examples are mostly shorter")
    if any(e.unknown for e in stages):
        summary.append("not counted: scoring, as study.Study.assumed does not say of how much")
    return _aligned(rows) + "\n" + "\n".join(summary)


def _checkpoints(steps: int, period: int | None) -> int:
    """Returns how many checkpoints a run of so many steps writes."""
    return -(-steps // period) if period and steps else 1


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
