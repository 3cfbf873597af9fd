"""How often the tests of the analysis are wrong, and how often they find what is there.

    python -m benchmarks.calibration

Tables of ten languages, 90 pairs, compared with their real similarity in WALS. Without an effect:
scores are main effects of source and target and noise; every rejection is an error. With an effect:
similarity and noise, correlated at 0.5 in the mean. Tests: QAP of Pearson's and Spearman's
correlation; the same with every language's own level taken away (`within`); the best of WALS's
single features, its p-value adjusted to the false discovery rate (`wals`); and the naive test.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks import record
from seqio_tasks import languages
from xfer_jax.analysis import alignment, features, permutation, regression

LEVEL = 0.05
MAIN_EFFECT, NOISE = 5.0, 2.5  # points, standard deviations


def similarity() -> np.ndarray:
    """Returns the syntactic similarity [10, 10] of the study's languages."""
    return features.typology(languages.STUDY, features.Options())["syntax"].values


def without_effect(rng: np.random.Generator, wals: np.ndarray) -> np.ndarray:
    """Draws a table in which nothing depends on pairs."""
    n = len(wals)
    rows, columns = rng.normal(size=(n, 1)), rng.normal(size=(1, n))
    return 50 + MAIN_EFFECT * (rows + columns) + NOISE * rng.normal(size=(n, n))


def with_effect(rng: np.random.Generator, wals: np.ndarray, r: float = 0.5) -> np.ndarray:
    """Draws a table whose scores and similarity are correlated at r in the mean."""
    n = len(wals)
    pairs = wals[~np.eye(n, dtype=bool)]
    standard = (wals - pairs.mean()) / pairs.std()
    return 50 + 10 * (r * standard + np.sqrt(1 - r * r) * rng.normal(size=(n, n)))


def p_values(
    scores: np.ndarray, wals: np.ndarray, permutations: int, seed: int
) -> dict[str, float]:
    """Returns the p-value of each test for one table."""
    here = range(len(wals))
    found = permutation.correlate(scores, wals, here, here, permutations, seed)
    pairs = regression.sample(scores, {"similarity": wals}, here, here)
    names, values = features.wals(languages.STUDY)
    single = alignment.by_feature(scores, here, here, names, values, permutations, seed)
    return {
        "qap": found.qap_p,
        "qap_spearman": found.qap_p_spearman,
        "within": regression.partial_correlation(pairs, permutations, seed)[1],
        "wals": float(single["fdr"].min()),
        "naive": found.naive_p,
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--permutations", type=int, default=999)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    wals, rng = similarity(), np.random.default_rng(args.seed)
    rates = {}
    for name, draw in (("without effect", without_effect), ("planted r of 0.5", with_effect)):
        found = [p_values(draw(rng, wals), wals, args.permutations, i) for i in range(args.tables)]
        rates[name] = {test: float(np.mean([p[test] <= LEVEL for p in found])) for test in found[0]}
        error = np.sqrt(LEVEL * (1 - LEVEL) / args.tables)
        shown = ", ".join(f"{test} {rate:.1%}" for test, rate in rates[name].items())
        print(f"{name}: rejected at {LEVEL:.0%}: {shown} (standard error at 5%: {error:.1%})")
    results = {"tables": args.tables, "permutations": args.permutations, "rejected": rates}
    print(f"wrote {record.keep('calibration', results, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
