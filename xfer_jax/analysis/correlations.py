"""Correlates transfer with language features, task by task."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqio_tasks import language_codes, languages
from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax.analysis import alignment, features, permutation, regression
from xfer_jax.analysis.features import Feature, Options
from xfer_jax.analysis.request import Request

KNOWN_OF = 0.4  # share of the pairs that a feature must be known of, to be regressed on unasked
KNOWN_OF_LANGUAGES = 0.5  # of the languages, for a feature of one language to be correlated
_SENSITIVITY_PERMUTATIONS = 999
TYPOLOGICAL = ("syntax", "morphology", "phonology", "inventory")


@dataclasses.dataclass(frozen=True)
class Task:
    """The scores of one task as a matrix, and all that is known of its languages."""

    name: str
    matrix: np.ndarray  # [S, T]
    sources: list[str]
    targets: list[str]
    rows: list[int]  # places of the sources among all languages
    columns: list[int]
    known: dict[str, Feature]
    each: dict[str, np.ndarray]  # what is known of single languages, [N]
    baselines: np.ndarray  # [T], in percent; NaN where it is not known

    def abroad(self) -> np.ndarray:
        """Which cells [S, T] have a score and are of two languages."""
        return np.isfinite(self.matrix) & (np.asarray(self.sources)[:, None] != self.targets)


# --- What is found --------------------------------------------------------------------------------


def statistics(
    tasks: Sequence[Task],
    names: Sequence[str],
    values: np.ndarray,
    request: Request,
    codes: Sequence[str],
    notes: list[str],
) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("correlations", "regression", "models", "wals", "sensitivity")
    }
    for task in tasks:
        rows = correlations(task, request, notes)
        if rows.empty:
            continue
        found["correlations"].append(rows)
        regressed = regress(task, request, notes)
        if regressed:
            found["regression"].append(regressed[0])
            found["models"].append(regressed[1])
        judged = alignment.by_feature(
            task.matrix, task.rows, task.columns, names, values, request.permutations, request.seed
        )
        if not judged.empty:
            judged.insert(0, "task", task.name)
            found["wals"].append(judged)
        found["sensitivity"].append(sensitivity(task, request, codes))
    return {
        name: pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        for name, frames in found.items()
    }


def correlations(task: Task, request: Request, notes: list[str]) -> pd.DataFrame:
    rows = []
    for name, feature in task.known.items():
        share = np.isfinite(feature.values[np.ix_(task.rows, task.columns)]).mean()
        if feature.of != "pair" and 0 < share < KNOWN_OF_LANGUAGES:
            notes.append(
                f"{task.name}: {name} is known of {share:.0%} of the languages, and is left out"
            )
        if not share or (feature.of != "pair" and share < KNOWN_OF_LANGUAGES):
            continue
        try:
            found = permutation.correlate(
                task.matrix, feature.values, task.rows, task.columns,
                request.permutations, request.seed,
            )  # fmt: skip
        except ValueError as error:
            notes.append(f"{task.name}: no correlation with {name}: {error}")
            continue
        row = {"task": task.name, "feature": name, "of": feature.of, **dataclasses.asdict(found)}
        row |= partial(task, name, request)
        row["coverage"] = np.nan
        if feature.coverage is not None:
            values, here = (
                grid[np.ix_(task.rows, task.columns)] for grid in (feature.values, feature.coverage)
            )
            row["coverage"] = float(np.mean(here[np.isfinite(values)]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    if not frame.empty:
        # Features of pairs are one question, those of single languages another.
        of_pairs = frame["of"] == "pair"
        for rows, p, adjusted in (
            (of_pairs, "qap_p", "fdr"),
            (~of_pairs, "qap_p", "fdr"),
            (frame["within_p"].notna(), "within_p", "within_fdr"),
        ):
            frame.loc[rows, adjusted] = np.nan
            if rows.any():
                frame.loc[rows, adjusted] = permutation.false_discovery(frame.loc[rows, p])
    return frame


def partial(task: Task, name: str, request: Request) -> dict[str, float]:
    feature = task.known[name]
    nothing = {"within": np.nan, "within_p": np.nan}
    if feature.of != "pair":
        return nothing
    try:
        pairs = regression.sample(task.matrix, {name: feature.values}, task.rows, task.columns)
        r, p = regression.within(pairs, request.permutations, request.seed)
    except ValueError:
        return nothing  # too few pairs; their correlation stands, with its number of pairs
    return {"within": r, "within_p": p}


def regress(
    task: Task, request: Request, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    for name in request.predictors:
        if name not in task.known:
            hint = did_you_mean(name, task.known)
            raise RequestError(f"--predictors: there is no feature {name!r}{hint}")
    there = task.abroad()
    wanted = {}
    for name in request.predictors or task.known:
        values = task.known[name].values[np.ix_(task.rows, task.columns)][there]
        mostly = task.known[name].of == "pair" and np.isfinite(values).mean() >= KNOWN_OF
        if request.predictors or (mostly and np.nanstd(values) > 0):
            wanted[name] = task.known[name].values
    dropped: list[str] = []
    try:
        pairs = regression.sample(task.matrix, wanted, task.rows, task.columns)
        if not request.predictors:
            x = dict(zip(pairs.names, pairs.x.T, strict=True))
            kept, dropped = regression.distinct(x)
            kept_features = {name: wanted[name] for name in kept}
            pairs = regression.sample(task.matrix, kept_features, task.rows, task.columns)
        found = regression.regress(pairs, request.permutations, request.seed)
    except ValueError as error:
        notes.append(f"{task.name}: no regression: {error}")
        return None
    coefficients = pd.DataFrame([dataclasses.asdict(c) for c in found.coefficients])
    coefficients.insert(0, "task", task.name)
    model = {
        "task": task.name,
        **{k: v for k, v in dataclasses.asdict(found).items() if k != "coefficients"},
        "collinear": "\t".join(dropped),
    }
    return coefficients, pd.DataFrame([model])


def sensitivity(task: Task, request: Request, codes: Sequence[str]) -> pd.DataFrame:
    """Correlates typology anew under every choice that the literature leaves open."""
    own = task.each["in_language"][task.columns]
    ways = {"as they are": task.matrix}
    if np.isfinite(own).all() and (own > 0).all():
        ways["relative to the target's own"] = 100 * task.matrix / own
    there = task.abroad()
    without = permutation.without_levels(task.matrix, there)
    if np.nanstd(without) > 1e-9 * np.nanstd(task.matrix):  # of one source nothing is left
        ways["without each language's level"] = without
    rows = []
    for measure in features.MEASURES:
        for imputed in (False, True):
            known = features.typology(codes, Options(measure, imputed))
            for way, matrix in ways.items():
                for name in TYPOLOGICAL:
                    try:
                        found = permutation.correlate(
                            matrix, known[name].values, task.rows, task.columns,
                            min(request.permutations, _SENSITIVITY_PERMUTATIONS), request.seed,
                            brief=True,
                        )  # fmt: skip
                    except ValueError:
                        continue  # the table of correlations says why
                    rows.append(
                        {
                            "task": task.name,
                            "feature": name,
                            "measure": measure,
                            "imputed": imputed,
                            "scores": way,
                            "pairs": found.pairs,
                            "pearson": found.pearson,
                            "spearman": found.spearman,
                            "qap_p": found.qap_p,
                        }
                    )
    return pd.DataFrame(rows)


def by_language(task: Task, codes: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """Returns the mean score of every language as source and as target, its own pair left out.

    Beside them stand, where they are known, the mean baseline of the targets that a source was
    scored on, `as_source_baseline`, and that of the language as a target, `baseline`.
    """
    own = np.asarray(task.sources)[:, None] == np.asarray(task.targets)
    others = pd.DataFrame(np.where(own, np.nan, task.matrix), task.sources, task.targets)
    frame = pd.DataFrame({"task": task.name, "language": list(codes)})
    frame["as_source"] = frame["language"].map(others.mean(axis=1))
    frame["as_target"] = frame["language"].map(others.mean(axis=0))
    if np.isfinite(task.baselines).any():
        simple = others.notna() * np.where(np.isfinite(others), task.baselines, np.nan)
        frame["as_source_baseline"] = frame["language"].map(simple.mean(axis=1))
        of_target = dict(zip(task.targets, task.baselines, strict=True))
        frame["baseline"] = frame["language"].map(of_target)
    try:
        levels = regression.levels(task.matrix, task.rows, task.columns, len(codes))
        for name in ("donor", "donor_error", "recipient", "recipient_error"):
            frame[name] = getattr(levels, name)
    except ValueError as error:
        notes.append(f"{task.name}: {error}")
    for name, values in task.each.items():
        frame[name] = values
    known = [languages.LANGUAGES.get(code.partition("-")[0]) for code in codes]
    frame["name"] = [language_codes.name_of(code) for code in codes]
    frame["family"] = [language_codes.family_of(code) for code in codes]
    frame["genus"] = [found.genus if found else "" for found in known]
    there = frame["as_source"].notna() | frame["as_target"].notna() | frame["in_language"].notna()
    return frame[there]


def _shares(task: Task, n: int) -> list[dict[str, Any]]:
    try:
        shares = regression.levels(task.matrix, task.rows, task.columns, n).shares
    except ValueError:
        return []  # the table of languages has a note on it
    return [{"task": task.name, **dataclasses.asdict(shares)}]
