"""The study: tasks x languages x shots x intermediate tasks x seeds, planned, run and collected.

A study is a set of *jobs*, each one run of `train`: pre-training or an intermediate task, which
many share; fine-tuning in a source language, which is scored zero-shot in every target; and
few-shot training in a target, which goes on from its source's model. A job's folder is its run's
folder, so that a job which was killed goes on like any run, and whoever finds `done.json` there
need not do it.
"""

import csv
import dataclasses
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError, RunError, did_you_mean
from xfer_jax import configuration, cost, data, ledger, output, progress, train

DONE_FILE = "done.json"
POLL_SECONDS = 2.0  # between looks for a job that others' jobs make ready
NO_INTERMEDIATE = ""
_STAGES = "intermediate/"  # folder of the intermediate tasks' models
ENGINES = ("native", "t5x")


@gin.configurable(module="xfer_jax.study")
@dataclasses.dataclass(frozen=True)
class Study:
    """What a study file sets. Files are named without `gin/…/` and `.gin`."""

    model: str  # of gin/models: 'pocket'
    tasks: Sequence[str]  # of gin/tasks: ('panx', 'xnli')
    sources: Sequence[str] | None = None  # to fine-tune in; all languages to score in when None
    targets: Sequence[str] | None = None  # to score in; those of the task's file when None
    pretrain: str | None = None  # of gin/tasks: what every model is trained on first
    initial_checkpoint: str | None = None  # instead: a checkpoint that every model starts from
    # tasks between: 'pocket_nli.sw' is gin/tasks/pocket_nli.gin in Swahili, '' none
    intermediates: Sequence[str] = (NO_INTERMEDIATE,)
    # of the sources' training data: '' all of it, 'matched' equal sizes
    arms: Sequence[str] = ("",)
    n_shots: Sequence[int] = (0,)  # examples in the target after the source; 0: zero-shot
    few_shot: Mapping[int, Sequence[str]] | None = None  # settings by number of shots
    seeds: Sequence[int] = (0,)
    files: Sequence[str] = ()  # gin files after the task's: 'gin/runs/from_scratch.gin'
    settings: Sequence[str] = ()  # bindings of every run: "EVALUATOR_NUM_EXAMPLES = 500"
    keep_few_shot: bool = False  # checkpoints of few-shot training, which nothing starts from
    # tokens of inputs and targets as padded, by task: what costs are estimated with
    assumed_lengths: Mapping[str, tuple[int, int]] | None = None
    engine: str = "native"  # or 't5x': T5X's own binary does every job

    def __post_init__(self):
        if self.engine not in ENGINES:
            raise RequestError(f"unknown engine {self.engine!r}: there are {', '.join(ENGINES)}")
        if self.pretrain and self.initial_checkpoint:
            raise RequestError("a study has pretrain or initial_checkpoint, not both")
        for name in ("tasks", "seeds", "n_shots", "arms", "intermediates"):
            values = getattr(self, name)
            if isinstance(values, str) or not values or len(set(values)) < len(values):
                raise RequestError(f"study.Study.{name} must be a list without repeats: {values!r}")
        for number in (*self.seeds, *self.n_shots):
            if not isinstance(number, int) or number < 0:
                raise RequestError(f"seeds and n_shots must be integers from 0, not {number!r}")
        for arm in self.arms:
            if arm not in ("", "matched"):
                raise RequestError(f"unknown arm {arm!r}: there are '' (all data) and 'matched'")
        lacking = [n for n in self.n_shots if n and n not in (self.few_shot or {})]
        if lacking:
            raise RequestError(
                f"study.Study.few_shot says nothing of {lacking[0]} shots: give its steps and"
                f' learning rate, e.g. {{{lacking[0]}: ("TRAIN_STEPS_RELATIVE = 100",)}}'
            )


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a study."""

    name: str  # its folder in the study's: 'pocket_ner/en.s0', 'pocket_ner/en.s0/sw.n10'
    task: str  # of gin/tasks
    parent: str | None  # the job whose model it starts from
    bindings: tuple[str, ...]  # what sets it apart, without folders
    targets: tuple[str, ...] = ()  # languages that it is scored in; none: its model is for others
    source: str = ""
    intermediate: str = ""
    n_shots: int = 0
    seed: int = 0


def jobs(study: Study) -> list[Job]:
    """Lays out a study's jobs, parents before children.

    Raises:
      RequestError: an unknown file, language or task.
    """
    found: list[Job] = []
    if study.pretrain:
        found.append(Job("pretrained", study.pretrain, None, ("TARGETS = ()",)))
    root = found[0].name if found else None
    for intermediate in filter(None, study.intermediates):
        task, _, language = intermediate.rpartition(".")
        bindings = (f"SOURCE = {language!r}", "TARGETS = ()")
        found.append(Job(f"{_STAGES}{intermediate}", task, root, bindings))
    for task in study.tasks:
        run, _ = _load(study, task, ("SOURCE = 'en'", "MODEL_DIR = ''"))
        prefix = run.task.rpartition(".")[0]
        targets = tuple(study.targets or (name.rpartition(".")[2] for name in run.targets))
        for code in (*(study.sources or ()), *targets):
            catalogue.task(f"{prefix}.{code}")  # names the nearest where there is none
        for seed in study.seeds:
            for intermediate in study.intermediates:
                for arm in study.arms:
                    for source in study.sources or targets:
                        parent = f"{_STAGES}{intermediate}" if intermediate else root
                        found += _cells(
                            study, task, source, targets, parent, intermediate, arm, seed
                        )
    return found


def _cells(
    study: Study,
    task: str,
    source: str,
    targets: tuple[str, ...],
    parent: str | None,
    intermediate: str,
    arm: str,
    seed: int,
) -> list[Job]:
    """Returns the job of one source model, and those that go on from it with a few examples."""
    folder = f"{task}+{intermediate}" if intermediate else task
    name = f"{folder}/{source}{f'.{arm}' if arm else ''}.s{seed}"

    def job(name: str, parent: str | None, language: str, subset: str, n: int, *scored: str) -> Job:
        bindings = (
            *((study.few_shot or {})[n] if n else ()),
            f"SOURCE = {language!r}",
            f"SUBSET = {subset!r}",
            f"TARGETS = {scored!r}",
            f"RANDOM_SEED = {seed}",
        )
        return Job(name, task, parent, bindings, scored, source, intermediate, n, seed)

    found = [job(name, parent, source, f"{arm}.s{seed}" if arm else "", 0, *targets)]
    for n in filter(None, study.n_shots):
        for target in targets:
            if target != source:
                cell = f"{name}/{target}.n{n}"
                found.append(job(cell, name, target, f"n{n}.s{seed}", n, target))
    return found


def _load(study: Study, task: str, bindings: Iterable[str]) -> tuple[train.Run, str]:
    """Returns the run of a task's file with these bindings, and its configuration as text."""
    text = configuration.load("train", _files(study, task), (*study.settings, *bindings))
    return configuration.build(train.Run), text


