"""The gap between rules by which a run can choose its checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xfer_jax import selection
from xfer_jax.results import csv_file

FILE = "checkpoints.csv"  # in a study's folder: what each rule would have chosen, and its score
COLUMNS = ("task", "source", "target", "n_shots", "seed", "rule", "step", "score", "run")


def compare(folder: Path) -> pd.DataFrame:
    """Compares the rules of a study whose runs evaluated several checkpoints.

    The scores are those that the choice is made by, on the validation split: the rule that chooses
    for each target has the best by construction. How far the others fall short of it is what a
    choice without labelled data in the target languages costs (Keung et al. 2020).

    Returns:
      A row for each task and rule, zero-shot: `own`, the mean score on the source language;
      `transfer`, on the other targets; `minus_last`, by how many points `transfer` is above that of
      the last checkpoint; `pairs`, of source and target. Empty if there is nothing to compare.

    Raises:
      RequestError: the table is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return pd.DataFrame()
    table = csv_file.read(path, COLUMNS)
    table["score"] = csv_file.numbers(path, table["score"])
    table = table[table["n_shots"].astype(str) == "0"]
    rows = [
        {"task": task, "rule": rule} | _means(of_task, rule)
        for task, of_task in table.groupby("task", sort=False)
        for rule in _present(of_task["rule"])
    ]
    return pd.DataFrame(rows)


def _present(rules: pd.Series) -> Sequence[str]:
    return [rule for rule in selection.RULES if rule in set(rules)]


def _means(table: pd.DataFrame, rule: str) -> dict[str, float]:
    own = table["source"] == table["target"]
    means = table[~own].groupby(["rule", "source", "target"])["score"].mean()
    transfer = means.groupby("rule").mean()
    return {
        "pairs": len(means[rule]) if rule in means else 0,
        "own": table[own & (table["rule"] == rule)]["score"].mean(),
        "transfer": transfer.get(rule, float("nan")),
        "minus_last": transfer.get(rule, float("nan")) - transfer.get("last", float("nan")),
    }
