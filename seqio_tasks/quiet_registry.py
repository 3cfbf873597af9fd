"""Starts TensorFlow and SeqIO's registry only when they are needed."""

import contextlib
import importlib
import os
import sys
import tempfile
from types import ModuleType


def load() -> ModuleType:
    """Imports `seqio_tasks.registry` and TensorFlow, without TensorFlow's messages at start-up.

    TensorFlow writes lines about missing GPUs to file descriptor 2, and no setting prevents this;
    they are shown only if the import fails.
    """
    with contextlib.ExitStack() as stack:
        try:
            terminal = os.dup(2)
            stack.callback(os.close, terminal)
            chatter = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no standard error, or no temporary file: the lines are shown
            return importlib.import_module("seqio_tasks.registry")
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(chatter.fileno(), 2)
        try:
            return importlib.import_module("seqio_tasks.registry")
        except BaseException:
            chatter.seek(0)
            os.write(terminal, chatter.read())
            raise
        finally:
            os.dup2(terminal, 2)
