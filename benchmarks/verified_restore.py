"""What it costs to compare a checkpoint's hashes while it is read.

    python -m benchmarks.verified_restore

An mT5-base-shaped checkpoint of random weights with Adafactor's moments (2.3 GB, made in the
temporary folder) is restored with and without, which take turns; the medians are compared. The
files are in the page cache, so that nothing waits for a disk.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks import record
from xfer_jax.checkpoints import store
from xfer_jax.engine import train_step
from xfer_jax.mt5 import model, optimizer, partitioning

BASE = model.Config(
    vocab_size=250112, emb_dim=768, num_heads=12, head_dim=64, mlp_dim=2048,
    num_encoder_layers=12, num_decoder_layers=12, dtype="float32",
)  # fmt: skip


def write(folder: Path, config: model.Config) -> Path:
    """Saves a checkpoint of random weights."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jax.device_put(rng.standard_normal(x.shape, np.float32)),
        model.parameter_shapes(config),
    )
    return store.save(folder, store.to_tree(params, optimizer.init(params), 0), {})


def seconds(checkpoint: Path, like: dict, compare_hashes: bool) -> float:
    """Restores a checkpoint; returns how long it took."""
    began = time.perf_counter()
    jax.block_until_ready(store.restore(checkpoint, like, compare_hashes))
    return time.perf_counter() - began


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args(argv)
    like = train_step.layout(BASE, partitioning.make_mesh())
    taken: dict[str, list[float]] = {"verified": [], "unverified": []}
    with tempfile.TemporaryDirectory() as name:
        checkpoint = write(Path(name), BASE)
        size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
        seconds(checkpoint, like, True)  # warms up: the page cache, compiled programs
        for turn in range(2 * args.rounds):
            kind = ("verified", "unverified")[turn % 2]
            taken[kind].append(seconds(checkpoint, like, kind == "verified"))
            print(f"{kind:<10} {taken[kind][-1]:>7.2f} s", flush=True)
    medians = {kind: statistics.median(values) for kind, values in taken.items()}
    ratios = [a / b for a, b in zip(taken["verified"], taken["unverified"], strict=True)]
    results = {
        "bytes": size,
        "seconds": {kind: round(value, 3) for kind, value in medians.items()},
        "ratio": round(medians["verified"] / medians["unverified"], 3),
        "ratio_of_turns": round(statistics.median(ratios), 3),
        "rounds": {kind: [round(value, 3) for value in values] for kind, values in taken.items()},
    }
    print(f"{results['ratio']:.2f} times as long, by the medians of {args.rounds} turns each")
    print(f"wrote {record.keep('verified_restore', results, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
