"""The options of an analysis."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqio_tasks.errors import RequestError
from xfer_jax.analysis import permutation
from xfer_jax.analysis.features import Options

_MOST_PERMUTATIONS = 1_000_000  # all are in memory at the same time


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of an analysis."""

    scores: Sequence[Path]  # one table, the folder of one study, or folders in T5X's layout
    out: Path  # folder for the results
    where: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  # keep rows with these values
    fractions: bool = False  # scores are fractions of 1, not percentages
    features: Sequence[Path] = ()  # CSV files with a user's features
    probe: Path | None = None  # table of probes; by default that of the study
    options: Options = dataclasses.field(default_factory=Options)
    predictors: Sequence[str] = ()  # of the regression; by default features known for most pairs
    reach: float | None = None  # target score, in percent, of the number of examples needed
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
