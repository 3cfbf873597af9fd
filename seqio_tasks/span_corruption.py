"""Span corruption, mT5's pre-training objective (Raffel et al. 2020, §3.1.4), in NumPy.

Spans of a token sequence are masked: the inputs keep a sentinel in place of each, the targets list
each sentinel with the tokens it stands for. The numbers of masked tokens and of spans follow from
the length alone; which spans, from a random generator.
"""

import numpy as np

NOISE_DENSITY = 0.15  # share of tokens masked
MEAN_SPAN_LENGTH = 3.0  # tokens a span


def noise_mask(
    length: int,
    rng: np.random.Generator,
    noise_density: float = NOISE_DENSITY,
    mean_span_length: float = MEAN_SPAN_LENGTH,
) -> np.ndarray:
    """Draws which tokens are masked; spans alternate, beginning with one that is kept.

    Args:
      length: number of tokens, at least 1.
      rng: decides the lengths of the spans, all segmentations equally likely.
      noise_density: share of tokens masked; at least one is, and at least one is not.
      mean_span_length: mean number of tokens a masked span.

    Returns:
      bool [length].
    """
    tokens = max(length, 2)  # below two tokens there is nothing to alternate
    noise, spans = _counts(tokens, noise_density, mean_span_length)
    kept_lengths = _segment(tokens - noise, spans, rng)
    noise_lengths = _segment(noise, spans, rng)
    lengths = np.stack([kept_lengths, noise_lengths], axis=1).reshape(-1)
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)[:length]


def _counts(tokens: int, noise_density: float, mean_span_length: float) -> tuple[int, int]:
    """Returns how many tokens and spans are masked, rounded in float32 as T5 does (ties differ)."""
    noise = int(np.round(np.float32(tokens) * np.float32(noise_density)))
    noise = min(max(noise, 1), tokens - 1)
    spans = int(np.round(np.float32(noise) / np.float32(mean_span_length)))
    return noise, min(max(spans, 1), tokens - noise)


def _segment(items: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    cuts = np.sort(rng.choice(items - 1, segments - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=items)


def corrupt(
    tokens: np.ndarray, mask: np.ndarray, first_sentinel: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits tokens into inputs and targets by a mask.

    Args:
      tokens: int [L].
      mask: bool [L], from `noise_mask`.
      first_sentinel: id of `<extra_id_0>`; the following sentinels count down from it.

    Returns:
      inputs: the kept tokens, each masked span replaced by the next sentinel.
      targets: each kept span replaced by the next sentinel, then the masked tokens it precedes.
    """
    return _replace(tokens, mask, first_sentinel), _replace(tokens, ~mask, first_sentinel)


def _replace(tokens: np.ndarray, replaced: np.ndarray, first_sentinel: int) -> np.ndarray:
    starts = replaced & ~np.concatenate([[False], replaced[:-1]])
    with_sentinels = np.where(starts, first_sentinel + 1 - np.cumsum(starts), tokens)
    return with_sentinels[starts | ~replaced].astype(np.int32)


def lengths(
    inputs_length: int,
    noise_density: float = NOISE_DENSITY,
    mean_span_length: float = MEAN_SPAN_LENGTH,
) -> tuple[int, int]:
    """Finds the text that fills an input exactly.

    Args:
      inputs_length: tokens of the corrupted input, end of sequence included.
      noise_density: share of tokens masked.
      mean_span_length: mean number of tokens a masked span.

    Returns:
      The most tokens of text whose corrupted inputs fit, and the length of their targets, end of
      sequence included: (1137, 229) for mT5's inputs of 1024.
    """

    def corrupted(tokens: int) -> tuple[int, int]:
        noise, spans = _counts(tokens, noise_density, mean_span_length)
        return tokens - noise + spans + 1, noise + spans + 1

    tokens = 2
    while corrupted(tokens + 1)[0] <= inputs_length:
        tokens += 1
    return tokens, corrupted(tokens)[1]
