"""Learning curves: scores by number of examples, and how many examples a score needs.

Three laws with two parameters each are fitted to every curve by least squares: a + b ln n (Muller
et al. 2022, arXiv 2212.01757), a + b n, and a nᵇ. They are compared by their error at held-out
numbers of examples, never by how well they fit.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

LAWS = ("log", "linear", "power")
FEWEST = 3  # numbers of examples in a curve: one is held out, and two parameters need two
_EXPONENTS = np.linspace(-0.5, 1.5, 401)  # exponents of the power law to try
_DRAWS = 2000
_SHARE_OF_IN_LANGUAGE = 0.9  # default score to reach, as a share of the in-language score


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law fitted to one curve, or to several curves: then `a` and `b` are arrays."""

    law: str
    a: Any
    b: Any

    def __call__(self, n: np.ndarray) -> np.ndarray:
        n = np.asarray(n, float)
        if self.law == "log":
            return self.a + self.b * np.log(n)
        return self.a + self.b * n if self.law == "linear" else self.a * n**self.b


def fit(law: str, n: np.ndarray, scores: np.ndarray) -> Fit:
    """Fits a law by least squares.

    Args:
      law: one of `LAWS`.
      n: numbers of examples [M], positive, at least two different.
      scores: [M].
    """
    a, b = _fit_all(law, np.asarray(n, float), np.asarray(scores, float)[None])
    return Fit(law, float(a[0]), float(b[0]))


