"""Turns what goes wrong into one sentence and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from seqio_tasks import files
from seqio_tasks.errors import NotReadyError, PreemptedError, RequestError, RunError

# How control characters are shown: those of a file's name could steer the user's terminal.
_SHOWN_AS = {code: repr(chr(code))[1:-1] for code in [*range(32), *range(127, 160)] if code != 10}


def report(work: Callable[[], Any], debug: bool = False) -> int:
    """Does some work; turns what goes wrong into one sentence on stderr and an exit code.

    Args:
      work: what to do.
      debug: show the traceback too.

    Returns:
      The exit code, see the module.
    """
    try:
        work()
        return 0
    except RequestError as error:
        code = 2
        sentence = str(error).splitlines()[0]  # gin appends which configurable was being called
        trace = traceback.format_exc()
    except BrokenPipeError:  # whoever reads the output has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        refused = files.refusal(error, str(error.filename or "the work"))
        code = 2 if isinstance(refused, RequestError) and error.filename else 1
        sentence, trace = str(refused), traceback.format_exc()
    except RunError as error:
        code, sentence, trace = 1, str(error), traceback.format_exc()
    except NotReadyError as error:
        code, sentence, trace = 3, str(error), traceback.format_exc()
    except PreemptedError as error:
        code, sentence, trace = 143, str(error), traceback.format_exc()
    except KeyboardInterrupt:
        code, sentence, trace = 130, "interrupted", ""
    if debug:
        print(trace, file=sys.stderr)
    print(f"xfer-jax: {sentence.translate(_SHOWN_AS)}", file=sys.stderr)
    return code
