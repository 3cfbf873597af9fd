"""Configuration by gin under T5X's flag conventions.

`--gin_file=F` (many), `--gin.NAME=VALUE` (a macro, or a binding such as `--gin.Run.seed=1`),
`--gin_search_paths=A,B`. A command starts from its own defaults, `gin/runs/<command>.gin`, which
declare every macro; then come the files in order, then the bindings.

gin files come from strangers too. So a file is read before gin parses it: it may import nothing but
modules that the user has named by `--import`, or that an installed package names as an entry point
of the group `xfer_jax.tasks`.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import io
import logging
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gin
from gin import config_parser

import seqio_tasks.vocabulary  # noqa: F401 - gin may bind the knobs of all that it imports
from seqio_tasks import files
from seqio_tasks.errors import RequestError, did_you_mean

T = TypeVar("T")
_HERE = Path(__file__).resolve().parent
ENTRY_POINTS = "xfer_jax.tasks"  # group of entry points that name modules with tasks
_BARE = re.compile(r"([\w./]+)\s*=\s*([A-Za-z][\w./-]*)\s*")  # NAME=value without quotes
_SHOWN = 400  # characters of what gin says
_GIN_RAISES = (
    ValueError, SyntaxError, TypeError, AttributeError, LookupError, ImportError,
    tokenize.TokenError,
)  # fmt: skip


def shipped_dir() -> Path:
    """Returns the folder that holds `gin/`: the package once installed, else the checkout."""
    return _HERE if (_HERE / "gin").is_dir() else _HERE.parent


def load(
    command: str,
    gin_files: Sequence[str],
    bindings: Sequence[str],
    search_paths: Sequence[str] = (),
    imports: Sequence[str] = (),
) -> str:
    """Parses a command's defaults, the user's files and bindings, and checks them.

    Args:
      command: train, eval or infer: `gin/runs/<command>.gin` has its defaults.
      gin_files: looked for as they stand, in the search paths, and among those shipped.
      bindings: `NAME=VALUE`, as after `--gin.`.
      search_paths: folders.
      imports: modules that gin files may import; they are imported first.

    Returns:
      The whole configuration as text, the same for the same settings.

    Raises:
      RequestError: a file that is not there or not gin, an import that is not allowed, an unknown
        name, a misspelt macro.
    """
    logging.getLogger().addFilter(_heard)
    allowed = _import_allowed(imports)
    places = [*search_paths, str(shipped_dir())]
    for file in gin_files:
        _check_file(file, places, allowed, ())
    for binding in bindings:
        _check_binding(binding)
    gin.clear_config()
    gin.config._LOCATION_PREFIXES[:] = ["", *places]  # gin itself only ever adds to them
    with _as_request():
        gin.parse_config_file(f"gin/runs/{command}.gin")
    for file in gin_files:
        with _as_request(file):
            gin.parse_config_file(file)
    with _as_request():
        gin.parse_config(list(bindings))
        text = gin.config_str()
    check_macros(text, "gin/runs")
    _check_fields()
    with _as_request():
        gin.finalize()
    return text


# --- Before gin parses anything -------------------------------------------------------------------


def _import_allowed(imports: Sequence[str]) -> frozenset[str]:
    """Imports the modules that the user has named, and returns all that gin files may import.

    Raises:
      RequestError: a module that cannot be imported.
    """
    installed = (point.module for point in importlib.metadata.entry_points(group=ENTRY_POINTS))
    for module in imports:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError, TypeError) as error:
            raise RequestError(
                f"--import {module}: the module cannot be imported ({error}); install it, or put"
                " its folder on PYTHONPATH"
            ) from None
    return frozenset([*imports, *installed])


class _Names(config_parser.ParserDelegate):
    """Takes references and macros in a gin file as they stand, without looking them up."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> Any:
        return scoped_name

    def macro(self, scoped_name: str) -> Any:
        return scoped_name


