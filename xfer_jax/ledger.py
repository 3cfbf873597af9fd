"""Who does which job of a study: one SQLite file that many workers share.

It only keeps workers out of each other's way and tells a reader how far they are. What has been
done is known by the jobs' own folders, so that a lost or damaged ledger loses nothing.
"""

import contextlib
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from seqio_tasks.errors import RequestError

FILE = "ledger.sqlite"
TODO, RUNNING, DONE, FAILED = "todo", "running", "done", "failed"
BEAT_SECONDS = 5.0  # a worker says so often that it is alive
STALE_SECONDS = 60.0  # after so long without a word its job is given to another
_LOCK_SECONDS = 60.0  # to wait for another worker's transaction


class Entry(NamedTuple):
    """What the ledger says of a job."""

    job: str
    state: str
    worker: str  # host:pid of who does or did it
    started: float  # seconds since 1970
    seconds: float  # that it took, or has taken
    note: str  # why it failed; of a running job, how far it is


class Ledger:
    """The jobs of a study folder. Every call is a transaction of its own."""

    def __init__(self, folder: Path):
        """Opens the ledger, and makes it where there is none.

        Raises:
          RequestError: the folder cannot be written, or the file is no ledger.
        """
        self._path = folder / FILE
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._transaction() as database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS jobs (job TEXT PRIMARY KEY, state TEXT NOT NULL,"
                    " worker TEXT NOT NULL DEFAULT '', started REAL NOT NULL DEFAULT 0,"
                    " beat REAL NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT '')"
                )
        except OSError as error:
            raise RequestError(f"the study's folder {folder}: {error.strerror}") from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self._path, timeout=_LOCK_SECONDS, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise RequestError(f"{self._path} cannot be opened: {error}") from None
        try:
            with contextlib.closing(database):
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise RequestError(f"{self._path} cannot be used: {error}") from None
        except sqlite3.DatabaseError as error:
            raise RequestError(
                f"{self._path} is damaged ({error}): remove it while no worker runs; what has been"
                " done is known by the jobs' folders"
            ) from None

    def enter(self, jobs: Mapping[str, bool]) -> None:
        """Makes the ledger agree with the folders; jobs that failed are to be done again.

        Args:
          jobs: by name, whether the job's folder holds its result.
        """
        with self._transaction() as database:
            for job, done in jobs.items():
                database.execute(
                    "INSERT INTO jobs (job, state) VALUES (?, ?) ON CONFLICT (job) DO NOTHING",
                    (job, DONE if done else TODO),
                )
                if done:
                    database.execute("UPDATE jobs SET state = ? WHERE job = ?", (DONE, job))
                else:
                    database.execute(
                        "UPDATE jobs SET state = ?, note = '' WHERE job = ? AND state IN (?, ?)",
                        (TODO, job, FAILED, DONE),
                    )

    def claim(self, ready: Callable[[set[str]], list[str]]) -> tuple[str | None, bool]:
        """Takes a job that nobody does.

        Args:
          ready: from the set of jobs that are done, those that may be begun, in order.

        Returns:
          The job, or None if there is none; and whether others are at work, so that there may be
          one later.
        """
        now = time.time()
        with self._transaction() as database:
            states = {}
            for job, state, worker, beat in database.execute(
                "SELECT job, state, worker, beat FROM jobs"
            ):
                gone = state == RUNNING and (now - beat > STALE_SECONDS or _is_dead(worker))
                states[job] = TODO if gone else state
            done = {job for job, state in states.items() if state == DONE}
            for job in ready(done):
                if states.get(job, TODO) == TODO:
                    database.execute(
                        "UPDATE jobs SET state = ?, worker = ?, started = ?, beat = ?, note = ''"
                        " WHERE job = ?",
                        (RUNNING, self._worker, now, now, job),
                    )
                    return job, True
        return None, RUNNING in states.values()

    def finish(self, job: str, failure: str = "") -> None:
        """Says that a job is done, or why it failed."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = ?, beat = ?, note = ? WHERE job = ?",
                (FAILED if failure else DONE, time.time(), failure, job),
            )

    def release(self, job: str) -> None:
        """Gives a job back that was not finished."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET state = ?, note = '' WHERE job = ?", (TODO, job))

    @contextlib.contextmanager
    def beating(self, job: str, doing: Callable[[], str] = str) -> Iterator[None]:
        """Says, while the body runs, that the job's worker is alive, and how far it is."""
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(BEAT_SECONDS):
                with contextlib.suppress(RequestError):  # if others keep it busy, the next will do
                    self.beat(job, doing())

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def beat(self, job: str, note: str) -> None:
        """Says that a job's worker is alive, and how far it is."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET beat = ?, note = ? WHERE job = ?", (time.time(), note, job)
            )

    def entries(self) -> list[Entry]:
        """Returns what the ledger says, in the order in which jobs were entered."""
        now = time.time()
        with self._transaction() as database:
            rows = database.execute(
                "SELECT job, state, worker, started, beat, note FROM jobs ORDER BY rowid"
            ).fetchall()
        return [
            Entry(job, state, worker, started, (now if state == RUNNING else beat) - started, note)
            for job, state, worker, started, beat, note in rows
        ]


def _is_dead(worker: str) -> bool:
    """Whether a worker of this machine has ended; of other machines nothing is known."""
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it runs, as somebody else
        return False
    return False
