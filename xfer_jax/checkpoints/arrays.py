"""The arrays of a checkpoint of any format; each is read only when it is needed."""

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from seqio_tasks.errors import RequestError

Index = tuple[slice, ...]
TARGET, MOMENTS, STEP = "target/", "state/param_states/", "state/step"  # prefixes of T5X's names
_CHUNK_BYTES = 64 << 20  # of a stored chunk, so that parts can be read; T5X's size
_BATCH_BYTES = 64 << 20  # of arrays that are written at the same time
_REMOTE_SECONDS = 60  # timeout for gs://
_CACHE_BYTES = 32 << 20  # for the index of an OCDBT checkpoint; large arrays do not stay in it
_SHOWN = 4  # damaged arrays that an error message lists
_LARGEST_FILE = 1 << 30  # bytes of a file that is read at once; weights are read in parts
_PIECE = 16 << 20  # bytes of a remote file in memory
_MOST_TIMES = 1100  # largest array, relative to its files: the limit of gzip
_LONGEST_NAME = 200  # characters of an array's name; mT5's have 70
MOST_STEPS = 2**31 - 1  # T5X keeps the step in an int32


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array that is read on request."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Index], np.ndarray]  # a part of it, e.g. (slice(0, 8),); () for the whole

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def as_float32(self) -> "Stored":
        """Returns the array in float32, as in T5X."""
        if self.dtype == np.float32:
            return self

        def read(index: Index) -> np.ndarray:
            with np.errstate(over="ignore"):  # too large values become infinity
                return self.read(index).astype(np.float32)

        return Stored(self.shape, np.dtype(np.float32), read)


@dataclasses.dataclass(frozen=True)
class Contents:
    """A checkpoint of any format; arrays have T5X's names."""

    location: str
    form: str  # 'native', 't5x', 't5x-legacy' or 'hf'
    step: int
    arrays: dict[str, Stored]
    note: str = ""  # remark for the user

    def part(self, prefix: str) -> dict[str, Stored]:
        """Returns the arrays whose names begin with TARGET or MOMENTS, under their full names."""
        return {name: array for name, array in self.arrays.items() if name.startswith(prefix)}


def is_remote(location: str | Path) -> bool:
    """Returns whether a location is an address such as gs://bucket/folder."""
    return "://" in str(location)


def kvstore(location: str | Path) -> str | dict[str, str]:
    """Returns TensorStore's spec of a folder, local or gs://."""
    if is_remote(location):
        return f"{location}/"
    return {"driver": "file", "path": f"{Path(location).absolute()}/"}


# --- Files ----------------------------------------------------------------------------------------


def exists(folder: str | Path, name: str) -> bool:
    """Returns whether a folder, local or gs://, has a file; raises the errors of `read_file`."""
    if is_remote(folder):
        return _fetch(folder, name, slice(0, 0)) is not None
    path = Path(folder) / name
    try:
        return path.is_file()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None


def read_file(folder: str | Path, name: str) -> bytes | None:
    """Reads a file of a folder, local or gs://.

    Returns:
      Its bytes; None if it does not exist.

    Raises:
      RequestError: it is not a file, it cannot be read, or its server cannot be reached.
    """
    if is_remote(folder):
        return _fetch(folder, name, None)
    path = Path(folder) / name
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise RequestError(f"{path} is damaged: it is not a file")
        if path.stat().st_size > _LARGEST_FILE:
            raise RequestError(f"{path} is damaged: it is {path.stat().st_size:,} bytes long")
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None


def read_bytes(folder: str | Path, name: str, start: int, size: int) -> np.ndarray:
    """Reads a part of a file of a folder, local or gs://.

    Returns:
      uint8 [size].

    Raises:
      RequestError: the file is too short, it cannot be read, or its server cannot be reached.
    """
    try:
        if is_remote(folder):
            content = _fetch(folder, name, slice(start, start + size))
            found = np.frombuffer(content or b"", np.uint8)
        else:
            found = np.fromfile(Path(folder) / name, np.uint8, size, offset=start)
    except OSError as error:
        raise RequestError(f"{folder}/{name} cannot be read: {error.strerror}") from None
    if len(found) < size:
        raise RequestError(f"{folder}/{name} is truncated: it ends before byte {start + size:,}")
    return found


