"""A pocket study beside T5X's binaries, one process a source model and one a cell.

    python -m benchmarks.study

Both fine-tune the same pre-trained pocket mT5 on named entities, as long and on as much, and score
it in the same languages. This engine runs two source models in ten languages as `xfer-jax study
run` does, with nothing kept from before. Of T5X one `t5x.train` and two `t5x.eval` are run, and
counted as often as the study has source models and cells.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peers, record
from xfer_jax import configuration

SOURCES = ("en", "hi")
TARGETS = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")
EVALUATED_BY_T5X = ("en", "hi")
TASK_FILES = ("gin/models/pocket.gin", "gin/tasks/pocket_ner.gin")


def seconds(command: list[str], environment: dict[str, str], log: Path) -> float:
    """Runs a command; returns how long it took.

    Raises:
      RuntimeError: it failed; says with which last lines.
    """
    began = time.monotonic()
    with log.open("w") as written:
        code = subprocess.run(
            command, env=environment, stdout=written, stderr=written, check=False
        ).returncode
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{log.read_text()[-2000:]}")
    return time.monotonic() - began


def ours(folder: Path, start: Path, settings: list[str], environment: dict[str, str]) -> float:
    """Runs the study; returns the seconds."""
    study = {
        "model": "pocket",
        "initial_checkpoint": str(start),
        "targets": TARGETS,
        "settings": tuple(settings),
    }
    stage = {"tasks": ("pocket_ner",), "train_on": SOURCES, "score_on": "targets"}
    file = folder / "study.gin"
    lines = ["study.Study.stages = (@source/study.Stage(),)\n"]
    lines += [f"study.Study.{name} = {value!r}\n" for name, value in study.items()]
    lines += [f"source/study.Stage.{name} = {value!r}\n" for name, value in stage.items()]
    file.write_text("".join(lines))
    command = [sys.executable, "-m", "xfer_jax.cli", "study", "run", str(file)]
    command += ["--out", str(folder / "study"), "--workers", str(min(os.cpu_count() or 1, 2))]
    return seconds(command, environment, folder / "study.log")


def theirs(
    folder: Path, start: Path, settings: list[str], environment: dict[str, str]
) -> dict[str, float]:
    """Runs T5X's binaries; returns the seconds of each process."""

    def run(binary: str, file: str, title: str, *bindings: str) -> float:
        command = [sys.executable, "-m", f"t5x.{binary}", f"--gin_file=t5x_configs/{file}.gin"]
        command += [f"--gin_search_paths={configuration.shipped_dir()}"]
        command += [f"--gin_file={file}" for file in TASK_FILES]
        command += [f"--gin.{binding}" for binding in bindings]
        return seconds(command, environment, folder / f"{title}.log")

    model = folder / "t5x"
    found = {
        "train": run(
            "train", "finetune", "train", *(setting.replace(" ", "") for setting in settings),
            f"SOURCE={SOURCES[0]!r}", "TARGETS=()", f"MODEL_DIR={str(model)!r}",
            f"INITIAL_CHECKPOINT_PATH={str(start)!r}",
        )
    }  # fmt: skip
    for code in EVALUATED_BY_T5X:
        found[f"eval_{code}"] = run(
            "eval", "eval", f"eval-{code}", f"TARGETS=({code!r},)", "EVALUATOR_NUM_EXAMPLES=200",
            f"CHECKPOINT_PATH={str(model)!r}", f"EVAL_OUTPUT_DIR={str(folder / code)!r}",
        )  # fmt: skip
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500, help="of fine-tuning")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    if not peers.available(peers.T5X):
        print("T5X cannot be imported: the study is not compared with it")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = folder / "pretrained"
        command = [sys.executable, "-m", "xfer_jax.cli", "train"]
        command += [f"--gin_file={file}" for file in (TASK_FILES[0], "gin/tasks/pocket_text.gin")]
        before = os.environ | {"XFER_CACHE_DIR": str(folder / "before")}
        seconds([*command, f"--gin.MODEL_DIR={str(start)!r}"], before, folder / "pretrain.log")
        settings = [f"TRAIN_STEPS_RELATIVE = {args.steps}", "EVALUATOR_NUM_EXAMPLES = 200"]
        environment = os.environ | {"XFER_CACHE_DIR": str(folder / "cache")}
        took = ours(folder, start, settings, environment)
        with (folder / "study" / "scores.csv").open() as file:
            scores = {(row["source"], row["target"]): row["score"] for row in csv.DictReader(file)}
        assert len(scores) == len(SOURCES) * len(TARGETS)
        each = theirs(folder, start, settings, environment)
    a_cell = sum(each[f"eval_{code}"] for code in EVALUATED_BY_T5X) / len(EVALUATED_BY_T5X)
    computed = len(SOURCES) * each["train"] + len(scores) * a_cell
    results: dict[str, Any] = {
        "steps": args.steps,
        "source_models": len(SOURCES),
        "cells": len(scores),
        "seconds": round(took, 1),
        "t5x_seconds": {key: round(value, 1) for key, value in each.items()},
        "t5x_seconds_computed": round(computed, 1),
        "ratio": round(computed / took, 2),
        # a process a cell that trains its own source model; its scoring is not counted
        "ratio_cell_by_cell": round(len(scores) * each["train"] / took, 2),
        "own_language_f1": {code: float(scores[code, code]) for code in SOURCES},
    }
    print(f"xfer-jax: {len(SOURCES)} source models and {len(scores)} cells in {took:.0f} s")
    print(f"T5X: {each['train']:.0f} s a source model, {a_cell:.0f} s a cell: {computed:.0f} s")
    anew = results["ratio_cell_by_cell"]
    print(f"ratio {results['ratio']:.1f}; where every cell trains its own model {anew:.1f}")
    print(f"wrote {record.keep('study', results, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
