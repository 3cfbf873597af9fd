"""The command line: help in a blink, one line for a wrong argument, and a traceback if asked."""

import re
import resource
import subprocess
import sys

import pytest

from tests.support.command_line import start
from xfer_jax.cli import main as cli


@pytest.mark.parametrize("arguments", [["--help"], ["tasks", "--help"], ["train", "--help"]])
def test_help_answers_in_a_blink(arguments):
    def computed() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    seconds = []
    for _ in range(3):  # the best of three: other work on the machine is not the command's fault
        began = computed()
        result = start(*arguments)
        seconds.append(computed() - began)
        assert result.returncode == 0
        assert result.stdout.startswith("usage: xfer-jax")
        assert not result.stderr
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["tasks", "panx.sw"]])
def test_help_and_lists_import_neither_jax_nor_tensorflow(arguments):
    code = f"""
import sys
from xfer_jax.cli import main as cli
try:
    assert cli.main({arguments!r}) == 0
except SystemExit as error:
    assert error.code == 0
assert not {{"jax", "tensorflow", "seqio"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)


def test_a_wrong_argument_exits_with_2(capsys):
    for arguments in (["fly"], [], ["train", "--batch_size=3"], ["vocab"]):
        with pytest.raises(SystemExit) as error:
            cli.main(arguments)
        assert error.value.code == 2
        assert capsys.readouterr().err.startswith("usage: ")


def test_debug_shows_the_traceback_too(command, capsys, tmp_path):
    macros = {"MODEL_DIR": str(tmp_path / "out"), "TRAIN_STEPS": 2}
    assert cli.main([*command("train", **macros, SOURCE="xx"), "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("xfer-jax: unknown task")


@pytest.mark.slow
def test_a_real_process_says_one_line_too(command, tmp_path):
    out = tmp_path / "out"
    result = start(*command("train", MODEL_DIR=str(out), TRAIN_STEPS=2, SOURCE="xx"))
    assert result.returncode == 2
    assert re.fullmatch(r"xfer-jax: unknown task 'xfer_pocket_nli\.xx'.*\n", result.stderr)
    assert not out.exists()
