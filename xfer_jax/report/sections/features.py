"""Sections on what correlates with the score."""

from typing import Any

import pandas as pd

from xfer_jax.report import figures, wording
from xfer_jax.report.pictures import Pictures
from xfer_jax.report.reading import Analysis, records
from xfer_jax.report.sections.scores import cell_means

LEVEL = 0.05  # false discovery rate up to which a feature is called significant
_WALS_SHOWN = 15
_SCATTERS = 2


def strongest_first(rows: pd.DataFrame, column: str = "pearson") -> pd.DataFrame:
    return rows.sort_values(column, key=abs, ascending=False)


def significant(rows: pd.DataFrame) -> pd.Series:
    """Returns which features are significant, as plain or as partial correlations."""
    return (rows["fdr"] <= LEVEL) | (rows["within_fdr"] <= LEVEL)


def correlations(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """The correlation of each feature with the zero-shot score."""
    rows = analysis.of("correlations", task)
    if rows.empty:
        return None
    rows = strongest_first(rows)
    drawn = figures.intervals(
        [wording.feature(name) for name in rows["feature"]],
        {
            "Pearson, 95% interval": (rows["pearson"], rows["low"], rows["high"]),
            "partial, controlling for source and target": (rows["within"],) * 3,
        },
        "correlation with the zero-shot score",
    )
    return {
        "picture": pictures.draw(f"{task} correlations", drawn, rows),
        "rows": records(rows.assign(significant=significant(rows))),
    }


def scatters(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """Scatter plots of the features that correlate most strongly."""
    rows = analysis.of("correlations", task)
    known = analysis.tables.get("features", pd.DataFrame())
    if rows.empty or known.empty:
        return None
    names = [name for name in known.columns if name not in ("source", "target")]
    chosen = rows[(rows["of"] == "pair") & rows["feature"].isin(names)]
    shown = []
    for row in records(strongest_first(chosen).head(_SCATTERS)):
        name = row["feature"]
        of_feature = known[["source", "target", name]].set_axis(["source", "target", "x"], axis=1)
        numbers = of_feature.merge(cell_means(analysis, task), on=["source", "target"]).dropna()
        if numbers.empty:
            continue
        pairs = zip(numbers["source"], numbers["target"], strict=True)
        drawn = figures.scatter(
            numbers["x"].to_numpy(float),
            numbers["score"].to_numpy(float),
            [f"{source}→{target}" for source, target in pairs],
            wording.feature(name),
            "zero-shot score, percent",
        )
        numbers = numbers.set_axis(["source", "target", name, "score"], axis=1)
        picture = pictures.draw(f"{task} {name}", drawn, numbers)
        shown.append({"picture": picture, "pearson": row["pearson"]})
    return {"scatters": shown} if shown else None


def regression(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """All features of pairs in one regression."""
    rows, model = analysis.of("regression", task), analysis.of("models", task)
    if rows.empty or model.empty:
        return None
    rows = strongest_first(rows, "mixed")
    drawn = figures.intervals(
        [wording.feature(name) for name in rows["feature"]],
        {"": (rows["mixed"], rows["mixed_low"], rows["mixed_high"])},
        "points of the score per standard deviation of the feature",
    )
    found = records(model)[0]
    return {
        "picture": pictures.draw(f"{task} regression", drawn, rows),
        "rows": records(rows.assign(significant=rows["qap_p"] <= LEVEL)),
        "model": found,
        "left_out": [name for name in found["collinear"].split("\t") if name],
    }


def wals(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """Single features of WALS."""
    rows = analysis.of("wals", task).head(_WALS_SHOWN)
    if rows.empty:
        return None
    drawn = figures.bars(
        list(rows["feature"]),
        list(rows["points"]),
        "points: pairs that have the same value minus pairs that do not",
    )
    same = rows["same"].str.split(" ").str.join(", ")
    return {
        "picture": pictures.draw(f"{task} wals", drawn, rows),
        "rows": records(rows.assign(same=same, significant=rows["fdr"] <= LEVEL)),
    }


def sensitivity(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """The sensitivity of the correlations to choices of the method."""
    del pictures
    rows = analysis.of("sensitivity", task)
    if rows.empty:
        return None
    found = []
    for name, of_feature in rows.groupby("feature", sort=False):
        positive = (of_feature["pearson"] > 0).mean()
        below = (of_feature["qap_p"] <= LEVEL).mean()
        found.append(
            {
                "feature": name,
                "choices": len(of_feature),
                "low": of_feature["pearson"].min(),
                "high": of_feature["pearson"].max(),
                "positive": positive,
                "below": below,
                "fewest": of_feature["pairs"].min(),
                "most": of_feature["pairs"].max(),
                "holds": positive in (0, 1) and below in (0, 1),
            }
        )
    return {"rows": found}
