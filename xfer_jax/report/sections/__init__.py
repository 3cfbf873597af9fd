"""The sections of the page on a task.

Each section is a function that takes the analysis, the task and the collection of figures. It
returns the values for its template, or None if there is nothing to show.
"""

from collections.abc import Callable
from typing import Any

from xfer_jax.report.pictures import Pictures
from xfer_jax.report.reading import Analysis
from xfer_jax.report.sections import features, learning_curves, scores

Section = Callable[[Analysis, str, Pictures], dict[str, Any] | None]

# By the name of the template, in the order of the page.
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
    "checkpoints": scores.checkpoints,
    "learning_curves": learning_curves.learning_curves,
    "sensitivity": features.sensitivity,
}
