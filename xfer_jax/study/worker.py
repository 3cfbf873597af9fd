"""A worker of a study: a process that does the jobs that the study's owner hands to it.

    python -m xfer_jax.study.worker DESCRIPTOR

It talks with the owner over a connection, and ends at once when the owner is gone. Programs that it
has compiled serve all its jobs.
"""

import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from seqio_tasks.errors import PreemptedError

if TYPE_CHECKING:
    from xfer_jax.study.job import Job


_SAY_SECONDS = 2.0  # between reports of how far a job is


def main(descriptor: int) -> None:
    """Does jobs for as long as there is an owner.

    Args:
      descriptor: of the connection. First comes a tuple (study, its folder, processors to use or
        None), then jobs, each answered by an `execution.Outcome` and, before it, by texts that say
        how far it is.
    """
    connection = Connection(descriptor)
    study, out, cores = connection.recv()
    if cores:  # before any library starts its threads
        os.sched_setaffinity(0, cores)
    inbox: queue.Queue[Job] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    from xfer_jax.runtime import compilation, progress
    from xfer_jax.study import execution

    compilation.keep_programs()
    while True:
        job = inbox.get()
        ended = threading.Event()

        def report(ended: threading.Event = ended) -> None:
            while not ended.wait(_SAY_SECONDS):
                connection.send(progress.latest())

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            outcome = execution.attempt(study, out, job)
        except PreemptedError as error:
            progress.say(str(error))
            sys.exit(143)
        finally:
            ended.set()
            reporter.join()
        connection.send(outcome)


def _listen(connection: Connection, inbox: "queue.Queue[Job]") -> None:
    """Takes what the owner sends; without an owner nobody may do the study's jobs."""
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, ConnectionResetError):  # the second if it left a report unread
            os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
