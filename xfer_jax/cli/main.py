"""The command line, `xfer-jax COMMAND`. Imports what a command needs, when it needs it.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 3 other work must be done first, 130
interrupted, 141 nobody reads the output, 143 preempted.
"""

import argparse
import sys
from collections.abc import Sequence

from xfer_jax.cli import exit_codes, runs, studies, tables, tasks
from xfer_jax.runtime import host_memory

# commands that run the engine
_COMPUTING = ("train", "eval", "infer", "probe", "retrieve", "study")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xfer-jax",
        description="Measures how mT5 carries knowledge from one language to another, and why.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (tasks, runs, studies, tables):
        group.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments, by default the process's.

    Returns:
      The exit code.
    """
    as_program = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    bindings = [arg.removeprefix("--gin.") for arg in argv if arg.startswith("--gin.")]
    args = _parser().parse_args([arg for arg in argv if not arg.startswith("--gin.")])
    if as_program:
        for stream in (sys.stdout, sys.stderr):  # no locale makes printing a name fail
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if as_program and args.command in _COMPUTING:
        host_memory.restart_with_large_pages()
    return exit_codes.report(lambda: args.handler(args, bindings), args.debug)
