"""Checks all jobs of a study before one is run."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqio_tasks import catalogue, files, raw_data
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import locations
from xfer_jax.checkpoints.arrays import is_remote
from xfer_jax.engine import run_folder, train
from xfer_jax.study import job_graph, job_record
from xfer_jax.study.definition import Study
from xfer_jax.study.job_graph import Job


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
        locations.locate(files.absolute(start))
    finished = set()
    needed: dict[tuple[str, str], DataConfig] = {}
    runs: dict[Any, train.Run] = {}  # one of those jobs that differ in language and seed alone
    for job in every:
        record = job_record.read(out, job.name)
        if record is not None:
            finished.add(job.name)
        run_folder.check_place(out / job.name)
        begun = record is not None or (out / job.name / run_folder.CONFIG_FILE).is_file()
        same = record is not None and record.request == job_record.request(study, job)
        if begun and not same and study.engine == "native":  # T5X writes its settings otherwise
            run_folder.check(out / job.name, job_graph.load(study, job, out)[1])
        if record is None:
            steps = tuple(b for b in job.bindings if not b.startswith("RANDOM_SEED"))
            alike = (job.task, steps, job.language == "", job.targets == ())
            if alike not in runs:
                runs[alike] = job_graph.load(study, job, out)[0]
            run = runs[alike]
            family = run.training_data.task.partition(".")[0]
            trained_on = f"{family}.{job.language}" if job.language else run.training_data.task
            needed[trained_on, run.training_data.split] = run.data_config
            for target in job.targets:
                scored = f"{run.eval_data.tasks[0].partition('.')[0]}.{target}"
                needed[scored, run.eval_data.split] = run.data_config
    complaints: dict[str, str] = {}
    for (name, split), config in needed.items():
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
    return finished
