"""The settings of a job: its gin files and bindings, and what they configure."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax import configuration
from xfer_jax.checkpoints.arrays import is_remote
from xfer_jax.engine.probe import Probe
from xfer_jax.engine.retrieval import Retrieval
from xfer_jax.engine.train import Run
from xfer_jax.study.definition import Stage, Study
from xfer_jax.study.job import Job

Settings = Run | Probe | Retrieval
_MADE_BY = {"train": Run, "probe": Probe, "retrieve": Retrieval}
_FOLDERS = {
    "train": "MODEL_DIR", "probe": "PROBE_OUTPUT_DIR", "retrieve": "RETRIEVAL_OUTPUT_DIR",
}  # fmt: skip


def load(study: Study, job: Job, out: Path) -> tuple[Settings, str]:
    """Returns a job's settings in a study's folder, and its configuration as text."""
    return _load(study, job.stage, job.task, bindings(study, job, out))


def _load(study: Study, stage: Stage, task: str, bindings: Sequence[str]) -> tuple[Settings, str]:
    text = configuration.load(
        stage.action, gin_files(study, stage, task), bindings, study.search_paths, study.imports
    )
    return configuration.build(_MADE_BY[stage.action]), text


def gin_files(study: Study, stage: Stage, task: str) -> tuple[str, ...]:
    """Returns the names of the gin files that a task's jobs are configured by."""
    of_task = () if stage.action == "retrieve" else (f"gin/tasks/{task}.gin",)
    return (f"gin/models/{study.model}.gin", *of_task, *study.files)


def bindings(study: Study, job: Job, out: Path) -> tuple[str, ...]:
    """Returns the gin bindings of a job's run in a study's folder."""
    return (*own_bindings(study, job), *_places(study, job, out))


def own_bindings(study: Study, job: Job) -> tuple[str, ...]:
    """Returns the gin bindings of a job without those that name folders."""
    found = [*study.settings, *job.stage.settings, *job.stage.variants.get(job.variant, ())]
    if job.seed is not None:
        found.append(f"RANDOM_SEED = {job.seed}")
    if job.language:
        found.append(f"SOURCE = {job.language!r}")
    if job.language or job.subset:
        found.append(f"SUBSET = {job.subset!r}")
    if job.stage.action == "retrieve":
        found.append(f"TASK = {job.task!r}")
    return (*found, f"TARGETS = {job.targets!r}")


def _places(study: Study, job: Job, out: Path) -> tuple[str, str]:
    start = study.initial_checkpoint
    if job.parent:
        start = str(out / job.parent.name)
    elif start is not None and not is_remote(start):
        start = str(files.absolute(start))
    read = "INITIAL_CHECKPOINT_PATH" if job.stage.action == "train" else "CHECKPOINT_PATH"
    written = _FOLDERS[job.stage.action]
    return f"{written} = {str(out / job.name)!r}", f"{read} = {start!r}"


class TaskFile(NamedTuple):
    """What a task's file says of languages."""

    trained: str  # the task to train on, without its language: 'xfer_squad'
    evaluated: str  # the task to evaluate on: 'xfer_xquad', 'xfer_probe.panx'
    targets: tuple[str, ...]  # languages to evaluate on


def task_file(study: Study, job: Job) -> TaskFile:
    """Returns what the file of a job's task says of languages.

    Args:
      study: the study.
      job: one of the task; its languages do not matter.

    Raises:
      RequestError: there is no such file, or its number of steps does not suit a later stage.
    """
    if job.stage.action == "retrieve":  # its tasks have no files
        return TaskFile("", "", ())
    of_job = bindings(study, job, Path("OUT"))
    others = [binding for binding in of_job if not binding.startswith("TARGETS = ")]
    settings, _ = _load(study, job.stage, job.task, others)
    assert not isinstance(settings, Retrieval)
    names = settings.eval_data.tasks
    targets = tuple(name.rpartition(".")[2] for name in names)
    evaluated = names[0].rpartition(".")[0] if names else ""
    if not isinstance(settings, Run):
        return TaskFile("", evaluated, targets)
    if job.parent and settings.optimisation.train_steps_relative is None:
        raise RequestError(
            f"{job.stage.name} is trained on {job.task} for TRAIN_STEPS in all, which those of"
            f" {job.parent.stage.name} would count among: set TRAIN_STEPS_RELATIVE, and"
            f" TRAIN_STEPS = None, in {job.stage.of('settings')}"
        )
    task, _ = trained(settings, job)
    return TaskFile(task, evaluated or task, targets)


def trained(run: Run, job: Job) -> tuple[str, str]:
    """Returns the task that a job trains on, without its language, and the language."""
    task, _, language = run.training_data.task.removesuffix(f".{job.subset}").rpartition(".")
    return task, language
