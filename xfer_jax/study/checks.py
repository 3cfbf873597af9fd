"""Checks all jobs of a study before one is run."""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqio_tasks import catalogue, files, raw_data
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import locations
from xfer_jax.checkpoints.arrays import is_remote
from xfer_jax.engine import run_folder
from xfer_jax.engine.probe import Probe
from xfer_jax.engine.retrieval import Retrieval
from xfer_jax.study import job_record, job_settings
from xfer_jax.study.definition import Study
from xfer_jax.study.job import Job


def check(study: Study, every: Sequence[Job], out: Path) -> set[str]:
    """Checks all jobs before one is run.

    Returns:
      The names of those that are done.

    Raises:
      RequestError: T5X is wanted and is not there; missing data, all of it at once; a folder of an
        earlier version; or a job that has been run with other settings, with the difference.
    """
    job_record.refuse_older(out)
    if study.engine == "t5x" and importlib.util.find_spec("t5x") is None:
        raise RequestError("engine 't5x' needs T5X, which cannot be imported; see setup.py")
    start = study.initial_checkpoint
    if start is not None and not is_remote(start):
        locations.locate(files.absolute(start))
    finished = set()
    needed: dict[_Needed, None] = {}
    alike: dict[Any, _Reads] = {}  # by what sets jobs apart beside their language and seed
    for job in every:
        record = job_record.read(out, job.name)
        if record is not None:
            finished.add(job.name)
        run_folder.check_place(out / job.name)
        if not (record is not None and record.request == job_record.request(study, job)):
            _check_settings(study, job, out)
        if record is None and job.stage.action != "retrieve":
            key = (job.stage.name, job.task, job.variant, job.language == "", job.targets == ())
            if key not in alike:
                alike[key] = _reads(job, job_settings.load(study, job, out)[0])
            needed |= dict.fromkeys(alike[key].of(job))
    _check_data(needed)
    return finished


def _check_settings(study: Study, job: Job, out: Path) -> None:
    """Raises RequestError if a job has been run, or begun, with other settings."""
    files = job_record.settings_files(out / job.name)
    # T5X writes its settings in another way.
    if files and (study.engine == "native" or job.stage.action != "train"):
        text = job_settings.load(study, job, out)[1]
        for file in files:
            run_folder.check(file.parent, text)


class _Needed(NamedTuple):
    """Data that a job reads."""

    task: str
    split: str
    config: DataConfig


class _Reads(NamedTuple):
    """The data that jobs read which differ in language and seed alone."""

    trained: str  # task without its language
    train_split: str
    evaluated: str
    eval_split: str
    config: DataConfig

    def of(self, job: Job) -> Iterator[_Needed]:
        """Yields what a job reads."""
        if self.trained:
            language = f".{job.language}" if job.language else ""
            yield _Needed(f"{self.trained}{language}", self.train_split, self.config)
        for code in job.targets:
            yield _Needed(f"{self.evaluated}.{code}", self.eval_split, self.config)


def _reads(job: Job, settings: job_settings.Settings) -> _Reads:
    assert not isinstance(settings, Retrieval), "its data are read by itself"
    scored, config = settings.eval_data, settings.data_config
    evaluated = scored.tasks[0].rpartition(".")[0] if scored.tasks else ""
    if isinstance(settings, Probe):
        return _Reads("", "", evaluated, scored.split, config)
    task, language = job_settings.trained(settings, job)
    trained = task if job.language else f"{task}.{language}"
    return _Reads(trained, settings.training_data.split, evaluated, scored.split, config)


def _check_data(needed: Iterable[_Needed]) -> None:
    """Raises RequestError if data is missing; names all tasks that lack it."""
    complaints: dict[str, str] = {}
    for name, split, config in needed:
        for task in catalogue.tasks(name):
            try:
                raw_data.origin(task, split, config)
            except RequestError as error:
                complaints[f"{task.full_name} ({split})"] = str(error)
    if complaints:
        raise RequestError(
            f"there is no data for {', '.join(complaints)}; for the first of them:"
            f" {next(iter(complaints.values()))}; or leave these languages out of the study"
        )
