"""Gains: how much an intermediate task adds to zero-shot transfer, and on which target languages.

The gain of a cell (intermediate task I, source S, target T) is its score minus the score of a
baseline with the same task, source, target and seed. If the study has it, the baseline is the model
trained on S for the same number of additional steps (`more`); otherwise it is the model without an
intermediate task. Targets in a language of the intermediate task are reported separately, because
they are no longer zero-shot.

This module reads only tables. Intermediate tasks have the names that `study` gives them, such as
`pocket_ner.hi` or `panx.uralic.n3000.s0`, or the name of a language.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from seqio_tasks import catalogue, languages, records
from seqio_tasks.errors import RequestError
from xfer_jax.analysis import features, permutation
from xfer_jax.analysis.features import Options
from xfer_jax.results import language_names, score_table
from xfer_jax.results.score_table import MORE

NONE = ""  # with `MORE`: values of the column `intermediate` that are baselines
LOW_RESOURCE = 30.0  # billions of tokens in mC4; a target with fewer is low-resource
_DRAWS = 2000
_BLOCK_SIZE = 1 << 22  # numbers in a block of permuted tables
_LEVEL = 0.05  # of significance
_FEWEST_CELLS = 6  # of intermediate and target language: two in each third
# The subsets of cells over which mean gains are reported, and their definitions.
SUBSETS = {
    "all": "targets that are neither the source nor a language of the intermediate task",
    "distant": "those among them in the third of source-target pairs with the least similar syntax",
    "low-resource": f"those among them with fewer than {LOW_RESOURCE:.0f} billion tokens in mC4",
    "seen": "targets that are languages of the intermediate task",
    "own": "the source language itself",
}


def analyse(
    table: pd.DataFrame, options: Options, permutations: int, seed: int, made_up: bool
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Computes the gains of intermediate tasks.

    Args:
      table: scores, see `score_table.check`.
      options: of the similarities.
      permutations: number of permutations of the target languages.
      seed: of permutations and resampling.
      made_up: whether the languages are invented, so that mC4 has no data for them.

    Returns:
      The tables `gains` (one row per cell and seed), `gain_means` (by intermediate task and subset,
      with 95% confidence intervals over languages) and `gain_features` (what correlates with the
      gain); and notes for the reader.
    """
    cells, notes = of_cells(table)
    if cells.empty:
        return {}, notes
    everything = {code for name in cells["intermediate"].unique() for code in languages_of(name)}
    codes = sorted({*cells["source"], *cells["target"], *everything})
    known = {name: f.values for name, f in features.typology(codes, options).items()}
    cells = cells.assign(subset=_subsets(cells, codes, known["syntax"], made_up))
    means, correlated = [], []
    for task, of_task in cells.groupby("task", sort=False):
        for intermediate, rows in of_task.groupby("intermediate", sort=False):
            for subset in SUBSETS:
                chosen = rows[rows["subset"].map(lambda names, subset=subset: subset in names)]
                if not chosen.empty:
                    row = {"task": task, "intermediate": intermediate, "subset": subset}
                    means.append(row | _mean(chosen, seed))
        for of in ("target", "source"):
            correlated += [
                {"task": task, "of": of, **row}
                for row in _correlated(of_task, of, codes, known, permutations, seed)
            ]
    frame = pd.DataFrame(correlated)
    if not frame.empty:
        frame["fdr"] = frame.groupby(["task", "of"])["p"].transform(permutation.false_discovery)
    cells = cells.assign(subset=cells["subset"].map(" ".join))
    found = {"gains": cells, "gain_means": pd.DataFrame(means), "gain_features": frame}
    return found, notes


