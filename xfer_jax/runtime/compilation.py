"""Compiled programs are kept on disk, so that a later process need not compile them again."""

import hashlib
import platform
import zlib
from pathlib import Path
from typing import Any

import jax
from jax._src import compilation_cache

from seqio_tasks import data_files, files
from xfer_jax.runtime import progress

_LEAST_SECONDS = 0.3  # a program that compiles faster is not kept
_CHECKED = ".checked"  # its time: when all files were found whole


def keep_programs() -> None:
    """Has JAX keep its programs in the cache folder, unless the user has named another to JAX.

    Raises:
      RequestError: there is no such folder and it cannot be made.
    """
    _pack_with_checksums()
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        folder = data_files.cache_dir() / "programs" / _processor()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            doing = f"the cache folder {folder} cannot be made (XFER_CACHE_DIR names another)"
            raise files.refusal(error, doing) from None
        try:
            remove_damaged(folder)
        except OSError as error:
            progress.say(f"compiled programs are not kept in {folder}: {error.strerror}")
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _pack_with_checksums() -> None:
    """Has JAX pack programs with zlib, whose checksum is compared whenever one is read.

    Where zstd is installed JAX prefers it, without a checksum: a flipped bit would then be run. JAX
    has no setting for this.
    """
    cache: Any = compilation_cache
    cache.zstd = cache.zstandard = None


def _processor() -> str:
    """Returns a digest of the kind of processor: programs for one may hold what another lacks.

    JAX's own key knows only that it is a CPU, and machines of several kinds may share a home.
    """
    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    text = "\n".join([platform.machine(), platform.processor(), *sorted(told)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def remove_damaged(folder: Path) -> None:
    """Removes programs that a killed process left half-written: JAX writes them in place.

    Args:
      folder: of JAX's persistent compilation cache. Files that an earlier call found whole are not
        read again.
    """
    stamp = folder / _CHECKED
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    stamp.touch()
    for path in folder.glob("*-cache"):
        if path.stat().st_mtime >= since and not _is_whole(path.read_bytes()):
            path.unlink(missing_ok=True)


def _is_whole(program: bytes) -> bool:
    """Whether a file can be unpacked, see `_pack_with_checksums`."""
    try:
        zlib.decompress(program)
    except zlib.error:
        return False
    return True
