"""The pictures that commands draw, from tables alone."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")  # no display needed

import matplotlib.pyplot as plt

_INK, _MUTED, _GRID = "#1f2933", "#6b7785", "#d9dee3"
_SOURCE, _TARGET = "#c8553d", "#3b6fa0"


def zero_shot(
    path: Path,
    rows: Sequence[tuple[str, float, float, str]],
    source: str,
    title: str,
    subtitle: str,
) -> Path:
    """Draws how one source language's model scores in every target language.

    Args:
      path: file to write; its ending decides the format.
      rows: (target language, score in percent, baseline in percent, note) in the order to show.
      source: the source language, drawn in another colour.
      title: what is shown.
      subtitle: under what conditions.

    Returns:
      `path`.
    """
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.38 * len(rows)), layout="constrained")
    heights = range(len(rows) - 1, -1, -1)
    for height, (language, score, base, _) in zip(heights, rows, strict=True):
        colour = _SOURCE if language == source else _TARGET
        axes.barh(height, score, height=0.66, color=colour)
        axes.plot([base, base], [height - 0.38, height + 0.38], color=_INK, linewidth=1.4)
        axes.text(score + 0.8, height, f"{score:.1f}", va="center", color=_INK, fontsize=9)
    axes.set_yticks(
        list(heights), [f"{language}   {note}" for language, _, _, note in rows], fontsize=9
    )
    axes.set_xlim(0, 108)
    axes.set_xlabel("score, percent", color=_MUTED, fontsize=9)
    axes.tick_params(length=0, colors=_INK)
    axes.xaxis.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, color=_INK, fontweight="bold")
    axes.set_title(subtitle, loc="left", fontsize=9, color=_MUTED)
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=_SOURCE),
        plt.Rectangle((0, 0), 1, 1, color=_TARGET),
        plt.Line2D([], [], color=_INK, linewidth=1.4),
    ]
    labels = [f"fine-tuned language ({source})", "zero-shot", "baseline"]
    axes.legend(handles, labels, loc="lower right", fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