def _check_file(
    file: str, places: Sequence[str], allowed: frozenset[str], within: tuple[Path, ...]
) -> None:
    """Reads a gin file and those that it includes.

    Args:
      file: as the user or another file names it.
      places: folders in which it is looked for.
      allowed: modules that it may import.
      within: the files that include it, the outermost first.

    Raises:
      RequestError: it is not there, is no gin, includes itself, or imports what is not allowed.
    """
    path = _find(file, places, within)
    if path in within:
        circle = " includes ".join(str(p) for p in (*within[within.index(path) :], path))
        raise RequestError(f"gin files include each other in a circle: {circle}")
    if len(within) > 20:
        raise RequestError(f"{path}: gin files include each other more than 20 deep")
    for kind, name, line in _statements(path, path.stat().st_mtime_ns):
        where = f"{path}, line {line}"
        if kind == "include":
            _check_file(name, places, allowed, (*within, path))
        elif kind == "import" and not any(
            name == module or name.startswith(f"{module}.") for module in allowed
        ):
            raise RequestError(
                f"{where}: the file imports {name}, which can run any code; if you trust it, allow"
                f" it by --import {name}"
            )
        elif kind == "dynamic registration":
            raise RequestError(
                f"{where}: dynamic_registration lets a gin file call any function, and is refused;"
                " decorate your functions with @gin.configurable, and name their module by --import"
            )


def _find(file: str, places: Sequence[str], within: tuple[Path, ...]) -> Path:
    looked = [files.absolute(file)]
    if not Path(file).is_absolute():
        looked += [files.absolute(Path(place, file)) for place in places]
    for path in looked:
        if path.is_file():
            return path
    includer = f", which {within[-1]} includes" if within else ""
    folders = ", ".join(dict.fromkeys(str(path.parent) for path in looked))
    near = did_you_mean(file, shipped_files())
    raise RequestError(
        f"there is no gin file {file}{near}{includer}; it was looked for in {folders}"
    )


def shipped_files() -> list[str]:
    """Returns the names of the gin files that come with the package."""
    root = shipped_dir()
    return sorted(str(path.relative_to(root)) for path in (root / "gin").rglob("*.gin"))


def digest(file: str, search_paths: Sequence[str] = ()) -> str:
    """Returns a digest of a gin file's text and of those that it includes.

    Raises:
      RequestError: one is not there, or is no gin.
    """
    places = [*search_paths, str(shipped_dir())]
    path = _find(file, places, ())
    changed = path.stat().st_mtime_ns
    of_all = [_text_digest(path, changed)]
    for kind, name, _ in _statements(path, changed):
        if kind == "include":
            of_all.append(digest(name, search_paths))
    return hashlib.sha256("".join(of_all).encode()).hexdigest()


@functools.lru_cache(maxsize=256)
def _text_digest(path: Path, changed: int) -> str:
    del changed
    return hashlib.sha256(files.read_bytes(path)).hexdigest()


@functools.lru_cache(maxsize=256)
def _statements(path: Path, changed: int) -> list[tuple[str, str, int]]:
    """Returns what a gin file imports and includes: kind, name, line.

    Args:
      path: of the file.
      changed: when, so that a changed file is read again.
    """
    del changed
    text = files.read_text(path)
    found = []
    try:
        for statement in config_parser.ConfigParser(io.StringIO(text), _Names()):
            line = statement.location.line_num
            if isinstance(statement, config_parser.IncludeStatement):
                found.append(("include", statement.filename, line))
            elif isinstance(statement, config_parser.ImportStatement):
                dynamic = statement.module.startswith("__gin__")
                kind = "dynamic registration" if dynamic else "import"
                found.append((kind, statement.module, line))
    except SyntaxError as error:
        raise RequestError(_syntax(error, text, str(path))) from None
    except (
        ValueError,
        RecursionError,
        tokenize.TokenError,
    ) as error:  # tokens that Python does not know; brackets
        raise RequestError(f"{path} is no gin file: {_said(error)}") from None
    return found


