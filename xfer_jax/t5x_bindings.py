"""What gin alone cannot say when `t5x_configs/` translates this project's macros for T5X."""

from collections.abc import Callable, Sequence
from typing import Any

import gin

_NEVER = 10**9  # steps; longer than any run, so that T5X acts at the run's last step alone


@gin.configurable(module="xfer_jax.t5x_bindings")
def period(steps: int | None, together_with: int | None = None) -> int:
    """Returns a period for T5X, which does nothing at all when a period is None.

    Args:
      steps: between two actions; None: only at the end of the run.
      together_with: the period of other actions; T5X wants one to be a multiple of the other.
    """
    return steps or _NEVER * (together_with or 1)


@gin.configurable(module="xfer_jax.t5x_bindings")
def if_any(items: Sequence[Any], value: Callable[[], Any]) -> Any:
    """Returns `value()` if there are items, else None."""
    return value() if items else None
