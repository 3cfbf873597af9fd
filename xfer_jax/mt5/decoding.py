"""Greedy and beam decoding with a key-value cache, and the choice of a label from a closed set."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqio_tasks.sentencepiece_model import EOS_ID, PAD_ID
from xfer_jax.mt5.loss import token_losses
from xfer_jax.mt5.model import Transformer, call

_NEVER = -1e7  # the score of an empty slot for a hypothesis


@functools.partial(jax.jit, static_argnames=("module", "max_length"))
def greedy(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, max_length: int
) -> tuple[jax.Array, jax.Array]:
    """Emits the most probable next token until every sequence has ended.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K]; 0 is padding. A row of only padding ends at once.
      max_length: most tokens to emit, including the end of sequence.

    Returns:
      tokens: int32 [B, max_length], without the start token; 0 after the end of sequence (id 1).
      scores: float32 [B], sum of the log-probabilities of the emitted tokens, in nats.
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

    def unfinished(state: dict) -> jax.Array:
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
        next_B = _argmax(logits_BxV)
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

    state = jax.lax.while_loop(unfinished, advance, state)
    return state["tokens"], state["scores"]


@functools.partial(jax.jit, static_argnames=("module", "max_length"))
def greedy_tokens(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, max_length: int
) -> jax.Array:
    """Returns only the tokens of `greedy`; the scores are not computed."""
    return greedy(module, params, encoder_input_tokens, max_length)[0]


def _argmax(logits_BxV: jax.Array) -> jax.Array:
    """Returns the index of the largest logit of every row, int32 [B]; the first if several are.

    XLA's CPU backend needs ten times longer for the argmax of a long row than for its maximum. So
    the rows are split into a power of two of parts, none of which crosses a vocabulary shard.
    """
    batch, size = logits_BxV.shape
    parts_BxPxC = logits_BxV.reshape(batch, math.gcd(size, 256), -1)
    part_B = jnp.argmax(jnp.max(parts_BxPxC, axis=2), axis=1)
    inside_B = jnp.argmax(_take(parts_BxPxC, part_B[:, None])[:, 0], axis=1)
    return (part_B * parts_BxPxC.shape[2] + inside_B).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("module", "max_length", "beams"))
def beam_search(
    module: Transformer,
    params: dict,
    encoder_input_tokens: jax.Array,
    max_length: int,
    beams: int = 4,
    alpha: float = 0.6,
) -> tuple[jax.Array, jax.Array]:
    """Searches for the most probable sequences, like T5X's `decoding.beam_search`.

    Every step takes the 2·beams most probable continuations of all live hypotheses. Those that end
    compete with the finished hypotheses by score, log p / ((5 + n) / 6)^alpha with n the number of
    tokens including the end of sequence (Wu et al. 2016, arXiv 1609.08144, eq. 14, without
    coverage); the most probable others stay alive. The search in a row ends when no live hypothesis
    can get a better score than the worst finished one.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K]; 0 is padding. A row of only padding yields no tokens.
      max_length: most tokens to emit, including the end of sequence.
      beams: number of live hypotheses, and of returned ones.
      alpha: exponent of the length penalty; 0: longer sequences are not favoured.

    Returns:
      tokens: int32 [B, beams, max_length], the best first, without the start token; 0 after the end
        of sequence (id 1).
      scores: float32 [B, beams]; if no hypothesis of a row has ended, the log-probabilities of the
        live ones; -1e7 for an empty slot.
    """
    encoded = call(module, params, "encode", encoder_input_tokens)
    cross_kv = call(module, params, "cross_keys_values", encoded)
    batch = encoder_input_tokens.shape[0]
    each_beam = functools.partial(jnp.repeat, repeats=beams, axis=0)
    cross_kv = jax.tree.map(each_beam, cross_kv)
    inputs = each_beam(encoder_input_tokens)
    empty = ~jnp.any(encoder_input_tokens > 0, axis=1)

    no_tokens = jnp.zeros((batch, beams, max_length), jnp.int32)
    state: dict[str, Any] = {
        "position": jnp.zeros((), jnp.int32),
        "last": jnp.full((batch, beams), PAD_ID, jnp.int32),  # padding is the start token too
        "tokens": no_tokens,
        # starts with one hypothesis: the others would be copies of it
        "log_p": jnp.full((batch, beams), _NEVER).at[:, 0].set(0.0),
        "ended_tokens": no_tokens,
        "scores": jnp.full((batch, beams), _NEVER),
        "ended": jnp.zeros((batch, beams), bool),
        "caches": module.empty_caches(batch * beams, max_length),
    }

    def unfinished(state: dict) -> jax.Array:
        # T5X counts the start token here.
        best_B = state["log_p"][:, 0] / _length_penalty(max_length + 1, alpha)
        done_B = jnp.all(state["ended"], axis=1) & (state["scores"][:, -1] > best_B)
        return (state["position"] < max_length) & ~jnp.all(done_B | empty)

    def advance(state: dict) -> dict:
        logits_NxV, caches = call(
            module,
            params,
            "decode_step",
            state["last"].reshape(-1),
            state["caches"],
            state["position"],
            cross_kv,
            inputs,
        )
        return _extended(state, logits_NxV, caches, alpha)

    state = jax.lax.while_loop(unfinished, advance, state)
    none_ended = ~jnp.any(state["ended"], axis=1)
    tokens = jnp.where(none_ended[:, None, None], state["tokens"], state["ended_tokens"])
    scores = jnp.where(none_ended[:, None], state["log_p"], state["scores"])
    return jnp.where(empty[:, None, None], PAD_ID, tokens), scores


