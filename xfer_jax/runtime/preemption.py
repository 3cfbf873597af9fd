"""SIGTERM, by which schedulers take a machine back: the run saves, and ends with exit code 143."""

import signal
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils

from seqio_tasks.errors import PreemptedError


class Watch:
    """Notes a SIGTERM while it is entered.

    Amid steps it is only noted, and `wanted` tells; elsewhere, e.g. while decoding, PreemptedError
    is raised at once. Of several processes all learn of one's signal at the same step, through
    JAX's preemption service, and nothing is raised elsewhere.
    """

    def __init__(self):
        self._noted = self._in_steps = False
        self._alone = jax.process_count() == 1

    def __enter__(self) -> "Watch":
        if self._alone:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._alone:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        if not self._in_steps:
            raise PreemptedError("ended by SIGTERM")

    def steps(self, running: bool) -> None:
        """Says whether the run is amid steps, which must not be torn."""
        self._in_steps = running
        if self._noted and not running:
            raise PreemptedError("ended by SIGTERM")

    def wanted(self, step: int) -> bool:
        """Whether to save and end after this step; all processes are told the same."""
        if self._alone:
            return self._noted
        return multihost_utils.reached_preemption_sync_point(step)
