"""The jobs of a study: tasks x languages x shots x intermediate tasks x seeds.

Each job is one run of `train`: pre-training or an intermediate task, which many share; fine-tuning
in a source language, which is evaluated zero-shot on every target; and few-shot training in a
target, which starts from its source's model. `execution`, `checks`, `job_record`, `plan` and
`scores` rely on it that a job is such a run. A job's folder is its run's folder, so that a job that
was killed resumes like any run. A job whose folder has `done.json` is not run again.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from seqio_tasks import catalogue, files
from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax import configuration
from xfer_jax.checkpoints.arrays import is_remote
from xfer_jax.engine import train
from xfer_jax.study.definition import MORE, NO_INTERMEDIATE, Study

_INTERMEDIATE_FOLDER = "intermediate/"  # of the intermediate tasks' models
_OTHER_SEED = 1000  # added to a study's seed where the same data are to come in another order


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
        return "intermediate" if self.name.startswith(_INTERMEDIATE_FOLDER) else "before all"


def lay_out(study: Study) -> list[Job]:
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
        relative = run.optimisation.train_steps_relative
        if relative is None and set(study.intermediates) != {NO_INTERMEDIATE}:
            raise RequestError(
                f"{task} is trained for TRAIN_STEPS in all, of which an intermediate task would"
                " take its share: set TRAIN_STEPS_RELATIVE, and TRAIN_STEPS = None, in"
                " study.Study.settings"
            )
        taught, _, source = run.training_data.task.rpartition(".")
        scored = run.eval_data.tasks
        asked = scored[0].rpartition(".")[0] if scored else taught
        targets = tuple(study.targets or (name.rpartition(".")[2] for name in scored))
        # A task that is nothing but a test is taught by another, in its file's language.
        sources = tuple(study.sources or (targets if taught == asked else (source,)))
        for prefix, codes in ((taught, sources), (asked, targets)):
            for code in codes:
                catalogue.task(f"{prefix}.{code}")  # names the nearest where there is none
        for seed in study.seeds:
            for intermediate in study.intermediates:
                for arm in study.arms:
                    for source in sources:
                        parent = f"{_INTERMEDIATE_FOLDER}{intermediate}" if intermediate else root
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
    job = Job(f"{_INTERMEDIATE_FOLDER}{intermediate}", task, root, _steps(study), language, subset)
    run, _ = load(study, job, Path("OUT"))
    catalogue.tasks(run.training_data.task)  # names the nearest where there is none
    if run.optimisation.train_steps_relative is None:
        raise RequestError(
            f"gin/tasks/{task}.gin says how many steps there are in all, which an intermediate task"
            " begins with: set study.Study.intermediate_steps"
        )
    return job


def _more(study: Study, task: str, source: str, root: str | None, arm: str, seed: int) -> Job:
    """Returns the job that trains in the source itself for as long as an intermediate task does.

    Its examples come in another order than those of the source model that goes on from it.
    """
    name = f"{_INTERMEDIATE_FOLDER}{MORE}/{task}/{source}{f'.{arm}' if arm else ''}.s{seed}"
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


def find(every: Sequence[Job], name: str) -> Job:
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
