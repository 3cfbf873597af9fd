"""Training steps of mT5-small's shape: this engine beside Hugging Face's and T5X's.

    python -m benchmarks.train_step [--engines xfer-jax,hf-eager,t5x]

Same weights, dropout, Adafactor; every engine is a process of its own, and they take turns. Two
kinds of work: one batch of full rows; and examples as long as XNLI's, of which every engine makes
batches as it really does. Hugging Face pads to the longest of a batch (`DataCollatorForSeq2Seq`);
this engine packs a batch's examples into
few rows.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grain
import numpy as np
from flax.traverse_util import flatten_dict

from benchmarks import peers, record
from benchmarks.peers import Batch
from xfer_jax import cost, data, huggingface, model
from xfer_jax.stored import Contents, Stored

SIZES = {  # mT5-small
    "vocab_size": 250112, "emb_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024,
    "num_encoder_layers": 8, "num_decoder_layers": 8, "dropout_rate": 0.1, "dtype": "float32",
}  # fmt: skip
FULL = (16, 128, 8)  # examples, tokens of inputs and of targets
MIX_BATCH = 16
# XNLI in the release's format, by mT5's vocabulary: a log-normal with this median and sigma, within
# these bounds (English validation: 50, 0.42), and targets of a digit and an end of sequence.
MEDIAN, SIGMA, SHORTEST, LONGEST, TARGETS = 50, 0.42, 14, 250, 2


def write_weights(folder: Path, sizes: dict[str, Any]) -> model.Config:
    """Writes a new model as a Hugging Face checkpoint, drawn on the host, and its `sizes.json`."""
    config = model.Config(**sizes)
    rng = np.random.default_rng(0)

    def drawn(name: str, shape: tuple[int, ...]) -> Stored:
        # About as large as mT5's own initialisation.
        scale = 1.0 if name.endswith("embedding") and "relpos" not in name else shape[0] ** -0.5
        if name.endswith("query/kernel"):
            scale /= config.head_dim**0.5

        def read(index: Any) -> np.ndarray:
            if name.endswith("scale"):
                return np.ones(shape, np.float32)[index]
            return (scale * rng.standard_normal(shape, dtype=np.float32))[index]

        return Stored(shape, np.dtype(np.float32), read)

    shapes = flatten_dict(model.parameter_shapes(config), sep="/")
    arrays = {f"target/{name}": drawn(name, leaf.shape) for name, leaf in shapes.items()}
    huggingface.write(Contents(str(folder), "native", 0, arrays), config, folder)
    (folder / "sizes.json").write_text(json.dumps(sizes))
    return config


def full_batches(count: int) -> list[Batch]:
    """Returns batches without any padding."""
    rows, inputs, targets = FULL
    rng = np.random.default_rng(1)
    return [
        {
            "inputs": rng.integers(5, 250000, (rows, inputs), dtype=np.int32),
            "targets": rng.integers(5, 250000, (rows, targets), dtype=np.int32),
        }
        for _ in range(count)
    ]


def mixed_examples(count: int) -> list[data.Example]:
    """Returns examples as long as XNLI's."""
    rng = np.random.default_rng(2)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN), SIGMA, count), SHORTEST, LONGEST).astype(int)
    return [
        {
            "inputs": rng.integers(5, 250000, length, dtype=np.int32),
            "targets": rng.integers(5, 250000, TARGETS, dtype=np.int32),
        }
        for length in lengths
    ]


def packed(examples: list[data.Example]) -> list[Batch]:
    """Makes batches as `xfer-jax train` does."""
    sizes = np.asarray([[len(x["inputs"]), len(x["targets"])] for x in examples])
    picks = [
        data.Pick(tuple(size), lambda example=example: example)
        for example, size in zip(examples, sizes.tolist(), strict=True)
    ]
    stream = grain.MapDataset.source(picks)
    batches = data.TrainingBatches(
        stream, data.Layout(sizes, MIX_BATCH), len(examples) // MIX_BATCH
    )
    return [batches[i] for i in range(len(batches))]


def padded(examples: list[data.Example]) -> list[Batch]:
    """Pads each batch to its longest, as Hugging Face's collator does."""
    batches = []
    for start in range(0, len(examples), MIX_BATCH):
        batch = examples[start : start + MIX_BATCH]
        longest = max(len(x["inputs"]) for x in batch)
        batches.append(
            {
                "inputs": np.stack(
                    [np.pad(x["inputs"], (0, longest - len(x["inputs"]))) for x in batch]
                ),
                "targets": np.stack([x["targets"] for x in batch]),
            }
        )
    return batches


