"""Hugging Face's `MT5ForConditionalGeneration` checkpoints: their names, reading, writing.

A folder holds `config.json` and the weights, `model.safetensors` or `pytorch_model.bin`, in one
file or in several with an index. Weights only: there is neither step nor optimizer state.
"""

import itertools
import json
import math
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from seqio_tasks.errors import RequestError
from xfer_jax import model
from xfer_jax.stored import (
    TARGET,
    Contents,
    Index,
    Stored,
    exists,
    is_remote,
    read_bytes,
    read_file,
    reason,
)

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # first choice first
_INDEX = ".index.json"  # behind such a name, of weights in several files
_EMBEDDING, _LOGITS = "shared.weight", "lm_head.weight"
_ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # of the embedding
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # by anyone
_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_ALIGNMENT = 64  # of the data behind a safetensors header, so that it can be memory-mapped
_BLOCK = 256  # rows and columns that are transposed at a time
_LARGEST_HEADER = 100_000_000  # bytes that safetensors allows
_FIXED = {  # what `model` computes, by its name in `config.json`
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": model.NORM_EPSILON,
    "relative_attention_num_buckets": model.NUM_BUCKETS,
    "relative_attention_max_distance": model.MAX_DISTANCE,
}


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
    return Stored(array.shape[::-1], array.dtype, lambda index: _transpose(array.read(index[::-1])))


def _transpose(values: np.ndarray) -> np.ndarray:
    """Copies a matrix by blocks that fit the processor's cache, several times faster than NumPy."""
    out = np.empty(values.shape[::-1], values.dtype)
    for rows, columns in itertools.product(*(range(0, size, _BLOCK) for size in values.shape)):
        block = values[rows : rows + _BLOCK, columns : columns + _BLOCK]
        out[columns : columns + _BLOCK, rows : rows + _BLOCK] = block.T
    return out


# --- Reading --------------------------------------------------------------------------------------


def recognise(location: str | Path) -> bool:
    """Whether a location, local or gs://, is such a checkpoint: its folder, or a file of weights.

    Raises:
      RequestError: its server cannot be reached.
    """
    return _find(location) is not None


def _find(location: str | Path) -> tuple[str, str] | None:
    """Returns a folder and the file in it that holds the weights, or the index of such files."""
    folder, _, file = str(location).rpartition("/")
    if file.endswith((".safetensors", ".bin")) and exists(folder, file):
        return folder, file
    files = (f"{name}{index}" for name in WEIGHTS for index in ("", _INDEX))
    return next(((str(location), file) for file in files if exists(location, file)), None)


def read(location: str | Path) -> Contents:
    """Opens a checkpoint; without `lm_head.weight` the logits' kernel is the embedding's.

    Args:
      location: its folder, or a file of weights; local or gs:// (safetensors only).

    Raises:
      RequestError: it is damaged, holds more than weights, or is of another kind of model.
    """
    place = _find(location)
    assert place is not None, "recognised by this file"
    folder, file = place
    found: dict[str, Stored] = {}
    for part in _parts(folder, file):
        found |= (_read_bin if part.endswith(".bin") else _read_safetensors)(folder, part)
    layers = [_count(found, stack) for stack in ("encoder", "decoder")]
    for name in _ALIASES:
        if name in found:
            found.setdefault(_EMBEDDING, found.pop(name))
    found.pop(_UNUSED, None)
    _check_config(folder, found)
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
    arrays |= {TARGET + name: array for name, array in found.items()}
    return Contents(str(location), "hf", 0, arrays, note)


def _count(found: Iterable[str], stack: str) -> int:
    blocks = (re.match(rf"{stack}\.block\.(\d+)\.", name) for name in found)
    return max((int(match[1]) + 1 for match in blocks if match), default=0)


