"""What an intermediate task adds to zero-shot transfer, and to whom: the second axis of a study.

The gain of a cell (intermediate I, source S, target T) is its score minus that of a baseline of the
same task, source, target and seed: the source model that was trained in S for as many steps more,
`more`, where the study has it; else the one without an intermediate task. Targets in a language of
the intermediate task are kept apart: they are not zero-shot any more.

Knows only tables. Intermediates are named as `study` names them, `pocket_ner.hi` or
`panx.uralic.n3000.s0`, or by a language alone.
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

MORE, NONE = "more", ""  # intermediates that are none: baselines
LOW_RESOURCE = 30.0  # billions of mC4's tokens; a target with fewer is low-resource
_DRAWS = 2000
_AT_ONCE = 1 << 22  # numbers in a block of permuted tables
_LEVEL = 0.05
_FEWEST_CELLS = 6  # of intermediate and target: two in each third
# Subsets of the cells that means are given of, by what makes them so.
SUBSETS = {
    "all": "targets that neither the intermediate task nor the source is in",
    "distant": "of them, those in the third of all source-target pairs least alike in syntax",
    "low-resource": f"of them, those known to have under {LOW_RESOURCE:.0f} billion tokens in mC4",
    "seen": "targets in the intermediate task's own languages",
    "own": "the source itself",
}


def analyse(
    table: pd.DataFrame, options: Options, permutations: int, seed: int, made_up: bool
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Says what intermediate tasks add.

    Args:
      table: of scores, see `score_table.check`.
      options: of the similarities.
      permutations: of the targets.
      seed: of permutations and resampling.
      made_up: the languages are; mC4 knows nothing of them.

    Returns:
      `gains`, a row a cell and seed; `gain_means`, by intermediate and subset with 95% intervals
      over languages; `gain_features`, what correlates with the gain; and what a reader should know.
    """
    cells, notes = of_cells(table)
    if cells.empty:
        return {}, notes
    everything = {code for name in cells["intermediate"].unique() for code in languages_of(name)}
    codes = sorted({*cells["source"], *cells["target"], *everything})
    known = {name: f.values for name, f in features.typology(codes, options).items()}
    cells = cells.assign(subset=_subsets(cells, codes, known["syntax"], made_up))
    means, related = [], []
    for task, of_task in cells.groupby("task", sort=False):
        for intermediate, rows in of_task.groupby("intermediate", sort=False):
            for subset in SUBSETS:
                chosen = rows[rows["subset"].map(lambda names, subset=subset: subset in names)]
                if not chosen.empty:
                    row = {"task": task, "intermediate": intermediate, "subset": subset}
                    means.append(row | _mean(chosen, seed))
        for of in ("target", "source"):
            related += [
                {"task": task, "of": of, **row}
                for row in _related(of_task, of, codes, known, permutations, seed)
            ]
    frame = pd.DataFrame(related)
    if not frame.empty:
        frame["fdr"] = frame.groupby(["task", "of"])["p"].transform(permutation.false_discovery)
    cells = cells.assign(subset=cells["subset"].map(" ".join))
    found = {"gains": cells, "gain_means": pd.DataFrame(means), "gain_features": frame}
    return found, notes


