"""Permutation tests on tables of source and target languages, whose cells are not independent.

Each language fills a whole row and a whole column. The usual p-value of a correlation over pairs is
therefore wrong: when only the languages' main effects differ, a test at the nominal level of 5%
rejects in 20% of the cases. Here p-values come from permuting *languages* (QAP: Hubert & Schultz
1976, Krackhardt 1988), and intervals from resampling languages (Snijders & Borgatti 1999).
`regression` tests several features at once.

Arrays over pairs are matrices [S, T]: rows are sources, columns are targets, NaN is missing.
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
_BLOCK_SIZE = 1 << 17  # numbers in a block of permuted matrices, so that it fits a CPU cache


@dataclasses.dataclass(frozen=True)
class Correlation:
    """The correlation of a feature of language pairs with their scores."""

    pairs: int
    languages: int
    pearson: float
    spearman: float
    naive_p: float  # of Pearson, assuming independent pairs: show it only together with `qap_p`
    qap_p: float  # of Pearson, two-sided, from permuting languages
    qap_p_spearman: float
    low: float  # 95% confidence interval of Pearson, from resampling languages
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
    """Correlates scores with a feature, over the pairs of two different languages.

    Args:
      scores: float [S, T], NaN where a pair has none.
      feature: float [N, N] over all languages, NaN where it is unknown.
      sources: int [S], the index of each row's language among the N languages.
      targets: int [T], the same for the columns.
      permutations: number of permutations of the languages.
      seed: of permutations and resampling.
      brief: skip the confidence interval and the p-value of Spearman's correlation.

    Raises:
      ValueError: fewer than three pairs are left, or the scores or the feature are constant.
    """
    problem = _Problem(scores, feature, np.asarray(sources), np.asarray(targets))
    values, y = problem.observed()
    if len(y) < 3 or np.ptp(values) == 0 or np.ptp(y) == 0:
        raise ValueError(
            "at least three pairs are needed, with two different scores and two different values"
        )
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
    """Returns the share of values, `observed` included, at least as far from zero as `observed`."""
    if not np.isfinite(observed):
        return float("nan")
    null = null[np.isfinite(null)]  # a permutation that leaves one value has no correlation
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
        """The languages in the table with at least one pair for which the feature is known."""
        here = np.zeros(len(self.feature), bool)
        here[self.sources[np.isfinite(self.scores).any(1)]] = True
        here[self.targets[np.isfinite(self.scores).any(0)]] = True
        off_diagonal = np.isfinite(self.feature) & ~np.eye(len(self.feature), dtype=bool)
        return np.flatnonzero(here & (off_diagonal.any(0) | off_diagonal.any(1)))

    def groups(self) -> list[np.ndarray]:
        """Groups languages: feature known as source only, as target only, or as both.

        Languages are permuted only inside a group. If a language whose feature is known only as a
        target could take the place of a source, most permutations would leave almost no pair.
        """
        off_diagonal = np.isfinite(self.feature) & ~np.eye(len(self.feature), dtype=bool)
        pattern = 2 * off_diagonal.any(1) + off_diagonal.any(0)
        known = self.known
        return [known[pattern[known] == kind] for kind in np.unique(pattern[known])]

    def mask(self) -> np.ndarray:
        """The pairs [S, T] that count: two different known languages, with a score."""
        known = np.isin(self.sources, self.known)[:, None] & np.isin(self.targets, self.known)
        return np.isfinite(self.scores) & known & (self.sources[:, None] != self.targets)

    def observed(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the feature values and the scores of the pairs that have both."""
        values = self.feature[np.ix_(self.sources, self.targets)]
        both = self.mask() & np.isfinite(values)
        return values[both], self.scores[both]

    def correlation(self) -> float:
        return float(np.corrcoef(*self.observed())[0, 1])

    def ranked(self) -> "_Problem":
        """Returns the same problem with ranks, over the pairs that count, instead of values."""
        pairs = np.zeros(self.feature.shape, bool)
        pairs[np.ix_(self.known, self.known)] = True
        np.fill_diagonal(pairs, False)
        feature = np.where(pairs, self.feature, np.nan)
        scores = np.where(self.mask(), self.scores, np.nan)
        return dataclasses.replace(self, scores=_ranks(scores), feature=_ranks(feature))

    def bootstrap(self, seed: int, draws: int = 2000) -> np.ndarray:
        """Returns the 95% confidence interval of the correlation, from resampling languages.

        Languages are drawn with replacement. The weight of a pair is the product of how often its
        two languages were drawn; a language never forms a pair with itself.
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
            # If a draw holds few languages, scores or feature may be constant over its pairs.
            varied = (of_x > 1e-9 * np.nanmax(of_x)) & (of_y > 1e-9 * np.nanmax(of_y))
            r = np.where(varied, covariance / np.sqrt(of_x * of_y), np.nan)
        return np.nanquantile(r, [0.025, 0.975])


def _ranks(matrix: np.ndarray) -> np.ndarray:
    ranks = np.full(matrix.shape, np.nan)
    known = np.isfinite(matrix)
    ranks[known] = stats.rankdata(matrix[known])
    return ranks


def _permuted(problems: Sequence[_Problem], permutations: int, seed: int) -> list[np.ndarray]:
    """Returns, for each problem, its correlations [permutations] with the languages permuted.

    The problems share their pairs and their languages. Rows and columns are permuted together, so
    that a pair of two different languages stays a pair of two different languages.
    """
    first = problems[0]
    known, mask = first.known, first.mask()
    rows, columns = (
        side[index]
        for side, index in zip((first.sources, first.targets), np.nonzero(mask), strict=True)
    )
    scores = [problem.scores[mask] - problem.scores[mask].mean() for problem in problems]
    has_value = np.isfinite(first.feature)
    of_known = ~np.eye(len(has_value), dtype=bool)[np.ix_(known, known)]
    complete = bool(has_value[np.ix_(known, known)][of_known].all())
    centred = [
        np.where(has_value, problem.feature - np.nanmean(problem.feature), 0.0)
        for problem in problems
    ]

    def correlations(places: np.ndarray) -> np.ndarray:
        flat = places[:, rows] * len(has_value) + places[:, columns]
        weights = None if complete else np.take(has_value, flat).astype(float)
        return np.stack(
            [
                _row_correlations(np.take(feature, flat), y, weights)
                for feature, y in zip(centred, scores, strict=True)
            ]
        )

    size = (first.groups(), len(has_value), len(rows))
    return list(over_permutations(correlations, *size, permutations, seed))


def over_permutations(
    function: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[np.ndarray],
    n: int,
    pairs: int,
    permutations: int,
    seed: int,
) -> np.ndarray:
    """Applies a function to all permutations of languages, in blocks and on all cores.

    Args:
      function: takes int [block, n], the language that replaces each language; the last axis of
        its result is [block].
      groups: int, languages are permuted inside each group; languages in no group stay.
      n: number of all languages.
      pairs: number of pairs that the function looks up; it decides the size of a block.
      permutations: number of all permutations.
      seed: of the permutations.

    Returns:
      The results, [..., permutations], the same on any number of cores.
    """
    sorted_groups = tuple(tuple(sorted(group.tolist())) for group in groups)
    places = _places(sorted_groups, n, permutations, seed)
    block = max(1, _BLOCK_SIZE // max(pairs, 1))
    blocks = [places[start : start + block] for start in range(0, permutations, block)]
    if len(blocks) == 1:
        return function(blocks[0])
    # The slow parts are NumPy calls that release the interpreter's lock; BLAS must not start
    # threads of its own in each of our threads.
    with (
        _libraries().limit(limits=1, user_api="blas"),
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        return np.concatenate(list(pool.map(function, blocks)), axis=-1)


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()  # slow: it inspects every loaded library


@functools.lru_cache(maxsize=4)
def _places(
    groups: tuple[tuple[int, ...], ...], n: int, permutations: int, seed: int
) -> np.ndarray:
    """Returns the language that replaces each language, int32 [permutations, n]."""
    drawn = _orders(n, permutations, seed)
    places = np.tile(np.arange(n, dtype=np.int32), (permutations, 1))
    for group in groups:
        # A random order of all languages is also a random order of any subset of them.
        inside = np.isin(np.arange(n), group)
        places[:, list(group)] = drawn[inside[drawn]].reshape(permutations, len(group))
    return places


@functools.lru_cache(maxsize=4)
def _orders(n: int, permutations: int, seed: int) -> np.ndarray:
    """Draws orders of all languages, int32 [permutations, n]; all features share them."""
    rng = np.random.default_rng((seed, 0))
    return np.argsort(rng.random((permutations, n)), axis=1).astype(np.int32)


def _row_correlations(x: np.ndarray, y: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """Returns the correlations [B] of the rows of x [B, P] with y [P], whose mean is 0.

    Args:
      x: 0 where it is unknown.
      y: the scores.
      known: [B, P], 1 where x is known and 0 elsewhere; None if all of x is known.
    """
    n: np.ndarray | float = float(len(y))
    sy: np.ndarray | float = 0.0
    syy = y @ y
    if known is not None:
        n, sy, syy = known.sum(axis=1), known @ y, known @ (y * y)
    sx, sxx = x.sum(axis=1), np.einsum("bp,bp->b", x, x)
    with np.errstate(divide="ignore", invalid="ignore"):  # a permutation may leave a single value
        return (x @ y - sx * sy / n) / np.sqrt((sxx - sx**2 / n) * (syy - sy**2 / n))


def false_discovery(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns p-values adjusted to the false discovery rate (Benjamini & Hochberg 1995)."""
    return stats.false_discovery_control(np.asarray(p_values))


