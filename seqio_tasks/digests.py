"""SHA-256 of files that are opened again and again, read once a process."""

import functools
from pathlib import Path

from seqio_tasks import sources


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file; one that was not written since is not read again.

    Raises:
      OSError: it cannot be read.
    """
    status = path.stat()
    return _digest(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 14)
def _digest(path: Path, *identity: int) -> str:
    del identity  # of the content that was read
    return sources.file_digest(path)
