"""Cross-entropy with z-loss over mT5's large vocabulary, in float32.

Logits are computed in pieces of the vocabulary, of at most `max_logits` each, so that [B, L, V]
need not be in memory; they are computed again for the gradients. If there is only one piece, the
kernel's gradient, which is as large as the kernel, is computed later: after the network's backward
pass, which frees its activations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Most logits in the memory of a device (128 MiB); if there are more, the vocabulary is split into
# pieces, whose logits are computed again for the gradients.
MAX_LOGITS = 1 << 25
_LANES = 128  # columns of a piece are a multiple of this


class Sums(NamedTuple):
    """Weighted sums over tokens, float32 scalars."""

    loss: jax.Array  # including the z-loss
    z_loss: jax.Array
    weight: jax.Array
    correct: jax.Array  # tokens of non-zero weight that are predicted correctly


class Backward(NamedTuple):
    """Gradients of a summed loss."""

    to_hidden: jax.Array  # [B, L, E], like the states
    # (after) -> gradient of the kernel, [E, V]; if there is one piece, computed after `after`
    to_kernel: Callable[[jax.Array], jax.Array]


def token_losses(
    hidden: jax.Array,
    kernel: jax.Array,
    targets: jax.Array,
    shards: int = 1,
    max_logits: int = MAX_LOGITS,
) -> jax.Array:
    """Computes each token's loss, -log p(target), from the decoder's output.

    Args:
      hidden: [B, L, E] output of the decoder.
      kernel: [E, V] float32.
      targets: int32 [B, L].
      shards: see `sequence_loss`.
      max_logits: see `sequence_loss`.

    Returns:
      float32 [B, L], nats.
    """
    tokens = _Tokens(_flat(hidden), targets.reshape(-1))
    found, _ = _forward(tokens, _in_shards(kernel, shards), max_logits)
    return (found.log_z - found.target).reshape(targets.shape)


def sequence_loss(
    hidden: jax.Array,
    kernel: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    z_loss: float = 1e-4,
    shards: int = 1,
    max_logits: int = MAX_LOGITS,
    normalizing_factor: float | jax.Array = 1.0,
) -> tuple[Sums, Backward]:
    """Sums -log p(target) + z_loss · (log Z)² over a batch, from the decoder's output.

    The z-loss keeps the partition function Z near 1 (Mesh TensorFlow; T5X's
    `cross_entropy_with_logits`).

    Args:
      hidden: [B, L, E] output of the decoder.
      kernel: [E, V] float32.
      targets: int32 [B, L].
      weights: [B, L], 0 for tokens that do not count.
      z_loss: weight of the penalty.
      shards: number of equal parts of the vocabulary, each on its own device; every piece has
        columns of every part.
      max_logits: most logits of a piece.
      normalizing_factor: divides the gradients, not the sums.

    Returns:
      The sums, and the gradients of their loss.
    """
    tokens = _Tokens(_flat(hidden), targets.reshape(-1))
    kernel_ExSxV = _in_shards(kernel, shards)
    found, raised = _forward(tokens, kernel_ExSxV, max_logits)
    weights_N = weights.reshape(-1).astype(jnp.float32)
    z_N = z_loss * jnp.square(found.log_z)
    hit_N = (found.target >= found.largest) & (weights_N != 0)
    sums = Sums(
        loss=jnp.sum((found.log_z - found.target + z_N) * weights_N),
        z_loss=jnp.sum(z_N * weights_N),
        weight=jnp.sum(weights_N),
        correct=jnp.sum(hit_N.astype(jnp.float32)),
    )
    # d loss / d logit = to_log_z · p - to_target · [is the target]
    to_target_N = weights_N / normalizing_factor
    to_log_z_N = to_target_N * (1.0 + 2.0 * z_loss * found.log_z)
    to_raised_N = to_log_z_N / found.z

    def to_logits(start: Any, width: int, raised_NxSxC: jax.Array) -> jax.Array:
        # Subtracts before any product, which accelerators round: p - 1 is tiny after training.
        column_NxS, here_NxS = _target_places(tokens, kernel_ExSxV, start, width)
        is_target_NxSxC = (column_NxS[:, :, None] == jnp.arange(width)) & here_NxS[:, :, None]
        return to_raised_N[:, None, None] * raised_NxSxC - jnp.where(
            is_target_NxSxC, to_target_N[:, None, None], 0.0
        )

    if raised is not None:
        to_logits_NxSxV = to_logits(0, raised.shape[2], raised)
        to_hidden_NxE = _product("nsc,esc->ne", to_logits_NxSxV, kernel_ExSxV)

        def to_kernel(after: jax.Array) -> jax.Array:
            # This forces the order: XLA's CPU backend drops `lax.optimization_barrier`.
            nothing = jnp.minimum(jnp.abs(after), 0.0)
            to_kernel_ExSxV = _product("ne,nsc->esc", tokens.states + nothing, to_logits_NxSxV)
            return to_kernel_ExSxV.reshape(kernel.shape)

    else:
        width = _width(tokens, kernel_ExSxV, max_logits)
        to_hidden_NxE, of_kernel = _backward(tokens, kernel_ExSxV, found.largest, to_logits, width)

        def to_kernel(after: jax.Array) -> jax.Array:
            return of_kernel.reshape(kernel.shape)

    return sums, Backward(to_hidden_NxE.reshape(hidden.shape).astype(hidden.dtype), to_kernel)


# --- Over the vocabulary in pieces ----------------------------------------------------------------
# Shapes: N tokens, E embedding, S shards, V columns of a shard, C columns of a piece in each.


class _Tokens(NamedTuple):
    states: jax.Array  # [N, E] under the logits
    targets: jax.Array  # [N]


class _Found(NamedTuple):
    largest: jax.Array  # [N] logit
    z: jax.Array  # [N] sum of exp(logit - largest)
    target: jax.Array  # [N] logit of the target

    @property
    def log_z(self) -> jax.Array:
        return self.largest + jnp.log(self.z)


def _forward(
    tokens: _Tokens, kernel_ExSxV: jax.Array, max_logits: int
) -> tuple[_Found, jax.Array | None]:
    """Returns the sums of each token, and exp(logit - largest) if there is only one piece."""

    def add_piece(start: Any, width: int, found: _Found) -> tuple[_Found, jax.Array]:
        columns_ExSxC = lax.dynamic_slice_in_dim(kernel_ExSxV, start, width, axis=2)
        logits_NxSxC = _product("ne,esc->nsc", tokens.states, columns_ExSxC)
        largest_N = jnp.maximum(found.largest, jnp.max(logits_NxSxC, axis=(1, 2)))
        raised_NxSxC = jnp.exp(logits_NxSxC - largest_N[:, None, None])
        rescale_N = jnp.exp(found.largest - largest_N)
        column_NxS, here_NxS = _target_places(tokens, kernel_ExSxV, start, width)
        of_target_NxS = jnp.take_along_axis(logits_NxSxC, column_NxS[:, :, None], axis=2)[:, :, 0]
        return _Found(
            largest_N,
            found.z * rescale_N + jnp.sum(raised_NxSxC, axis=(1, 2)),
            found.target + jnp.sum(jnp.where(here_NxS, of_target_NxS, 0.0), axis=1),
        ), raised_NxSxC

    none = jnp.zeros(tokens.targets.shape, jnp.float32)
    found = _Found(jnp.full_like(none, -jnp.inf), none, none)
    width = _width(tokens, kernel_ExSxV, max_logits)
    raised = None
    if width == kernel_ExSxV.shape[2]:
        found, raised = add_piece(0, width, found)
    else:
        found = _over_pieces(lambda *piece: add_piece(*piece)[0], found, kernel_ExSxV, width)
    return found, raised


def _backward(
    tokens: _Tokens,
    kernel_ExSxV: jax.Array,
    largest_N: jax.Array,
    to_logits: Callable[[Any, int, jax.Array], jax.Array],
    width: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients [N, E] of the states and [E, S, V] of the kernel, piece by piece.

    Args:
      tokens: states and targets of the batch.
      kernel_ExSxV: the output kernel.
      largest_N: largest logit of each token.
      to_logits: (first column, columns, exp(logit - largest)) -> gradient of a piece's logits.
      width: columns of a piece in every shard.
    """

    def add_piece(start: Any, width: int, so_far: tuple[jax.Array, jax.Array]) -> Any:
        columns_ExSxC = lax.dynamic_slice_in_dim(kernel_ExSxV, start, width, axis=2)
        logits_NxSxC = _product("ne,esc->nsc", tokens.states, columns_ExSxC)
        raised_NxSxC = jnp.exp(logits_NxSxC - largest_N[:, None, None])
        to_logits_NxSxC = to_logits(start, width, raised_NxSxC)
        to_columns_ExSxC = _product("ne,nsc->esc", tokens.states, to_logits_NxSxC)
        return (
            so_far[0] + _product("nsc,esc->ne", to_logits_NxSxC, columns_ExSxC),
            lax.dynamic_update_slice_in_dim(so_far[1], to_columns_ExSxC, start, axis=2),
        )

    nothing = (jnp.zeros_like(tokens.states), jnp.zeros_like(kernel_ExSxV))
    return _over_pieces(add_piece, nothing, kernel_ExSxV, width)


