"""mT5: the encoder-decoder of T5.1.1, with T5X's names of parameters.

Names of arrays contain shapes: B batch, L length (Q queries, K keys), E embedding, H heads, D head
dimension, M MLP, V vocabulary. The network is that of Raffel et al. 2020 (arXiv 1910.10683) in
the T5.1.1 form of mT5 (Xue et al. 2021, arXiv 2010.11934): pre-norm residual blocks, RMS norm,
gated GELU, relative position buckets shared by the layers of a stack, no biases, attention logits
not divided by sqrt(D) (the query kernel is initialised smaller instead), output kernel separate
from the embedding. The collection `params_axes` has T5X's logical axes of the parameters.
"""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import partitioning as nn_partitioning

from xfer_jax.mt5.layers import (
    MASKED,
    Attention,
    Config,
    Dense,
    Embed,
    GatedMlp,
    RelativePositionBias,
    RMSNorm,
    dropout,
)


class EncoderLayer(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x_BxLxE, biases, deterministic: bool):
        cfg = self.config
        drop = dropout(cfg.dropout_rate)
        y = RMSNorm(cfg.jax_dtype, name="pre_attention_layer_norm")(x_BxLxE)
        attention = Attention(cfg, name="attention")
        y = attention(y, attention.keys_values(y), biases, deterministic)
        x_BxLxE = x_BxLxE + drop(y, deterministic=deterministic)
        y = RMSNorm(cfg.jax_dtype, name="pre_mlp_layer_norm")(x_BxLxE)
        y = GatedMlp(cfg, name="mlp")(y, deterministic)
        return x_BxLxE + drop(y, deterministic=deterministic)


class DecoderLayer(nn.Module):
    config: Config

    def setup(self):
        cfg = self.config
        self.pre_self_attention_layer_norm = RMSNorm(cfg.jax_dtype)
        self.self_attention = Attention(cfg)
        self.pre_cross_attention_layer_norm = RMSNorm(cfg.jax_dtype)
        self.encoder_decoder_attention = Attention(cfg)
        self.pre_mlp_layer_norm = RMSNorm(cfg.jax_dtype)
        self.mlp = GatedMlp(cfg)
        self.dropout = dropout(cfg.dropout_rate)

    def __call__(self, y_BxLxE, cross_kv, self_biases, cross_biases, deterministic: bool):
        z = self.pre_self_attention_layer_norm(y_BxLxE)
        z = self.self_attention(z, self.self_attention.keys_values(z), self_biases, deterministic)
        return self._after_self_attention(y_BxLxE, z, cross_kv, cross_biases, deterministic)

    def step(self, y_Bx1xE, kv_cache, position, cross_kv, self_biases, cross_biases):
        """Computes the layer for one token; returns its state and the new cache."""
        z = self.pre_self_attention_layer_norm(y_Bx1xE)
        z, kv_cache = self.self_attention.step(z, kv_cache, position, self_biases)
        return self._after_self_attention(y_Bx1xE, z, cross_kv, cross_biases, True), kv_cache

    def _after_self_attention(self, y_BxLxE, z_BxLxE, cross_kv, cross_biases, deterministic: bool):
        y_BxLxE = y_BxLxE + self.dropout(z_BxLxE, deterministic=deterministic)
        z = self.pre_cross_attention_layer_norm(y_BxLxE)
        z = self.encoder_decoder_attention(z, cross_kv, cross_biases, deterministic)
        y_BxLxE = y_BxLxE + self.dropout(z, deterministic=deterministic)
        z = self.mlp(self.pre_mlp_layer_norm(y_BxLxE), deterministic)
        return y_BxLxE + self.dropout(z, deterministic=deterministic)


class Encoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x_BxLxE, mask_BxLxL, deterministic: bool, layers: int | None = None):
        """Returns the output [B, L, E]; or the states after `layers` layers, not normalised."""
        cfg = self.config
        x_BxLxE = dropout(cfg.dropout_rate)(x_BxLxE, deterministic=deterministic)
        position_bias = RelativePositionBias(cfg.num_heads, True, name="relpos_bias")
        biases = (position_bias(x_BxLxE.shape[1]), _mask_bias(mask_BxLxL))
        layer = nn.remat(EncoderLayer, static_argnums=3) if cfg.remat else EncoderLayer
        for i in range(cfg.num_encoder_layers if layers is None else layers):
            x_BxLxE = layer(cfg, name=f"layers_{i}")(x_BxLxE, biases, deterministic)
        if layers is not None:
            return x_BxLxE
        x_BxLxE = RMSNorm(cfg.jax_dtype, name="encoder_norm")(x_BxLxE)
        return nn.Dropout(cfg.dropout_rate)(x_BxLxE, deterministic=deterministic)


