"""Figures as the page and the folder `figures` hold them."""

import dataclasses
import re
from xml.etree import ElementTree

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from xfer_jax.report import figures, wording

_INKS = {figures.INK: "var(--ink)", figures.MUTED: "var(--muted)", figures.RULE: "var(--rule)"}
_SVG = "http://www.w3.org/2000/svg"
# So that elements are written without a prefix, as HTML expects them.
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure on the page."""

    name: str  # of its files, without ending
    width: int  # pixels of CSS
    drawing: Markup


class Pictures:
    """The figures of a page in their order, and the files that they will be."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}  # contents by name

    def draw(self, name: str, figure: Figure, numbers: pd.DataFrame) -> Picture:
        """Keeps a figure and its numbers as files, and returns it for the page.

        Args:
          name: says what it shows; of it the file's name keeps Latin letters and digits.
          figure: what to draw.
          numbers: that it was drawn from.
        """
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]
        file = f"{len(self.files) // 2 + 1:02d}-{slug}"  # no two have one number
        svg = figures.svg(figure, file)
        self.files[f"{file}.svg"] = svg
        self.files[f"{file}.csv"] = numbers.to_csv(
            index=False, float_format="%.6g", lineterminator="\n"
        )
        width = round(72 * figure.get_size_inches()[0])
        return Picture(file, width, _inline(svg, wording.short(name)))


def _inline(svg: str, label: str) -> Markup:
    """Returns SVG for the page: without its prologue and needless ids, with the page's inks.

    Parsing and writing it anew leaves nothing of a name but text: Matplotlib escapes what it
    writes, and so does ElementTree.
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
