"""How long an analysis of a large table takes, and how much memory: 65 x 105 languages.

    python -m benchmarks.analysis

Scores are made up: levels of the languages, a little of their likeness in syntax, and noise. Eight
features of pairs are compared: the six that URIEL has and two more; 10,000 permutations each. The
commands run as a user runs them, start-up and all.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import record
from seqio_tasks import languages, uriel
from xfer_jax.analysis import features
from xfer_jax.results import csv_file, language_names

SOURCES, TARGETS = 65, 105


def codes() -> list[str]:
    """Returns as many languages, those of the study first, then those that WALS knows best."""
    known = sorted(uriel.codes())
    _, values = uriel.values(known, "syntax_wals")
    order = np.argsort(-np.isfinite(values).sum(axis=1), kind="stable")
    ranked = [language_names.code_of(known[i]) for i in order]
    return list(dict.fromkeys([*languages.STUDY, *ranked]))[:TARGETS]


def write(folder: Path, seed: int) -> tuple[Path, Path]:
    """Writes a table of scores and one of two features."""
    rng = np.random.default_rng(seed)
    names = codes()
    syntax = features.typology(names, features.Options())["syntax"].values
    scores = 55 + 6 * rng.normal(size=(TARGETS, 1)) + 10 * rng.normal(size=(1, TARGETS))
    scores = (
        scores + 20 * (np.nan_to_num(syntax, nan=0.6) - 0.6) + 4 * rng.normal(size=syntax.shape)
    )
    half = rng.random((2, TARGETS, TARGETS))
    rows, more = [], []
    for i, source in enumerate(names):
        for j, target in enumerate(names):
            if i < SOURCES:
                rows.append((source, target, float(np.clip(scores[i, j], 0, 100))))
            if i != j:
                more.append((source, target, *(half[:, i, j] + half[:, j, i])))
    paths = folder / "scores.csv", folder / "features.csv"
    csv_file.write(paths[0], pd.DataFrame(rows, columns=["source", "target", "score"]))
    csv_file.write(paths[1], pd.DataFrame(more, columns=["source", "target", "first", "second"]))
    return paths


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--permutations", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    seconds, peak = {}, 0
    with tempfile.TemporaryDirectory() as name:
        scores, own = write(Path(name), 0)
        out = Path(name, "out")
        for command, arguments in {
            "analyze": (
                "--scores", str(scores), "--features", str(own), "--out", str(out),
                "--permutations", str(args.permutations),
            ),
            "report": (str(out),),
        }.items():  # fmt: skip
            began = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "xfer_jax.cli", command, *arguments],
                stdout=subprocess.DEVNULL,
            )
            _, status, used = os.wait4(process.pid, 0)  # of this child, not of all there were
            if os.waitstatus_to_exitcode(status):
                raise RuntimeError(f"xfer-jax {command} failed")
            peak = max(peak, used.ru_maxrss * 1024)
            seconds[command] = round(time.monotonic() - began, 1)
        compared = pd.read_csv(out / "correlations.csv")
        pairs = int((compared["of"] == "pair").sum())
    whole = sum(seconds.values())
    print(
        f"{SOURCES} x {TARGETS} languages, {pairs} features of pairs, {args.permutations:,}"
        f" permutations: {whole:.1f} s ({', '.join(f'{k} {v} s' for k, v in seconds.items())}),"
        f" at most {peak / 2**20:.0f} MiB"
    )
    results = {
        "sources": SOURCES, "targets": TARGETS, "features": pairs,
        "permutations": args.permutations, "seconds": seconds, "peak_bytes": peak,
    }  # fmt: skip
    print(f"wrote {record.keep('analysis', results, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