def of_cells(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns the gains of all zero-shot cells, one row per cell and seed, and notes."""
    rows = table[table["n_shots"] == 0]
    rows = rows[rows["arm"] == rows.groupby("task")["arm"].transform("min")]
    cell = ["task", "source", "target", "seed"]
    rows = rows[rows["n_train"] == rows.groupby(cell)["n_train"].transform("max")]
    rows = rows.groupby([*cell, "intermediate"], sort=False)["score"].mean().reset_index()
    notes, found = [], []
    for task, of_task in rows.groupby("task", sort=False):
        has = set(of_task["intermediate"])
        after = of_task[~of_task["intermediate"].isin([NONE, MORE])]
        if after.empty:
            continue
        if not has & {NONE, MORE}:
            notes.append(
                f"{task}: no gains, because the table has no baseline without an intermediate task"
            )
            continue
        baseline = MORE if MORE in has else NONE
        if baseline == NONE:
            notes.append(
                f"{task}: the baseline of the gains is the source model without an intermediate"
                " task, which was trained for fewer steps; to compare as many steps, add a stage"
                " like `more` of gin/studies/pocket_intermediate.gin to the study"
            )
        base = of_task[of_task["intermediate"] == baseline].drop(columns="intermediate")
        joined = after.merge(base.rename(columns={"score": "baseline_score"}), on=cell)
        if len(joined) < len(after):
            notes.append(f"{task}: {len(after) - len(joined)} cells have no baseline")
        joined["gain"] = joined["score"] - joined["baseline_score"]
        found.append(joined.assign(baseline=baseline or "none"))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(), notes


@functools.cache
def languages_of(intermediate: str) -> tuple[str, ...]:
    """Returns the languages of an intermediate task; none if its name does not contain them."""
    family, _, rest = intermediate.partition(".")
    group = rest.partition(".")[0] or family
    try:
        tasks = catalogue.tasks(f"{records.PREFIX}{family}.{group}")
        return tuple(task.language for task in tasks)
    except RequestError:
        pass  # the name in a user's table need not be a task of ours
    if group in languages.GROUPS:
        return languages.GROUPS[group]
    code = language_names.code_of(group, strict=False)
    return (code,) if code in languages.LANGUAGES else ()


def _subsets(
    cells: pd.DataFrame, codes: Sequence[str], syntax: np.ndarray, made_up: bool
) -> list[tuple[str, ...]]:
    """Returns the names of the subsets that contain each cell, see `SUBSETS`."""
    places = {code: i for i, code in enumerate(codes)}
    pairs = cells[cells["source"] != cells["target"]][["source", "target"]].drop_duplicates()
    similarity = [syntax[places[s], places[t]] for s, t in pairs.to_numpy()]
    third = np.nanquantile(similarity, 1 / 3) if np.isfinite(similarity).any() else -np.inf
    found: list[tuple[str, ...]] = []
    for row in cells.itertuples():
        if row.source == row.target:
            found.append(("own",))
        elif row.target in languages_of(str(row.intermediate)):
            found.append(("seen",))
        else:
            names = ["all"]
            if syntax[places[row.source], places[row.target]] <= third:
                names.append("distant")
            tokens = features.MC4_BILLIONS.get(str(row.target))
            if not made_up and tokens is not None and tokens < LOW_RESOURCE:
                names.append("low-resource")
            found.append(tuple(names))
    return found


def _mean(rows: pd.DataFrame, seed: int) -> dict[str, float]:
    """Returns the mean gain over pairs of source and target, with a confidence interval.

    Languages are drawn with replacement; the weight of a pair is the product of how often its two
    languages were drawn. Sources are drawn only if there are enough of them. The interval holds for
    these trained models: it does not include the variance between training runs.
    """
    grid = rows.groupby(["source", "target"])["gain"].mean().unstack()
    values = grid.to_numpy(float)
    has_gain = np.isfinite(values).astype(float)
    codes = sorted({*grid.index, *grid.columns})
    rng = np.random.default_rng((seed, 2))
    drawn = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), size=_DRAWS)
    across = drawn[:, [codes.index(code) for code in grid.columns]].astype(float)
    down = np.ones((_DRAWS, len(grid)))
    if len(grid) >= score_table.FEWEST and (rows["source"] != rows["target"]).any():
        down = drawn[:, [codes.index(code) for code in grid.index]].astype(float)
    with np.errstate(invalid="ignore"):
        total = ((down @ np.nan_to_num(values)) * across).sum(axis=1)
        means = total / ((down @ has_gain) * across).sum(axis=1)
    low, high = (np.nan, np.nan)
    if len(grid.columns) >= score_table.FEWEST:
        low, high = np.nanquantile(means, [0.025, 0.975])
    return {
        "gain": float(np.nanmean(values)),
        "low": float(low),
        "high": float(high),
        "pairs": int(has_gain.sum()),
        "targets": len(grid.columns),
    }


def _correlated(
    rows: pd.DataFrame,
    of: str,
    codes: Sequence[str],
    known: Mapping[str, np.ndarray],
    permutations: int,
    seed: int,
) -> list[dict[str, float | str]]:
    """Correlates gains with the similarity of the intermediate task's language to another language.

    Args:
      rows: gains of a task.
      of: the other language, `target` or `source`.
      codes: languages of the features.
      known: similarities [N, N] by name.
      permutations: number of permutations of the targets, or of the sources.
      seed: of permutations and resampling.
    """
    rows = rows[rows["subset"].map(lambda names: "all" in names)]
    rows = rows.assign(languages=[".".join(languages_of(str(x))) for x in rows["intermediate"]])
    rows = rows[rows["languages"] != ""]
    if rows.empty:
        return []
    # Intermediate tasks in the same languages have the same similarity to a target: their mean gain
    # counts. Intermediate tasks differ in which cells they have, so plain means would be biased:
    # target effects are fitted together with source effects.
    fitted = {}
    for joined, of_languages in rows.groupby("languages"):
        cells = of_languages.groupby(["source", "target"])["gain"].mean().unstack()
        down, across = permutation.main_effects(cells.to_numpy(float), cells.notna().to_numpy())
        fitted[joined] = pd.Series(
            *((across, cells.columns) if of == "target" else (down, cells.index))
        )
    grid = pd.DataFrame(fitted).T
    values = grid.to_numpy(float)
    found: list[dict[str, float | str]] = []
    for name, similarity in known.items():
        similarities = np.asarray(
            [
                [
                    _mean_similarity(similarity, codes, str(joined).split("."), other)
                    for other in grid.columns
                ]
                for joined in grid.index
            ]
        )
        tested = _partial_correlation(values, similarities, permutations, seed)
        if tested is not None:
            found.append({"feature": name, **tested})
    return found


def _mean_similarity(
    similarity: np.ndarray, codes: Sequence[str], several: Sequence[str], other: str
) -> float:
    """Returns the mean similarity of a language to several others; NaN if none is known."""
    values = [
        similarity[codes.index(code), codes.index(other)] for code in several if code != other
    ]
    values = [value for value in values if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def _partial_correlation(
    gains: np.ndarray, similarities: np.ndarray, permutations: int, seed: int
) -> dict[str, float] | None:
    """Correlates gains [I, T] with similarities, controlling for intermediate and target language.

    Returns:
      `pairs`, their number; `within`, the partial correlation; `p`, its two-sided p-value, from
      permuting the targets' similarities; `contrast`, in points: the mean gain of the most similar
      third of the pairs minus that of the least similar third, after subtracting the mean
      similarity of each language; `low` and `high`, its 95% confidence interval, from resampling
      targets. None if there are too few pairs.
    """
    both = np.isfinite(gains) & np.isfinite(similarities)
    intermediates, others = both.any(axis=1).sum(), both.any(axis=0).sum()
    if both.sum() < _FEWEST_CELLS or intermediates < 2 or others < score_table.FEWEST:
        return None

    similarities = similarities - np.nanmean(
        np.where(both, similarities, np.nan), axis=1, keepdims=True
    )
    once = np.ones((1, gains.shape[1]))
    residuals, residual_similarities = (
        _without_main_effects(v, both, once)[0] for v in (gains, similarities)
    )
    x, y = residual_similarities[both], residuals[both]
    if x @ x < 1e-12 * len(x) or y @ y < 1e-12 * len(y):
        return None
    rng = np.random.default_rng((seed, 3))
    places = np.argsort(rng.random((permutations, gains.shape[1])), axis=1)
    null = _correlations(similarities, residuals, both, places)
    observed = _correlations(similarities, residuals, both, np.arange(gains.shape[1])[None])[0]
    n = gains.shape[1]
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(float)
    contrasts = _contrasts(
        _without_main_effects(similarities, both, drawn),
        _without_main_effects(gains, both, drawn),
        drawn,
    )
    low, high = np.nanquantile(contrasts, [0.025, 0.975])
    return {
        "pairs": int(both.sum()),
        "within": float(np.corrcoef(x, y)[0, 1]),
        "p": permutation.two_sided(float(observed), null),
        "contrast": float(_contrasts(residual_similarities[None], residuals[None], once)[0]),
        "low": float(low),
        "high": float(high),
    }


def _without_main_effects(values: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Subtracts the row and column effects, by weighted least squares.

    Like `permutation.without_main_effects`, for many draws of the columns at once. A column effect
    is the column's mean after the row effects are subtracted, so only the row effects have to be
    solved for.

    Args:
      values: [I, T].
      mask: bool [I, T], the cells that count; the others become NaN.
      weights: [B, T], how often each column was drawn.

    Returns:
      [B, I, T].
    """
    count, filled = mask.astype(float), np.where(mask, values, 0.0)
    share = count / np.maximum(count.sum(axis=0), 1)
    centred = filled - count * (share * filled).sum(axis=0)  # columns without their means
    projector = np.einsum("it,ij->tij", count, np.eye(len(values))) - np.einsum(
        "it,jt->tij", count, share
    )
    normal = np.einsum("bt,tij->bij", weights, projector)
    rows = np.einsum("bij,bj->bi", np.linalg.pinv(normal), weights @ centred.T)
    rest = values - rows[:, :, None]
    columns = np.einsum("it,bit->bt", share, np.where(mask, rest, 0.0))
    return np.where(mask, rest - columns[:, None], np.nan)


def _correlations(
    similarities: np.ndarray, residuals: np.ndarray, both: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Correlates gains without main effects [I, T] with similarities of permuted columns [B, T].

    A cell counts if both are known; the similarity of a language to itself is not.
    """
    found = []
    block = max(1, _BLOCK_SIZE // both.size)
    for start in range(0, len(places), block):
        moved = np.moveaxis(similarities[:, places[start : start + block]], 0, 1)  # [B, I, T]
        count = (both & np.isfinite(moved)).astype(float)
        x, y = np.where(count > 0, moved, 0.0), np.where(both, residuals, 0.0)
        n, sx, sy, sxx, syy, sxy = (
            np.sum(values, axis=(1, 2))
            for values in (count, x, y * count, x * x, y * y * count, x * y)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = (sxx - sx**2 / n) * (syy - sy**2 / n)
            found.append((sxy - sx * sy / n) / np.sqrt(spread))
    return np.concatenate(found)


def _contrasts(similarities: np.ndarray, gains: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the mean gain of the most similar third of the pairs minus the least similar third.

    Args:
      similarities: [B, I, T], NaN where a pair does not count.
      gains: [B, I, T], likewise.
      weights: [B, T], how often a column counts.

    Returns:
      [B], NaN if there are fewer than three pairs.
    """
    draws = len(weights)
    x, y = similarities.reshape(draws, -1), np.nan_to_num(gains).reshape(draws, -1)
    w = np.where(np.isfinite(similarities), weights[:, None], 0.0).reshape(draws, -1)
    order = np.argsort(np.where(np.isfinite(x), x, np.inf), axis=1, kind="stable")
    y, w = (np.take_along_axis(values, order, axis=1) for values in (y, w))
    total = w.sum(axis=1, keepdims=True)
    third = total // 3
    before = np.cumsum(w, axis=1) - w
    least = np.clip(third - before, 0, w)
    most = np.clip(before + w - (total - third), 0, w)
    with np.errstate(invalid="ignore"):
        return ((most * y).sum(axis=1) - (least * y).sum(axis=1)) / third[:, 0]


# --- Text -----------------------------------------------------------------------------------------


def answer(task: str, found: Mapping[str, pd.DataFrame]) -> str | None:
    """Returns one sentence on how intermediate tasks change transfer, with confidence intervals.

    Args:
      task: name of the task.
      found: the tables that `analyse` returns.
    """
    means, correlated = found.get("gain_means"), found.get("gain_features")
    if means is None or means.empty:
        return None
    means = means[(means["task"] == task) & (means["subset"] == "all")]
    if means.empty:
        return None
    each = ", ".join(
        f"{row.intermediate} {row.gain:+.1f} {_interval(row)}".rstrip()
        for row in means.itertuples()
    )
    sentence = f"points that an intermediate task adds on targets in other languages: {each}"
    if correlated is None or correlated.empty:
        return f"{sentence}."
    rows = correlated[(correlated["task"] == task) & (correlated["of"] == "target")]
    for row in rows[rows["feature"] == "syntax"].itertuples():
        points = (
            "most similar third minus least similar third:"
            f" {row.contrast:+.1f} {_interval(row)}, p = {row.p:.3f}"
        )
        if row.p <= _LEVEL:
            direction = "more" if row.contrast > 0 else "less"
            sentence += (
                f"; it adds {direction} where the target language and the language of the"
                f" intermediate task have similar syntax ({points})"
            )
        else:
            sentence += (
                "; similar syntax of the target language and the language of the intermediate task"
                f" makes no significant difference ({points})"
            )
    return f"{sentence}."


def _interval(row: object) -> str:
    low, high = getattr(row, "low", np.nan), getattr(row, "high", np.nan)
    return f"[{low:+.1f}, {high:+.1f}]" if np.isfinite(low) else ""


def lines(task: str, found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Renders the gains of intermediate tasks for a terminal."""
    means = found.get("gain_means", pd.DataFrame())
    if means.empty or task not in set(means["task"]):
        return []
    of_task = means[means["task"] == task]
    cells = found["gains"]
    baseline = cells[cells["task"] == task]["baseline"].iloc[0]
    against = (
        "as many additional steps on the source language"
        if baseline == MORE
        else "no intermediate task"
    )
    subsets = [name for name in SUBSETS if name in set(of_task["subset"])]
    shown = [f"{task}: points that an intermediate task adds, compared with {against}"]
    wide = max(len("intermediate"), *(len(str(name)) for name in of_task["intermediate"]))
    shown.append(f"  {'intermediate':<{wide}}" + "".join(f"{name:>22}" for name in subsets))
    for intermediate, rows in of_task.groupby("intermediate", sort=False):
        by_subset = {
            row.subset: f"{row.gain:+.1f} {_interval(row)}".rstrip() for row in rows.itertuples()
        }
        shown.append(
            f"  {intermediate:<{wide}}"
            + "".join(f"{by_subset.get(name, ''):>22}" for name in subsets)
        )
    shown += [f"  {name}: {SUBSETS[name]}" for name in subsets]
    correlated = found.get("gain_features", pd.DataFrame())
    if not correlated.empty:
        shown.append("  similarity of the intermediate task's language to the target or source:")
        for row in correlated[correlated["task"] == task].itertuples():
            shown.append(
                f"  {features.title(row.feature):<20} to {row.of:<7}"
                f" partial correlation {row.within:+.2f}"
                f"  p {row.p:.4f}  FDR {row.fdr:.3f}  most minus least similar third"
                f" {row.contrast:+.1f} {_interval(row)}"
            )
    sentence = answer(task, found)
    return [*shown, f"  {sentence[0].upper()}{sentence[1:]}"] if sentence else shown
