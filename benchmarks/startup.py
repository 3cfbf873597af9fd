"""How long a user waits before work begins.

    python -m benchmarks.startup

`--help`, best of three; opening a task that is cached; and twelve steps of a pocket model in a
process of its own, first with nothing kept of former programs, then with what the first left.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record

OPEN = """
import time
from seqio_tasks import catalogue, data_config, vocabulary
from xfer_jax.data import token_cache
import gin
gin.parse_config(["World.train_examples = 2000", "World.text_sentences = 500"])
task = catalogue.task("xfer_pocket_ner.en")
config = data_config.configured(vocabulary_file=data_config.POCKET)
vocabulary.of(config)
began = time.perf_counter()
cache = token_cache.open_cache(task, "train", config)
len(cache.token_counts("inputs"))
print(time.perf_counter() - began)
"""
TRAIN = (
    "train", "--gin_file=gin/models/pocket.gin", "--gin_file=gin/tasks/pocket_ner.gin",
    "--gin.SOURCE='en'", "--gin.TARGETS=('en',)", "--gin.World.train_examples=2000",
    "--gin.World.text_sentences=500", "--gin.TRAIN_STEPS_RELATIVE=12", "--gin.TRAIN_STEPS=None",
    "--gin.EVALUATOR_NUM_EXAMPLES=32", "--gin.VOCAB_FILE='pocket'",
)  # fmt: skip


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Runs a command; returns how long it took."""
    began = time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    cli = [sys.executable, "-m", "xfer_jax.cli"]
    with tempfile.TemporaryDirectory() as name:
        environment = os.environ | {"XFER_CACHE_DIR": f"{name}/cache"}
        results = {"help": min(seconds([*cli, "--help"], environment) for _ in range(3))}
        for _ in range(2):  # the first process makes the cache, the second verifies and opens it
            found = subprocess.run(
                [sys.executable, "-c", OPEN],
                env=environment, check=True, capture_output=True, text=True,
            )  # fmt: skip
        results["open_cached_task"] = float(found.stdout.splitlines()[-1])
        for kind in ("twelve_steps_cold", "twelve_steps_warm"):
            out = f"--gin.MODEL_DIR='{name}/{kind}'"
            results[kind] = seconds([*cli, *TRAIN, out], environment)
    results = {key: round(value, 3) for key, value in results.items()}
    for key, value in results.items():
        print(f"{key.replace('_', ' '):<20} {value:>8.3f} s")
    print(f"wrote {record.keep('startup', {'seconds': results}, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
