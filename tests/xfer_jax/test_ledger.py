"""The ledger: no job twice, none lost, whatever becomes of workers and of the file."""

import collections
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest

from seqio_tasks.errors import RequestError
from xfer_jax import ledger
from xfer_jax.ledger import Ledger

JOBS = [f"job{i}" for i in range(40)]


def in_order(done: set[str]) -> list[str]:
    return [job for job in JOBS if job not in done]


def test_many_workers_do_every_job_once(tmp_path):
    Ledger(tmp_path).enter(dict.fromkeys(JOBS, False))
    taken, together = [], threading.Barrier(6)

    def work():
        book = Ledger(tmp_path)
        together.wait()
        while (job := book.claim(in_order)[0]) is not None:
            taken.append(job)
            book.finish(job)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert collections.Counter(taken) == collections.Counter(JOBS)
    assert {entry.state for entry in Ledger(tmp_path).entries()} == {ledger.DONE}


def test_a_job_waits_for_its_parent_and_says_that_others_are_at_work(tmp_path):
    book = Ledger(tmp_path)
    book.enter({"parent": False, "child": False})

    def ready(done):
        return ["parent", "child"] if "parent" in done else ["parent"]

    assert book.claim(ready) == ("parent", True)
    assert book.claim(ready) == (None, True)
    book.finish("parent")
    assert book.claim(ready) == ("child", True)
    book.finish("child")
    assert book.claim(ready) == (None, False)


def test_what_a_dead_worker_left_is_taken_at_once(tmp_path):
    script = (
        "import sys; from pathlib import Path; from xfer_jax.ledger import Ledger;"
        " book = Ledger(Path(sys.argv[1])); book.enter({'a': False});"
        " print(book.claim(lambda done: ['a'])[0])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert result.stdout == "a\n"
    assert Ledger(tmp_path).entries()[0].state == ledger.RUNNING
    assert Ledger(tmp_path).claim(lambda done: ["a"]) == ("a", True)


def test_a_worker_elsewhere_loses_its_job_once_it_is_silent(tmp_path, monkeypatch):
    book = Ledger(tmp_path)
    book.enter({"a": False})
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    Ledger(tmp_path).claim(lambda done: ["a"])
    monkeypatch.undo()
    assert book.claim(lambda done: ["a"]) == (None, True)
    monkeypatch.setattr(ledger, "STALE_SECONDS", -1.0)
    assert book.claim(lambda done: ["a"]) == ("a", True)


def test_a_worker_that_beats_is_not_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "BEAT_SECONDS", 0.01)
    book = Ledger(tmp_path)
    book.enter({"a": False})
    book.claim(lambda done: ["a"])
    before = book.entries()[0]
    with book.beating("a"):
        beats = threading.Event()
        beats.wait(0.3)
    with sqlite3.connect(tmp_path / ledger.FILE) as database:
        (beat,) = database.execute("SELECT beat FROM jobs").fetchone()
    assert beat > before.started + 0.05


def test_folders_decide_what_is_done_and_failures_are_tried_again(tmp_path):
    book = Ledger(tmp_path)
    book.enter({"a": True, "b": False, "c": False})
    assert book.claim(lambda done: sorted({"a", "b", "c"} - done))[0] == "b"
    book.finish("b", failure="the loss became nan")
    assert [(e.job, e.state, e.note) for e in book.entries()] == [
        ("a", "done", ""),
        ("b", "failed", "the loss became nan"),
        ("c", "todo", ""),
    ]
    book.enter({"a": False, "b": False, "c": True})  # a's folder was removed, c's made elsewhere
    assert [entry.state for entry in book.entries()] == ["todo", "todo", "done"]


def test_a_damaged_ledger_is_named_with_the_remedy(tmp_path):
    Ledger(tmp_path).enter({"a": False})
    (tmp_path / ledger.FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(RequestError, match=r"ledger\.sqlite is damaged .*remove it"):
        Ledger(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"the study's folder .*file/study: Not a directory"):
        Ledger(tmp_path / "file" / "study")


def test_a_ledger_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / ledger.FILE).mkdir()  # root too cannot open a folder as a file
    with pytest.raises(RequestError, match=r"ledger\.sqlite cannot be (opened|used)"):
        Ledger(tmp_path)
