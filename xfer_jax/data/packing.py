"""Packs examples into the rows of a batch, in few shapes, since each shape needs a compilation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_LENGTH_MULTIPLE = 8  # lengths of rows are rounded up to a multiple of it
_STEPS = 8  # rows of a batch are rounded up to an eighth of a power of two
_DRAWN = 4096  # about the number of examples that a layout is estimated from
_WORTH = 0.75  # positions of targets are selected for the loss up to this share of all


def row_lengths(sizes: np.ndarray, weights: np.ndarray | None = None) -> tuple[int, int]:
    """Chooses the length of the rows that examples are packed into, for all batches of a run.

    A row has space for the longest inputs, and for the targets that go with so many tokens.

    Args:
      sizes: int [examples, 2], lengths of inputs and targets.
      weights: float [examples], frequencies of the examples; None: equal ones.

    Returns:
      Tokens of inputs and of targets, multiples of 8.
    """
    inputs, targets = sizes.max(axis=0)
    mean_inputs, mean_targets = np.average(sizes, axis=0, weights=weights)
    share = mean_targets / mean_inputs
    inputs = int(round_up(inputs))
    return inputs, int(round_up(max(targets, math.ceil(inputs * share))))


def pack(sizes: np.ndarray, lengths: tuple[int, int]) -> list[list[int]]:
    """Packs examples into few rows: longest first, each into the first row that has room.

    Args:
      sizes: int [examples, 2], lengths of inputs and targets.
      lengths: lengths of a row, at least those of the longest example.

    Returns:
      The examples of every row.
    """
    rows: list[list[int]] = [[] for _ in sizes]
    room = np.tile(lengths, (len(sizes), 1))
    used = 0
    for i in np.argsort(-(sizes / lengths).max(axis=1), kind="stable").tolist():
        row = int(np.argmax((room[: used + 1] >= sizes[i]).all(axis=1)))
        used = max(used, row + 1)
        rows[row].append(i)
        room[row] -= sizes[i]
    return rows[:used]


def _spread(count: int) -> list[int]:
    """Returns an order of rows sorted by length, so that all parts of it are similar."""
    golden = (5**0.5 - 1) / 2
    return np.argsort(np.arange(count) * golden % 1.0).tolist()


def coarse(count: int, multiple: int = 1) -> int:
    """Rounds a count up to one of few numbers, which `multiple` divides."""
    power_of_two = 1 << math.ceil(math.log2(count))
    return int(round_up(count, math.lcm(max(1, power_of_two // _STEPS), multiple)))


def round_up(length: Any, multiple: int = _LENGTH_MULTIPLE) -> Any:
    """Rounds a length, or an array of lengths, up to the next multiple."""
    return -(-length // multiple) * multiple


class Layout:
    """The rows of a run's batches: of one length, in few different numbers, in equal shares.

    Every shape needs a compilation. So a batch has at least as many rows as most batches need, and
    the loss is computed for a fixed number of target positions, or for all.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        batch_size: int,
        shares: int = 1,
        weights: np.ndarray | None = None,
    ):
        """Estimates from random batches what most batches need.

        Args:
          sizes: int [examples, 2], lengths of inputs and targets.
          batch_size: examples per batch.
          shares: number of equal parts of the rows of a batch: micro-batches of each group of
            devices.
          weights: float [examples], frequencies of the examples; None: equal ones.
        """
        self.lengths = row_lengths(sizes, weights)
        self.shares = shares
        self.batch_size = batch_size
        p = None if weights is None else weights / weights.sum()
        count = min(max(_DRAWN // batch_size, 8), 32)
        drawn = sizes[np.random.default_rng(0).choice(len(sizes), (count, batch_size), p=p)]
        packed = [pack(batch, self.lengths) for batch in drawn]
        self.usual_rows = math.ceil(np.median([len(rows) for rows in packed]))
        tokens = [
            self._tokens_of_shares(self._filled_up(rows), batch)
            for rows, batch in zip(packed, drawn, strict=True)
        ]
        # A share hardly ever has more. Rounded, so that languages share a compiled program.
        self._usual_targets = coarse(math.ceil(np.mean(tokens) + 4 * np.std(tokens)))

    def rows(self, sizes: np.ndarray) -> list[list[int]]:
        """Returns the examples of every row of a batch, given their sizes; a row can be empty."""
        return self._filled_up(pack(sizes, self.lengths))

    def _filled_up(self, packed: list[list[int]]) -> list[list[int]]:
        count = coarse(max(len(packed), self.usual_rows), self.shares)
        count = min(int(round_up(self.batch_size, self.shares)), count)
        rows = packed + [[] for _ in range(count - len(packed))]
        return [rows[i] for i in _spread(count)]

    def positions(self, rows: Sequence[Sequence[int]], sizes: np.ndarray) -> int:
        """Returns the number of target positions of every share for the loss."""
        places = len(rows) // self.shares * self.lengths[1]
        enough = self._tokens_of_shares(rows, sizes).max() <= self._usual_targets
        return self._usual_targets if enough and self._usual_targets <= _WORTH * places else places

    def _tokens_of_shares(self, rows: Sequence[Sequence[int]], sizes: np.ndarray) -> np.ndarray:
        of_rows = [sum(sizes[i, 1] for i in row) for row in rows]
        return np.sum(np.reshape(of_rows, (self.shares, -1)), axis=1)
