"""Span corruption: counts, uniform draws, and outputs that give the text back."""

import itertools
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from scipy import stats

from seqio_tasks import span_corruption
from seqio_tasks.span_corruption import corrupt, lengths, noise_mask

TOP = 250_099  # mT5's <extra_id_0>


def spans(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of masked tokens."""
    return [len(list(run)) for masked, run in itertools.groupby(mask) if masked]


def rounded(number: Decimal) -> int:
    return int(number.quantize(Decimal(1), ROUND_HALF_EVEN))


def restore(inputs: np.ndarray, targets: np.ndarray, first_sentinel: int) -> list[int]:
    """Puts the masked tokens back: the inverse of `corrupt`, for tokens below the sentinels."""
    lowest = first_sentinel - 99
    masked: dict[int, list[int]] = {}
    for token in targets.tolist():
        if token >= lowest:
            current = masked.setdefault(token, [])
        else:
            current.append(token)
    tokens: list[int] = []
    for token in inputs.tolist():
        tokens += masked.pop(token) if token >= lowest else [token]
    assert not any(masked.values())
    return tokens


# ------------------------------------------------------------------------------------------- masks


def test_counts_follow_from_the_length():
    rng = np.random.default_rng(0)
    for length in range(2, 700):
        mask = noise_mask(length, rng)
        # T5 multiplies in float32, where 190 · 0.15 lies above 28.5
        product = Decimal(float(np.float32(length) * np.float32(0.15)))
        noise = min(max(rounded(product), 1), length - 1)
        n_spans = min(max(rounded(noise / Decimal(3)), 1), length - noise)
        assert mask.shape == (length,)
        assert mask.dtype == bool
        assert mask.sum() == noise, length
        assert len(spans(mask)) == n_spans, length
        assert not mask[0]
        assert mask[-1]


@pytest.mark.parametrize("density", [0.05, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("mean", [1.0, 3.0, 10.0])
def test_counts_of_other_settings(density, mean):
    rng = np.random.default_rng(1)
    for length in (2, 3, 5, 17, 100, 513):
        mask = noise_mask(length, rng, density, mean)
        noise = min(max(round(length * density), 1), length - 1)
        assert mask.sum() == noise
        assert len(spans(mask)) == min(max(round(noise / mean), 1), length - noise)
        assert not mask[0]


def test_a_single_token_is_kept():
    assert noise_mask(1, np.random.default_rng(0)).tolist() == [False]


def test_the_generator_decides():
    def draw(seed: int) -> list[bool]:
        return noise_mask(200, np.random.default_rng(seed)).tolist()

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_all_segmentations_are_equally_likely():
    length, noise, n_spans = 12, 6, 3
    possible = [
        mask
        for mask in itertools.product([False, True], repeat=length)
        if sum(mask) == noise and not mask[0] and mask[-1] and len(spans(np.array(mask))) == n_spans
    ]
    assert len(possible) == 100  # 5 choose 2 ways to cut each of the kept and the masked six
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(noise_mask(length, rng, 0.5, 2.0).tolist()) for _ in range(20_000))
    assert set(drawn) == set(possible)
    assert stats.chisquare([drawn[mask] for mask in possible]).pvalue > 0.01


def test_statistics_of_long_texts():
    rng = np.random.default_rng(0)
    masks = [noise_mask(1137, rng) for _ in range(1000)]
    every = [length for mask in masks for length in spans(mask)]
    assert np.mean(masks) == pytest.approx(0.15, abs=0.001)
    assert np.mean(every) == pytest.approx(3, abs=0.01)
    # a random composition of 171 tokens into 57 spans: each length is nearly geometric
    assert np.mean(np.array(every) == 1) == pytest.approx(56 / 170, abs=0.01)
    # every place but the ends is masked about as often
    often = np.mean(masks, axis=0)[20:-20]
    assert often.min() > 0.10
    assert often.max() < 0.20


# -------------------------------------------------------------------------------------- corruption


def test_an_example_by_hand():
    tokens = np.array([10, 11, 12, 13, 14, 15, 16, 17])
    mask = np.array([0, 0, 1, 1, 0, 1, 0, 1], bool)
    inputs, targets = corrupt(tokens, mask, 99)
    assert inputs.tolist() == [10, 11, 99, 14, 98, 16, 97]
    assert targets.tolist() == [99, 12, 13, 98, 15, 97, 17]
    assert inputs.dtype == targets.dtype == np.int32


def test_the_text_can_be_put_together_again():
    rng = np.random.default_rng(0)
    for length in (*range(1, 60), 568, 1137):
        # repeats, so that places and not values must be right
        tokens = rng.integers(3, 40, length)
        mask = noise_mask(length, rng)
        inputs, targets = corrupt(tokens, mask, TOP)
        assert restore(inputs, targets, TOP) == tokens.tolist()
        n_spans = len(spans(mask))
        assert len(inputs) == length - mask.sum() + n_spans
        descending = list(range(TOP, TOP - n_spans, -1))
        assert [t for t in inputs if t > 40] == descending
        # a text of one token has no masked span, and one sentinel for the kept one
        assert [t for t in targets if t > 40] == (descending or [TOP])
        assert targets[0] == TOP


def test_the_tokens_are_left_as_they_were():
    tokens = np.arange(20)
    mask = noise_mask(20, np.random.default_rng(0))
    before = mask.copy()
    corrupt(tokens, mask, 99)
    assert (tokens == np.arange(20)).all()
    assert (mask == before).all()


# ----------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    ("inputs", "tokens", "targets"),
    [(1024, 1137, 229), (512, 568, 114)],  # mT5's; T5's
)
def test_published_lengths(inputs, tokens, targets):
    assert lengths(inputs) == (tokens, targets)


def test_lengths_are_the_most_that_fits():
    rng = np.random.default_rng(0)

    def delivered(tokens: int) -> tuple[int, int]:
        inputs, targets = corrupt(np.arange(tokens), noise_mask(tokens, rng), 10**6)
        return len(inputs) + 1, len(targets) + 1  # with the end of sequence

    for inputs_length in range(4, 600):
        tokens, targets_length = lengths(inputs_length)
        assert delivered(tokens) == (inputs_length, targets_length)
        assert delivered(tokens + 1)[0] > inputs_length


def test_other_densities():
    tokens, targets = lengths(512, noise_density=0.5, mean_span_length=2.0)
    mask = noise_mask(tokens, np.random.default_rng(0), 0.5, 2.0)
    inputs, outputs = corrupt(np.arange(tokens), mask, 10**6)
    assert len(inputs) + 1 <= 512
    assert len(outputs) + 1 == targets


def test_defaults_are_mt5s():
    assert (span_corruption.NOISE_DENSITY, span_corruption.MEAN_SPAN_LENGTH) == (0.15, 3.0)