class Decoder(nn.Module):
    config: Config

    def setup(self):
        cfg = self.config
        self.relpos_bias = RelativePositionBias(cfg.num_heads, False)
        layer = nn.remat(DecoderLayer, static_argnums=5) if cfg.remat else DecoderLayer
        self.layers = [layer(cfg) for _ in range(cfg.num_decoder_layers)]
        self.decoder_norm = RMSNorm(cfg.jax_dtype)
        # always float32, for the softmax
        self.logits_dense = Dense(cfg.vocab_size, ("embed", "vocab"), jnp.float32)
        self.dropout = dropout(cfg.dropout_rate)

    def cross_keys_values(self, encoded_BxKxE) -> list[tuple[jax.Array, jax.Array]]:
        """Returns every layer's keys and values of the encoder's output, each [B, H, K, D]."""
        return [layer.encoder_decoder_attention.keys_values(encoded_BxKxE) for layer in self.layers]

    def __call__(self, y_BxLxE, cross_kv, self_mask_BxLxL, cross_mask_BxLxK, deterministic: bool):
        """Returns the output [B, L, E], from which `logits_dense` computes the logits."""
        y_BxLxE = self.dropout(y_BxLxE, deterministic=deterministic)
        self_biases = (self.relpos_bias(y_BxLxE.shape[1]), _mask_bias(self_mask_BxLxL))
        cross_biases = (_mask_bias(cross_mask_BxLxK),)
        for layer, kv in zip(self.layers, cross_kv, strict=True):
            y_BxLxE = layer(y_BxLxE, kv, self_biases, cross_biases, deterministic)
        return self.dropout(self.decoder_norm(y_BxLxE), deterministic=deterministic)

    def step(self, y_Bx1xE, kv_caches, position, cross_kv, cross_mask_Bx1xK):
        """Returns the logits [B, V] after one more token, and the new caches."""
        length = kv_caches[0][0].shape[2]
        seen_1x1xL = (jnp.arange(length) <= position)[None, None]
        self_biases = (self.relpos_bias(length, position), _mask_bias(seen_1x1xL))
        cross_biases = (_mask_bias(cross_mask_Bx1xK),)
        new_caches = []
        for layer, kv_cache, kv in zip(self.layers, kv_caches, cross_kv, strict=True):
            y_Bx1xE, kv_cache = layer.step(
                y_Bx1xE, kv_cache, position, kv, self_biases, cross_biases
            )
            new_caches.append(kv_cache)
        return self.logits_dense(self.decoder_norm(y_Bx1xE))[:, 0], new_caches


def _mask_bias(mask_BxQxK: jax.Array) -> jax.Array:
    return jnp.where(mask_BxQxK, 0.0, MASKED)[:, None]


def _pairs(query_BxQ: jax.Array, key_BxK: jax.Array) -> jax.Array:
    return query_BxQ[:, :, None] & key_BxK[:, None, :]


def _same_segment(query_BxQ: jax.Array | None, key_BxK: jax.Array | None) -> jax.Array | bool:
    if query_BxQ is None or key_BxK is None:
        return True
    return query_BxQ[:, :, None] == key_BxK[:, None, :]


