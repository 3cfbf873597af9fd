"""Cross-entropy with z-loss over mT5's large vocabulary, in float32."""

import jax
import jax.numpy as jnp

# Above this many logits in one float32 array (64 MiB) the loss goes through them in pieces.
MAX_LOGITS = 1 << 24


def token_loss(
    logits: jax.Array, targets: jax.Array, z_loss: float = 1e-4
) -> tuple[jax.Array, jax.Array]:
    """Computes each token's loss, -log p(target) + z_loss · (log Z)².

    The z-loss keeps the partition function Z near 1 (Mesh TensorFlow; T5X's
    `cross_entropy_with_logits`).

    Args:
      logits: float [..., V].
      targets: int [...], in [0, V).
      z_loss: weight of the penalty.

    Returns:
      The total loss and its z-loss part in nats, float32 [...]: the first includes the second.
    """
    logits = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    z = z_loss * jnp.square(log_z)
    return log_z - target_logit + z, z


def token_losses(
    hidden: jax.Array, kernel: jax.Array, targets: jax.Array, max_logits: int = MAX_LOGITS
) -> jax.Array:
    """Computes each token's loss, -log p(target), from the states under the logits.

    In pieces of at most `max_logits` logits, see `sequence_loss`; not to be differentiated.

    Args:
      hidden: [B, L, E] output of the decoder.
      kernel: [E, V] float32.
      targets: int32 [B, L].
      max_logits: size of a piece.

    Returns:
      float32 [B, L], nats.
    """
    tokens = targets.size
    pieces = -(-tokens * kernel.shape[-1] // max_logits)
    padding = -tokens % pieces
    flat = jnp.pad(hidden.reshape(tokens, -1), ((0, padding), (0, 0)))
    wanted = jnp.pad(targets.reshape(tokens), (0, padding))

    def losses(piece: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden_NxE, targets_N = piece
        return token_loss(hidden_NxE.astype(jnp.float32) @ kernel, targets_N, z_loss=0.0)[0]

    split = (flat.reshape(pieces, -1, flat.shape[-1]), wanted.reshape(pieces, -1))
    return jax.lax.map(losses, split).reshape(-1)[:tokens].reshape(targets.shape)


def sequence_loss(
    hidden: jax.Array,
    kernel: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    z_loss: float = 1e-4,
    max_logits: int = MAX_LOGITS,
) -> dict[str, jax.Array]:
    """Sums the loss of a batch from the states under the logits.

    Tokens go through the output kernel in pieces of at most `max_logits` logits, recomputed for the
    backward pass, so that [B, L, V] float32 never exists in memory when it would be larger.

    Args:
      hidden: [B, L, E] output of the decoder.
      kernel: [E, V] float32.
      targets: int32 [B, L].
      weights: [B, L], 0 for tokens that do not count.
      z_loss: weight of the penalty, see `token_loss`.
      max_logits: size of a piece.

    Returns:
      float32 scalars, sums over tokens times weights: `loss` (with the z-loss), `z_loss`, `weight`,
      and `correct` (tokens of non-zero weight whose likeliest token is the target).
    """
    tokens, vocab = targets.size, kernel.shape[-1]
    pieces = -(-tokens * vocab // max_logits)

    def piece_sums(hidden_NxE, targets_N, weights_N):
        logits_NxV = hidden_NxE.astype(jnp.float32) @ kernel
        total_N, z_N = token_loss(logits_NxV, targets_N, z_loss)
        # Not by argmax, which XLA's CPU backend runs on one thread over the whole vocabulary.
        target_N = jnp.take_along_axis(logits_NxV, targets_N[:, None], axis=-1)[:, 0]
        hit_N = (target_N >= jnp.max(logits_NxV, axis=-1)) & (weights_N != 0)
        return {
            "loss": jnp.sum(total_N * weights_N),
            "z_loss": jnp.sum(z_N * weights_N),
            "weight": jnp.sum(weights_N),
            "correct": jnp.sum(hit_N.astype(jnp.float32)),
        }

    flat = (
        hidden.reshape(tokens, -1),
        targets.reshape(tokens),
        weights.reshape(tokens).astype(jnp.float32),
    )
    if pieces <= 1:
        return piece_sums(*flat)
    padding = -tokens % pieces
    split = [
        jnp.pad(x, ((0, padding), *[(0, 0)] * (x.ndim - 1))).reshape(pieces, -1, *x.shape[1:])
        for x in flat
    ]
    sums = jax.lax.map(lambda piece: jax.checkpoint(piece_sums)(*piece), tuple(split))
    return jax.tree.map(jnp.sum, sums)
