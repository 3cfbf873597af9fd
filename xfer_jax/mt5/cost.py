"""What a model costs, estimated from its sizes: operations, and memory on a device."""

import functools
import math

import jax

from xfer_jax.mt5 import model


@functools.cache
def parameters(config: model.Config) -> int:
    """Returns the number of a model's parameters."""
    leaves = jax.tree.leaves(model.parameter_shapes(config))
    return sum(math.prod(leaf.shape) for leaf in leaves)


def forward_flops(config: model.Config, inputs: int, targets: int) -> float:
    """Returns the operations of one example's forward pass; a multiply-add is two.

    Args:
      config: the model's sizes.
      inputs: tokens of the inputs, padding included.
      targets: tokens of the targets, likewise.
    """
    width = config.num_heads * config.head_dim
    projection = config.emb_dim * width
    mlp = 3 * config.emb_dim * config.mlp_dim
    encoder = config.num_encoder_layers * (
        inputs * (4 * projection + mlp) + 2 * inputs * inputs * width
    )
    decoder = config.num_decoder_layers * (
        targets * (6 * projection + mlp)
        + inputs * 2 * projection  # keys and values of the encoder's output
        + 2 * targets * (targets + inputs) * width
    )
    logits = targets * config.emb_dim * config.vocab_size
    return 2.0 * (encoder + decoder + logits)


def training_flops(config: model.Config, inputs: int, targets: int) -> float:
    """Returns the operations of one example's forward and backward pass."""
    return 3.0 * forward_flops(config, inputs, targets)


def checkpoint_bytes(config: model.Config) -> int:
    """Returns the size of a checkpoint: float32 parameters, and Adafactor's factored moments."""
    return round(4.01 * parameters(config))


def training_bytes(config: model.Config, batch: float, inputs: int, targets: int) -> float:
    """Returns a rough peak of device memory: parameters, gradients, and what is kept of the layers.

    Of a layer's states about 34 values an embedding channel and token are kept for the backward
    pass (Korthikanti et al. 2022, arXiv 2205.05198, with attention's H·L² beside them); of the
    logits only a piece (`loss.MAX_LOGITS`). With `remat` a layer's input is kept, and all of the
    layer that is computed anew.
    """
    bytes_a_value = 4 if config.dtype == "float32" else 2
    layers = (
        config.num_encoder_layers * inputs + 1.5 * config.num_decoder_layers * targets
    ) * config.emb_dim
    attention = config.num_heads * (
        config.num_encoder_layers * inputs**2
        + config.num_decoder_layers * targets * (targets + inputs)
    )
    kept = 17 * layers + 2.5 * attention
    if config.remat:
        kept = layers + kept / (config.num_encoder_layers + config.num_decoder_layers)
    return 2 * 4.0 * parameters(config) + batch * kept * bytes_a_value + 3 * 4 * (1 << 24)


_USABLE = 0.9  # of a device's memory
_MOST_MICROBATCHES = 1 << 14


def microbatches(
    config: model.Config, rows: float, inputs: int, targets: int, memory: float
) -> int | None:
    """Returns into how many parts a batch must be cut to fit a device; None: one row is too much.

    Args:
      config: the model's sizes.
      rows: of the batch, on one device.
      inputs: tokens of a row.
      targets: likewise.
      memory: of the device, bytes.
    """
    count = 1
    while count <= _MOST_MICROBATCHES:
        part = max(rows / count, 1.0)
        # Gradients are added up beside those of the part.
        sums = 4.0 * parameters(config) if count > 1 else 0.0
        if training_bytes(config, part, inputs, targets) + sums <= _USABLE * memory:
            return count
        if part == 1.0 and count > 1:
            return None
        count *= 2
    return None
