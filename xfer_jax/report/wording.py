"""Formats numbers and names for the page: the filters of the templates.

An unknown number (NaN) gives an empty string, unless a filter says otherwise.
"""

from typing import Any

import numpy as np
import regex

from xfer_jax.analysis import features

_ENDLESS = 1e9  # examples: no data set has more
_LONGEST = 80  # code points of a name that are shown


def short(text: Any, longest: int = _LONGEST) -> str:
    """Returns a name; a name that is too long is cut between two visible characters."""
    text = str(text)
    if len(text) <= longest:
        return text
    kept = ""
    for cluster in regex.finditer(r"\X", text[: longest + 1]):
        if len(kept) + len(cluster[0]) >= longest:
            break
        kept += cluster[0]
    return f"{kept or text[: longest - 1]}…"


def feature(name: Any) -> str:
    """Returns what the page and the terminal call a feature."""
    return short(features.title(str(name)))


def _written(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form).replace("-", "−")


def signed(value: float) -> str:
    """Formats a correlation or a coefficient."""
    return _written(value, "+.2f")


def fixed(value: float, digits: int = 1) -> str:
    """Formats a number with this number of decimals."""
    return _written(value, f".{digits}f")


def points(value: float) -> str:
    """Formats a difference of scores, in points."""
    return _written(value, "+.1f")


def span(ends: tuple[float, float]) -> str:
    """Formats the range of some scores; one number if both ends are the same."""
    low, high = map(fixed, ends)
    return low if low == high else f"{low} to {high}"


def percent(value: float) -> str:
    """Formats a share in percent."""
    return _written(value, ".0%")


def whole(value: float) -> str:
    """Formats a count."""
    return _written(value, ",.0f")


def p(value: float) -> str:
    """Formats a p-value."""
    return "<0.001" if value < 0.001 else _written(value, ".3f")


def scientific(value: float) -> str:
    return _written(value, ".0e")


def p_is(value: float) -> str:
    """Formats a p-value for a sentence."""
    if np.isnan(value):
        return "p unknown"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def correlation_interval(low: float, high: float) -> str:
    return "" if np.isnan(low) or np.isnan(high) else f"[{signed(low)}, {signed(high)}]"


def points_interval(low: float, high: float) -> str:
    return "" if np.isnan(low) or np.isnan(high) else f"[{points(low)}, {points(high)}]"


def examples(value: float) -> str:
    """Formats an extrapolated number of examples, with two significant digits."""
    if np.isnan(value):
        return "?"
    if value > _ENDLESS:
        return "never"
    digits = 2 - len(f"{max(value, 1):.0f}")
    return f"{round(max(value, 1), min(digits, 0)):,.0f}"


FILTERS = {
    function.__name__: function
    for function in (
        short,
        feature,
        signed,
        fixed,
        points,
        span,
        percent,
        whole,
        p,
        p_is,
        scientific,
        examples,
    )
}
FUNCTIONS = {function.__name__: function for function in (correlation_interval, points_interval)}
