"""How scores grow with the number of examples, and how many would do.

Three laws of two parameters each are fitted to every curve by least squares: a + b ln n (Muller et
al. 2022, arXiv 2212.01757), a + b n, and a nᵇ. They are judged by what they say of numbers of
examples that they have not seen, never by how well they fit.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

LAWS = ("log", "linear", "power")
FEWEST = 3  # numbers of examples; one is held out, and two parameters need two
_EXPONENTS = np.linspace(-0.5, 1.5, 401)  # of the power law, that are tried
_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law fitted to one curve, or to several: then `a` and `b` are arrays."""

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
      law: of `LAWS`.
      n: numbers of examples [M], positive, at least two different ones.
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
    grown = n ** _EXPONENTS[:, None]  # [exponents, M]
    squares = np.sum(grown**2, axis=1)
    a = scores @ grown.T / squares  # [C, exponents]
    best = np.argmax(a**2 * squares, axis=1)  # what is explained of the sum of squares
    return a[np.arange(len(a)), best], _EXPONENTS[best]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """How well a law knows curves."""

    law: str
    curves: int
    r2: float  # median over curves, of what was fitted: no proof of anything
    inside: float  # mean absolute error, in points, at an n left out between others; NaN: none is
    beyond: float  # at the largest n, fitted to the smaller ones
    best: float  # share of the curves of which it is nearest at the largest n


def judge(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Judgement]:
    """Compares the laws by numbers of examples that they were not fitted to.

    Args:
      curves: (n [M], scores [M]) with at least `FEWEST` rising n.
    """
    inside: dict[str, list[float]] = {law: [] for law in LAWS}
    beyond: dict[str, list[float]] = {law: [] for law in LAWS}
    r2: dict[str, list[float]] = {law: [] for law in LAWS}
    alike: dict[tuple[float, ...], list[np.ndarray]] = {}  # curves over the same numbers
    for n, scores in curves:
        alike.setdefault(tuple(n), []).append(scores)
    for key, several in alike.items():
        n, y = np.asarray(key), np.stack(several)
        spread = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2, axis=1)
        for law in LAWS:
            a, b = _fit_all(law, n, y)
            wrong = np.sum((Fit(law, a[:, None], b[:, None])(n) - y) ** 2, axis=1)
            r2[law] += list(1 - wrong[spread > 0] / spread[spread > 0])
            for k in range(1, len(n)):
                seen = np.arange(len(n)) != k
                errors = np.abs(Fit(law, *_fit_all(law, n[seen], y[:, seen]))(n[k]) - y[:, k])
                (beyond if k == len(n) - 1 else inside)[law] += list(errors)
    nearest = np.argmin([beyond[law] for law in LAWS], axis=0)
    return [
        Judgement(
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
    """How many examples reach a score, by a + b ln n."""

    a: float
    b: float  # points for every e-fold of examples; times ln 2: for every doubling
    # infinite where more examples do not help; the smallest of those tried stands for "at most"
    examples: float
    low: float  # 95% interval; infinite where growth cannot be told from none
    high: float


def needed(n: np.ndarray, scores: np.ndarray, reach: float, seed: int = 0) -> Needed:
    """Estimates how many examples reach a score, by the law a + b ln n.

    The interval is that of exp((reach - a) / b) with a and b drawn from their joint distribution,
    Student's t around the estimates: extrapolation is uncertain, and of two points nothing is said.

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
        later = np.where(b > 0, np.exp((reach - a) / b), np.inf)
    return np.where(a + b * np.log(fewest) >= reach, fewest, later)
