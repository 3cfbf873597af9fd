"""Adafactor as T5X configures it, and T5X's learning-rate schedules."""

from collections.abc import Callable

import gin
import jax
import jax.numpy as jnp
import optax

from seqio_tasks.errors import RequestError, did_you_mean

MIN_LEARNING_RATE = 1e-8  # T5X's floor, so that a warm-up from step 0 moves

_FACTORS = ("constant", "linear_warmup", "linear_decay", "rsqrt_decay", "cosine_decay")


@gin.configurable(module="xfer_jax.optimizer")
def schedule(
    factors: str = "constant",
    base_learning_rate: float = 1e-3,
    warmup_steps: int = 1000,
    decay_factor: float = 0.5,
    steps_per_cycle: int = 100000,
) -> Callable[[jax.Array], jax.Array]:
    """Builds a learning rate as a function of the step, in T5X's grammar.

    Args:
      factors: names joined by `*`, each a factor of the rate: `constant` (the base rate),
        `linear_warmup` (up to `warmup_steps`), `linear_decay` (the base rate, warmed up linearly,
        then falling by `decay_factor` of itself a step), `rsqrt_decay`
        (1/√max(step, warmup_steps)), `cosine_decay` (cycles of `steps_per_cycle`).
      base_learning_rate: the constant.
      warmup_steps: see `factors`.
      decay_factor: slope of `linear_decay`; 1/(steps - warmup_steps) ends at 0.
      steps_per_cycle: see `factors`.

    Returns:
      A function from the step (before the update) to the rate, float32, never below 1e-8.

    Raises:
      RequestError: an unknown factor.
    """
    names = [name.strip() for name in factors.split("*")]
    for name in names:
        if name not in _FACTORS:
            raise RequestError(
                f"unknown learning-rate factor {name!r}{did_you_mean(name, _FACTORS)}; "
                f"there are {', '.join(_FACTORS)}"
            )

    if not isinstance(base_learning_rate, (int, float)):
        raise RequestError(f"LEARNING_RATE must be a number, not {base_learning_rate!r}")
    if warmup_steps < 1:
        raise RequestError(f"WARMUP_STEPS must be at least 1, not {warmup_steps}")

    def learning_rate(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rate = jnp.ones((), jnp.float32)
        for name in names:
            if name == "constant":
                rate *= base_learning_rate
            elif name == "linear_warmup":
                rate *= jnp.minimum(1.0, step / warmup_steps)
            elif name == "linear_decay":
                falling = 1.0 + decay_factor * (warmup_steps - step)
                rate *= base_learning_rate * jnp.minimum(step / warmup_steps, falling)
            elif name == "rsqrt_decay":
                rate /= jnp.sqrt(jnp.maximum(step, warmup_steps))
            elif name == "cosine_decay":
                cycle = jnp.maximum(0.0, (step - warmup_steps) / steps_per_cycle) % 1.0
                rate *= 0.5 * (1.0 + jnp.cos(jnp.pi * cycle))
        return jnp.maximum(rate, MIN_LEARNING_RATE)

    return learning_rate


_MOMENTS = optax.scale_by_factored_rms(decay_rate=0.8)


def init(params: dict) -> optax.FactoredState:
    """Returns Adafactor's state before its first update; its `count` is the step."""
    return _MOMENTS.init(params)


def update(
    params: dict, gradients: dict, state: optax.FactoredState, learning_rate: jax.Array
) -> tuple[dict, optax.FactoredState]:
    """Adafactor (Shazeer & Stern 2018, arXiv 1804.04235) with T5X's settings for mT5.

    Second moments factored where a matrix has both sides >= 128, decay 1 - (t+1)^-0.8, updates
    clipped to RMS 1 and scaled by the RMS of their parameter (at least 1e-3); no momentum, no
    weight decay. The rate is an argument, so that runs of other schedules share what is compiled.

    Args:
      params: float32 tree.
      gradients: of the same structure.
      state: of the step before.
      learning_rate: float32 scalar.

    Returns:
      The new parameters and state.
    """
    scaling = optax.chain(
        optax.clip_by_block_rms(1.0),
        optax.scale(-learning_rate),
        optax.scale_by_param_block_rms(min_scale=1e-3),
    )
    updates, state = _MOMENTS.update(gradients, state, params)
    updates, _ = scaling.update(updates, scaling.init(params), params)
    return optax.apply_updates(params, updates), state
