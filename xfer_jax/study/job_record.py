"""`done.json`: what says that a job of a study is done, and how it was done."""

import hashlib
import json
import os
from pathlib import Path

import jax
import pydantic

from seqio_tasks import files
from xfer_jax import configuration
from xfer_jax.engine import run_folder
from xfer_jax.study import job_graph
from xfer_jax.study.definition import Study
from xfer_jax.study.job_graph import Job

DONE_FILE = "done.json"


class Done(pydantic.BaseModel):
    """What `done.json` says of a job."""

    seconds: float
    cores: int  # that the process could use
    device: str  # kind and number
    request: str  # digest of the settings, see `request`
    read: dict[str, str]  # digests of the inputs, by what they are
    wrote: dict[str, str]  # digests of the results, by their place in the job's folder


_RESULTS = ("scores.csv", "inference_eval/*.jsonl", "checkpoint_*/SHA256SUMS")


def write(study: Study, job: Job, out: Path, seconds: float) -> None:
    """Says that a job is done: the last file that is written of it."""
    folder = out / job.name
    results = sorted(path for pattern in _RESULTS for path in folder.glob(pattern))
    inputs = folder / run_folder.INPUTS_FILE
    record = Done(
        seconds=round(seconds, 1),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        device=f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        request=request(study, job),
        read=files.read_json(inputs) if inputs.is_file() else {},
        wrote={str(path.relative_to(folder)): _digest(path) for path in results},
    )
    files.write(folder / DONE_FILE, record.model_dump_json(indent=1) + "\n")


def read(out: Path, name: str) -> Done | None:
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
    """Returns a digest of a job's settings, without the folders.

    It is a digest of the gin files' text, comments included. An equal digest means that nothing has
    changed. A different one may be only a comment, so the settings are then compared.
    """
    named = ("gin/runs/train.gin", *job_graph.gin_files(study, job.task))
    texts = [configuration.digest(file, study.search_paths) for file in named]
    asked = [texts, study.engine, study.settings, job_graph.bindings(study, job, Path("/"))]
    return hashlib.sha256(json.dumps(asked, default=list).encode()).hexdigest()
