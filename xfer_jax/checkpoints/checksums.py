"""SHA256SUMS: the hashes of a checkpoint's files, compared whenever the checkpoint is read.

The file has the format of `sha256sum --check`. It lists every other file of the checkpoint. Damage
to it is detected, because its form must be exactly that of `write`, and because each file that it
lists must exist. Checkpoints of other tools have no such file and are not checked.
"""

import contextlib
import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import arrays

SUMS_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n\0]+)\n")
_AT_ONCE = 4  # files hashed at the same time; hashlib releases the interpreter's lock
_PIECE = 1 << 20  # bytes of a local file in memory
_READ = ("config.json", "model.safetensors", "checkpoint")  # files that are read if they exist
_FOLDERS = ("state/", "state.", "target.")  # prefixes of the names of files with arrays


# --- Writing --------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    """Writes the hashes of all files of a new checkpoint, and waits until all data is on the disk.

    Then a power failure after the checkpoint gets its name leaves no empty files.

    Args:
      folder: the checkpoint before it gets its name.

    Raises:
      OSError: the disk is full or fails.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        digests = list(pool.map(functools.partial(_digest, sync=True), found))
    lines = (
        f"{digest}  {path.relative_to(folder).as_posix()}\n"
        for digest, path in zip(digests, found, strict=True)
        if path != folder / SUMS_FILE
    )
    with (folder / SUMS_FILE).open("w", encoding="utf-8", newline="\n") as file:
        file.write("".join(lines))
        file.flush()
        os.fsync(file.fileno())
    for path in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync_folder(path)


def sync_folder(folder: Path) -> None:
    """Waits until the directory entries of a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path, stop: threading.Event | None = None, sync: bool = False) -> str:
    sha256, piece = hashlib.sha256(), bytearray(_PIECE)
    view = memoryview(piece)
    with path.open("rb", buffering=0) as file:
        while (count := file.readinto(piece)) and not (stop and stop.is_set()):
            sha256.update(view[:count])
        if sync:
            os.fsync(file.fileno())
    return sha256.hexdigest()


# --- Comparing ------------------------------------------------------------------------------------


@contextlib.contextmanager
def verified(location: str | Path) -> Iterator[Callable[[], None]]:
    """Hashes a checkpoint's files while the body reads them; without SHA256SUMS does nothing.

    If a file is damaged, raises an error at the end of the body, or in place of an error of the
    body. What the body reads must not be used before its end.

    Args:
      location: a checkpoint of any format, local or gs://.

    Yields:
      A function that waits for the hashes, to get the error before the end of the body.

    Raises:
      RequestError: a file is damaged or missing; names it.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        checks = _checks(location, pool, stop)

        def finish() -> None:
            problem = _first(checks)
            if problem:
                raise RequestError(
                    f"{location} is damaged: {problem}; copy it again, or remove {SUMS_FILE} if"
                    " the change is intended"
                ) from None

        try:
            yield finish
            finish()
        except Exception:
            finish()  # damaged files can cause any error
            raise
        finally:
            stop.set()