class Transformer(nn.Module):
    """The complete mT5. Parameters: `token_embedder`, `encoder`, `decoder`, as in T5X."""

    config: Config

    def setup(self):
        cfg = self.config
        self.token_embedder = Embed(cfg.vocab_size, cfg.emb_dim, cfg.jax_dtype)
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)

    def encode(
        self,
        encoder_input_tokens,
        encoder_segment_ids=None,
        *,
        enable_dropout: bool = False,
        layers: int | None = None,
    ) -> jax.Array:
        """Encodes tokens [B, K] (0 is padding) to states [B, K, E], see `Encoder`."""
        present_BxK = encoder_input_tokens > 0
        mask = _pairs(present_BxK, present_BxK)
        mask &= _same_segment(encoder_segment_ids, encoder_segment_ids)
        x_BxKxE = self.token_embedder(encoder_input_tokens)
        return self.encoder(x_BxKxE, mask, not enable_dropout, layers)

    def hidden(
        self,
        encoded,
        encoder_input_tokens,
        decoder_input_tokens,
        decoder_target_tokens,
        encoder_segment_ids=None,
        decoder_segment_ids=None,
        *,
        enable_dropout: bool = False,
    ) -> jax.Array:
        """Returns the decoder's output [B, L, E] with teacher forcing.

        As in T5X, the masks come from the targets, not from the shifted inputs.
        """
        present_BxL = decoder_target_tokens > 0
        causal_LxL = np.tril(np.ones((present_BxL.shape[1],) * 2, bool))
        self_mask = _pairs(present_BxL, present_BxL) & causal_LxL
        self_mask &= _same_segment(decoder_segment_ids, decoder_segment_ids)
        cross_mask = _pairs(present_BxL, encoder_input_tokens > 0)
        cross_mask &= _same_segment(decoder_segment_ids, encoder_segment_ids)
        return self.decoder(
            self.token_embedder(decoder_input_tokens),
            self.decoder.cross_keys_values(encoded),
            self_mask,
            cross_mask,
            not enable_dropout,
        )

    def decode(self, *args, **kwargs) -> jax.Array:
        """Returns the logits [B, L, V], float32, of `hidden` (same arguments)."""
        return self.decoder.logits_dense(self.hidden(*args, **kwargs))

    def cross_keys_values(self, encoded) -> list[tuple[jax.Array, jax.Array]]:
        """Returns keys and values of the encoder's output for `decode_step`, once per sequence."""
        return self.decoder.cross_keys_values(encoded)

    def decode_step(self, tokens_B, kv_caches, position, cross_kv, encoder_input_tokens):
        """Takes one step of autoregressive decoding.

        Args:
          tokens_B: int32 [B], the tokens at `position`.
          kv_caches: a pair (keys, values) per layer, each [B, H, max_length, D]; `empty_caches`.
          position: int32 scalar.
          cross_kv: from `cross_keys_values`.
          encoder_input_tokens: int32 [B, K], for the padding mask.

        Returns:
          The logits [B, V] of the next token, and the caches with this position filled.
        """
        y_Bx1xE = self.token_embedder(tokens_B[:, None])
        cross_mask = (encoder_input_tokens > 0)[:, None, :]
        return self.decoder.step(y_Bx1xE, kv_caches, position, cross_kv, cross_mask)

    def empty_caches(self, batch: int, max_length: int) -> list[tuple[jax.Array, jax.Array]]:
        """Returns the zeroed `kv_caches` of `decode_step` for at most `max_length` positions."""
        cfg = self.config
        shape = (batch, cfg.num_heads, max_length, cfg.head_dim)
        zeros = jnp.zeros(shape, cfg.jax_dtype)
        return [(zeros, zeros)] * cfg.num_decoder_layers

    def forward(
        self,
        encoder_input_tokens,
        decoder_input_tokens,
        decoder_target_tokens,
        encoder_segment_ids=None,
        decoder_segment_ids=None,
        *,
        enable_dropout: bool = False,
    ) -> jax.Array:
        """Returns the decoder's output [B, L, E]; the arguments are those of `__call__`."""
        encoded = self.encode(
            encoder_input_tokens, encoder_segment_ids, enable_dropout=enable_dropout
        )
        return self.hidden(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            enable_dropout=enable_dropout,
        )

    def __call__(self, *args, **kwargs) -> jax.Array:
        """Returns the logits [B, L, V], float32, of a teacher-forced pass.

        Args:
          encoder_input_tokens: int32 [B, K]; 0 is padding.
          decoder_input_tokens: int32 [B, L], a 0, then the targets without the last.
          decoder_target_tokens: int32 [B, L]; 0 is padding.
          encoder_segment_ids: int32 [B, K] of a packed batch, the example of each token.
          decoder_segment_ids: int32 [B, L], the same for the decoder.
          enable_dropout: whether to draw dropout masks, from the `dropout` stream.
        """
        return self.decoder.logits_dense(self.forward(*args, **kwargs))


def call(module: Transformer, params: dict, method: str, *args: Any, **kwargs: Any) -> Any:
    """Calls one of the network's methods with parameters, e.g. `call(module, params, "encode", x)`.

    Args:
      module: the network.
      params: its parameters.
      method: name of the method.
      *args: arguments of the method.
      **kwargs: arguments of the method, and `rngs` for dropout.
    """
    return module.apply({"params": params}, *args, method=method, **kwargs)


def initialise(config: Config, seed: int) -> dict:
    """Draws a new model's parameters.

    Args:
      config: the sizes.
      seed: seed of the initialisation.

    Returns:
      The parameter tree, float32.
    """
    token_1x1 = jnp.ones((1, 1), jnp.int32)
    init = Transformer(config).init
    return init(jax.random.key(seed), token_1x1, token_1x1, token_1x1)["params"]


def logical_axes(config: Config) -> dict:
    """Returns the tree of logical axis names (tuples of strings), shaped like the parameters."""
    token_1x1 = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    shapes = jax.eval_shape(
        Transformer(config).init, jax.random.key(0), token_1x1, token_1x1, token_1x1
    )
    names = flax.core.unfreeze(nn_partitioning.get_axis_names(shapes["params_axes"]))
    return jax.tree.map(tuple, names, is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec))


def parameter_shapes(config: Config) -> dict:
    """Returns the shapes of the parameters, a tree of `jax.ShapeDtypeStruct`."""
    token_1x1 = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    init = Transformer(config).init
    return jax.eval_shape(init, jax.random.key(0), token_1x1, token_1x1, token_1x1)["params"]
