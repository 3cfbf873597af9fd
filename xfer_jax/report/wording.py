"""How numbers and names are written on the page: filters of the templates.

A number that is not known (NaN) is written as nothing, unless a filter says otherwise.
"""

from typing import Any

import numpy as np
import regex

_ENDLESS = 1e9  # examples: nobody has as many
_LONGEST = 80  # code points of a name that are shown
_FEATURES = {
    "in_language_source": "in-language score of source",
    "in_language_target": "in-language score of target",
    "mc4_source": "mC4 size of source (log)",
    "mc4_target": "mC4 size of target (log)",
    "n_train_source": "training size of source (log)",
    "lm_loss_source": "LM_L of source",
    "lm_loss_target": "LM_L of target",
    "lm_em_source": "LM_EM of source",
    "lm_em_target": "LM_EM of target",
    "bits_per_byte_source": "bits/byte of source",
    "bits_per_byte_target": "bits/byte of target",
    "words": "shared words",
    "pieces": "shared vocabulary pieces",
    "trigrams": "shared letter trigrams",
    "inventory": "phoneme inventory",
    "genetic": "language family",
    "geography": "geographic proximity",
}


def short(text: Any, longest: int = _LONGEST) -> str:
    """Returns a name, cut between two characters as readers see them where it is too long."""
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
    """Returns what to call a feature."""
    return short(_FEATURES.get(str(name), str(name).replace("_", " ")))


def _written(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form).replace("-", "−")


def signed(value: float) -> str:
    """Writes a correlation or a coefficient."""
    return _written(value, "+.2f")


def fixed(value: float, digits: int = 1) -> str:
    """Writes a number with so many decimals."""
    return _written(value, f".{digits}f")


def points(value: float) -> str:
    """Writes a difference of scores."""
    return _written(value, "+.1f")


def span(ends: tuple[float, float]) -> str:
    """Writes the least and the most of some scores; one number where they are the same."""
    low, high = map(fixed, ends)
    return low if low == high else f"{low} to {high}"


def percent(value: float) -> str:
    """Writes a share."""
    return _written(value, ".0%")


def whole(value: float) -> str:
    """Writes a count."""
    return _written(value, ",.0f")


def p(value: float) -> str:
    """Writes a p-value."""
    return "<0.001" if value < 0.001 else _written(value, ".3f")


def scientific(value: float) -> str:
    return _written(value, ".0e")


def p_is(value: float) -> str:
    """Writes a p-value in a sentence."""
    if np.isnan(value):
        return "p unknown"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def correlation_interval(low: float, high: float) -> str:
    return "" if np.isnan(low) or np.isnan(high) else f"[{signed(low)}, {signed(high)}]"


def points_interval(low: float, high: float) -> str:
    return "" if np.isnan(low) or np.isnan(high) else f"[{points(low)}, {points(high)}]"


def examples(value: float) -> str:
    """Writes a number of examples that was extrapolated: two digits of it."""
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
