"""What the page shows of a task, a section each: functions that compute names and numbers.

Each takes the analysis, the task and what keeps figures, and returns what its template draws, or
nothing where there is nothing to show.
"""

from collections.abc import Callable
from typing import Any

from xfer_jax.report.pictures import Pictures
from xfer_jax.report.reading import Analysis
from xfer_jax.report.sections import features, growth, scores

Section = Callable[[Analysis, str, Pictures], dict[str, Any] | None]

# In the page's order, by the name of the template.
SECTIONS: dict[str, Section] = {
    "heat_map": scores.heat_map,
    "gains": scores.gains,
    "correlations": features.correlations,
    "scatters": features.scatters,
    "regression": features.regression,
    "wals": features.wals,
    "languages": scores.languages,
    "probes": scores.probes,
    "errors": scores.errors,
    "growth": growth.growth,
    "sensitivity": features.sensitivity,
}
