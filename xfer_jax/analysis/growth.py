"""How scores of a table grow with the number of examples, task by task; see `learning`."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from xfer_jax.analysis import learning_curves

_WELL = 0.9  # of the in-language score: what the examples needed are counted for, unless asked


def analyse(
    table: pd.DataFrame,
    own: Mapping[str, Mapping[str, float]],
    reach: float | None,
    seed: int,
    notes: list[str],
) -> dict[str, pd.DataFrame]:
    """Judges the laws of growth by held-out numbers of examples, and counts the examples needed.

    Args:
      table: of scores, see `score_table.check`.
      own: in-language scores by task and language, in percent; NaN where there is none.
      reach: the score that examples are counted for, in percent; None: most of the target's own.
      seed: of the intervals.
      notes: gets what a reader should know.

    Returns:
      `laws`, a row a task and law; `needed`, a row a task and target; `curves`, their points.
    """
    laws, needs, points = [], [], []
    for task, own_scores in own.items():
        of_task = table[(table["task"] == task) & (table["source"] != table["target"])]
        for column in ("arm", "intermediate"):  # as zero-shot scores are compared
            of_task = of_task[of_task[column] == of_task[column].min()]
        axis = _axis(of_task)
        if axis is None:
            continue
        grown = _along(of_task, axis)
        cell = ["source", "target", "intermediate", "arm"]
        means = grown.groupby([*cell, axis])["score"].mean().reset_index()
        curves = [
            (curve[axis].to_numpy(float), curve["score"].to_numpy(float))
            for _, curve in means.groupby(cell)
            if len(curve) >= learning_curves.FEWEST
        ]
        if not curves:
            continue
        for judged in learning_curves.judge(curves):
            laws.append({"task": task, "axis": axis, **dataclasses.asdict(judged)})
        for target, of_target in means.groupby("target"):
            # A mean is of the same sources at every number of examples, or it would jump.
            whole = of_target.pivot(index=["source", *cell[2:]], columns=axis, values="score")
            curve = (
                whole[whole.notna().sum(axis=1) >= learning_curves.FEWEST].dropna().mean().dropna()
            )
            if len(curve) < learning_curves.FEWEST:
                continue
            n, y = curve.index.to_numpy(float), curve.to_numpy()
            points += [
                {"task": task, "target": target, "axis": axis, "n": int(size), "score": score}
                for size, score in zip(n, y, strict=True)
            ]
            goal = reach if reach is not None else _WELL * own_scores[str(target)]
            if not np.isfinite(goal):
                continue
            found = learning_curves.needed(n, y, goal, seed)
            needs.append(
                {
                    "task": task, "target": target, "axis": axis, "reach": goal,
                    "each_doubling": found.b * np.log(2), **dataclasses.asdict(found),
                }
            )  # fmt: skip
    if needs:
        notes.append("examples needed are extrapolated by a + b ln n, from means over sources")
    return {
        "laws": pd.DataFrame(laws),
        "needed": pd.DataFrame(needs),
        "curves": pd.DataFrame(points),
    }


def _along(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Returns the rows of a curve: those that differ in one number of examples alone."""
    if axis == "n_train":
        rows = rows[rows["n_shots"] == rows["n_shots"].min()]
    else:
        largest = rows.groupby(["source", "target", "seed", "n_shots"])["n_train"].transform("max")
        rows = rows[rows["n_train"] == largest]
    return rows[rows[axis] > 0]


def _axis(rows: pd.DataFrame) -> str | None:
    """Returns by which number of examples scores grow, None where there are too few of them."""
    for axis in ("n_shots", "n_train"):
        grown = rows[rows[axis] > 0]
        if (grown.groupby(["source", "target"])[axis].nunique() >= learning_curves.FEWEST).any():
            return axis
    return None
