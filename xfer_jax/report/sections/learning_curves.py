"""The section on learning curves: scores by number of examples."""

from typing import Any

from xfer_jax.report import figures
from xfer_jax.report.pictures import Pictures
from xfer_jax.report.reading import Analysis, records
from xfer_jax.report.sections.scores import names

_AXES = {"n_shots": "examples in the target language", "n_train": "training examples"}
_NEEDED_SHOWN = 12  # languages shown before the reader opens the full list


def learning_curves(analysis: Analysis, task: str, pictures: Pictures) -> dict[str, Any] | None:
    """Learning curves by target language, the errors of the laws, and the examples needed."""
    points, laws = analysis.of("curves", task), analysis.of("laws", task)
    if points.empty or laws.empty:
        return None
    points = points[(points["n"] > 0) & points["score"].notna()]
    if points.empty:
        return None
    called = names(analysis, task)
    series = {
        called.get(target, target): (curve["n"].to_numpy(float), curve["score"].to_numpy(float))
        for target, curve in points.groupby("target")
    }
    axis = _AXES.get(laws["axis"].iloc[0], "examples")
    needed = analysis.of("needed", task)
    rows = records(needed.sort_values("examples")) if not needed.empty else []
    for row in rows:
        row["name"] = called.get(row["target"], row["target"])
    drawn = figures.curves(series, axis, "score, percent")
    return {
        "picture": pictures.draw(f"{task} growth", drawn, points),
        "laws": records(laws),
        "needed": rows,
        "shown": _NEEDED_SHOWN,
    }
