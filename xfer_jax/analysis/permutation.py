"""Statistics of source x target tables, in which no two pairs are independent.

A language gives a whole row and a whole column, so that the usual p-value of a correlation over
pairs is wrong (with nothing but language main effects its nominal 5% rejects 20%). Here p-values
come from permuting *languages* (QAP: Hubert & Schultz 1976, Krackhardt 1988), intervals from
resampling languages (Snijders & Borgatti 1999). `regression` takes several features at once.

Arrays over pairs are matrices: [S, T], sources down and targets across; NaN where there is nothing.
"""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import numpy as np
import threadpoolctl
from scipy import stats

PERMUTATIONS = 10_000
_AT_ONCE = 1 << 17  # numbers in a block of permuted matrices: what a processor's cache holds


@dataclasses.dataclass(frozen=True)
class Correlation:
    """How a feature of pairs correlates with their scores."""

    pairs: int
    languages: int
    pearson: float
    spearman: float
    naive_p: float  # of Pearson, as if pairs were independent: to be shown beside the next alone
    qap_p: float  # of Pearson, two-sided, by permuting languages
    qap_p_spearman: float
    low: float  # 95% interval of Pearson, by resampling languages
    high: float


def correlate(
    scores: np.ndarray,
    feature: np.ndarray,
    sources: Sequence[int],
    targets: Sequence[int],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    brief: bool = False,
) -> Correlation:
    """Correlates scores with a feature of pairs, over pairs of two different languages.

    Args:
      scores: float [S, T], NaN where a pair has none.
      feature: float [N, N] over all languages, NaN where it is not known.
      sources: int [S], which of the N languages the rows are.
      targets: int [T], which the columns are.
      permutations: of the languages.
      seed: of permutations and resampling.
      brief: leave out the interval, and the p-value of Spearman's correlation.

    Raises:
      ValueError: fewer than three pairs are left, or one side is constant.
    """
    problem = _Problem(scores, feature, np.asarray(sources), np.asarray(targets))
    values, y = problem.observed()
    if len(y) < 3 or np.ptp(values) == 0 or np.ptp(y) == 0:
        raise ValueError("there must be three pairs at least, and two values on either side")
    problems = [problem] if brief else [problem, problem.ranked()]
    nulls = _permuted(problems, permutations, seed)
    p_values = [two_sided(p.correlation(), null) for p, null in zip(problems, nulls, strict=True)]
    pearson = stats.pearsonr(values, y)
    interval = (np.nan, np.nan) if brief else problem.bootstrap(seed)
    return Correlation(
        pairs=len(y),
        languages=len(problem.known),
        pearson=float(pearson.statistic),
        spearman=float(stats.spearmanr(values, y).statistic),
        naive_p=float(pearson.pvalue),
        qap_p=p_values[0],
        qap_p_spearman=float("nan") if brief else p_values[1],
        low=float(interval[0]),
        high=float(interval[1]),
    )


