"""Exact search among many vectors, beside what a plain matrix product reaches meanwhile.

    python -m benchmarks.retrieval [--size 100000] [--width 768]

As many queries as candidates, drawn from a normal distribution, by cosine, the best 20. The product
is timed before and after, for some seconds each; some queries are compared with brute force.
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
from xfer_jax import retrieval

SIDE = 4096  # of the matrices of the plain product
SECONDS = 6.0
CHECKED = 64  # queries


def product_rates() -> list[float]:
    """Returns the operations a second of products of square matrices, one after the other."""
    x = jnp.ones((SIDE, SIDE), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(x).block_until_ready()
    rates, until = [], time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        product(x).block_until_ready()
        rates.append(2 * SIDE**3 / (time.perf_counter() - began))
    return rates


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
    retrieval.search(queries[: retrieval.RANKED], candidates)  # compiles a part, wakes the threads
    rates = product_rates()
    began = time.perf_counter()
    scores, found = retrieval.search(queries, candidates)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rates += product_rates()
    here = slice(0, CHECKED)
    brute = unit(queries[here]) @ unit(candidates).T
    order = np.argsort(-brute, axis=1, kind="stable")[:, : retrieval.RANKED]
    expected = np.take_along_axis(brute, order, axis=1)
    gflops = 2 * args.size**2 * args.width / seconds / 1e9
    product = statistics.median(rates) / 1e9
    results = {
        "size": args.size,
        "width": args.width,
        "k": retrieval.RANKED,
        "device": jax.devices()[0].device_kind,
        "seconds": round(seconds, 1),
        "gflops": round(gflops, 1),
        "product_gflops": round(product, 1),
        "ratio": round(gflops / product, 3),
        "peak_bytes": peak,
        "vectors_bytes": queries.nbytes + candidates.nbytes,
        "checked_queries": len(order),
        "equal_to_brute_force": float(np.mean(found[here] == order)),
        "largest_error": float(np.abs(scores[here] - expected).max()),
    }
    print(
        f"{args.size} x {args.size} vectors of {args.width}: {seconds:.1f} s, {gflops:.0f} GFLOP/s,"
        f" {gflops / product:.2f} of a product's {product:.0f}; at most {peak / 2**30:.2f} GiB;"
        f" {results['equal_to_brute_force']:.2%} of {len(order)} queries' places as by brute force"
    )
    print(f"wrote {record.keep('retrieval', results, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
