"""The pictures that commands draw, from tables alone."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np

_INK, _MUTED = "#1f2933", "#6b7785"
_COLOURS = "YlGnBu"


def matrix(
    path: Path,
    scores: Mapping[tuple[str, str], float],
    labels: Mapping[str, str],
    title: str,
    subtitle: str,
) -> Path:
    """Draws scores by source (down) and target language (across).

    Args:
      path: file to write; its ending decides the format.
      scores: in percent, by (source, target); pairs that are not there stay blank.
      labels: what to call the sources, by language, in the order to show both.
      title: what is shown.
      subtitle: under what conditions.

    Returns:
      `path`.
    """
    sources = [code for code in labels if any(source == code for source, _ in scores)]
    targets = [code for code in labels if any(target == code for _, target in scores)]
    values = np.asarray([[scores.get((s, t), np.nan) for t in targets] for s in sources])
    size = (2.9 + 0.58 * len(targets), 1.7 + 0.46 * len(sources))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    image = axes.imshow(values, cmap=_COLOURS, vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > 60 else _INK
            weight = "bold" if sources[row] == targets[column] else "normal"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center",
                color=colour, fontsize=9, fontweight=weight,
            )  # fmt: skip
    axes.set_xticks(range(len(targets)), targets, fontsize=9)
    axes.set_yticks(range(len(sources)), [labels[code] for code in sources], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, colors=_INK)
    axes.set_xticks(np.arange(len(targets) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(sources) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_ylabel("fine-tuned in", color=_MUTED, fontsize=9)
    axes.set_xlabel("asked in", color=_MUTED, fontsize=9)
    axes.xaxis.set_label_position("top")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=_MUTED)
    figure.suptitle(f"{title}\n\n", x=0.02, ha="left", fontsize=12, color=_INK, fontweight="bold")
    figure.text(0.02, 0.945, subtitle, fontsize=9, color=_MUTED, va="top")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
