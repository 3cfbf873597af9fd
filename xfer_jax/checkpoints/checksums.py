"""SHA256SUMS: the hashes of a checkpoint's files, compared whenever the checkpoint is read.

The file has the format of `sha256sum --check`. It lists every file of the checkpoint but itself.
Its own damage is seen because it must be exactly as it is written here, and because each file that
it lists must exist. Checkpoints of other tools have no such file and are read as they are.
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
_READ = ("config.json", "model.safetensors", "checkpoint")  # files that a reader would look for
_FOLDERS = ("state/", "state.", "target.")  # how the names begin of all files that hold arrays


# --- Writing --------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    """Writes the hashes of all files of a new checkpoint, and waits until all is on the disk.

    A loss of power after the checkpoint has got its name then leaves no empty files.

    Args:
      folder: the checkpoint before it has its name.

    Raises:
      OSError: the disk is full or fails.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        digests = list(pool.map(functools.partial(_digest, settle=True), found))
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
        settle(path)


def settle(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path, stop: threading.Event | None = None, settle: bool = False) -> str:
    sha256, piece = hashlib.sha256(), bytearray(_PIECE)
    view = memoryview(piece)
    with path.open("rb", buffering=0) as file:
        while (count := file.readinto(piece)) and not (stop and stop.is_set()):
            sha256.update(view[:count])
        if settle:
            os.fsync(file.fileno())
    return sha256.hexdigest()


# --- Comparing ------------------------------------------------------------------------------------


@contextlib.contextmanager
def verified(location: str | Path) -> Iterator[Callable[[], None]]:
    """Hashes a checkpoint's files while the body reads them; without SHA256SUMS does nothing.

    If the files are damaged, that is raised in place of any error of the body, and when the body
    ends. What the body has read must not be used before.

    Args:
      location: a checkpoint of any form, local or gs://.

    Yields:
      A function that waits for the hashes, for a body that must know before its end.

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
                    f"{location} is damaged: {problem}; take another copy of it, or remove"
                    f" {SUMS_FILE} if the change was meant"
                ) from None

        try:
            yield finish
            finish()
        except Exception:
            finish()  # what was damaged can fail in any way
            raise
        finally:
            stop.set()


def damage(location: str | Path) -> str | None:
    """Compares a checkpoint's files with the hashes that it was saved with.

    Returns:
      What is wrong; None if nothing is, or if the checkpoint came without hashes.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            return _first(_checks(location, pool, stop))
        finally:
            stop.set()


def has(location: str | Path) -> bool:
    """Whether a checkpoint came with hashes."""
    return arrays.exists(_folder(location), SUMS_FILE)


def check_content(location: str | Path, name: str, content: bytes) -> None:
    """Compares one file that has been read.

    Raises:
      RequestError: it is not as it was written.
    """
    sums = _read(location)
    if isinstance(sums, str):
        raise RequestError(f"{location} is damaged: {sums}")
    if sums and sums.get(name, "") not in ("", hashlib.sha256(content).hexdigest()):
        raise RequestError(f"{location} is damaged: {name} is not as it was written")


def _read(location: str | Path) -> dict[str, str] | str | None:
    """Returns the hashes by file, or what is wrong with SHA256SUMS, or None if there is none."""
    folder = _folder(location)
    if not arrays.is_remote(folder):
        path = Path(folder) / SUMS_FILE
        if os.path.lexists(path) and not path.is_file():
            return f"{SUMS_FILE} is no file"
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
    """Starts to compare every file; each result says what is wrong, or None."""
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
    """Returns that a file is there which would be read although it has no hash."""

    def counts(name: str) -> bool:
        base = name.rpartition("/")[2]
        if base.startswith(".") and not base.startswith(".z"):
            return False  # what file systems and desktops leave, e.g. .nfs0004, .DS_Store
        return name in _READ or ("/" in name and name.startswith(_FOLDERS))

    try:
        names = sorted(filter(counts, arrays.list_files(folder)))
    except RequestError as error:
        return str(error)
    # `run.json` is not asked for: earlier versions gave hashes to `state/` alone.
    return next((f"{name} has no hash in {SUMS_FILE}" for name in names if name not in sums), None)


def _folder(location: str | Path) -> str | Path:
    """Returns a checkpoint's folder; of Hugging Face's, a file of weights may stand for it."""
    if not str(location).endswith((".safetensors", ".bin")):
        return location
    if arrays.is_remote(location):
        return str(location).rpartition("/")[0]
    return Path(location).parent if Path(location).is_file() else location


# --- What tells a checkpoint from others ----------------------------------------------------------


def identity(location: str | Path) -> str:
    """Returns a digest that tells a checkpoint from others, wherever it is.

    It is that of the checkpoint's list of hashes; where there is no such list, of the sizes and the
    first and last part of its files; of an address without a list, the address.

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
