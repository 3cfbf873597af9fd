"""Memory that the loss and its gradient need, by length: in pieces, and with all logits at once.

    python -m benchmarks.loss_memory

Eight sequences, mT5-small's width, the full vocabulary. What the compiled programs set aside for
their intermediate arrays; nothing is run. Of both the kernel's gradient, which is as large whatever
the length, is subtracted where it is among them.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

from benchmarks import record
from xfer_jax.mt5.loss import sequence_loss

LENGTHS = (32, 64, 128, 256, 512)
ROWS, WIDTH, VOCAB = 8, 512, 250112


def plain(hidden: jax.Array, kernel: jax.Array, targets: jax.Array) -> jax.Array:
    """The loss as one would write it down."""
    logits = hidden @ kernel
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.sum(log_z - target + 1e-4 * jnp.square(log_z))


def in_pieces(
    hidden: jax.Array, kernel: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Its gradients as training has them."""
    sums, back = sequence_loss(hidden, kernel, targets, jnp.ones(targets.shape))
    return back.to_hidden, back.to_kernel(sums.loss)


def memory(gradients: Any, length: int) -> int:
    """Returns the bytes of a gradient's intermediate arrays."""
    shapes = (
        jax.ShapeDtypeStruct((ROWS, length, WIDTH), jnp.float32),
        jax.ShapeDtypeStruct((WIDTH, VOCAB), jnp.float32),
        jax.ShapeDtypeStruct((ROWS, length), jnp.int32),
    )
    compiled = jax.jit(gradients).lower(*shapes).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    gradient = WIDTH * VOCAB * 4
    rows = []
    for length in LENGTHS:
        pieces = memory(in_pieces, length)
        whole = memory(jax.grad(plain, argnums=(0, 1)), length)
        pieces = pieces - gradient if pieces > gradient else pieces
        rows.append({"length": length, "pieces_bytes": pieces, "whole_bytes": whole})
        print(f"{length:>4} tokens: {pieces >> 20:>6} MiB in pieces, {whole >> 20:>6} at once")
    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for key, label in (("whole_bytes", "all logits at once"), ("pieces_bytes", "in pieces")):
        axes.plot(LENGTHS, [row[key] / 2**30 for row in rows], marker="o", label=label)
    axes.set(
        xlabel=f"target tokens of each of {ROWS} sequences", ylabel="GiB",
        title="Memory of the loss and its gradient, 250,112 pieces", xticks=LENGTHS,
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    args.results.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.results / "loss_memory.svg", metadata={"Date": None})
    print(f"wrote {record.keep('loss_memory', {'rows': rows}, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
