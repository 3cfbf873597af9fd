"""What the commands' parsers have in common."""

import argparse
from collections.abc import Callable
from typing import Any

from seqio_tasks import files

GIN_HELP = """\
configuration, by T5X's conventions (later ones win):
  --gin_file=FILE          a gin file; many allowed
  --gin.NAME=VALUE         sets a macro or a binding, e.g. --gin.SOURCE="'en'"
  --gin_search_paths=A,B   folders in which gin files are looked for
  --import=MODULE          a module that gin files may import; many allowed

gin/runs/{command}.gin lists every macro with its default.
"""


def add_command(
    commands: Any,
    name: str,
    summary: str,
    handler: Callable[[argparse.Namespace, list[str]], None],
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """Adds a command to the parser.

    Args:
      commands: what `add_subparsers` returned.
      name: of the command.
      summary: one sentence.
      handler: does the command, given its arguments and the bindings of gin.
      epilog: text after the options.
    """
    command = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--debug", action="store_true", help="show tracebacks of wrong requests")
    command.set_defaults(handler=handler)
    return command


def add_gin(command: argparse.ArgumentParser, files: bool = True) -> None:
    """Adds the options of gin, which `GIN_HELP` explains.

    Args:
      command: whose options they are.
      files: whether it takes `--gin_file`.
    """
    if files:
        command.add_argument("--gin_file", action="append", default=[], help=argparse.SUPPRESS)
    command.add_argument("--gin_search_paths", default="", help=argparse.SUPPRESS)
    command.add_argument(
        "--import", dest="imports", action="append", default=[], help=argparse.SUPPRESS
    )


def search_paths(args: argparse.Namespace) -> list[str]:
    """Returns the folders in which gin files are looked for."""
    return [str(files.absolute(path)) for path in args.gin_search_paths.split(",") if path]
