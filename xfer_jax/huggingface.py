"""Hugging Face's `MT5ForConditionalGeneration` checkpoints: their names, reading, writing.

A folder holds `config.json` and the weights, `model.safetensors` or `pytorch_model.bin`, in one
file or in several with an index. Weights only: there is neither step nor optimizer state.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from seqio_tasks.errors import RequestError
from xfer_jax import model
from xfer_jax.stored import TARGET, Contents, Index, Stored, reason

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # first choice first
_EMBEDDING, _LOGITS = "shared.weight", "lm_head.weight"
_UNUSED = (  # other names of the embedding, and a table that old versions kept and never read
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
)
_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_ALIGNMENT = 64  # of the data behind a safetensors header, so that it can be memory-mapped


def names(encoder_layers: int, decoder_layers: int) -> dict[str, str]:
    """Returns every parameter's name in Hugging Face by its name in T5X, without `target/`."""
    table = {
        "token_embedder/embedding": _EMBEDDING,
        "decoder/logits_dense/kernel": _LOGITS,
    }
    for stack, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        table[f"{stack}/relpos_bias/rel_embedding"] = (
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        )
        table[f"{stack}/{stack}_norm/scale"] = f"{stack}.final_layer_norm.weight"
        for i in range(layers):
            table |= dict(_layer(stack, f"{stack}/layers_{i}", f"{stack}.block.{i}.layer"))
    return table


def _layer(stack: str, t5x: str, hf: str) -> Iterator[tuple[str, str]]:
    blocks = [("attention", "pre_attention_layer_norm", "SelfAttention")]
    if stack == "decoder":
        blocks = [
            ("self_attention", "pre_self_attention_layer_norm", "SelfAttention"),
            ("encoder_decoder_attention", "pre_cross_attention_layer_norm", "EncDecAttention"),
        ]
    for i, (attention, norm, hf_attention) in enumerate(blocks):
        yield f"{t5x}/{norm}/scale", f"{hf}.{i}.layer_norm.weight"
        for ours, theirs in _ATTENTION.items():
            yield f"{t5x}/{attention}/{ours}/kernel", f"{hf}.{i}.{hf_attention}.{theirs}.weight"
    i = len(blocks)
    yield f"{t5x}/pre_mlp_layer_norm/scale", f"{hf}.{i}.layer_norm.weight"
    for kernel in ("wi_0", "wi_1", "wo"):
        yield f"{t5x}/mlp/{kernel}/kernel", f"{hf}.{i}.DenseReluDense.{kernel}.weight"


def _is_transposed(name: str) -> bool:
    """Whether the two disagree on the order of axes: PyTorch's kernels are [out, in]."""
    return name.endswith(("/kernel", "/rel_embedding"))


def _transposed(array: Stored) -> Stored:
    return Stored(array.shape[::-1], array.dtype, lambda index: array.read(index[::-1]).T)


# --- Reading --------------------------------------------------------------------------------------


def recognise(path: Path) -> bool:
    """Whether a path is such a checkpoint: its folder, or a file of weights."""
    if path.is_dir():
        return any((path / f"{name}{index}").is_file() for name in WEIGHTS for index in _INDEX)
    return path.is_file() and path.suffix in (".safetensors", ".bin")


_INDEX = ("", ".index.json")


def read(path: Path) -> Contents:
    """Opens a checkpoint; without `lm_head.weight` the logits' kernel is the embedding's.

    Args:
      path: its folder, or a file of weights.

    Raises:
      RequestError: it is damaged, or holds more than weights.
    """
    found: dict[str, Stored] = {}
    for file in _files(path):
        found |= _read_safetensors(file) if file.suffix == ".safetensors" else _read_bin(file)
    layers = [_count(found, stack) for stack in ("encoder", "decoder")]
    note = ""
    if _LOGITS not in found and _EMBEDDING in found:
        found[_LOGITS] = found[_EMBEDDING]
        note = f"it has no {_LOGITS}: the embedding stands for it, as in Hugging Face's library"
    arrays = {}
    for ours, theirs in names(*layers).items():
        if theirs in found:
            array = found.pop(theirs)
            arrays[TARGET + ours] = _transposed(array) if _is_transposed(ours) else array
    # What is left over is listed, with what is missing, when the checkpoint is compared to a model.
    arrays |= {TARGET + name: array for name, array in found.items() if name not in _UNUSED}
    return Contents(str(path), "hf", 0, arrays, note)


