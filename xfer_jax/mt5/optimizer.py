"""Adafactor as T5X configures it, and T5X's learning-rate schedules."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import gin
import jax
import jax.numpy as jnp
import optax
from jax import lax

from seqio_tasks.errors import RequestError, did_you_mean
from seqio_tasks.settings import Count, FromZero, arguments

MIN_LEARNING_RATE = 1e-8  # T5X's minimum, so that step 0 of a warm-up trains

_FACTORS = ("constant", "linear_warmup", "linear_decay", "rsqrt_decay", "cosine_decay")


@gin.configurable(module="xfer_jax.mt5.optimizer")
@arguments({"factors": "LEARNING_RATE_FACTORS", "base_learning_rate": "LEARNING_RATE"})
def schedule(
    factors: str = "constant",
    base_learning_rate: FromZero = 1e-3,
    warmup_steps: Count = 1000,
    decay_factor: FromZero = 0.5,
    steps_per_cycle: Count = 100000,
) -> Callable[[jax.Array], jax.Array]:
    """Returns the learning rate as a function of the step, in T5X's notation.

    Args:
      factors: names joined by `*`, each a factor of the rate: `constant` (the base rate),
        `linear_warmup` (up to `warmup_steps`), `linear_decay` (the base rate with linear warm-up,
        then lower by `decay_factor` times the base rate per step), `rsqrt_decay`
        (1/√max(step, warmup_steps)), `cosine_decay` (cycles of `steps_per_cycle`).
      base_learning_rate: the constant.
      warmup_steps: see `factors`.
      decay_factor: slope of `linear_decay`; with 1/(steps - warmup_steps), the rate ends at 0.
      steps_per_cycle: see `factors`.

    Returns:
      A function from the step (before the update) to the rate, float32, never below 1e-8.

    Raises:
      RequestError: a factor is unknown.
    """
    names = [name.strip() for name in factors.split("*")]
    for name in names:
        if name not in _FACTORS:
            raise RequestError(
                f"unknown learning-rate factor {name!r}{did_you_mean(name, _FACTORS)}; "
                f"known factors are {', '.join(_FACTORS)}"
            )

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


# --- Adafactor ------------------------------------------------------------------------------------

_DECAY_EXPONENT = 0.8  # the second moments' decay after t updates is 1 - t^-0.8
_EPSILON = 1e-30  # added to squared gradients
_CLIPPING = 1.0  # largest RMS of an update, in units of the rate and of the parameter's RMS
_MIN_SCALE = 1e-3  # smallest RMS of a parameter that scales an update
_LONG_ROW = 1 << 14  # with such rows, XLA's CPU backend sums columns forty times slower


class Rows(NamedTuple):
    """The gradient of a table with few rows that were looked up; it is zero in all others."""

    ids: jax.Array  # int32 [N], ascending; ids outside the table are ignored
    values: jax.Array  # float32 [N, E]


def init(params: dict) -> optax.FactoredState:
    """Returns Adafactor's state before its first update; its `count` is the step."""
    return optax.scale_by_factored_rms(decay_rate=_DECAY_EXPONENT).init(params)


def update(
    params: dict, gradients: dict, state: optax.FactoredState, learning_rate: jax.Array
) -> tuple[dict, optax.FactoredState]:
    """Updates parameters by Adafactor (arXiv 1804.04235) with T5X's settings for mT5.

    Second moments factored where a matrix has both sides >= 128, decay 1 - (t+1)^-0.8, updates
    clipped to RMS 1 and scaled by the RMS of their parameter (at least 1e-3); no momentum, no
    weight decay. The results equal those of optax's Adafactor; this version writes fewer temporary
    arrays, and updates only the rows of a table that have a gradient. The rate is an argument, so
    that runs with different schedules share a compiled program.

    Args:
      params: float32 tree.
      gradients: tree of the same structure; may be `Rows` for a table [V, E], V > E if factored.
      state: the state after the previous step.
      learning_rate: float32 scalar.

    Returns:
      The new parameters and state.
    """
    gradients = lax.optimization_barrier(gradients)
    step = state.count.astype(jnp.float32) + 1.0
    rate = functools.partial(_updated, decay=1.0 - step**-_DECAY_EXPONENT, rate=learning_rate)
    tree: Any = jax.tree.structure(params)
    others = (tree.flatten_up_to(x) for x in (gradients, state.v_row, state.v_col, state.v))
    updated = [rate(*of_leaf) for of_leaf in zip(jax.tree.leaves(params), *others, strict=True)]
    new, v_row, v_col, v = (tree.unflatten(part) for part in zip(*updated, strict=True))
    return new, optax.FactoredState(state.count + 1, v_row, v_col, v)


