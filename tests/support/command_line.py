"""The command line, here or in a process of its own, and what it says."""

import contextlib
import io
import os
import socket
import subprocess
import sys

from xfer_jax.cli import main as cli


def run(arguments: list[str]) -> tuple[int, str, str]:
    """Runs the command line here; returns its exit code, output and errors."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = cli.main(arguments)
    return code, out.getvalue(), err.getvalue()


def start(
    *arguments: str, shell: str = "", text: bool = True, **environment: str
) -> subprocess.CompletedProcess:
    """Runs the command line in a process of its own; `shell` comes after it."""
    command = [sys.executable, "-m", "xfer_jax.cli", *arguments]
    if shell:
        command = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", *command]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=text, check=False
    )


def one_line(capsys) -> str:
    """Returns the one line on standard error."""
    err = capsys.readouterr().err
    assert err.startswith("xfer-jax: "), err
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
