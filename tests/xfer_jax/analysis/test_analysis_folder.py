"""An analysis is read as it was written, or refused, and an earlier one stays until then."""

import errno
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from seqio_tasks.errors import RequestError, RunError
from xfer_jax.analysis import analysis_folder

ABOUT = {
    "scores": ["scores.csv"],
    "where": {},
    "features": [],
    "options": {"measure": "cosine", "imputed": False},
    "permutations": 9,
    "seed": 0,
    "kinds": {"syntax": "pair"},
    "made_up": False,
    "notes": ["ä note"],
}


TABLES = {
    "scores": pd.DataFrame({"task": ["1e3", "nan"], "score": [12.5, np.nan]}),
    "languages": pd.DataFrame({"task": ["1e3"], "language": ["nan"], "as_source": [1.5]}),
    "gains": pd.DataFrame(),
}


def test_an_analysis_is_read_as_it_was_written(tmp_path):
    (tmp_path / "outcomes.csv").write_text("of an earlier analysis")
    (tmp_path / "notes.txt").write_text("a user's own")
    analysis_folder.write(tmp_path, ABOUT, TABLES)
    about, found = analysis_folder.read(tmp_path)
    assert {name: about[name] for name in ABOUT} == ABOUT
    assert list(found) == ["scores", "languages"]  # what is empty is not written
    for name, table in found.items():
        pd.testing.assert_frame_equal(table, TABLES[name])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"analysis.json", "scores.csv", "languages.csv", "notes.txt"}


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda folder: (folder / "scores.csv").write_text("task,score\nx,1\n"), "was changed"),
        (lambda folder: (folder / "languages.csv").unlink(), r"languages\.csv is missing"),
        (lambda folder: (folder / "analysis.json").unlink(), "incomplete"),
        (lambda folder: (folder / "analysis.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "analysis.json").write_text('{"seed": 0}'), "older version"),
        (lambda folder: shutil.rmtree(folder), "no analysis"),
    ],
)
def test_an_analysis_that_is_not_whole_is_refused(tmp_path, damage, why):
    folder = tmp_path / "out"
    analysis_folder.write(folder, ABOUT, TABLES)
    damage(folder)
    with pytest.raises(RequestError, match=f"{why}.*run `xfer-jax analyze") as refused:
        analysis_folder.read(folder)
    assert "\n" not in str(refused.value)


def test_no_table_outside_the_folder_is_read(tmp_path):
    analysis_folder.write(tmp_path / "out", ABOUT, TABLES)
    path = tmp_path / "out" / "analysis.json"
    path.write_text(path.read_text().replace('"scores": "', '"../scores": "'))
    with pytest.raises(RequestError, match="was changed"):
        analysis_folder.read(tmp_path / "out")


def test_where_an_analysis_cannot_be_written_the_earlier_one_stays(tmp_path, monkeypatch):
    analysis_folder.write(tmp_path, ABOUT, TABLES)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        analysis_folder.write(tmp_path, ABOUT | {"seed": 1}, TABLES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
