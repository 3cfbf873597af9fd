"""The cached examples of a task as input for a model: supervised, or span corruption."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from seqio_tasks import span_corruption
from seqio_tasks.errors import RequestError
from seqio_tasks.families import probes
from seqio_tasks.sentencepiece_model import EOS_ID, Vocabulary
from xfer_jax.data.token_cache import INPUTS, TARGETS, Cache

MOST_TOKENS = span_corruption.MOST_TOKENS

Lengths = dict[str, int]  # most tokens of 'inputs' and 'targets', including the end of sequence


# --- Examples -------------------------------------------------------------------------------------


def ended(tokens: np.ndarray, most: int) -> np.ndarray:
    """Trims tokens and appends the end of sequence, like `append_eos_after_trim`."""
    return np.append(tokens[: most - 1], EOS_ID).astype(np.int32)


Example = dict[str, np.ndarray]  # int32 `inputs` and `targets`, ended


@dataclasses.dataclass(frozen=True)
class Pick:
    """An example of a stream: its size, and a function that reads its tokens.

    Every process plans all batches by the sizes, but reads only the tokens of its own rows.
    """

    size: tuple[int, int]  # tokens of inputs and targets, as delivered
    read: Callable[[], Example]


LONG_TARGETS = ("error", "drop", "trim")  # what to do with targets that are too long


class Supervised:
    """Random access to a cache's examples as (inputs, targets), for Grain.

    Raises:
      RequestError: a target is too long and `long_targets` is `error`: a truncated label is wrong.
    """

    def __init__(self, cache: Cache, lengths: Lengths, long_targets: str = "error"):
        check_lengths(lengths)
        if long_targets not in LONG_TARGETS:
            raise RequestError(
                f"LONG_TARGETS must be one of {', '.join(LONG_TARGETS)}, not {long_targets!r}"
            )
        counts = cache.token_counts(TARGETS) + 1
        fits = counts <= lengths[TARGETS]
        self.long_targets = int((~fits).sum())
        if self.long_targets and long_targets == "error":
            raise RequestError(
                f"{cache.task.name} ({cache.split}): {self.long_targets} of {len(cache)} targets"
                f" are longer than the {lengths[TARGETS]} tokens of"
                f" TASK_FEATURE_LENGTHS['targets'] and would be cut; the longest needs"
                f" {counts.max()}: raise the length, or set LONG_TARGETS to 'drop' (without these"
                " examples) or 'trim' (cut them, as T5X does)"
            )
        if long_targets == "drop":
            cache = dataclasses.replace(cache, indices=cache.indices[fits])
        self._cache, self._lengths = cache, lengths

    def __len__(self) -> int:
        return len(self._cache)

    def __getitem__(self, index: int) -> Example:
        return {
            feature: ended(self._cache.tokens(feature, index), self._lengths[feature])
            for feature in (INPUTS, TARGETS)
        }

    def stream(self, seed: int) -> grain.MapDataset:
        """Returns an endless stream of examples; every epoch has its own order."""
        sizes = self.sizes().tolist()

        def pick(index: int) -> Pick:
            return Pick(tuple(sizes[index]), functools.partial(self.__getitem__, index))

        return grain.MapDataset.range(len(self)).seed(seed).shuffle().repeat().map(pick)

    @property
    def truncated_inputs(self) -> int:
        """The number of examples with truncated inputs."""
        return int((self._cache.token_counts(INPUTS) + 1 > self._lengths[INPUTS]).sum())

    def sizes(self) -> np.ndarray:
        """Returns int [examples, 2], tokens of inputs and targets as delivered."""
        counts = [
            np.minimum(self._cache.token_counts(feature) + 1, self._lengths[feature])
            for feature in (INPUTS, TARGETS)
        ]
        return np.stack(counts, axis=1)


class Chunks:
    """Random access to the text of a cache in pieces that fill the inputs after span corruption.

    The texts are concatenated without separators, see `span_corruption.windows`.

    Raises:
      RequestError: the lengths do not fit, see `span_corruption.text_length`; or the texts have no
        tokens.
    """

    truncated_inputs = long_targets = 0

    def __init__(self, cache: Cache, lengths: Lengths, sentinels: Sequence[int]):
        check_lengths(lengths)
        self._sentinels = np.asarray(sentinels)
        self._text_length = span_corruption.text_length(lengths)
        targets = span_corruption.lengths(lengths[INPUTS])[1]
        self._lengths = {INPUTS: lengths[INPUTS], TARGETS: targets}
        parts = [cache.tokens(TARGETS, i) for i in range(len(cache))]
        self._stream = np.concatenate(parts).astype(np.int32)
        if not self._stream.size:
            raise RequestError(f"the texts of {cache.task.name} ({cache.split}) have no tokens")

    def __len__(self) -> int:
        return -(-len(self._stream) // self._text_length)

    def __getitem__(self, index: int) -> np.ndarray:
        start = index * self._text_length
        return self._stream[start : start + self._text_length]

    def sizes(self) -> np.ndarray:
        """Returns int [1, 2], tokens of inputs and targets of a chunk; the last may be shorter."""
        return np.asarray([[self._lengths[INPUTS], self._lengths[TARGETS]]])

    def corrupt(self, index: int, mask: np.ndarray) -> Example:
        """Returns a chunk as an example, with the masked tokens in its targets."""
        inputs, targets = span_corruption.corrupt(self[index], mask, self._sentinels)
        return {
            INPUTS: ended(inputs, self._lengths[INPUTS]),
            TARGETS: ended(targets, self._lengths[TARGETS]),
        }

    def stream(self, seed: int) -> grain.MapDataset:
        """Returns an endless stream of examples; the masks differ every time."""

        def pick(index: int, rng: np.random.Generator) -> Pick:
            mask = span_corruption.noise_mask(len(self[index]), rng)
            return Pick(corrupted_size(mask), functools.partial(self.corrupt, index, mask))

        return grain.MapDataset.range(len(self)).seed(seed).shuffle().repeat().random_map(pick)


def corrupted_size(mask: np.ndarray) -> tuple[int, int]:
    masked = int(mask.sum())
    masked_spans, kept_spans = (
        int(np.count_nonzero(np.diff(side.astype(np.int8), prepend=0) == 1))
        for side in (mask, ~mask)
    )
    return len(mask) - masked + masked_spans + 1, masked + kept_spans + 1


def check_lengths(lengths: Lengths, macro: str = "TASK_FEATURE_LENGTHS") -> None:
    """Checks that exactly the two features have a length, of at least two tokens.

    Args:
      lengths: most tokens of each feature.
      macro: the macro of the lengths, for the error message.

    Raises:
      RequestError: the lengths are not valid.
    """
    if not isinstance(lengths, dict) or set(lengths) - {INPUTS, TARGETS}:
        raise RequestError(f"{macro} must be {{'inputs': …, 'targets': …}}, not {lengths!r:.100}")
    for feature in (INPUTS, TARGETS):
        length = lengths.get(feature)
        if type(length) is not int or not 2 <= length <= MOST_TOKENS:
            raise RequestError(
                f"{macro}[{feature!r}] must be an integer of at least 2 and at most {MOST_TOKENS},"
                f" not {length!r:.100}"
            )


# --- Probes --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Masked(Cache):
    """The texts of a probe, joined and masked; an example is a piece that fills the inputs."""

    masked: dict[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    pieces: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def _arrays(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return self.masked

    @property
    def texts(self) -> list[dict[str, Any]]:
        """The text of each piece as inputs, and its masked spans as targets, as in SeqIO."""
        return self.pieces


def masked(cache: Cache, lengths: Lengths, vocabulary: Vocabulary, seed: int) -> Masked:
    """Masks the texts of a probe like its SeqIO task.

    Args:
      cache: the examples of a probe.
      lengths: most tokens of inputs and targets.
      vocabulary: the vocabulary of the tokens.
      seed: seed of the masks.

    Raises:
      RequestError: the lengths or the vocabulary do not fit, see `span_corruption.text_length` and
        `probes.sentinels`.
    """
    span_corruption.text_length(lengths)
    sentinels = probes.sentinels(vocabulary)
    texts = (cache.tokens(TARGETS, i) for i in range(len(cache)))
    windows = span_corruption.windows(texts, lengths[INPUTS])
    pairs = [
        span_corruption.deterministic(window, lengths[INPUTS], sentinels, seed)
        for window in windows
    ]
    flat = {
        feature: (np.concatenate(parts), np.cumsum([0, *map(len, parts)], dtype=np.int64))
        for feature, parts in zip((INPUTS, TARGETS), zip(*pairs, strict=True), strict=True)
    }
    pieces = [
        {
            "inputs_pretokenized": vocabulary.decode(window.tolist()),
            "targets_pretokenized": vocabulary.decode(targets.tolist()),
        }
        for window, (_, targets) in zip(windows, pairs, strict=True)
    ]
    return Masked(cache.task, cache.split, cache.folder, np.arange(len(pairs)), flat, pieces)
