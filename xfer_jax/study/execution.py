"""Runs a study: one process owns its folder, knows the graph of jobs, and hands them out.

A job is done when `done.json` is in its folder, and by nothing else. The owner holds a lock on the
study's folder, which its workers inherit: no second owner starts while one of them is alive. A job
locks its own folder too, for schedulers that run jobs one by one.
"""

import contextlib
import errno
import heapq
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from seqio_tasks import data_files, files
from seqio_tasks.errors import NotReadyError, PreemptedError, RequestError, RunError
from xfer_jax import configuration
from xfer_jax.checkpoints import locations
from xfer_jax.engine import probe, retrieval, train
from xfer_jax.runtime import host_memory, progress
from xfer_jax.study import (
    checks,
    collect,
    folder_lock,
    job_graph,
    job_record,
    job_settings,
    status,
)  # fmt: skip
from xfer_jax.study.definition import Study
from xfer_jax.study.job import Job

LOGS = "workers"  # folder in the study's: what its workers print
DONE, FAILED, STOPPED = "done", "failed", "stopped"  # how an attempt ends; STOPPED: so must all
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_WORKERS = 256  # on one machine
_LOOK_SECONDS = 1.0  # between looks at workers that say nothing


class Outcome(NamedTuple):
    """How an attempt at a job ended, and why."""

    kind: str
    reason: str = ""


def run(study: Study, out: Path, workers: int | None = None) -> None:
    """Does a study's jobs that are not done, and collects the scores.

    A job that fails is not tried again in this run, and those that start from it are not run.

    Args:
      study: what to run.
      out: the study's folder.
      workers: processes with a GPU or some of the processors each; None: in this process.

    Raises:
      RequestError: a wrong request, or another process runs this study; nothing has been run then.
      RunError: jobs failed, the others are done; or the disk is full.
      PreemptedError: SIGTERM; all work is saved.
    """
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise RequestError(f"--workers must be from 1 to {_MOST_WORKERS}, not {workers}")
    every = job_graph.lay_out(study)
    done = checks.check(study, every, out)
    graph = _Graph(every, done)
    if graph.ready:
        data_files.writable_cache()  # every job needs it: said once, and before the first
    with folder_lock.owned(out, "the study") as lock:
        files.tidy(out)
        if workers is None:
            _do_here(study, out, graph)
        elif graph.ready:
            _hand_out(study, out, graph, min(workers, len(every) - len(done)), lock)
        progress.say(collect.collect(study, out))
    graph.raise_failures()


def run_job(study: Study, out: Path, name: str) -> None:
    """Does one job; nothing if it is done.

    Raises:
      RequestError: no such job, or a process does it or owns the study.
      NotReadyError: the job that it starts from is not done.
      RunError, PreemptedError: as `train.train`.
    """
    job = job_graph.find(job_graph.lay_out(study), name)
    if job_record.read(out, name):
        progress.say(f"{name} is done")
        return
    if job.parent and not job_record.read(out, job.parent.name):
        raise NotReadyError(
            f"{name} starts from {job.parent.name}, which is not done: do that first"
        )
    held = folder_lock.owner(out)
    if held:
        raise RequestError(f"the study in {out} is being run by {held}: it does all its jobs")
    checks.check(study, [job], out)
    outcome = attempt(study, out, job)
    if outcome.kind != DONE:
        raise RunError(f"{name} failed: {outcome.reason}")


# --- The graph ------------------------------------------------------------------------------------


