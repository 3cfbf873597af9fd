"""Kills every command that writes at random moments, and flips bits of what it wrote.

    python -m benchmarks.kills

A command runs undisturbed. The same command runs again, is killed (SIGKILL, with all that it has
started) at moments drawn from a seed, and is started again until it ends. What it leaves must equal
the undisturbed one's to the byte; `kill_resume.EXEMPT` says what is not compared, and why. Then a
bit is flipped anywhere in a checkpoint or a cache of tokens: it must be refused, made anew, or
change no weight and no token. Exit code 1 if anything else happens.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np

from benchmarks import kill_resume, record, train_step
from seqio_tasks import catalogue, data_config
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import checksums, locations, run_file, store
from xfer_jax.data import token_cache
from xfer_jax.data.token_cache import INPUTS, TARGETS

KILLS = {"train": 12, "study": 12, "convert": 8, "analyze": 8, "report": 8, "vocab": 6, "cache": 6}
FLIPS = 40
LANGUAGES = ("ar", "bn", "de", "en", "es", "fi", "hi", "id", "ru", "sw")
# Large enough for a kill to fall into its conversion.
SIZES = train_step.SIZES | {
    "vocab_size": 32_000, "emb_dim": 512, "num_encoder_layers": 2, "num_decoder_layers": 2,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Subject:
    """A command that is killed."""

    name: str
    # the folder that it is to fill -> arguments of `xfer-jax`
    arguments: Callable[[Path], list[str]]
    goes_on: bool = False  # where it was, when it is started again; else it begins anew
    # what is there before it begins: fills the folder
    before: Callable[[Path], Any] = lambda out: out.mkdir(parents=True)
    # of the environment, by the folder
    environment: Callable[[Path], dict[str, str]] = lambda out: {}
    already: str = ""  # what it says, and refuses, when a kill came after its last deed


# --- What is killed -------------------------------------------------------------------------------


def scores_table(path: Path) -> None:
    """Writes a table of ten languages' scores."""
    draws = random.Random(0)
    rows = [f"{a},{b},{draws.uniform(20, 90):.2f}\n" for a in LANGUAGES for b in LANGUAGES]
    path.write_text("source,target,score\n" + "".join(rows), encoding="utf-8")


def _train(out: Path, steps: int, examples: int) -> list[str]:
    settings = {
        "MODEL_DIR": str(out / "run"), "TRAIN_STEPS": steps, "TRAIN_STEPS_RELATIVE": None,
        "SAVE_PERIOD": 20, "EVAL_PERIOD": 40, "DROPOUT_RATE": 0.1, "BATCH_SIZE": 16,
        "TARGETS": ("en", "sw"), "World.train_examples": examples, "World.eval_examples": 60,
        "World.text_sentences": 500,
    }  # fmt: skip
    files = ["--gin_file=gin/models/pocket.gin", "--gin_file=gin/tasks/pocket_nli.gin"]
    return ["train", *files, *(f"--gin.{name}={value!r}" for name, value in settings.items())]


def subjects(folder: Path, steps: int) -> dict[str, Subject]:
    """Returns the commands by name; what they read is made in a folder."""
    table, analysis, weights = (folder / name for name in ("scores.csv", "analysis", "weights"))
    file = kill_resume.study_file(folder, steps)

    def analyze(out: Path) -> list[str]:
        return ["analyze", f"--scores={table}", f"--out={out / 'analysis'}", "--permutations=1000"]

    every = (
        Subject("train", lambda out: _train(out, steps, 300), goes_on=True),
        Subject(
            "study",
            lambda out: ["study", "run", str(file), "--out", str(out), "--workers", "2"],
            goes_on=True,
        ),
        Subject(
            "convert",
            lambda out: ["convert", str(weights), str(out / "made"), "--to=native"],
            already="exists; remove it or choose another destination\n",
        ),
        Subject("analyze", analyze),
        Subject(
            "report",
            lambda out: ["report", str(out)],
            before=functools.partial(shutil.copytree, analysis),
        ),
        Subject(
            "vocab",
            lambda out: [
                "vocab", "--tasks=xfer_pocket_ner.all_langs", "--size=400", f"--out={out}/v.model"
            ],
        ),
        Subject(
            "cache",
            lambda out: _train(out, 1, 4000),
            environment=lambda out: {"XFER_CACHE_DIR": str(out / "cache")},
        ),
    )  # fmt: skip
    scores_table(table)
    weights.mkdir(exist_ok=True)
    train_step.write_weights(weights, SIZES)
    log = folder / "made.txt"
    kill_resume.finish(kill_resume.command(analyze(folder), log), log)
    return {subject.name: subject for subject in every}


