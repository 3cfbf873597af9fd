"""Progress: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm


def aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Renders rows as columns: the first two to the left, numbers to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    )


T = TypeVar("T")
_LOG_SECONDS = 10.0  # between lines, where there is no terminal
_muted = False
_latest = ""


def mute(muted: bool) -> None:
    """Silences this process, where another one speaks for all."""
    global _muted
    _muted = muted


def say(text: str) -> None:
    """Prints a line that does not tear a bar."""
    if not _muted:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def latest() -> str:
    """Returns what the last bar has to say, for those who look from elsewhere."""
    return _latest


class Bar:
    """Counts work done, with examples/s, tokens/s and time left."""

    def __init__(self, what: str, total: int, done: int):
        self._what, self._total, self._done = what, total, done
        self._examples = self._tokens = self._places = 0
        self._details: dict[str, Any] = {}
        self._spent = 0.0  # seconds, pauses left out
        self._since: float | None = time.monotonic()
        self._first = done
        self._last_line = time.monotonic()
        self._tqdm = tqdm(
            total=total,
            initial=done,
            desc=what,
            disable=_muted or not sys.stderr.isatty(),
            leave=False,
        )

    def advance(self, units: int, examples: int) -> None:
        """Counts units of work (of the total) and the examples in them."""
        global _latest
        self._done += units
        self._examples += examples
        _latest = f"{self._what} {self._done}/{self._total}"
        self._tqdm.update(units)
        if self._tqdm.disable and time.monotonic() - self._last_line > _LOG_SECONDS:
            self._line()

    def add_tokens(self, batch: dict[str, np.ndarray], rows: int) -> None:
        """Counts the tokens of a batch of so many rows, from those of them that are here."""
        for name in ("encoder_input_tokens", "decoder_target_tokens"):
            here = batch[name]
            self._tokens += int(np.count_nonzero(here)) * rows // len(here)
            self._places += here.size * rows // len(here)

    @property
    def padding(self) -> float | None:
        """Share of the batches' tokens that are padding; None before there was any."""
        return 1 - self._tokens / self._places if self._places else None

    def show(self, **details: Any) -> None:
        """Sets what is shown beside the counts."""
        self._details = details
        self._tqdm.set_postfix(details | self._rates())

    def pause(self) -> None:
        """Stops the clock of the rates, e.g. while something else runs."""
        if self._since is not None:
            self._spent += time.monotonic() - self._since
            self._since = None

    def resume(self) -> None:
        """Lets the clock go on."""
        self._since = time.monotonic()

    def close(self) -> None:
        """Ends the bar, with a last line in a log."""
        if self._tqdm.disable and self._done > self._first:
            self._line()
        self._tqdm.close()

    def _seconds(self) -> float:
        running = time.monotonic() - self._since if self._since is not None else 0.0
        return max(self._spent + running, 1e-9)

    def _rates(self) -> dict[str, str]:
        rates = {"examples/s": f"{self._examples / self._seconds():.0f}"}
        if self._tokens:
            rates["tokens/s"] = f"{self._tokens / self._seconds():.0f}"
        return rates

    def _line(self) -> None:
        self._last_line = time.monotonic()
        rate = (self._done - self._first) / self._seconds()
        left = (self._total - self._done) / rate if rate else float("inf")
        details = ", ".join(f"{k} {v}" for k, v in (self._details | self._rates()).items())
        say(f"{self._what} {self._done}/{self._total}, {details}, {left:.0f} s left")


def counted(what: str, items: Iterable[T]) -> Iterator[T]:
    """Yields items, and counts them on a terminal."""
    yield from tqdm(items, desc=what, disable=_muted or not sys.stderr.isatty(), leave=False)


class Bytes:
    """Counts bytes, on a terminal only."""

    def __init__(self, what: str, total: int):
        self._tqdm = tqdm(
            total=total,
            desc=what,
            unit="B",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
            leave=False,
        )

    def advance(self, count: int) -> None:
        """Counts more of them."""
        self._tqdm.update(count)

    def close(self) -> None:
        """Ends the bar."""
        self._tqdm.close()
