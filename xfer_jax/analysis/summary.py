"""Renders the results of an analysis as text for a terminal."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from xfer_jax.analysis import features, gains

_WIDTH = 100  # characters of a line of text
_NAME_WIDTH = 29  # characters of a feature's name


def summary(found: Mapping[str, pd.DataFrame], notes: Sequence[str]) -> str:
    """Renders the results for a terminal."""
    lines = []
    per_task = found["languages"].groupby("task", sort=False)
    for task, of_languages in per_task:
        correlated = _correlation_lines(str(task), found)
        lines += correlated or _score_lines(str(task), found)
        lines += _language_lines(of_languages)
        lines += _outcome_lines(str(task), found)
        lines += _learning_curve_lines(str(task), found)
        lines += gains.lines(str(task), found)
    if not found.get("correlations", pd.DataFrame()).empty:
        lines.append(
            "p-values come from permuting languages; the naive p-value assumes that pairs are"
            " independent, and is wrong"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _of(found: Mapping[str, pd.DataFrame], name: str, task: str) -> pd.DataFrame:
    frame = found.get(name, pd.DataFrame())
    return frame if frame.empty else frame[frame["task"] == task]


def _correlation_lines(task: str, found: Mapping[str, pd.DataFrame]) -> list[str]:
    rows = _of(found, "correlations", task)
    if rows.empty:
        return []
    lines = [
        f"{task}: correlation of features with the zero-shot score",
        f"  {'feature':<{_NAME_WIDTH + 2}}pairs  languages  Pearson  95% interval     Spearman"
        "  QAP p  FDR   partial   QAP p  FDR     (naive p)",
    ]
    ordered = rows.reindex(rows["pearson"].abs().sort_values(ascending=False).index)
    for row in ordered.itertuples():
        partial = f"{'':>23}"
        if np.isfinite(row.within):
            partial = f"{row.within:>+8.2f}{row.within_p:>9.4f}{row.within_fdr:>6.3f}"
        lines.append(
            f"  {features.title(row.feature):<{_NAME_WIDTH}}{row.pairs:>7}{row.languages:>11}"
            f"{row.pearson:>+9.2f}"
            f"  [{row.low:+.2f}, {row.high:+.2f}]{row.spearman:>+11.2f}{row.qap_p:>8.4f}"
            f"{row.fdr:>6.3f}{partial}  {row.naive_p:>10.1e}"
        )
    lines.append("  partial: partial correlation, controlling for source and target language")
    model = _of(found, "models", task)
    for row in model.itertuples():
        coefficients = _of(found, "regression", task).sort_values("qap_p")
        best = ", ".join(
            f"{features.title(r.feature)} {r.beta:+.2f} (p {r.qap_p:.3f})"
            for r in coefficients.head(4).itertuples()
        )
        lines.append(
            f"  regression on several features: R² {row.r2:.2f}, for held-out languages"
            f" {row.unseen_r2:.2f}; beta: {best}"
        )
    return lines + _csv_names(ordered["feature"])


def _csv_names(shown: Iterable[str]) -> list[str]:
    """Returns the names in CSV files of the features that are shown under another name."""
    pairs = [f"{features.title(name)} = {name}" for name in shown if features.title(name) != name]
    if not pairs:
        return []
    text = f"names in the CSV files and in --predictors: {'; '.join(pairs)}"
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _score_lines(task: str, found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Returns the scores themselves, if there are too few languages for correlations."""
    lines = [f"{task}: zero-shot scores in percent"]
    for source, row in _of(found, "alignment", task).groupby("source", sort=False):
        means = row.groupby("target", sort=False)["score"].mean()
        cells = ", ".join(f"{target} {score:.1f}" for target, score in means.items())
        lines.append(f"  trained on {source}: {cells}")
    return lines


def _language_lines(of_task: pd.DataFrame) -> list[str]:
    best = of_task[of_task["as_source"].notna()].sort_values("as_source", ascending=False)
    best = best.reset_index(drop=True)
    if len(best) < 2:
        return []
    named = [f"{r.language} {r.as_source:.1f}" for r in best.head(3).itertuples()]
    line = f"  best source languages: {', '.join(named)}"
    english = best.index[best["language"] == "en"]
    if len(english) and english[0] > 2:
        line += f"; English is number {english[0] + 1} with {best['as_source'][english[0]]:.1f}"
    return [line, *_baseline_lines(best)]


def _baseline_lines(best: pd.DataFrame) -> list[str]:
    """Compares sources, the best first, with the baseline."""
    if "as_source_baseline" not in best or best["as_source_baseline"].isna().all():
        return []
    low, high = best["as_source_baseline"].min(), best["as_source_baseline"].max()
    value = f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"
    above = int((best["as_source"] > best["as_source_baseline"]).sum())
    return [
        f"  baseline (always giving the most frequent target, or nothing): {value};"
        f" {above} of {len(best)} source languages exceed it"
    ]


def _outcome_lines(task: str, found: Mapping[str, pd.DataFrame]) -> list[str]:
    rows = _of(found, "outcomes", task)
    if rows.empty:
        return []
    cross_lingual = rows[rows["source"] != rows["target"]]
    totals = cross_lingual.groupby("outcome", sort=False)[["count", "of"]].sum()
    totals = totals[totals["count"] > 0]
    parts = [f"{kind} {100 * c / of:.1f}%" for kind, (c, of) in totals.iterrows()]
    return [f"  outcomes on other languages than the source: {', '.join(parts)}"]


def _learning_curve_lines(task: str, found: Mapping[str, pd.DataFrame]) -> list[str]:
    rows = _of(found, "laws", task)
    if rows.empty:
        return []
    parts = [f"{r.law} {r.beyond:.1f}" for r in rows.itertuples()]
    first = rows.iloc[0]
    return [
        f"  {first['curves']} learning curves by {first['axis']}: mean absolute error when"
        f" extrapolating to the largest number of examples, in points: {', '.join(parts)}"
    ]
