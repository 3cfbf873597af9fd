"""Joins scores with the errors in decoded outputs and with typology, one row per pair of languages.

Each row says which types of error the outputs contain and in which WALS features the two languages
agree.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from seqio_tasks import catalogue, subsets
from seqio_tasks.errors import RequestError
from xfer_jax.analysis import outcomes, permutation
from xfer_jax.results import predictions

_TEXTS = 2000  # examples per language and task from which its words are taken
_TOLERANCE = 0.01  # points by which a score may differ from the score of the outputs
_CELL = ("task", "source", "target", "seed")
FEWEST_PAIRS = 10  # pairs that agree, and pairs that differ, needed to test a feature


@dataclasses.dataclass(frozen=True)
class Aligned:
    """What the outputs of a table's cells contain."""

    outcomes: pd.DataFrame  # one row per cell and kind of outcome
    scores: pd.DataFrame  # one row per cell: its score, computed from the outputs
    texts: dict[str, list[str]]  # inputs by language, without the words of the text format
    pieces: dict[str, set[int]]  # by language, the vocabulary pieces in these texts
    notes: tuple[str, ...]
    unscorable: tuple[str, ...]  # the notes on tasks in which no answer can score


def align(rows: pd.DataFrame, root: Path) -> Aligned | None:
    """Reads the outputs of a table's cells.

    Args:
      rows: zero-shot cells, with the column `run`.
      root: the folder to which the paths in `run` are relative.

    Returns:
      None if there are no outputs.

    Raises:
      RequestError: a file of outputs is damaged.
    """
    if "run" not in rows or (rows["run"] == "").any():
        return None
    texts: dict[str, list[str]] = {}
    pieces: dict[str, set[int]] = {}
    baseline: dict[tuple[str, str], float] = {}
    unscorable: dict[str, list[str]] = {}
    for (task, target), cells in rows.groupby(["task", "target"]):
        found = _outputs(root, cells.iloc[0])
        if found is None:
            return None
        plain = catalogue.task(f"{task}.{target}").family.format.plain_text or str
        sample = subsets.sample_indices(found.inputs, _TEXTS)
        texts.setdefault(target, []).extend(plain(found.inputs[i]) for i in sample)
        pieces.setdefault(target, set()).update(*(found.tokens[i] for i in sample))
        baseline[str(task), str(target)] = found.baseline
        if found.perfect == 0 and found.expects_something:
            unscorable.setdefault(str(task), []).append(str(target))
    words = {code: outcomes.words_of(of_code) for code, of_code in texts.items()}
    counted, scored = [], []
    missing = differing = 0
    for _, row in rows.iterrows():
        found = _outputs(root, row)
        if found is None:
            missing += 1
            continue
        cell = {name: row[name] for name in _CELL}
        differing += abs(found.score - row["score"]) > _TOLERANCE
        scored.append(
            cell
            | {"recomputed": found.score, "examples": len(found.answers), "step": found.step}
            | {"baseline": baseline[str(row["task"]), str(row["target"])]}
        )
        counts, of = outcomes.count(found)
        for kind in outcomes.kinds(found):
            counted.append(cell | {"outcome": kind, "count": counts[kind], "of": of})
        text_format = found.task.family.format
        if row["source"] != row["target"] and not (text_format.labels or text_format.tags):
            in_other = outcomes.in_other_language(
                found, row["source"], words.get(row["source"], set()), words[row["target"]]
            )
            other = {"outcome": outcomes.OTHER_LANGUAGE, "count": in_other}
            counted.append(cell | other | {"of": len(found.answers)})
    of_unscorable = tuple(_unscorable(task, targets) for task, targets in unscorable.items())
    notes = [*of_unscorable]
    if missing:
        notes.append(f"{missing} cells have no outputs, so their errors are not counted")
    if differing:
        notes.append(
            f"{differing} scores differ from the scores of the outputs: compare the columns score"
            " and recomputed of alignment.csv"
        )
    table = pd.DataFrame(counted)
    table["share"] = table["count"] / table["of"].replace(0, np.nan)
    return Aligned(table, pd.DataFrame(scored), texts, pieces, tuple(notes), of_unscorable)


def _unscorable(task: str, targets: Sequence[str]) -> str:
    metric = catalogue.task(f"{task}.{targets[0]}").family.scoring.score
    return (
        f"{task}: {metric} counts none of the expected answers in {', '.join(targets)}, so perfect"
        " answers would score 0 (an entity with a second colon, such as `PER: en:Ada` in the raw"
        " release of WikiANN, never counts): strip the prefixes from the data and evaluate again"
    )


def baselines(table: pd.DataFrame, aligned: Aligned | None) -> pd.Series:
    """Returns baselines in percent, the scores of answers that ignore the input.

    They come from the table's column `baseline`, or else are computed from the outputs, see
    `predictions.Outputs.baseline`.

    Returns:
      A value by task and target language; empty if none is known.
    """
    key = ["task", "target"]
    known = [rows for rows in (table, aligned.scores if aligned else table) if "baseline" in rows]
    means = [rows.groupby(key)["baseline"].mean().dropna() for rows in known]
    if not means:
        return pd.Series(dtype=float)
    found = pd.concat(means)
    return found[~found.index.duplicated()]