def _length_penalty(length: jax.Array | int, alpha: float) -> jax.Array:
    return ((5.0 + length) / 6.0) ** alpha


def _extended(state: dict[str, Any], logits_NxV: jax.Array, caches: Any, alpha: float) -> dict:
    """Returns the state of a beam search after one more token.

    Args:
      state: the state before, see `beam_search`.
      logits_NxV: logits of the next token, for every live hypothesis of every row.
      caches: the decoder's caches after the last token.
      alpha: exponent of the length penalty.
    """
    batch, beams = state["log_p"].shape
    position = state["position"]

    def best(scores_BxN: jax.Array, *others: jax.Array) -> tuple[jax.Array, ...]:
        """Returns the scores of the best of N hypotheses, and their rows of other arrays."""
        scores_BxK, chosen_BxK = jax.lax.top_k(scores_BxN, beams)
        return scores_BxK, *(_take(x, chosen_BxK) for x in others)

    # The best continuations of all hypotheses are among the best ones of each.
    top_NxC, token_NxC = jax.lax.top_k(logits_NxV, min(2 * beams, logits_NxV.shape[-1]))
    log_p_NxC = top_NxC - nn.logsumexp(logits_NxV, axis=-1)[:, None]
    log_p_BxC = (state["log_p"].reshape(-1, 1) + log_p_NxC).reshape(batch, -1)
    log_p_BxC, chosen_BxC = jax.lax.top_k(log_p_BxC, 2 * beams)
    parent_BxC = chosen_BxC // top_NxC.shape[-1]
    token_BxC = _take(token_NxC.reshape(batch, -1), chosen_BxC)
    tokens_BxCxL = jax.lax.dynamic_update_slice_in_dim(
        _take(state["tokens"], parent_BxC), token_BxC[:, :, None], position, axis=2
    )
    ends_BxC = token_BxC == EOS_ID
    log_p, last, tokens, parent = best(
        jnp.where(ends_BxC, _NEVER, log_p_BxC), token_BxC, tokens_BxCxL, parent_BxC
    )
    ended_scores_BxC = log_p_BxC / _length_penalty(position + 1, alpha)
    scores, ended, ended_tokens = best(
        jnp.concatenate([state["scores"], jnp.where(ends_BxC, ended_scores_BxC, _NEVER)], axis=1),
        jnp.concatenate([state["ended"], ends_BxC], axis=1),
        jnp.concatenate([state["ended_tokens"], tokens_BxCxL], axis=1),
    )
    flat_parent = (jnp.arange(batch)[:, None] * beams + parent).reshape(-1)
    return {
        "position": position + 1,
        "last": last,
        "tokens": tokens,
        "log_p": log_p,
        "ended_tokens": jnp.where(ended[:, :, None], ended_tokens, 0),
        "scores": scores,
        "ended": ended,
        "caches": jax.tree.map(lambda cache: cache[flat_parent], caches),
    }


