"""What a study costs."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from xfer_jax.data.selection import EvalData
from xfer_jax.engine.retrieval import Retrieval
from xfer_jax.engine.train import Run
from xfer_jax.mt5 import cost, model
from xfer_jax.runtime import progress
from xfer_jax.study import devices, job_graph, job_settings
from xfer_jax.study.definition import Study
from xfer_jax.study.devices import Device
from xfer_jax.study.job import Job
from xfer_jax.study.job_record import DONE_FILE

_TOO_LARGE = ": too much for one; let several share a batch or a model, or set REMAT"


@dataclasses.dataclass(frozen=True)
class Training:
    """What the training of similar jobs costs on one device."""

    steps: int  # of a job
    batch_size: int
    flops: float  # of all jobs that are to do
    hours: float  # likewise
    checkpoints: int  # that stay, of a job
    at_once: int  # while a job saves
    memory: float  # bytes


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the jobs of one stage, variant and task cost on one device."""

    stage: str  # with the variant
    task: str
    jobs: int
    to_do: int
    cells: int  # of all jobs
    settings: job_settings.Settings  # of one job
    training: Training | None
    scoring_hours: float | None  # None: how many examples there are is not known

    @property
    def hours(self) -> float:
        """Hours of training and scoring of what is to do, as far as they are known."""
        return (self.training.hours if self.training else 0.0) + (self.scoring_hours or 0.0)

    @property
    def hours_a_job(self) -> float:
        """Mean hours of a job."""
        return self.hours / max(self.to_do, 1)


@dataclasses.dataclass(frozen=True)
class _Lengths:
    """Tokens of an example, and how many examples are evaluated for each target."""

    row: tuple[int, int]  # of inputs and targets, as they are trained on
    rows_an_example: float
    inputs_mean: float  # without padding
    inputs: int  # when scored
    targets: int
    examples: int


def estimates(study: Study, out: Path | None, device_name: str) -> list[Estimate]:
    """Returns what a study's stages cost on one device, without running anything.

    Args:
      study: what to plan.
      out: the study's folder; jobs that are done there do not count.
      device_name: of `devices.DEVICES`.
    """
    device = devices.device(device_name)
    similar: dict[tuple[str, str], list[Job]] = {}
    for job in job_graph.lay_out(study):
        similar.setdefault(job.group, []).append(job)
    return [_estimate(study, out, device, jobs) for jobs in similar.values()]


def _estimate(study: Study, out: Path | None, device: Device, jobs: Sequence[Job]) -> Estimate:
    settings, _ = job_settings.load(study, jobs[0], out or Path("OUT"))
    to_do = [job for job in jobs if not (out and (out / job.name / DONE_FILE).is_file())]
    scoring_hours, training = None, None
    if not isinstance(settings, Retrieval):
        packed = isinstance(settings, Run) and settings.training_data.batch_tokens is not None
        lengths = _lengths(study, jobs[0].task, settings.eval_data, packed)
        if isinstance(settings, Run):
            training = _training(settings, lengths, jobs[0].stage.keep, len(to_do), device)
        cells = sum(len(job.targets) for job in to_do)
        if lengths.examples or not cells:
            seconds = devices.decoding_seconds(
                _model(settings), device, lengths.examples, settings.eval_data.batch_size,
                lengths.inputs, lengths.targets,
            )  # fmt: skip
            scoring_hours = cells * seconds / 3600
    cells = sum(len(job.targets) for job in jobs)
    return Estimate(*jobs[0].group, len(jobs), len(to_do), cells, settings, training, scoring_hours)


def _model(settings: job_settings.Settings) -> model.Config:
    return settings.model if isinstance(settings, Run) else settings.checkpoint.model


def _lengths(study: Study, task: str, data: EvalData, packed: bool) -> _Lengths:
    """Returns the lengths that a study assumes of a task, or else the longest that there can be.

    T5X pads every row to the longest; whether it has packed several examples into it says `packed`.
    """
    longest = data.lengths["inputs"], data.lengths["targets"]
    limit = data.examples or 0
    assumed = (study.assumed or {}).get(task)
    inputs, targets, examples = assumed or (*longest, limit)
    examples = min(examples, limit) if limit else examples
    emitted = min(devices.LONGEST * targets, longest[1])
    if not assumed or study.engine != "native":
        of_a_row = inputs / longest[0] if packed else 1.0
        return _Lengths(longest, of_a_row, inputs, longest[0], emitted, examples)
    row = min(devices.LONGEST * inputs, longest[0]), min(devices.LONGEST * targets, longest[1])
    full = max(inputs / row[0], targets / row[1]) / (1 - devices.PADDING)
    scored = min(math.ceil(inputs / (1 - devices.PADDING)), longest[0])
    return _Lengths(row, min(full, 1.0), inputs, scored, emitted, examples)


