"""Kills a study at random moments, starts it again each time, and compares what it ends with.

    python -m benchmarks.kill_resume --kills 50

One pocket study runs undisturbed. The same study runs again in another folder, and is killed
(SIGKILL) at moments drawn from a seed. Its tables, outputs, parameters and optimizer states must be
equal to the byte. Exit code 1 if they are not.
"""

import argparse
import collections
import contextlib
import fnmatch
import functools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import record
from xfer_jax.checkpoints import locations, run_file, store
from xfer_jax.study import folder_lock, status

STUDY = """\
study.Study:
  model = 'pocket'
  stages = (@pretrained/study.Stage(), @source/study.Stage(), @few_shot/study.Stage())
  targets = ('en', 'sw', 'hi')
  settings = (
      'World.train_examples = 300',
      'World.eval_examples = 60',
      'World.text_sentences = 500',
      'TRAIN_STEPS = {pretrain}',
      'TRAIN_STEPS_RELATIVE = {steps}',
      'SAVE_PERIOD = 20',
      'EVAL_PERIOD = 40',
      'DROPOUT_RATE = 0.1',
      'BATCH_SIZE = 16',
  )

pretrained/study.Stage.tasks = ('pocket_text',)

source/study.Stage:
  start_from = ('pretrained',)
  tasks = ('pocket_ner',)
  train_on = ('en', 'hi')
  score_on = 'targets'

few_shot/study.Stage:
  start_from = ('source',)
  train_on = 'other_targets'
  variants = {{'n16': ('TRAIN_STEPS_RELATIVE = 10', 'SAVE_PERIOD = 5')}}
  score_on = 'same'
  keep = False
"""
STEPS = 120


def study_file(folder: Path, steps: int = STEPS) -> Path:
    """Writes the study that is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.gin"
    path.write_text(STUDY.format(steps=steps, pretrain=steps))
    return path


def start(file: Path, out: Path, log: Path) -> subprocess.Popen:
    """Starts a worker."""
    return command(["study", "run", str(file), "--out", str(out)], log)


def command(arguments: Sequence[str], log: Path, **environment: str) -> subprocess.Popen:
    """Starts `xfer-jax`, with the processes that it starts as a group of their own."""
    with log.open("a") as written:
        return subprocess.Popen(
            [sys.executable, "-m", "xfer_jax.cli", *arguments],
            stdout=written,
            stderr=written,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            start_new_session=True,
        )


def end(worker: subprocess.Popen) -> None:
    """Kills a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def finish(worker: subprocess.Popen, log: Path, already: str = "") -> None:
    """Waits for a worker that nobody kills.

    Args:
      worker: its process.
      log: what it prints.
      already: how it ends what it prints when it finds its work done, and refuses to do it again.
    """
    try:
        code = worker.wait()
    except BaseException:  # else it would go on by itself
        end(worker)
        raise
    if code != 0 and not (already and log.read_text().endswith(already)):
        sys.exit(f"it failed when nobody killed it:\n{log.read_text()[-2000:]}")


# What two runs of one command need not have alike, and why.
EXEMPT = {
    "events.out.tfevents.*": "TensorBoard writes the time of day into every record",
    "done.json": "holds the seconds that a job took",
    "inputs.json": "holds a digest of the initial checkpoint's files, which Orbax names by chance",
    "state.json": "says what was being done when it was written",
    "programs": "compiled programs, whose names hold the cache folder's path and which hold times",
    "*.log": "says what was done in this very process",
    "checkpoint_*": "Orbax names files by chance: the arrays are compared instead",
    ".*": "left by what was killed under a name of chance; nobody reads it",
}


def differences(out: Path, expected: Path) -> list[str]:
    """Returns the files and checkpoints of two folders that are not equal to the byte."""
    found = []
    names = {
        str(path.relative_to(folder))
        for folder in (out, expected)
        for path in folder.rglob("*")
        if path.is_file() and not _is_exempt(path.relative_to(folder))
    }
    for name in sorted(names):
        contents = [
            (folder / name).read_bytes() if (folder / name).is_file() else None
            for folder in (out, expected)
        ]
        own = (str(out).encode(), str(expected).encode())  # config.gin names its own folder
        if None in contents or contents[0].replace(own[0], b"") != contents[1].replace(own[1], b""):
            found.append(name)
    jobs = {
        str(path.parent.relative_to(folder))
        for folder in (out, expected)
        for path in folder.glob("**/checkpoint_*")
    }
    for job in sorted(jobs):
        trees = [_arrays(folder / job, folder) for folder in (out, expected)]
        found += [
            f"{job}: {name}"
            for name in sorted(trees[0].keys() | trees[1].keys())
            if trees[0].get(name) != trees[1].get(name)
        ]
    return found


