"""The errors that the command line answers with a sentence instead of a traceback."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A wrong request: names the thing, what was expected and what to do, in one sentence.

    The command line prints its text and exits with code 2; `--debug` shows a traceback too.
    """


class RunError(RuntimeError):
    """The request was right but the work failed, e.g. the loss became NaN; exit code 1."""


class NotReadyError(RuntimeError):
    """The work needs other work to be done first, e.g. the job it starts from; exit code 3."""


class PreemptedError(RuntimeError):
    """The run was ended by SIGTERM and has saved what it had; exit code 143."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean a, b?)` with the known names nearest to `name`, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(nearest)}?)" if nearest else ""
