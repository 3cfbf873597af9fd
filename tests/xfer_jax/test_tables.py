"""Tables of scores: what is understood, and what is refused in one sentence."""

import errno
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from seqio_tasks.errors import RequestError, RunError
from xfer_jax import tables

ROWS = [("en", "sw", 50.0), ("sw", "en", 40.0), ("hi", "fi", 30.0), ("fi", "hi", 20.5)]
PLAIN = "source,target,score\n" + "".join(f"{s},{t},{v}\n" for s, t, v in ROWS)


@pytest.fixture
def read(tmp_path):
    def from_text(text: str | bytes, **options) -> tables.Scores:
        path = tmp_path / "scores.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tables.read(path, **options)

    return from_text


def cells(scores: tables.Scores) -> list[tuple]:
    return list(scores.table[["source", "target", "score"]].itertuples(index=False, name=None))


VARIANTS = {
    "plain": PLAIN,
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "names": PLAIN.replace("sw,", "Swahili,").replace("fi,", "finnish,"),
    "three letters": PLAIN.replace("sw,", "swa,").replace("hi,", "hin,").replace("en,", "eng,"),
    "spaces": PLAIN.replace(",", " , "),
    "capital headings": PLAIN.replace("source,target,score", "Source,TARGET,Score"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_table_is_read_however_it_is_written(read, variant):
    assert cells(read(VARIANTS[variant])) == ROWS


def test_three_columns_suffice_and_others_are_kept(read):
    scores = read(PLAIN)
    assert set(scores.table["task"]) == {"task"}
    assert set(scores.table["n_shots"]) == {0}
    text = PLAIN.replace("score\n", "score,note\n").replace(".0\n", ".0,x\n")
    more = read(text.replace(".5\n", ".5,\n"))
    assert more.table["note"].tolist() == ["x", "x", "x", ""]


def test_rows_are_chosen_by_their_columns(read):
    text = "source,target,score,n_train\n" + "".join(
        f"{s},{t},{v + n / 1000},{n}\n" for s, t, v in ROWS for n in (630, 1250)
    )
    chosen = read(text, where={"n_train": "1250"})
    assert set(chosen.table["n_train"]) == {1250}
    assert [row[2] for row in cells(chosen)] == [v + 1.25 for _, _, v in ROWS]
    with pytest.raises(RequestError, match=r"no row has n_train 7; there are 1250, 630"):
        read(text, where={"n_train": "7"})
    with pytest.raises(RequestError, match=r"no column 'ntrain'.*n_train"):
        read(text, where={"ntrain": "7"})


def test_fractions_are_multiplied_when_that_is_said(read):
    text = re.sub(r"(\d+\.\d)\n", lambda m: f"{float(m[1]) / 100}\n", PLAIN)
    assert [row[2] for row in cells(read(text, fractions=True))] == pytest.approx(
        [v for _, _, v in ROWS]
    )
    with pytest.raises(RequestError, match="--fractions"):
        read(text)
    with pytest.raises(RequestError, match="a score of 50 is no fraction"):
        read(PLAIN, fractions=True)


def test_empty_cells_and_repeats_are_counted(read):
    scores = read(PLAIN + "en,fi,\nen,hi,NaN\nen,sw,50.0\n")
    assert cells(scores) == ROWS
    assert "2 rows have no score and are left out" in scores.notes
    assert "1 rows repeat another to the letter and count once" in scores.notes
    assert "task: 12 of 16 cells have no score" in scores.notes


BAD = {
    "a cell with two scores": (PLAIN + "en,sw,51\n", r"gives 50 and 51 for one cell .*source en"),
    "an unknown language": (PLAIN + "swahilli,en,1\n", r"unknown language 'swahilli'.*swahili"),
    "no number": (PLAIN + "en,fi,high\n", r"line 6: score 'high' is no number"),
    "no percentage": (PLAIN + "en,fi,103\n", r"a score of 103 is no percentage"),
    "negative": (PLAIN + "en,fi,-3\n", r"a score of -3 is no percentage"),
    "no such column": ("source,goal,score\nen,sw,1\n", r"no column target; it has source, goal"),
    "no rows": ("source,target,score\n", r"has no rows"),
    "nothing": ("", r"is no table"),
    "not text": (b"\xff\xfe\x00", r"is UTF-16; save it as UTF-8"),
    "few languages": ("source,target,score\nen,sw,1\nsw,hi,2\n", r"has 3 languages \(en, hi, sw\)"),
    "shots": (
        "source,target,score,n_shots\nen,sw,1,many\n",
        r"n_shots must be whole numbers, not 'many'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_is_refused(read, case):
    text, pattern = BAD[case]
    with pytest.raises(RequestError, match=pattern) as refused:
        read(text)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"none\.csv cannot be read: No such file"):
        tables.read(tmp_path / "none.csv")


def test_a_language_that_uriel_does_not_know_is_told_of(read):
    scores = read(PLAIN + "hyw,en,12\n")
    assert "URIEL does not know hyw: nothing is known of their typology" in scores.notes


def test_a_matrix_averages_seeds(read):
    text = "source,target,score,seed\n" + "".join(
        f"{s},{t},{v + seed},{seed}\n" for s, t, v in ROWS for seed in (0, 2)
    )
    found = tables.matrix(read(text).table, ["en", "fi"], ["hi", "sw", "en"])
    np.testing.assert_array_equal(found, [[np.nan, 51.0, np.nan], [21.5, np.nan, np.nan]])


# ----------------------------------------------------------------------- what pairs are compared by


def test_zero_shot_rows_are_those_of_the_fewest_shots_and_the_most_training_data(read):
    lines = ["source,target,n_shots,n_train,arm,score"]
    for s, t, v in ROWS:
        lines += [f"{s},{t},0,{n},,{v + n / 1000}" for n in (630, 1250)]
        lines += [f"{s},{t},100,1250,,{v + 5}", f"{s},{t},0,1250,matched,{v - 5}"]
    chosen, notes = tables.zero_shot(read("\n".join(lines)).table)
    assert chosen["score"].tolist() == pytest.approx([v + 1.25 for *_, v in ROWS])
    assert notes == (
        "task: of the numbers of training examples that a source has, the largest is compared:"
        " 1,250",
    )


def test_where_there_is_no_zero_shot_the_reader_is_told(read):
    lines = ["source,target,n_shots,arm,score"]
    for s, t, v in ROWS:
        lines += [f"{s},{t},{n},matched,{v + n / 1000}" for n in (10, 100)]
    chosen, notes = tables.zero_shot(read("\n".join(lines)).table)
    assert set(chosen["n_shots"]) == {10}
    assert notes == (
        "task: only rows of arm matched are compared",
        "task has no zero-shot scores: those of 10 shots are compared",
    )


def test_scores_of_two_models_or_metrics_are_not_mixed(read):
    for column in ("model", "metric"):
        text = f"source,target,score,{column}\n" + "".join(
            f"{s},{t},{v},{name}\n" for s, t, v in ROWS for name in ("f1", "em")
        )
        with pytest.raises(RequestError, match=f"choose one by --where {column}=em"):
            read(text)
        assert cells(read(text, where={column: "em"})) == ROWS


# ---------------------------------------------------------------------- an analysis and its tables

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
    tables.write_analysis(tmp_path, ABOUT, TABLES)
    about, found = tables.read_analysis(tmp_path)
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
    tables.write_analysis(folder, ABOUT, TABLES)
    damage(folder)
    with pytest.raises(RequestError, match=f"{why}.*run `xfer-jax analyze") as refused:
        tables.read_analysis(folder)
    assert "\n" not in str(refused.value)


def test_no_table_outside_the_folder_is_read(tmp_path):
    tables.write_analysis(tmp_path / "out", ABOUT, TABLES)
    path = tmp_path / "out" / "analysis.json"
    path.write_text(path.read_text().replace('"scores": "', '"../scores": "'))
    with pytest.raises(RequestError, match="was changed"):
        tables.read_analysis(tmp_path / "out")


def test_where_an_analysis_cannot_be_written_the_earlier_one_stays(tmp_path, monkeypatch):
    tables.write_analysis(tmp_path, ABOUT, TABLES)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        tables.write_analysis(tmp_path, ABOUT | {"seed": 1}, TABLES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
