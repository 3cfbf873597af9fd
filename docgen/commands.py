"""The commands and their options, from the parser of the command line."""

import argparse
import inspect
from collections.abc import Iterator, Mapping

from docgen.markdown import block, code, prose, table
from xfer_jax.cli import main


def parsers() -> Mapping[str, argparse.ArgumentParser]:
    """Returns the parser of every command, by name."""
    for action in main._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    raise AssertionError("the command line has no commands")


def page() -> str:
    """Renders the page of all commands."""
    parts = [
        "# Commands",
        "Every command has `--help`, which prints what stands here, and `--debug`, which shows the"
        " traceback of an error.",
        table(
            ("command", "what it does"),
            (
                (f"[`{name}`](#xfer-jax-{name})", prose(parser.description or ""))
                for name, parser in parsers().items()
            ),
        ),
        "## Exit codes",
        _exit_codes(),
    ]
    for name, parser in parsers().items():
        parts += _command(name, parser)
    return "\n\n".join(parts) + "\n"


def _exit_codes() -> str:
    text = inspect.cleandoc(main.__doc__ or "")
    listed = " ".join(text.partition("Exit codes: ")[2].split()).rstrip(".")
    pairs = (part.split(" ", 1) for part in listed.split(", "))
    return table(("code", "meaning"), ((code(number), prose(what)) for number, what in pairs))


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## `xfer-jax {name}` {{ #xfer-jax-{name} }}"
    yield prose(parser.description or "")
    usage = parser.format_usage().splitlines()  # "usage: xfer-jax …", the rest below it
    yield block("\n".join(line[len("usage: ") :].rstrip() for line in usage))
    rows = [
        (_names(action), prose(_help(action)), _default(action))
        for action in parser._actions
        if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
    ]
    yield table(("argument or option", "meaning", "default"), rows)
    if parser.epilog:
        yield block(parser.epilog)


def _names(action: argparse.Action) -> str:
    """Returns what is typed: an option's names with its value, or an argument's name."""
    value = ""
    if action.nargs != 0:
        value = str(action.metavar or (action.dest.upper() if action.option_strings else ""))
        if action.choices:
            value = " \\| ".join(map(str, action.choices))
    if not action.option_strings:
        shown = str(action.metavar or action.dest)
        choices = f": {value}" if action.choices else ""
        optional = " (optional)" if action.nargs == "?" else ""
        return f"{code(shown)}{choices}{optional}"
    names = ", ".join(map(code, action.option_strings))
    return f"{names} {value}".rstrip()


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": "xfer-jax"}


def _default(action: argparse.Action) -> str:
    if action.required and action.option_strings:
        return "required"
    if action.nargs == 0 or action.default in (None, "", []):
        return ""
    return code(str(action.default))
