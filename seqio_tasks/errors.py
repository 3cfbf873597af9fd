"""The one error that a user can mend: a request that cannot be served as it was made."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A wrong request: names the thing, what was expected and what to do, in one sentence.

    The command line prints its text and exits with code 2; a traceback is shown with `--debug` only.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean a, b?)` with the known names nearest to `name`, or an empty string."""
    nearest = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(nearest)}?)" if nearest else ""
