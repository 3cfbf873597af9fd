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

KNOWN_PAIRS = 0.4  # share of pairs with a known value that a feature needs to enter a regression
KNOWN_LANGUAGES = 0.5  # likewise of languages, for the correlation of a single-language feature
_SENSITIVITY_PERMUTATIONS = 999
TYPOLOGICAL = ("syntax", "morphology", "phonology", "inventory")


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """The scores of one task as a matrix, and the features of its languages."""

    name: str
    matrix: np.ndarray  # [S, T]
    sources: list[str]
    targets: list[str]
    rows: list[int]  # index of each source among all languages
    columns: list[int]  # index of each target
    features: dict[str, Feature]
    by_language: dict[str, np.ndarray]  # values of single languages [N], by name
    baselines: np.ndarray  # [T], in percent; NaN where unknown

    def cross_lingual(self) -> np.ndarray:
        """The cells [S, T] of two different languages that have a score."""
        return np.isfinite(self.matrix) & (np.asarray(self.sources)[:, None] != self.targets)


# --- Results --------------------------------------------------------------------------------------


def analyse(
    tasks: Sequence[TaskScores],
    names: Sequence[str],
    values: np.ndarray,
    request: Request,
    codes: Sequence[str],
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Computes the tables of correlations, regressions, WALS features and sensitivity; and notes.

    Args:
      tasks: the scores of each task.
      names: names of the F features of WALS.
      values: their values [N, F].
      request: options of the analysis.
      codes: the N languages.
    """
    notes: list[str] = []
    found: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("correlations", "regression", "models", "wals", "sensitivity")
    }
    for task in tasks:
        rows, of_rows = correlations(task, request)
        notes += of_rows
        if rows.empty:
            continue
        found["correlations"].append(rows)
        try:
            coefficients, model = regress(task, request)
            found["regression"].append(coefficients)
            found["models"].append(model)
        except RequestError:
            raise
        except ValueError as error:
            notes.append(f"{task.name}: no regression: {error}")
        by_feature = alignment.by_feature(
            task.matrix, task.rows, task.columns, names, values, request.permutations, request.seed
        )
        if not by_feature.empty:
            by_feature.insert(0, "task", task.name)
            found["wals"].append(by_feature)
        found["sensitivity"].append(sensitivity(task, request, codes))
    tables = {
        name: pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        for name, frames in found.items()
    }
    return tables, notes


def correlations(task: TaskScores, request: Request) -> tuple[pd.DataFrame, list[str]]:
    """Correlates each feature with the score; returns one row per feature, and notes."""
    rows, notes = [], []
    for name, feature in task.features.items():
        share = np.isfinite(feature.values[np.ix_(task.rows, task.columns)]).mean()
        if feature.of != "pair" and 0 < share < KNOWN_LANGUAGES:
            notes.append(
                f"{task.name}: {features.title(name)} is left out, because it is known for only"
                f" {share:.0%} of the languages"
            )
        if not share or (feature.of != "pair" and share < KNOWN_LANGUAGES):
            continue
        try:
            found = permutation.correlate(
                task.matrix, feature.values, task.rows, task.columns,
                request.permutations, request.seed,
            )  # fmt: skip
        except ValueError as error:
            notes.append(f"{task.name}: no correlation with {features.title(name)}: {error}")
            continue
        row = {"task": task.name, "feature": name, "of": feature.of, **dataclasses.asdict(found)}
        row |= partial_correlation(task, name, request)
        row["coverage"] = np.nan
        if feature.coverage is not None:
            values, coverage = (
                matrix[np.ix_(task.rows, task.columns)]
                for matrix in (feature.values, feature.coverage)
            )
            row["coverage"] = float(np.mean(coverage[np.isfinite(values)]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    if not frame.empty:
        # Two families of tests: features of pairs, and features of single languages.
        of_pairs = frame["of"] == "pair"
        for rows, p, adjusted in (
            (of_pairs, "qap_p", "fdr"),
            (~of_pairs, "qap_p", "fdr"),
            (frame["within_p"].notna(), "within_p", "within_fdr"),
        ):
            frame.loc[rows, adjusted] = np.nan
            if rows.any():
                frame.loc[rows, adjusted] = permutation.false_discovery(frame.loc[rows, p])
    return frame, notes


def partial_correlation(task: TaskScores, name: str, request: Request) -> dict[str, float]:
    """Returns a feature's partial correlation, controlling for source and target language."""
    feature = task.features[name]
    nothing = {"within": np.nan, "within_p": np.nan}
    if feature.of != "pair":
        return nothing
    try:
        pairs = regression.sample(task.matrix, {name: feature.values}, task.rows, task.columns)
        r, p = regression.partial_correlation(pairs, request.permutations, request.seed)
    except ValueError:
        return nothing  # too few pairs; the plain correlation is reported with its number of pairs
    return {"within": r, "within_p": p}


def regress(task: TaskScores, request: Request) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Regresses the scores on several features.

    Returns:
      The coefficients, one row per feature, and the model, one row.

    Raises:
      RequestError: a predictor is not the name of a feature.
      ValueError: no regression is possible; says why.
    """
    for name in request.predictors:
        if name not in task.features:
            hint = did_you_mean(name, task.features)
            raise RequestError(f"--predictors: there is no feature {name!r}{hint}")
    mask = task.cross_lingual()
    wanted = {}
    for name in request.predictors or task.features:
        values = task.features[name].values[np.ix_(task.rows, task.columns)][mask]
        mostly = task.features[name].of == "pair" and np.isfinite(values).mean() >= KNOWN_PAIRS
        if request.predictors or (mostly and np.nanstd(values) > 0):
            wanted[name] = task.features[name].values
    dropped: list[str] = []
    pairs = regression.sample(task.matrix, wanted, task.rows, task.columns)
    if not request.predictors:
        x = dict(zip(pairs.names, pairs.x.T, strict=True))
        kept, dropped = regression.distinct(x)
        kept_features = {name: wanted[name] for name in kept}
        pairs = regression.sample(task.matrix, kept_features, task.rows, task.columns)
    found = regression.regress(pairs, request.permutations, request.seed)
    coefficients = pd.DataFrame([dataclasses.asdict(c) for c in found.coefficients])
    coefficients.insert(0, "task", task.name)
    model = {
        "task": task.name,
        **{k: v for k, v in dataclasses.asdict(found).items() if k != "coefficients"},
        "collinear": "\t".join(dropped),
    }
    return coefficients, pd.DataFrame([model])


def sensitivity(task: TaskScores, request: Request, codes: Sequence[str]) -> pd.DataFrame:
    """Repeats the correlations with typology under every choice that the literature leaves open."""
    own = task.by_language["in_language"][task.columns]
    transforms = {"as they are": task.matrix}
    if np.isfinite(own).all() and (own > 0).all():
        transforms["relative to the target's own"] = 100 * task.matrix / own
    centred = permutation.without_main_effects(task.matrix, task.cross_lingual())
    if np.nanstd(centred) > 1e-9 * np.nanstd(task.matrix):  # with a single source, nothing is left
        transforms["without each language's level"] = centred
    rows = []
    for measure in features.MEASURES:
        for imputed in (False, True):
            known = features.typology(codes, Options(measure, imputed))
            for transform, matrix in transforms.items():
                for name in TYPOLOGICAL:
                    try:
                        found = permutation.correlate(
                            matrix, known[name].values, task.rows, task.columns,
                            min(request.permutations, _SENSITIVITY_PERMUTATIONS), request.seed,
                            brief=True,
                        )  # fmt: skip
                    except ValueError:
                        continue  # the notes on correlations say why
                    rows.append(
                        {
                            "task": task.name,
                            "feature": name,
                            "measure": measure,
                            "imputed": imputed,
                            "scores": transform,
                            "pairs": found.pairs,
                            "pearson": found.pearson,
                            "spearman": found.spearman,
                            "qap_p": found.qap_p,
                        }
                    )
    return pd.DataFrame(rows)


def by_language(task: TaskScores, codes: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Returns each language's mean score as source and as target, without its own pair; and notes.

    Where baselines are known, `as_source_baseline` is the mean baseline of the targets that the
    source was evaluated on, and `baseline` is the baseline of the language as target.
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
        effects = regression.language_effects(task.matrix, task.rows, task.columns, len(codes))
        for name in ("donor", "donor_error", "recipient", "recipient_error"):
            frame[name] = getattr(effects, name)
    except ValueError as error:
        notes = [f"{task.name}: {error}"]
    else:
        notes = []
    for name, values in task.by_language.items():
        frame[name] = values
    known = [languages.LANGUAGES.get(code.partition("-")[0]) for code in codes]
    frame["name"] = [language_codes.name_of(code) for code in codes]
    frame["family"] = [language_codes.family_of(code) for code in codes]
    frame["genus"] = [found.genus if found else "" for found in known]
    return frame[frame[["as_source", "as_target", "in_language"]].notna().any(axis=1)], notes


def variance_shares(task: TaskScores, n: int) -> list[dict[str, Any]]:
    """Returns how much of the variance source and target language explain; nothing if unknown."""
    try:
        shares = regression.language_effects(task.matrix, task.rows, task.columns, n).shares
    except ValueError:
        return []  # `by_language` adds a note on it
    return [{"task": task.name, **dataclasses.asdict(shares)}]
