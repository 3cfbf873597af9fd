"""Paths that cannot be read or written, whatever command is given them, and folders of the system.

Root runs tests as well, whom no permission stops: what cannot be written here is no folder at all.
"""

import os

import pytest

from benchmarks.bad_input import FOLDER, Case, Link

NOWHERE = {  # where nothing can be written, by why
    "a-device": "/dev/null/x",
    "of-the-system": "/proc/nope/x",
    "below-a-file": "scores.csv/x",
    "below-a-dangling-link": "dangling/x/y",
    "a-link-to-itself": "loop/x",
    "too-long": "x" * 300,
    "too-deep": "/".join(["d" * 200] * 30),
}
WRITERS = {  # arguments up to the path, and how the sentence may call it
    "analyze": ["analyze", "--scores", "scores.csv", "--permutations=10", "--out"],
    "features": ["features", "--languages", "en,sw", "--out"],
    "convert": ["convert", "$WORLD/native", "--to", "hf"],
    "emit": ["study", "emit", "study.gin", "--to", "slurm", "--out"],
    "study": ["study", "run", "study.gin", "--out"],
    "train": ["train", "--gin_file=$WORLD/tiny.gin"],
}
GIVEN = {"scores.csv": "x", "dangling": Link("/nope"), "loop": Link("loop")}


def writing(command: str, why: str, path: str) -> Case:
    argv = WRITERS[command]
    argv = [*argv, f"--gin.MODEL_DIR='{path}'"] if command == "train" else [*argv, path]
    files = {name: of for name, of in GIVEN.items() if name != "scores.csv"}
    named = path.partition("/")[0] or path[:9]
    return Case(f"{command}-{why}", argv, named, files, ready=("scores.csv", "study.gin"))


UNWRITABLE = [
    writing(name, why, path)
    for name in WRITERS
    for why, path in NOWHERE.items()
    if (name, why) != ("train", "of-the-system")  # is found out after ten seconds of work
]

READERS = {
    "report": ["report"],
    "xtreme-r": ["xtreme-r"],
    "probe": ["probe", "--outputs"],
    "convert": ["convert"],
    "analyze": ["analyze", "--out", "out", "--permutations=10", "--scores"],
    "study": ["study", "plan"],
    "train": ["train", "--gin.MODEL_DIR='out'", "--gin_file"],
}
UNREADABLE = [
    Case(f"{name}-reads-{why}", [*argv, path], "", GIVEN)
    for name, argv in READERS.items()
    for why, path in {
        "a-link-to-itself": "loop", "a-dangling-link": "dangling", "below-a-file": "scores.csv/x",
        "too-long": "x" * 300, "a-nul": "a\0b", "a-newline": "a\nb", "an-escape": "a\x1b[2Jb",
        "blank": " ", "of-the-system": "/proc/nope", "nobody-s-home": "~nobody-of-that-name/x",
    }.items()
]  # fmt: skip

BELOW_A_FILE = "$HERE/scores.csv/x"
TRAIN = "train --gin_file=$WORLD/tiny.gin --gin.MODEL_DIR=\"'out'\""
SYSTEM = [
    Case("cache-below-a-file", TRAIN, "XFER_CACHE_DIR", GIVEN, env={"XFER_CACHE_DIR": BELOW_A_FILE}),
    Case("cache-a-file", TRAIN, "XFER_CACHE_DIR", GIVEN, env={"XFER_CACHE_DIR": "$HERE/scores.csv"}),
    Case("cache-a-nul-folder", TRAIN, "XFER_CACHE_DIR", GIVEN, env={"XFER_CACHE_DIR": "/dev/null/x"}),
    Case("home-nowhere", TRAIN, "XFER_CACHE_DIR", GIVEN,
         env={"HOME": "/dev/null/x", "XFER_CACHE_DIR": "", "XDG_CACHE_HOME": ""}),
    Case("home-a-file", TRAIN, "XFER_CACHE_DIR", GIVEN,
         env={"HOME": "$HERE/scores.csv", "XFER_CACHE_DIR": "", "XDG_CACHE_HOME": ""}),
    Case("pocket-vocabulary-cache", TRAIN + " --gin.VOCAB_FILE=\"'pocket'\"", "XFER_CACHE_DIR", GIVEN,
         env={"XFER_CACHE_DIR": BELOW_A_FILE}),
    Case("plan-cache", "study plan gin/studies/pocket.gin", "XFER_CACHE_DIR", GIVEN,
         env={"XFER_CACHE_DIR": BELOW_A_FILE}),
    Case("study-cache-below-a-file", "study run study.gin --out out", "XFER_CACHE_DIR", GIVEN,
         ready=("study.gin",), env={"XFER_CACHE_DIR": BELOW_A_FILE}),
    Case("data-dir-a-file", TRAIN + " --gin.TASK=\"'xfer_panx'\"", r"XFER_DATA_DIR|scores\.csv", GIVEN,
         env={"XFER_DATA_DIR": "scores.csv"}),
    Case("data-dir-a-loop", TRAIN + " --gin.TASK=\"'xfer_panx'\"", "XFER_DATA_DIR|loop", GIVEN,
         env={"XFER_DATA_DIR": "loop"}),
    Case("vocab-a-folder", TRAIN.replace("tiny.gin", "tiny.gin --gin.VOCAB_FILE=None"),
         "XFER_VOCAB|folder", {"folder": FOLDER}, env={"XFER_VOCAB": "folder"}),
]  # fmt: skip


@pytest.mark.parametrize("case", UNWRITABLE, ids=str)
def test_what_cannot_be_written_is_refused(refused, case):
    refused(case)


@pytest.mark.parametrize("case", UNREADABLE, ids=str)
def test_what_cannot_be_read_is_refused(refused, case):
    refused(case)


@pytest.mark.parametrize("case", SYSTEM, ids=str)
def test_folders_of_the_system_that_cannot_be_used_are_named(refused, case):
    refused(case)


def test_a_current_folder_that_is_gone_is_said(refused, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    case = Case(
        "gone", ["features", "--languages", "en,sw", "--out", "f.csv"], "folder|director|f.csv"
    )
    refused(case)
    os.chdir(tmp_path)


@pytest.mark.parametrize("name", ["report.html", "figures"])
def test_a_report_follows_no_link(refused, tmp_path, name):
    """What a stranger's analysis links to is neither overwritten nor removed."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "01-mine.svg").write_text("mine")
    target = mine if name == "figures" else mine / "01-mine.svg"
    files = {f"analysis/{name}": Link(str(target))}
    refused(Case(name, "report analysis", name, files, ready=("analysis",)))
    assert (mine / "01-mine.svg").read_text() == "mine"


def test_a_link_at_a_temporary_name_is_not_followed(accepted, tmp_path):
    (tmp_path / "mine").write_text("mine")
    files = {"analysis/.report.html.new": Link(str(tmp_path / "mine"))}
    accepted(Case("link", "report analysis", "analysis/report.html", files, ready=("analysis",)))
    assert (tmp_path / "mine").read_text() == "mine"
