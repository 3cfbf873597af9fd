"""A folder is of one run: of another it is left alone, and what differs is shown."""

import json

import pytest

from seqio_tasks.errors import RequestError
from tests.support.command_line import one_line
from xfer_jax.checkpoints import checksums, locations
from xfer_jax.cli import main as cli
from xfer_jax.engine import run_folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_another_run_is_left_alone_and_the_difference_shown(
    earlier_run, command, capsys
):
    folder, macros = earlier_run
    before = contents(folder)
    assert cli.main(command("train", **macros, LEARNING_RATE=0.5)) == 2
    line = one_line(capsys)
    assert f"{folder} contains the results of a run with other settings" in line
    assert "was LEARNING_RATE = 0.001" in line
    assert "now LEARNING_RATE = 0.5" in line
    assert contents(folder) == before


def test_of_another_model_s_run_the_configuration_is_shown(earlier_run, command, capsys):
    folder, macros = earlier_run
    before = contents(folder)
    assert cli.main(command("train", **macros, EMB_DIM=16)) == 2
    assert "now EMB_DIM = 16" in one_line(capsys)
    assert contents(folder) == before


def test_checkpoints_of_unknown_origin_are_left_alone(earlier_run, command, capsys):
    folder, macros = earlier_run
    (folder / "config.gin").unlink()
    (folder / "checkpoint_5" / "run.json").unlink()  # as T5X leaves it
    before = contents(folder)
    assert cli.main(command("train", **macros)) == 2
    assert "contains checkpoints but no config.gin" in one_line(capsys)
    assert contents(folder) == before


def test_a_run_does_not_go_on_with_other_data(earlier_run, command, capsys):
    folder, macros = earlier_run
    file = folder / "checkpoint_5" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data": ["what_it_was"]}))
    checksums.write(file.parent)
    before = contents(folder)
    assert cli.main(command("train", **macros)) == 2
    assert "the data of xfer_pocket_nli.en have changed" in one_line(capsys)
    assert contents(folder) == before


@pytest.mark.slow
def test_a_run_that_was_moved_or_is_linked_goes_on(
    earlier_run, command, tmp_path, monkeypatch, capsys
):
    folder, macros = earlier_run
    (tmp_path / "é" / "b").mkdir(parents=True)
    folder.rename(tmp_path / "é" / "b" / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "é" / "b")
    monkeypatch.chdir(tmp_path / "é")
    for written, steps in (("../é/b/moved/", "5 to 8"), ("../link/moved", "8 to 8")):
        assert cli.main(command("train", **macros | {"MODEL_DIR": written})) == 0
        assert f"steps {steps}" in capsys.readouterr().out
    assert locations.steps(tmp_path / "link" / "moved") == [8]  # KEEP_CHECKPOINTS


def test_a_folder_is_of_its_inputs_wherever_they_are(tmp_path):
    folder = tmp_path / "run"
    run_folder.claim(
        folder, "A = 1\nMODEL_DIR = \\\n    'x'\n", {"vocabulary": "1", "checkpoint": "2"}
    )
    run_folder.check(folder, "A = 2\n")  # there are no results yet
    run_folder.check_inputs(folder, {"vocabulary": "3"})
    (folder / "scores.csv").write_text("")
    run_folder.check(folder, "A = 1\nMODEL_DIR = 'y'\nVOCAB_FILE = 'z'\n")
    run_folder.check_inputs(folder, {"vocabulary": "1", "checkpoint": "2", "new": "4"})
    with pytest.raises(RequestError, match=r"other settings .was A = 1; now A = 2."):
        run_folder.check(folder, "A = 2\n")
    with pytest.raises(RequestError, match=r"results of another checkpoint: it has changed since"):
        run_folder.check_inputs(folder, {"vocabulary": "1", "checkpoint": "3"})
    (folder / "inputs.json").write_text("[]")
    with pytest.raises(RequestError, match=r"inputs\.json is damaged"):
        run_folder.check_inputs(folder, {})
