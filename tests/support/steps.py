"""Steps of training, as functions to compile."""

import functools

from xfer_jax.engine import train_step
from xfer_jax.mt5 import partitioning
from xfer_jax.mt5.model import Transformer


def step_of(module: Transformer, factor: float | str, microbatches: int = 1):
    """Returns a step on one device: (parameters, state, batch, seed, rate)."""
    update = train_step.Update(1e-4, factor, microbatches)
    return functools.partial(
        train_step.train_step, module, partitioning.make_mesh(), update, 1 << 24
    )