def _check_binding(binding: str) -> None:
    """Raises RequestError unless a text is one binding, `NAME=VALUE`."""
    name = " ".join(binding.partition("=")[0].split())[:80]
    bare = _BARE.fullmatch(binding)
    if bare and bare[2] not in ("True", "False", "None"):
        raise RequestError(
            f"--gin.{name}={bare[2]}: text needs quotation marks inside those of the shell:"
            f" --gin.{name}=\"'{bare[2]}'\""
        )
    try:
        found = list(config_parser.ConfigParser(io.StringIO(binding), _Names()))
    except SyntaxError as error:
        raise RequestError(_syntax(error, binding, f"--gin.{name}")) from None
    except (ValueError, RecursionError, tokenize.TokenError) as error:
        raise RequestError(f"--gin.{name}: {_said(error)}") from None
    if len(found) != 1 or not isinstance(found[0], config_parser.BindingStatement):
        raise RequestError(f"--gin.{' '.join(binding.split())[:80]}: expected one NAME=VALUE")


def _syntax(error: SyntaxError, text: str, where: str) -> str:
    """Says where gin cannot read a text, and how text is written where a bare word stands."""
    lines = text.splitlines()
    line = lines[error.lineno - 1].strip() if error.lineno and error.lineno <= len(lines) else ""
    at = f", line {error.lineno}" if error.lineno and len(lines) > 1 else ""
    bare = _BARE.fullmatch(line)
    if bare:
        return f"{where}{at}: text needs quotation marks: {bare[1]} = '{bare[2]}'"
    shown = f": {line[:80]!r}" if line else ""
    return f"{where}{at}: this is no gin ({_said(error)}){shown}"


def _said(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error)
    if isinstance(error, (SyntaxError, tokenize.TokenError)):
        text = str(error.args[0])
    if "EOF in multi-line" in text:
        return "a bracket or a quotation mark is never closed"
    return " ".join((text or type(error).__name__).split())[:_SHOWN]


# --- gin's own parsing ----------------------------------------------------------------------------


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
    shipped = [path for folder in folders for path in (shipped_dir() / folder).glob("*.gin")]
    declared = {
        name
        for path in shipped
        for name in re.findall(r"^([A-Z][A-Z0-9_]*) *=", files.read_text(path), re.M)
    }
    for name in _macros():
        if name not in declared and not re.search(rf"%{re.escape(name)}\b", text):
            raise RequestError(
                f"unknown macro {name}{did_you_mean(name, declared)}; nothing uses it"
            )
    for name in _macros():
        _follow(name)
    unset = [name for name in _macros() if str(_value(name)) == "%gin.REQUIRED"]
    if unset:
        raise RequestError(
            f"{', '.join(unset)} must be set, in a gin file or as --gin.{unset[0]}=…"
        )


def _follow(macro: str) -> None:
    """Raises RequestError if a macro's value is, by way of others perhaps, the macro itself."""
    seen = [macro]
    while (following := str(_value(seen[-1])).removeprefix("%")) in _macros():
        if following in seen:
            raise RequestError(
                f"the macro {following} refers to itself: {' = %'.join([*seen, following])}"
            )
        seen.append(following)


def _check_fields() -> None:
    """Raises RequestError if a setting is bound that its class does not have."""
    for (_, selector), bound in gin.config._CONFIG.items():
        made = gin.config._REGISTRY[selector].wrapped
        fields: Mapping[str, Any] = getattr(made, "__dataclass_fields__", {})
        for field in bound if fields else ():
            if field not in fields:
                name = ".".join(selector.split(".")[-2:])
                raise RequestError(
                    f"there is no setting {name}.{field}{did_you_mean(field, fields)}"
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
    except RecursionError:
        raise RequestError(
            "the configuration never ends: a macro's value refers to the macro itself"
        ) from None
    except _GIN_RAISES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RequestError(f"gin configuration: {' '.join(lines)[:_SHOWN]}") from None


def build(configurable: Callable[..., T]) -> T:
    """Calls a configurable with what gin has bound for it.

    Raises:
      RequestError: a value is missing or wrong.
    """
    with _as_request():
        return configurable()