# --- Binary features that two languages share or not ----------------------------------------------


def main_effects(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits values as a row effect plus a column effect, by least squares.

    Args:
      values: [S, T].
      mask: bool [S, T], the cells that count.

    Returns:
      The row effects [S] and the column effects [T]; either may contain the grand mean.
    """
    filled, count = np.where(mask, values, 0.0), mask.astype(float)
    normal = np.block([[np.diag(count.sum(axis=1)), count], [count.T, np.diag(count.sum(axis=0))]])
    totals = np.concatenate([filled.sum(axis=1), filled.sum(axis=0)])
    effects = np.linalg.lstsq(normal, totals, rcond=None)[0]
    return effects[: len(values)], effects[len(values) :]


def without_main_effects(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Subtracts the row and column effects: what is left controls for source and target language.

    Args:
      values: [S, T].
      mask: bool [S, T], the cells that count; the others become NaN.
    """
    down, across = main_effects(values, mask)
    return np.where(mask, values - down[:, None] - across, np.nan)


def agreement_p(
    scores: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    values: np.ndarray,
    languages: np.ndarray,
    permutations: int,
    seed: int,
) -> np.ndarray:
    """Tests, for each of F binary features, whether agreement in it correlates with the score.

    The test statistic is the sum over pairs of score times centred agreement. Two languages agree
    when both have a feature or both lack it, so the statistic is a sum of three quadratic forms,
    and a few matrix products compute it for all permutations of a feature.

    Args:
      scores: [S, T], without main effects, 0 where a pair has none.
      sources: int [S], the index of each row's language among the N languages.
      targets: int [T], the same for the columns.
      values: [N, F], 0, 1 or NaN.
      languages: int, the languages to permute, where their feature is known.
      permutations: number of permutations of the languages.
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

        permuted = languages[known[languages] > 0]
        null = over_permutations(statistic, [permuted], n, 4 * n, permutations, seed)
        value = statistic(observed)[0]
        p[k] = two_sided(value, null, 1e-9 * max(1.0, abs(value)))
    return p