def read_pieces(folder: str | Path, name: str) -> Iterator[bytes] | None:
    """Reads a file of a gs:// folder piece by piece.

    Returns:
      Its pieces; None if it does not exist.

    Raises:
      RequestError: its server cannot be reached; the iterator can raise it too.
    """
    if not exists(folder, name):
        return None

    def pieces() -> Iterator[bytes]:
        store = _remote(folder)
        for start in itertools.count(0, _PIECE):
            piece = slice(start, start + _PIECE)
            try:
                yield store.read(name, byte_range=piece).result(timeout=_REMOTE_SECONDS).value
            except ValueError:  # the file ends within this piece
                yield _fetch(folder, name, slice(start, None)) or b""
                return

    return pieces()


def list_files(folder: str | Path) -> list[str]:
    """Returns the names of all files of a folder and its subfolders, local or gs://.

    Raises:
      RequestError: the server cannot be reached.
    """
    if is_remote(folder):
        try:
            keys = _remote(folder).list().result(timeout=_REMOTE_SECONDS)
        except Exception as error:  # errors of TensorStore's drivers
            raise RequestError(f"{folder} cannot be listed: {reason(error)}") from None
        return [key.decode("utf-8", "replace") for key in keys]
    root = Path(folder)
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


def _remote(folder: str | Path) -> ts.KvStore:
    return ts.KvStore.open(kvstore(folder)).result(timeout=_REMOTE_SECONDS)


def _fetch(folder: str | Path, name: str, part: slice | None) -> bytes | None:
    try:
        found = _remote(folder).read(name, byte_range=part).result(timeout=_REMOTE_SECONDS)
    except Exception as error:  # errors of TensorStore's drivers
        raise RequestError(f"{folder}/{name} cannot be fetched: {reason(error)}") from None
    return found.value if found.state == "value" else None


# --- Zarr -----------------------------------------------------------------------------------------


def open_zarr(
    location: str, stores: Mapping[str, Any], driver: str = "zarr", sparse: bool = False
) -> dict[str, Stored]:
    """Opens the arrays of a checkpoint, in parallel because they may be remote.

    Args:
      location: the checkpoint, for error messages.
      stores: TensorStore's spec of the folder of each array, by name.
      driver: 'zarr' (version 2) or 'zarr3'.
      sparse: whether chunks of zeros are not stored; otherwise a missing chunk is an error.

    Raises:
      RequestError: an array is missing, damaged, or of impossible size; `read` can raise it too.
    """
    refuse_odd_names(location, stores)
    most = _largest(location, sparse)
    context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
    options = {"recheck_cached_data": "open", "fill_missing_data_reads": sparse}
    opening = {
        name: ts.open({"driver": driver, "kvstore": store} | options, open=True, context=context)
        for name, store in stores.items()
    }
    opened, problems = {}, []
    for name, future in opening.items():
        try:
            opened[name] = future.result()
        except ValueError as error:
            problems.append(f"{name} ({reason(error)})")
        else:
            # TensorStore ends the process if there is not enough memory for an array.
            problems += _too_large(name, opened[name], most)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        raise RequestError(f"{location} cannot be read: {'; '.join(problems[:_SHOWN])}{more}")
    return {name: _stored(location, name, store) for name, store in opened.items()}


def refuse_odd_names(location: str, names: Iterable[str]) -> None:
    """Raises RequestError if a name cannot be the name of a model's array."""
    for name in names:
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise RequestError(f"{location} is damaged: an array is named {ascii(name)[:100]}")


