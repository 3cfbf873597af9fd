"""The study: tasks x languages x shots x intermediate tasks x seeds, laid out as jobs.

A study is a set of *jobs*, each one run of `train`: pre-training or an intermediate task, which
many share; fine-tuning in a source language, which is scored zero-shot in every target; and
few-shot training in a target, which goes on from its source's model. A job's folder is its run's
folder, so that a job which was killed goes on like any run, and whoever finds `done.json` there
need not do it.
"""

import dataclasses
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import gin
import jax
import pydantic
from pydantic import Field, StringConstraints

from seqio_tasks import catalogue, files, raw_data
from seqio_tasks.errors import RequestError, did_you_mean
from seqio_tasks.settings import Count, CountFromZero, Line, Lines, Seed, settings
from xfer_jax import checkpoints, configuration, output, train
from xfer_jax.stored import is_remote

DONE_FILE = "done.json"
NO_INTERMEDIATE = ""
MORE = "more"  # in the place of an intermediate: as many steps more on the task itself
_STAGES = "intermediate/"  # folder of the intermediate tasks' models
_OTHER_SEED = 1000  # added to a study's seed where the same data are to come in another order
# Names of files of gin/ and of intermediate tasks: they become parts of folders' paths.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$", max_length=64)]
TaskName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$|^$")]
Number = Annotated[int, Field(ge=0)]


@gin.configurable(module="xfer_jax.study")
@settings("study.Study.{}")
class Study:
    """What a study file sets. Files are named without `gin/…/` and `.gin`."""

    model: FileName  # of gin/models: 'pocket'
    tasks: Sequence[FileName]  # of gin/tasks: ('panx', 'xnli')
    sources: Sequence[TaskName] | None = (
        None  # to fine-tune in; all languages to score in when None
    )
    targets: Sequence[TaskName] | None = None  # to score in; those of the task's file when None
    pretrain: FileName | None = None  # of gin/tasks: what every model is trained on first
    initial_checkpoint: Line | None = None  # instead: a checkpoint that every model starts from
    # tasks between: 'panx.sw' is gin/tasks/panx.gin in Swahili, 'panx.uralic.n3000.s0' in a family
    # of languages, 3,000 examples; '' none; 'more' instead trains longer in the source itself
    intermediates: Sequence[TaskName] = (NO_INTERMEDIATE,)
    intermediate_steps: Count | None = None  # of each of them alike; None: as their files say
    # of the sources' training data: '' all of it, 'matched' equal sizes
    arms: Sequence[Literal["", "matched"]] = ("",)
    n_shots: Sequence[CountFromZero] = (0,)  # examples in the target after the source; 0: zero-shot
    few_shot: Mapping[Count, Lines] | None = None  # settings by number of shots
    seeds: Sequence[Seed] = (0,)
    files: Lines = ()  # gin files after the task's: 'gin/runs/from_scratch.gin'
    settings: Lines = ()  # bindings of every run: "EVALUATOR_NUM_EXAMPLES = 500"
    keep_few_shot: bool = False  # checkpoints of few-shot training, which nothing starts from
    # by task, what costs are estimated with: mean tokens of inputs and of targets, and examples
    # that are scored in a target
    assumed: Mapping[FileName, tuple[Number, Number, Number]] | None = None
    engine: Literal["native", "t5x"] = "native"  # or 't5x': T5X's own binary does every job
    search_paths: Lines = ()  # folders in which gin files are looked for
    imports: Lines = ()  # modules that gin files may import

    def __post_init__(self):
        if self.pretrain and self.initial_checkpoint:
            raise RequestError("a study has pretrain or initial_checkpoint, not both")
        for name in (
            "tasks", "sources", "targets", "seeds", "n_shots", "arms", "intermediates",
        ):  # fmt: skip
            values = getattr(self, name)
            if values is None:
                continue
            if not values or len(set(values)) < len(values):
                raise RequestError(
                    f"study.Study.{name} must be a list without repeats that is not empty, not"
                    f" {values!r}"
                )
        if MORE in self.intermediates and self.intermediate_steps is None:
            raise RequestError(
                f"the intermediate {MORE!r} trains in the source for as long as the others do: set"
                " study.Study.intermediate_steps"
            )
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
    language: str = ""  # that it is trained in; that of the task's file when empty
    subset: str = ""  # of the training data
    targets: tuple[str, ...] = ()  # languages that it is scored in; none: its model is for others
    source: str = ""
    intermediate: str = ""
    n_shots: int = 0
    seed: int = 0
    arm: str = ""

    @property
    def kind(self) -> str:
        """What a reader of the plan calls such jobs."""
        if self.n_shots:
            return f"{self.n_shots} shots"
        if self.source:
            return "source model"
        return "intermediate" if self.name.startswith(_STAGES) else "before all"