def _parts(folder: str, file: str) -> list[str]:
    """Returns the names of the files that hold the weights."""
    if not file.endswith(_INDEX):
        return [file]
    content = read_file(folder, file) or b""
    try:
        parts = sorted({str(part) for part in json.loads(content)["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{folder}/{file} is damaged: {reason(error)}") from None
    lost = [part for part in parts if not exists(folder, part)]
    if lost:
        raise RequestError(f"{folder} lacks {', '.join(lost)}, which {file} names")
    return parts


def _check_config(folder: str, found: dict[str, Stored]) -> None:
    """Refuses a model that is computed otherwise, and weights that `config.json` does not fit."""
    content = read_file(folder, CONFIG)
    if content is None:  # weights alone
        return
    try:
        config = dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise RequestError(f"{folder}/{CONFIG} is damaged: {reason(error)}") from None
    expected: dict[str, Any] = dict(_FIXED)
    if _EMBEDDING in found:
        expected["vocab_size"] = found[_EMBEDDING].shape[0]
    if _LOGITS not in found:  # Hugging Face's T5 then scales the logits, its mT5 does not
        expected["model_type"] = "mt5"
    wrong = [
        f"{key} is {config[key]!r} instead of {value!r}"
        for key, value in expected.items()
        if config.get(key, value) != value
    ]
    if wrong:
        raise RequestError(
            f"{folder}/{CONFIG} is not of an mT5 with these weights: {'; '.join(wrong)}"
        )


def _read_safetensors(folder: str, file: str) -> dict[str, Stored]:
    """The format (huggingface/safetensors, README): header length, JSON header, the arrays' bytes.

    Read here, since the library reads local files only.
    """
    path = f"{folder}/{file}"
    size = int.from_bytes(read_bytes(folder, file, 0, 8).tobytes(), "little")
    if size > _LARGEST_HEADER:
        raise RequestError(f"{path} is damaged: its header cannot be {size:,} bytes long")
    text = read_bytes(folder, file, 8, size).tobytes()

    def stored(dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> Stored:
        start, end = data_offsets
        kind = _DTYPES[dtype]
        if not 0 <= start <= end or end - start != math.prod(shape) * kind.itemsize:
            raise ValueError(f"bytes {start} to {end} are no {dtype} array of shape {tuple(shape)}")

        def read_part(index: Index) -> np.ndarray:
            values = read_bytes(folder, file, 8 + size + start, end - start)
            return values.view(kind).reshape(shape)[index]

        return Stored(tuple(shape), kind, read_part)

    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        found = {name: stored(**entry) for name, entry in header.items()}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except KeyError as error:
        raise RequestError(f"{path} holds arrays of type {error}, which are no weights") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is damaged: {reason(error)}") from None
    if end:
        read_bytes(folder, file, 8 + size + end - 1, 1)  # raises if the file is truncated
    return found


_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
}


def _read_bin(folder: str, file: str) -> dict[str, Stored]:
    """Reads PyTorch's own format by its weights-only loader, which runs no code of the file."""
    if is_remote(folder):
        raise RequestError(f"{folder}/{file} cannot be read from afar: copy the folder here first")
    path = Path(folder) / file
    mapped = zipfile.is_zipfile(path)  # else, from before PyTorch 1.6, all of it is in memory
    tensors = _load(path, mapped)
    kept = {} if mapped else tensors

    def stored(name: str) -> Stored:
        def read_part(index: Index) -> np.ndarray:
            # Opened anew: what is mapped counts as this process's memory while it is open.
            tensor = kept[name] if kept else _load(path, mapped)[name]
            return np.array(_as_numpy(tensor)[index])

        values = _as_numpy(tensors[name])
        return Stored(values.shape, values.dtype, read_part)

    try:
        return {name: stored(name) for name in tensors}
    except (AttributeError, TypeError):
        raise RequestError(f"{path} holds more than arrays of weights") from None


def _load(path: Path, mapped: bool) -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        raise RequestError(
            f"{path} can be read with PyTorch only: pip install torch, or have the weights saved as"
            f" {WEIGHTS[0]}"
        ) from None
    try:
        with warnings.catch_warnings(action="ignore"):  # of old pickles
            return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=mapped))
    except Exception:  # of pickle, zipfile and PyTorch, with advice to run the file's code
        raise RequestError(
            f"{path} is not loaded: it is damaged, or holds more than weights, which could run code"
        ) from None


def _as_numpy(tensor: Any) -> np.ndarray:
    """Returns a view of a tensor."""
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none of its own
        import torch

        return tensor.detach().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


# --- Writing --------------------------------------------------------------------------------------


def write(contents: Contents, config: model.Config, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors`, an array at a time.

    Args:
      contents: its parameters are written, in float32.
      config: the model's sizes.
      folder: an empty one; is taken for a checkpoint only once it is whole.
    """
    arrays = {}
    for ours, theirs in names(config.num_encoder_layers, config.num_decoder_layers).items():
        array = contents.arrays[TARGET + ours]
        arrays[theirs] = _transposed(array) if _is_transposed(ours) else array
    (folder / CONFIG).write_text(json.dumps(_config_json(config), indent=2) + "\n")
    weights = folder / WEIGHTS[0]
    unfinished = weights.with_suffix(".part")
    _write_safetensors(arrays, unfinished)
    unfinished.rename(weights)


def _write_safetensors(arrays: dict[str, Stored], file: Path) -> None:
    """Written here, since the library wants all arrays in memory at once."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + math.prod(array.shape) * 4
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            out.write(np.ascontiguousarray(array.read(()), np.dtype("<f4")).data)
        out.flush()
        os.fsync(out.fileno())


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
        **_FIXED,
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": False,
        "is_encoder_decoder": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
