"""What runs cost, estimated from a model's sizes: operations, memory, disk, time on a device."""

import dataclasses
import functools
import math

import jax

from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax.mt5 import model


@dataclasses.dataclass(frozen=True)
class Device:
    """One accelerator, or a machine's processors."""

    title: str
    tflops: float  # peak of dense matrix products in bfloat16 (CPU: float32), TFLOP/s
    gib: float  # memory
    gbps: float  # how fast it reads its memory, GB/s


# Peaks and memory as the makers' data sheets have them; the CPU is an example, not a promise.
DEVICES = {
    "cpu": Device("two CPU cores", 0.25, 16, 20),
    "l4": Device("NVIDIA L4", 121, 24, 300),
    "a100": Device("NVIDIA A100 80 GB", 312, 80, 2039),
    "h100": Device("NVIDIA H100 SXM", 989, 80, 3350),
    "h200": Device("NVIDIA H200", 989, 141, 4800),
    "v4": Device("one chip of TPU v4", 275, 32, 1228),
    "v5e": Device("one chip of TPU v5e", 197, 16, 819),
    "v5p": Device("one chip of TPU v5p", 459, 95, 2765),
    "v6e": Device("one chip of TPU v6e", 918, 32, 1638),
}
# Share of the peak: T5X's published best is 0.36 on A100, 0.24 to 0.27 on H100.
UTILISATION = 0.3
PADDING = 0.2  # share of the tokens of packed rows; 12 to 25% have been seen
LONGEST = 4  # longest example by mean length; also the length of packed rows and of decoding


def device(name: str) -> Device:
    """Returns a device by name.

    Raises:
      RequestError: it is not known.
    """
    if name not in DEVICES:
        raise RequestError(
            f"unknown device {name!r}{did_you_mean(name, DEVICES)}; there are {', '.join(DEVICES)}"
        )
    return DEVICES[name]


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


def decoding_seconds(
    config: model.Config, on: Device, examples: int, batch: int, inputs: int, targets: int
) -> float:
    """Returns about how long greedy decoding takes: its operations, or its reading of memory.

    Every token that a batch emits reads the decoder's parameters, the table of logits, and the keys
    and values of the inputs anew.

    Args:
      config: the model's sizes.
      on: the device.
      examples: how many to decode.
      batch: examples at a time.
      inputs: tokens of the inputs, padding included.
      targets: tokens that are emitted.
    """
    computing = examples * forward_flops(config, inputs, targets) / (on.tflops * 1e12 * UTILISATION)
    width = config.num_heads * config.head_dim
    layer = 8 * config.emb_dim * width + 3 * config.emb_dim * config.mlp_dim
    read = 4 * (config.num_decoder_layers * layer + config.emb_dim * config.vocab_size)
    bytes_a_value = 4 if config.dtype == "float32" else 2
    read += 2 * bytes_a_value * config.num_decoder_layers * min(batch, examples) * inputs * width
    steps = math.ceil(examples / batch) * targets
    return max(computing, steps * read / (on.gbps * 1e9))


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