def jobs(study: Study) -> list[Job]:
    """Lays out a study's jobs, parents before children.

    Raises:
      RequestError: an unknown file, language or task.
    """
    found: list[Job] = []
    if study.pretrain:
        found.append(Job("pretrained", study.pretrain, None, ()))
    root = found[0].name if found else None
    for intermediate in study.intermediates:
        if intermediate not in (NO_INTERMEDIATE, MORE):
            found.append(_between(study, intermediate, root))
    for task in study.tasks:
        run, _ = _load(study, task, ("SOURCE = 'en'", "MODEL_DIR = 'OUT'"))
        if run.train_steps_relative is None and set(study.intermediates) != {NO_INTERMEDIATE}:
            raise RequestError(
                f"{task} is trained for TRAIN_STEPS in all, of which an intermediate task would"
                " take its share: set TRAIN_STEPS_RELATIVE, and TRAIN_STEPS = None, in"
                " study.Study.settings"
            )
        taught, _, source = run.task.rpartition(".")
        asked = run.targets[0].rpartition(".")[0] if run.targets else taught
        targets = tuple(study.targets or (name.rpartition(".")[2] for name in run.targets))
        # A task that is nothing but a test is taught by another, in its file's language.
        sources = tuple(study.sources or (targets if taught == asked else (source,)))
        for prefix, codes in ((taught, sources), (asked, targets)):
            for code in codes:
                catalogue.task(f"{prefix}.{code}")  # names the nearest where there is none
        for seed in study.seeds:
            for intermediate in study.intermediates:
                for arm in study.arms:
                    for source in sources:
                        parent = f"{_STAGES}{intermediate}" if intermediate else root
                        if intermediate == MORE:
                            found.append(_more(study, task, source, root, arm, seed))
                            parent = found[-1].name
                        found += _cells(
                            study, task, source, targets, parent, intermediate, arm, seed
                        )
    return found


def _between(study: Study, intermediate: str, root: str | None) -> Job:
    """Returns the job of an intermediate task, which all source models that follow share.

    Raises:
      RequestError: it is not FILE.LANGUAGE, or there is no such task.
    """
    task, _, languages = intermediate.partition(".")
    language, _, subset = languages.partition(".")
    if not language:
        raise RequestError(
            f"the intermediate {intermediate!r} names no language: expected one of gin/tasks and a"
            f" language or a language family, e.g. {task + '.en'!r}"
        )
    job = Job(f"{_STAGES}{intermediate}", task, root, _steps(study), language, subset)
    run, _ = load(study, job, Path("OUT"))
    catalogue.tasks(run.task)  # names the nearest where there is none
    if run.train_steps_relative is None:
        raise RequestError(
            f"gin/tasks/{task}.gin says how many steps there are in all, which an intermediate task"
            " begins with: set study.Study.intermediate_steps"
        )
    return job


def _more(study: Study, task: str, source: str, root: str | None, arm: str, seed: int) -> Job:
    """Returns the job that trains in the source itself for as long as an intermediate task does.

    Its examples come in another order than those of the source model that goes on from it.
    """
    name = f"{_STAGES}{MORE}/{task}/{source}{f'.{arm}' if arm else ''}.s{seed}"
    bindings = (f"RANDOM_SEED = {seed + _OTHER_SEED}", *_steps(study))
    return Job(name, task, root, bindings, source, f"{arm}.s{seed}" if arm else "")


def _steps(study: Study) -> tuple[str, ...]:
    steps = study.intermediate_steps
    return (f"TRAIN_STEPS_RELATIVE = {steps}", "TRAIN_STEPS = None") if steps else ()


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
        bindings = (*((study.few_shot or {})[n] if n else ()), f"RANDOM_SEED = {seed}")
        return Job(
            name, task, parent, bindings, language, subset, scored, source, intermediate, n, seed,
            arm,
        )  # fmt: skip

    found = [job(name, parent, source, f"{arm}.s{seed}" if arm else "", 0, *targets)]
    for n in filter(None, study.n_shots):
        for target in targets:
            if target != source:
                cell = f"{name}/{target}.n{n}"
                found.append(job(cell, name, target, f"n{n}.s{seed}", n, target))
    return found


def _load(study: Study, task: str, bindings: Iterable[str]) -> tuple[train.Run, str]:
    """Returns the run of a task's file with these bindings, and its configuration as text."""
    text = configuration.load(
        "train",
        gin_files(study, task),
        (*study.settings, *bindings),
        study.search_paths,
        study.imports,
    )
    return configuration.build(train.Run), text


def gin_files(study: Study, task: str) -> tuple[str, ...]:
    """Returns the names of the gin files that a task's jobs are configured by."""
    return (f"gin/models/{study.model}.gin", f"gin/tasks/{task}.gin", *study.files)


def bindings(study: Study, job: Job, out: Path) -> tuple[str, ...]:
    """Returns the bindings of a job's run in a study's folder."""
    start = study.initial_checkpoint
    if job.parent:
        start = str(out / job.parent)
    elif start is not None and not is_remote(start):
        start = str(files.absolute(start))
    trained = (f"SOURCE = {job.language!r}", f"SUBSET = {job.subset!r}") if job.language else ()
    return (
        *job.bindings,
        *trained,
        f"TARGETS = {job.targets!r}",
        f"MODEL_DIR = {str(out / job.name)!r}",
        f"INITIAL_CHECKPOINT_PATH = {start!r}",
    )