def of_cells(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns the gains of all zero-shot cells, a row a cell and seed, and notes."""
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
            notes.append(f"{task}: no baseline without an intermediate task: no gains")
            continue
        baseline = MORE if MORE in has else NONE
        if baseline == NONE:
            notes.append(
                f"{task}: gains are against source models without the intermediate task, which were"
                f" trained less; {MORE!r} among a study's intermediates trains them as long"
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
    """Returns the languages that an intermediate task is in; none where its name does not tell."""
    family, _, rest = intermediate.partition(".")
    group = rest.partition(".")[0] or family
    try:
        tasks = catalogue.tasks(f"{records.PREFIX}{family}.{group}")
        return tuple(task.language for task in tasks)
    except RequestError:
        pass  # a file's name need not be a task's
    if group in languages.GROUPS:
        return languages.GROUPS[group]
    code = language_names.code_of(group, strict=False)
    return (code,) if code in languages.LANGUAGES else ()


def _subsets(
    cells: pd.DataFrame, codes: Sequence[str], syntax: np.ndarray, made_up: bool
) -> list[tuple[str, ...]]:
    """Returns the names of the subsets that each cell is in, see `SUBSETS`."""
    places = {code: i for i, code in enumerate(codes)}
    pairs = cells[cells["source"] != cells["target"]][["source", "target"]].drop_duplicates()
    alike = [syntax[places[s], places[t]] for s, t in pairs.to_numpy()]
    third = np.nanquantile(alike, 1 / 3) if np.isfinite(alike).any() else -np.inf
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
    """Returns the mean gain over pairs of source and target, with an interval over languages.

    A pair counts as often as its languages were drawn; sources are drawn where there are enough.
    The interval is of these models: it does not know that training again would give others.
    """
    grid = rows.groupby(["source", "target"])["gain"].mean().unstack()
    values = grid.to_numpy(float)
    there = np.isfinite(values).astype(float)
    codes = sorted({*grid.index, *grid.columns})
    rng = np.random.default_rng((seed, 2))
    drawn = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), size=_DRAWS)
    across = drawn[:, [codes.index(code) for code in grid.columns]].astype(float)
    down = np.ones((_DRAWS, len(grid)))
    if len(grid) >= score_table.FEWEST and (rows["source"] != rows["target"]).any():
        down = drawn[:, [codes.index(code) for code in grid.index]].astype(float)
    with np.errstate(invalid="ignore"):
        total = ((down @ np.nan_to_num(values)) * across).sum(axis=1)
        means = total / ((down @ there) * across).sum(axis=1)
    low, high = (np.nan, np.nan)
    if len(grid.columns) >= score_table.FEWEST:
        low, high = np.nanquantile(means, [0.025, 0.975])
    return {
        "gain": float(np.nanmean(values)),
        "low": float(low),
        "high": float(high),
        "pairs": int(there.sum()),
        "targets": len(grid.columns),
    }


def _related(
    rows: pd.DataFrame,
    of: str,
    codes: Sequence[str],
    known: Mapping[str, np.ndarray],
    permutations: int,
    seed: int,
) -> list[dict[str, float | str]]:
    """Tests whether gains correlate with how alike the intermediate's and another language are.

    Args:
      rows: gains of a task.
      of: whose likeness to the intermediate's language: `target` or `source`.
      codes: languages of the features.
      known: similarities [N, N] by name.
      permutations: of the targets, or of the sources.
      seed: of permutations and resampling.
    """
    rows = rows[rows["subset"].map(lambda names: "all" in names)]
    rows = rows.assign(spoken=[".".join(languages_of(str(x))) for x in rows["intermediate"]])
    rows = rows[rows["spoken"] != ""]
    if rows.empty:
        return []
    # Tasks in the same languages are as alike to a target as each other: their mean counts. Which
    # cells there are differs between intermediates, so that means over them would not do: the level
    # of a target is fitted beside those of the sources.
    fitted = {}
    for spoken, of_spoken in rows.groupby("spoken"):
        cells = of_spoken.groupby(["source", "target"])["gain"].mean().unstack()
        down, across = permutation.levels(cells.to_numpy(float), cells.notna().to_numpy())
        fitted[spoken] = pd.Series(
            *((across, cells.columns) if of == "target" else (down, cells.index))
        )
    grid = pd.DataFrame(fitted).T
    values = grid.to_numpy(float)
    found: list[dict[str, float | str]] = []
    for name, similarity in known.items():
        alike = np.asarray(
            [
                [
                    _mean_similarity(similarity, codes, str(spoken).split("."), other)
                    for other in grid.columns
                ]
                for spoken in grid.index
            ]
        )
        judged = _judge(values, alike, permutations, seed)
        if judged is not None:
            found.append({"feature": name, **judged})
    return found


def _mean_similarity(
    similarity: np.ndarray, codes: Sequence[str], spoken: Sequence[str], other: str
) -> float:
    """Returns how alike a language is to several others on average; NaN where nothing is known."""
    values = [similarity[codes.index(code), codes.index(other)] for code in spoken if code != other]
    values = [value for value in values if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def _judge(
    gains: np.ndarray, alike: np.ndarray, permutations: int, seed: int
) -> dict[str, float] | None:
    """Relates gains [I, T] to similarities, the levels of intermediates and targets taken away.

    Returns:
      `pairs`; `within`, the partial correlation given intermediate and target; `p`, two-sided, by
      permuting the targets' similarities; `contrast`, in points, the mean gain of the third of the
      pairs that are more alike than their two languages are on average, minus that of the third
      that are least; with `low` and `high`, its 95% interval over targets drawn with replacement.
      None where there is too little.
    """
    both = np.isfinite(gains) & np.isfinite(alike)
    spoken, others = both.any(axis=1).sum(), both.any(axis=0).sum()
    if both.sum() < _FEWEST_CELLS or spoken < 2 or others < score_table.FEWEST:
        return None

    alike = alike - np.nanmean(np.where(both, alike, np.nan), axis=1, keepdims=True)
    once = np.ones((1, gains.shape[1]))
    clear, alike_clear = (_without_levels(v, both, once)[0] for v in (gains, alike))
    x, y = alike_clear[both], clear[both]
    if x @ x < 1e-12 * len(x) or y @ y < 1e-12 * len(y):
        return None
    rng = np.random.default_rng((seed, 3))
    places = np.argsort(rng.random((permutations, gains.shape[1])), axis=1)
    null = _correlations(alike, clear, both, places)
    observed = _correlations(alike, clear, both, np.arange(gains.shape[1])[None])[0]
    n = gains.shape[1]
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(float)
    contrasts = _contrasts(
        _without_levels(alike, both, drawn), _without_levels(gains, both, drawn), drawn
    )
    low, high = np.nanquantile(contrasts, [0.025, 0.975])
    return {
        "pairs": int(both.sum()),
        "within": float(np.corrcoef(x, y)[0, 1]),
        "p": permutation.two_sided(float(observed), null),
        "contrast": float(_contrasts(alike_clear[None], clear[None], once)[0]),
        "low": float(low),
        "high": float(high),
    }


def _without_levels(values: np.ndarray, there: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Takes away what rows and columns have for a level, by weighted least squares.

    What `permutation.without_levels` does, of many draws of the columns at once. A column's level is
    its mean once the rows' levels are gone, so that these alone have to be solved for.

    Args:
      values: [I, T].
      there: bool [I, T], the cells that count; the others become NaN.
      weights: [B, T], how often each column was drawn.

    Returns:
      [B, I, T].
    """
    mask, filled = there.astype(float), np.where(there, values, 0.0)
    share = mask / np.maximum(mask.sum(axis=0), 1)
    within = filled - mask * (share * filled).sum(axis=0)  # columns without their means
    projector = np.einsum("it,ij->tij", mask, np.eye(len(values))) - np.einsum(
        "it,jt->tij", mask, share
    )
    normal = np.einsum("bt,tij->bij", weights, projector)
    rows = np.einsum("bij,bj->bi", np.linalg.pinv(normal), weights @ within.T)
    rest = values - rows[:, :, None]
    columns = np.einsum("it,bit->bt", share, np.where(there, rest, 0.0))
    return np.where(there, rest - columns[:, None], np.nan)


def _correlations(
    alike: np.ndarray, clear: np.ndarray, both: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Correlates gains without levels [I, T] with similarities whose columns are permuted [B, T].

    A cell counts where both are known: a language's likeness to itself is not.
    """
    found = []
    block = max(1, _AT_ONCE // both.size)
    for start in range(0, len(places), block):
        moved = np.moveaxis(alike[:, places[start : start + block]], 0, 1)  # [B, I, T]
        there = (both & np.isfinite(moved)).astype(float)
        x, y = np.where(there > 0, moved, 0.0), np.where(both, clear, 0.0)
        n, sx, sy, sxx, syy, sxy = (
            np.sum(values, axis=(1, 2))
            for values in (there, x, y * there, x * x, y * y * there, x * y)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = (sxx - sx**2 / n) * (syy - sy**2 / n)
            found.append((sxy - sx * sy / n) / np.sqrt(spread))
    return np.concatenate(found)


def _contrasts(alike: np.ndarray, gains: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the mean gain of the third of the pairs most alike minus that of the least alike.

    Args:
      alike: [B, I, T], NaN where a pair does not count.
      gains: likewise.
      weights: [B, T], how often a column counts.

    Returns:
      [B], NaN where there are fewer than three pairs.
    """
    draws = len(weights)
    x, y = alike.reshape(draws, -1), np.nan_to_num(gains).reshape(draws, -1)
    w = np.where(np.isfinite(alike), weights[:, None], 0.0).reshape(draws, -1)
    order = np.argsort(np.where(np.isfinite(x), x, np.inf), axis=1, kind="stable")
    y, w = (np.take_along_axis(values, order, axis=1) for values in (y, w))
    total = w.sum(axis=1, keepdims=True)
    third = total // 3
    before = np.cumsum(w, axis=1) - w
    least = np.clip(third - before, 0, w)
    most = np.clip(before + w - (total - third), 0, w)
    with np.errstate(invalid="ignore"):
        return ((most * y).sum(axis=1) - (least * y).sum(axis=1)) / third[:, 0]


# --- In words -------------------------------------------------------------------------------------


def answer(task: str, found: Mapping[str, pd.DataFrame]) -> str | None:
    """Says in one sentence what intermediate tasks did to transfer, with intervals.

    Args:
      task: which.
      found: the tables that `analyse` makes.
    """
    means, related = found.get("gain_means"), found.get("gain_features")
    if means is None or means.empty:
        return None
    means = means[(means["task"] == task) & (means["subset"] == "all")]
    if means.empty:
        return None
    each = ", ".join(
        f"{row.intermediate} {row.gain:+.1f} {_interval(row)}".rstrip()
        for row in means.itertuples()
    )
    said = f"to targets in none of its languages an intermediate task adds, in points: {each}"
    if related is None or related.empty:
        return f"{said}."
    rows = related[(related["task"] == task) & (related["of"] == "target")]
    for row in rows[rows["feature"] == "syntax"].itertuples():
        points = f"{row.contrast:+.1f} {_interval(row)}, p = {row.p:.3f}"
        if row.p <= _LEVEL:
            how = "more" if row.contrast > 0 else "less"
            said += f"; where target and intermediate language are alike in syntax, {how}: {points}"
        else:
            said += f"; that they are alike in syntax makes no difference beyond chance: {points}"
    return f"{said}."


def _interval(row: object) -> str:
    low, high = getattr(row, "low", np.nan), getattr(row, "high", np.nan)
    return f"[{low:+.1f}, {high:+.1f}]" if np.isfinite(low) else ""


def lines(task: str, found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Renders what intermediate tasks add for a terminal."""
    means = found.get("gain_means", pd.DataFrame())
    if means.empty or task not in set(means["task"]):
        return []
    of_task = means[means["task"] == task]
    cells = found["gains"]
    baseline = cells[cells["task"] == task]["baseline"].iloc[0]
    against = "as many steps more in the source" if baseline == MORE else "no intermediate task"
    subsets = [name for name in SUBSETS if name in set(of_task["subset"])]
    shown = [f"{task}: points that an intermediate task adds, against {against}"]
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
    related = found.get("gain_features", pd.DataFrame())
    if not related.empty:
        for row in related[related["task"] == task].itertuples():
            shown.append(
                f"  {row.feature:<12} of intermediate and {row.of:<7} within {row.within:+.2f}"
                f"  p {row.p:.4f}  FDR {row.fdr:.3f}  most alike third against least"
                f" {row.contrast:+.1f} {_interval(row)}"
            )
    said = answer(task, found)
    return [*shown, f"  {said[0].upper()}{said[1:]}"] if said else shown
