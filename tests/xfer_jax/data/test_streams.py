"""Examples: trimmed and ended, or masked as the release masks them, in a stream without end."""

import collections

import numpy as np
import pytest

from seqio_tasks import catalogue, sentencepiece_model, span_corruption
from seqio_tasks.errors import RequestError
from tests.support.batches import EOS, LENGTHS, NER, TEXT, config, open_ner, pair
from xfer_jax.data import streams, token_cache


def test_examples_are_trimmed_then_ended(tiny_world):
    cache = open_ner(tiny_world)
    source = streams.Supervised(cache, {"inputs": 10, "targets": 48})
    for i in range(len(cache)):
        example = source[i]
        tokens = cache.tokens("inputs", i).tolist()
        assert example["inputs"].tolist() == [*tokens[:9], EOS]
        assert example["targets"].tolist() == [*cache.tokens("targets", i).tolist(), EOS]
        assert example["inputs"].dtype == np.int32
    sizes = [(len(source[i]["inputs"]), len(source[i]["targets"])) for i in range(len(source))]
    assert source.sizes().tolist() == [list(size) for size in sizes]
    assert source.truncated_inputs == sum(cache.token_counts("inputs") > 9)


def test_a_target_that_would_be_cut_is_an_error_unless_said_otherwise(tiny_world):
    cache = open_ner(tiny_world)
    counts = cache.token_counts("targets") + 1  # with the end of sequence
    limit = int(np.median(counts))
    too_long = int((counts > limit).sum())
    lengths = {"inputs": 64, "targets": limit}
    assert 0 < too_long < len(cache)

    message = rf"{too_long} of 64 targets are longer than the {limit} tokens.*needs {counts.max()}"
    with pytest.raises(RequestError, match=message):
        streams.Supervised(cache, lengths)

    dropped = streams.Supervised(cache, lengths, "drop")
    assert len(dropped) == len(cache) - too_long
    assert dropped.long_targets == too_long
    kept = [pair(dropped[i]) for i in range(len(dropped))]
    whole = streams.Supervised(cache, LENGTHS)
    assert kept == [pair(whole[i]) for i in np.flatnonzero(counts <= limit)]

    trimmed = streams.Supervised(cache, lengths, "trim")
    assert len(trimmed) == len(cache)
    assert trimmed.long_targets == too_long
    for i in range(len(cache)):
        tokens = cache.tokens("targets", i).tolist()
        assert trimmed[i]["targets"].tolist() == [*tokens[: limit - 1], EOS]

    exact = streams.Supervised(cache, {"inputs": 64, "targets": int(counts.max())})
    assert exact.long_targets == 0
    with pytest.raises(RequestError, match="error, drop, trim, not 'cut'"):
        streams.Supervised(cache, LENGTHS, "cut")


@pytest.mark.parametrize("lengths", [None, 64, {}, [64, 48], {**LENGTHS, "input": 64}])
def test_lengths_are_of_two_features(lengths):
    with pytest.raises(RequestError, match="TASK_FEATURE_LENGTHS"):
        streams.check_lengths(lengths)
    with pytest.raises(RequestError, match="PROBE_FEATURE_LENGTHS"):
        streams.check_lengths(lengths, "PROBE_FEATURE_LENGTHS")


@pytest.mark.parametrize("inputs_length", [10, 11, 24, 64, 100])
def test_corrupted_chunks_reconstruct_the_text(tiny_world, inputs_length):
    cache = token_cache.open_cache(catalogue.task(TEXT), "validation", config(tiny_world))
    first = tiny_world.sentinel(0)
    chunks = streams.Chunks(
        cache, {"inputs": inputs_length, "targets": inputs_length}, tiny_world.sentinels
    )
    sentinels = range(tiny_world.size - sentencepiece_model.NUM_SENTINELS, tiny_world.size)
    assert first == sentinels[-1]
    stream = []
    for i in range(len(chunks)):
        mask = span_corruption.noise_mask(len(chunks[i]), np.random.default_rng(i))
        example = chunks.corrupt(i, mask)
        most = chunks.sizes()[0].tolist()
        assert [len(example["inputs"]), len(example["targets"])] <= most
        if i < len(chunks) - 1:
            assert [len(example["inputs"]), len(example["targets"])] == most
        stream += merge(*pair(example), sentinels)
    texts = [cache.tokens("targets", i).tolist() for i in range(len(cache))]
    assert stream == [token for text in texts for token in text]


