"""Greedy decoding with a key-value cache, and scoring of closed label sets."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqio_tasks.vocabulary import EOS_ID, PAD_ID
from xfer_jax.loss import token_loss
from xfer_jax.model import Transformer, call


@functools.partial(jax.jit, static_argnames=("module", "max_length"))
def greedy(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, max_length: int
) -> tuple[jax.Array, jax.Array]:
    """Emits the likeliest next token until every sequence has ended.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K]; 0 is padding. A row of padding alone ends at once.
      max_length: most tokens to emit, the end of sequence included.

    Returns:
      tokens: int32 [B, max_length], without the start token; 0 after the end of sequence (id 1).
      scores: float32 [B], summed log-probability of the tokens emitted, in nats.
    """
    encoded = call(module, params, "encode", encoder_input_tokens)
    cross_kv = call(module, params, "cross_keys_values", encoded)
    batch = encoder_input_tokens.shape[0]

    state: dict[str, Any] = {
        "position": jnp.zeros((), jnp.int32),
        "last": jnp.full(batch, PAD_ID, jnp.int32),  # padding is the start token too
        "ended": ~jnp.any(encoder_input_tokens > 0, axis=1),
        "tokens": jnp.zeros((batch, max_length), jnp.int32),
        "scores": jnp.zeros(batch, jnp.float32),
        "caches": module.empty_caches(batch, max_length),
    }

    def going_on(state: dict) -> jax.Array:
        return (state["position"] < max_length) & ~jnp.all(state["ended"])

    def advance(state: dict) -> dict:
        logits_BxV, caches = call(
            module,
            params,
            "decode_step",
            state["last"],
            state["caches"],
            state["position"],
            cross_kv,
            encoder_input_tokens,
        )
        next_B = jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
        log_p_B = jnp.max(logits_BxV, axis=-1) - nn.logsumexp(logits_BxV, axis=-1)
        ended = state["ended"]
        next_B = jnp.where(ended, PAD_ID, next_B)
        return {
            "position": state["position"] + 1,
            "last": next_B,
            "ended": ended | (next_B == EOS_ID),
            "tokens": jax.lax.dynamic_update_slice_in_dim(
                state["tokens"], next_B[:, None], state["position"], axis=1
            ),
            "scores": state["scores"] + jnp.where(ended, 0.0, log_p_B),
            "caches": caches,
        }

    state = jax.lax.while_loop(going_on, advance, state)
    return state["tokens"], state["scores"]


def shift_right(targets: jax.Array) -> jax.Array:
    """Returns the decoder's inputs for unpacked targets [B, L]: a 0, then all but the last."""
    return jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]


@functools.partial(jax.jit, static_argnames="module")
def score(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, targets: jax.Array
) -> jax.Array:
    """Sums the log-probability of each target in one teacher-forced pass.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K].
      targets: int32 [B, L]; 0 is padding and does not count.

    Returns:
      float32 [B], nats.
    """
    decoder_inputs = shift_right(targets)
    logits = call(module, params, "__call__", encoder_input_tokens, decoder_inputs, targets)
    loss_BxL, _ = token_loss(logits, targets, z_loss=0.0)
    return -jnp.sum(loss_BxL * (targets > 0), axis=1)


@functools.partial(jax.jit, static_argnames="module")
def score_labels(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, labels: jax.Array
) -> jax.Array:
    """Scores every label of a closed set for every input; the inputs are encoded once.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K].
      labels: int32 [C, L], the labels' tokens with the end of sequence; 0 is padding.

    Returns:
      float32 [B, C], summed log-probability of each label in nats.
    """
    encoded = call(module, params, "encode", encoder_input_tokens)

    def one_label(label_L: jax.Array) -> jax.Array:
        targets = jnp.broadcast_to(label_L, (encoded.shape[0], label_L.shape[0]))
        decoder_inputs = shift_right(targets)
        logits = call(
            module, params, "decode", encoded, encoder_input_tokens, decoder_inputs, targets
        )
        loss_BxL, _ = token_loss(logits, targets, z_loss=0.0)
        return -jnp.sum(loss_BxL * (targets > 0), axis=1)

    return jax.lax.map(one_label, labels).T
