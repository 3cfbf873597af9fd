"""Aligns decoded outputs with typology: a row a pair of languages, what became of its answers, and
in which features of WALS the two languages agree.
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

_TEXTS = 2000  # examples a language and task that its words are taken from
_DIFFERS = 0.01  # points by which a score may differ from that of the outputs
_CELL = ("task", "source", "target", "seed")
FEWEST_PAIRS = 10  # that agree, and that differ, or a feature is not judged


@dataclasses.dataclass(frozen=True)
class Aligned:
    """What the outputs of a table's cells say."""

    outcomes: pd.DataFrame  # a row a cell and kind of outcome
    scores: pd.DataFrame  # a row a cell: its score computed from the outputs
    texts: dict[str, list[str]]  # by language, what models were asked, without the format's words
    pieces: dict[str, set[int]]  # by language, the vocabulary's pieces in it
    notes: tuple[str, ...]
    uncounted: tuple[str, ...]  # of these notes, those on tasks in which no answer can count


def align(rows: pd.DataFrame, root: Path) -> Aligned | None:
    """Reads the outputs of a table's cells.

    Args:
      rows: zero-shot cells, with the column `run`.
      root: folder that `run` is relative to.

    Returns:
      None when there are no outputs.

    Raises:
      RequestError: outputs that are damaged.
    """
    if "run" not in rows or (rows["run"] == "").any():
        return None
    texts: dict[str, list[str]] = {}
    pieces: dict[str, set[int]] = {}
    simple: dict[tuple[str, str], float] = {}
    uncounted: dict[str, list[str]] = {}
    for (task, target), cells in rows.groupby(["task", "target"]):
        found = _outputs(root, cells.iloc[0])
        if found is None:
            return None
        plain = catalogue.task(f"{task}.{target}").family.plain_text or str
        sample = subsets.sample_indices(found.inputs, _TEXTS)
        texts.setdefault(target, []).extend(plain(found.inputs[i]) for i in sample)
        pieces.setdefault(target, set()).update(*(found.tokens[i] for i in sample))
        simple[str(task), str(target)] = found.baseline
        if found.perfect == 0 and found.expects_something:
            uncounted.setdefault(str(task), []).append(str(target))
    words = {code: outcomes.words_of(of_code) for code, of_code in texts.items()}
    counted, scored = [], []
    missing = differing = 0
    for _, row in rows.iterrows():
        found = _outputs(root, row)
        if found is None:
            missing += 1
            continue
        cell = {name: row[name] for name in _CELL}
        differing += abs(found.score - row["score"]) > _DIFFERS
        scored.append(
            cell
            | {"recomputed": found.score, "examples": len(found.answers), "step": found.step}
            | {"baseline": simple[str(row["task"]), str(row["target"])]}
        )
        counts, of = outcomes.count(found)
        for kind in outcomes.kinds(found):
            counted.append(cell | {"outcome": kind, "count": counts[kind], "of": of})
        family = found.task.family
        if row["source"] != row["target"] and not (family.labels or family.tags):
            strange = outcomes.in_other_language(
                found, row["source"], words.get(row["source"], set()), words[row["target"]]
            )
            whole = {"outcome": outcomes.OTHER_LANGUAGE, "count": strange}
            counted.append(cell | whole | {"of": len(found.answers)})
    of_uncounted = tuple(_uncounted(task, targets) for task, targets in uncounted.items())
    notes = [*of_uncounted]
    if missing:
        notes.append(f"the outputs of {missing} cells are not there: their errors do not count")
    if differing:
        notes.append(f"{differing} scores are not those that the outputs give: see alignment.csv")
    table = pd.DataFrame(counted)
    table["share"] = table["count"] / table["of"].replace(0, np.nan)
    return Aligned(table, pd.DataFrame(scored), texts, pieces, tuple(notes), of_uncounted)


def _uncounted(task: str, targets: Sequence[str]) -> str:
    metric = catalogue.task(f"{task}.{targets[0]}").family.score
    return (
        f"{task}: {metric} counts none of the expected answers in {', '.join(targets)}, so that"
        " perfect answers would score 0 (an entity with a second colon, such as `PER: en:Ada` of"
        " WikiANN's raw release, never counts): strip the prefixes from the data and evaluate again"
    )


