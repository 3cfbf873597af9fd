"""A checkpoint's arrays, each read when it is asked for: what every format is turned into."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorstore as ts

from seqio_tasks.errors import RequestError

Index = tuple[slice, ...]
TARGET, MOMENTS, STEP = "target/", "state/param_states/", "state/step"  # how names begin, in T5X
_REMOTE_SECONDS = 60  # to wait for an answer from gs://


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array that has not been read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Index], np.ndarray]  # a part of it, e.g. (slice(0, 8),); () for the whole

    def as_float32(self) -> "Stored":
        """Returns the array as T5X keeps parameters."""
        if self.dtype == np.float32:
            return self
        return Stored(self.shape, np.dtype(np.float32), lambda i: self.read(i).astype(np.float32))


@dataclasses.dataclass(frozen=True)
class Contents:
    """A checkpoint of any format, its arrays by their names in T5X."""

    location: str
    form: str  # 'native', 't5x', 't5x-legacy' or 'hf'
    step: int
    arrays: dict[str, Stored]
    note: str = ""  # what a reader of the checkpoint should know

    def part(self, prefix: str) -> dict[str, Stored]:
        """Returns the arrays whose names begin with TARGET or MOMENTS, under their full names."""
        return {name: array for name, array in self.arrays.items() if name.startswith(prefix)}


def is_remote(location: str | Path) -> bool:
    """Whether a location is an address such as gs://bucket/folder."""
    return "://" in str(location)


def kvstore(location: str | Path) -> str | dict[str, str]:
    """Returns TensorStore's spec of a folder, local or gs://."""
    if is_remote(location):
        return f"{location}/"
    return {"driver": "file", "path": f"{Path(location).absolute()}/"}


def read_file(folder: str | Path, name: str) -> bytes | None:
    """Reads a file of a folder, local or gs://.

    Returns:
      Its bytes; None if it is not there.

    Raises:
      RequestError: the folder's server cannot be reached or refuses.
    """
    if not is_remote(folder):
        path = Path(folder) / name
        return path.read_bytes() if path.is_file() else None
    try:
        store = ts.KvStore.open(kvstore(folder)).result(timeout=_REMOTE_SECONDS)
        found = store.read(name).result(timeout=_REMOTE_SECONDS)
    except Exception as error:  # tensorstore raises what its drivers raise
        raise RequestError(f"{folder} cannot be fetched ({reason(error)})") from None
    return found.value if found.state == "value" else None


def reason(error: BaseException) -> str:
    """Returns the first line of an error of TensorStore or Orbax, cut to a readable length."""
    return (str(error).splitlines() or [f"no answer in {_REMOTE_SECONDS} s"])[0][:240]