def _flat(hidden: jax.Array) -> jax.Array:
    return hidden.reshape(-1, hidden.shape[-1]).astype(jnp.float32)


def _in_shards(kernel: jax.Array, shards: int) -> jax.Array:
    return kernel.reshape(kernel.shape[0], shards, -1)


def _width(tokens: _Tokens, kernel_ExSxV: jax.Array, max_logits: int) -> int:
    """Returns the columns of a piece in every shard: all, if there are not too many logits."""
    count, emb_dim = tokens.states.shape
    _, shards, columns = kernel_ExSxV.shape
    if count * shards * columns <= max_logits:
        return columns
    width = max_logits // (max(count, emb_dim) * shards)  # copies its columns
    return min(columns, max(width - width % _LANES, width if width < _LANES else 0, 1))


def _over_pieces(
    add_piece: Callable[[Any, int, Any], Any], sums: Any, kernel_ExSxV: jax.Array, width: int
) -> Any:
    columns = kernel_ExSxV.shape[2]
    pieces, rest = divmod(columns, width)
    sums = lax.fori_loop(0, pieces, lambda i, sums: add_piece(i * width, width, sums), sums)
    return add_piece(pieces * width, rest, sums) if rest else sums


def _product(axes: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Computes an einsum; if there is only one shard, as a product of two matrices."""
    if y.shape[1] > 1:
        return jnp.einsum(axes, x, y)
    if axes == "nsc,esc->ne":
        # In another order, XLA's CPU backend first copies the kernel.
        return lax.optimization_barrier(jnp.einsum("ec,nc->en", y[:, 0], x[:, 0])).T
    plain = jnp.einsum(axes.replace("s", ""), *(a[:, 0] if a.ndim == 3 else a for a in (x, y)))
    return plain[:, None]


def _target_places(
    tokens: _Tokens, kernel_ExSxV: jax.Array, start: Any, width: int
) -> tuple[jax.Array, jax.Array]:
    """Returns each target's column in every shard's piece, [N, S], and whether it is in it."""
    _, shards, columns = kernel_ExSxV.shape
    column_NxS = tokens.targets[:, None] - columns * jnp.arange(shards) - start
    return jnp.clip(column_NxS, 0, width - 1), (column_NxS >= 0) & (column_NxS < width)
