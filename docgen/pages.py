"""All generated pages, and the tables that other pages ask for."""

import functools
import re
from collections.abc import Callable, Mapping

from docgen import api, columns, commands, gin_files, results, task_tables

_ASKED = re.compile(r"<!-- table: ([a-z_]+) -->")
TABLES: Mapping[str, Callable[[], str]] = {
    "layout": api.layout,
    "arrows": api.arrows,
    **results.TABLES,
}


@functools.cache
def generated() -> Mapping[str, str]:
    """Returns the generated pages: their paths in `docs`, and their text."""
    return {
        "reference/commands.md": commands.page(),
        "reference/macros.md": gin_files.page(),
        "reference/studies.md": gin_files.studies_page(),
        "reference/tasks.md": task_tables.page(),
        "reference/tables.md": columns.page(),
        **{f"reference/api/{path}": text for path, text in api.pages().items()},
    }


def filled(markdown: str) -> str:
    """Returns a page with the tables that it asks for by `<!-- table: NAME -->`.

    Raises:
      KeyError: there is no such table.
    """
    return _ASKED.sub(lambda asked: TABLES[asked[1]](), markdown)
