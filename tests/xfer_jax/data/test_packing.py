"""Packing: few rows of few shapes, and every example in them."""

import collections

import numpy as np
import pytest

from xfer_jax.data import packing


def test_packing_fills_rows_and_keeps_every_example():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = np.stack([rng.integers(1, 40, 64), rng.integers(1, 9, 64)], axis=1)
        rows = packing.pack(sizes, (40, 16))
        assert sorted(i for row in rows for i in row) == list(range(64))
        filled = np.asarray([sizes[row].sum(axis=0) for row in rows])
        assert (filled <= (40, 16)).all()
        # First fit decreasing needs at most 11/9 of the best, were there one dimension; two bind.
        best = max(np.ceil(sizes.sum(axis=0) / (40, 16)))
        assert len(rows) <= 1.35 * best + 1
    assert packing.pack(np.asarray([[8, 8]] * 3), (8, 8)) == [[0], [1], [2]]


def test_rows_hold_the_longest_and_as_many_targets_as_go_with_the_inputs():
    sizes = np.stack([np.arange(1, 101), np.full(100, 2)], axis=1)
    assert packing.row_lengths(sizes) == (104, 8)  # two examples, of two tokens each
    assert packing.row_lengths(np.asarray([[7, 3]])) == (8, 8)
    assert packing.row_lengths(np.asarray([[100, 2], [4, 2], [4, 2], [4, 30]])) == (104, 40)


@pytest.mark.parametrize("shares", [1, 2, 3])
def test_batches_have_few_numbers_of_rows(shares):
    counts = {packing.coarse(count, shares) for count in range(1, 12 * shares + 1)}
    assert all(count % shares == 0 for count in counts)
    assert all(n <= packing.coarse(n) <= 1.25 * n for n in range(1, 1025))
    assert len({packing.coarse(n) for n in range(256, 513)}) <= 6


@pytest.mark.parametrize("shares", [1, 2, 4])
def test_batches_that_need_few_rows_have_as_many_as_the_others(shares):
    rng = np.random.default_rng(0)
    sizes = np.stack([rng.integers(8, 33, 2000), np.full(2000, 2)], axis=1)
    layout = packing.Layout(sizes, 32, shares)
    needed, found = collections.Counter(), collections.Counter()
    for batch in rng.integers(len(sizes), size=(200, 32)):
        rows = layout.rows(sizes[batch])
        assert sorted(i for row in rows for i in row) == list(range(32))
        assert all(sizes[batch][row].sum(axis=0)[0] <= layout.lengths[0] for row in rows)
        needed[packing.coarse(sum(map(bool, rows)), shares)] += 1
        found[len(rows)] += 1
    usual, _ = needed.most_common(1)[0]
    assert min(needed) < min(found) == usual
    assert len(found) < len(needed)


@pytest.mark.parametrize("shares", [1, 2, 4])
def test_a_batch_never_has_more_rows_than_examples(shares):
    full = np.full((36, 2), (32, 8))
    assert len(packing.Layout(full, 36, shares).rows(full)) == 36  # 40 would be the next of few


def test_a_layout_is_of_what_a_mixture_yields():
    """Nine in ten of the sizes are long, nine in ten of the examples that come are short."""
    rng = np.random.default_rng(0)
    sizes = np.stack([[60, 2]] * 900 + [[6, 2]] * 100)
    weights = np.repeat([0.1 / 900, 0.9 / 100], [900, 100])
    layout = packing.Layout(sizes, 32, weights=weights)
    assert layout.lengths == (64, 16)  # inputs are 11.4 tokens long on average, targets 2
    batches = rng.choice(1000, (50, 32), p=weights)
    needed = np.median([len(packing.pack(sizes[batch], layout.lengths)) for batch in batches])
    found = np.median([len(layout.rows(sizes[batch])) for batch in batches])
    assert needed <= found <= 1.25 * needed
    assert found < 0.5 * len(packing.Layout(sizes, 32).rows(sizes[:32]))
