"""Figures for the page and for the folder `figures`."""

import dataclasses
import re
from xml.etree import ElementTree

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from xfer_jax.report import figures, wording

_INKS = {figures.INK: "var(--ink)", figures.MUTED: "var(--muted)", figures.RULE: "var(--rule)"}
_SVG = "http://www.w3.org/2000/svg"
# HTML expects elements without a namespace prefix.
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure on the page."""

    name: str  # of its files, without extension
    width: int  # CSS pixels
    drawing: Markup


class Pictures:
    """Collects the figures of a page in order, and the contents of their files."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}  # contents by file name

    def draw(self, name: str, figure: Figure, numbers: pd.DataFrame) -> Picture:
        """Adds the files of a figure and its numbers, and returns the figure for the page.

        Args:
          name: what the figure shows; the file name keeps its Latin letters and digits.
          figure: the figure.
          numbers: the numbers in the figure.
        """
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]
        file = f"{len(self.files) // 2 + 1:02d}-{slug}"  # the number makes it unique
        svg = figures.svg(figure, file)
        self.files[f"{file}.svg"] = svg
        self.files[f"{file}.csv"] = numbers.to_csv(
            index=False, float_format="%.6g", lineterminator="\n"
        )
        width = round(72 * figure.get_size_inches()[0])
        return Picture(file, width, _inline(svg, wording.short(name)))


def _inline(svg: str, label: str) -> Markup:
    """Prepares SVG for the page: removes prologue and unused ids, and uses the page's colours.

    Names stay text: Matplotlib escapes what it writes, and so does ElementTree, which parses the
    SVG and writes it again.
    """
    root = ElementTree.fromstring(svg)
    values = (value for element in root.iter() for value in element.attrib.values())
    used = {found for value in values for found in re.findall(r"#([\w.-]+)", value)}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        if "style" in element.attrib:
            style = element.attrib["style"]
            for ink, variable in _INKS.items():
                style = style.replace(ink, variable)
            element.set("style", style)
    root.set("role", "img")
    root.set("aria-label", label)
    return Markup(ElementTree.tostring(root, encoding="unicode"))