def named(every: Sequence[Job], name: str) -> Job:
    """Returns the job of a name.

    Raises:
      RequestError: there is no such job; names the nearest.
    """
    found = next((job for job in every if job.name == name), None)
    if found is None:
        near = did_you_mean(name, (job.name for job in every))
        raise RequestError(f"the study has no job {name!r}{near}")
    return found


def load(study: Study, job: Job, out: Path) -> tuple[train.Run, str]:
    """Returns a job's run in a study's folder, and its configuration as text."""
    return _load(study, job.task, bindings(study, job, out))


# --- What is done ---------------------------------------------------------------------------------


class Done(pydantic.BaseModel):
    """What `done.json` says of a job."""

    seconds: float
    cores: int  # that the process could use
    device: str  # kind and number
    request: str  # digest of the settings, see `request`
    read: dict[str, str]  # digests of the inputs, by what they are
    wrote: dict[str, str]  # digests of the results, by their place in the job's folder


_RESULTS = ("scores.csv", "inference_eval/*.jsonl", "checkpoint_*/SHA256SUMS")


def write_done(study: Study, job: Job, out: Path, seconds: float) -> None:
    """Says that a job is done: the last file that is written of it."""
    folder = out / job.name
    results = sorted(path for pattern in _RESULTS for path in folder.glob(pattern))
    inputs = folder / output.INPUTS_FILE
    record = Done(
        seconds=round(seconds, 1),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        device=f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        request=request(study, job),
        read=files.read_json(inputs) if inputs.is_file() else {},
        wrote={str(path.relative_to(folder)): _digest(path) for path in results},
    )
    files.write(folder / DONE_FILE, record.model_dump_json(indent=1) + "\n")


def done(out: Path, name: str) -> Done | None:
    """Returns what a job's folder says of how it was done; None if it is not done.

    A record that is damaged counts for none: the job is then done again from its last checkpoint.
    """
    file = out / name / DONE_FILE
    if not file.is_file():
        return None
    try:
        return Done.model_validate_json(files.read_bytes(file))
    except pydantic.ValidationError:
        return None


def damaged(out: Path, name: str, record: Done) -> str | None:
    """Returns which of a job's predictions are not as they were written; None if all are."""
    for result, digest in record.wrote.items():
        path = out / name / result
        if result.endswith(".jsonl") and (not path.is_file() or _digest(path) != digest):
            return f"{path} is not as it was written: remove {path.parent.parent}, and run again"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def request(study: Study, job: Job) -> str:
    """Returns a digest of what a job is asked to do, folders left out.

    It is of the texts of the gin files, comments included. So an equal digest tells that nothing
    was changed; another one tells that the settings must be compared.
    """
    named = ("gin/runs/train.gin", *gin_files(study, job.task))
    texts = [configuration.digest(file, study.search_paths) for file in named]
    asked = [texts, study.engine, study.settings, bindings(study, job, Path("/"))]
    return hashlib.sha256(json.dumps(asked, default=list).encode()).hexdigest()


# --- Before anything runs -------------------------------------------------------------------------


def check(study: Study, every: Sequence[Job], out: Path) -> set[str]:
    """Checks all jobs before one is run.

    Returns:
      The names of those that are done.

    Raises:
      RequestError: no T5X for its engine; data that is not there, all of it at once; or a folder
        whose job has been run with other settings, with the difference.
    """
    if study.engine == "t5x" and importlib.util.find_spec("t5x") is None:
        raise RequestError("engine 't5x' needs T5X, which cannot be imported; see setup.py")
    start = study.initial_checkpoint
    if start is not None and not is_remote(start):
        checkpoints.locate(files.absolute(start))
    finished = set()
    needed: dict[tuple[str, str], None] = {}
    runs: dict[Any, train.Run] = {}  # one of those jobs that differ in language and seed alone
    for job in every:
        record = done(out, job.name)
        if record is not None:
            finished.add(job.name)
        output.check_place(out / job.name)
        begun = record is not None or (out / job.name / output.CONFIG_FILE).is_file()
        same = record is not None and record.request == request(study, job)
        if begun and not same and study.engine == "native":  # T5X writes its settings otherwise
            output.check(out / job.name, load(study, job, out)[1])
        if record is None:
            steps = tuple(b for b in job.bindings if not b.startswith("RANDOM_SEED"))
            alike = (job.task, steps, job.language == "", job.targets == ())
            if alike not in runs:
                runs[alike] = load(study, job, out)[0]
            run = runs[alike]
            family = run.task.partition(".")[0]
            trained_on = f"{family}.{job.language}" if job.language else run.task
            needed[trained_on, run.train_split] = None
            for target in job.targets:
                needed[f"{run.targets[0].partition('.')[0]}.{target}", run.eval_split] = None
    complaints: dict[str, str] = {}
    for name, split in needed:
        for task in catalogue.tasks(name):
            try:
                raw_data.origin(task, split)
            except RequestError as error:
                complaints[f"{task.full_name} ({split})"] = str(error)
    if complaints:
        raise RequestError(
            f"there is no data for {', '.join(complaints)}; for the first of them:"
            f" {next(iter(complaints.values()))}; or leave these languages out of the study"
        )
    return finished