def without_baseline(rows: pd.DataFrame) -> list[str]:
    """Returns a note on tasks whose baseline is unknown, with a lower bound if there is one."""
    unknown = []
    for task, of_task in rows.groupby("task", sort=False):
        if "baseline" in of_task and of_task["baseline"].notna().any():
            continue
        try:
            labels = catalogue.task(f"{task}.{of_task['target'].iloc[0]}").family.format.labels
        except RequestError:
            labels = ()  # a user's own task
        bound = ""
        if labels:
            bound = f" (at least {100 / len(labels):.1f}, as it has {len(labels)} labels)"
        unknown.append(f"{task}{bound}")
    if not unknown:
        return []
    return [
        "the baseline (always giving the most frequent target) is unknown for"
        f" {', '.join(unknown)}: add a column `baseline` to the scores, or analyse folders with"
        " outputs"
    ]


def _outputs(root: Path, row: pd.Series) -> predictions.Outputs | None:
    return predictions.read(root / row["run"], catalogue.task(f"{row['task']}.{row['target']}"))


def agreement(values: np.ndarray) -> np.ndarray:
    """Returns whether two languages agree, [N, N, F]: 1, 0, or NaN where a value is unknown.

    Args:
      values: [N, F], 0, 1 or NaN.
    """
    return 1.0 - np.abs(values[:, None] - values[None])


def wide(
    rows: pd.DataFrame,
    aligned: Aligned | None,
    names: Sequence[str],
    values: np.ndarray,
    codes: Sequence[str],
) -> pd.DataFrame:
    """Returns one row per cell: its score, its errors, and the agreement in each WALS feature.

    Args:
      rows: zero-shot cells.
      aligned: what their outputs contain.
      names: names of the F features of WALS.
      values: their values [N, F].
      codes: the N languages.
    """
    cells = rows[[*_CELL, "score"]].reset_index(drop=True)
    if aligned is not None:
        cells = cells.merge(aligned.scores, on=list(_CELL), how="left")
        shares = aligned.outcomes.pivot_table(
            index=list(_CELL), columns="outcome", values="share", sort=False
        )
        cells = cells.merge(shares.reset_index(), on=list(_CELL), how="left")
    place = {code: i for i, code in enumerate(codes)}
    source, target = (cells[side].map(place).to_numpy() for side in ("source", "target"))
    equal = 1.0 - np.abs(values[source] - values[target])
    known = np.isfinite(equal).any(axis=0)
    columns = [name for name, is_known in zip(names, known, strict=True) if is_known]
    return pd.concat([cells, pd.DataFrame(equal[:, known], columns=columns)], axis=1)


def by_feature(
    scores: np.ndarray,
    sources: Sequence[int],
    targets: Sequence[int],
    names: Sequence[str],
    values: np.ndarray,
    permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Compares, for each WALS feature, the pairs that agree with the pairs that differ.

    Args:
      scores: [S, T], NaN where a pair has none.
      sources: int [S], the index of each row's language among the N languages.
      targets: int [T], the same for the columns.
      names: names of the features.
      values: [N, F], 0, 1 or NaN.
      permutations: number of permutations of the languages.
      seed: of the permutations.

    Returns:
      One row per feature, smallest p-value first: `agree` and `differ`, the numbers of pairs;
      `score_agree` and `score_differ`, their mean scores; `points`, the effect of agreement on the
      score, controlling for source and target language; `same`, other features that divide the
      pairs in the same way; `qap_p`, the p-value from permuting languages; `fdr`, the p-value
      adjusted to the false discovery rate.
    """
    rows, columns = np.asarray(sources), np.asarray(targets)
    mask = np.isfinite(scores) & (rows[:, None] != columns)
    rest = permutation.without_main_effects(scores, mask)
    everyone = np.union1d(rows, columns)
    found: list[dict] = []
    chosen: list[int] = []
    by_division: dict[bytes, dict] = {}  # features that divide the pairs equally are tested once
    for k, name in enumerate(names):
        equal = agreement(values[:, k : k + 1])[..., 0][np.ix_(rows, columns)]
        agrees, differs = mask & (equal == 1), mask & (equal == 0)
        if min(agrees.sum(), differs.sum()) < FEWEST_PAIRS:
            continue
        division = np.packbits([agrees, differs]).tobytes()
        if division in by_division:
            same = by_division[division]
            same["same"] = f"{same['same']} {name}".strip()
            continue
        centred = np.where(agrees | differs, equal, np.nan)
        partial = permutation.without_main_effects(centred, np.isfinite(centred))
        spread = np.nansum(partial**2)
        if spread < 1e-9:
            continue  # it only separates one language from all others: a main effect
        by_division[division] = {
            "feature": name,
            "agree": int(agrees.sum()),
            "differ": int(differs.sum()),
            "score_agree": scores[agrees].mean(),
            "score_differ": scores[differs].mean(),
            "points": np.nansum(partial * rest) / spread,
            "same": "",
        }
        chosen.append(k)
        found.append(by_division[division])
    if not found:
        return pd.DataFrame()
    p = permutation.agreement_p(
        np.where(mask, rest, 0.0),
        rows,
        columns,
        values[:, chosen],
        everyone,
        permutations,
        seed,
    )
    table = pd.DataFrame(found).assign(qap_p=p, fdr=permutation.false_discovery(p))
    return table.sort_values("qap_p", kind="stable").reset_index(drop=True)
