"""Markdown: tables, code, text that must not be read as markup."""

from collections.abc import Iterable, Sequence


def code(text: str) -> str:
    """Returns text as code, also in the cell of a table."""
    if not text:
        return ""
    fence = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def escape(text: str) -> str:
    """Returns text of which nothing is read as markup."""
    for mark in "\\`*_<>[]|":
        text = text.replace(mark, f"\\{mark}")
    return text


def prose(text: str) -> str:
    """Returns a text of the code for a cell: what is in backticks there stays code."""
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other half
        return escape("`".join(parts))
    return "".join(code(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Renders a table.

    Args:
      header: names of the columns.
      rows: cells, which are Markdown without line breaks.

    Raises:
      ValueError: a row with more or fewer cells than the header has.
    """
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"{len(row)} cells, but {len(header)} columns: {row}")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def block(text: str, language: str = "text") -> str:
    """Returns text as a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"
