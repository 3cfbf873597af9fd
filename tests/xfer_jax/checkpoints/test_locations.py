"""Where checkpoints are: the latest whole one is found, past what is damaged or none."""

import shutil
from pathlib import Path

import pytest

from seqio_tasks.errors import RequestError
from tests.support.checkpoints import like, refusal
from xfer_jax.checkpoints import locations, store


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RequestError, match=f"{path} is not a checkpoint: name"):
            locations.locate(path)
    (tmp_path / "checkpoint_5" / "state").mkdir(parents=True)
    (tmp_path / "checkpoint_5" / "state" / "note.txt").write_text("not Orbax")
    said = refusal(locations.locate(tmp_path), like())
    assert "checkpoint_5 is damaged, or not a checkpoint" in said


def test_the_latest_checkpoint_is_the_one_of_the_highest_step(saved, state):
    path, _ = saved
    folder = path.parent
    store.save(folder, store.to_tree(*state, 999_999), {})
    assert locations.steps(folder) == [999_999, 1_000_007]
    assert locations.locate(folder) == path
    assert locations.locate(folder / "checkpoint_999999").name == "checkpoint_999999"


def test_the_latest_whole_checkpoint_is_found_past_damaged_ones(saved, state):
    path, _ = saved
    folder = path.parent
    for step in (5, 7):
        store.save(folder, store.to_tree(*state, step), {})
    assert locations.latest(folder) == (path, [])
    (path / "state" / "_METADATA").write_text("{}")
    found, complaints = locations.latest(folder)
    assert found == folder / "checkpoint_7"
    assert complaints == [f"{path} is damaged: state/_METADATA is not as it was written"]
    for step in (5, 7):
        (folder / f"checkpoint_{step}" / "state" / "_METADATA").unlink()
    with pytest.raises(RequestError, match=r"checkpoint_7 is damaged.*checkpoint_5.*remove"):
        locations.latest(folder)
    assert locations.latest(folder / "nothing") == (None, [])


def make_file(path) -> None:
    path.write_text("no folder")


def make_link(path) -> None:
    path.symlink_to("/nowhere/at/all")


def make_notes(path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("no arrays")


NO_CHECKPOINTS = {
    "empty folder": lambda path: path.mkdir(),
    "file": make_file,
    "dangling link": make_link,
    "folder of notes": make_notes,
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_passed_over(saved, state, capsys, kind):
    path, _ = saved
    odd = path.with_name("checkpoint_2000000")
    NO_CHECKPOINTS[kind](odd)
    assert locations.steps(path.parent) == [1_000_007]
    complaint = f"{odd} is not a checkpoint and is skipped"
    assert locations.latest(path.parent) == (path, [complaint])
    assert locations.locate(path.parent) == path
    assert capsys.readouterr().out == f"warning: {complaint}\n"
    # Nor does it stand in the way of the checkpoint of that step.
    made = store.save(path.parent, store.to_tree(*state, 2_000_000), {})
    assert locations.latest(path.parent) == (made, [])
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, odd.name]
    assert not odd.is_symlink()


def test_alone_what_is_no_checkpoint_does_not_stop_a_run_from_beginning(tmp_path):
    (tmp_path / "checkpoint_99").mkdir()
    found, complaints = locations.latest(tmp_path)
    assert found is None
    assert complaints == [f"{tmp_path}/checkpoint_99 is not a checkpoint and is skipped"]


def test_what_is_left_of_a_checkpoint_is_damage_and_no_reason_to_begin_anew(saved):
    path, _ = saved
    shutil.rmtree(path / "state")
    with pytest.raises(RequestError, match=r"1000007 is damaged: state/.* is missing; remove"):
        locations.latest(path.parent)
    (path / "SHA256SUMS").unlink()
    with pytest.raises(RequestError, match=r"1000007 is damaged: it has no arrays; remove"):
        locations.latest(path.parent)


def test_results_are_of_the_newest_checkpoint_or_refused(saved, state):
    """A run goes on from an older one, and trains again what was lost; results would be of it."""
    path, _ = saved
    store.save(path.parent, store.to_tree(*state, 5), {})
    (path / "state" / "_METADATA").write_text("{}")
    assert locations.latest(path.parent)[0].name == "checkpoint_5"
    assert locations.locate(path.parent) == path
    assert f"{path} is damaged: state/_METADATA is not" in refusal(path, like())


def test_a_run_is_found_by_another_path_to_it(saved, tmp_path, monkeypatch):
    path, _ = saved
    (tmp_path / "link").symlink_to(path.parent)
    monkeypatch.chdir(path.parent)
    for name in ("../run", ".", str(path.parent) + "/", "../link/../run", "../link"):
        assert locations.locate(name).samefile(path)
        assert locations.latest(name)[0].samefile(path)


@pytest.mark.parametrize("count", [0, 1])
def test_a_checkpoint_that_is_half_removed_is_none(saved, state, monkeypatch, count):
    path, _ = saved
    store.save(path.parent, store.to_tree(*state, 999_999), {})

    def killed(folder, **_):
        next(file for file in Path(folder).rglob("*") if file.is_file()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    before = locations.steps(path.parent)
    with pytest.raises(KeyboardInterrupt):
        locations.keep(path.parent, count)
    assert locations.steps(path.parent) == before[1:]
    monkeypatch.undo()
    locations.tidy(path.parent)
    assert not list(path.parent.glob(".*"))
    locations.keep(path.parent, count)
    assert len(locations.steps(path.parent)) == count


def test_a_checkpoint_that_was_being_replaced_is_given_back(saved):
    path, _ = saved
    path.rename(path.with_name(f".{path.name}.old"))  # killed before the new one had the name
    path.with_name(f".{path.name}.new").mkdir()
    locations.tidy(path.parent)
    assert [folder.name for folder in path.parent.iterdir()] == [path.name]


def test_other_names_are_not_taken_for_checkpoints(tmp_path):
    for name in (
        ".checkpoint_6.4711",
        "checkpoint_6.orbax-checkpoint-tmp-12",
        "checkpoint_six",
        "checkpoint_",
        "old_checkpoint_6",
        "checkpoint_007",
        "checkpoint_-1",
        "checkpoint_1e5",
        "checkpoint_\u0663",  # a digit in Arabic script
        "checkpoint_99999999999999999999",
        "checkpoint_2147483648",
        "checkpoint_6\n",
    ):
        (tmp_path / name / "state").mkdir(parents=True)
    assert locations.steps(tmp_path) == []
    assert locations.latest(tmp_path) == (None, [])


def test_the_latest_checkpoints_alone_are_kept(tmp_path):
    for step in (5, 40, 100):
        (tmp_path / f"checkpoint_{step}" / "state").mkdir(parents=True)
    locations.keep(tmp_path, None)
    assert locations.steps(tmp_path) == [5, 40, 100]
    locations.keep(tmp_path, 2)
    assert locations.steps(tmp_path) == [40, 100]
    locations.keep(tmp_path, 5)
    (tmp_path / ".checkpoint_7.gone" / "state").mkdir(parents=True)  # of one killed meanwhile
    locations.tidy(tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint_100", "checkpoint_40"]
