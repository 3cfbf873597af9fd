"""What a study costs."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from xfer_jax.engine import train
from xfer_jax.runtime import progress
from xfer_jax.study import cost, job_graph
from xfer_jax.study.definition import Study
from xfer_jax.study.job_graph import Job
from xfer_jax.study.job_record import DONE_FILE

_TOO_LARGE = (
    ": too much for one; let several share a batch or a model, set REMAT, or take a smaller"
    " BATCH_SIZE"
)


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


def estimates(study: Study, out: Path | None, device_name: str) -> list[Estimate]:
    """Returns what a study's stages cost on one device, without running anything.

    Args:
      study: what to plan.
      out: the study's folder; jobs that are done there do not count.
      device_name: of `cost.DEVICES`.
    """
    device = cost.device(device_name)
    stages: dict[tuple[str, str], list[Job]] = {}
    for job in job_graph.lay_out(study):
        stages.setdefault((job.task, job.kind), []).append(job)
    return [_estimate(study, out, device, jobs) for jobs in stages.values()]


def _estimate(study: Study, out: Path | None, device: cost.Device, jobs: Sequence[Job]) -> Estimate:
    run, _ = job_graph.load(study, jobs[0], out or Path("OUT"))
    longest = run.training_data.lengths["inputs"], run.training_data.lengths["targets"]
    limit = run.eval_data.examples or 0
    assumed = (study.assumed or {}).get(jobs[0].task)
    inputs, targets, examples = assumed or (*longest, limit)
    examples = min(examples, limit) if limit else examples
    steps = run.optimisation.train_steps_relative or run.optimisation.train_steps or 0
    doing = [job for job in jobs if not (out and (out / job.name / DONE_FILE).is_file())]
    # T5X pads every example to the longest.
    count, row, scored = float(run.training_data.batch_size), longest, longest[0]
    if assumed and study.engine == "native":
        row = min(cost.LONGEST * inputs, longest[0]), min(cost.LONGEST * targets, longest[1])
        full = max(inputs / row[0], targets / row[1]) / (1 - cost.PADDING)
        count *= min(full, 1.0)
        scored = min(math.ceil(inputs / (1 - cost.PADDING)), longest[0])
    flops = len(doing) * steps * count * cost.training_flops(run.model, *row)
    cells = sum(len(job.targets) for job in doing)
    emitted = min(cost.LONGEST * targets, longest[1])
    one_cell = cost.decoding_seconds(
        run.model, device, examples, run.eval_data.batch_size, scored, emitted
    )
    written = _checkpoints(steps, run.periods.save)
    kept = min(written, run.periods.keep_checkpoints or written)
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
        kept if study.keep_few_shot or not jobs[0].n_shots else 0,
        min(written, kept + 1),
        cost.training_bytes(run.model, count, *row),
        bool(cells) and not examples,
    )


def render(study: Study, out: Path | None, device_name: str) -> str:
    """Renders a study's jobs and what they cost on one device; arguments as of `estimates`."""
    device, every = cost.device(device_name), job_graph.lay_out(study)
    stages = estimates(study, out, device_name)
    rows: list[tuple] = [
        ("task", "job", "jobs", "done", "cells", "steps", "batch", "PFLOP", "h train", "h score")
    ]
    rows += [
        (e.task, e.kind, e.jobs, e.jobs - e.to_do, e.cells or "", f"{e.steps:,}",
         e.run.training_data.batch_size, _rounded(e.flops / 1e15), f"{e.hours:,.2f}",
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
        f"{study.model}: {cost.parameters(sizes) / 1e6:,.1f} M parameters; about {_rounded(peak)}"
        f" GiB to train, of {device.gib} on {device.title}"
        + (_TOO_LARGE if peak > device.gib else ""),
        f"time on one: about {_duration(training + scoring)}, {_duration(training)} of it training"
        f" at {cost.UTILISATION:.0%} of its peak",
        f"disk: about {_rounded(kept * gib)} GiB of checkpoints in the end; while it runs, up to"
        f" {_rounded(max(e.at_once for e in stages) * gib)} GiB more for every worker",
    ]
    if not study.assumed:
        summary.append("lengths are the longest that the tasks allow: examples are mostly shorter")
    if any(e.unknown for e in stages):
        summary.append("not counted: scoring, as study.Study.assumed does not say of how much")
    return progress.aligned(rows) + "\n" + "\n".join(summary)


def _checkpoints(steps: int, period: int | None) -> int:
    """Returns how many checkpoints a run of so many steps writes."""
    return -(-steps // period) if period and steps else 1


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _duration(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
