"""Hugging Face's `MT5ForConditionalGeneration` checkpoints: their names, reading, writing.

A folder holds `config.json` and the weights, `model.safetensors` or `pytorch_model.bin`, in one
file or in several with an index. It has no step and no optimizer state.
"""

import itertools
import json
import math
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import ml_dtypes
import numpy as np
import pydantic

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import hf_config
from xfer_jax.checkpoints.arrays import (
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
from xfer_jax.mt5 import model

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # first choice first
_INDEX = ".index.json"  # suffix of the index of weights in several files
_EMBEDDING, _LOGITS = hf_config.EMBEDDING, hf_config.LOGITS
_ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # of the embedding
# Old versions of the library save it, but no version reads it.
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_ALIGNMENT = 64  # of the data after a safetensors header, for memory-mapping
_BLOCK = 256  # rows and columns that are transposed at a time
_LARGEST_HEADER = 100_000_000  # bytes that safetensors allows
_SHOWN = 8  # missing files that an error message lists
_LONGEST_NAME = 200  # characters of a file's name
MOST_LAYERS = 256  # of a stack; mT5-xxl has 24
_SAFE_TORCH = (2, 6)  # before, weights_only=True can run code (CVE-2025-32434)


def names(encoder_layers: int, decoder_layers: int) -> dict[str, str]:
    """Returns Hugging Face's name of every parameter by its T5X name, without `target/`."""
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
    """Returns whether the order of axes differs: PyTorch's kernels are [out, in]."""
    return name.endswith(("/kernel", "/rel_embedding"))


def _transposed(array: Stored) -> Stored:
    return Stored(array.shape[::-1], array.dtype, lambda index: _transpose(array.read(index[::-1])))


def _transpose(values: np.ndarray) -> np.ndarray:
    """Transposes a matrix in blocks that fit the CPU's cache, several times faster than NumPy."""
    out = np.empty(values.shape[::-1], values.dtype)
    for rows, columns in itertools.product(*(range(0, size, _BLOCK) for size in values.shape)):
        block = values[rows : rows + _BLOCK, columns : columns + _BLOCK]
        out[columns : columns + _BLOCK, rows : rows + _BLOCK] = block.T
    return out


# --- Reading --------------------------------------------------------------------------------------


def recognise(location: str | Path) -> bool:
    """Returns whether a location, local or gs://, is a folder or a weights file of this format.

    Raises:
      RequestError: its server cannot be reached.
    """
    return _find(location) is not None


def _find(location: str | Path) -> tuple[str, str] | None:
    """Returns a folder and its weights file, or the index of its weights files."""
    folder, _, file = str(location).rpartition("/")
    if file.endswith((".safetensors", ".bin")) and exists(folder, file):
        return folder, file
    choices = (f"{name}{index}" for name in WEIGHTS for index in ("", _INDEX))
    return next(((str(location), file) for file in choices if exists(location, file)), None)


def read(location: str | Path) -> Contents:
    """Opens a checkpoint; without `lm_head.weight`, the embedding is the output kernel.

    Args:
      location: its folder, or a weights file; local or gs:// (safetensors only).

    Raises:
      RequestError: it is damaged, contains more than weights, or is another kind of model.
    """
    place = _find(location)
    assert place is not None, "recognised by this file"
    folder, file = place
    found: dict[str, Stored] = {}
    for part in _parts(folder, file):
        more = (_read_bin if part.endswith(".bin") else _read_safetensors)(folder, part)
        twice = sorted(more.keys() & found.keys())
        if twice:
            raise RequestError(f"{folder} is damaged: {ascii(twice[0])[:100]} is in two files")
        found |= more
    stacks = ("encoder", "decoder")
    layers = [count_layers(location, found, f"{stack}.block.") for stack in stacks]
    for name in _ALIASES:
        if name in found:
            found.setdefault(_EMBEDDING, found.pop(name))
    found.pop(_UNUSED, None)
    hf_config.check(folder, found, layers)
    note = ""
    if _LOGITS not in found and _EMBEDDING in found:
        found[_LOGITS] = found[_EMBEDDING]
        note = f"it has no {_LOGITS}: the embedding replaces it, as in Hugging Face's library"
    arrays = {}
    for ours, theirs in names(*layers).items():
        if theirs in found:
            array = found.pop(theirs)
            arrays[TARGET + ours] = _transposed(array) if _is_transposed(ours) else array
    # Unknown arrays are reported, like missing ones, by the comparison with a model.
    arrays |= {TARGET + name: array for name, array in found.items()}
    return Contents(str(location), "hf", 0, arrays, note)


def count_layers(location: str | Path, names: Iterable[str], prefix: str) -> int:
    """Returns the number of a stack's layers, 0 if it has none.

    Args:
      location: the checkpoint, for the error message.
      names: names of all arrays.
      prefix: the text before the number in their names, e.g. `encoder.block.`.

    Raises:
      RequestError: there are more than MOST_LAYERS.
    """
    layer = re.compile(rf"{re.escape(prefix)}([0-9]+)[./]")
    numbers = {match[1] for match in map(layer.match, names) if match}
    longest = max(map(len, numbers), default=0)
    if longest > len(str(MOST_LAYERS)) or any(int(number) >= MOST_LAYERS for number in numbers):
        last = max(numbers, key=lambda number: (len(number), number))
        raise RequestError(
            f"{location} is not an mT5: it has an array {prefix}{last[:20]}, but at most"
            f" {MOST_LAYERS} layers are supported"
        )
    return max((int(number) + 1 for number in numbers), default=0)


def _parts(folder: str, file: str) -> list[str]:
    """Returns the names of the weights files."""
    if not file.endswith(_INDEX):
        return [file]
    try:
        index = files.parse_json(read_file(folder, file) or b"", f"{folder}/{file}")
        parts = sorted(set(_Index.model_validate(index).weight_map.values()))
    except (RequestError, pydantic.ValidationError) as error:
        raise RequestError(f"{folder}/{file} is damaged: {_first(error)}") from None
    for part in parts:
        if not _is_beside(folder, part):
            raise RequestError(
                f"{folder}/{file} names {ascii(part)[:100]}, which is not a weights file in the"
                " same folder"
            )
    lost = [part for part in parts if not exists(folder, part)]
    if lost:
        raise RequestError(f"{folder} has no {', '.join(lost[:_SHOWN])}, which {file} names")
    return parts


class _Index(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    weight_map: dict[str, str]


def _is_beside(folder: str, part: str) -> bool:
    """Returns whether a name in an index is the name of a weights file in the same folder."""
    if not part.endswith((".safetensors", ".bin")) or "/" in part or "\\" in part:
        return False
    if not part.isprintable() or len(part) > _LONGEST_NAME:
        return False
    if is_remote(folder):
        return True
    # The Hub's cache links to files in ../../blobs.
    home, target = Path(folder).resolve(), (Path(folder) / part).resolve()
    return target.parent in (home, home.parent.parent / "blobs")


def _first(error: Exception) -> str:
    """Returns the message of an error in one line."""
    if not isinstance(error, pydantic.ValidationError):
        return reason(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ascii(".".join(map(str, first["loc"])))[1:-1][:100]
    return f"{where}: {first['msg']}" if where else first["msg"]


# --- Files of weights -----------------------------------------------------------------------------


def _read_safetensors(folder: str, file: str) -> dict[str, Stored]:
    """Reads the format of huggingface/safetensors: length of the header, JSON header, arrays.

    It is read here, because the library reads only local files.
    """
    path = f"{folder}/{file}"
    size = int.from_bytes(read_bytes(folder, file, 0, 8).tobytes(), "little")
    if size > _LARGEST_HEADER:
        raise RequestError(f"{path} is damaged: its header cannot be {size:,} bytes long")
    text = read_bytes(folder, file, 8, size).tobytes()

    def stored(entry: _Entry) -> Stored:
        start, end = entry.data_offsets
        kind = _DTYPES[entry.dtype]

        def read_part(index: Index) -> np.ndarray:
            values = read_bytes(folder, file, 8 + size + start, end - start)
            return values.view(kind).reshape(entry.shape)[index]

        return Stored(tuple(entry.shape), kind, read_part)

    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
        if isinstance(header, dict):
            header.pop("__metadata__", None)
        entries = _HEADER.validate_python(header)
        end = _check_offsets(entries)
    except RecursionError:
        raise RequestError(f"{path} is damaged: JSON that is nested too deeply") from None
    except ValueError as error:  # pydantic's, too
        raise RequestError(f"{path} is damaged: {_first(error)}") from None
    odd = sorted({entry.dtype for entry in entries.values()} - _DTYPES.keys())
    if odd:
        raise RequestError(f"{path} has arrays of type {odd[0][:20]!a}, which are not weights")
    if end:
        read_bytes(folder, file, 8 + size + end - 1, 1)  # raises if the file is truncated
    if not is_remote(folder) and Path(path).stat().st_size != 8 + size + end:
        raise RequestError(f"{path} is damaged: there are bytes after its last array")
    return {name: stored(entry) for name, entry in entries.items()}


_Size = Annotated[int, pydantic.Field(ge=0, lt=2**62)]


class _Entry(pydantic.BaseModel):
    """The entry of an array in a header."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    dtype: str
    shape: Annotated[list[_Size], pydantic.Field(max_length=8)]
    data_offsets: Annotated[list[_Size], pydantic.Field(min_length=2, max_length=2)]


_HEADER = pydantic.TypeAdapter(dict[str, _Entry])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two entries are named {ascii(twice)[:100]}")
    return found


def _check_offsets(entries: Mapping[str, _Entry]) -> int:
    """Checks that arrays have the right sizes, and follow each other without gaps.

    Returns:
      The end of the last array.

    Raises:
      ValueError: an offset is wrong.
    """
    last = 0
    for entry in sorted(entries.values(), key=lambda entry: entry.data_offsets):
        start, end = entry.data_offsets
        itemsize = _DTYPES[entry.dtype].itemsize if entry.dtype in _DTYPES else None
        if end < start or (itemsize and end - start != math.prod(entry.shape) * itemsize):
            raise ValueError(
                f"bytes {start} to {end} are not an {entry.dtype[:20]} array of shape"
                f" {tuple(entry.shape)}"
            )
        if start != last:
            raise ValueError(f"its arrays overlap or leave a gap at byte {min(start, last)}")
        last = end
    return last


_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
}


def _read_bin(folder: str, file: str) -> dict[str, Stored]:
    """Reads PyTorch's format with its weights-only loader, which runs no code of the file."""
    if is_remote(folder):
        raise RequestError(f"{folder}/{file} is remote: copy the folder to this machine first")
    path = Path(folder) / file
    mapped = zipfile.is_zipfile(path)  # files of PyTorch before 1.6 are completely in memory
    tensors = _load(path, mapped)
    kept = {} if mapped else tensors

    def stored(name: str) -> Stored:
        def read_part(index: Index) -> np.ndarray:
            # Opened again, because a mapped file counts as memory of this process while it is open.
            tensor = kept[name] if kept else _load(path, mapped)[name]
            return np.array(_as_numpy(tensor)[index])

        values = _as_numpy(tensors[name])
        return Stored(values.shape, values.dtype, read_part)

    try:
        if not all(isinstance(name, str) and _is_whole(tensors[name]) for name in tensors):
            raise TypeError
        return {name: stored(name) for name in tensors}
    except (AttributeError, TypeError, ValueError, RuntimeError):  # of PyTorch, for odd tensors
        raise RequestError(f"{path} contains more than weights") from None


def _is_whole(tensor: Any) -> bool:
    """Returns whether a tensor is stored completely: with stride 0, few bytes have any shape."""
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _load(path: Path, mapped: bool) -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        raise RequestError(
            f"{path} can only be read with PyTorch: pip install torch, or save the weights as"
            f" {WEIGHTS[0]}"
        ) from None
    version = re.match(r"([0-9]+)\.([0-9]+)", torch.__version__)
    if version is None or tuple(map(int, version.groups())) < _SAFE_TORCH:
        raise RequestError(
            f"{path} is not loaded: PyTorch {torch.__version__} can run code of a file; install"
            f" PyTorch 2.6 or later, or save the weights as {WEIGHTS[0]}"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of old pickles
            return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=mapped))
    except Exception:  # of pickle, zipfile and PyTorch, with advice to run the file's code
        raise RequestError(
            f"{path} is not loaded: it is damaged, or has objects that can run code"
        ) from None


def _as_numpy(tensor: Any) -> np.ndarray:
    """Returns a view of a tensor."""
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none of its own
        import torch

        return tensor.detach().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


# --- Writing --------------------------------------------------------------------------------------


def write(contents: Contents, config: model.Config, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors`, one array at a time.

    Args:
      contents: its parameters are written, in float32.
      config: the model's sizes.
      folder: an empty folder; it is recognised as a checkpoint only when it is complete.
    """
    arrays = {}
    for ours, theirs in names(config.num_encoder_layers, config.num_decoder_layers).items():
        array = contents.arrays[TARGET + ours]
        arrays[theirs] = _transposed(array) if _is_transposed(ours) else array
    text = json.dumps(hf_config.render(config), indent=2) + "\n"
    (folder / hf_config.FILE).write_text(text, encoding="utf-8")
    weights = folder / WEIGHTS[0]
    unfinished = weights.with_suffix(".part")
    _write_safetensors(arrays, unfinished)
    unfinished.rename(weights)


def _write_safetensors(arrays: dict[str, Stored], file: Path) -> None:
    """Writes the format here, because the library needs all arrays in memory."""
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
