"""Span corruption, mT5's pre-training objective (Raffel et al. 2020, §3.1.4), in NumPy.

Spans of a token sequence are masked: in the inputs, a sentinel replaces each span; the targets
contain each sentinel followed by the tokens that it replaces. The numbers of masked tokens and
spans depend only on the length. A random generator, or the tokens themselves, decide which spans
are masked.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from seqio_tasks.errors import RequestError
from seqio_tasks.sentencepiece_model import EOS_ID, NUM_SENTINELS, PAD_ID

NOISE_DENSITY = 0.15  # share of masked tokens
MEAN_SPAN_LENGTH = 3.0  # tokens per span
MOST_TOKENS = 1 << 16  # most tokens of a text, the same limit as in T5


def noise_mask(
    length: int,
    rng: np.random.Generator,
    noise_density: float = NOISE_DENSITY,
    mean_span_length: float = MEAN_SPAN_LENGTH,
) -> np.ndarray:
    """Draws a mask; kept and masked spans alternate, and the first span is kept.

    Args:
      length: number of tokens, at least 1.
      rng: decides the lengths of the spans, all segmentations equally likely.
      noise_density: share of masked tokens; at least one token is masked and one is kept.
      mean_span_length: mean number of tokens per masked span.

    Returns:
      bool [length], True for masked tokens.
    """
    tokens = max(length, 2)  # spans can alternate only with at least two tokens
    noise, spans = _counts(tokens, noise_density, mean_span_length)
    kept_lengths = _segment(tokens - noise, spans, rng)
    noise_lengths = _segment(noise, spans, rng)
    lengths = np.stack([kept_lengths, noise_lengths], axis=1).reshape(-1)
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)[:length]


def _counts(tokens: int, noise_density: float, mean_span_length: float) -> tuple[int, int]:
    """Returns the numbers of masked tokens and spans, rounded in float32 like T5 (ties differ)."""
    noise = int(np.round(np.float32(tokens) * np.float32(noise_density)))
    noise = min(max(noise, 1), tokens - 1)
    spans = int(np.round(np.float32(noise) / np.float32(mean_span_length)))
    return noise, min(max(spans, 1), tokens - noise)


def _segment(items: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    cuts = np.sort(rng.choice(items - 1, segments - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=items)


def corrupt(
    tokens: np.ndarray, mask: np.ndarray, sentinels: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Splits tokens into inputs and targets by a mask.

    Args:
      tokens: int [L].
      mask: bool [L], from `noise_mask`.
      sentinels: ids of `<extra_id_0>`, `<extra_id_1>` …, at least as many as there are spans.

    Returns:
      inputs: the kept tokens, each masked span replaced by the next sentinel.
      targets: each kept span replaced by the next sentinel, then the masked tokens it precedes.
    """
    ids = np.asarray(sentinels)
    return _replace(tokens, mask, ids), _replace(tokens, ~mask, ids)


def _replace(tokens: np.ndarray, replaced: np.ndarray, sentinels: np.ndarray) -> np.ndarray:
    starts = replaced & ~np.concatenate([[False], replaced[:-1]])
    out = np.array(tokens, np.int32)
    out[starts] = sentinels[: starts.sum()]
    return out[starts | ~replaced]


