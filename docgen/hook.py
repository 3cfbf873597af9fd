"""What MkDocs calls: adds the pages that come from the code, and fills tables into the others."""

from mkdocs.structure.files import File, Files

from docgen import api, pages

_API = "reference/api/index.md"


def on_config(config, **kwargs):
    """Adds the pages of the API to the navigation, below their index."""
    for section in config.nav:
        entries = section.get("Reference", []) if isinstance(section, dict) else []
        if _API in entries:
            below = [_API, *(f"reference/api/{name}.md" for name in api.packages())]
            entries[entries.index(_API)] = {"Python API": below}
    return config


def on_files(files: Files, config, **kwargs) -> Files:
    """Adds the generated pages."""
    for path, text in pages.generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **kwargs) -> str:
    """Puts tables in the place of `<!-- table: NAME -->`."""
    return pages.filled(markdown)
