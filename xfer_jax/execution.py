"""Runs a study: what is missing, by one worker or by many, each taking what nobody does."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqio_tasks.errors import PreemptedError, RequestError, RunError
from xfer_jax import configuration, ledger, output, planning, progress, scores, study, train
from xfer_jax.study import DONE_FILE, Job, Study

POLL_SECONDS = 2.0  # between looks for a job that others' jobs make ready
LOGS = "workers"  # folder in the study's: what its workers print
_FULL = (errno.ENOSPC, errno.EDQUOT)


def run(grid: Study, out: Path, only: str | None = None) -> None:
    """Does the jobs that nobody has done or does, and collects the scores.

    Args:
      grid: what to run.
      out: the study's folder; any number of workers may share it.
      only: a job's name; then it, and what it starts from, alone are done.

    Raises:
      RequestError: a wrong request; nothing has been run then.
      RunError: jobs failed; the others have been done. Or the disk is full; nothing else was done.
    """
    every = {job.name: job for job in study.jobs(grid)}
    wanted = study.with_ancestors(every, only) if only else every
    done = study.check(grid, list(wanted.values()), out)
    book = ledger.Ledger(out)
    book.enter(done)
    with _said_if_full(out):
        for name in _claimed(book, wanted):
            states = [entry.state for entry in book.entries() if entry.job in every]
            progress.say(f"\n[{states.count(ledger.DONE) + 1}/{len(every)}] {name}")
            _do(grid, wanted[name], out, book)
        if not only:
            progress.say(f"\n{scores.matrices(scores.collect(grid, out))}")
            progress.say(f"\nscores: {out / scores.FILE}")
    _raise_failures(book, wanted)


def _claimed(book: ledger.Ledger, wanted: dict[str, Job]) -> Iterator[str]:
    """Yields jobs that this worker has claimed, until none is left to wait for."""

    def ready(done: set[str]) -> list[str]:
        return [job.name for job in wanted.values() if job.parent is None or job.parent in done]

    while True:
        name, others = book.claim(ready)
        if name is not None:
            yield name
        elif others and _left(book, wanted):
            time.sleep(POLL_SECONDS)  # what is left starts from what others are doing
        else:
            return


def _left(book: ledger.Ledger, wanted: dict[str, Job]) -> int:
    going = (ledger.TODO, ledger.RUNNING)
    return sum(entry.state in going for entry in book.entries() if entry.job in wanted)


def _raise_failures(book: ledger.Ledger, wanted: dict[str, Job]) -> None:
    entries = [entry for entry in book.entries() if entry.job in wanted]
    failed = [entry for entry in entries if entry.state == ledger.FAILED]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(wanted)} jobs failed: "
            + "; ".join(f"{entry.job}: {entry.note}" for entry in failed[:3])
        )


@contextlib.contextmanager
def _said_if_full(out: Path) -> Iterator[None]:
    """Turns errors of a full disk, Orbax's too, into one sentence."""
    try:
        yield
    except Exception as error:
        is_full = isinstance(error, OSError) and error.errno in _FULL
        if is_full or any(os.strerror(number) in str(error) for number in _FULL):
            raise RunError(
                f"the disk of {out} is full: make room and run the study again; what is done is"
                " kept, and the job that was running goes on from its last checkpoint"
            ) from error
        raise


def _do(grid: Study, job: Job, out: Path, book: ledger.Ledger) -> None:
    began = time.monotonic()
    try:
        with book.beating(job.name, progress.latest):
            if grid.engine == "native":
                train.train(*study.load(grid, job, out))
            else:
                _run_t5x(grid, job, out)
        if job.n_shots and not grid.keep_few_shot:
            for checkpoint in (out / job.name).glob("checkpoint_*"):
                shutil.rmtree(checkpoint)
        seconds = round(time.monotonic() - began, 1)
        output.write(out / job.name / DONE_FILE, json.dumps({"seconds": seconds}) + "\n")
    except RunError as error:
        book.finish(job.name, failure=str(error))
        progress.say(f"{job.name} failed: {error}")
    except BaseException:  # interrupted, preempted, or a defect: it is to be done again
        book.release(job.name)
        raise
    else:
        book.finish(job.name)


def _run_t5x(grid: Study, job: Job, out: Path) -> None:
    """Does a job by T5X's own binary, with the same files and bindings.

    Raises:
      RunError: it failed; says where its log is.
    """
    files = ("t5x_configs/finetune.gin", *study.files(grid, job.task))
    bindings = (*grid.settings, *study.bindings(grid, job, out))
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


# --- Several workers on one machine ---------------------------------------------------------------


def run_workers(grid: Study, out: Path, arguments: Sequence[str], workers: int) -> None:
    """Runs a study by several processes of this machine, and shows how far they are.

    Each gets its share of the processors, or a GPU of its own. A worker's output is in the folder's
    `workers/`.

    Args:
      grid: what to run.
      out: the study's folder.
      arguments: of `xfer-jax`, what one worker is called with.
      workers: how many.

    Raises:
      RequestError: a wrong request; nothing has been run then.
      RunError: jobs failed, or a worker did; the others have gone on.
      PreemptedError: SIGTERM; the workers have saved their work.
    """
    if workers < 1:
        raise RequestError(f"--workers must be at least 1, not {workers}")
    every = {job.name: job for job in study.jobs(grid)}
    done = study.check(grid, list(every.values()), out)
    book = ledger.Ledger(out)
    book.enter(done)
    (out / LOGS).mkdir(exist_ok=True)
    processes = [_start(arguments, out / LOGS / f"{i}.log", i, workers) for i in range(workers)]
    try:
        with _sigterm_raises():
            planning.follow(grid, out, until=lambda: all(p.poll() is not None for p in processes))
    except BaseException:
        for process in processes:
            process.terminate()  # they save, and end
        for process in processes:
            process.wait()
        raise
    progress.say(f"\n{scores.matrices(scores.collect(grid, out))}\n\nscores: {out / scores.FILE}")
    _raise_failures(book, every)
    broken = [i for i, process in enumerate(processes) if process.returncode]
    if broken:
        log = out / LOGS / f"{broken[0]}.log"
        *_, words = ["nothing", *log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]]
        raise RunError(f"{len(broken)} of {workers} workers failed; the end of {log}: {words}")


def _start(arguments: Sequence[str], log: Path, index: int, workers: int) -> subprocess.Popen:
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    gpus = _gpus()
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    command = [sys.executable, "-m", "xfer_jax.cli", *arguments]
    with log.open("w") as written:
        process = subprocess.Popen(command, env=environment, stdout=written, stderr=written)
    if not gpus and hasattr(os, "sched_setaffinity"):  # Linux; JAX then makes as many threads
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process.pid, cores[index % len(cores) :: workers])
    return process


def _gpus() -> list[str]:
    """Returns the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name for name in allowed.split(",") if name not in ("", "-1")]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def machine_workers() -> int:
    """Returns how many workers suit this machine.

    A GPU each; one where there are TPUs, which one process holds; else a core each, four at most.
    """
    if any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*")):
        return 1
    if not hasattr(os, "sched_getaffinity"):  # not Linux: cores cannot be shared out
        return 1
    return len(_gpus()) or min(len(os.sched_getaffinity(0)), 4)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def note(*_: object) -> None:
        raise PreemptedError("ended by SIGTERM; the same command goes on")

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
