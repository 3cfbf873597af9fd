"""Several features of pairs at once, and how much is due to the languages themselves.

Scores are regressed on features over pairs of two languages. Pairs are not independent: p-values
come from permuting languages by double semi-partialing (MRQAP: Dekker, Krackhardt & Snijders 2007),
and beside them stands a mixed model with crossed random effects of source and target language.
How much a regression knows is judged by languages that it has not seen.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize

from xfer_jax.analysis import permutation

COLLINEAR = 10.0  # a variance inflation factor above it: the features cannot be told apart
_PAIRS_A_FEATURE = 5  # fewer, and nothing is regressed


@dataclasses.dataclass(frozen=True)
class Sample:
    """Pairs of two languages with a score, of languages of whose pairs every feature is known."""

    names: tuple[str, ...]
    scores: np.ndarray  # [P]
    features: np.ndarray  # [K, N, N], standardised over the pairs; N as in the tables
    rows: np.ndarray  # int [P], source language of each pair
    columns: np.ndarray  # int [P], target language
    languages: np.ndarray  # int, those that take part

    @property
    def x(self) -> np.ndarray:
        """The features of the pairs, [P, K]."""
        return self.features[:, self.rows, self.columns].T


def sample(
    scores: np.ndarray,
    features: Mapping[str, np.ndarray],
    sources: Sequence[int],
    targets: Sequence[int],
) -> Sample:
    """Chooses the pairs that a regression is made of.

    Languages of which the most is unknown are left out one by one, until every feature is known of
    all pairs of those that are left.

    Args:
      scores: float [S, T], NaN where a pair has none.
      features: float [N, N] by name, NaN where unknown.
      sources: int [S], which of the N languages the rows are.
      targets: int [T], which the columns are.

    Raises:
      ValueError: no feature, too few pairs are left, or a feature is the same in all.
    """
    if not features:
        raise ValueError("no feature is known of enough of its pairs")
    stacked = np.stack(list(features.values())).astype(float)
    unknown = ~np.isfinite(stacked).all(axis=0)
    np.fill_diagonal(unknown, False)
    here = np.isin(np.arange(len(unknown)), [*sources, *targets])
    while True:
        lacking = (unknown | unknown.T)[np.ix_(here, here)].sum(axis=1)
        if not lacking.any():
            break
        here[np.flatnonzero(here)[np.argmax(lacking)]] = False
    down, across = np.asarray(sources), np.asarray(targets)
    there = np.isfinite(scores) & here[down][:, None] & here[across]
    there &= down[:, None] != across
    i, j = np.nonzero(there)
    rows, columns = down[i], across[j]
    if len(rows) < _PAIRS_A_FEATURE * (len(features) + 1):
        raise ValueError(f"{len(rows)} pairs are too few for {len(features)} features")
    over_pairs = stacked[:, rows, columns]
    spread = over_pairs.std(axis=1, keepdims=True)
    if (spread == 0).any():
        constant = list(features)[int(np.argmin(spread))]
        raise ValueError(f"{constant} is the same in all {len(rows)} pairs")
    mean = over_pairs.mean(axis=1, keepdims=True)
    return Sample(
        tuple(features),
        scores[there],
        (stacked - mean[:, None]) / spread[:, None],
        rows,
        columns,
        np.flatnonzero(here),
    )


def collinearity(x: np.ndarray) -> np.ndarray:
    """Returns the variance inflation factor of each column of x [P, K], 1 / (1 - R²)."""
    factors = np.empty(x.shape[1])
    for k in range(x.shape[1]):
        rest = _residual(_basis(np.delete(x, k, axis=1)), x[:, k])
        share = rest @ rest / np.sum((x[:, k] - x[:, k].mean()) ** 2)
        factors[k] = 1 / share if share > 1e-12 else np.inf
    return factors


def distinct(x: Mapping[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Leaves out features [P] that the others tell, the most inflated first.

    Returns:
      The names that are kept, and those that are not.
    """
    kept, dropped = list(x), []
    while len(kept) > 1:
        factors = collinearity(np.stack([x[name] for name in kept], axis=1))
        if factors.max() <= COLLINEAR:
            break
        dropped.append(kept.pop(int(np.argmax(factors))))
    return kept, dropped


