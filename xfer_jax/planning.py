"""What a study costs, and how far it is."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from xfer_jax import cost, ledger, progress, study
from xfer_jax.study import DONE_FILE, Job, Study

_TOO_LARGE = (
    ": too much for one; let several share a batch or a model, set REMAT, or take a smaller"
    " BATCH_SIZE"
)
_RENEW_SECONDS = 1.0  # between looks at the ledger


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


def status(grid: Study, out: Path) -> str:
    """Renders how far a study is."""
    every = {job.name: job for job in study.jobs(grid)}
    if not (out / ledger.FILE).is_file():
        return f"{out}: nothing has been run; {len(every)} jobs to do"
    return _status(every, ledger.Ledger(out).entries())


def _status(every: dict[str, Job], entries: Sequence[ledger.Entry]) -> str:
    entries = [entry for entry in entries if entry.job in every]
    states = (ledger.DONE, ledger.RUNNING, ledger.FAILED, ledger.TODO)
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for entry in entries:
        job = every[entry.job]
        stage = counts.setdefault((job.task, job.kind), dict.fromkeys(states, 0))
        stage[entry.state] += 1
    rows: list[tuple] = [("task", "job", *states)]
    rows += [(*stage, *(numbers[state] for state in states)) for stage, numbers in counts.items()]
    lines = [_aligned(rows)]
    running = [entry for entry in entries if entry.state == ledger.RUNNING]
    lines += [
        f"running {entry.job} for {entry.seconds:,.0f} s by {entry.worker}"
        + (f": {entry.note}" if entry.note else "")
        for entry in running
    ]
    lines += [f"failed  {e.job}: {e.note}" for e in entries if e.state == ledger.FAILED]
    seconds = [entry.seconds for entry in entries if entry.state == ledger.DONE and entry.started]
    left = sum(entry.state in (ledger.TODO, ledger.RUNNING) for entry in entries)
    if seconds and left:
        workers = max(len(running), 1)
        minutes = left * np.mean(seconds) / 60 / workers
        of = "one worker" if workers == 1 else f"{workers} workers"
        lines.append(f"{left} to go, about {minutes:,.0f} minutes of {of}")
    return "\n".join(lines)


def follow(grid: Study, out: Path, until: Callable[[], bool] = lambda: False) -> None:
    """Shows how far a study is until all is done: a table that renews itself on a terminal.

    In a log a line tells of every job that has ended.

    Args:
      grid: the study.
      out: its folder, where it has been begun.
      until: asked now and then; ends it too.
    """
    every = {job.name: job for job in study.jobs(grid)}
    book = ledger.Ledger(out)
    console = Console()
    ended: set[str] = set()
    began = time.time()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            over = until()
            entries = [entry for entry in book.entries() if entry.job in every]
            if console.is_terminal:
                live.update(Text(_status(every, entries)), refresh=True)
            for entry in entries:
                if entry.state in (ledger.DONE, ledger.FAILED) and entry.job not in ended:
                    ended.add(entry.job)
                    if entry.started >= began and not console.is_terminal:
                        how = (
                            f"in {entry.seconds:.0f} s"
                            if entry.state == ledger.DONE
                            else entry.note
                        )
                        progress.say(f"[{len(ended)}/{len(every)}] {entry.job} {entry.state} {how}")
            if over or len(ended) == len(every):
                break
            time.sleep(_RENEW_SECONDS)
    if console.is_terminal:
        progress.say(_status(every, entries))


def _ending(entry: ledger.Entry) -> str:
    if entry.state == ledger.DONE:
        return f"{entry.job} done in {entry.seconds:.0f} s"
    return f"{entry.job} failed: {entry.note}"


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
