"""The Python API: a page a package, whose modules mkdocstrings reads without importing them."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from docgen.markdown import code, escape, prose, table

_ROOT = Path(__file__).resolve().parent.parent
# Order of the pages; packages that are not named here follow.
_FIRST = ("xfer_jax", "xfer_jax.analysis", "xfer_jax.results", "xfer_jax.report", "xfer_jax.study")


def packages() -> Mapping[str, list[str]]:
    """Returns the modules of every package by its name."""
    found: dict[str, list[str]] = {}
    for top in ("xfer_jax", "seqio_tasks"):
        for path in sorted((_ROOT / top).rglob("*.py")):
            parts = path.relative_to(_ROOT).with_suffix("").parts
            if parts[-1] == "__main__":
                continue
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            package = module if parts[-1] == "__init__" else ".".join(parts[:-1])
            found.setdefault(package, []).append(module)
    order = [*(name for name in _FIRST if name in found), *found]
    return {name: sorted(found[name]) for name in dict.fromkeys(order)}


def summary(module: str) -> str:
    """Returns the first sentence of a module's docstring."""
    path = _ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def pages() -> dict[str, str]:
    """Renders the pages: their paths under `reference/api`, and their text."""
    listed = table(
        ("package", "what it holds"),
        ((f"[`{name}`]({name}.md)", prose(summary(name))) for name in packages()),
    )
    found = {
        "index.md": "# Python API\n\nThe commands are thin: each calls a function that can be"
        " called from Python too. Functions take values, arrays and DataFrames; what they raise"
        f" stands beside them.\n\n{listed}\n"
    }
    for name, modules in packages().items():
        parts = [f"# {escape(name)}", prose(summary(name))]
        inside = [module for module in modules if module != name]
        if inside:
            rows = ((f"[`{module}`](#{module})", prose(summary(module))) for module in inside)
            parts.append(table(("module", "what it holds"), rows))
        parts += [f"::: {module}" for module in inside or modules]
        found[f"{name}.md"] = "\n\n".join(parts) + "\n"
    return found


def layout() -> str:
    """Renders a table of the packages, and of the modules of `xfer_jax` beside them."""
    found = packages()
    beside = [module for module in found["xfer_jax"] if module != "xfer_jax"]
    rows = [(f"[`{name}`](../reference/api/{name}.md)", name) for name in found]
    rows += [(f"[`{name}`](../reference/api/xfer_jax.md#{name})", name) for name in beside]
    return table(
        ("package or module", "what it holds"),
        ((link, prose(summary(name))) for link, name in sorted(rows, key=lambda row: row[1])),
    )


def imports() -> Mapping[str, set[str]]:
    """Returns which packages each package of `xfer_jax` imports, of this project's own."""
    found: dict[str, set[str]] = {}
    for path in sorted((_ROOT / "xfer_jax").rglob("*.py")):
        mine = _package(path.relative_to(_ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name.split(".")[0] in ("xfer_jax", "seqio_tasks"):
                    found.setdefault(mine, set()).add(_package(name.split(".")))
    return {name: others - {name} for name, others in found.items()}


def _package(parts: Sequence[str]) -> str:
    """Returns the package, or the module beside the packages, that a module's name begins with."""
    return "seqio_tasks" if parts[0] == "seqio_tasks" else ".".join(parts[:2])


def arrows() -> str:
    """Renders which packages import which, those that import the fewest first."""
    found = imports()
    ordered = sorted(found, key=lambda name: (len(below(name, found)), name))
    return table(
        ("package", "imports"),
        ((code(name), ", ".join(map(code, sorted(found[name])))) for name in ordered),
    )


def below(name: str, found: Mapping[str, set[str]]) -> set[str]:
    """Returns all packages that a package imports, by way of others too."""
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        for other in found.get(ahead.pop(), set()):
            if other not in seen:
                seen.add(other)
                ahead.append(other)
    return seen