@dataclasses.dataclass(frozen=True)
class Coefficient:
    """What one feature adds to the others."""

    feature: str
    beta: float  # standardised: standard deviations of the score for one of the feature
    partial: float  # correlation with the score, the other features held constant
    qap_p: float  # two-sided, by double semi-partialing
    vif: float
    mixed: float  # points of the score for one standard deviation, in the mixed model
    mixed_low: float  # 95% interval by Wald
    mixed_high: float


@dataclasses.dataclass(frozen=True)
class Regression:
    """Scores of pairs as a linear function of features."""

    coefficients: tuple[Coefficient, ...]
    pairs: int
    languages: int
    r2: float
    unseen_r2: float  # of pairs with a language that was left out
    source_sd: float  # of the mixed model's random effects, in points
    target_sd: float
    rest_sd: float


def regress(
    pairs: Sample, permutations: int = permutation.PERMUTATIONS, seed: int = 0
) -> Regression:
    """Regresses scores on features over pairs.

    Args:
      pairs: see `sample`.
      permutations: of the languages, for each feature.
      seed: of the permutations.

    Raises:
      ValueError: features that say the same.
    """
    x, y = pairs.x, pairs.scores
    everything = _basis(x)
    rest = _residual(everything, y)
    centred = y - y.mean()
    beta = np.linalg.lstsq(x - x.mean(axis=0), centred / y.std(), rcond=None)[0]
    factors = collinearity(x)
    if np.isinf(factors).any():
        alike = [name for name, inf in zip(pairs.names, np.isinf(factors), strict=True) if inf]
        raise ValueError(f"{', '.join(alike)} determine each other, and cannot be told apart")
    model = mixed(y, x, pairs.rows, pairs.columns)
    coefficients = []
    for k, name in enumerate(pairs.names):
        others = [i for i in range(len(pairs.names)) if i != k]
        r, p = _semi_partial(pairs, k, others, permutations, seed)
        middle, half = model.slopes[k], 1.959964 * model.errors[k]
        coefficients.append(
            Coefficient(
                name, float(beta[k]), r, p, float(factors[k]),
                float(middle), float(middle - half), float(middle + half),
            )
        )  # fmt: skip
    return Regression(
        tuple(coefficients),
        len(y),
        len(pairs.languages),
        float(1 - rest @ rest / (centred @ centred)),
        unseen_r2(pairs),
        model.source_sd,
        model.target_sd,
        model.rest_sd,
    )


