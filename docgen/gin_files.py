"""What gin files set: the macros of a run, the settings of a study; and the files that ship."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docgen.markdown import block, code, prose, table
from xfer_jax import configuration
from xfer_jax.study import definition

_ROOT = configuration.shipped_dir() / "gin"
_MACRO = re.compile(r"(?P<name>[A-Z][A-Z0-9_]*) *= *(?P<value>.*)")
_COMMANDS = ("common", "train", "eval", "infer", "probe", "retrieve", "from_scratch")


# What the names of types say to a reader; others stay as they are.
_KINDS = {
    "FileName": "name",
    "TaskName": "name",
    "Line": "text",
    "Lines": "tuple[text]",
    "Count": "number from 1",
    "CountFromZero": "number from 0",
    "Number": "number from 0",
    "Seed": "number from 0",
    "Sequence": "tuple",
    "Literal": "one of ",
    "bool": "True or False",
}


class Macro(NamedTuple):
    """A macro of a gin file."""

    name: str
    default: str
    note: str  # the comment beside it, or above it


def files(folder: str) -> list[Path]:
    """Returns the shipped files of a folder of `gin/`."""
    return sorted((_ROOT / folder).glob("*.gin"))


def macros(path: Path) -> list[Macro]:
    """Returns the macros that a gin file sets, in its order."""
    found: list[Macro] = []
    above: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        match = _MACRO.fullmatch(line)
        if match:
            value, _, note = _split_comment(match["value"])
            found.append(Macro(match["name"], value, note or " ".join(above)))
        above = [*above, line[1:].strip()] if line.startswith("# ") else []
    return found


def _split_comment(text: str) -> tuple[str, str, str]:
    """Parts a value from the comment after it: two spaces or more stand before its sign."""
    value, mark, note = re.match(r"(.*?)(?:\s+(#)\s*(.*))?$", text).groups()  # type: ignore[union-attr]
    return value, mark or "", note or ""


def first_words(path: Path) -> str:
    """Returns the first sentence of the comment at the head of a file."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#") or not line.strip("# "):
            break
        lines.append(line.strip("# "))
    text = " ".join(lines)
    return re.split(r"(?<=[.]) (?=[A-Z])", text)[0]


def page() -> str:
    """Renders the page of macros: which commands have which, and their defaults."""
    parts = [
        "# Macros and their defaults",
        "A command begins with its own file of `gin/runs`, which lists every macro that may be set."
        " A gin file or `--gin.NAME=VALUE` sets another value. `REQUIRED` has no default. Text"
        """ needs two pairs of quotation marks on a command line: `--gin.SOURCE="'en'"`.""",
        "Values on this page are those of the files that ship with this version.",
    ]
    for path in sorted(files("runs"), key=lambda path: _order(path.stem)):
        rows = [
            (code(m.name), code(m.default.replace("%gin.REQUIRED", "REQUIRED")), prose(m.note))
            for m in macros(path)
        ]
        if rows:
            parts += [
                f"## {_title(path)}",
                _include(path),
                table(("macro", "default", "note"), rows),
            ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _order(stem: str) -> tuple[int, str]:
    return (_COMMANDS.index(stem) if stem in _COMMANDS else len(_COMMANDS), stem)


def _title(path: Path) -> str:
    return f"`gin/runs/{path.name}`"


def _include(path: Path) -> str:
    text = path.read_text("utf-8")
    if "include 'gin/runs/common.gin'" in text:
        return "Besides all macros of `gin/runs/common.gin`, with these defaults in place of those:"
    return prose(first_words(path))


def studies_page() -> str:
    """Renders the page of the settings of a study file, and the studies that ship."""
    parts = [
        "# Settings of a study file",
        "A study file is a gin file. It sets the fields of `study.Study`, and of a `study.Stage`"
        " for each stage: `source/study.Stage` is the stage `source`. The fields stand here as the"
        " code declares them. A field can also be set on the command line:"
        ' `--gin.study.Study.seeds="(0, 1, 2)"`. `gin/studies/template.gin`, at the end of this'
        " page, is a file to copy.",
        *_settings(),
        "## Studies that ship",
        table(
            ("file", "what it is"),
            ((code(f"gin/studies/{p.name}"), prose(first_words(p))) for p in files("studies")),
        ),
    ]
    for path in files("studies"):
        parts += [f"### `{path.name}`", block(path.read_text("utf-8"), "python")]
    return "\n\n".join(parts) + "\n"


def _settings() -> Iterator[str]:
    """Yields what a study file sets: a heading and a table for each record of `definition`."""
    source = inspect.getsource(definition)
    for record in ast.walk(ast.parse(source)):
        if isinstance(record, ast.ClassDef):
            yield f"## `{record.name}`"
            yield prose((ast.get_docstring(record) or "").partition("\n\n")[0])
            header = ("field", "values", "default", "meaning")
            yield table(header, _fields(record, source.splitlines()))


def _fields(record: ast.ClassDef, lines: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yields the fields of a record: name, type, default, meaning."""
    for field in record.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            name = field.target.id
            default = "required"
            if isinstance(field.value, ast.Call):  # Field(default_factory=…)
                made = field.value.keywords[0].value
                default = code(ast.unparse(made.body)) if isinstance(made, ast.Lambda) else "scope"
            elif field.value is not None:
                default = code(ast.unparse(field.value))
            kind = re.sub(
                r"\w+", lambda word: _KINDS.get(word[0], word[0]), ast.unparse(field.annotation)
            )
            yield code(name), prose(kind), default, prose(_comment(lines, field))


def _comment(lines: list[str], field: ast.AnnAssign) -> str:
    """Returns the comment on a field: on its lines, or above it."""
    last = field.end_lineno or field.lineno
    beside = [
        line.partition("  # ")[2] for line in lines[field.lineno - 1 : last] if "  # " in line
    ]
    if beside:
        return " ".join(beside)
    above: list[str] = []
    for line in reversed(lines[: field.lineno - 1]):
        if not line.strip().startswith("# "):
            break
        above.insert(0, line.strip()[2:])
    return " ".join(above)


def all_files() -> Iterator[Path]:
    """Yields every gin file that ships."""
    yield from sorted(_ROOT.rglob("*.gin"))