def spans(tokens: Iterable[int], sentinels: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Parses targets, or a model's outputs for them.

    Args:
      tokens: ids; tokens after the end of sequence or padding do not count.
      sentinels: ids of `<extra_id_0>`, `<extra_id_1>` ….

    Returns:
      The tokens after each sentinel, by its number, in the order of the tokens; if a sentinel
      occurs twice, the first occurrence counts.
    """
    numbers = {sentinel: number for number, sentinel in enumerate(sentinels)}
    found: dict[int, list[int]] = {}
    current: list[int] = []  # tokens before the first sentinel do not count
    for token in itertools.takewhile(lambda token: token not in (PAD_ID, EOS_ID), tokens):
        if token in numbers:
            current = []
            found.setdefault(numbers[token], current)
        else:
            current.append(token)
    return {number: tuple(span) for number, span in found.items()}


@functools.cache
def lengths(
    inputs_length: int,
    noise_density: float = NOISE_DENSITY,
    mean_span_length: float = MEAN_SPAN_LENGTH,
) -> tuple[int, int]:
    """Finds the length of the text that fills an input exactly.

    Args:
      inputs_length: tokens of the corrupted input, including the end of sequence.
      noise_density: share of masked tokens.
      mean_span_length: mean number of tokens per masked span.

    Returns:
      The largest number of text tokens whose corrupted inputs fit, and the length of their targets,
      including the end of sequence: (1137, 229) for mT5's inputs of 1024.
    """

    def corrupted(tokens: int) -> tuple[int, int]:
        noise, spans = _counts(tokens, noise_density, mean_span_length)
        return tokens - noise + spans + 1, noise + spans + 1

    tokens = 2
    while corrupted(tokens + 1)[0] <= inputs_length:
        tokens += 1
    return tokens, corrupted(tokens)[1]


def text_length(
    sequence_length: Mapping[str, int] | None, macro: str = "TASK_FEATURE_LENGTHS"
) -> int:
    """Returns the number of text tokens that span corruption turns into one input.

    Args:
      sequence_length: most tokens of `inputs` and `targets`, including the end of sequence.
      macro: the macro that sets them, for the error message.

    Raises:
      RequestError: a length is missing, the targets' length is too small, or there are more masked
        spans than sentinels.
    """
    for feature in ("inputs", "targets"):
        length = (sequence_length or {}).get(feature)
        if type(length) is not int or not 3 <= length <= MOST_TOKENS:
            raise RequestError(
                f"span corruption needs {macro}[{feature!r}], an integer of at least"
                f" 3 and at most {MOST_TOKENS}, not {length!r}"
            )
    assert sequence_length is not None
    inputs_length = sequence_length["inputs"]
    tokens, targets_length = lengths(inputs_length)
    if targets_length > sequence_length["targets"]:
        raise RequestError(
            f"span corruption of {inputs_length} input tokens needs {targets_length} target tokens;"
            f" {macro}['targets'] is {sequence_length['targets']}"
        )
    if _counts(tokens, NOISE_DENSITY, MEAN_SPAN_LENGTH)[1] > NUM_SENTINELS:
        raise RequestError(
            f"span corruption of {inputs_length} input tokens needs more than the {NUM_SENTINELS}"
            f" sentinels; reduce {macro}['inputs']"
        )
    return tokens


def windows(texts: Iterable[np.ndarray], inputs_length: int) -> list[np.ndarray]:
    """Concatenates texts without separators, and splits them into pieces that fill the inputs.

    mT5's pre-training does the same (`merge_examples_to_reduce_padding`): a piece contains no end
    of sequence. It concatenates 128 documents at a time, and has a short piece after each 128. Here
    all texts are concatenated, because sentences are short and most short pieces would be padding.

    Args:
      texts: tokens without end of sequence, int [L] each; at least one text.
      inputs_length: most tokens of the corrupted inputs, including the end of sequence.

    Returns:
      int arrays with the number of tokens that `lengths` gives; the last may be shorter.
    """
    joined = np.concatenate(list(texts)).astype(np.int32)
    size = lengths(inputs_length)[0]
    return [joined[start : start + size] for start in range(0, len(joined), size)]


def deterministic(
    tokens: np.ndarray,
    inputs_length: int,
    sentinels: Sequence[int] | np.ndarray,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrupts a text with a mask that depends only on its tokens.

    The same text gets the same mask in every engine and on every machine, so that all models and
    engines predict the same spans.

    Args:
      tokens: tokens of the text, int [L], without end of sequence; truncated if too long.
      inputs_length: most tokens of the inputs, including the end of sequence.
      sentinels: ids of `<extra_id_0>`, `<extra_id_1>` ….
      seed: of the masks.

    Returns:
      inputs and targets, without end of sequence.
    """
    tokens = np.asarray(tokens, np.int32)[: lengths(inputs_length)[0]]
    digest = hashlib.sha256(f"{seed}|".encode() + tokens.astype("<i4").tobytes()).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    return corrupt(tokens, noise_mask(len(tokens), rng), sentinels)
