"""Draws the figures of the commands and of the report, from numbers alone.

Every function returns a figure, and `save` writes it. Names are drawn as text, never as a formula;
they may be long and in any script. Text has colours of its own, so that a page can replace them.
"""

import functools
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial import distance

from seqio_tasks import files
from xfer_jax.report.wording import short

INK, MUTED, RULE = "#1f2933", "#6b7785", "#d5dae0"
BLUE, ORANGE, GREEN, RED = "#2f7dc1", "#d9772e", "#4f9d69", "#c2504a"
_SERIES = (BLUE, ORANGE, GREEN, "#8f6bb3", "#b8902f", RED, "#5b8a99", "#a86f83", "#7d8793")
# Text in cells, whose colour does not change with the page.
_ON_LIGHT, _ON_DARK = "#1f2934", "#fffffe"
_COLOURS = "YlGnBu"
_TWO_SIDED = "RdBu"  # blue is a gain
_MANY = 40  # languages; with more, cells have no numbers
_RASTER = 1500  # points; more are drawn as an image
_LONGEST = 40  # code points of a name; a longer one is cut
_SHORT = 24  # code points of a row name for which a heat map has room
_UPRIGHT = 5  # code points of a column name; longer ones are drawn vertically
_LETTER = 0.07  # width of a letter in inches
_MOST_TICKS = 20
_NOT_BETTER = "#c9ced6"  # cells whose score does not exceed the baseline

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is just a dollar sign
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "figure.dpi": 150,
}


def _styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function draw in this module's style, without changing the style elsewhere."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            # Text stays text in SVG: the reader's browser has the fonts.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            # One row per name: figures with one name or a thousand names have odd proportions.
            warnings.filterwarnings("ignore", message="constrained_layout not applied")
            return draw(*args, **kwargs)

    return drawn


def _figure(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, **options)


def _labels(names: Sequence[str]) -> list[str]:
    return [short(name, _LONGEST) for name in names]


@_styled
def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, whole or not at all.

    Raises:
      RequestError: the file cannot be written.
      RunError: the disk is full or fails.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return files.write(path, content.getvalue())


@_styled
def svg(figure: Figure, salt: str) -> str:
    """Renders a figure as SVG, the same text for the same figure.

    Args:
      figure: what to render.
      salt: for the ids in the SVG, so that the figures on a page have different ids.
    """
    text = io.StringIO()
    nothing: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return text.getvalue()


# --- Tables of scores -----------------------------------------------------------------------------


@_styled
def matrix(
    scores: Mapping[tuple[str, str], float],
    labels: Mapping[str, str],
    title: str,
    subtitle: str,
    groups: Mapping[str, str] | None = None,
    baselines: Mapping[str, float] | None = None,
) -> Figure:
    """Draws scores by source (down) and target language (across).

    Args:
      scores: in percent, by (source, target); missing pairs stay blank.
      labels: row labels by language; their order is the order of rows and columns.
      title: what is shown.
      subtitle: the conditions.
      groups: group of each language; lines separate neighbours of different groups.
      baselines: in percent, by target language; scores that do not exceed them are grey.
    """
    here = [{pair[side] for pair in scores} for side in (0, 1)]
    sources, targets = ([code for code in labels if code in side] for side in here)
    values = np.asarray([[scores.get((s, t), np.nan) for t in targets] for s in sources])
    figure, axes = _heat_map(
        values,
        [labels[code] for code in sources],
        targets,
        margins=(2.6, 1.3),
        colours=(_COLOURS, 0, 100),
        text="{:.0f}".format,
        dark=values > 60,
        bold=np.equal.outer(sources, targets),
        grey=values <= np.asarray([(baselines or {}).get(code, np.nan) for code in targets]),
    )
    if groups:
        for codes, line in ((targets, axes.axvline), (sources, axes.axhline)):
            for i in range(1, len(codes)):
                if groups.get(codes[i]) != groups.get(codes[i - 1]):
                    line(i - 0.5, color=MUTED, linewidth=0.8)
    axes.set_ylabel("fine-tuned on (source language)")
    axes.set_xlabel("evaluated on (target language)")
    axes.xaxis.set_label_position("top")
    _titled(figure, title, subtitle)
    return figure


