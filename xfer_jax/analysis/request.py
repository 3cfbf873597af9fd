"""What is to be analysed, and how."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqio_tasks.errors import RequestError
from xfer_jax.analysis import permutation
from xfer_jax.analysis.features import Options

_MOST_PERMUTATIONS = 1_000_000  # all are in memory at once


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be analysed, and how."""

    scores: Sequence[Path]  # one table, one study's folder, or folders in T5X's layout
    out: Path
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fractions: bool = False
    features: Sequence[Path] = ()  # a user's own
    probe: Path | None = None  # a table of `probe`; the study's own by default
    options: Options = dataclasses.field(default_factory=Options)
    predictors: Sequence[str] = ()  # of the regression; pairs' features that are mostly known
    reach: float | None = None  # the score that examples are counted for
    permutations: int = permutation.PERMUTATIONS
    seed: int = 0

    def __post_init__(self):
        if self.reach is not None and not 0 <= self.reach <= 100:
            raise RequestError(f"--reach must be a score from 0 to 100, not {self.reach}")
        if not 1 <= self.permutations <= _MOST_PERMUTATIONS:
            raise RequestError(
                f"--permutations must be at least 1 and at most {_MOST_PERMUTATIONS:,},"
                f" not {self.permutations}"
            )
        if self.seed < 0:
            raise RequestError(f"--seed must be at least 0, not {self.seed}")