class _Graph:
    """Which jobs are ready, and what became of the others; linear in the number of jobs."""

    def __init__(self, every: Sequence[Job], done: set[str]):
        self.jobs = every
        self.done = set(done)
        self.failed: dict[str, str] = {}
        self.running: dict[str, str] = {}  # how far they are
        self._place = {job.name: i for i, job in enumerate(every)}
        self._children: dict[str, list[str]] = {job.name: [] for job in every}
        for job in every:
            if job.parent:
                self._children[job.parent.name].append(job.name)
        todo = [job for job in every if job.name not in done]
        begun = (job for job in todo if not job.parent or job.parent.name in done)
        self.ready = [self._place[job.name] for job in begun]  # a heap: first listed, first done

    def take(self) -> Job:
        """Returns the first job that is ready."""
        job = self.jobs[heapq.heappop(self.ready)]
        self.running[job.name] = ""
        return job

    def end(self, job: Job, outcome: Outcome) -> None:
        """Notes how a job ended.

        Raises:
          RunError: nothing else can be done, either.
        """
        name = job.name
        self.running.pop(name)
        if outcome.kind == STOPPED:
            raise RunError(outcome.reason)
        if outcome.kind == FAILED:
            self.failed[name] = outcome.reason
            for child in self._descendants(name):
                self.failed[child] = f"not run: {name} failed"
        else:
            self.done.add(name)
            for child in self._children[name]:
                if child not in self.done:
                    heapq.heappush(self.ready, self._place[child])
        ended = len(self.done) + len(self.failed)
        why = f": {outcome.reason}" if outcome.reason else ""
        progress.say(f"[{ended}/{len(self.jobs)}] {name} {outcome.kind}{why}")

    def _descendants(self, name: str) -> Iterator[str]:
        for child in self._children[name]:
            if child not in self.done:
                yield child
                yield from self._descendants(child)

    def state(self) -> str:
        """Renders what `status.render` shows beside what is done."""
        return json.dumps({"running": self.running, "failed": self.failed})

    def raise_failures(self) -> None:
        """Raises RunError if jobs failed."""
        tried = {name: why for name, why in self.failed.items() if not why.startswith("not run")}
        if tried:
            rest = len(self.failed) - len(tried)
            shown = "; ".join(f"{name}: {why}" for name, why in list(tried.items())[:3])
            raise RunError(
                f"{len(tried)} of {len(self.jobs)} jobs failed"
                + (f", and {rest} that start from them were not run" if rest else "")
                + f": {shown}"
            )


# --- One job --------------------------------------------------------------------------------------


def attempt(study: Study, out: Path, job: Job) -> Outcome:
    """Does one job, and returns how that ended; a defect of this program is raised."""
    try:
        _do(study, job, out)
    except (RequestError, RunError) as error:
        return Outcome(STOPPED if "No space left" in str(error) else FAILED, str(error))
    except Exception as error:
        is_full = isinstance(error, OSError) and error.errno in _FULL
        if is_full or any(os.strerror(number) in str(error) for number in _FULL):  # Orbax's too
            return Outcome(
                STOPPED,
                f"the disk of {out} is full: make room and run the study again; what is done is"
                " kept, and the job that was running goes on from its last checkpoint",
            )
        raise
    return Outcome(DONE)


def _do(study: Study, job: Job, out: Path) -> None:
    """Does a job, and writes `done.json`, last."""
    folder, began = out / job.name, time.monotonic()
    with folder_lock.owned(folder, "the job"):
        if job_record.read(out, job.name):
            return
        if study.engine == "t5x" and job.stage.action == "train":
            _run_t5x(study, job, out)
        else:
            settings, text = job_settings.load(study, job, out)
            if isinstance(settings, train.Run):
                train.train(settings, text)
            elif isinstance(settings, probe.Probe):
                probe.probe(settings, text)
            else:
                retrieval.retrieve(settings, text)
        if not job.stage.keep:
            locations.keep(folder, 0)
        job_record.write(study, job, out, time.monotonic() - began)


