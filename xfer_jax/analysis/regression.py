"""Regresses scores on several features of language pairs, and estimates the languages' effects.

Pairs are not independent. P-values therefore come from permuting languages by double
semi-partialing (MRQAP: Dekker, Krackhardt & Snijders 2007). A mixed model with crossed random
effects of source and target language is fitted as well. The regression is evaluated on held-out
languages.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize

from xfer_jax.analysis import permutation
from xfer_jax.analysis.features import title

COLLINEAR = 10.0  # features with a larger variance inflation factor are dropped as collinear
_PAIRS_PER_FEATURE = 5  # a regression needs at least so many


@dataclasses.dataclass(frozen=True)
class Sample:
    """The pairs of a regression: each has a score, and every feature is known for it."""

    names: tuple[str, ...]
    scores: np.ndarray  # [P]
    features: np.ndarray  # [K, N, N], standardised over the pairs; N: all languages
    rows: np.ndarray  # int [P], source language of each pair
    columns: np.ndarray  # int [P], target language
    languages: np.ndarray  # int, the languages of these pairs

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
    """Chooses the pairs for a regression.

    Drops the language with the most missing feature values, one at a time, until every feature is
    known for all pairs of the remaining languages.

    Args:
      scores: float [S, T], NaN where a pair has none.
      features: float [N, N] by name, NaN where unknown.
      sources: int [S], the index of each row's language among the N languages.
      targets: int [T], the same for the columns.

    Raises:
      ValueError: no feature is given, too few pairs are left, or a feature is constant over them.
    """
    if not features:
        raise ValueError("no feature is known for enough of its pairs")
    stacked = np.stack(list(features.values())).astype(float)
    unknown = ~np.isfinite(stacked).all(axis=0)
    np.fill_diagonal(unknown, False)
    kept = np.isin(np.arange(len(unknown)), [*sources, *targets])
    while True:
        lacking = (unknown | unknown.T)[np.ix_(kept, kept)].sum(axis=1)
        if not lacking.any():
            break
        kept[np.flatnonzero(kept)[np.argmax(lacking)]] = False
    down, across = np.asarray(sources), np.asarray(targets)
    mask = np.isfinite(scores) & kept[down][:, None] & kept[across]
    mask &= down[:, None] != across
    i, j = np.nonzero(mask)
    rows, columns = down[i], across[j]
    if len(rows) < _PAIRS_PER_FEATURE * (len(features) + 1):
        raise ValueError(f"{len(rows)} pairs are too few for {len(features)} features")
    over_pairs = stacked[:, rows, columns]
    spread = over_pairs.std(axis=1, keepdims=True)
    if (spread == 0).any():
        constant = list(features)[int(np.argmin(spread))]
        raise ValueError(f"{title(constant)} has the same value for all {len(rows)} pairs")
    mean = over_pairs.mean(axis=1, keepdims=True)
    return Sample(
        tuple(features),
        scores[mask],
        (stacked - mean[:, None]) / spread[:, None],
        rows,
        columns,
        np.flatnonzero(kept),
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
    """Drops collinear features [P], the one with the largest variance inflation factor first.

    Returns:
      The names that are kept, and the names that are dropped.
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
    """The coefficient of one feature in a regression with all the others."""

    feature: str
    beta: float  # standardised: standard deviations of the score per standard deviation
    partial: float  # partial correlation with the score, controlling for the other features
    qap_p: float  # two-sided, by double semi-partialing
    vif: float
    mixed: float  # points of the score per standard deviation, in the mixed model
    mixed_low: float  # 95% Wald confidence interval
    mixed_high: float


@dataclasses.dataclass(frozen=True)
class Regression:
    """Scores of pairs as a linear function of features."""

    coefficients: tuple[Coefficient, ...]
    pairs: int
    languages: int
    r2: float
    unseen_r2: float  # of pairs with a held-out language
    source_sd: float  # of the mixed model's random effects, in points
    target_sd: float
    rest_sd: float


def regress(
    pairs: Sample, permutations: int = permutation.PERMUTATIONS, seed: int = 0
) -> Regression:
    """Regresses scores on features over language pairs.

    Args:
      pairs: see `sample`.
      permutations: number of permutations of the languages, for each feature.
      seed: of the permutations.

    Raises:
      ValueError: some features determine each other.
    """
    x, y = pairs.x, pairs.scores
    everything = _basis(x)
    rest = _residual(everything, y)
    centred = y - y.mean()
    beta = np.linalg.lstsq(x - x.mean(axis=0), centred / y.std(), rcond=None)[0]
    factors = collinearity(x)
    if np.isinf(factors).any():
        collinear = [
            title(name) for name, inf in zip(pairs.names, np.isinf(factors), strict=True) if inf
        ]
        raise ValueError(f"{', '.join(collinear)} determine each other: leave one of them out")
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