def _files(study: Study, task: str) -> tuple[str, ...]:
    return (f"gin/models/{study.model}.gin", f"gin/tasks/{task}.gin", *study.files)


def _bindings(study: Study, job: Job, out: Path) -> tuple[str, ...]:
    start = str(out / job.parent) if job.parent else study.initial_checkpoint
    model_dir = str(out / job.name)
    return (
        *job.bindings,
        f"MODEL_DIR = {model_dir!r}",
        f"INITIAL_CHECKPOINT_PATH = {start!r}",
    )


def load(study: Study, job: Job, out: Path) -> tuple[train.Run, str]:
    """Returns a job's run in a study's folder, and its configuration as text."""
    return _load(study, job.task, _bindings(study, job, out))


# --- Before anything runs -------------------------------------------------------------------------


def check(study: Study, every: Sequence[Job], out: Path) -> dict[str, bool]:
    """Checks all jobs before one is run.

    Returns:
      Whether each job has been done, by name.

    Raises:
      RequestError: no T5X for its engine; data that is not there, all of it at once; or a folder
        whose job has been run with other settings, with the difference.
    """
    if study.engine == "t5x" and importlib.util.find_spec("t5x") is None:
        raise RequestError("engine 't5x' needs T5X, which cannot be imported; see setup.py")
    done = {}
    complaints: dict[str, str] = {}
    for job in every:
        run, text = load(study, job, out)
        if study.engine == "native":  # T5X writes its configuration in its own way
            output.check(out / job.name, text)
        done[job.name] = (out / job.name / DONE_FILE).is_file()
        if done[job.name]:
            continue
        needed = [(task, run.train_split) for task in catalogue.tasks(run.task)]
        needed += [(catalogue.task(name), run.eval_split) for name in run.targets]
        for task, split in needed:
            try:
                data.origin(task, split)
            except RequestError as error:
                complaints[f"{task.full_name} ({split})"] = str(error)
    if complaints:
        raise RequestError(
            f"there is no data for {', '.join(complaints)}; for the first of them:"
            f" {next(iter(complaints.values()))}; or leave these languages out of the study"
        )
    return done


