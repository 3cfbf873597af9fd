"""The pocket study in three worlds, over seeds: is the planted cause of transfer really there?

    python -m benchmarks.worlds --seeds 0,1,2

Runs gin/studies/pocket.gin (syntax planted), pocket_lexicon.gin and pocket_neither.gin, each seed
with a world, a pre-trained model and an order of the data of its own. Writes the table of scores of
every study, with the planted similarity of every pair beside it, and the margins: by how much the
third of the pairs that are most alike scores above the third that are least alike.
"""

import argparse
import csv
import dataclasses
import io
import os
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks import record
from seqio_tasks import miniature
from xfer_jax import configuration
from xfer_jax.engine import run_folder
from xfer_jax.runtime import compilation
from xfer_jax.study import collect, definition, execution, job_graph

WORLDS = {"syntax": "pocket", "lexicon": "pocket_lexicon", "neither": "pocket_neither"}
KNOBS = {
    "syntax": {},
    "lexicon": {"syntax_signal": 0.0, "lexical_contrast": 1.0},
    "neither": {"syntax_signal": 0.0},
}
SIMILARITIES = ("syntactic_similarity", "lexical_similarity")


def similarity(world: str, seed: int, kind: str, source: str, target: str) -> float:
    """Returns how alike two languages are: the grammar of their namesakes, or their words.

    Grammars count as WALS has them in worlds too where nobody follows them: there they must not
    explain anything.
    """
    knobs = KNOBS[world] | ({"syntax_signal": 1.0} if kind == "syntactic_similarity" else {})
    made = miniature.World(seed=seed, **knobs)
    return getattr(made, kind)(source, target)


def run(world: str, seed: int, out: Path, workers: int) -> list[dict]:
    """Runs one world's study, and returns its table with the similarities as columns."""
    name = f"gin/studies/{WORLDS[world]}.gin"
    configuration.load("study", [name], [])
    study = configuration.build(definition.Study)
    study = dataclasses.replace(
        study,
        seeds=(seed,),
        stages=[stage for stage in study.stages if stage.action == "train"],
        settings=(*study.settings, f"World.seed = {seed}"),
    )
    folder = out / f"{world}-s{seed}"
    execution.run(study, folder, workers if workers > 1 else None)
    rows, _ = collect.scores(study, folder, job_graph.lay_out(study))
    for row in rows:
        for kind in SIMILARITIES:
            row[kind] = similarity(world, seed, kind, row["source"], row["target"])
    return rows


def margins(rows: list[dict]) -> dict[str, float]:
    """Returns by how many points a table's most similar third of pairs beats the least similar."""
    cells = {(row["source"], row["target"]): row["score"] for row in rows}
    found = {}
    for kind in SIMILARITIES:
        alike = {(row["source"], row["target"]): row[kind] for row in rows}
        top, bottom = collect.thirds(cells, lambda *pair, alike=alike: alike[pair])
        found[kind] = top - bottom
    return found


def interval(values: list[float]) -> list[float]:
    """Returns the mean and its 95% interval by Student's t over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return [mean, float("nan"), float("nan")]
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return [round(x, 2) for x in (mean, mean - half, mean + half)]


def read(path: Path) -> list[dict]:
    """Reads a table that `run` made."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = ("score", *SIMILARITIES)
    return [row | {name: float(row[name]) for name in numbers} for row in rows]


def summarise(folder: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Returns, by world and similarity, the margins of all tables in a folder and their mean."""
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(folder.glob("*.csv")):
        kinds = found.setdefault(path.stem.partition("-")[0], {})
        for kind, margin in margins(read(path)).items():
            kinds.setdefault(kind, []).append(round(margin, 2))
    return {
        world: {kind: {"by_seed": v, "mean_low_high": interval(v)} for kind, v in kinds.items()}
        for world, kinds in found.items()
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", default="0,1,2", help="'': only sum up the tables that there are"
    )
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("out/worlds"))
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    compilation.keep_programs()
    for seed in [int(seed) for seed in args.seeds.split(",") if seed]:
        for world in args.worlds.split(","):
            rows = run(world, seed, args.out.absolute(), args.workers)
            text = io.StringIO()
            writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
                for row in rows
            )
            run_folder.write(args.results / "worlds" / f"{world}-s{seed}.csv", text.getvalue())
    summary = summarise(args.results / "worlds")
    print(
        "\npoints by which the most similar third of pairs scores higher, 95% interval over seeds"
    )
    for world, kinds in summary.items():
        for kind, found in kinds.items():
            mean, low, high = found["mean_low_high"]
            print(
                f"  {world:<8} planted, by {kind:<21} {mean:+6.1f}  [{low:+.1f}, {high:+.1f}]"
                f"  {len(found['by_seed'])} seeds"
            )
    print(f"wrote {record.keep('worlds', {'margins': summary}, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
