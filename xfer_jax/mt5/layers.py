"""The layers of mT5, and its sizes."""

from typing import Any, Literal

import flax.linen as nn
import gin
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import partitioning as nn_partitioning
from jax import lax

from seqio_tasks.errors import RequestError
from seqio_tasks.settings import Layers, Rate, Size, settings

NUM_BUCKETS = 32  # relative position buckets of every T5
MAX_DISTANCE = 128  # relative positions at and beyond this share a bucket
NORM_EPSILON = 1e-6
MASKED = -1e10  # added to the logit of a pair that may not attend; swallows it in float32

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@gin.configurable(module="xfer_jax.mt5.model")
@settings()
class Config:
    """Sizes of one mT5. Defaults are mT5-small's."""

    vocab_size: Size = 250112  # V, rows of the embedding: pieces, rounded up to 128s
    emb_dim: Size = 512  # E
    num_heads: Size = 6  # H
    head_dim: Size = 64  # D
    mlp_dim: Size = 1024  # M
    num_encoder_layers: Layers = 8
    num_decoder_layers: Layers = 8
    dropout_rate: Rate = 0.1  # share of activations dropped while training
    dtype: str = "bfloat16"  # of activations; parameters, softmax and loss stay float32
    remat: bool = False  # the backward pass computes the states of a layer again

    def __post_init__(self):
        if self.dtype in ("float16", "fp16", "half"):
            raise RequestError(
                "dtype float16 is not supported: activations overflow; use bfloat16 or float32"
            )
        if self.dtype not in DTYPES:
            raise RequestError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")

    @property
    def jax_dtype(self) -> Any:
        return DTYPES[self.dtype]


def relative_position_bucket(
    relative_position: np.ndarray, bidirectional: bool, num_buckets: int = NUM_BUCKETS
) -> np.ndarray:
    """Maps relative positions to T5's buckets: exact when near, logarithmic when far.

    Args:
      relative_position: int array, position of the key minus position of the query.
      bidirectional: whether keys after the query have their own buckets (encoder), or are masked
        (decoder).
      num_buckets: number of buckets, halved between the two directions if bidirectional.

    Returns:
      int32 array of the same shape, in [0, num_buckets).
    """
    if bidirectional:
        num_buckets //= 2
        direction = (relative_position > 0).astype(np.int32) * num_buckets
        distance = np.abs(relative_position)
    else:
        direction = np.zeros_like(relative_position, dtype=np.int32)
        distance = np.maximum(-relative_position, 0)
    exact = num_buckets // 2
    # float32 and its epsilon, as in T5X: the edges of the buckets depend on the rounding.
    scaled = np.log(distance.astype(np.float32) / exact + np.finfo(np.float32).eps)
    far = exact + (scaled / np.log(MAX_DISTANCE / exact) * (num_buckets - exact)).astype(np.int32)
    return direction + np.where(distance < exact, distance, np.minimum(far, num_buckets - 1))


def dropout(rate: float) -> nn.Dropout:
    # T5 draws one mask per sequence and channel, and repeats it along the length.
    return nn.Dropout(rate=rate, broadcast_dims=(-2,))


class Dense(nn.Module):
    """x @ kernel, without bias; computed in `dtype` from a float32 kernel [in, features]."""

    features: int
    kernel_axes: tuple[str, str]
    dtype: Any
    init_divisor: float = 1.0  # sqrt(D) for the query
    distribution: Literal["truncated_normal", "normal"] = "truncated_normal"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        base_init = nn.initializers.variance_scaling(1.0, "fan_in", self.distribution)
        kernel = nn_partitioning.param_with_axes(
            "kernel",
            lambda *args: base_init(*args) / self.init_divisor,
            (x.shape[-1], self.features),
            jnp.float32,
            axes=self.kernel_axes,
        )
        # In two dimensions, the kernel's gradient is one matrix product; XLA's CPU backend runs it
        # several times faster than a contraction over batch and length.
        flat = x.astype(self.dtype).reshape(-1, x.shape[-1])
        return _product(flat, kernel).reshape(*x.shape[:-1], self.features)


@jax.custom_vjp
def _product(x_NxI: jax.Array, kernel_IxO: jax.Array) -> jax.Array:
    """Computes x @ kernel in the dtype of x; the gradient of the float32 kernel stays float32.

    JAX's own derivative would round this gradient to bfloat16 on every device, and sum it over the
    devices in bfloat16.
    """
    return x_NxI @ kernel_IxO.astype(x_NxI.dtype)


def _product_forward(x_NxI: jax.Array, kernel_IxO: jax.Array) -> tuple[jax.Array, tuple]:
    return _product(x_NxI, kernel_IxO), (x_NxI, kernel_IxO)


def _product_backward(kept: tuple, to_out_NxO: jax.Array) -> tuple[jax.Array, jax.Array]:
    x_NxI, kernel_IxO = kept
    to_x_NxI = to_out_NxO @ kernel_IxO.astype(x_NxI.dtype).T
    over_rows = (((0,), (0,)), ((), ()))
    return to_x_NxI, lax.dot_general(
        x_NxI, to_out_NxO, over_rows, preferred_element_type=kernel_IxO.dtype
    )


_product.defvjp(_product_forward, _product_backward)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + epsilon) · scale, statistics in float32."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = nn_partitioning.param_with_axes(
            "scale", nn.initializers.ones, (x.shape[-1],), jnp.float32, axes=("embed",)
        )
        x = x.astype(jnp.float32)
        x = x * lax.rsqrt(jnp.mean(lax.square(x), axis=-1, keepdims=True) + NORM_EPSILON)
        # The states are kept for the backward pass in `dtype`. The product is in float32, so that
        # the scale's gradient, a sum over all tokens, is in float32 too.
        return (x.astype(self.dtype).astype(jnp.float32) * scale).astype(self.dtype)