def within(
    pairs: Sample, permutations: int = permutation.PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """Correlates scores with a sample's only feature, every language's own level taken away.

    Returns:
      The partial correlation given source and target language, and its p-value by QAP. NaN where
      the feature is one of the source or of the target alone.
    """
    y, x = (_without_levels(pairs, values) for values in (pairs.scores, pairs.x[:, 0]))
    if x @ x < 1e-9 * len(x) or y @ y < 1e-9 * len(y):
        return float("nan"), float("nan")
    # Every permutation leaves the levels out of account, since they are out of the scores.
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    flat = pairs.features[0].ravel()
    n = len(pairs.features[0])

    def sums(places: np.ndarray) -> np.ndarray:
        return np.take(flat, places[:, pairs.rows] * n + places[:, pairs.columns]) @ y

    observed = float(sums(np.arange(n)[None])[0])
    size = ([pairs.languages], n, len(pairs.rows))
    null = permutation.over_permutations(sums, *size, permutations, seed)
    return r, permutation.two_sided(observed, null, 1e-9 * abs(observed))


def _without_levels(pairs: Sample, values: np.ndarray) -> np.ndarray:
    """Takes from the values of pairs [P] what their source or their target explains."""
    grid = np.full(pairs.features.shape[1:], np.nan)
    grid[pairs.rows, pairs.columns] = values
    return permutation.without_levels(grid, np.isfinite(grid))[pairs.rows, pairs.columns]


def _semi_partial(
    pairs: Sample, k: int, others: Sequence[int], permutations: int, seed: int
) -> tuple[float, float]:
    """Returns a feature's partial correlation given others, and its p-value."""
    known = pairs.x[:, others]
    design = np.concatenate([np.ones((len(known), 1)), known], axis=1)
    slopes = np.linalg.lstsq(design, pairs.x[:, k], rcond=None)[0]
    fitted = slopes[0] + np.tensordot(slopes[1:], pairs.features[others], axes=1)
    basis = _basis(known)
    y = _residual(basis, pairs.scores)
    return _permuted_partial(pairs, pairs.features[k] - fitted, basis, y, permutations, seed)


def _permuted_partial(
    pairs: Sample,
    feature: np.ndarray,
    basis: np.ndarray,
    y: np.ndarray,
    permutations: int,
    seed: int,
) -> tuple[float, float]:
    """Returns the correlation of feature [N, N] and y [P], given a basis, and its p by QAP."""
    flat = feature.ravel()
    norm = np.sqrt(y @ y)

    def correlations(places: np.ndarray) -> np.ndarray:
        x = np.take(flat, places[:, pairs.rows] * len(feature) + places[:, pairs.columns])
        explained = x @ basis
        left = np.einsum("bp,bp->b", x, x) - np.einsum("bk,bk->b", explained, explained)
        return (x @ y) / (norm * np.sqrt(np.maximum(left, 1e-300)))

    observed = correlations(np.arange(len(feature))[None])[0]
    size = ([pairs.languages], len(feature), len(pairs.rows))
    null = permutation.over_permutations(correlations, *size, permutations, seed)
    return float(observed), permutation.two_sided(observed, null)


def unseen_r2(pairs: Sample) -> float:
    """Returns R² for pairs with a language that the regression has not seen.

    Each language in turn is left out with all its pairs, which are then predicted from the others.
    It is below 0 where the mean of the others' scores would predict better.
    """
    design = np.concatenate([np.ones((len(pairs.scores), 1)), pairs.x], axis=1)
    wrong = spread = 0.0
    for language in pairs.languages:
        held_out = (pairs.rows == language) | (pairs.columns == language)
        if not held_out.any() or held_out.all():
            continue
        slopes = np.linalg.lstsq(design[~held_out], pairs.scores[~held_out], rcond=None)[0]
        truth = pairs.scores[held_out]
        wrong += float(np.sum((truth - design[held_out] @ slopes) ** 2))
        spread += float(np.sum((truth - pairs.scores[~held_out].mean()) ** 2))
    return 1 - wrong / spread


def _basis(x: np.ndarray) -> np.ndarray:
    """Returns an orthonormal basis of the columns of x [P, K] and a constant."""
    with_constant = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    u, s, _ = np.linalg.svd(with_constant, full_matrices=False)
    return u[:, s > 1e-10 * s[0]]


def _residual(basis: np.ndarray, y: np.ndarray) -> np.ndarray:
    return y - basis @ (basis.T @ y)


# --- Mixed effects --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Mixed:
    """A linear model with random effects of two crossed groups, fitted by REML."""

    slopes: np.ndarray  # [K]
    errors: np.ndarray  # [K], standard errors
    source_sd: float
    target_sd: float
    rest_sd: float


def mixed(y: np.ndarray, x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Mixed:
    """Fits y = a + x b + source effect + target effect + rest, by restricted likelihood.

    statsmodels fits the same model with a dense [P, P] covariance, which 6,825 pairs make a matter
    of many minutes; here all runs in the space of the S + T effects (Henderson's equations).

    Args:
      y: [P].
      x: [P, K].
      rows: int [P], source of each pair.
      columns: int [P], target.
    """
    groups = [(side[:, None] == np.unique(side)).astype(float) for side in (rows, columns)]
    sizes = [group.shape[1] for group in groups]
    z = np.concatenate(groups, axis=1)
    fixed = np.concatenate([np.ones((len(y), 1)), x], axis=1)
    data = np.concatenate([fixed, y[:, None]], axis=1)
    zz, zd, dd = z.T @ z, z.T @ data, data.T @ data
    freedom = len(y) - fixed.shape[1]

    def parts(log_ratios: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns data' V⁻¹ data and log |V|, V in units of the rest's variance."""
        scale = np.sqrt(np.exp(np.repeat(log_ratios, sizes)))
        inner = np.eye(len(zz)) + scale[:, None] * zz * scale
        factor = np.linalg.cholesky(inner)
        half = np.linalg.solve(factor, scale[:, None] * zd)
        return dd - half.T @ half, 2 * float(np.sum(np.log(np.diag(factor))))

    def loss(log_ratios: np.ndarray) -> float:
        m, log_v = parts(log_ratios)
        xx, xy, yy = m[:-1, :-1], m[:-1, -1], m[-1, -1]
        rss = yy - xy @ np.linalg.solve(xx, xy)
        return (
            freedom * np.log(max(rss, 1e-12 * dd[-1, -1]) / freedom)
            + log_v
            + np.linalg.slogdet(xx)[1]
        )

    bounds = [(-15.0, 10.0)] * 2
    starts = [np.zeros(2), np.full(2, -3.0)]
    fits = [optimize.minimize(loss, s, method="L-BFGS-B", bounds=bounds) for s in starts]
    best = min(fits, key=lambda fit: fit.fun).x
    m, _ = parts(best)
    xx, xy = m[:-1, :-1], m[:-1, -1]
    slopes = np.linalg.solve(xx, xy)
    variance = max(float(m[-1, -1] - xy @ slopes), 0.0) / freedom  # a perfect fit leaves none
    errors = np.sqrt(variance * np.diag(np.linalg.inv(xx)))
    source_sd, target_sd = np.sqrt(variance * np.exp(best))
    return Mixed(
        slopes[1:], errors[1:], float(source_sd), float(target_sd), float(np.sqrt(variance))
    )


# --- Languages by themselves ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Shares:
    """How the variance of scores over pairs divides."""

    of_source: float  # that only the source language tells
    of_target: float  # that only the target language tells
    of_both: float  # that either tells, where not all pairs have scores
    of_pair: float  # the rest: of the two languages together, and noise
    reciprocity: float  # correlation of a pair's rest with that of the pair turned round


@dataclasses.dataclass(frozen=True)
class Levels:
    """What a language gives as source and takes as target, in points above the mean."""

    donor: np.ndarray  # [N], NaN where a language is no source
    donor_error: np.ndarray  # standard errors
    recipient: np.ndarray
    recipient_error: np.ndarray
    shares: Shares


def levels(scores: np.ndarray, sources: Sequence[int], targets: Sequence[int], n: int) -> Levels:
    """Splits scores into mean, donor effect, recipient effect and rest, by least squares.

    A language's effect is what it gives or takes beyond the mean, whichever others it was paired
    with; so it does not depend on which cells were run. Effects sum to 0 on either side.

    Args:
      scores: float [S, T], NaN where a pair has none.
      sources: int [S], which of the N languages the rows are.
      targets: int [T], which the columns are.
      n: N.

    Raises:
      ValueError: too few pairs to tell languages from noise.
    """
    down, across = np.asarray(sources), np.asarray(targets)
    there = np.isfinite(scores) & (down[:, None] != across)
    i, j = np.nonzero(there)
    y = scores[there]
    one, other = np.unique(i, return_inverse=True), np.unique(j, return_inverse=True)
    designs = [np.eye(len(side[0]))[side[1]] for side in (one, other)]
    parameters = len(one[0]) + len(other[0]) - 1
    if min(len(one[0]), len(other[0])) < 2 or len(y) <= parameters:
        raise ValueError(
            f"{len(y)} pairs are too few to estimate {parameters} effects of languages, as they"
            " cannot tell them from noise"
        )
    # Effects of a side sum to 0: the last is minus the sum of the others.
    coded = [np.concatenate([d[:, :-1] - d[:, -1:]], axis=1) for d in designs]
    design = np.concatenate([np.ones((len(y), 1)), *coded], axis=1)
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    rest = y - design @ solution
    covariance = np.linalg.pinv(design.T @ design) * (rest @ rest) / (len(y) - parameters)

    def side(begin: int, where: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = len(where) - 1
        expand = np.concatenate([np.eye(count), -np.ones((1, count))])
        part = slice(begin, begin + count)
        effects, errors = np.full(n, np.nan), np.full(n, np.nan)
        effects[of[where]] = expand @ solution[part]
        errors[of[where]] = np.sqrt(np.diag(expand @ covariance[part, part] @ expand.T))
        return effects, errors

    total = float(np.sum((y - y.mean()) ** 2))

    def explained(*parts: np.ndarray) -> float:
        left = _residual(_basis(np.concatenate(parts, axis=1)), y)
        return 1 - float(left @ left) / total if total else float("nan")

    both, by_source, by_target = explained(*designs), explained(designs[0]), explained(designs[1])
    grid = np.full((n, n), np.nan)
    grid[down[i], across[j]] = rest
    twice = np.isfinite(grid) & np.isfinite(grid.T)
    turned = np.nan
    if twice.sum() > 4 and np.ptp(grid[twice]) > 1e-9:
        turned = float(np.corrcoef(grid[twice], grid.T[twice])[0, 1])
    shares = Shares(
        both - by_target, both - by_source, by_source + by_target - both, 1 - both, turned
    )
    donor, recipient = side(1, one[0], down), side(len(one[0]), other[0], across)
    return Levels(*donor, *recipient, shares)
