"""Sections on the scores: the table, gains, languages, probes and types of error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from xfer_jax.analysis import gains as gain_tables
from xfer_jax.analysis import outcomes
from xfer_jax.report import figures
from xfer_jax.report.pictures import Pictures
from xfer_jax.report.reading import Analysis, records

_TREE_LANGUAGES = 80  # a tree with more is not readable
_FAMILIES_NAMED = 12  # a caption names fewer families than this


def by_family(languages: pd.DataFrame) -> list[str]:
    """Orders languages by family, genus and name; languages of unknown family come last."""
    order = languages.assign(unknown=languages["family"] == "")
    return list(order.sort_values(["unknown", "family", "genus", "name"])["language"])


def baselines(analysis: Analysis, task: str) -> dict[str, float]:
    """Returns the baseline in percent by target language; empty if the analysis has none."""
    rows = analysis.of("languages", task)
    if "baseline" not in rows:
        return {}
    return rows.set_index("language")["baseline"].dropna().to_dict()


def names(analysis: Analysis, task: str) -> dict[str, str]:
    """Returns the names of languages by code."""
    rows = analysis.of("languages", task)
    return dict(zip(rows["language"], rows["name"], strict=True))


def cell_means(analysis: Analysis, task: str) -> pd.DataFrame:
    """Returns the mean score of each pair of source and target."""
    cells = analysis.of("alignment", task)
    if cells.empty:
        return pd.DataFrame(columns=["source", "target", "score"])
    return cells.groupby(["source", "target"])["score"].mean().reset_index()


def heat_map(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """Scores by source and target language."""
    means = cell_means(analysis, task)
    rows = analysis.of("languages", task).set_index("language")
    means = means[means["source"].isin(rows.index) & means["target"].isin(rows.index)]
    if means.empty:
        return None
    codes = by_family(rows.reset_index())
    groups = rows["family"].to_dict()
    lowest = baselines(analysis, task)
    scores = dict(zip(zip(means["source"], means["target"], strict=True), means["score"],
                      strict=True))  # fmt: skip
    labels = {code: f"{rows.loc[code, 'name']}  {code}" for code in codes}
    drawn = figures.matrix(scores, labels, "", "", groups, lowest)
    families = [family for family in dict.fromkeys(groups[code] for code in codes) if family]
    of_targets = [lowest[code] for code in means["target"].unique() if code in lowest]
    return {
        "picture": pictures.draw(f"{task} scores", drawn, means),
        "families": families if len(families) < _FAMILIES_NAMED else [],
        "baseline": (min(of_targets), max(of_targets)) if of_targets else None,
    }


def gains(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """The gains of intermediate tasks, by language and on average."""
    cells, means = analysis.of("gains", task), analysis.of("gain_means", task)
    if cells.empty or means.empty:
        return None
    cross_lingual = cells[cells["source"] != cells["target"]]
    grid = cross_lingual.groupby(["intermediate", "target"], sort=False)["gain"].mean().unstack()
    known = by_family(analysis.of("languages", task))
    grid = grid.reindex(columns=[code for code in known if code in grid.columns])
    picture = None
    if grid.size:
        drawn = figures.gains(grid.to_numpy(float), list(grid.index), list(grid.columns))
        picture = pictures.draw(f"{task} gains", drawn, grid.reset_index())
    subsets = {name: meaning for name, meaning in gain_tables.SUBSETS.items()
               if name in set(means["subset"])}  # fmt: skip
    by_name = [
        (name, {row["subset"]: row for row in records(rows)})
        for name, rows in means.groupby("intermediate", sort=False)
    ]
    return {
        "picture": picture,
        "longer": cells["baseline"].iloc[0] == gain_tables.MORE,
        "subsets": subsets,
        "means": by_name,
        "features": records(analysis.of("gain_features", task)),
    }


def languages(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """Languages as source and as target, and a tree of their similarity in syntax."""
    rows = analysis.of("languages", task)
    donors, shares = None, None
    if {"donor", "recipient"} <= set(rows):
        both = rows[rows["donor"].notna() & rows["recipient"].notna()]
        if len(both) > 2:
            drawn = figures.named_points(
                both["recipient"].to_numpy(float), both["donor"].to_numpy(float),
                list(both["name"]),
                "recipient effect: points above the mean as target",
                "donor effect: points above the mean as source",
            )  # fmt: skip
            donors = pictures.draw(f"{task} donors", drawn, both)
            shares = next(iter(records(analysis.of("shares", task))), None)
    tree = _tree(analysis, task, pictures, rows)
    return {"donors": donors, "shares": shares, "tree": tree} if donors or tree else None


def _tree(analysis: Analysis, task: str, pictures: Pictures, rows: pd.DataFrame) -> Any:
    known = analysis.tables.get("features", pd.DataFrame())
    if "syntax" not in known:
        return None
    rows = rows.set_index("language")
    grid = known.set_index(["source", "target"])["syntax"].unstack()
    codes = [code for code in rows.index if code in grid.index]
    grid = grid.reindex(index=codes, columns=codes)
    values = grid.to_numpy(float, copy=True)
    np.fill_diagonal(values, 1.0)
    while (
        len(codes) and not np.isfinite(values).all()
    ):  # drop the language with the most unknown values
        worst = int(np.argmin(np.isfinite(values).sum(axis=1)))
        codes.pop(worst)
        values = np.delete(np.delete(values, worst, 0), worst, 1)
    if not 4 <= len(codes) <= _TREE_LANGUAGES:
        return None
    shown = rows.loc[codes]
    series = {"as source": shown["as_source"], "as target": shown["as_target"]}
    drawn = figures.tree(values, list(shown["name"]), series, "mean score, percent")
    numbers = pd.DataFrame(values, codes, codes).rename_axis("language").reset_index()
    return pictures.draw(f"{task} languages", drawn, numbers)


def probes(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """What the model knew about each language before fine-tuning."""
    rows = analysis.of("languages", task)
    if "lm_loss" not in rows or rows["lm_loss"].notna().sum() < 2:
        return None
    rows = rows[rows["lm_loss"].notna()].sort_values("lm_loss")

    def bars(column: str, scale: float, label: str) -> Any:
        if column not in rows:
            return None
        drawn = figures.bars(list(rows["name"]), list(scale * rows[column]), label)
        return pictures.draw(f"{task} {column}", drawn, rows[["language", "name", column]])

    return {
        "loss": bars("lm_loss", 1, "LM_L: nats per target token"),
        "exact": bars("lm_em", 100, "LM_EM: masked spans predicted exactly, percent"),
    }


def checkpoints(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """How much the rule matters by which a run chooses its checkpoint."""
    del pictures
    rows = analysis.of("checkpoints", task)
    return {"rows": records(rows.replace("each_target", "each target"))} if len(rows) else None


def error_shares(analysis: Analysis, task: str, by: Sequence[str]) -> pd.Series:
    """Returns the shares of outcomes over pairs of two languages, by columns; may be empty."""
    rows = analysis.of("outcomes", task)
    rows = rows[rows["source"] != rows["target"]] if not rows.empty else rows
    if rows.empty:
        return pd.Series(dtype=float)
    sums = rows.groupby(list(by), sort=False)[["count", "of"]].sum()
    return sums["count"] / sums["of"].replace(0, np.nan)


def errors(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """Correct answers and types of error, by target language."""
    found = error_shares(analysis, task, ("target", "outcome"))
    if found.empty:
        return None
    shares = found.unstack()
    kinds = list(dict.fromkeys(found.index.get_level_values("outcome")))
    order = [kind for kind in kinds if shares[kind].sum() > 0]
    beyond = [kind for kind in order if kind in (*outcomes.PREDICTED, outcomes.OTHER_LANGUAGE)]
    entities = bool(set(order) & set(outcomes.ENTITIES[1:]))
    extra = beyond if entities else [kind for kind in beyond if kind == outcomes.OTHER_LANGUAGE]
    whole = [kind for kind in order if kind not in extra]
    if not whole:
        return None
    if outcomes.CORRECT in shares:
        shares = shares.sort_values(outcomes.CORRECT, ascending=False)
    called = names(analysis, task)
    drawn = figures.stacked(
        [called.get(code, code) for code in shares.index],
        {kind: list(shares[kind]) for kind in whole},
        f"percent of {'entities in the references' if entities else 'answers'}",
    )
    return {
        "picture": pictures.draw(f"{task} outcomes", drawn, shares[whole].reset_index()),
        "entities": entities,
        "extra": {kind: 100 * shares[kind].mean() for kind in extra},
    }
