"""Renders the page, and writes it with its figures."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.report import reading, wording
from xfer_jax.report.pictures import Pictures
from xfer_jax.report.reading import Analysis
from xfer_jax.report.sections import SECTIONS, summary

FILE = "report.html"
_FIGURES = "figures"
_OWN_FIGURE = re.compile(r"\d{2,}-[a-z0-9-]*\.(svg|csv)")  # names that `Pictures` gives

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("xfer_jax.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters.update(wording.FILTERS)
_TEMPLATES.globals.update(wording.FUNCTIONS)


def report(folder: Path) -> Path:
    """Writes the page of an analysis, `folder/report.html`, and its figures, `folder/figures`.

    Everything is computed before the first file is written, and each file is replaced atomically.
    The page is therefore always the old one or the new one, even if this process is killed or
    several processes write the report at the same time.

    Args:
      folder: the folder that `analyze` wrote.

    Returns:
      The path of the page.

    Raises:
      RequestError: the analysis is incomplete, or the page cannot be written.
      RunError: the disk is full or fails.
    """
    folder = files.absolute(folder)
    analysis = reading.read(folder)
    _check_places(folder)
    pictures = Pictures()
    text = _render(analysis, pictures)
    try:
        with _writing(folder):
            _write(folder, text, pictures.files)
    except OSError as error:
        raise files.refusal(error, f"{folder} cannot be written") from None
    return folder / FILE


def _render(analysis: Analysis, pictures: Pictures) -> str:
    tasks = analysis.tasks
    return _TEMPLATES.get_template("page.html.j2").render(
        about=analysis.about,
        sources=[Path(path).name or path for path in analysis.about["scores"]],
        tasks=[
            {
                "id": f"task-{i}",
                "name": task,
                "findings": summary.findings(analysis, task),
                "sections": [
                    (f"sections/{name}.html.j2", found)
                    for name, section in SECTIONS.items()
                    if (found := section(analysis, task, pictures))
                ],
            }
            for i, task in enumerate(tasks, 1)
        ],
        correlations=summary.all_correlations(analysis, tasks),
        gains=summary.all_gains(analysis, tasks),
        csv_names=summary.csv_names(analysis),
    )


# --- Files ----------------------------------------------------------------------------------------


def _check_places(folder: Path) -> None:
    """Raises RequestError if writing would follow a link, or if another file is in the way."""
    for path in (folder / FILE, folder / _FIGURES):
        if path.is_symlink():
            raise RequestError(
                f"{path} is a symbolic link, which the report does not follow: remove it"
            )
    if (folder / _FIGURES).exists() and not (folder / _FIGURES).is_dir():
        raise RequestError(
            f"{folder / _FIGURES} is a file; the report needs a folder there: remove it"
        )
    if (folder / FILE).is_dir():
        raise RequestError(f"{folder / FILE} is a folder; the report needs a file there: remove it")


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Holds a shared lock while writing; a process that is alone removes leftover temporary files.

    The lock is on the folder itself and ends with its process. On a file system without locks,
    everything works except that leftover files stay.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.tidy(folder, FILE)
            files.tidy(folder / _FIGURES)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _write(folder: Path, page: str, figures: Mapping[str, str]) -> None:
    """Writes the figures, then the page that links to them, then removes old figures."""
    for name, content in figures.items():
        files.write(folder / _FIGURES / name, content)
    files.write(folder / FILE, page)
    if not figures:
        return
    for old in sorted((folder / _FIGURES).iterdir()):
        mine = _OWN_FIGURE.fullmatch(old.name) and old.is_file() and not old.is_symlink()
        if mine and old.name not in figures:
            old.unlink(missing_ok=True)