def _fit_all(law: str, n: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a and b [C] of curves [C, M] over the same n [M]."""
    if law != "power":
        x = np.log(n) if law == "log" else n
        centred = x - x.mean()
        b = scores @ centred / (centred @ centred)
        return scores.mean(axis=1) - b * x.mean(), b
    powers = n ** _EXPONENTS[:, None]  # [exponents, M]
    squares = np.sum(powers**2, axis=1)
    a = scores @ powers.T / squares  # [C, exponents]
    best = np.argmax(a**2 * squares, axis=1)  # maximises the explained sum of squares
    return a[np.arange(len(a)), best], _EXPONENTS[best]


@dataclasses.dataclass(frozen=True)
class LawErrors:
    """The errors of a law at held-out numbers of examples."""

    law: str
    curves: int
    r2: float  # median over curves of the R² of the fit; it does not show that the law holds
    # mean absolute error, in points, at a held-out n between others (interpolation); NaN if none is
    inside: float
    beyond: float  # the same at the largest n, fitted to the smaller ones (extrapolation)
    best: float  # share of the curves for which it has the smallest error at the largest n


def compare_laws(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[LawErrors]:
    """Compares the laws by their errors at held-out numbers of examples.

    Args:
      curves: (n [M], scores [M]) with at least `FEWEST` values of n, in increasing order.
    """
    inside: dict[str, list[float]] = {law: [] for law in LAWS}
    beyond: dict[str, list[float]] = {law: [] for law in LAWS}
    r2: dict[str, list[float]] = {law: [] for law in LAWS}
    by_sizes: dict[tuple[float, ...], list[np.ndarray]] = {}  # curves over the same n
    for n, scores in curves:
        by_sizes.setdefault(tuple(n), []).append(scores)
    for key, several in by_sizes.items():
        n, y = np.asarray(key), np.stack(several)
        spread = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2, axis=1)
        for law in LAWS:
            a, b = _fit_all(law, n, y)
            residual = np.sum((Fit(law, a[:, None], b[:, None])(n) - y) ** 2, axis=1)
            r2[law] += list(1 - residual[spread > 0] / spread[spread > 0])
            for k in range(1, len(n)):
                seen = np.arange(len(n)) != k
                errors = np.abs(Fit(law, *_fit_all(law, n[seen], y[:, seen]))(n[k]) - y[:, k])
                (beyond if k == len(n) - 1 else inside)[law] += list(errors)
    nearest = np.argmin([beyond[law] for law in LAWS], axis=0)
    return [
        LawErrors(
            law,
            len(curves),
            float(np.median(r2[law])) if r2[law] else float("nan"),
            float(np.mean(inside[law])) if inside[law] else float("nan"),
            float(np.mean(beyond[law])),
            float(np.mean(nearest == i)),
        )
        for i, law in enumerate(LAWS)
    ]


@dataclasses.dataclass(frozen=True)
class Needed:
    """The number of examples that reach a score, by a + b ln n."""

    a: float
    b: float  # points per factor e of examples; times ln 2: points per doubling
    # infinite if more examples do not help; the smallest n of the curve means "at most so many"
    examples: float
    low: float  # 95% confidence interval; infinite if the slope does not differ from 0
    high: float


def needed(n: np.ndarray, scores: np.ndarray, reach: float, seed: int = 0) -> Needed:
    """Estimates how many examples reach a score, by the law a + b ln n.

    The confidence interval is that of exp((reach - a) / b), with a and b drawn from their joint
    distribution, Student's t around the estimates. Two points are too few for an interval (NaN).

    Args:
      n: numbers of examples [M], positive.
      scores: [M].
      reach: the score to reach.
      seed: of the draws.
    """
    law = fit("log", n, scores)
    freedom = len(n) - 2
    low = high = float("nan")
    if freedom > 0:
        x = np.stack([np.ones(len(n)), np.log(n)], axis=1)
        rest = scores - law(n)
        covariance = np.linalg.inv(x.T @ x) * (rest @ rest) / freedom
        rng = np.random.default_rng((seed, 2))
        normal = rng.standard_normal((_DRAWS, 2)) @ _root(covariance).T
        drawn = [law.a, law.b] + normal / np.sqrt(rng.chisquare(freedom, (_DRAWS, 1)) / freedom)
        reaching = _reaching(drawn[:, 0], drawn[:, 1], reach, n.min())
        low, high = np.quantile(reaching, [0.025, 0.975], method="nearest")
    examples = _reaching(np.asarray(law.a), np.asarray(law.b), reach, n.min())
    return Needed(law.a, law.b, float(examples), float(low), float(high))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def _reaching(a: np.ndarray, b: np.ndarray, reach: float, fewest: float) -> np.ndarray:
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        more = np.where(b > 0, np.exp((reach - a) / b), np.inf)
    return np.where(a + b * np.log(fewest) >= reach, fewest, more)


# --- Tables ---------------------------------------------------------------------------------------


def analyse(
    table: pd.DataFrame,
    own: Mapping[str, Mapping[str, float]],
    reach: float | None,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Compares the laws on the learning curves of a table, and estimates the examples needed.

    Args:
      table: scores, see `score_table.check`.
      own: in-language scores by task and language, in percent; NaN where there is none.
      reach: the score to reach, in percent; None: 90% of the target's in-language score.
      seed: of the confidence intervals.

    Returns:
      `laws`, one row per task and law; `needed`, one row per task and target; `curves`, the points
      of the curves. And notes for the reader.
    """
    laws, needs, points = [], [], []
    for task, own_scores in own.items():
        of_task = table[(table["task"] == task) & (table["source"] != table["target"])]
        for column in ("arm", "intermediate"):  # the same choice as for zero-shot scores
            of_task = of_task[of_task[column] == of_task[column].min()]
        axis = _axis(of_task)
        if axis is None:
            continue
        along = _along(of_task, axis)
        cell = ["source", "target", "intermediate", "arm"]
        means = along.groupby([*cell, axis])["score"].mean().reset_index()
        curves = [
            (curve[axis].to_numpy(float), curve["score"].to_numpy(float))
            for _, curve in means.groupby(cell)
            if len(curve) >= FEWEST
        ]
        if not curves:
            continue
        for errors in compare_laws(curves):
            laws.append({"task": task, "axis": axis, **dataclasses.asdict(errors)})
        for target, of_target in means.groupby("target"):
            # Average over the same sources at every number of examples, or the curve would jump.
            scores = of_target.pivot(index=["source", *cell[2:]], columns=axis, values="score")
            curve = scores[scores.notna().sum(axis=1) >= FEWEST].dropna().mean().dropna()
            if len(curve) < FEWEST:
                continue
            n, y = curve.index.to_numpy(float), curve.to_numpy()
            points += [
                {"task": task, "target": target, "axis": axis, "n": int(size), "score": score}
                for size, score in zip(n, y, strict=True)
            ]
            goal = reach if reach is not None else _SHARE_OF_IN_LANGUAGE * own_scores[str(target)]
            if not np.isfinite(goal):
                continue
            found = needed(n, y, goal, seed)
            needs.append(
                {
                    "task": task, "target": target, "axis": axis, "reach": goal,
                    "each_doubling": found.b * np.log(2), **dataclasses.asdict(found),
                }
            )  # fmt: skip
    note = (
        "the examples needed are extrapolated by a + b ln n from mean scores over source languages"
    )
    tables = {
        "laws": pd.DataFrame(laws),
        "needed": pd.DataFrame(needs),
        "curves": pd.DataFrame(points),
    }
    return tables, [note] if needs else []


def _along(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Returns the rows that differ in this number of examples only."""
    if axis == "n_train":
        rows = rows[rows["n_shots"] == rows["n_shots"].min()]
    else:
        largest = rows.groupby(["source", "target", "seed", "n_shots"])["n_train"].transform("max")
        rows = rows[rows["n_train"] == largest]
    return rows[rows[axis] > 0]


def _axis(rows: pd.DataFrame) -> str | None:
    """Returns the column of the number of examples that varies; None if it has too few values."""
    for axis in ("n_shots", "n_train"):
        positive = rows[rows[axis] > 0]
        if (positive.groupby(["source", "target"])[axis].nunique() >= FEWEST).any():
            return axis
    return None