def flops(config: model.Config, sizes: np.ndarray) -> float:
    """Returns the operations of training on examples of such sizes: 3 x `cost.forward_flops`."""
    return sum(3 * cost.forward_flops(config, int(k), int(n)) for k, n in sizes)


def compare(
    config: model.Config, engines: list[peers.Engine], sizes: np.ndarray, rounds: int, peak: float
) -> dict[str, dict[str, Any]]:
    """Lets engines take turns; returns what each did, by name.

    Args:
      config: the model's sizes.
      engines: all with batches of the same examples.
      sizes: int [examples, 2], of the examples' inputs and targets.
      rounds: how often each works off its batches, after once to warm up. A turn begins with a
        step that is not timed: the kernel, and a virtual machine's host, have taken the memory back
        meanwhile, as they do not in a run.
      peak: operations a second that this machine reaches in a matrix product.
    """
    first = {engine.name: [engine.run(i) for i in range(len(engine.batches))] for engine in engines}
    seconds: dict[str, list[float]] = {engine.name: [] for engine in engines}
    last: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for engine in engines:
            engine.run(0)
            replies = [engine.run(i) for i in range(len(engine.batches))]
            seconds[engine.name].append(sum(reply["seconds"] for reply in replies))
            last[engine.name] = replies[-1]
    results = {}
    for engine in engines:
        times = np.asarray(seconds[engine.name])
        median = float(np.median(times))
        real = int(sizes.sum())
        size = sum(batch[name].size for batch in engine.batches for name in names(batch))
        results[engine.name] = {
            "seconds": [round(float(x), 3) for x in times],
            "examples_per_second": round(len(sizes) / median, 3),
            "tokens_per_second": round(real / median, 1),
            "padding": round(1 - real / size, 3),
            "shapes": len({tuple(x.shape for x in batch.values()) for batch in engine.batches}),
            "peak_bytes": last[engine.name]["peak_bytes"],
            "warm_up_seconds": round(sum(x["seconds"] for x in first[engine.name]) - median, 1),
            "utilisation": round(flops(config, sizes) / median / peak, 3),
            "last_result": last[engine.name]["result"],
        }
    return results


def names(batch: Batch) -> tuple[str, str]:
    """Returns what a batch calls its inputs and its targets."""
    if "inputs" in batch:
        return "inputs", "targets"
    return "encoder_input_tokens", "decoder_target_tokens"


def matmul_peak() -> float:
    """Returns the operations a second that a float32 matrix product reaches here, at its best."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((2048, 2048), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(x).block_until_ready()
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        product(x).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * 2048**3 / best


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default="xfer-jax,hf-eager,hf-large-pages,hf-compile,t5x")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mixed", type=int, default=128, help="examples of the mix")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    present = [name for name in args.engines.split(",") if peers.available(name)]
    peak = matmul_peak()
    results: dict[str, Any] = {"matmul_gflops": round(peak / 1e9, 1), "sizes": SIZES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_weights(folder, SIZES)
        examples = mixed_examples(args.mixed)
        sizes = {
            "full": np.asarray([FULL[1:]] * FULL[0] * 2),
            "mix": np.asarray([[len(x["inputs"]), len(x["targets"])] for x in examples]),
        }
        for work, batches in {
            "full": dict.fromkeys(present, full_batches(2)),
            "mix": {
                peer: packed(examples) if peer == peers.OURS else padded(examples)
                for peer in present
                if peer
                in (peers.OURS, peers.EAGER)  # `torch.compile` has a program for every length
            },
        }.items():
            engines = [
                peers.Engine(peer, folder, "train", of_peer) for peer, of_peer in batches.items()
            ]
            results[work] = compare(config, engines, sizes[work], args.rounds, peak)
            for engine in engines:
                engine.close()
            show(work, results[work])
    print(f"wrote {record.keep('train_step', results, args.results)}")
    return 0


def show(work: str, results: dict[str, dict[str, Any]]) -> None:
    """Prints one kind of work's results, and how many times faster this engine is."""
    ours = results[peers.OURS]
    print(f"\n{work}: {'examples/s':>22} {'tokens/s':>9} {'padding':>8} {'peak GiB':>9} {'MFU':>6}")
    for name, of in results.items():
        ratio = ours["examples_per_second"] / of["examples_per_second"]
        print(
            f"  {name:<12} {of['examples_per_second']:>14.2f} {of['tokens_per_second']:>9.0f}"
            f" {of['padding']:>8.1%} {of['peak_bytes'] / 2**30:>9.2f} {of['utilisation']:>6.1%}"
            f"   x{ratio:.2f}   {of['seconds']}"
        )


if __name__ == "__main__":
    sys.exit(main())