def two_sided(observed: float, null: np.ndarray, rounding: float = 1e-12) -> float:
    """Returns a p-value: how often permutations are as far from zero, the observed one counted."""
    if not np.isfinite(observed):
        return float("nan")
    null = null[np.isfinite(null)]  # without a correlation where all that is left is one value
    extreme = np.sum(np.abs(null) >= abs(observed) - rounding)
    return float((extreme + 1) / (len(null) + 1))


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Scores and a feature, with the languages for which the feature is known."""

    scores: np.ndarray  # [S, T]
    feature: np.ndarray  # [N, N]
    sources: np.ndarray  # [S]
    targets: np.ndarray  # [T]

    @property
    def known(self) -> np.ndarray:
        """Languages that take part: in the table, and the feature known of some pair with them."""
        here = np.zeros(len(self.feature), bool)
        here[self.sources[np.isfinite(self.scores).any(1)]] = True
        here[self.targets[np.isfinite(self.scores).any(0)]] = True
        off_diagonal = np.isfinite(self.feature) & ~np.eye(len(self.feature), dtype=bool)
        return np.flatnonzero(here & (off_diagonal.any(0) | off_diagonal.any(1)))

    def groups(self) -> list[np.ndarray]:
        """Languages of which as much is known: as sources, as targets, or as both.

        Places are traded within them. If a language that the feature is only known of as a target
        could stand in a source's place, most permutations would leave hardly a pair.
        """
        off_diagonal = np.isfinite(self.feature) & ~np.eye(len(self.feature), dtype=bool)
        pattern = 2 * off_diagonal.any(1) + off_diagonal.any(0)
        known = self.known
        return [known[pattern[known] == kind] for kind in np.unique(pattern[known])]

    def mask(self) -> np.ndarray:
        """Which pairs [S, T] count: of two languages, both known, with a score."""
        known = np.isin(self.sources, self.known)[:, None] & np.isin(self.targets, self.known)
        return np.isfinite(self.scores) & known & (self.sources[:, None] != self.targets)

    def observed(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the feature and the scores of the pairs that have both."""
        values = self.feature[np.ix_(self.sources, self.targets)]
        both = self.mask() & np.isfinite(values)
        return values[both], self.scores[both]

    def correlation(self) -> float:
        return float(np.corrcoef(*self.observed())[0, 1])

    def ranked(self) -> "_Problem":
        """Returns the problem with ranks in the place of values, of what counts alone."""
        pairs = np.zeros(self.feature.shape, bool)
        pairs[np.ix_(self.known, self.known)] = True
        np.fill_diagonal(pairs, False)
        feature = np.where(pairs, self.feature, np.nan)
        scores = np.where(self.mask(), self.scores, np.nan)
        return dataclasses.replace(self, scores=_ranks(scores), feature=_ranks(feature))

    def bootstrap(self, seed: int, draws: int = 2000) -> np.ndarray:
        """Returns the 95% interval of the correlation, languages drawn with replacement.

        A pair counts as often as its two languages were drawn together; no language is its own
        pair.
        """
        rng = np.random.default_rng((seed, 1))
        known = self.known
        counts = np.zeros((draws, len(self.feature)))
        drawn = rng.integers(len(known), size=(draws, len(known)))
        np.add.at(counts, (np.arange(draws)[:, None], known[drawn]), 1)
        values = self.feature[np.ix_(self.sources, self.targets)]
        both = self.mask() & np.isfinite(values)
        x = np.where(both, values - np.mean(values[both]), 0)
        y = np.where(both, self.scores - np.mean(self.scores[both]), 0)
        down, across = counts[:, self.sources], counts[:, self.targets]

        def total(matrix: np.ndarray) -> np.ndarray:
            return np.sum((down @ matrix) * across, axis=1)

        n, sx, sy = total(both.astype(float)), total(x), total(y)
        with np.errstate(divide="ignore", invalid="ignore"):
            covariance = total(x * y) - sx * sy / n
            of_x, of_y = total(x * x) - sx**2 / n, total(y * y) - sy**2 / n
            # Where few languages were drawn one side may be the same in all pairs.
            varied = (of_x > 1e-9 * np.nanmax(of_x)) & (of_y > 1e-9 * np.nanmax(of_y))
            r = np.where(varied, covariance / np.sqrt(of_x * of_y), np.nan)
        return np.nanquantile(r, [0.025, 0.975])


def _ranks(matrix: np.ndarray) -> np.ndarray:
    ranks = np.full(matrix.shape, np.nan)
    there = np.isfinite(matrix)
    ranks[there] = stats.rankdata(matrix[there])
    return ranks


def _permuted(problems: Sequence[_Problem], permutations: int, seed: int) -> list[np.ndarray]:
    """Returns the correlations [permutations] of each problem with its languages permuted.

    The problems share their pairs and their languages. Languages trade places, rows and columns
    alike, so that pairs of two languages stay such.
    """
    first = problems[0]
    known, mask = first.known, first.mask()
    rows, columns = (
        side[index]
        for side, index in zip((first.sources, first.targets), np.nonzero(mask), strict=True)
    )
    scores = [problem.scores[mask] - problem.scores[mask].mean() for problem in problems]
    there = np.isfinite(first.feature)
    of_known = ~np.eye(len(there), dtype=bool)[np.ix_(known, known)]
    complete = bool(there[np.ix_(known, known)][of_known].all())
    centred = [
        np.where(there, problem.feature - np.nanmean(problem.feature), 0.0) for problem in problems
    ]

    def correlations(places: np.ndarray) -> np.ndarray:
        flat = places[:, rows] * len(there) + places[:, columns]
        weights = None if complete else np.take(there, flat).astype(float)
        return np.stack(
            [
                _row_correlations(np.take(feature, flat), y, weights)
                for feature, y in zip(centred, scores, strict=True)
            ]
        )

    size = (first.groups(), len(there), len(rows))
    return list(over_permutations(correlations, *size, permutations, seed))


