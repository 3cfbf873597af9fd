"""Runs a study under what happens to processes on shared machines, and compares what it ends with.

    python -m benchmarks.hostile

One study runs undisturbed, with two workers. The same study runs 20 times more under hostile
conditions: owners in PID namespaces that share a host name, processes suspended for two minutes,
clocks a day fast and a day slow, two owners at once, an owner or a worker killed (SIGKILL) at
moments drawn from a seed. Each must end with all jobs done, none of them twice, and with the
undisturbed one's tables, predictions and weights to the byte. Exit code 1 if one does not. Linux
only; the namespaces and the clocks of others need root.
"""

import argparse
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import kill_resume, record
from seqio_tasks.errors import RequestError
from xfer_jax.study import folder_lock
from xfer_jax.study.job_record import DONE_FILE

DAY = 86_400
UNDISTURBED = "run-00"  # folders' names are equally long: gin breaks a long line of config.gin
# Python reads a module of this name before anything else, and so do the workers.
CLOCK = """\
import os, time
_shift, _time, _gmtime = float(os.environ["HOSTILE_CLOCK"]), time.time, time.gmtime
time.time = lambda: _time() + _shift
time.time_ns = lambda: int(time.time() * 1e9)
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
"""


@dataclasses.dataclass
class Run:
    """One study under one condition."""

    file: Path
    out: Path
    log: Path
    draws: random.Random
    seconds: float  # that the undisturbed study took
    suspended: float  # seconds
    owners: list[subprocess.Popen] = dataclasses.field(default_factory=list)
    refused: int = 0  # owners that were told of another

    def start(self, *before: str, **environment: str) -> subprocess.Popen:
        """Starts an owner with two workers.

        Args:
          before: of the command line: what starts it.
          environment: beside this process's.
        """
        command = [sys.executable, "-m", "xfer_jax.cli", "study", "run", str(self.file)]
        with self.log.open("a") as written:
            owner = subprocess.Popen(
                [*before, *command, "--out", str(self.out), "--workers", "2"],
                stdout=written,
                stderr=written,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
                start_new_session=True,
            )
        self.owners.append(owner)
        return owner

    def wait(self, owner: subprocess.Popen, least: float = 0.0) -> None:
        """Waits for a moment drawn from the study's time, or until the owner has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            owner.wait(max(least, self.draws.uniform(0, self.seconds)))

    def try_another(self, first: subprocess.Popen, *before: str, **environment: str) -> None:
        """Starts a second owner, which must be refused while the first one lives."""
        code = self.start(*before, **environment).wait()
        if code == 0 and first.poll() is not None:  # the study was done by then
            return
        if code != 2:
            raise RuntimeError(f"a second owner ended with {code}, not 2")
        self.refused += 1

    def finish(self) -> None:
        """Runs the study to its end; a job that failed as its worker was killed is tried again."""
        for _ in range(3):
            if self.start().wait() == 0:
                return
        raise RuntimeError("the study did not end")


# --- Conditions -----------------------------------------------------------------------------------


def namespaces(run: Run) -> None:
    """Two owners with the same host name and the same process ids, one killed."""
    apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")
    first = run.start(*apart)
    _until_owned(run, first)
    run.try_another(first, *apart)
    run.wait(first)
    kill_resume.end(first)
    second = run.start(*apart)
    run.wait(second)
    kill_resume.end(second)


def suspended_owner(run: Run) -> None:
    """The owner is stopped with SIGSTOP, and goes on after others have tried to take its study."""
    _suspend(run, lambda owner: [owner.pid])


def suspended_worker(run: Run) -> None:
    """A worker is stopped in the middle of a job, and goes on."""
    _suspend(run, lambda owner: _workers(owner)[:1])


def suspended_all(run: Run) -> None:
    """The owner and its workers are stopped, and go on."""
    _suspend(run, lambda owner: [owner.pid, *_workers(owner)])


def clocks(run: Run) -> None:
    """Owners on machines whose clocks are a day fast and a day slow, both killed."""
    folder = run.log.parent / "clock"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    for shift in (DAY, -DAY):
        wrong = {"PYTHONPATH": str(folder), "HOSTILE_CLOCK": str(shift)}
        owner = run.start(**wrong)
        _until_owned(run, owner)
        run.try_another(owner, PYTHONPATH=str(folder), HOSTILE_CLOCK=str(-shift))
        run.wait(owner)
        kill_resume.end(owner)


def two_owners(run: Run) -> None:
    """Two owners at the same moment: one does everything, the other is refused."""
    codes = [owner.wait() for owner in (run.start(), run.start())]
    if sorted(codes) != [0, 2]:
        raise RuntimeError(f"two owners ended with {codes}, not with 0 and 2")
    run.refused += 1


def killed_owner(run: Run) -> None:
    """The owner alone is killed, three times; the next one starts while its workers still live."""
    for _ in range(3):
        owner = run.start()
        run.wait(owner)
        owner.kill()
        owner.wait()


def killed_worker(run: Run) -> None:
    """A worker is killed, three times: its job fails, and the same command tries it again."""
    for _ in range(3):
        owner = run.start()
        run.wait(owner)
        for pid in _workers(owner)[:1]:
            _signal(pid, signal.SIGKILL)
        owner.wait()


CONDITIONS: tuple[tuple[Callable[[Run], None], int], ...] = (  # and how often
    (namespaces, 3),
    (suspended_owner, 1),
    (suspended_worker, 1),
    (suspended_all, 1),
    (clocks, 3),
    (two_owners, 3),
    (killed_owner, 4),
    (killed_worker, 4),
)


def _suspend(run: Run, which: Callable[[subprocess.Popen], list[int]]) -> None:
    owner = run.start()
    _until_owned(run, owner)
    run.wait(owner, least=1.0)
    if owner.poll() is not None:
        return
    stopped = which(owner)
    for pid in stopped:
        _signal(pid, signal.SIGSTOP)
    deadline = time.monotonic() + run.suspended
    if folder_lock.owner(run.out) is None:  # it had done everything, and was about to end
        deadline = 0.0
    try:
        while time.monotonic() < deadline and owner.poll() is None:
            run.try_another(owner)
            time.sleep(5)
    finally:
        for pid in stopped:
            _signal(pid, signal.SIGCONT)
    owner.wait()


def _until_owned(run: Run, owner: subprocess.Popen) -> None:
    """Waits until an owner holds the study."""
    while owner.poll() is None and folder_lock.owner(run.out) is None:
        time.sleep(0.05)


def _workers(owner: subprocess.Popen) -> list[int]:
    """Returns the process ids of an owner's workers."""
    listed = subprocess.run(
        ["pgrep", "-P", str(owner.pid), "-f", "xfer_jax.study.worker"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in listed.stdout.split()]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# --- The benchmark --------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(out: Path) -> Iterator[list[str]]:
    """Yields a list, which gets the name of every job that is done a second time."""
    twice: list[str] = []
    seen: dict[Path, int] = {}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            with contextlib.suppress(FileNotFoundError):  # what is removed while it is looked at
                for path in out.rglob(DONE_FILE):
                    written = path.stat().st_mtime_ns
                    if seen.setdefault(path, written) != written:
                        seen[path] = written
                        twice.append(str(path.parent.relative_to(out)))

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield twice
    finally:
        ended.set()
        looker.join()


def hostile(condition: Callable[[Run], None], run: Run, undisturbed: Path) -> dict[str, Any]:
    """Runs a study under one condition, and says what was wrong with its end."""
    began = time.monotonic()
    wrong: list[str] = []
    with watched(run.out) as twice:
        try:
            condition(run)
            run.finish()
        except RuntimeError as error:
            wrong.append(str(error))
        finally:
            for owner in run.owners:
                kill_resume.end(owner)
    jobs = {str(path.parent.relative_to(undisturbed)) for path in undisturbed.rglob(DONE_FILE)}
    wrong += [f"{name} was done twice" for name in twice]
    wrong += [f"{name} is lost" for name in jobs if not (run.out / name / DONE_FILE).is_file()]
    try:
        wrong += kill_resume.differences(run.out, undisturbed)
    except RequestError as error:  # a checkpoint that cannot be read
        wrong.append(str(error))
    return {
        "condition": condition.__name__,
        "seconds": round(time.monotonic() - began, 1),
        "owners": len(run.owners),
        "refused_owners": run.refused,
        "wrong": wrong,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [condition.__name__ for condition, _ in CONDITIONS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CONDITION")
    parser.add_argument("--steps", type=int, default=60, help="of each of the long runs")
    parser.add_argument("--suspended", type=float, default=120.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/hostile"))
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    out = args.out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    file, log, draws = kill_resume.study_file(out, args.steps), out / "log.txt", random.Random(0)
    seconds = 0.0
    for _ in ("warm-up", "undisturbed"):
        began = time.monotonic()
        shutil.rmtree(out / UNDISTURBED, ignore_errors=True)
        Run(file, out / UNDISTURBED, log, draws, 0.0, 0.0).finish()
        seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    found = []
    for condition, times in CONDITIONS:
        for number in range(times if condition.__name__ in args.only else 0):
            name = f"{condition.__name__}-{number}"
            draws = random.Random(f"{args.seed} {name}")
            folder = out / f"run-{len(found) + 1:02}"
            run = Run(file, folder, log, draws, seconds, args.suspended)
            found.append(hostile(condition, run, out / UNDISTURBED))
            print(found[-1], flush=True)
    bad = sum(bool(of["wrong"]) for of in found)
    path = record.keep(
        "hostile",
        {
            "seed": args.seed,
            "undisturbed_seconds": round(seconds, 1),
            "suspended_seconds": args.suspended,
            "runs": len(found),
            "wrong_runs": bad,
            "by_run": found,
            "not_compared": kill_resume.EXEMPT,
        },
        args.results,
    )
    print(f"{len(found) - bad} of {len(found)} as they should be; wrote {path}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