def _updated(param, gradient, v_row, v_col, v, decay, rate):
    """Returns a parameter after its update, and its moments."""

    def moving(moment: jax.Array, now: jax.Array) -> jax.Array:
        return decay * moment + (1.0 - decay) * now

    def step_size(sum_of_squares: jax.Array) -> jax.Array:
        """Returns the factor of an update, from its sum of squares before clipping."""
        update_rms = jnp.sqrt(sum_of_squares / param.size)
        param_rms = jnp.sqrt(jnp.sum(jnp.square(param)) / param.size)
        scale = jnp.maximum(param_rms, _MIN_SCALE) / jnp.maximum(1.0, update_rms / _CLIPPING)
        return -rate * scale

    if isinstance(gradient, Rows):
        ids = gradient.ids
        values = jnp.where((ids < len(param))[:, None], gradient.values, 0.0)
        squares = jnp.square(values)
        if v.shape == param.shape:
            v = moving(v, jnp.full_like(v, _EPSILON).at[ids].add(squares, mode="drop"))
            update = values * lax.rsqrt(v.at[ids].get(mode="clip"))
        else:
            v_row = moving(v_row, jnp.sum(squares, axis=0) / len(param) + _EPSILON)
            of_rows = jnp.mean(squares, axis=1)
            v_col = moving(v_col, jnp.full_like(v_col, _EPSILON).at[ids].add(of_rows, mode="drop"))
            update = values * lax.rsqrt(v_row / jnp.mean(v_row))
            update *= lax.rsqrt(v_col.at[ids].get(mode="clip"))[:, None]
        update *= step_size(jnp.sum(jnp.square(update)))
        found = {"indices_are_sorted": True, "unique_indices": True, "mode": "drop"}
        return param.at[ids].add(update, **found), v_row, v_col, v

    if v.shape == param.shape:
        v = moving(v, jnp.square(gradient) + _EPSILON)
        update = gradient * lax.rsqrt(v)
        return param + step_size(jnp.sum(jnp.square(update))) * update, v_row, v_col, v

    # As in optax, v_row is the mean over the longer side, and v_col over the shorter one.
    over_columns = param.shape[0] <= param.shape[1]
    # The barrier keeps XLA from storing the squares, which both sums use.
    row_sums = jnp.sum(jnp.square(lax.optimization_barrier(gradient)), axis=1)
    column_sums = _weighted_column_sums(gradient, jnp.ones_like(row_sums))
    of_rows = row_sums / param.shape[1] + _EPSILON
    of_columns = column_sums / param.shape[0] + _EPSILON
    if over_columns:
        v_row, v_col = moving(v_row, of_rows), moving(v_col, of_columns)
        row_factor, column_factor = lax.rsqrt(v_row / jnp.mean(v_row)), lax.rsqrt(v_col)
    else:
        v_row, v_col = moving(v_row, of_columns), moving(v_col, of_rows)
        row_factor, column_factor = lax.rsqrt(v_col), lax.rsqrt(v_row / jnp.mean(v_row))
    weighted = _weighted_column_sums(gradient, jnp.square(row_factor))
    row_factor *= step_size(jnp.sum(weighted * jnp.square(column_factor)))
    return param + gradient * row_factor[:, None] * column_factor, v_row, v_col, v


def _weighted_column_sums(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the sums of weights [R] · x² over the rows of x [R, C], [C]."""

    def at_once(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(x) * weights[:, None], axis=0)

    def row_by_row(x: jax.Array, weights: jax.Array) -> jax.Array:
        def add(sums: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return sums + jnp.square(row[0]) * row[1], None

        return lax.scan(add, jnp.zeros(x.shape[1], x.dtype), (x, weights))[0]

    if x.shape[1] < _LONG_ROW:
        return at_once(x, weights)
    return lax.platform_dependent(x, weights, cpu=row_by_row, default=at_once)
