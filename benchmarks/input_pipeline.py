"""How fast training batches are made, beside how fast a step of mT5-small's shape consumes them.

    python -m benchmarks.input_pipeline

Token arrays as long as XNLI's lie on disk as a cache has them; batches are read and packed
by one thread, as in training. The step's rate is that of `train_step`'s mix, if it was measured.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import record, train_step
from seqio_tasks import catalogue
from xfer_jax.data import loader, packing, streams, token_cache

EXAMPLES, BATCH, BATCHES = 100_000, 128, 2_000
LENGTHS = {"inputs": 256, "targets": 8}


def write_cache(folder: Path) -> token_cache.Cache:
    """Writes token arrays in a cache's format."""
    examples = train_step.mixed_examples(EXAMPLES)
    for feature in ("inputs", "targets"):
        parts = [example[feature][:-1] for example in examples]  # reading adds the end of sequence
        np.save(folder / f"{feature}.npy", np.concatenate(parts))
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        np.save(folder / f"{feature}_offsets.npy", offsets)
    return token_cache.Cache(catalogue.task("xfer_xnli.en"), "train", folder, np.arange(EXAMPLES))


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        cache = write_cache(Path(name))
        began = time.monotonic()
        source = streams.Supervised(cache, LENGTHS)
        batches = loader.TrainingBatches(
            source.stream(0), packing.Layout(source.sizes(), BATCH), BATCHES
        )
        training = loader.TrainingInput(batches, EXAMPLES, 0, 0, [])
        iterator = training.iterator(0)
        first = next(iterator)
        opened = time.monotonic() - began
        began = time.monotonic()
        real = size = 0
        for batch in iterator:
            tokens = batch["encoder_input_tokens"]
            real, size = real + int(np.count_nonzero(tokens)), size + tokens.size
        seconds = time.monotonic() - began
    rate = (BATCHES - 1) * BATCH / seconds
    results = {
        "examples_per_second": round(rate), "first_batch_seconds": round(opened, 3),
        "padding_of_inputs": round(1 - real / size, 3), "rows": len(first["encoder_input_tokens"]),
    }  # fmt: skip
    print(
        f"{rate:,.0f} examples/s, {results['padding_of_inputs']:.1%} of the inputs are padding;"
        f" {opened:.2f} s from {EXAMPLES:,} examples on disk to the first batch"
    )
    steps = args.results / "train_step.json"
    if steps.is_file():
        consumed = json.loads(steps.read_text())["mix"]["xfer-jax"]["examples_per_second"]
        results["times_the_step"] = round(rate / consumed)
        print(f"a step of mT5-small's shape consumes {consumed:.1f}: x{rate / consumed:,.0f}")
    print(f"wrote {record.keep('input_pipeline', results, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