def _take(array_BxN: jax.Array, chosen_BxK: jax.Array) -> jax.Array:
    """Returns the chosen items of every row, [B, K, ...] of [B, N, ...]."""
    return jax.vmap(lambda row, chosen: row[chosen])(array_BxN, chosen_BxK)


def shift_right(targets: jax.Array) -> jax.Array:
    """Returns the decoder's inputs for unpacked targets [B, L]: a 0, then targets[:, :-1]."""
    return jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]


@functools.partial(jax.jit, static_argnames="module")
def score(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, targets: jax.Array
) -> jax.Array:
    """Computes the log-probability of each target in one teacher-forced pass.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K].
      targets: int32 [B, L]; 0 is padding and does not count.

    Returns:
      float32 [B], nats.
    """
    decoder_inputs = shift_right(targets)
    hidden = call(module, params, "forward", encoder_input_tokens, decoder_inputs, targets)
    kernel = params["decoder"]["logits_dense"]["kernel"]
    return -jnp.sum(token_losses(hidden, kernel, targets) * (targets > 0), axis=1)


Labels = tuple[tuple[int, ...], ...]  # tokens of each label, with the end of sequence


@functools.partial(jax.jit, static_argnames=("module", "labels"))
def choose_label(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, labels: Labels
) -> jax.Array:
    """Chooses a label from a closed set by greedy decoding that is constrained to the set.

    If greedy decoding without the constraint emits a label, it is the same one. Where the remaining
    labels differ in their next token, the most probable token decides. Only these logits are
    computed: three for XNLI's `0`, `1`, `2`, and none for the end of sequence after the digit.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K].
      labels: the labels, none of which is a prefix of another.

    Returns:
      int32 [B], index of the label.
    """
    encoded = call(module, params, "encode", encoder_input_tokens)
    kernel = params["decoder"]["logits_dense"]["kernel"]

    def next_logits(prefix: tuple[int, ...], tokens: list[int]) -> jax.Array:
        """Returns the logits [B, C] of some tokens after a prefix."""
        batch = encoder_input_tokens.shape[0]
        before = jnp.broadcast_to(
            jnp.asarray((PAD_ID, *prefix), jnp.int32), (batch, len(prefix) + 1)
        )
        present = jnp.ones_like(before)  # masks come from the targets
        states = call(module, params, "hidden", encoded, encoder_input_tokens, before, present)
        return states[:, -1].astype(jnp.float32) @ kernel[:, jnp.asarray(tokens)]

    def choose(prefix: tuple[int, ...], among: list[int]) -> jax.Array:
        """Returns the chosen label [B] among those that begin with the prefix."""
        if len(among) == 1:
            return jnp.full(encoder_input_tokens.shape[0], among[0], jnp.int32)
        tokens = sorted({labels[i][len(prefix)] for i in among})
        branches = jnp.stack(
            [
                choose((*prefix, token), [i for i in among if labels[i][len(prefix)] == token])
                for token in tokens
            ],
            axis=1,
        )
        if len(tokens) == 1:
            return branches[:, 0]
        best = jnp.argmax(next_logits(prefix, tokens), axis=1)
        return jnp.take_along_axis(branches, best[:, None], axis=1)[:, 0]

    return choose((), list(range(len(labels))))