def kill(
    subject: Subject, folder: Path, kills: int, seed: int, warm_up: bool = True
) -> dict[str, Any]:
    """Kills a command so many times; returns what was different in the end.

    Args:
      subject: the command.
      folder: for all that it makes.
      kills: how many.
      seed: of the moments.
      warm_up: run it once before its time is taken, which fills the cache of programs.
    """
    log = folder / f"{subject.name}.txt"

    def begin(out: Path) -> Any:
        return kill_resume.command(subject.arguments(out), log, **subject.environment(out))

    for name in ("warm-up", "undisturbed") if warm_up else ("undisturbed",):
        out = folder / name / subject.name
        out.parent.mkdir(parents=True, exist_ok=True)
        subject.before(out)
        began = time.monotonic()
        kill_resume.finish(begin(out), log)
    whole = time.monotonic() - began
    longest = whole
    if subject.goes_on:
        began = time.monotonic()
        kill_resume.finish(begin(out), log)  # it finds all done: what is left is its start
        startup = time.monotonic() - began
        longest = kill_resume.longest_life(startup, max(whole - startup, 1.0), kills)
    done, rounds, different = 0, 0, []
    leftovers = 0
    while done < kills:
        killed = folder / f"killed-{rounds}" / subject.name
        killed.parent.mkdir(parents=True, exist_ok=True)
        subject.before(killed)
        hit = kill_resume.kill_often(
            functools.partial(begin, killed),
            log,
            kills - done,
            longest,
            seed + rounds,
            already=subject.already,
        )
        done += sum(hit.values())
        different += kill_resume.differences(killed, folder / "undisturbed" / subject.name)
        leftovers += sum(path.name.startswith(".") for path in killed.rglob("*"))
        rounds += 1
    return {
        "kills": done,
        "rounds": rounds,
        "undisturbed_seconds": round(whole, 1),
        "longest_life_seconds": round(longest, 1),
        "different": different,
        "left_under_temporary_names": leftovers,
    }


# --- Flipped bits ---------------------------------------------------------------------------------


def flip(folder: Path, draws: random.Random) -> str:
    """Flips one bit of one file; returns which.

    Every other time the file is drawn by its size, else all files are as likely: most bits are of
    weights, but the small files say what they mean.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = [path.stat().st_size if draws.random() < 0.5 else 1 for path in files]
    (path,) = draws.choices(files, sizes if draws.random() < 0.5 else None)
    content = bytearray(path.read_bytes())
    place, bit = draws.randrange(len(content)), draws.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.relative_to(folder)}, byte {place}, bit {bit}"


def flips(
    whole: Path, scratch: Path, read: Callable[[Path], Any], count: int, seed: int
) -> dict[str, Any]:
    """Flips bits, one at a time, in copies of a folder.

    Args:
      whole: what is copied.
      scratch: the copy, made anew each time.
      read: reads it as the commands do; raises RequestError, or returns what it holds.
      count: how many.
      seed: of the draws.

    Returns:
      How many were refused, how many had no effect, and which changed what was read in silence.
    """
    draws = random.Random(seed)

    def fresh() -> Path:
        shutil.rmtree(scratch, ignore_errors=True)
        return Path(shutil.copytree(whole, scratch))

    expected = read(fresh())
    refused, silent = 0, []
    for _ in range(count):
        what = flip(fresh(), draws)
        try:
            if read(scratch) != expected:
                silent.append(what)
        except RequestError:
            refused += 1
    return {
        "flips": count,
        "refused": refused,
        "without_effect": count - refused - len(silent),
        "changed_in_silence": silent,
    }


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Returns the weights, the moments, the step and what the run knew."""
    location = locations.locate(folder)
    with checksums.verified(location):
        contents = store.read(location)
        arrays = {name: array.read(()).tobytes() for name, array in contents.arrays.items()}
    return arrays | {"step": contents.step, "about": run_file.about(location)}


