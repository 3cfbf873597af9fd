"""Errors that the command line reports as one sentence, without a traceback."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """The request is wrong; one sentence names the cause, what was expected and the remedy.

    The command line prints this sentence and exits with code 2; `--debug` adds a traceback.
    """


class RunError(RuntimeError):
    """The request is correct but the work failed, e.g. the loss became NaN; exit code 1."""


class NotReadyError(RuntimeError):
    """Other work must finish first, e.g. the job from which this one starts; exit code 3."""


class PreemptedError(RuntimeError):
    """SIGTERM ended the run, which has saved its state; exit code 143."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean a, b?)` with the known names most similar to `name`, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(nearest)}?)" if nearest else ""
