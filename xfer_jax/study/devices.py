"""Devices that a study is planned for, and the time that work takes on them."""

import dataclasses
import math

from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax.mt5 import cost, model


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
    computing = (
        examples * cost.forward_flops(config, inputs, targets) / (on.tflops * 1e12 * UTILISATION)
    )
    width = config.num_heads * config.head_dim
    layer = 8 * config.emb_dim * width + 3 * config.emb_dim * config.mlp_dim
    read = 4 * (config.num_decoder_layers * layer + config.emb_dim * config.vocab_size)
    bytes_a_value = 4 if config.dtype == "float32" else 2
    read += 2 * bytes_a_value * config.num_decoder_layers * min(batch, examples) * inputs * width
    steps = math.ceil(examples / batch) * targets
    return max(computing, steps * read / (on.gbps * 1e9))
