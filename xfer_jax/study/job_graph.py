"""The jobs of a study: stages x models to start from x tasks x languages x subsets x seeds.

A job's folder is its run's folder, so that a job that was killed resumes like any run. The path of
the folder is the chain of the jobs before it. A job whose folder has `done.json` is not run again.
"""

from collections.abc import Iterator, Sequence

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax.study import job_settings
from xfer_jax.study.definition import OTHER_TARGETS, SAME, TARGETS, Stage, Study
from xfer_jax.study.job import Job
from xfer_jax.study.job_settings import TaskFile


def lay_out(study: Study) -> list[Job]:
    """Lays out the jobs of a study, parents before children.

    Raises:
      RequestError: an unknown file, language or task.
    """
    of_stage: dict[str, list[Job]] = {}
    for stage in study.stages:
        parents: list[Job | None] = [job for name in stage.start_from for job in of_stage[name]]
        known: dict[str, TaskFile] = {}  # a file is read once a stage
        of_stage[stage.name] = [
            job for parent in parents or [None] for job in _jobs(study, stage, parent, known)
        ]
    return [job for jobs in of_stage.values() for job in jobs]


def _jobs(
    study: Study, stage: Stage, parent: Job | None, known: dict[str, TaskFile]
) -> Iterator[Job]:
    """Yields the jobs of a stage that start from one model."""
    for task in stage.tasks or ([parent.task] if parent else []):
        if task not in known:
            known[task] = job_settings.task_file(study, _any_job(study, stage, parent, task))
            _check_languages(study, stage, known[task])
        targets = tuple(study.targets or known[task].targets)
        if stage.action != "train":
            yield Job(stage, parent, task, _scored(stage, "", targets))
            continue
        for language in _languages(stage, parent, targets):
            scored = _scored(stage, language, targets)
            for variant in stage.variants:
                for seed in _seeds(study, stage, parent):
                    subset = _subset(variant, seed)
                    if parent and stage.train_on == SAME:
                        subset = subset or parent.subset
                    yield Job(stage, parent, task, scored, language, variant, subset, seed)


def _any_job(study: Study, stage: Stage, parent: Job | None, task: str) -> Job:
    """Returns a job of a task before its languages are known."""
    language, variant = "", next(iter(stage.variants))
    if isinstance(stage.train_on, str):
        language = study.targets[0] if study.targets else (parent and parent.language) or "en"
    elif stage.train_on is not None:
        language = stage.train_on[0]
    return Job(stage, parent, task, (), language, variant, _subset(variant, 0), 0)


def _subset(variant: str, seed: int) -> str:
    return f"{variant}.s{seed}" if variant else ""


def _languages(stage: Stage, parent: Job | None, targets: Sequence[str]) -> Sequence[str]:
    """Returns the languages that a stage trains on, from one model on."""
    if stage.train_on is None:
        return ("",)
    if stage.train_on == TARGETS:
        return targets
    before = parent.language if parent else ""
    if stage.train_on == SAME:
        return (before,)
    if stage.train_on == OTHER_TARGETS:
        return [code for code in targets if code != before]
    return stage.train_on


def _scored(stage: Stage, language: str, targets: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(stage.score_on, str):
        return (language,) if stage.score_on == SAME else targets
    return tuple(stage.score_on)


def _seeds(study: Study, stage: Stage, parent: Job | None) -> Sequence[int]:
    """Returns the seeds of the jobs of a stage that start from one model."""
    seeds = study.seeds_of(stage)
    theirs = study.seeds_of(parent.stage) if parent else ()
    if parent is None or len(theirs) == 1:
        return seeds
    return [seed for seed, before in zip(seeds, theirs, strict=True) if before == parent.seed]


def _check_languages(study: Study, stage: Stage, of_file: TaskFile) -> None:
    """Raises RequestError, which names the nearest, if a stage names a task that does not exist."""
    targets = study.targets or of_file.targets
    if stage.train_on is not None and stage.train_on != SAME:
        trained = targets if isinstance(stage.train_on, str) else stage.train_on
        for language in trained:
            for variant in stage.variants:
                parts = of_file.trained, language, _subset(variant, 0)
                catalogue.tasks(".".join(filter(None, parts)))
    if of_file.evaluated and stage.score_on != SAME:
        for language in targets if isinstance(stage.score_on, str) else stage.score_on:
            catalogue.task(f"{of_file.evaluated}.{language}")


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
