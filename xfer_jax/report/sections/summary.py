"""The top of the page: the main findings, and tables over all tasks."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from xfer_jax.analysis import features, outcomes
from xfer_jax.analysis import gains as gain_tables
from xfer_jax.report.reading import Analysis, records
from xfer_jax.report.sections.features import LEVEL, significant, strongest_first
from xfer_jax.report.sections.scores import error_shares

_BEST = 3  # number of source languages to name


def findings(analysis: Analysis, task: str) -> dict[str, Any]:
    """Returns the main findings for a task, by kind; None where there is none."""
    return {
        "correlation": _correlation(analysis, task),
        "model": next(iter(records(analysis.of("models", task))), None),
        "gains": _gains(analysis, task),
        "sources": _sources(analysis, task),
        "error": _error(analysis, task),
        "laws": _laws(analysis, task),
    }


def _correlation(analysis: Analysis, task: str) -> dict[str, Any] | None:
    rows = analysis.of("correlations", task)
    rows = rows[(rows["of"] == "pair") & rows["pearson"].notna()] if not rows.empty else rows
    if rows.empty:
        return None
    rows = strongest_first(rows)
    return {
        "first": records(rows)[0],
        "level": LEVEL,
        "significant": list(rows[significant(rows)]["feature"]),
    }


def _gains(analysis: Analysis, task: str) -> dict[str, Any] | None:
    means, correlated = analysis.of("gain_means", task), analysis.of("gain_features", task)
    means = means[means["subset"] == "all"] if not means.empty else means
    if means.empty:
        return None
    if not correlated.empty:
        of_target = correlated["of"] == "target"
        correlated = correlated[of_target & (correlated["feature"] == "syntax")]
    return {
        "means": records(means),
        "syntax": next(iter(records(correlated)), None),
        "level": LEVEL,
    }


def _sources(analysis: Analysis, task: str) -> dict[str, Any] | None:
    rows = analysis.of("languages", task)
    best = rows[rows["as_source"].notna()].sort_values("as_source", ascending=False)
    if len(best) < 2:
        return None
    place = {code: i + 1 for i, code in enumerate(best["language"])}.get("en", 0)
    named = records(best.head(_BEST))
    # Each source has its own baseline: the mean over the languages that it is evaluated on.
    lowest = [row.get("as_source_baseline", float("nan")) for row in named]
    for row, baseline in zip(named, lowest, strict=True):
        row["beaten"] = row["as_source"] <= baseline
    known = [baseline for baseline in lowest if baseline == baseline]
    return {
        "best": named,
        "english": place if place > _BEST else None,
        "count": len(best),
        "baseline": (min(known), max(known)) if known else None,
    }


def _error(analysis: Analysis, task: str) -> dict[str, Any] | None:
    shares = error_shares(analysis, task, ("outcome",)).dropna()
    shares = shares.drop(outcomes.CORRECT, errors="ignore").sort_values(ascending=False)
    if shares.empty or shares.iloc[0] <= 0:
        return None
    return {"kind": shares.index[0], "share": shares.iloc[0]}


def _laws(analysis: Analysis, task: str) -> dict[str, Any] | None:
    rows = analysis.of("laws", task)
    if rows.empty or rows["beyond"].isna().all():
        return None
    return {"best": records(rows.sort_values("beyond"))[0], "all": records(rows)}


def all_correlations(analysis: Analysis, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Returns Table 1 of the paper: one row per feature, one cell per task (None if missing)."""
    rows = analysis.tables.get("correlations", pd.DataFrame())
    if rows.empty:
        return []
    cells = {(row["task"], row["feature"]): row for row in records(rows)}
    return [
        {"feature": name, "cells": [cells.get((task, name)) for task in tasks]}
        for name in dict.fromkeys(rows["feature"])
    ]


def csv_names(analysis: Analysis) -> list[tuple[str, str]]:
    """Returns title and name in CSV files of the features whose title differs from their name."""
    rows = analysis.tables.get("correlations", pd.DataFrame())
    names = rows["feature"].unique() if not rows.empty else ()
    return [(features.title(name), name) for name in names if features.title(name) != name]


def all_gains(analysis: Analysis, tasks: Sequence[str]) -> dict[str, Any]:
    """Returns the mean gains: one row per intermediate task, one cell per task."""
    means = analysis.tables.get("gain_means", pd.DataFrame())
    means = means[means["subset"] == "all"] if not means.empty else means
    cells = {(row["intermediate"], row["task"]): row for row in records(means)}
    return {
        "of": gain_tables.SUBSETS["all"],
        "rows": [
            {"name": name, "cells": [cells.get((name, task)) for task in tasks]}
            for name in dict.fromkeys(row["intermediate"] for row in cells.values())
        ],
    }
