"""Asks the kernel for memory in large pages, and gives back what a compilation leaves behind."""

import ctypes
import os
import platform
import sys
from pathlib import Path

SETTINGS = "GLIBC_TUNABLES"  # of glibc, from 2.35 on; read when a process starts
LARGE_PAGES = "glibc.malloc.hugetlb=1"
_KERNEL_S = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_large_pages() -> None:
    """Starts this program anew with the settings of `large_pages`; if it has them, returns.

    The process, its number and its arguments stay the same.
    """
    settings = large_pages()
    if settings:
        os.environ.update(settings)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def large_pages() -> dict[str, str]:
    """Returns what a process's environment lacks so that glibc asks for large pages.

    XLA's CPU backend allocates its buffers anew every step, and the kernel maps and zeroes their
    pages again, 4 KiB at a time: a quarter of the time of a step, be the model small or large.
    """
    on_request = _KERNEL_S.is_file() and "[madvise]" in _KERNEL_S.read_text()
    if not on_request or platform.libc_ver()[0] != "glibc" or SETTINGS in os.environ:
        return {}
    return {SETTINGS: LARGE_PAGES}


def give_back() -> None:
    """Hands memory that was freed back to the kernel: a compilation leaves a third of a GiB."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