def read_cache(task: str, config: data_config.DataConfig, folder: Path) -> list[Any]:
    """Returns the tokens and texts of a task's validation split; `folder` is the cache folder."""
    del folder  # the environment names it
    cache = token_cache.open_cache(catalogue.task(task), "validation", config)
    tokens = [
        cache.tokens(feature, i).tolist()
        for i in range(len(cache))
        for feature in (INPUTS, TARGETS)
    ]
    return [*tokens, *cache.texts, np.asarray(cache.indices).tolist()]


def flip_all(folder: Path, run: Path, count: int, seed: int) -> dict[str, Any]:
    """Flips bits of a run's checkpoint and of a cache of tokens.

    Args:
      folder: for copies.
      run: the run's folder.
      count: of each.
      seed: of the draws.
    """
    (step,) = locations.steps(run)[-1:]
    found = {
        "checkpoint": flips(
            run / f"checkpoint_{step}", folder / f"flipped/checkpoint_{step}", read_checkpoint,
            count, seed,
        )
    }  # fmt: skip
    task, before = "xfer_pocket_nli.en", os.environ.get("XFER_CACHE_DIR")
    catalogue.families()
    with gin.unlock_config():
        gin.parse_config(["World.eval_examples = 60", "World.train_examples = 60",
                          "World.text_sentences = 100"])  # fmt: skip
    config = data_config.configured(vocabulary_file=data_config.POCKET)
    read = functools.partial(read_cache, task, config)
    whole, scratch = folder / "whole-cache", folder / "flipped-cache"
    try:
        os.environ["XFER_CACHE_DIR"] = str(whole)
        read(whole)
        os.environ["XFER_CACHE_DIR"] = str(scratch)
        with contextlib.redirect_stdout(io.StringIO()):  # which says that it is made anew
            found["cache"] = flips(whole, scratch, read, count, seed)
    finally:
        os.environ.pop("XFER_CACHE_DIR")
        if before is not None:
            os.environ["XFER_CACHE_DIR"] = before
    return found


# --- The benchmark --------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KILLS, default=list(KILLS), metavar="COMMAND")
    parser.add_argument(
        "--kills", type=int, help=f"of each (default: {sum(KILLS.values())} in all)"
    )
    parser.add_argument("--flips", type=int, default=FLIPS, help="of a checkpoint, and of a cache")
    parser.add_argument("--steps", type=int, default=120, help="of the runs that are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/kills"))
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes what was started with it
    folder = args.out.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    killed = {}
    every = subjects(folder, args.steps)
    for name in args.only:
        killed[name] = kill(every[name], folder, args.kills or KILLS[name], args.seed)
        print(f"{name}: {killed[name]['kills']} kills, different: {killed[name]['different']}")
    flipped: dict[str, Any] = {}
    if args.flips:
        run = folder / "flipped-run"
        log = folder / "flipped.txt"
        kill_resume.finish(kill_resume.command(_train(run, 2, 60), log), log)
        flipped = flip_all(folder, run / "run", args.flips, args.seed)
        for name, of in flipped.items():
            print(f"{name}: {of}")
    bad = [name for name, of in killed.items() if of["different"]]
    bad += [name for name, of in flipped.items() if of["changed_in_silence"]]
    path = record.keep(
        "kills",
        {
            "seed": args.seed,
            "kills": sum(of["kills"] for of in killed.values()),
            "by_command": killed,
            "flipped_bits": flipped,
            "not_compared": kill_resume.EXEMPT,
        },
        args.results,
    )
    print(f"{'different: ' + ', '.join(bad) if bad else 'all equal to the byte'}; wrote {path}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