def partial_correlation(
    pairs: Sample, permutations: int = permutation.PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """Correlates scores with a sample's only feature, controlling for source and target language.

    Returns:
      The partial correlation and its p-value by QAP. Both are NaN if the feature describes the
      source language alone or the target language alone.
    """
    y, x = (_without_main_effects(pairs, values) for values in (pairs.scores, pairs.x[:, 0]))
    if x @ x < 1e-9 * len(x) or y @ y < 1e-9 * len(y):
        return float("nan"), float("nan")
    # The scores have no main effects left, so those of a permuted feature do not matter.
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    flat = pairs.features[0].ravel()
    n = len(pairs.features[0])

    def sums(places: np.ndarray) -> np.ndarray:
        return np.take(flat, places[:, pairs.rows] * n + places[:, pairs.columns]) @ y

    observed = float(sums(np.arange(n)[None])[0])
    size = ([pairs.languages], n, len(pairs.rows))
    null = permutation.over_permutations(sums, *size, permutations, seed)
    return r, permutation.two_sided(observed, null, 1e-9 * abs(observed))


def _without_main_effects(pairs: Sample, values: np.ndarray) -> np.ndarray:
    """Subtracts the effects of source and target language from the values of pairs [P]."""
    grid = np.full(pairs.features.shape[1:], np.nan)
    grid[pairs.rows, pairs.columns] = values
    return permutation.without_main_effects(grid, np.isfinite(grid))[pairs.rows, pairs.columns]


def _semi_partial(
    pairs: Sample, k: int, others: Sequence[int], permutations: int, seed: int
) -> tuple[float, float]:
    """Returns a feature's partial correlation, controlling for others, and its p-value."""
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
    """Correlates feature [N, N] with y [P], controlling for a basis; returns r and p by QAP."""
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
    """Returns R² for pairs with a held-out language.

    Holds out each language in turn, with all its pairs, and predicts them from the other pairs.
    The value is below 0 if the mean score of the other pairs predicts better.
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
    """A linear model with crossed random effects of source and target, fitted by REML."""

    slopes: np.ndarray  # [K]
    errors: np.ndarray  # [K], standard errors
    source_sd: float
    target_sd: float
    rest_sd: float


def mixed(y: np.ndarray, x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Mixed:
    """Fits y = a + x b + source effect + target effect + residual, by restricted likelihood.

    statsmodels fits the same model with a dense [P, P] covariance, which takes many minutes for
    6,825 pairs. Here all computations are in the space of the S + T effects (Henderson's
    equations).

    Args:
      y: scores [P].
      x: features [P, K].
      rows: int [P], source language of each pair.
      columns: int [P], target language of each pair.
    """
    groups = [(side[:, None] == np.unique(side)).astype(float) for side in (rows, columns)]
    sizes = [group.shape[1] for group in groups]
    z = np.concatenate(groups, axis=1)
    fixed = np.concatenate([np.ones((len(y), 1)), x], axis=1)
    data = np.concatenate([fixed, y[:, None]], axis=1)
    zz, zd, dd = z.T @ z, z.T @ data, data.T @ data
    freedom = len(y) - fixed.shape[1]

    def parts(log_ratios: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns data' V⁻¹ data and log |V|, with V in units of the residual variance."""
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
    variance = max(float(m[-1, -1] - xy @ slopes), 0.0) / freedom  # 0 for a perfect fit
    errors = np.sqrt(variance * np.diag(np.linalg.inv(xx)))
    source_sd, target_sd = np.sqrt(variance * np.exp(best))
    return Mixed(
        slopes[1:], errors[1:], float(source_sd), float(target_sd), float(np.sqrt(variance))
    )


# --- Effects of single languages ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Shares:
    """The shares of the variance of scores over pairs."""

    of_source: float  # explained by the source language alone
    of_target: float  # explained by the target language alone
    of_both: float  # explained by either; 0 if all pairs have scores
    of_pair: float  # residual: the combination of the two languages, and noise
    reciprocity: float  # correlation of a pair's residual with that of the reversed pair


@dataclasses.dataclass(frozen=True)
class LanguageEffects:
    """The effect of each language as source and as target, in points above the mean."""

    donor: np.ndarray  # [N], effect as source; NaN if a language is no source
    donor_error: np.ndarray  # standard errors
    recipient: np.ndarray  # [N], effect as target; NaN if a language is no target
    recipient_error: np.ndarray
    shares: Shares


def language_effects(
    scores: np.ndarray, sources: Sequence[int], targets: Sequence[int], n: int
) -> LanguageEffects:
    """Splits scores into mean, donor effect, recipient effect and residual, by least squares.

    A language's donor effect is its effect as source, and its recipient effect its effect as
    target. They do not depend on which languages it was paired with. The donor effects sum to 0,
    and so do the recipient effects.

    Args:
      scores: float [S, T], NaN where a pair has none.
      sources: int [S], the index of each row's language among the N languages.
      targets: int [T], the same for the columns.
      n: N.

    Raises:
      ValueError: there are too few pairs to estimate the effects.
    """
    down, across = np.asarray(sources), np.asarray(targets)
    mask = np.isfinite(scores) & (down[:, None] != across)
    i, j = np.nonzero(mask)
    y = scores[mask]
    one, other = np.unique(i, return_inverse=True), np.unique(j, return_inverse=True)
    designs = [np.eye(len(side[0]))[side[1]] for side in (one, other)]
    parameters = len(one[0]) + len(other[0]) - 1
    if min(len(one[0]), len(other[0])) < 2 or len(y) <= parameters:
        raise ValueError(
            f"{len(y)} pairs are too few to estimate {parameters} parameters (mean, donor and"
            " recipient effects)"
        )
    # The effects of each side sum to 0: the last one is minus the sum of the others.
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
    both_ways = np.isfinite(grid) & np.isfinite(grid.T)
    reciprocity = np.nan
    if both_ways.sum() > 4 and np.ptp(grid[both_ways]) > 1e-9:
        reciprocity = float(np.corrcoef(grid[both_ways], grid.T[both_ways])[0, 1])
    shares = Shares(
        both - by_target, both - by_source, by_source + by_target - both, 1 - both, reciprocity
    )
    donor, recipient = side(1, one[0], down), side(len(one[0]), other[0], across)
    return LanguageEffects(*donor, *recipient, shares)