# --- Running --------------------------------------------------------------------------------------


def run(study: Study, out: Path, only: str | None = None) -> None:
    """Does the jobs that nobody has done or does, and collects their scores.

    Args:
      study: what to run.
      out: the study's folder; any number of workers may share it.
      only: a job's name; then it, and what it starts from, alone are done.

    Raises:
      RequestError: a wrong request; nothing has been run then.
      RunError: jobs failed; the others have been done.
    """
    every = {job.name: job for job in jobs(study)}
    wanted = _with_ancestors(every, only) if only else set(every)
    done = check(study, list(every.values()), out)
    book = ledger.Ledger(out)
    book.enter(done)

    def ready(done: set[str]) -> list[str]:
        return [
            name
            for name, job in every.items()
            if name in wanted and (job.parent is None or job.parent in done)
        ]

    while True:
        name, others = book.claim(ready)
        if name is not None:
            entries = {entry.job: entry for entry in book.entries()}
            place = sum(entry.state == ledger.DONE for entry in entries.values()) + 1
            progress.say(f"\n[{place}/{len(every)}] {name}")
            _do(study, every[name], out, book)
        elif others and any(
            entry.state in (ledger.TODO, ledger.RUNNING)
            for entry in book.entries()
            if entry.job in wanted
        ):
            time.sleep(POLL_SECONDS)  # what is left starts from what others are doing
        else:
            break
    progress.say(f"\n{matrices(collect(study, out))}\n\nscores: {out / 'scores.csv'}")
    failed = [
        entry for entry in book.entries() if entry.state == ledger.FAILED and entry.job in wanted
    ]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(wanted)} jobs failed: "
            + "; ".join(f"{entry.job}: {entry.note}" for entry in failed[:3])
        )


def _with_ancestors(every: Mapping[str, Job], name: str) -> set[str]:
    if name not in every:
        raise RequestError(f"the study has no job {name!r}{did_you_mean(name, every)}")
    found: set[str] = set()
    step: str | None = name
    while step is not None:
        found.add(step)
        step = every[step].parent
    return found


def _do(study: Study, job: Job, out: Path, book: ledger.Ledger) -> None:
    began = time.monotonic()
    try:
        with book.beating(job.name):
            run, text = load(study, job, out)
            if study.engine == "native":
                train.train(run, text)
            else:
                _run_t5x(study, job, out)
    except RunError as error:
        book.finish(job.name, failure=str(error))
        progress.say(f"{job.name} failed: {error}")
        return
    except BaseException:  # interrupted, preempted, or a defect: it is to be done again
        book.release(job.name)
        raise
    if job.n_shots and not study.keep_few_shot:
        for checkpoint in (out / job.name).glob("checkpoint_*"):
            shutil.rmtree(checkpoint)
    seconds = round(time.monotonic() - began, 1)
    output.write(out / job.name / DONE_FILE, json.dumps({"seconds": seconds}) + "\n")
    book.finish(job.name)


def _run_t5x(study: Study, job: Job, out: Path) -> None:
    """Does a job by T5X's own binary, with the same files and bindings.

    Raises:
      RunError: it failed; says where its log is.
    """
    files = ("t5x_configs/finetune.gin", *_files(study, job.task))
    bindings = (*study.settings, *_bindings(study, job, out))
    command = [sys.executable, "-m", "t5x.train"]
    command += [f"--gin_search_paths={configuration.shipped_dir()}"]
    command += [f"--gin_file={file}" for file in files]
    command += [f"--gin.{binding.replace(' = ', '=', 1)}" for binding in bindings]
    log = out / job.name / "t5x.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as written:
        code = subprocess.run(command, stdout=written, stderr=written, check=False).returncode
    if code:
        raise RunError(f"T5X ended with {code}; its last words are in {log}")


