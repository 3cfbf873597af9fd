"""Span corruption: counts, uniform draws, and outputs that give the text back."""

import itertools
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from scipy import stats

from seqio_tasks import span_corruption
from seqio_tasks.errors import RequestError
from seqio_tasks.span_corruption import corrupt, deterministic, lengths, noise_mask, text_length

TOP = 250_099  # mT5's <extra_id_0>
SENTINELS = range(TOP, TOP - 100, -1)


def counted_down(top: int) -> range:
    """Ids of more sentinels than any text here needs."""
    return range(top, top - 1000, -1)


def spans(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of masked tokens."""
    return [len(list(run)) for masked, run in itertools.groupby(mask) if masked]


def rounded(number: Decimal) -> int:
    return int(number.quantize(Decimal(1), ROUND_HALF_EVEN))


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
def test_counts_follow_from_other_settings_too(density, mean):
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


@pytest.mark.slow
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


def test_long_texts_have_the_density_and_spans_that_are_set():
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


def test_an_example_is_as_worked_out_by_hand():
    tokens = np.array([10, 11, 12, 13, 14, 15, 16, 17])
    mask = np.array([0, 0, 1, 1, 0, 1, 0, 1], bool)
    inputs, targets = corrupt(tokens, mask, [99, 98, 97])
    assert inputs.tolist() == [10, 11, 99, 14, 98, 16, 97]
    assert targets.tolist() == [99, 12, 13, 98, 15, 97, 17]
    assert inputs.dtype == targets.dtype == np.int32


def test_sentinels_may_have_any_ids():
    rng = np.random.default_rng(0)
    tokens, mask = rng.integers(3, 40, 300), noise_mask(300, rng)
    ids = rng.permutation(np.arange(1000, 1100))
    as_mt5, others = corrupt(tokens, mask, SENTINELS), corrupt(tokens, mask, ids)
    of_mt5 = {TOP - number: token for number, token in enumerate(ids.tolist())}
    for expected, found in zip(as_mt5, others, strict=True):
        assert found.tolist() == [of_mt5.get(token, token) for token in expected.tolist()]
    read = span_corruption.spans(others[1].tolist(), ids.tolist())
    assert read == span_corruption.spans(as_mt5[1].tolist(), SENTINELS)
    assert [token for span in read.values() for token in span] == tokens[mask].tolist()


def test_the_text_can_be_put_together_again(restore):
    rng = np.random.default_rng(0)
    for length in (*range(1, 60), 568, 1137):
        # repeats, so that places and not values must be right
        tokens = rng.integers(3, 40, length)
        mask = noise_mask(length, rng)
        inputs, targets = corrupt(tokens, mask, SENTINELS)
        assert restore(inputs.tolist(), targets.tolist(), TOP) == tokens.tolist()
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
    corrupt(tokens, mask, [99, 98, 97])
    assert (tokens == np.arange(20)).all()
    assert (mask == before).all()


def test_spans_are_those_worked_out_by_hand():
    def read(*tokens: int) -> dict[int, tuple[int, ...]]:
        return span_corruption.spans(tokens, range(999, 899, -1))

    expected = {0: (12, 13), 1: (15,), 2: (17,)}
    assert read(999, 12, 13, 998, 15, 997, 17, 1, 996, 5) == expected
    # what a model may say: tokens before any sentinel, a sentinel twice, nothing for one
    assert read(7, 999, 5, 999, 6, 998, 0, 997) == {0: (5,), 1: ()}
    # ids beyond the sentinels at either end: rows of the embedding without a piece, and pieces
    assert read(999, 1000, 899, 900, 3) == {0: (1000, 899), 99: (3,)}
    assert read() == {}


def test_the_spans_of_targets_are_the_masked_tokens():
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 40, 1137)
    mask = noise_mask(len(tokens), rng)
    _, targets = corrupt(tokens, mask, SENTINELS)
    found = span_corruption.spans(targets.tolist(), SENTINELS)
    assert list(found) == list(range(57))
    assert [token for span in found.values() for token in span] == tokens[mask].tolist()
    assert list(map(len, found.values())) == spans(mask)


def test_texts_are_joined_and_cut_into_what_fills_the_inputs():
    texts = [np.arange(10, 40), np.arange(40, 42), np.arange(42, 130)]
    size = lengths(64)[0]
    found = span_corruption.windows(texts, 64)
    assert [len(window) for window in found] == [size, 120 - size]
    assert np.concatenate(found).tolist() == list(range(10, 130))
    inputs, _ = deterministic(found[0], 64, SENTINELS)
    assert len(inputs) + 1 == 64


def test_a_text_is_masked_by_its_own_tokens(restore):
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 40, length) for length in (*range(1, 40), 300)]
    first = [deterministic(text, 512, SENTINELS) for text in texts]
    again = [deterministic(text.astype(np.int64), 512, SENTINELS) for text in reversed(texts)]
    for text, (inputs, targets), (same_inputs, same_targets) in zip(
        texts, first, reversed(again), strict=True
    ):
        assert inputs.tolist() == same_inputs.tolist()
        assert targets.tolist() == same_targets.tolist()
        assert restore(inputs.tolist(), targets.tolist(), TOP) == text.tolist()
    # Results of studies hang on these: they may not change.
    inputs, targets = deterministic(np.arange(10, 70), 512, SENTINELS)
    assert targets.tolist() == [250099, 29, 30, 250098, 38, 39, 250097, 65, 66, 67, 68, 69]


def test_another_seed_and_another_text_have_another_mask():
    def masked(text: np.ndarray, seed: int = 0) -> tuple[int, ...]:
        _, targets = deterministic(text, 512, SENTINELS, seed)
        return tuple(t for t in targets.tolist() if t < 1000)

    text = np.arange(10, 110)
    assert len({masked(text, seed) for seed in range(20)}) == 20
    texts = [np.append(text, last) for last in range(200, 220)]
    assert len({masked(text) for text in texts}) == 20


def test_a_long_text_is_cut_to_what_fills_the_inputs():
    tokens, targets_length = lengths(64)
    text = np.arange(10, 10 + 2 * tokens)
    inputs, targets = deterministic(text, 64, SENTINELS)
    assert (len(inputs) + 1, len(targets) + 1) == (64, targets_length)
    whole = deterministic(text[:tokens], 64, SENTINELS)
    assert [inputs.tolist(), targets.tolist()] == [part.tolist() for part in whole]


@pytest.mark.parametrize(
    ("inputs", "tokens", "targets"),
    [(1024, 1137, 229), (512, 568, 114)],  # mT5's; T5's
)
def test_lengths_are_the_published_ones(inputs, tokens, targets):
    assert lengths(inputs) == (tokens, targets)


@pytest.mark.slow
def test_lengths_are_the_most_that_fits():
    rng = np.random.default_rng(0)

    def delivered(tokens: int) -> tuple[int, int]:
        inputs, targets = corrupt(np.arange(tokens), noise_mask(tokens, rng), counted_down(10**6))
        return len(inputs) + 1, len(targets) + 1  # with the end of sequence

    for inputs_length in range(4, 600):
        tokens, targets_length = lengths(inputs_length)
        assert delivered(tokens) == (inputs_length, targets_length)
        assert delivered(tokens + 1)[0] > inputs_length


@pytest.mark.parametrize(("inputs", "targets"), [(1024, 229), (1024, 512), (512, 114), (64, 15)])
def test_lengths_that_suit_give_the_length_of_the_text(inputs, targets):
    assert text_length({"inputs": inputs, "targets": targets}) == lengths(inputs)[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": 1024, "targets": 228}, "1024 input tokens needs 229 target tokens"),
        ({"inputs": 4096, "targets": 4096}, "more than the 100 sentinels"),
        ({"inputs": 64}, r"needs TASK_FEATURE_LENGTHS\['targets'\]"),
        ({"inputs": 2, "targets": 64}, "at least 3 and at most 65536, not 2"),
        ({"inputs": True, "targets": 64}, "not True"),
        ({"inputs": 10**12, "targets": 64}, "not 1000000000000"),
        (None, r"needs TASK_FEATURE_LENGTHS\['inputs'\], .*not None"),
    ],
)
def test_lengths_that_do_not_suit_are_refused(given, message):
    with pytest.raises(RequestError, match=message):
        text_length(given)


@pytest.mark.slow
def test_as_many_spans_as_there_are_sentinels():
    longest = max(n for n in range(1750, 1850) if len(spans(_mask_that_fills(n))) <= 100)
    assert longest < 1849
    assert text_length({"inputs": longest, "targets": 1000}) == lengths(longest)[0]
    with pytest.raises(RequestError, match="sentinels"):
        text_length({"inputs": longest + 1, "targets": 1000})


def _mask_that_fills(inputs_length: int) -> np.ndarray:
    return noise_mask(lengths(inputs_length)[0], np.random.default_rng(0))


def test_other_densities_fit_their_lengths_too():
    tokens, targets = lengths(512, noise_density=0.5, mean_span_length=2.0)
    mask = noise_mask(tokens, np.random.default_rng(0), 0.5, 2.0)
    inputs, outputs = corrupt(np.arange(tokens), mask, counted_down(10**6))
    assert len(inputs) + 1 <= 512
    assert len(outputs) + 1 == targets


def test_defaults_are_mt5s():
    assert (span_corruption.NOISE_DENSITY, span_corruption.MEAN_SPAN_LENGTH) == (0.15, 3.0)


@pytest.mark.parametrize("inputs_length", range(10, 40))
def test_no_part_of_a_chunk_is_cut_however_short(inputs_length):
    tokens, targets_length = span_corruption.lengths(inputs_length)
    for length in range(1, tokens + 1):  # the last chunk is shorter
        mask = span_corruption.noise_mask(length, np.random.default_rng(0))
        inputs, targets = span_corruption.corrupt(np.arange(length) + 2, mask, range(1000, 900, -1))
        assert len(inputs) + 1 <= inputs_length, length
        assert len(targets) + 1 <= targets_length, length
