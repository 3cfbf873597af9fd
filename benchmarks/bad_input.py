"""Judges how a command answers a wrong request: what `tests/robustness` states its cases with.

A `Case` is a request and the files that it finds. It runs in this process, through the command line
itself, in a folder of its own. A wrong request is answered well if the exit code is 2, standard
error is one sentence that names the fault, and no file was made, changed or removed.
"""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SECONDS = 20  # a request that is not refused by then is taken for one that never is
SPARE_BYTES = 6 << 30  # address space beyond what the process has: absurd sizes fail here, alone
LONGEST_SENTENCE = 2000  # characters, those of the request itself not counted
FOLDER = object()  # in place of a file's content: an empty folder
GONE = object()  # likewise: what `ready` has put there is removed
WORLD = "$WORLD"  # in arguments and contents: the folder of what was made ready
HERE = "$HERE"  # likewise: the case's own folder


@dataclasses.dataclass(frozen=True)
class Link:
    """A symbolic link, in place of a file's content."""

    target: str


Content = str | bytes | Link | object | Callable[[bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Case:
    """A request, what it finds, and what its answer must say."""

    id: str
    argv: str | Sequence[str]  # a string is split as a shell does
    words: str = ""  # a pattern that the sentence must match; capitals do not count
    # by name, in this order: text, bytes, FOLDER, GONE, a Link, or a function of the bytes that
    # `ready` has put there
    files: Mapping[str, Content] = dataclasses.field(default_factory=dict)
    ready: Sequence[str] = ()  # of the prepared world, copied to where the request runs; 'a:b' as b
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    code: int = 2

    def __str__(self) -> str:
        return self.id


@dataclasses.dataclass(frozen=True)
class Answer:
    """How a request was answered."""

    code: int | str  # a string: what was raised, or that it took too long
    out: str
    err: str
    by_argparse: bool  # it ended in argparse, which prints the usage first


# --- Running --------------------------------------------------------------------------------------


class _Stuck(BaseException):
    """A request went on to where a wrong one never gets."""


@contextlib.contextmanager
def _bounded(seconds: int) -> Iterator[None]:
    """Ends what takes too long or starts processes; memory for absurd sizes is not to be had."""

    def ring(*_: object) -> None:
        raise _Stuck(f"not done within {seconds} s")

    def start(process: subprocess.Popen, args: Any, *more: Any, **named: Any) -> None:
        if sys.executable in args:  # workers; libraries ask `uname` and the like
            raise _Stuck("it starts a process")
        popen(process, args, *more, **named)

    popen = subprocess.Popen.__init__

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, hard))
    subprocess.Popen.__init__ = start  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        subprocess.Popen.__init__ = popen  # type: ignore[method-assign]
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _as_a_process() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Has warnings and log records go to standard error, as they do outside of pytest."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    out, err = io.StringIO(), io.StringIO()
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
                warnings.simplefilter("ignore", kind)
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.showwarning = lambda *args, **_: print(
                warnings.formatwarning(*args[:4]), file=sys.stderr
            )
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield out, err
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def run(argv: Sequence[str], seconds: int = SECONDS) -> Answer:
    """Runs the command line here."""
    from xfer_jax.cli import main as cli

    code: int | str
    by_argparse = False
    tempfile.tempdir = None  # it remembers what TMPDIR once said
    with _as_a_process() as (out, err):
        try:
            with _bounded(seconds):
                code = cli.main(list(argv))
        except SystemExit as end:
            code, by_argparse = end.code if isinstance(end.code, int) else str(end.code), True
        except _Stuck as where:
            code = str(where)
        except BaseException:
            code = f"raised {traceback.format_exc()[-1500:]}"
    tempfile.tempdir = None
    return Answer(code, out.getvalue(), err.getvalue(), by_argparse)


def prepare(case: Case, world: Path, here: Path) -> list[str]:
    """Makes a case's files, and returns its arguments.

    Args:
      case: the request.
      world: folder of what `ready` names.
      here: an empty folder.
    """

    def filled(text: str) -> str:
        return text.replace(WORLD, str(world)).replace(HERE, str(here))

    for named in case.ready:
        name, _, other = named.partition(":")
        source, copy = world / name, here / (other or name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    for name, content in case.files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if callable(content) else b""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if content is FOLDER:
            path.mkdir()
        elif isinstance(content, Link):
            path.symlink_to(filled(content.target))
        elif callable(content):
            path.write_bytes(content(old))
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not GONE:
            path.write_bytes(filled(str(content)).encode())
    argv = shlex.split(case.argv) if isinstance(case.argv, str) else case.argv
    return [filled(argument) for argument in argv]


def state(folder: Path) -> dict[str, str]:
    """Returns what lies in a folder: of each path, its kind, and a digest or a link's target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = f"link to {os.readlink(path)}"
        elif stat.S_ISDIR(mode):
            what = "folder"
        elif stat.S_ISREG(mode):
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = "special"
        found[str(path.relative_to(folder))] = what
    return found


# --- Judging --------------------------------------------------------------------------------------


def faults(case: Case, answer: Answer, argv: Sequence[str]) -> list[str]:
    """Returns what is wrong with the answer to a wrong request, files apart."""
    found = []
    if answer.code != case.code:
        found.append(f"exit code {answer.code} instead of {case.code}")
    if "Traceback" in answer.err + answer.out:
        found.append("a traceback")
    lines = answer.err.splitlines()
    sentence = lines[-1] if lines else ""
    if answer.by_argparse:
        if not re.match(r"xfer-jax[^:]*: error: ", sentence):
            found.append("the last line is not argparse's error")
    else:
        if len(lines) != 1:
            found.append(f"{len(lines)} lines on standard error instead of one")
        if not sentence.startswith("xfer-jax: "):
            found.append("the sentence does not begin with 'xfer-jax: '")
        if not answer.err.isprintable() and not answer.err.rstrip("\n").isprintable():
            found.append("control characters in the sentence")
    if len(sentence) > LONGEST_SENTENCE + sum(map(len, argv)):
        found.append(f"a sentence of {len(sentence):,} characters")
    if not re.search(case.words, sentence, re.IGNORECASE):
        found.append(f"the sentence says nothing of {case.words!r}")
    return found


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Returns the paths that were made, changed or removed."""
    return [
        f"{'made' if name not in before else 'removed' if name not in after else 'changed'} {name}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def judge(case: Case, world: Path, here: Path) -> list[str]:
    """Runs a case in a folder; returns what is wrong with its answer, at best nothing.

    The caller has made `here` the current folder and set `case.env`.
    """
    argv = prepare(case, world, here)
    before = state(here)
    answer = run(argv)
    found = faults(case, answer, argv) + changes(before, state(here))
    if found:
        found.append(f"standard error: {answer.err[-1500:]!r}")
    return found
