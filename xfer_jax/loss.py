"""Cross-entropy with z-loss over mT5's large vocabulary, in float32."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Logits that a device holds at a time (128 MiB); above it the loss goes over the vocabulary in
# pieces, and once more for the gradient.
MAX_LOGITS = 1 << 25
_LANES = 128  # a piece is this many columns, or a multiple


def token_losses(
    hidden: jax.Array,
    kernel: jax.Array,
    targets: jax.Array,
    shards: int = 1,
    max_logits: int = MAX_LOGITS,
) -> jax.Array:
    """Computes each token's loss, -log p(target), from the states under the logits.

    Args:
      hidden: [B, L, E] output of the decoder.
      kernel: [E, V] float32.
      targets: int32 [B, L].
      shards: see `sequence_loss`.
      max_logits: likewise.

    Returns:
      float32 [B, L], nats.
    """
    flat = hidden.reshape(targets.size, -1).astype(jnp.float32)
    log_z, target_logit, _ = _logit_sums(flat, kernel, targets.reshape(-1), shards, max_logits)
    return (log_z - target_logit).reshape(targets.shape)


def sequence_loss(
    hidden: jax.Array,
    kernel: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    z_loss: float = 1e-4,
    shards: int = 1,
    max_logits: int = MAX_LOGITS,
) -> dict[str, jax.Array]:
    """Sums -log p(target) + z_loss · (log Z)² over a batch, from the states under the logits.

    The z-loss keeps the partition function Z near 1 (Mesh TensorFlow; T5X's
    `cross_entropy_with_logits`).

    The vocabulary goes through the output kernel in pieces of at most `max_logits` logits,
    recomputed for the backward pass, so that [B, L, V] float32 never exists in memory when it would
    be larger.

    Args:
      hidden: [B, L, E] output of the decoder.
      kernel: [E, V] float32.
      targets: int32 [B, L].
      weights: [B, L], 0 for tokens that do not count.
      z_loss: weight of the penalty.
      shards: equal parts that the vocabulary lies in, on one device each; every piece then takes
        some columns of every part.
      max_logits: size of a piece.

    Returns:
      float32 scalars, sums over tokens times weights: `loss` (with the z-loss), `z_loss`, `weight`,
      and `correct` (tokens of non-zero weight whose likeliest token is the target).
    """
    flat = hidden.reshape(targets.size, -1).astype(jnp.float32)
    log_z, target_logit, most = _logit_sums(flat, kernel, targets.reshape(-1), shards, max_logits)
    weights_N = weights.reshape(-1).astype(jnp.float32)
    z_N = z_loss * jnp.square(log_z)
    hit_N = (target_logit >= most) & (weights_N != 0)
    return {
        "loss": jnp.sum((log_z - target_logit + z_N) * weights_N),
        "z_loss": jnp.sum(z_N * weights_N),
        "weight": jnp.sum(weights_N),
        "correct": jnp.sum(hit_N.astype(jnp.float32)),
    }


# --- Over the vocabulary in pieces ----------------------------------------------------------------
# Shapes: N tokens, S shards, C columns of a piece in each.


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _logit_sums(
    hidden_NxE: jax.Array, kernel: jax.Array, targets_N: jax.Array, shards: int, max_logits: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns of each token log Z, its target's logit, and the largest logit (no gradient)."""
    return _forward(hidden_NxE, kernel, targets_N, shards, max_logits)[0]


def _forward(hidden_NxE, kernel, targets_N, shards, max_logits):
    kernel_ExSxV = kernel.reshape(kernel.shape[0], shards, -1)
    width = _width(hidden_NxE, kernel_ExSxV, max_logits)
    whole = width == kernel_ExSxV.shape[2]

    def add_piece(start, width, sums):
        logits_NxSxC = _logits(hidden_NxE, kernel_ExSxV, start, width)
        most_N, z_N, target_N = sums
        new_most_N = jnp.maximum(most_N, jnp.max(logits_NxSxC, axis=(1, 2)))
        above_NxSxC = logits_NxSxC - new_most_N[:, None, None]
        z_N = z_N * jnp.exp(most_N - new_most_N) + jnp.sum(jnp.exp(above_NxSxC), axis=(1, 2))
        column_NxS = _target_columns(targets_N, kernel_ExSxV) - start
        here_NxS = (column_NxS >= 0) & (column_NxS < width)
        found_NxSx1 = jnp.take_along_axis(
            logits_NxSxC, jnp.clip(column_NxS, 0, width - 1)[:, :, None], axis=2
        )
        target_N += jnp.sum(jnp.where(here_NxS, found_NxSx1[:, :, 0], 0.0), axis=1)
        return (new_most_N, z_N, target_N), logits_NxSxC

    none = jnp.zeros(targets_N.shape, jnp.float32)
    sums = (jnp.full_like(none, -jnp.inf), none, none)
    if whole:
        sums, logits = add_piece(0, width, sums)
    else:
        logits = None
        sums = _over_pieces(lambda *piece: add_piece(*piece)[0], sums, kernel_ExSxV, width)
    most_N, z_N, target_N = sums
    log_z_N = most_N + jnp.log(z_N)
    return (log_z_N, target_N, most_N), (hidden_NxE, kernel, targets_N, log_z_N, logits)