def _is_exempt(path: Path) -> bool:
    """Whether a path, relative to its folder, is one of EXEMPT, or lies in such a folder."""
    every = [path, *path.parents][:-1]
    names = [str(part) for part in every] + [part.name for part in every]
    return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in EXEMPT)


def _arrays(model_dir: Path, out: Path) -> dict[str, bytes]:
    """Returns all of a run's last checkpoint, paths below `out` alike; nothing if it has none."""
    if not locations.steps(model_dir):
        return {}
    location = locations.locate(model_dir)
    contents = store.read(location)
    arrays = {name: array.read(()).tobytes() for name, array in contents.arrays.items()}
    about = json.dumps(run_file.about(location), sort_keys=True).replace(str(out), "")
    return arrays | {"step": str(contents.step).encode(), "about": about.encode()}


def longest_life(startup: float, work: float, kills: int) -> float:
    """Returns from what interval to draw lives, so that the kills spread over the whole study.

    A life of t seconds, even in [0, L], does max(t - startup, 0) of work, (L - startup)²/2L in the
    mean; L is such that the kills take four fifths of the work.
    """
    a = 0.8 * work / kills
    return startup + a + math.sqrt(a * a + 2 * a * startup)


def kill_often(
    begin: Callable[[], subprocess.Popen],
    log: Path,
    kills: int,
    longest: float,
    seed: int,
    doing: Callable[[int], str] = lambda pid: "",
    already: str = "",
) -> dict[str, int]:
    """Runs a command, killed again and again with all that it has started, to its end.

    Args:
      begin: starts it.
      log: what it prints goes there.
      kills: how many.
      longest: seconds; after how many it is killed is drawn from 0 to this.
      seed: of the draws.
      doing: says what a process has been doing.
      already: see `finish`.

    Returns:
      How many kills fell upon what it was doing.
    """
    draws = random.Random(seed)
    hit: collections.Counter[str] = collections.Counter()
    for number in range(kills):
        worker = begin()
        deadline = time.monotonic() + draws.uniform(0, longest)
        try:
            while worker.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        except BaseException:
            end(worker)
            raise
        if worker.poll() is not None:
            finish(worker, log, already)
            break  # it was done before all kills were
        end(worker)
        hit[doing(worker.pid)] += 1
        print(f"\r{number + 1}/{kills} kills", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    finish(begin(), log, already)
    return dict(hit)


def _running(out: Path, worker: int) -> str:
    """Returns the job that a worker's process was doing."""
    state = out / status.STATE
    said = folder_lock.said(out)
    if f"process {worker} on " not in said or not state.is_file():
        return "start-up"
    return next(iter(json.loads(state.read_text("utf-8"))["running"]), "between jobs")


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each of the long runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/kill_resume"))
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    out = args.out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    file, log = study_file(out, args.steps), out / "log.txt"
    finish(start(file, out / "warm-up", log), log)  # fills the caches
    began = time.monotonic()
    finish(start(file, out / "undisturbed", out / "undisturbed.txt"), out / "undisturbed.txt")
    whole = time.monotonic() - began
    working = sum(
        json.loads(path.read_text("utf-8"))["seconds"]
        for path in (out / "undisturbed").glob("**/done.json")
    )
    longest = longest_life(whole - working, working, args.kills)
    print(
        f"undisturbed: {whole:.0f} s, {working:.0f} of them at work;"
        f" {args.kills} kills after 0 to {longest:.1f} s each"
    )
    hit: collections.Counter[str] = collections.Counter()
    different: list[str] = []
    rounds = 0
    while sum(hit.values()) < args.kills:
        folder = out / f"killed-{rounds}"
        left = args.kills - sum(hit.values())
        hit.update(
            kill_often(
                functools.partial(start, file, folder, log),
                log,
                left,
                longest,
                args.seed + rounds,
                functools.partial(_running, folder),
            )
        )
        different += differences(folder, out / "undisturbed")
        rounds += 1
    for job, count in sorted(hit.items(), key=lambda item: -item[1]):
        print(f"  {count:>3} kills in {job}")
    verdict = "different: " + ", ".join(different) if different else "all equal to the byte"
    print(f"{sum(hit.values())} kills in {rounds} studies; {verdict}")
    path = record.keep(
        "kill_resume",
        {
            "kills": sum(hit.values()),
            "studies": rounds,
            "seed": args.seed,
            "undisturbed_seconds": round(whole, 1),
            "longest_life_seconds": round(longest, 1),
            "kills_by_job": dict(hit),
            "different": different,
        },
        args.results,
    )
    print(f"wrote {path}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
