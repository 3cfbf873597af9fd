"""Configuration by gin under T5X's flag conventions.

`--gin_file=F` (many), `--gin.NAME=VALUE` (a macro, or a binding such as `--gin.Run.seed=1`),
`--gin_search_paths=A,B`. A command starts from its own defaults, `gin/runs/<command>.gin`, which
declare every macro; then come the files in order, then the bindings.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gin

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError, did_you_mean

T = TypeVar("T")
_HERE = Path(__file__).resolve().parent


def shipped_dir() -> Path:
    """Returns the folder that holds `gin/`: the package once installed, else the checkout."""
    return _HERE if (_HERE / "gin").is_dir() else _HERE.parent


def load(
    command: str, files: Sequence[str], bindings: Sequence[str], search_paths: Sequence[str] = ()
) -> str:
    """Parses a command's defaults, the user's files and bindings, and checks them.

    Args:
      command: train, eval or infer: `gin/runs/<command>.gin` has its defaults.
      files: gin files, looked for as they stand, in the search paths, and among those shipped.
      bindings: `NAME=VALUE`, as after `--gin.`.
      search_paths: folders.

    Returns:
      The whole configuration as text, the same for the same settings.

    Raises:
      RequestError: a file that is not there or not gin, an unknown name, a misspelt macro.
    """
    logging.getLogger().addFilter(_heard)
    catalogue.probes()  # imports the modules whose knobs gin may bind
    gin.clear_config()
    for folder in (*search_paths, str(shipped_dir())):
        gin.add_config_file_search_path(folder)
    with _as_request():
        gin.parse_config_file(f"gin/runs/{command}.gin")
    for file in files:
        with _as_request(file):
            gin.parse_config_file(file)
    with _as_request():
        gin.parse_config(list(bindings))
    text = gin.config_str()
    check_macros(text, "gin/runs")
    with _as_request():
        gin.finalize()
    return text


def _heard(record: logging.LogRecord) -> bool:
    """Keeps gin from logging every folder in which a file was not; it raises where none has it."""
    return not record.getMessage().startswith("Path not found: ")


def check_macros(text: str, *folders: str) -> None:
    """Checks the macros of the configuration.

    Args:
      text: the configuration, from `gin.config_str`.
      folders: shipped folders whose gin files declare macros; a task's file may set those of any
        command.

    Raises:
      RequestError: a macro that is neither declared nor used, most likely misspelt; one without the
        value that it must have.
    """
    files = [path for folder in folders for path in (shipped_dir() / folder).glob("*.gin")]
    declared = {
        name
        for path in files
        for name in re.findall(r"^([A-Z][A-Z0-9_]*) *=", path.read_text(), re.M)
    }
    for name in _macros():
        if name not in declared and not re.search(rf"%{re.escape(name)}\b", text):
            raise RequestError(
                f"unknown macro {name}{did_you_mean(name, declared)}; nothing uses it"
            )
    unset = [name for name in _macros() if str(_value(name)) == "%gin.REQUIRED"]
    if unset:
        raise RequestError(
            f"{', '.join(unset)} must be set, in a gin file or as --gin.{unset[0]}=…"
        )


def _macros() -> list[str]:
    # gin offers no public list of what has been bound.
    return [scope for scope, name in gin.config._CONFIG if name == "gin.macro"]


def _value(macro: str) -> Any:
    return gin.config._CONFIG[macro, "gin.macro"]["value"]


@contextlib.contextmanager
def _as_request(file: str | None = None) -> Iterator[None]:
    """Turns gin's errors into one sentence."""
    try:
        yield
    except OSError as error:
        name = file or "a gin file"
        reason = str(error).splitlines()[0]
        raise RequestError(f"{name} cannot be read: {reason}") from None
    except RequestError as error:
        # gin appends where in the configuration the value stands, over several lines.
        raise RequestError(str(error).splitlines()[0]) from None
    except (ValueError, SyntaxError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RequestError(f"gin configuration: {' '.join(lines)[:400]}") from None


def build(configurable: Callable[..., T]) -> T:
    """Calls a configurable with what gin has bound for it.

    Raises:
      RequestError: a value is missing or wrong.
    """
    with _as_request():
        return configurable()