def _count(found: Iterable[str], stack: str) -> int:
    blocks = (re.match(rf"{stack}\.block\.(\d+)\.", name) for name in found)
    return max((int(match[1]) + 1 for match in blocks if match), default=0)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for name in WEIGHTS:
        if (path / name).is_file():
            return [path / name]
        index = path / f"{name}.index.json"
        if index.is_file():
            try:
                files = {
                    path / file for file in json.loads(index.read_text())["weight_map"].values()
                }
            except (ValueError, KeyError) as error:
                raise RequestError(f"{index} is damaged: {reason(error)}") from None
            lost = sorted(file.name for file in files if not file.is_file())
            if lost:
                raise RequestError(f"{index} names {', '.join(lost)}, which {path} lacks")
            return sorted(files)
    raise AssertionError(f"{path} was recognised")


def _read_safetensors(file: Path) -> dict[str, Stored]:
    def stored(name: str, shape: list[int], dtype: str) -> Stored:
        def read_part(index: Index) -> np.ndarray:
            # Opened anew: what is mapped counts as this process's memory while it is open.
            with safe_open(file, "np") as weights:
                return weights.get_slice(name)[index] if index else weights.get_tensor(name)

        return Stored(tuple(shape), _DTYPES[dtype], read_part)

    try:
        with safe_open(file, "np") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            kinds = {n: (n, part.get_shape(), part.get_dtype()) for n, part in slices.items()}
        return {name: stored(*kind) for name, kind in kinds.items()}
    except SafetensorError as error:
        raise RequestError(f"{file} is truncated or damaged: {reason(error)}") from None
    except KeyError as error:
        raise RequestError(f"{file} holds arrays of type {error}, which are no weights") from None


_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
}


def _read_bin(file: Path) -> dict[str, Stored]:
    """Reads PyTorch's own format by its weights-only loader, which runs no code of the file."""
    try:
        import torch
    except ImportError:
        raise RequestError(
            f"{file} can be read with PyTorch only: pip install torch, or have the weights saved as"
            " model.safetensors"
        ) from None
    load: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            tensors = torch.load(file, mmap=True, **load)
        except RuntimeError as error:
            if "mmap" not in str(error):  # files from before 2020 cannot be memory-mapped
                raise
            tensors = torch.load(file, **load)
    except Exception as error:  # of pickle, zipfile and PyTorch: all mean the same
        raise RequestError(
            f"{file} is damaged or holds more than weights: {reason(error)}"
        ) from None

    return {name: _from_torch(tensor) for name, tensor in tensors.items()}


def _from_torch(tensor: Any) -> Stored:
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none of its own
        import torch

        values = tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    else:
        values = tensor.numpy()
    return Stored(values.shape, values.dtype, lambda index: np.array(values[index]))


# --- Writing --------------------------------------------------------------------------------------


def write(contents: Contents, config: model.Config, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors`, an array at a time.

    Args:
      contents: its parameters are written, in float32.
      config: the model's sizes.
      folder: to make; is whole only when this returns.
    """
    folder.mkdir(parents=True)
    arrays = {}
    for ours, theirs in names(config.num_encoder_layers, config.num_decoder_layers).items():
        array = contents.arrays[TARGET + ours]
        arrays[theirs] = _transposed(array) if _is_transposed(ours) else array
    _write_safetensors(arrays, folder / WEIGHTS[0])
    (folder / "config.json").write_text(json.dumps(_config_json(config), indent=2) + "\n")


def _write_safetensors(arrays: dict[str, Stored], file: Path) -> None:
    """The format (huggingface/safetensors, README): header length, JSON header, the arrays' bytes.

    Written here, since the library wants all arrays in memory at once.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + int(np.prod(array.shape)) * 4
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            values = np.ascontiguousarray(array.read(()), np.dtype("<f4"))
            out.write(values.data)


def _config_json(config: model.Config) -> dict[str, Any]:
    return {
        "architectures": ["MT5ForConditionalGeneration"],
        "model_type": "mt5",
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": model.NUM_BUCKETS,
        "relative_attention_max_distance": model.MAX_DISTANCE,
        "layer_norm_epsilon": model.NORM_EPSILON,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": False,
        "is_encoder_decoder": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
