"""`done.json`: what says that a job of a study is done, and how it was done."""

import hashlib
import json
import os
from pathlib import Path

import jax
import pydantic

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax import configuration
from xfer_jax.engine import run_folder
from xfer_jax.study import job_settings
from xfer_jax.study.definition import Study
from xfer_jax.study.job import Job

DONE_FILE = "done.json"


class Done(pydantic.BaseModel):
    """What `done.json` says of a job."""

    stage: str
    seconds: float
    cores: int  # that the process could use
    device: str  # kind and number
    request: str  # digest of the settings, see `request`
    read: dict[str, str]  # digests of the inputs, by what they are
    wrote: dict[str, str]  # digests of the results, by their place in the job's folder


_RESULTS = (
    "scores.csv", "probe.csv", "retrieval.csv", "selection.json", "*.jsonl",
    "inference_eval/*.jsonl", "test/inference_eval/*.jsonl",
    "xfer_probe.*/*.jsonl*", "checkpoint_*/SHA256SUMS",
)  # fmt: skip


def write(study: Study, job: Job, out: Path, seconds: float) -> None:
    """Says that a job is done: the last file that is written of it."""
    folder = out / job.name
    results = sorted(path for pattern in _RESULTS for path in folder.glob(pattern))
    inputs = [file.parent / run_folder.INPUTS_FILE for file in settings_files(folder)]
    record = Done(
        stage=job.stage.name,
        seconds=round(seconds, 1),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        device=f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        request=request(study, job),
        read={k: v for file in inputs if file.is_file() for k, v in files.read_json(file).items()},
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


def settings_files(folder: Path) -> list[Path]:
    """Returns the files with the settings of a job; a probe has one for each family of tasks."""
    names = (run_folder.CONFIG_FILE, f"xfer_probe.*/{run_folder.CONFIG_FILE}")
    return [file for name in names for file in sorted(folder.glob(name))]


def refuse_older(out: Path) -> None:
    """Raises RequestError if a study's folder was made before studies were lists of stages."""
    for pattern in (f"*/{DONE_FILE}", f"*/*/{DONE_FILE}"):
        file = next(out.glob(pattern), None)
        if (
            file is not None
            and '"request"' in (text := files.read_text(file))
            and ('"stage"' not in text)
        ):
            raise RequestError(
                f"{out} is a study of an earlier version, whose jobs have other folders"
                f" ({file.parent}): choose another --out to run it anew; `analyze --scores"
                f" {out / 'scores.csv'}` still works"
            )


def damaged(out: Path, name: str) -> str | None:
    """Returns which predictions of a job are not as they were written; None if all are."""
    record = read(out, name)
    for result, digest in record.wrote.items() if record else ():
        path = out / name / result
        if ".jsonl" in result and (not path.is_file() or _digest(path) != digest):
            return (
                f"{path} is not as it was written: remove {out / name / DONE_FILE}, and run the"
                " study again"
            )
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def request(study: Study, job: Job) -> str:
    """Returns a digest of a job's settings, without the folders.

    It is a digest of the gin files' text, comments included. An equal digest means that nothing has
    changed. A different one may be only a comment, so the settings are then compared.
    """
    of_job = job_settings.gin_files(study, job.stage, job.task)
    named = (f"gin/runs/{job.stage.action}.gin", *of_job)
    texts = [configuration.digest(file, study.search_paths) for file in named]
    asked = [texts, study.engine, job_settings.bindings(study, job, Path("/"))]
    return hashlib.sha256(json.dumps(asked, default=list).encode()).hexdigest()
