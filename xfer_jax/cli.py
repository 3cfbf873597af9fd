"""The command line, `xfer-jax COMMAND`. Imports what a command needs, when it needs it.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from seqio_tasks.errors import RequestError

_GIN_HELP = """
Configuration (T5X's conventions):
  --gin_file=FILE          a gin file, many allowed; later ones win
  --gin.NAME=VALUE         sets a macro or a binding, e.g. --gin.SOURCE="'en'"
  --gin_search_paths=A,B   folders in which gin files are looked for
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xfer-jax",
        description="Measures how mT5 carries knowledge from one language to another, and says why.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, **kwargs) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=summary, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs,
        )
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        return command

    command = add("tasks", "List the tasks: languages, splits and where their data comes from.")
    command.add_argument("name", nargs="?", default="", help="show those whose name contains this")
    command.add_argument("--sizes", action="store_true", help="count examples in the data folder")

    command = add("vocab", "Train a SentencePiece vocabulary, with sentinels, from tasks' text.")
    command.add_argument("--tasks", required=True, help="names joined by commas, e.g. xfer_panx.all_langs")
    command.add_argument("--size", type=int, required=True, help="pieces, the 100 sentinels included")
    command.add_argument("--out", required=True, help="file to write, e.g. panx.model")
    command.add_argument("--split", default="train", help="split to read (default: train)")

    for name, summary in (
        ("train", "Pre-train or fine-tune, then score on the targets."),
        ("eval", "Score a checkpoint on its targets."),
        ("infer", "Write a checkpoint's predictions, or the scores it gives to the targets."),
    ):
        command = add(name, summary, epilog=_GIN_HELP)
        command.add_argument("--gin_file", action="append", default=[], help=argparse.SUPPRESS)
        command.add_argument("--gin_search_paths", default="", help=argparse.SUPPRESS)
    return parser


def _configure(command: str, args: argparse.Namespace, bindings: list[str]) -> str:
    from xfer_jax import configuration

    paths = [path for path in args.gin_search_paths.split(",") if path]
    return configuration.load(command, args.gin_file, bindings, paths)


def _train(args: argparse.Namespace, bindings: list[str]) -> None:
    from xfer_jax import configuration, train

    text = _configure("train", args, bindings)
    with configuration.reading():
        run = train.Run()
    train.train(run, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    bindings = [a.removeprefix("--gin.") for a in argv if a.startswith("--gin.")]
    args = _parser().parse_args([a for a in argv if not a.startswith("--gin.")])
    try:
        {"train": _train}[args.command](args, bindings)
    except RequestError as error:
        if args.debug:
            traceback.print_exc()
        print(f"xfer-jax: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
