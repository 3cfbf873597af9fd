"""What only a process of its own shows: its locale, its pipes, its mask."""

import functools
import os
import shutil
import subprocess
import sys

import pytest

from tests.support import command_line

pytestmark = pytest.mark.slow

start = functools.partial(command_line.start, text=False)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "euc-jp", "PYTHONUTF8": "0"},
    ],
    ids=lambda of: "-".join(of.values()),
)
def test_no_encoding_of_the_terminal_ends_in_a_traceback(tmp_path, environment):
    """The sentence names a file in Hindi, which the terminal cannot show."""
    done = start("analyze", "--scores", str(tmp_path / "अनुवाद.csv"), "--out", "x", **environment)
    assert done.returncode == 2
    assert done.stderr.startswith(b"xfer-jax: ")
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    """A table of features is written and read again where Python would take ASCII."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = tmp_path / "größe" / "f.csv"
    done = start("features", "--languages", "en,sw,hi", "--out", str(out), **ascii_only)
    assert done.returncode == 0, done.stderr
    assert out.is_file()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_reader_that_has_seen_enough_is_no_fault():
    done = start("tasks", shell="| head -1")
    assert len(done.stdout.splitlines()) == 1
    assert not done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_said():
    done = start("tasks", "panx", shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"xfer-jax: ")
    assert b"Traceback" not in done.stderr


def test_closed_output_is_no_traceback():
    done = start("tasks", "panx.sw", shell=">&- 2>&1")
    assert b"Traceback" not in done.stderr + done.stdout


def test_what_is_written_heeds_the_user_s_mask(tmp_path):
    out = tmp_path / "f.csv"
    program = (
        "import os, sys; os.umask(0o027); from xfer_jax.cli import main as cli;"
        f" sys.exit(cli.main(['features', '--languages', 'en,sw', '--out', {str(out)!r}]))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert out.stat().st_mode & 0o777 == 0o640