def _training(run: Run, lengths: _Lengths, keep: bool, jobs: int, device: Device) -> Training:
    optimisation, periods = run.optimisation, run.periods
    steps = optimisation.train_steps_relative or optimisation.train_steps or 0
    data = run.training_data
    by_tokens = (data.batch_tokens or 0) / lengths.inputs_mean
    batch_size = data.batch_size or max(1, round(by_tokens))
    rows = batch_size * lengths.rows_an_example
    flops = jobs * steps * rows * cost.training_flops(run.model, *lengths.row)
    written = -(-steps // periods.save) if periods.save and steps else 1
    kept = min(written, periods.keep_checkpoints or written)
    return Training(
        steps,
        batch_size,
        flops,
        flops / (device.tflops * 1e12 * devices.UTILISATION) / 3600,
        kept if keep else 0,
        min(written, kept + 1),
        cost.training_bytes(run.model, _rows_at_once(run, rows, lengths, device), *lengths.row),
    )


def _rows_at_once(run: Run, rows: float, lengths: _Lengths, device: Device) -> float:
    """Returns the rows of a micro-batch on one device."""
    parts = run.training_data.num_microbatches or cost.microbatches(
        run.model, rows, *lengths.row, device.gib * 2**30
    )
    return max(rows / parts, 1.0) if parts else 1.0


def render(study: Study, out: Path | None, device_name: str) -> str:
    """Renders a study's jobs and what they cost on one device; arguments as of `estimates`."""
    device, every = devices.device(device_name), job_graph.lay_out(study)
    stages = estimates(study, out, device_name)
    rows: list[tuple] = [
        ("stage", "task", "jobs", "done", "cells", "steps", "batch", "PFLOP", "h train", "h score")
    ]
    for e in stages:
        trained: tuple = ("", "", "", "")
        if t := e.training:
            trained = f"{t.steps:,}", t.batch_size, _rounded(t.flops / 1e15), f"{t.hours:,.2f}"
        scored = f"{e.scoring_hours:,.2f}" if e.scoring_hours else ""
        rows.append((e.stage, e.task, e.jobs, e.jobs - e.to_do, e.cells or "", *trained, scored))
    trainings = [e.training for e in stages if e.training]
    training = sum(t.hours for t in trainings)
    sizes = _model(stages[0].settings)
    gib = cost.checkpoint_bytes(sizes) / 2**30
    peak = max((t.memory for t in trainings), default=0.0) / 2**30
    kept = sum(e.training.checkpoints * e.to_do for e in stages if e.training)
    at_once = max((t.at_once for t in trainings), default=0)
    done = len(every) - sum(e.to_do for e in stages)
    summary = [
        f"{len(every)} jobs, {done} done; {sum(e.cells for e in stages)} cells (a model, evaluated"
        f" on a language); {sum(job.parent is not None for job in every)} jobs start from another's"
        " model",
        f"{study.model}: {cost.parameters(sizes) / 1e6:,.1f} M parameters; about {_rounded(peak)}"
        f" GiB to train, of {device.gib} on {device.title}"
        + (_TOO_LARGE if peak > device.gib else ""),
        f"time on one: about {_duration(sum(e.hours for e in stages))}, {_duration(training)} of it"
        f" training at {devices.UTILISATION:.0%} of its peak",
        f"disk: about {_rounded(kept * gib)} GiB of checkpoints in the end; while it runs, up to"
        f" {_rounded(at_once * gib)} GiB more for every worker",
    ]
    if not study.assumed:
        summary.append("lengths are the longest that the tasks allow: examples are mostly shorter")
    unknown = [f"{e.stage} ({e.task})" for e in stages if e.scoring_hours is None]
    if unknown:
        summary.append(
            f"not counted: evaluation in {', '.join(unknown)}; study.Study.assumed can say how many"
            " examples there are"
        )
    return progress.aligned(rows) + "\n" + "\n".join(summary)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _duration(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