def memory() -> int:
    """Returns the size of this machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _largest(location: str, sparse: bool) -> int:
    """Returns the largest possible size of an array of a checkpoint, in bytes."""
    if sparse or is_remote(location):
        return memory()
    root = Path(location)
    size = sum((root / name).stat().st_size for name in list_files(root))
    return min(memory(), max(_CHUNK_BYTES, _MOST_TIMES * size))


def _too_large(name: str, store: ts.TensorStore, most: int) -> list[str]:
    """Returns a message if the size of an array or of its chunks is impossible."""
    itemsize = store.dtype.numpy_dtype.itemsize
    size = math.prod(store.shape) * itemsize
    if size > most:
        return [f"{name} (the shape {tuple(store.shape)} is too large for its files)"]
    layout = store.chunk_layout
    chunk = layout.write_chunk.shape or layout.read_chunk.shape or ()
    if math.prod(side or 1 for side in chunk) * itemsize > max(size, _CHUNK_BYTES):
        return [f"{name} (chunks of {tuple(chunk)} are larger than the array)"]
    return []


def checked_step(location: str | Path, step: Any) -> int:
    """Returns a checkpoint's step.

    Args:
      location: the checkpoint, for the error message.
      step: the stored step, e.g. an array of one element.

    Raises:
      RequestError: it is not a valid step.
    """
    found = np.asarray(step)
    if found.size == 1 and found.dtype.kind in "iuf":  # T5X may cast it like weights
        value = found.reshape(())[()]
        if 0 <= value <= MOST_STEPS and value == int(value):
            return int(value)
    raise RequestError(
        f"{location} is damaged: its step is not an integer from 0 to {MOST_STEPS:,}"
    )


def _stored(location: str, name: str, store: ts.TensorStore) -> Stored:
    def read_part(index: Index) -> np.ndarray:
        try:
            return (store[index] if index else store).read().result()
        except ValueError as error:
            raise RequestError(f"{location} cannot be read: {name} ({reason(error)})") from None

    return Stored(tuple(store.shape), store.dtype.numpy_dtype, read_part)


def write_zarr(arrays: Mapping[str, Stored], store: Callable[[str], Any]) -> dict[str, dict]:
    """Writes arrays to the disk; at most `_BATCH_BYTES` of them, or one array, are in memory.

    Writes several at a time, because each waits for the disk and most of the moments are small.

    Args:
      arrays: arrays by name.
      store: (name) -> TensorStore's spec of the folder of the array.

    Returns:
      TensorStore's spec of each array without its folder, by name.

    Raises:
      ValueError: TensorStore cannot write them.
    """
    ends = itertools.accumulate(array.nbytes for array in arrays.values())
    batches = itertools.groupby(
        zip(arrays, ends, strict=True), lambda named: named[1] // _BATCH_BYTES
    )
    context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
    specs: dict[str, dict] = {}
    for _, batch in batches:
        specs |= _write_batch({name: arrays[name] for name, _ in batch}, store, context)
    return specs


def _write_batch(
    arrays: Mapping[str, Stored], store: Callable[[str], Any], context: ts.Context
) -> dict[str, dict]:
    values = {name: array.read(()) for name, array in arrays.items()}
    specs = {name: _zarr_spec(array) for name, array in values.items()}
    options = {"store_data_equal_to_fill_value": True}  # so that zeros do not look like lost files
    # In parallel, so that the arrays of one OCDBT database are committed together.
    opening = {
        name: ts.open(spec | options | {"kvstore": store(name)}, create=True, context=context)
        for name, spec in specs.items()
    }
    pending: list[Any] = list(opening.values())
    try:
        for name, future in opening.items():
            written = future.result().write(
                values[name], can_reference_source_data_indefinitely=True
            )
            pending.append(written)
    finally:  # waits for all: after an error, the caller may remove the files
        errors = [future.exception() for future in pending]
    for error in filter(None, errors):
        raise error
    return specs


def _zarr_spec(values: np.ndarray) -> dict[str, Any]:
    metadata = {
        "shape": list(values.shape),
        "chunks": _chunks(values),
        "compressor": None,  # weights hardly compress, and compression is slower than a disk
    }
    return {"driver": "zarr", "dtype": values.dtype.name, "metadata": metadata}


def _chunks(values: np.ndarray) -> list[int]:
    if values.nbytes <= _CHUNK_BYTES:
        return list(values.shape)
    most = max(1, _CHUNK_BYTES * len(values) // values.nbytes)
    rows = next(rows for rows in range(most, 0, -1) if len(values) % rows == 0)
    return [rows, *values.shape[1:]]


def reason(error: BaseException) -> str:
    """Returns the message of an error of TensorStore or another library, without details."""
    if isinstance(error, TimeoutError):
        return f"no answer in {_REMOTE_SECONDS} s"
    message = (str(error).splitlines() or [type(error).__name__])[0]
    message = message.partition(" [")[0]  # TensorStore appends its spec and source lines
    return message.rpartition('": ')[2][:240]  # and begins with the operation and the file
