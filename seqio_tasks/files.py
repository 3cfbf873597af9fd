"""Reads files, and writes files atomically.

Only this module makes paths absolute, reads text and JSON, and names temporary files. All text is
UTF-8, whatever the locale is.
"""

import errno
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqio_tasks.errors import RequestError, RunError

_UNFINISHED = ".new"  # how the names of temporary files end
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def absolute(path: str | os.PathLike[str], name: str = "a path") -> Path:
    """Returns a local path as an absolute path, with `~` expanded and without `..`.

    Follows links only if the path contains `..`, so that a path in a script stays the path that the
    user knows.

    Args:
      path: the path as the user wrote it.
      name: the user's name for it, for the error message.

    Raises:
      RequestError: the path is empty, not text, or invalid.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path).strip():
        raise RequestError(f"{name} must be text that is not empty, not {path!r:.80}")
    if "\0" in str(path):
        raise RequestError(f"{name} must not contain a NUL character: {str(path)!r:.80}")
    try:
        found = Path(path).expanduser()
        return Path(os.path.realpath(found) if ".." in found.parts else found.absolute())
    except (OSError, RuntimeError, ValueError) as error:  # an unknown ~user, a lost current folder
        raise RequestError(f"the path {str(path)!r} cannot be used: {error}") from None


def refusal(error: OSError, doing: str) -> RequestError | RunError:
    """Returns the error to raise for a file that cannot be read or written.

    Args:
      error: the error of the operating system.
      doing: what failed, e.g. 'out/scores.csv cannot be written'.

    Returns:
      RunError if the disk or the machine is at its limit, so that the same command can succeed
      later; RequestError if the request cannot work.
    """
    reason = error.strerror or str(error)
    if error.errno in _DISK:
        return RunError(f"{doing}: {reason}; make room, and run the same command again")
    return RequestError(f"{doing}: {reason}")


# --- Reading --------------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """Reads a file.

    Raises:
      RequestError: the file is missing, is a folder, or must not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise refusal(error, f"{path} cannot be read") from None


def read_text(path: Path) -> str:
    """Reads a file as UTF-8, with or without a byte order mark; does not change line ends.

    Raises:
      RequestError: see `read_bytes`; or the file is not UTF-8, or contains NUL characters.
    """
    content = read_bytes(path)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RequestError(f"{path} is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RequestError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise RequestError(f"{path}, line {line}: a NUL character; this is not a text file")
    return text


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      RequestError: see `read_text`; or the file is not JSON.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str | bytes, where: str, unique_keys: bool = False) -> Any:
    """Parses JSON.

    Args:
      text: UTF-8.
      where: the file, or the file and the line, for the error message.
      unique_keys: whether to refuse an object with a repeated key; otherwise the last value counts.

    Raises:
      RequestError: the text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique if unique_keys else None)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if error.lineno > 1 else ""
        raise RequestError(f"{where}{line}: not JSON ({error.msg})") from None
    except RecursionError:
        raise RequestError(f"{where}: this JSON is nested too deeply") from None
    except ValueError as error:  # not UTF-8; a number of thousands of digits
        raise RequestError(f"{where}: not JSON ({str(error).partition(';')[0]})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} occurs twice in one object")
    return found


# --- Writing --------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> Path:
    """Writes a file atomically, and creates its folder if it is missing.

    Returns:
      `path`.

    Raises:
      RequestError: the file cannot be written.
      RunError: the disk is full or fails.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = _staged(path, content)
        try:
            staged.replace(path)
        except OSError:
            staged.unlink()
            raise
    except OSError as error:
        raise refusal(error, f"{path} cannot be written") from None
    return path


def write_all(
    folder: Path, contents: Mapping[str, str | bytes], last: str, remove: Iterable[str] = ()
) -> None:
    """Writes several files that belong together: a reader finds all new files, or no file `last`.

    First writes all files under temporary names: if that fails, the old files stay unchanged.

    Args:
      folder: created if it is missing.
      contents: contents by file name.
      last: the file of `contents` that marks the others as complete. It is removed before the first
        of them is replaced, and is written after all others.
      remove: names of old files that do not belong to the new ones.

    Raises:
      RequestError: the files cannot be written.
      RunError: the disk is full or fails.
    """
    staged: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            staged[folder / name] = _staged(folder / name, content)
        (folder / last).unlink(missing_ok=True)
        for name in remove:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(staged, key=lambda path: path.name == last):
            staged[path].replace(path)
    except OSError as error:
        raise refusal(error, f"{folder} cannot be written") from None
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def _staged(path: Path, content: str | bytes) -> Path:
    """Writes a new file in the folder of `path`, with an unpredictable name, and returns it."""
    # A lone surrogate, which JSON can contain, is not valid text: write its escape sequence.
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}{_UNFINISHED}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def tidy(folder: Path, name: str = "") -> None:
    """Removes the temporary files of killed writers from a folder.

    Args:
      folder: no other process may be writing these files now.
      name: the file that they were writing, if other processes write other files there.
    """
    for leftover in folder.glob(f".{name}*{_UNFINISHED}"):
        if leftover.is_file() and not leftover.is_symlink():
            leftover.unlink(missing_ok=True)
