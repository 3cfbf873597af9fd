"""Exact search among many vectors, beside what a plain matrix product reaches meanwhile.

    python -m benchmarks.retrieval [--size 100000] [--width 768]

As many queries as candidates, drawn from a normal distribution, by cosine, the best 20. Search and
product take turns, a fifth of the queries at a time, so that a ratio is of the same minute. Some
queries are compared with brute force.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from xfer_jax.engine import retrieval
from xfer_jax.runtime import host_memory

SIDE = 4096  # of the matrices of the plain product
SECONDS = 4.0  # of products between two searches
TURNS = 5
CHECKED = 64  # queries


def product_rate() -> float:
    """Returns the operations a second of products of square matrices, one after the other."""
    x = jnp.ones((SIDE, SIDE), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(x).block_until_ready()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        product(x).block_until_ready()
        count += 1
    return 2 * SIDE**3 * count / (time.perf_counter() - began)


def unit(x: np.ndarray) -> np.ndarray:
    """Returns rows of length one, float64."""
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000, help="of queries, and of candidates")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    queries, candidates = (
        rng.standard_normal((args.size, args.width), dtype=np.float32) for _ in range(2)
    )
    retrieval.search(queries[: len(queries) // TURNS], candidates[:1])  # wakes the threads
    rates, seconds, parts = [product_rate()], [], []
    for part in np.array_split(queries, TURNS):
        began = time.perf_counter()
        parts.append(retrieval.search(part, candidates))
        seconds.append(time.perf_counter() - began)
        rates.append(product_rate())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    scores, found = parts[0]
    operations = 2 * args.size**2 * args.width / TURNS
    ratios = [
        operations / each / ((before + after) / 2)
        for each, before, after in zip(seconds, rates, rates[1:], strict=False)
    ]
    count = min(CHECKED, len(found))
    brute = unit(queries[:count]) @ unit(candidates).T
    order = np.argsort(-brute, axis=1, kind="stable")[:, : retrieval.RANKED]
    expected = np.take_along_axis(brute, order, axis=1)
    gflops = operations * TURNS / sum(seconds) / 1e9
    ratio = statistics.median(ratios)
    results = {
        "size": args.size,
        "width": args.width,
        "k": retrieval.RANKED,
        "device": jax.devices()[0].device_kind,
        "seconds": round(sum(seconds), 1),
        "gflops": round(gflops, 1),
        "product_gflops": [round(rate / 1e9, 1) for rate in rates],
        "ratio": round(ratio, 3),
        "ratios": [round(x, 3) for x in ratios],
        "peak_bytes": peak,
        "vectors_bytes": queries.nbytes + candidates.nbytes,
        "checked_queries": count,
        "equal_to_brute_force": float(np.mean(found[:count] == order)),
        "largest_error": float(np.abs(scores[:count] - expected).max()),
    }
    print(
        f"{args.size} x {args.size} vectors of {args.width}: {sum(seconds):.1f} s,"
        f" {gflops:.0f} GFLOP/s, {ratio:.2f} of a product's rate; at most {peak / 2**30:.2f} GiB;"
        f" {results['equal_to_brute_force']:.2%} of {count} queries' places as by brute force"
    )
    print(f"wrote {record.keep('retrieval', results, args.results)}")
    return 0


if __name__ == "__main__":
    host_memory.restart_with_large_pages()  # as the command does
    sys.exit(main())
