"""Training steps of mT5-small's shape: this engine beside Hugging Face's and T5X's.

    python -m benchmarks.train_step [--engines hf-eager,t5x]

Same weights, dropout, Adafactor; every engine is a process of its own, and this one takes turns
with each of the others. Two kinds of work: one batch of full rows; and examples as long as XNLI's,
of which every engine makes batches as it really does. Hugging Face pads to the longest of a batch
(`DataCollatorForSeq2Seq`); this engine packs a batch's examples into few rows.
"""

import argparse
import itertools
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
from xfer_jax.checkpoints import huggingface
from xfer_jax.checkpoints.arrays import Contents, Stored
from xfer_jax.data import loader, packing, streams
from xfer_jax.mt5 import cost, model

SIZES = {  # mT5-small
    "vocab_size": 250112, "emb_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024,
    "num_encoder_layers": 8, "num_decoder_layers": 8, "dropout_rate": 0.1, "dtype": "float32",
}  # fmt: skip
FULL = (16, 128, 8)  # examples, tokens of inputs and of targets
MIX_BATCH = 16
# XNLI in the release's format, by mT5's vocabulary: a log-normal with this median and sigma, within
# these bounds (English validation: 50, 0.42), and targets of a digit and an end of sequence.
MEDIAN, SIGMA, SHORTEST, LONGEST, TARGETS = 50, 0.42, 14, 250, 2
_UNTIMED = 2  # steps at the beginning of a turn


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


def mixed_examples(count: int) -> list[streams.Example]:
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


def packed(examples: list[streams.Example]) -> list[Batch]:
    """Makes batches as `xfer-jax train` does."""
    sizes = np.asarray([[len(x["inputs"]), len(x["targets"])] for x in examples])
    picks = [
        streams.Pick(tuple(size), lambda example=example: example)
        for example, size in zip(examples, sizes.tolist(), strict=True)
    ]
    stream = grain.MapDataset.source(picks)
    batches = loader.TrainingBatches(
        stream, packing.Layout(sizes, MIX_BATCH), len(examples) // MIX_BATCH
    )
    return [batches[i] for i in range(len(batches))]


def padded(examples: list[streams.Example]) -> list[Batch]:
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


def take_turns(
    folder: Path, batches: dict[str, list[Batch]], rounds: int
) -> dict[str, list[list[dict[str, Any]]]]:
    """Has engines train in turns; returns the replies of every turn, by name.

    The first turn warms up. Another begins with steps that are not kept: the kernel, and a virtual
    machine's host, have taken the memory back meanwhile, as they do not in a run.

    Args:
      folder: with the weights.
      batches: of every engine, the same examples.
      rounds: turns of each after the first.
    """
    engines = [peers.Engine(name, folder, "train", of) for name, of in batches.items()]
    replies: dict[str, list[list[dict[str, Any]]]] = {engine.name: [] for engine in engines}
    for turn in range(rounds + 1):
        for engine in engines:
            indices = range(len(engine.batches))
            for i in itertools.islice(itertools.cycle(indices), _UNTIMED if turn else 0):
                engine.run(i)
            replies[engine.name].append([engine.run(i) for i in indices])
    for engine in engines:
        engine.close()
    return replies


def compare(
    folder: Path,
    config: model.Config,
    batches: dict[str, list[Batch]],
    sizes: np.ndarray,
    rounds: int,
    peak: float,
) -> dict[str, dict[str, Any]]:
    """Has this engine train beside each of its peers, two at a time; returns what each did.

    More would leave each other no memory.

    Args:
      folder: with the weights.
      config: the model's sizes.
      batches: of every engine, the same examples.
      sizes: int [examples, 2], of the examples' inputs and targets.
      rounds: turns of each.
      peak: operations a second that this machine reaches in a matrix product.
    """

    def summary(name: str, warm_up: list[dict], turns: list[list[dict]]) -> dict[str, Any]:
        seconds = [sum(reply["seconds"] for reply in turn) for turn in turns]
        median = float(np.median(seconds))
        size = sum(batch[key].size for batch in batches[name] for key in names(batch))
        return {
            "seconds": [round(x, 3) for x in seconds],
            "examples_per_second": round(len(sizes) / median, 3),
            "tokens_per_second": round(int(sizes.sum()) / median, 1),
            "padding": round(1 - int(sizes.sum()) / size, 3),
            "shapes": len({tuple(x.shape for x in batch.values()) for batch in batches[name]}),
            "peak_bytes": max(turn[-1]["peak_bytes"] for turn in turns),
            "warm_up_seconds": round(sum(reply["seconds"] for reply in warm_up) - median, 1),
            "utilisation": round(flops(config, sizes) / median / peak, 3),
            "last_result": turns[-1][-1]["result"],
        }

    others = [{name: batches[name]} for name in batches if name != peers.OURS]
    results: dict[str, dict[str, Any]] = {peers.OURS: {}}
    own: list[list[dict]] = []
    for other in others or [{}]:
        replies = take_turns(folder, {peers.OURS: batches[peers.OURS], **other}, rounds)
        of_ours = replies.pop(peers.OURS)
        own += of_ours[1:] if own else of_ours  # later processes find their programs compiled
        for name, of in replies.items():
            results[name] = summary(name, of[0], of[1:])
            results[name]["ours_seconds"] = summary(peers.OURS, of[0], of_ours[1:])["seconds"]
    results[peers.OURS] = summary(peers.OURS, own[0], own[1:])
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
    parser.add_argument("--engines", default="hf-eager,hf-large-pages,hf-compile,t5x")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mixed", type=int, default=128, help="examples of the mix")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    others = [name for name in args.engines.split(",") if name != peers.OURS]
    present = [peers.OURS, *filter(peers.available, others)]
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
            "mix": {  # `torch.compile` has a program for every length
                peers.OURS: packed(examples),
                **{peer: padded(examples) for peer in present if peer == peers.EAGER},
            },
        }.items():
            results[work] = compare(folder, config, batches, sizes[work], args.rounds, peak)
            show(work, results[work])
    print(f"wrote {record.keep('train_step', results, args.results)}")
    return 0


def show(work: str, results: dict[str, dict[str, Any]]) -> None:
    """Prints one kind of work's results, and how many times faster this engine is."""
    print(f"\n{work}: {'examples/s':>22} {'tokens/s':>9} {'padding':>8} {'peak GiB':>9} {'MFU':>6}")
    for name, of in results.items():
        print(
            f"  {name:<14} {of['examples_per_second']:>12.2f} {of['tokens_per_second']:>9.0f}"
            f" {of['padding']:>8.1%} {of['peak_bytes'] / 2**30:>9.2f} {of['utilisation']:>6.1%}"
            + (f"   x{np.median(ratios(of)):.2f} " if name != peers.OURS else "         ")
            + f"{of['seconds']}"
        )


def ratios(of: dict[str, Any]) -> list[float]:
    """Returns how many times faster this engine was than a peer, by turn."""
    return [b / a for a, b in zip(of["ours_seconds"], of["seconds"], strict=True)]


if __name__ == "__main__":
    sys.exit(main())