# --- Scores ---------------------------------------------------------------------------------------

COLUMNS = (
    "task", "source", "target", "intermediate", "n_shots", "seed", "metric", "score",
    "n_examples", "model", "engine", "run",
)  # fmt: skip


def collect(study: Study, out: Path) -> list[dict[str, Any]]:
    """Scores the outputs of all jobs that are done, anew, and writes them to `scores.csv`.

    Files of metrics are not trusted: what counts are the outputs, whichever engine wrote them.

    Returns:
      The table: a row a cell, scores in percent.

    Raises:
      RequestError: predictions that are not there, or damaged.
    """
    rows = []
    for job in jobs(study):
        if not (out / job.name / DONE_FILE).is_file():
            continue
        run, _ = load(study, job, out)
        for name in run.targets:
            task = catalogue.task(name)
            percent, examples = rescore(out / job.name, task)
            cell = (
                task.full_name.rpartition(".")[0],
                job.source,
                task.language,
                job.intermediate,
                job.n_shots,
                job.seed,
                task.family.score,
                percent,
                examples,
                study.model,
                study.engine,
                job.name,
            )
            rows.append(dict(zip(COLUMNS, cell, strict=True)))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"score": f"{row['score']:.6g}"} for row in rows)
    output.write(out / "scores.csv", text.getvalue())
    return rows


def rescore(model_dir: Path, task: catalogue.Task) -> tuple[float, int]:
    """Computes a task's score from the outputs of a run's last evaluation.

    Returns:
      The score in percent, and how many examples there are.

    Raises:
      RequestError: there are no outputs, or they are damaged.
    """
    folder = model_dir / "inference_eval"
    files = sorted(
        (path for path in folder.glob(f"{task.name}-*.jsonl") if path.stem[-6:].isdigit()),
        key=lambda path: int(path.stem.rpartition("-")[2]),
    )
    if not files:
        raise RequestError(f"{folder} has no predictions of {task.name}; remove {model_dir}")
    try:
        lines = [json.loads(line) for line in files[-1].read_text("utf-8").splitlines()]
        references = [line["target"] for line in lines]
        outputs = [line["output"] for line in lines]
    except (ValueError, KeyError):
        raise RequestError(f"{files[-1]} is damaged; remove {model_dir}, and run again") from None
    assert task.family.metric is not None
    values = task.family.metric(references, outputs)
    return task.family.percent * values[task.family.score], len(lines)


def matrices(rows: Sequence[Mapping[str, Any]]) -> str:
    """Renders zero-shot scores as one table a task, sources down and targets across."""
    tables = []
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in rows):
        cells: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row["task"] == task and row["n_shots"] == 0 and not row["intermediate"]:
                cells.setdefault((row["source"], row["target"]), []).append(row["score"])
        targets = list(dict.fromkeys(target for _, target in cells))
        lines = [f"{task} {metric} in percent, zero-shot: sources down, targets across"]
        lines.append("      " + "".join(f"{target:>6}" for target in targets) + "   mean of others")
        for source in dict.fromkeys(source for source, _ in cells):
            row = {t: float(np.mean(cells[source, t])) for t in targets if (source, t) in cells}
            others = [score for target, score in row.items() if target != source]
            mean = f"{np.mean(others):>17.1f}" if others else ""
            shown = "".join(f"{row[t]:>6.1f}" if t in row else "     -" for t in targets)
            lines.append(f"  {source:<4}{shown}{mean}")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


# --- What it costs, and how far it is -------------------------------------------------------------