def over_permutations(
    function: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[np.ndarray],
    n: int,
    pairs: int,
    permutations: int,
    seed: int,
) -> np.ndarray:
    """Applies a function to all permutations of languages, blocks at a time on all cores.

    Args:
      function: of int [block, n], which language stands in each one's place; its result ends with
        [block].
      groups: int, languages that trade places within each; the others stay.
      n: number of all languages.
      pairs: number of pairs that the function looks up, which decides the size of a block.
      permutations: how many in all.
      seed: the same one, the same permutations.

    Returns:
      The results, [..., permutations], the same on any number of cores.
    """
    within = tuple(tuple(sorted(group.tolist())) for group in groups)
    places = _places(within, n, permutations, seed)
    block = max(1, _AT_ONCE // max(pairs, 1))
    blocks = [places[start : start + block] for start in range(0, permutations, block)]
    if len(blocks) == 1:
        return function(blocks[0])
    # NumPy lets go of the interpreter's lock in all that takes time here; its BLAS must not start
    # threads of its own in each of these.
    with (
        _libraries().limit(limits=1, user_api="blas"),
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        return np.concatenate(list(pool.map(function, blocks)), axis=-1)


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()  # it looks through all that is loaded


@functools.lru_cache(maxsize=4)
def _places(
    groups: tuple[tuple[int, ...], ...], n: int, permutations: int, seed: int
) -> np.ndarray:
    """Returns which language stands in each one's place, int32 [permutations, n]."""
    drawn = _orders(n, permutations, seed)
    places = np.tile(np.arange(n, dtype=np.int32), (permutations, 1))
    for group in groups:
        # Of a random order of all, that of some is random too.
        inside = np.isin(np.arange(n), group)
        places[:, list(group)] = drawn[inside[drawn]].reshape(permutations, len(group))
    return places


@functools.lru_cache(maxsize=4)
def _orders(n: int, permutations: int, seed: int) -> np.ndarray:
    """Draws orders of all languages, int32 [permutations, n]; every feature is judged by them."""
    rng = np.random.default_rng((seed, 0))
    return np.argsort(rng.random((permutations, n)), axis=1).astype(np.int32)


def _row_correlations(x: np.ndarray, y: np.ndarray, there: np.ndarray | None) -> np.ndarray:
    """Returns the correlations [B] of the rows of x [B, P] with y [P], whose mean is 0.

    Args:
      x: 0 where it is not known.
      y: the other side.
      there: [B, P], 1 where x is known and 0 elsewhere; None: all is.
    """
    n: np.ndarray | float = float(len(y))
    sy: np.ndarray | float = 0.0
    syy = y @ y
    if there is not None:
        n, sy, syy = there.sum(axis=1), there @ y, there @ (y * y)
    sx, sxx = x.sum(axis=1), np.einsum("bp,bp->b", x, x)
    with np.errstate(divide="ignore", invalid="ignore"):  # a permutation may leave one value alone
        return (x @ y - sx * sy / n) / np.sqrt((sxx - sx**2 / n) * (syy - sy**2 / n))


def false_discovery(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns p-values adjusted to the false discovery rate (Benjamini & Hochberg 1995)."""
    return stats.false_discovery_control(np.asarray(p_values))


# --- Features that two languages have or not ------------------------------------------------------


def levels(values: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits a level to each row and each column, whose sums come nearest to the values.

    Args:
      values: [S, T].
      there: bool [S, T], the cells that count.

    Returns:
      Those of the rows [S] and of the columns [T]; a constant may be in either.
    """
    filled, mask = np.where(there, values, 0.0), there.astype(float)
    normal = np.block([[np.diag(mask.sum(axis=1)), mask], [mask.T, np.diag(mask.sum(axis=0))]])
    totals = np.concatenate([filled.sum(axis=1), filled.sum(axis=0)])
    effects = np.linalg.lstsq(normal, totals, rcond=None)[0]
    return effects[: len(values)], effects[len(values) :]


def without_levels(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Takes away, by least squares, what rows and columns have for a level of their own.

    Args:
      values: [S, T].
      there: bool [S, T], the cells that count; the others become NaN.
    """
    down, across = levels(values, there)
    return np.where(there, values - down[:, None] - across, np.nan)


def agreement_p(
    scores: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    values: np.ndarray,
    languages: np.ndarray,
    permutations: int,
    seed: int,
) -> np.ndarray:
    """Tests, for each of F binary features, whether pairs that agree in it score otherwise.

    The statistic is the sum over pairs of score times agreement above its mean. It is a sum of
    three quadratic forms, since two languages agree by both having a feature or both lacking it, so
    that all permutations of a feature are a few matrix products.

    Args:
      scores: [S, T], without levels, 0 where a pair has none.
      sources: int [S], which of the N languages the rows are.
      targets: int [T], which the columns are.
      values: [N, F], 0, 1 or NaN.
      languages: int, those that trade places, where the feature is known of them.
      permutations: of the languages.
      seed: of the permutations.

    Returns:
      Two-sided p-values [F].
    """
    n = len(values)
    observed = np.arange(n)[None]
    p = np.empty(values.shape[1])
    for k in range(values.shape[1]):
        has, lacks = (values[:, k] == 1).astype(float), (values[:, k] == 0).astype(float)
        known = has + lacks
        pairs = known[sources][:, None] * known[targets] * (sources[:, None] != targets)
        equal = has[sources][:, None] * has[targets] + lacks[sources][:, None] * lacks[targets]
        mean = np.sum(equal * pairs) / pairs.sum()
        forms = ((has, 1.0), (lacks, 1.0), (known, -mean))

        def statistic(places: np.ndarray, forms=forms) -> np.ndarray:
            total = np.zeros(len(places))
            for of, weight in forms:
                down, across = of[places[:, sources]], of[places[:, targets]]
                total += weight * np.einsum("bt,bt->b", down @ scores, across)
            return total

        trading = languages[known[languages] > 0]
        null = over_permutations(statistic, [trading], n, 4 * n, permutations, seed)
        value = statistic(observed)[0]
        p[k] = two_sided(value, null, 1e-9 * max(1.0, abs(value)))
    return p