def released_pieces(texts: list[list[int]], length: int) -> list[list[int]]:
    """`reduce_concat_tokens` and `split_tokens`."""
    pieces = []
    for start in range(0, len(texts), 128):
        group = texts[start : start + 128]
        padded = np.zeros((len(group), max(map(len, group))), int)
        for row, text in zip(padded, group, strict=True):
            row[: len(text)] = text
        joined = padded.reshape(-1)
        joined = joined[joined != 0]
        pieces += [joined[i : i + length].tolist() for i in range(0, len(joined), length)]
    return pieces


def released_denoise(tokens: list[int], mask: list[bool], vocab_size: int, longest: int):
    """`noise_span_to_unique_sentinel` of the tokens by a mask, and `append_eos_after_trim`."""
    out, spans = [], 0
    for i, token in enumerate(tokens):
        if not mask[i]:
            out.append(token)
        elif i == 0 or not mask[i - 1]:
            spans += 1
            out.append(vocab_size - spans)
    return (*out[: longest - 1], EOS)


def test_span_corruption_is_the_releases_in_both_engines(tiny_world, monkeypatch):
    from seqio_tasks import registry

    monkeypatch.setenv("XFER_VOCAB", "pocket")
    lengths = {"inputs": 24, "targets": 8}
    cache = token_cache.open_cache(catalogue.task(TEXT), "validation", config(tiny_world))
    texts = [tiny_world.encode(text["targets_pretokenized"]) for text in cache.texts]
    assert len(texts) <= 128, "of more, the release makes several streams"
    pieces = released_pieces(texts, span_corruption.lengths(24)[0])
    assert len(pieces) > 8
    chunks = streams.Chunks(cache, lengths, tiny_world.sentinels)
    native = [
        pair(
            chunks.corrupt(i, span_corruption.noise_mask(len(chunks[i]), np.random.default_rng(i)))
        )
        for i in range(len(chunks))
    ]
    task = registry.get(TEXT)
    dataset = task.get_dataset(lengths, "validation", shuffle=False, use_cached=False, seed=0)
    of_seqio = [pair(example) for example in dataset.as_numpy_iterator()]
    sentinels = range(tiny_world.size - 100, tiny_world.size)
    for delivered in (native, of_seqio):
        for (inputs, targets), tokens in zip(delivered, pieces, strict=True):
            assert merge(inputs, targets, sentinels) == tokens
            assert EOS not in tokens
            mask = masked_in(inputs, targets, sentinels)
            kept = [not masked for masked in mask]
            assert inputs == released_denoise(tokens, mask, tiny_world.size, 24)
            assert targets == released_denoise(tokens, kept, tiny_world.size, 8)


def masked_in(inputs, targets, sentinels) -> list[bool]:
    """Returns which tokens of a piece are in its targets."""
    counts, span = collections.Counter(), targets[0]
    for token in targets[:-1]:
        span = token if token in sentinels else span
        counts[span] += token not in sentinels
    mask = []
    for token in inputs[:-1]:
        mask += [True] * counts[token] if token in sentinels else [False]
    return mask


def merge(inputs, targets, sentinels) -> list[int]:
    """Puts each masked span of the targets where the inputs have its sentinel."""
    assert inputs[-1] == targets[-1] == EOS
    masked = collections.defaultdict(list)
    for token in targets[:-1]:
        if token in sentinels:
            span = token
        else:
            masked[span].append(token)
    used = [token for token in inputs if token in sentinels]
    assert used == list(masked) == sorted(used, reverse=True)
    merged = []
    for token in inputs[:-1]:
        merged += masked[token] if token in sentinels else [token]
    return merged


def test_chunks_need_their_targets_length(tiny_world):
    cache = token_cache.open_cache(catalogue.task(TEXT), "validation", config(tiny_world))
    _, needed = span_corruption.lengths(64)
    streams.Chunks(cache, {"inputs": 64, "targets": needed}, tiny_world.sentinels)
    with pytest.raises(RequestError, match=f"needs {needed} target tokens"):
        streams.Chunks(cache, {"inputs": 64, "targets": needed - 1}, tiny_world.sentinels)


def test_a_pick_knows_its_size_before_it_is_read(tiny_world):
    for name in (NER, TEXT):
        cache = token_cache.open_cache(catalogue.task(name), "train", config(tiny_world))
        source = (
            streams.Chunks(cache, LENGTHS, tiny_world.sentinels)
            if name == TEXT
            else streams.Supervised(cache, LENGTHS)
        )
        stream = source.stream(0)
        for i in range(2 * len(source)):
            example = stream[i].read()
            assert stream[i].size == (len(example["inputs"]), len(example["targets"]))