def plan(study: Study, out: Path | None, device_name: str) -> str:
    """Renders a study's jobs and what they cost on one device, without running anything.

    Args:
      study: what to plan.
      out: the study's folder; jobs that are done there do not count.
      device_name: of `cost.DEVICES`.
    """
    device = cost.device(device_name)
    every = jobs(study)
    done = {job.name for job in every if out and (out / job.name / DONE_FILE).is_file()}
    stages: dict[tuple[str, str], list[Job]] = {}
    for job in every:
        stages.setdefault((job.task, _kind(job)), []).append(job)
    header = ("task", "job", "jobs", "done", "cells", "steps", "batch", "PFLOP", "hours")
    rows, total_flops, total_cells, peak = [], 0.0, 0, 0.0
    for (task, kind), of_stage in stages.items():
        run, _ = load(study, of_stage[0], out or Path("OUT"))
        inputs, targets = (study.assumed_lengths or {}).get(
            task, (run.lengths["inputs"], run.lengths["targets"])
        )
        steps = run.train_steps_relative or run.train_steps or 0
        left = [job for job in of_stage if job.name not in done]
        cells = sum(len(job.targets) for job in of_stage)
        flops = len(left) * steps * run.batch_size * cost.training_flops(run.model, inputs, targets)
        total_flops += flops
        total_cells += cells
        peak = max(peak, cost.training_bytes(run.model, run.batch_size, inputs, targets))
        hours = flops / (device.tflops * 1e12 * cost.UTILISATION) / 3600
        rows.append(
            (task, kind, len(of_stage), len(of_stage) - len(left), cells or "",
             f"{steps:,}", run.batch_size, f"{flops / 1e15:,.2f}", f"{hours:,.2f}")
        )  # fmt: skip
    sizes = run.model
    hours = total_flops / (device.tflops * 1e12 * cost.UTILISATION) / 3600
    kept = sum(study.keep_few_shot or not job.n_shots for job in every if job.name not in done)
    disk = kept * cost.checkpoint_bytes(sizes) / 2**30
    sources_of_task = {(job.task, job.source) for job in every if job.source and not job.n_shots}
    summary = [
        f"{len(every)} jobs, {len(done)} done; {len(sources_of_task)} source models,"
        f" {total_cells} cells (task, source, target, shots, intermediate, seed)",
        f"{study.model}: {cost.parameters(sizes) / 1e6:,.1f} M parameters; about"
        f" {peak / 2**30:,.1f} GiB to train, of {device.gib} on {device.title}",
        f"training on one: about {hours:,.1f} hours at {cost.UTILISATION:.0%} of its peak; scoring"
        " comes on top",
        f"disk: about {disk:,.1f} GiB of checkpoints",
    ]
    if not study.assumed_lengths:
        summary.append("lengths are the longest that the tasks allow: examples are mostly shorter")
    return _aligned([header, *rows]) + "\n" + "\n".join(summary)


def _kind(job: Job) -> str:
    if job.n_shots:
        return f"{job.n_shots} shots"
    return "source model" if job.source else "before all"


def status(study: Study, out: Path) -> str:
    """Renders how far a study is."""
    every = {job.name: job for job in jobs(study)}
    if not (out / ledger.FILE).is_file():
        return f"{out}: nothing has been run; {len(every)} jobs to do"
    entries = [entry for entry in ledger.Ledger(out).entries() if entry.job in every]
    states = ("done", "running", "failed", "todo")
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for entry in entries:
        job = every[entry.job]
        stage = counts.setdefault((job.task, _kind(job)), dict.fromkeys(states, 0))
        stage[entry.state] += 1
    rows: list[tuple] = [("task", "job", *states)]
    rows += [(*stage, *(numbers[state] for state in states)) for stage, numbers in counts.items()]
    lines = [_aligned(rows)]
    lines += [
        f"running {entry.job} for {entry.seconds:,.0f} s by {entry.worker}"
        for entry in entries
        if entry.state == ledger.RUNNING
    ]
    lines += [f"failed  {e.job}: {e.note}" for e in entries if e.state == ledger.FAILED]
    seconds = [entry.seconds for entry in entries if entry.state == ledger.DONE and entry.started]
    left = sum(entry.state in (ledger.TODO, ledger.RUNNING) for entry in entries)
    if seconds and left:
        lines.append(
            f"{left} to go, about {left * np.mean(seconds) / 60:,.0f} minutes of one worker"
        )
    return "\n".join(lines)


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