def baselines(table: pd.DataFrame, aligned: Aligned | None) -> pd.Series:
    """Returns what answers that read no input score, in percent, by task and target language.

    That is the table's column `baseline`, or else computed from the outputs, see
    `predictions.Outputs.baseline`. Empty where neither is known.
    """
    key = ["task", "target"]
    known = [rows for rows in (table, aligned.scores if aligned else table) if "baseline" in rows]
    means = [rows.groupby(key)["baseline"].mean().dropna() for rows in known]
    if not means:
        return pd.Series(dtype=float)
    found = pd.concat(means)
    return found[~found.index.duplicated()]


def without_baseline(rows: pd.DataFrame) -> list[str]:
    """Returns a note on tasks whose baseline is not known, with the least that it can be."""
    told = []
    for task, of_task in rows.groupby("task", sort=False):
        if "baseline" in of_task and of_task["baseline"].notna().any():
            continue
        try:
            labels = catalogue.task(f"{task}.{of_task['target'].iloc[0]}").family.labels
        except RequestError:
            labels = ()  # a user's own task
        least = ""
        if labels:
            least = f" (the commonest of its {len(labels)} labels: {100 / len(labels):.1f} or more)"
        told.append(f"{task}{least}")
    if not told:
        return []
    return [
        f"what answering always the same would score is not known of {', '.join(told)}: there are"
        " neither outputs nor a column `baseline`"
    ]


def _outputs(root: Path, row: pd.Series) -> predictions.Outputs | None:
    return predictions.read(root / row["run"], catalogue.task(f"{row['task']}.{row['target']}"))


def agreement(values: np.ndarray) -> np.ndarray:
    """Returns whether two languages agree, [N, N, F]: 1, 0, or NaN where one is not known.

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
    """Returns the alignment: a row a cell, its score and errors, and each feature's agreement.

    Args:
      rows: zero-shot cells.
      aligned: what their outputs say.
      names: of the features of WALS.
      values: theirs, [N, F].
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
    columns = [name for name, there in zip(names, known, strict=True) if there]
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
    """Compares, feature by feature of WALS, pairs that agree with pairs that differ.

    Args:
      scores: [S, T], NaN where a pair has none.
      sources: int [S], which of the N languages the rows are.
      targets: int [T], which the columns are.
      names: of the features.
      values: [N, F], 0, 1 or NaN.
      permutations: of the languages.
      seed: of the permutations.

    Returns:
      A row a feature: the pairs that agree and that differ, their mean scores, how many points
      agreeing is worth once every language's own level is taken away, which other features divide
      the pairs in the same way, the p-value by permuting languages, and that adjusted to the false
      discovery rate. The surest first.
    """
    rows, columns = np.asarray(sources), np.asarray(targets)
    there = np.isfinite(scores) & (rows[:, None] != columns)
    rest = permutation.without_levels(scores, there)
    everyone = np.union1d(rows, columns)
    found: list[dict] = []
    chosen: list[int] = []
    alike: dict[bytes, dict] = {}  # features that divide the pairs in the same way are one question
    for k, name in enumerate(names):
        equal = agreement(values[:, k : k + 1])[..., 0][np.ix_(rows, columns)]
        agrees, differs = there & (equal == 1), there & (equal == 0)
        if min(agrees.sum(), differs.sum()) < FEWEST_PAIRS:
            continue
        division = np.packbits([agrees, differs]).tobytes()
        if division in alike:
            same = alike[division]
            same["same"] = f"{same['same']} {name}".strip()
            continue
        centred = np.where(agrees | differs, equal, np.nan)
        inside = permutation.without_levels(centred, np.isfinite(centred))
        spread = np.nansum(inside**2)
        if spread < 1e-9:
            continue  # one language against all others: that is its level
        alike[division] = {
            "feature": name,
            "agree": int(agrees.sum()),
            "differ": int(differs.sum()),
            "score_agree": scores[agrees].mean(),
            "score_differ": scores[differs].mean(),
            "points": np.nansum(inside * rest) / spread,
            "same": "",
        }
        chosen.append(k)
        found.append(alike[division])
    if not found:
        return pd.DataFrame()
    p = permutation.agreement_p(
        np.where(there, rest, 0.0),
        rows,
        columns,
        values[:, chosen],
        everyone,
        permutations,
        seed,
    )
    table = pd.DataFrame(found).assign(qap_p=p, fdr=permutation.false_discovery(p))
    return table.sort_values("qap_p", kind="stable").reset_index(drop=True)
