"""An advisory lock on a folder: one living process owns it, and its children while they live."""

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from seqio_tasks import files
from seqio_tasks.errors import RequestError

FILE = ".lock"  # in the folder; its text says who took the lock last
_WAIT_SECONDS = 1.0  # for those who only look whether the lock is held
_ORPHAN_SECONDS = 10.0  # for children whose parent was killed: they end by themselves


@contextlib.contextmanager
def owned(folder: Path, what: str) -> Iterator[int]:
    """Holds the lock on a folder.

    Args:
      folder: made where it is missing.
      what: is in it, for the error: 'the study'.

    Yields:
      The lock's file descriptor. A process that inherits it holds the lock too.

    Raises:
      RequestError: another living process holds it; says which, and since when.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise files.refusal(error, f"{what}'s folder {folder} cannot be written") from None
    try:
        if not _taken(descriptor, folder):
            raise RequestError(
                f"{what} in {folder} is being run by {_said(descriptor)}; wait until it ends, or"
                " end it"
            )
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        os.truncate(descriptor, 0)
        os.pwrite(
            descriptor, f"process {os.getpid()} on {platform.node()} since {since}".encode(), 0
        )
        yield descriptor
    finally:
        os.close(descriptor)


def owner(folder: Path) -> str | None:
    """Returns which process holds a folder's lock; None if none does."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _said(descriptor)
    finally:
        os.close(descriptor)
    return None


def said(folder: Path) -> str:
    """Returns the text of a folder's lock: who took it last; empty where nobody ever did."""
    file = folder / FILE
    return file.read_text("utf-8", errors="replace") if file.is_file() else ""


def _said(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"


def _taken(descriptor: int, folder: Path) -> bool:
    """Takes the lock; where the one who took it last is dead, waits a while for its children."""
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            limit = _WAIT_SECONDS if _is_alive(_said(descriptor)) else _ORPHAN_SECONDS
            if time.monotonic() - began > limit:
                return False
            time.sleep(0.05)
        except OSError as error:
            raise RequestError(
                f"{folder} is on a file system without advisory locks ({error.strerror}); put it on"
                " one that has them"
            ) from None


def _is_alive(said: str) -> bool:
    words = said.split()
    if len(words) < 2 or not words[1].isdecimal():
        return True
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as somebody else
        return True
    return True