def damage(location: str | Path) -> str | None:
    """Compares a checkpoint's files with its hashes.

    Returns:
      The first problem; None if there is none, or if the checkpoint has no hashes.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            return _first(_checks(location, pool, stop))
        finally:
            stop.set()


def has(location: str | Path) -> bool:
    """Returns whether a checkpoint has hashes."""
    return arrays.exists(_folder(location), SUMS_FILE)


def check_content(location: str | Path, name: str, content: bytes) -> None:
    """Compares the content of one file with its hash.

    Raises:
      RequestError: they differ.
    """
    sums = _read(location)
    if isinstance(sums, str):
        raise RequestError(f"{location} is damaged: {sums}")
    if sums and sums.get(name, "") not in ("", hashlib.sha256(content).hexdigest()):
        raise RequestError(f"{location} is damaged: {name} is not as it was written")


def _read(location: str | Path) -> dict[str, str] | str | None:
    """Returns the hashes by file, or the problem with SHA256SUMS, or None if there is none."""
    folder = _folder(location)
    if not arrays.is_remote(folder):
        path = Path(folder) / SUMS_FILE
        if os.path.lexists(path) and not path.is_file():
            return f"{SUMS_FILE} is not a file"
    content = arrays.read_file(folder, SUMS_FILE)
    if content is None:
        return None
    text = content.decode("utf-8", "replace")
    pairs = _LINE.findall(text)
    sums = {name: digest for digest, name in pairs}
    outside = any(name.startswith("/") or ".." in name.split("/") for name in sums)
    exact = "".join(f"{digest}  {name}\n" for digest, name in pairs) == text
    if not sums or outside or not exact or len(sums) < len(pairs):
        return f"{SUMS_FILE} is not as it was written"
    return sums


def _checks(
    location: str | Path, pool: ThreadPoolExecutor, stop: threading.Event
) -> list[Future[str | None]]:
    """Starts the comparison of every file; each result is a problem, or None."""
    folder, sums = _folder(location), _read(location)
    if sums is None:
        return []
    if isinstance(sums, str):
        return [pool.submit(lambda: sums)]
    compare = functools.partial(_compare, folder, stop)
    return [
        *(pool.submit(compare, name, digest) for name, digest in sums.items()),
        pool.submit(_unlisted, folder, sums),
    ]


def _first(checks: list[Future[str | None]]) -> str | None:
    return next((problem for check in checks if (problem := check.result())), None)


def _compare(folder: str | Path, stop: threading.Event, name: str, expected: str) -> str | None:
    if stop.is_set():
        return None
    try:
        if arrays.is_remote(folder):
            digest = _remote_digest(folder, name)
        else:
            path = Path(folder) / name
            digest = _digest(path, stop) if path.is_file() else None
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    except RequestError as error:
        return str(error)
    if digest is None:
        return f"{name} is missing"
    return None if digest == expected else f"{name} is not as it was written"


def _remote_digest(folder: str | Path, name: str) -> str | None:
    pieces = arrays.read_pieces(folder, name)
    if pieces is None:
        return None
    sha256 = hashlib.sha256()
    for piece in pieces:
        sha256.update(piece)
    return sha256.hexdigest()


def _unlisted(folder: str | Path, sums: dict[str, str]) -> str | None:
    """Returns a problem if a file that would be read has no hash."""

    def counts(name: str) -> bool:
        base = name.rpartition("/")[2]
        if base.startswith(".") and not base.startswith(".z"):
            return False  # of file systems and desktops, e.g. .nfs0004, .DS_Store
        return name in _READ or ("/" in name and name.startswith(_FOLDERS))

    try:
        names = sorted(filter(counts, arrays.list_files(folder)))
    except RequestError as error:
        return str(error)
    # `run.json` is not required: earlier versions hashed only `state/`.
    return next((f"{name} has no hash in {SUMS_FILE}" for name in names if name not in sums), None)


def _folder(location: str | Path) -> str | Path:
    """Returns a checkpoint's folder; the location may be a weights file of Hugging Face."""
    if not str(location).endswith((".safetensors", ".bin")):
        return location
    if arrays.is_remote(location):
        return str(location).rpartition("/")[0]
    return Path(location).parent if Path(location).is_file() else location


# --- Identity -------------------------------------------------------------------------------------


def identity(location: str | Path) -> str:
    """Returns a digest that identifies a checkpoint, wherever it is.

    It is the digest of SHA256SUMS. Without that file, it is the digest of the sizes and of the
    first and last part of all files; of a remote checkpoint, it is the address.

    Args:
      location: from `locations.locate`.
    """
    folder, _, name = str(location).rpartition("/")
    is_file = not arrays.is_remote(location) and Path(location).is_file()
    sums = arrays.read_file(folder if is_file else location, SUMS_FILE)
    if sums is not None:
        return hashlib.sha256(sums + (name.encode() if is_file else b"")).hexdigest()
    if arrays.is_remote(location):
        return str(location)
    root = Path(location)
    whole = hashlib.sha256()
    for path in [root] if is_file else sorted(p for p in root.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            whole.update(f"{path.relative_to(root)} {size} ".encode())
            for start in {0, max(0, size - _PIECE)}:
                file.seek(start)
                whole.update(file.read(_PIECE))
    return whole.hexdigest()
