"""A program restarts itself once, as the same process, where that brings large pages."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, pathlib, sys
from xfer_jax.runtime import host_memory
host_memory._KERNEL_S = pathlib.Path(sys.argv[1])
print(os.getpid(), sys.argv[2:])
host_memory.restart_with_large_pages()
print("running with", os.environ.get("GLIBC_TUNABLES"))
"""


def run(tmp_path: Path, kernel: str, **environment: str) -> list[str]:
    setting = tmp_path / "enabled"
    setting.write_text(kernel)
    inherited = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(setting), "an argument", "--another"],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_it_restarts_once_as_the_same_process_with_the_same_arguments(tmp_path):
    first, second, last = run(tmp_path, "always [madvise] never\n")
    assert first == second
    assert first.endswith("['an argument', '--another']")
    assert last == "running with glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("kernel", ["[always] madvise never\n", "always madvise [never]\n"])
def test_it_does_not_where_nothing_is_to_be_won(tmp_path, kernel):
    _, last = run(tmp_path, kernel)
    assert last == "running with None"


def test_what_the_user_set_stands(tmp_path):
    own = "glibc.malloc.arena_max=2"
    _, last = run(tmp_path, "always [madvise] never\n", GLIBC_TUNABLES=own)
    assert last == f"running with {own}"