@_styled
def gains(values: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draws gains [rows, columns] in points, on a colour scale that is symmetric around zero.

    Args:
      values: the gains; NaN stays blank.
      rows: names of intermediate tasks.
      columns: names of target languages.
    """
    most = max(float(np.abs(values[np.isfinite(values)]).max(initial=0.0)), 1.0)
    figure, _ = _heat_map(
        values,
        rows,
        columns,
        margins=(3.2, 1.1),
        colours=(_TWO_SIDED, -most, most),
        text=lambda value: f"{value:+.1f}".replace("-", "−"),
        dark=np.abs(values) > 0.7 * most,
    )
    return figure


def _heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    margins: tuple[float, float],
    colours: tuple[Any, float, float],
    text: Callable[[float], str],
    dark: np.ndarray,
    bold: np.ndarray | None = None,
    grey: np.ndarray | None = None,
) -> tuple[Figure, Axes]:
    """Draws the cells of a table as colours, with numbers in them if there are not too many.

    Args:
      values: [rows, columns]; NaN stays blank.
      rows: names of the rows.
      columns: names of the columns.
      margins: left of the cells and above them, in inches.
      colours: a colour map, and the values at its ends.
      text: formats the number in a cell.
      dark: bool [rows, columns], dark cells, which need light text.
      bold: likewise, cells with bold text.
      grey: likewise, cells to draw in grey.
    """
    many_rows, many_columns = (len(names) > _MANY for names in (rows, columns))
    many = many_rows or many_columns
    width, height = 0.13 if many_columns else 0.5, 0.13 if many_rows else 0.34
    down, across = _labels(rows), _labels(columns)
    upright = many_columns or max(map(len, across)) > _UPRIGHT
    margins = (
        margins[0] + _LETTER * max(0, max(map(len, down)) - _SHORT),
        margins[1] + _LETTER * (max(map(len, across)) if upright else 0),
    )
    figure, axes = _figure(margins[0] + width * len(columns), margins[1] + height * len(rows))
    colour_map, low, high = colours
    paint = functools.partial(_cells, axes, shape=values.shape, as_image=many)
    image = paint(np.ma.masked_invalid(values), cmap=colour_map, vmin=low, vmax=high)
    if grey is not None and grey.any():
        paint(np.ma.masked_where(~grey, values), cmap=ListedColormap([_NOT_BETTER]))
        dark = dark & ~grey
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if not many:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                axes.text(
                    column, row, text(value), ha="center", va="center", fontsize=8.5,
                    color=_ON_DARK if dark[row, column] else _ON_LIGHT,
                    fontweight="bold" if bold is not None and bold[row, column] else "normal",
                )  # fmt: skip
    axes.set_xticks(
        range(len(columns)), across, fontsize=5 if many_columns else 9, rotation=90 * upright
    )
    axes.set_yticks(range(len(rows)), down, fontsize=5 if many_rows else 9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=MUTED)
    return figure, axes


def _cells(
    axes: Axes, values: np.ma.MaskedArray, *, shape: tuple[int, ...], as_image: bool, **colours: Any
) -> Any:
    """Draws cells as shapes, or as an image with one pixel per cell."""
    rows, columns = shape
    if as_image:
        edges = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        return axes.imshow(values, aspect="auto", interpolation="none", extent=edges, **colours)
    return axes.pcolormesh(
        np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, values,
        edgecolors="face", linewidth=0, **colours,
    )  # fmt: skip


def _titled(figure: Figure, title: str, subtitle: str) -> None:
    if title:
        figure.suptitle(
            f"{title}\n\n", x=0.02, ha="left", fontsize=12, color=INK, fontweight="bold"
        )
        figure.text(0.02, 0.945, subtitle, fontsize=9, color=MUTED, va="top")


# --- Numbers with intervals -----------------------------------------------------------------------


@_styled
def intervals(
    names: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    label: str,
    zero: bool = True,
) -> Figure:
    """Draws numbers as points with intervals, one row per name, the first on top.

    Args:
      names: names of the rows.
      series: by name, (middle, low, high) of every row; NaN is not drawn.
      label: label of the axis.
      zero: whether to draw a line at zero.
    """
    figure, axes = _figure(6.4, 0.9 + (0.24 + 0.06 * (len(series) > 1)) * len(names))
    places = np.arange(len(names))
    offsets = np.linspace(-0.18, 0.18, len(series)) if len(series) > 1 else [0.0]
    markers, drawn = "osD^", []
    for k, ((middle, low, high), offset) in enumerate(zip(series.values(), offsets, strict=True)):
        colour = _SERIES[k % len(_SERIES)]
        axes.hlines(places + offset, np.asarray(low), np.asarray(high), color=colour, linewidth=1.6)
        drawn += axes.plot(
            np.asarray(middle), places + offset, markers[k % 4], color=colour, markersize=5,
            linestyle="none",
        )  # fmt: skip
    if zero:
        axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(places, _labels(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x")
    if len(series) > 1:
        _legend(figure, drawn, list(series))
    return figure


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Draws a legend; by default Matplotlib leaves out names that begin with `_`."""
    columns = min(len(names), 4)
    named = [short(name) for name in names]
    figure.legend(handles, named, loc="outside upper left", ncols=columns, fontsize=8)


@_styled
def bars(names: Sequence[str], values: Sequence[float], label: str) -> Figure:
    """Draws horizontal bars, the first on top; negative bars have another colour."""
    figure, axes = _figure(6.4, 0.8 + 0.25 * len(names))
    colours = [BLUE if value >= 0 else ORANGE for value in values]
    axes.barh(np.arange(len(names)), np.asarray(values), color=colours, height=0.7)
    axes.set_yticks(range(len(names)), _labels(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_xlabel(label)
    axes.grid(axis="x")
    return figure


@_styled
def stacked(names: Sequence[str], shares: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draws stacked bars, in percent; the first part is the correct answers."""
    figure, axes = _figure(7.2, 1.1 + 0.27 * len(names) + 0.18 * -(-len(shares) // 4))
    left, drawn = np.zeros(len(names)), []
    colours = (GREEN, *(c for c in _SERIES if c != GREEN))
    for k, values in enumerate(shares.values()):
        percent = 100 * np.nan_to_num(np.asarray(values, float))
        drawn.append(
            axes.barh(
                np.arange(len(names)), percent, left=left, height=0.75,
                color=colours[k % len(colours)], alpha=1.0 if k < len(colours) else 0.6,
            )
        )  # fmt: skip
        left = left + percent
    axes.set_yticks(range(len(names)), _labels(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    _legend(figure, drawn, list(shares))
    return figure


# --- Points and lines -----------------------------------------------------------------------------


@_styled
def scatter(
    x: np.ndarray, y: np.ndarray, names: Sequence[str], x_label: str, y_label: str
) -> Figure:
    """Draws points with their least-squares line, and names where there is room.

    Args:
      x: [N], finite, N at least 1.
      y: [N], likewise.
      names: names of the points.
      x_label: label of the x axis.
      y_label: label of the y axis.
    """
    figure, axes = _figure(6.4, 4.4)
    many = len(x) > _RASTER
    axes.plot(
        x, y, "o", color=BLUE, markersize=1.5 if many else 4, alpha=0.35 if many else 0.75,
        markeredgewidth=0, rasterized=many,
    )  # fmt: skip
    apart = x - x.mean()
    if apart @ apart > 0:
        slope = apart @ (y - y.mean()) / (apart @ apart)
        ends = np.asarray([x.min(), x.max()])
        axes.plot(ends, y.mean() + slope * (ends - x.mean()), color=ORANGE, linewidth=1.5)
    for i in _apart(x, y, 60):
        axes.annotate(
            short(names[i], _LONGEST),
            (x[i], y[i]),
            (3, 3),
            textcoords="offset points",
            fontsize=6.5,
            color=MUTED,
        )
    axes.set_xlabel(short(x_label))
    axes.set_ylabel(y_label)
    axes.grid()
    return figure


def _apart(x: np.ndarray, y: np.ndarray, most: int) -> list[int]:
    """Chooses the points whose names have room, outermost points first."""
    scaled = np.stack([(v - v.min()) / (np.ptp(v) or 1) for v in (x, y)], axis=1)
    order = np.argsort(-np.abs(scaled - np.median(scaled, axis=0)).max(axis=1))
    chosen: list[int] = []
    for i in order[: 20 * most]:
        gaps = np.abs(scaled[chosen] - scaled[i])
        if not len(chosen) or not ((gaps[:, 0] < 0.075) & (gaps[:, 1] < 0.035)).any():
            chosen.append(int(i))
        if len(chosen) == most:
            break
    return chosen


@_styled
def named_points(
    x: np.ndarray, y: np.ndarray, names: Sequence[str], x_label: str, y_label: str
) -> Figure:
    """Draws named points, with lines at x = 0 and y = 0."""
    figure, axes = _figure(6.4, 4.4)
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.axvline(0, color=RULE, linewidth=0.8)
    axes.plot(x, y, "o", color=BLUE, markersize=4)
    for i in _apart(x, y, 80):
        axes.annotate(
            short(names[i], _LONGEST), (x[i], y[i]), (4, 3), textcoords="offset points", fontsize=8
        )
    axes.set_xlabel(short(x_label))
    axes.set_ylabel(y_label)
    return figure


@_styled
def curves(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]], x_label: str, y_label: str
) -> Figure:
    """Draws learning curves: scores by number of examples (log axis), one line per language."""
    figure, axes = _figure(6.4, 4.0)
    many = len(series) > 2 * len(_SERIES)
    for k, (name, (n, y)) in enumerate(series.items()):
        colour = MUTED if many else _SERIES[k % len(_SERIES)]
        axes.plot(
            n, y, "-" if many else "o-", color=colour, markersize=4, linewidth=0.7 if many else 1.4,
            alpha=0.6 if many else 1.0,
        )  # fmt: skip
        if not many:
            axes.annotate(
                short(name, _LONGEST), (n[-1], y[-1]), (5, -3), textcoords="offset points",
                fontsize=8, color=colour,
            )  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted({n for ns, _ in series.values() for n in ns})
    if len(ticks) <= _MOST_TICKS:
        axes.set_xticks(ticks, [f"{int(tick):,}" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel(short(x_label))
    axes.set_ylabel(y_label)
    axes.grid()
    return figure


@_styled
def tree(
    similarity: np.ndarray,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    label: str,
) -> Figure:
    """Draws a dendrogram of languages by similarity, with numbers of each language next to it.

    Args:
      similarity: [N, N], at most 1.
      names: names of the languages.
      series: numbers of each language, by name of the series.
      label: label of their axis.
    """
    apart = distance.squareform(1 - (similarity + similarity.T) / 2, checks=False)
    apart = np.maximum(apart, 0)
    links = hierarchy.linkage(apart, "average", optimal_ordering=len(names) <= 80)
    height = 0.9 + (0.27 if len(names) <= _MANY else 0.14) * len(names)
    figure, (left, right) = _figure(7.2, height, columns=2, width_ratios=(1, 1.1))
    drawn = hierarchy.dendrogram(
        links, orientation="left", ax=left, no_labels=True, link_color_func=lambda _: MUTED
    )
    order = drawn["leaves"]
    places = 10 * np.arange(len(order)) + 5
    points = []
    for k, values in enumerate(series.values()):
        points += right.plot(
            np.asarray(values, float)[order], places, "os"[k % 2], color=_SERIES[k % len(_SERIES)],
            markersize=5 if len(names) <= _MANY else 3,
        )  # fmt: skip
    right.set_ylim(*left.get_ylim())
    ordered = _labels([names[i] for i in order])
    right.set_yticks(places, ordered, fontsize=9 if len(names) <= _MANY else 5.5)
    right.grid()
    right.set_xlabel(label)
    left.set_xlabel("1 - similarity")
    left.spines[["left", "top", "right"]].set_visible(False)
    left.set_yticks([])
    _legend(figure, points, list(series))
    return figure