class RelativePositionBias(nn.Module):
    """The bias that all layers of a stack add to their self-attention logits.

    It is always float32: the gradient of each of the 32 buckets is a sum over batch, layers and all
    pairs of positions, which loses most of its precision in bfloat16 (at 768 tokens the relative
    error was 0.5).
    """

    num_heads: int
    bidirectional: bool

    @nn.compact
    def __call__(self, length: int, query: jax.Array | None = None) -> jax.Array:
        """Returns the bias of `length` queries and keys, [1, H, Q, K] float32.

        Args:
          length: number of positions.
          query: int32 scalar, the position of a single query (Q = 1); None: all positions.
        """
        table_HxR = nn_partitioning.param_with_axes(
            "rel_embedding",
            nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
            (self.num_heads, NUM_BUCKETS),
            jnp.float32,
            axes=("heads", "relpos_buckets"),
        )
        position = np.arange(length)
        bucket_QxK = relative_position_bucket(
            position[None, :] - position[:, None], self.bidirectional
        )
        if query is not None:
            row_1xK = lax.dynamic_slice_in_dim(jnp.asarray(bucket_QxK), query, 1)
            return table_HxR[:, row_1xK][None]
        return table_HxR[:, bucket_QxK][None]


class Attention(nn.Module):
    """Multi-head attention with T5's unscaled logits and additive biases."""

    config: Config

    def setup(self):
        cfg = self.config
        width = cfg.num_heads * cfg.head_dim

        def projection(**kwargs):
            return Dense(
                width, ("embed", "joined_kv"), cfg.jax_dtype, distribution="normal", **kwargs
            )

        self.query = projection(init_divisor=float(np.sqrt(cfg.head_dim)))
        self.key = projection()
        self.value = projection()
        self.out = Dense(cfg.emb_dim, ("joined_kv", "embed"), cfg.jax_dtype, distribution="normal")
        self.dropout = dropout(cfg.dropout_rate)

    def _heads(self, x_BxLxHD: jax.Array) -> jax.Array:
        """Splits the last axis into heads, [B, H, L, D]."""
        batch, length, _ = x_BxLxHD.shape
        heads = x_BxLxHD.reshape(batch, length, self.config.num_heads, self.config.head_dim)
        return heads.transpose(0, 2, 1, 3)

    def keys_values(self, x_BxKxE: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns keys and values of `x`, each [B, H, K, D]."""
        return self._heads(self.key(x_BxKxE)), self._heads(self.value(x_BxKxE))

    def __call__(self, x_BxQxE, kv, biases, deterministic: bool) -> jax.Array:
        """Attends from `x` to `kv` = (keys, values); `biases` broadcast to [B, H, Q, K].

        The biases are added one by one, so that their sum, [B, H, Q, K], is never in memory.
        """
        key_BxHxKxD, value_BxHxKxD = kv
        query_BxHxQxD = self._heads(self.query(x_BxQxE))
        logits_BxHxQxK = jnp.einsum("bhqd,bhkd->bhqk", query_BxHxQxD, key_BxHxKxD)
        logits_BxHxQxK = logits_BxHxQxK.astype(jnp.float32)
        for bias in biases:
            logits_BxHxQxK = logits_BxHxQxK + bias
        weights_BxHxQxK = jax.nn.softmax(logits_BxHxQxK).astype(self.config.jax_dtype)
        weights_BxHxQxK = self.dropout(weights_BxHxQxK, deterministic=deterministic)
        out_BxQxHxD = jnp.einsum("bhqk,bhkd->bqhd", weights_BxHxQxK, value_BxHxKxD)
        return self.out(out_BxQxHxD.reshape(*out_BxQxHxD.shape[:2], -1))

    def step(self, x_Bx1xE, kv_cache, position, biases) -> tuple[jax.Array, tuple]:
        """Computes self-attention of the token at `position` over the cache of earlier ones."""
        new = self.keys_values(x_Bx1xE)
        kv_cache = tuple(
            lax.dynamic_update_slice_in_dim(cached, x, position, axis=2)
            for cached, x in zip(kv_cache, new, strict=True)
        )
        return self(x_Bx1xE, kv_cache, biases, deterministic=True), kv_cache


class GatedMlp(nn.Module):
    """wo(gelu(wi_0 x) · wi_1 x), with the tanh approximation of GELU."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        cfg = self.config
        gate = Dense(cfg.mlp_dim, ("embed", "mlp"), cfg.jax_dtype, name="wi_0")(x)
        hidden = Dense(cfg.mlp_dim, ("embed", "mlp"), cfg.jax_dtype, name="wi_1")(x)
        hidden = nn.gelu(gate) * hidden
        hidden = dropout(cfg.dropout_rate)(hidden, deterministic=deterministic)
        return Dense(cfg.emb_dim, ("mlp", "embed"), cfg.jax_dtype, name="wo")(hidden)


class Embed(nn.Module):
    """Token embedding [V, E], looked up without scaling; row 0 is padding and decoder start."""

    vocab_size: int
    features: int
    dtype: Any

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        embedding = nn_partitioning.param_with_axes(
            "embedding",
            nn.initializers.normal(stddev=1.0),
            (self.vocab_size, self.features),
            jnp.float32,
            axes=("vocab", "embed"),
        )
        return embedding[tokens].astype(self.dtype)