def _backward(shards, max_logits, kept, gradients):
    hidden_NxE, kernel, targets_N, log_z_N, logits = kept
    to_log_z_N, to_target_N, _ = gradients
    kernel_ExSxV = kernel.reshape(kernel.shape[0], shards, -1)

    def of_piece(start, width, logits_NxSxC):
        """Returns a piece's share of the states' gradient, and the gradient of its columns."""
        columns_ExSxC = lax.dynamic_slice_in_dim(kernel_ExSxV, start, width, axis=2)
        column_NxS = _target_columns(targets_N, kernel_ExSxV) - start
        is_target_NxSxC = column_NxS[:, :, None] == jnp.arange(width)
        p_NxSxC = jnp.exp(logits_NxSxC - log_z_N[:, None, None])
        to_logits_NxSxC = to_log_z_N[:, None, None] * p_NxSxC + jnp.where(
            is_target_NxSxC, to_target_N[:, None, None], 0.0
        )
        return (
            _product("nsc,esc->ne", to_logits_NxSxC, columns_ExSxC),
            _product("ne,nsc->esc", hidden_NxE, to_logits_NxSxC),
        )

    if logits is not None:
        to_hidden, to_kernel = of_piece(0, logits.shape[2], logits)
    else:

        def add_piece(start, width, so_far):
            logits_NxSxC = _logits(hidden_NxE, kernel_ExSxV, start, width)
            to_hidden, to_columns = of_piece(start, width, logits_NxSxC)
            return so_far[0] + to_hidden, lax.dynamic_update_slice_in_dim(
                so_far[1], to_columns, start, axis=2
            )

        width = _width(hidden_NxE, kernel_ExSxV, max_logits)
        none = (jnp.zeros_like(hidden_NxE), jnp.zeros_like(kernel_ExSxV))
        to_hidden, to_kernel = _over_pieces(add_piece, none, kernel_ExSxV, width)
    return to_hidden, to_kernel.reshape(kernel.shape), None


_logit_sums.defvjp(_forward, _backward)


def _width(hidden_NxE: jax.Array, kernel_ExSxV: jax.Array, max_logits: int) -> int:
    """Returns how many columns of every shard a piece has: all, if so many logits may be kept."""
    tokens, emb_dim = hidden_NxE.shape
    _, shards, columns = kernel_ExSxV.shape
    if tokens * shards * columns <= max_logits:
        return columns
    width = max_logits // (max(tokens, emb_dim) * shards)  # its columns of the kernel are copied
    return min(columns, max(width - width % _LANES, width if width < _LANES else 0, 1))


def _over_pieces(
    add_piece: Callable[[Any, int, Any], Any], sums: Any, kernel_ExSxV: jax.Array, width: int
) -> Any:
    columns = kernel_ExSxV.shape[2]
    pieces, rest = divmod(columns, width)
    sums = lax.fori_loop(0, pieces, lambda i, sums: add_piece(i * width, width, sums), sums)
    return add_piece(pieces * width, rest, sums) if rest else sums


def _logits(hidden_NxE: jax.Array, kernel_ExSxV: jax.Array, start: Any, width: int) -> jax.Array:
    columns_ExSxC = lax.dynamic_slice_in_dim(kernel_ExSxV, start, width, axis=2)
    return _product("ne,esc->nsc", hidden_NxE, columns_ExSxC)


def _product(axes: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Computes an einsum; where there is but one shard, as a plain product of two matrices."""
    if y.shape[1] > 1:
        return jnp.einsum(axes, x, y)
    plain = jnp.einsum(
        axes.replace("s", ""), *(jnp.squeeze(a, 1) if a.ndim == 3 else a for a in (x, y))
    )
    return plain if axes.endswith("ne") else plain[:, None]


def _target_columns(targets_N: jax.Array, kernel_ExSxV: jax.Array) -> jax.Array:
    """Returns where each target stands in each shard, [N, S]; beyond its ends in all but one."""
    _, shards, columns = kernel_ExSxV.shape
    return targets_N[:, None] - columns * jnp.arange(shards)