def _run_t5x(study: Study, job: Job, out: Path) -> None:
    """Does a job by T5X's own binary, with the same files and bindings.

    Raises:
      RunError: it failed; says where its log is.
    """
    of_job = job_settings.gin_files(study, job.stage, job.task)
    gin_files = ("t5x_configs/finetune.gin", *of_job)
    bindings = job_settings.bindings(study, job, out)
    command = [sys.executable, "-m", "t5x.train"]
    command += [f"--gin_search_paths={configuration.shipped_dir()}"]
    command += [f"--gin_file={file}" for file in gin_files]
    command += [f"--gin.{binding.replace(' = ', '=', 1)}" for binding in bindings]
    log = out / job.name / "t5x.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as written:
        code = subprocess.run(command, stdout=written, stderr=written, check=False).returncode
    if code:
        raise RunError(f"T5X ended with exit code {code}; its messages are in {log}")


# --- Here, or by workers --------------------------------------------------------------------------


def _do_here(study: Study, out: Path, graph: _Graph) -> None:
    while graph.ready:
        job = graph.take()
        progress.say(f"\n[{len(graph.done) + 1}/{len(graph.jobs)}] {job.name}")
        files.write(out / status.STATE, graph.state())
        graph.end(job, attempt(study, out, job))
    files.write(out / status.STATE, graph.state())


def _hand_out(study: Study, out: Path, graph: _Graph, count: int, lock: int) -> None:
    """Has workers do the jobs, and shows how far they are until nothing is left to do."""
    (out / LOGS).mkdir(exist_ok=True)
    workers = [_Worker(study, out, lock, index, count) for index in range(count)]
    try:
        with _sigterm_raises(), status.Display(graph.jobs, out) as display:
            while graph.ready or graph.running:
                for worker in workers:
                    if worker.job is None and graph.ready:
                        if worker.process.poll() is not None:  # it died with its last job
                            worker.start()
                        worker.give(graph.take())
                busy = [worker.connection for worker in workers if worker.job is not None]
                said = wait(busy, _LOOK_SECONDS)
                for worker in (worker for worker in workers if worker.connection in said):
                    outcome = worker.hear(graph.running)
                    if outcome is not None:
                        job, worker.job = worker.job, None
                        if job is not None:
                            graph.end(job, outcome)
                files.write(out / status.STATE, graph.state())
                display.show()
    finally:
        for worker in workers:
            worker.process.terminate()  # one that is at work saves it, and ends
        for worker in workers:
            worker.process.wait()


class _Worker:
    """A process that does one job after another, see `worker`."""

    def __init__(self, study: Study, out: Path, lock: int, index: int, count: int):
        self.job: Job | None = None
        self._log = out / LOGS / f"{index}.log"
        self._environment = os.environ | {"PYTHONUNBUFFERED": "1"} | host_memory.large_pages()
        self._lock = lock
        cores = None
        gpus = _gpus()
        if gpus:
            self._environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
        elif hasattr(os, "sched_getaffinity"):  # Linux; JAX then makes as many threads
            every = sorted(os.sched_getaffinity(0))
            cores = every[index % len(every) :: count]
        self._first = (study, out, cores)
        self._log.unlink(missing_ok=True)
        self.start()

    def start(self) -> None:
        """Starts the process, again if it has ended."""
        ours, theirs = socket.socketpair()
        with self._log.open("a", encoding="utf-8") as written:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "xfer_jax.study.worker", str(theirs.fileno())],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                pass_fds=(theirs.fileno(), self._lock),
            )
        theirs.close()
        self.connection = Connection(ours.detach())
        self._send(self._first)

    def give(self, job: Job) -> None:
        """Has the worker do a job."""
        self.job = job
        self._send(job)

    def _send(self, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: `hear` says how
            self.connection.send(message)

    def hear(self, running: dict[str, str]) -> Outcome | None:
        """Takes what the worker says; notes how far it is, and returns how its job ended."""
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            code = self.process.wait()
            written = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            last = written[-1] if written else "nothing"
            return Outcome(FAILED, f"its worker ended with {code}; the end of {self._log}: {last}")
        if isinstance(message, Outcome):
            return message
        if self.job is not None:
            running[self.job.name] = message
        return None


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
