"""Examples and batches that hold what they should, in a fixed order."""

import collections
import dataclasses

import grain
import numpy as np
import pytest

from seqio_tasks import catalogue, data_config, sentencepiece_model, span_corruption
from seqio_tasks.errors import RequestError
from xfer_jax.data import loader, packing, selection, streams, token_cache

NER, TEXT = "xfer_pocket_ner.en", "xfer_pocket_text.en"
LENGTHS = {"inputs": 64, "targets": 48}
WINDOW = 32  # batches of two: an epoch of the tiny world
EOS = 1


def config(words) -> data_config.DataConfig:
    return dataclasses.replace(data_config.configured(), vocabulary_file=words.name)


def open_ner(words, name: str = NER, split: str = "train") -> token_cache.Cache:
    return token_cache.open_cache(catalogue.task(name), split, config(words))


def training(
    words, tasks, batch_size=2, num_batches=1, seed=0, shares=1, share=slice(None), **data
) -> loader.TrainingInput:
    settings = selection.TrainingData(
        **{"task": tasks[0].name, "lengths": LENGTHS, "batch_size": batch_size} | data
    )
    return loader.training_input(tasks, settings, config(words), num_batches, seed, shares, share)


def pair(example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(example["inputs"].tolist()), tuple(example["targets"].tolist())


def pairs(batch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns the examples that a batch's rows are packed with, without padding."""
    found = []
    columns = (
        batch[name]
        for name in (
            "encoder_input_tokens",
            "encoder_segment_ids",
            "decoder_target_tokens",
            "decoder_segment_ids",
        )
    )
    for inputs, of_inputs, targets, of_targets in zip(*columns, strict=True):
        assert set(of_inputs) - {0} == set(of_targets) - {0} == set(range(1, of_inputs.max() + 1))
        for i in range(1, of_inputs.max() + 1):
            example = inputs[of_inputs == i], targets[of_targets == i]
            found.append(tuple(tuple(part.tolist()) for part in example))
    return found


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


@pytest.mark.parametrize("length", [0, 1, -5, None, 2.5, "long", True, 10**12, [8]])
@pytest.mark.parametrize("feature", ["inputs", "targets"])
def test_lengths_need_room_for_a_token_and_the_end(tiny_world, feature, length):
    lengths = {**LENGTHS, feature: length}
    with pytest.raises(RequestError, match=rf"TASK_FEATURE_LENGTHS\['{feature}'\] must be"):
        training(tiny_world, [catalogue.task(NER)], lengths=lengths)


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


@pytest.mark.parametrize("inputs_length", range(10, 40))
def test_no_part_of_a_chunk_is_cut_however_short(inputs_length):
    tokens, targets_length = span_corruption.lengths(inputs_length)
    for length in range(1, tokens + 1):  # the last chunk is shorter
        mask = span_corruption.noise_mask(length, np.random.default_rng(0))
        inputs, targets = span_corruption.corrupt(np.arange(length) + 2, mask, range(1000, 900, -1))
        assert len(inputs) + 1 <= inputs_length, length
        assert len(targets) + 1 <= targets_length, length


def test_chunks_need_their_targets_length(tiny_world):
    cache = token_cache.open_cache(catalogue.task(TEXT), "validation", config(tiny_world))
    _, needed = span_corruption.lengths(64)
    streams.Chunks(cache, {"inputs": 64, "targets": needed}, tiny_world.sentinels)
    with pytest.raises(RequestError, match=f"needs {needed} target tokens"):
        streams.Chunks(cache, {"inputs": 64, "targets": needed - 1}, tiny_world.sentinels)


def ner_batches(words, *, batch_size=2, num_batches=3 * WINDOW, seed=0, names=(NER,)):
    tasks = [catalogue.task(name) for name in names]
    return training(words, tasks, batch_size, num_batches, seed)


def assert_equal_batches(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


def test_an_epoch_holds_every_example_once_and_the_next_in_another_order(tiny_world):
    training = ner_batches(tiny_world)
    source = streams.Supervised(open_ner(tiny_world), LENGTHS)
    expected = collections.Counter(pair(source[i]) for i in range(len(source)))
    assert training.examples == len(source) == 2 * WINDOW  # so that a window is an epoch
    epochs = [
        [p for step in range(e * WINDOW, (e + 1) * WINDOW) for p in pairs(training.batches[step])]
        for e in range(3)
    ]
    for epoch in epochs:
        assert collections.Counter(epoch) == expected
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_are_packed_into_few_shapes_and_shifted_right(tiny_world):
    training = ner_batches(tiny_world, batch_size=8)
    batches = [training.batches[step] for step in range(len(training.batches))]
    shapes = {tuple(array.shape for array in batch.values()) for batch in batches}
    assert len(shapes) <= 5
    lengths = training.batches.layout.lengths
    assert all(n % 8 == 0 for n in lengths)
    assert lengths[0] <= LENGTHS["inputs"]
    for batch in batches:
        assert {array.dtype for array in batch.values()} == {np.dtype("int32")}
        assert len(pairs(batch)) == 8
        assert batch["encoder_input_tokens"].shape[1] == lengths[0]
        assert batch["decoder_target_tokens"].shape[1] == lengths[1]
        for inputs, targets in pairs(batch):  # whole, and ended
            assert inputs[-1] == targets[-1] == EOS
            assert 0 not in (*inputs, *targets)
        before, after, segments = (
            batch[f"decoder_{name}"] for name in ("input_tokens", "target_tokens", "segment_ids")
        )
        first = np.diff(segments, prepend=0, axis=1) > 0
        assert not before[first].any()
        inside = ~first & (segments > 0)
        np.testing.assert_array_equal(before[inside], np.roll(after, 1, axis=1)[inside])
        assert not before[segments == 0].any()
        for name in ("encoder", "decoder"):
            tokens = batch["encoder_input_tokens" if name == "encoder" else "decoder_target_tokens"]
            np.testing.assert_array_equal(batch[f"{name}_segment_ids"] > 0, tokens > 0)


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


@pytest.mark.parametrize("shares", [1, 2, 4])
@pytest.mark.parametrize(("longest", "rare"), [(2, 2), (24, 2), (24, 24)])
def test_the_loss_is_told_of_every_target_token_once(shares, longest, rare):
    """Labels of two tokens; then answers, a few of them long; then such as nobody expected."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(8, 49, 512), np.full(512, 2)
    targets[::64] = longest
    sizes = np.stack([inputs, targets], axis=1)
    targets[256:] = np.maximum(targets[256:], rare)
    picks = [
        streams.Pick(
            (n, m),
            lambda n=n, m=m: {"inputs": np.full(n, 7, np.int32), "targets": rng.integers(1, 9, m)},
        )
        for n, m in zip(inputs.tolist(), targets.tolist(), strict=True)
    ]
    batches = loader.TrainingBatches(
        grain.MapDataset.source(picks), packing.Layout(sizes, 32, shares), 16
    )
    widths = set()
    for batch in (batches[i] for i in range(16)):
        of_shares = batch["decoder_target_tokens"].reshape(shares, -1)
        widths.add(batch["target_positions"].shape[1] / of_shares.shape[1])
        for tokens, positions in zip(of_shares, batch["target_positions"], strict=True):
            there = positions[positions >= 0]
            assert there.tolist() == np.flatnonzero(tokens).tolist()
            assert (positions[len(there) :] == -1).all()
    assert min(widths) < 0.76, "most of the places are left out"
    assert (max(widths) == 1) == (rare > 2), "where there are too many tokens, none is"


def test_two_constructions_yield_the_same_batches_whatever_the_run_s_length(tiny_world):
    a, b = ner_batches(tiny_world), ner_batches(tiny_world, num_batches=40)
    for step in (0, 1, 31, 32, 39):
        assert_equal_batches(a.batches[step], b.batches[step])
    c = ner_batches(tiny_world, seed=1)
    assert [pairs(a.batches[i]) for i in range(8)] != [pairs(c.batches[i]) for i in range(8)]


@pytest.mark.parametrize("first_step", [1, 31, 32, 50])
def test_a_step_s_batch_is_the_same_wherever_the_run_started(tiny_world, first_step):
    whole = list(ner_batches(tiny_world, num_batches=70).iterator(0))
    assert len(whole) == 70
    resumed = list(ner_batches(tiny_world, num_batches=70).iterator(first_step))
    assert len(resumed) == 70 - first_step
    for a, b in zip(whole[first_step:], resumed, strict=True):
        assert_equal_batches(a, b)


def test_masks_of_span_corruption_follow_the_seed_and_change_with_the_epoch(tiny_world):
    def batches(seed):
        tasks = [catalogue.task(TEXT)]
        return training(tiny_world, tasks, 2, 2 * WINDOW, seed, split="validation").batches

    a, again, other = batches(0), batches(0), batches(1)
    assert_equal_batches(a[5], again[5])
    assert pairs(a[5]) != pairs(other[5])
    cache = token_cache.open_cache(catalogue.task(TEXT), "validation", config(tiny_world))
    chunks = streams.Chunks(cache, LENGTHS, tiny_world.sentinels)
    window = [p for step in range(WINDOW) for p in pairs(a[step])]
    filled = [p for p in window if len(p[0]) == LENGTHS["inputs"]]  # the last chunk is short
    assert len(filled) > 5 * len(chunks), "every text comes several times"
    assert len(set(filled)) > 0.9 * len(filled), "but masked in another way"


def test_a_mixture_has_equal_parts_of_its_tasks(tiny_world):
    names = (NER, "xfer_pocket_ner.sw", "xfer_pocket_nli.en")
    owner = {}
    for name in names:
        source = streams.Supervised(open_ner(tiny_world, name), LENGTHS)
        owner |= {pair(source[i]): name for i in range(len(source))}
    found = ner_batches(tiny_world, batch_size=3, num_batches=WINDOW, names=names)
    assert found.examples == 3 * 64
    seen = [p for batch in found.iterator(0) for p in pairs(batch)]
    counts = collections.Counter(owner[p] for p in seen)
    assert set(counts.values()) == {WINDOW}
    assert set(counts) == set(names)


def test_span_corruption_may_be_kept_beside_a_task(tiny_world):
    tasks = catalogue.tasks("xfer_intermediate.pocket_ner_and_text.indic.n16.s0")
    found = training(tiny_world, tasks, 4, 20, long_targets="trim")
    first_sentinel = tiny_world.sentinel(0)
    seen = [p for batch in found.iterator(0) for p in pairs(batch)]
    masked = sum(targets[0] == first_sentinel for _, targets in seen)
    assert (masked, len(seen)) == (40, 80)


@pytest.mark.parametrize(
    ("temperature", "shares"), [(None, (1, 1)), (1.0, (4, 1)), (2.0, (2, 1)), (1e9, (1, 1))]
)
def test_a_temperature_levels_the_sizes_of_a_mixture(tiny_world, temperature, shares):
    tasks = [catalogue.task(f"xfer_pocket_ner.{x}") for x in ("en.n32.s0", "sw.n8.s0")]
    found = training(tiny_world, tasks, 6, 50, mixing_temperature=temperature)
    english = streams.Supervised(
        token_cache.open_cache(tasks[0], "train", config(tiny_world)), LENGTHS
    )
    of_english = {pair(english[i]) for i in range(len(english))}
    seen = [p for batch in found.iterator(0) for p in pairs(batch)]
    assert len(seen) == 300
    expected = 300 * shares[0] / sum(shares)
    assert sum(p in of_english for p in seen) == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("name", [NER, TEXT])
def test_processes_read_their_own_rows_of_the_same_batches(tiny_world, name, monkeypatch):
    def batches(**rows):
        tasks = [catalogue.task(name)]
        return training(tiny_world, tasks, 6, 2 * WINDOW, shares=2, **rows)

    whole, parts = batches(), [batches(share=slice(0, 1)), batches(share=slice(1, 2))]
    for step in (0, 5, 31, 32, 40):
        read = [part.batches[step] for part in parts]
        together = {key: np.concatenate([part[key] for part in read]) for key in read[0]}
        assert_equal_batches(together, whole.batches[step])
    reads, ended = [], streams.ended
    monkeypatch.setattr(streams, "ended", lambda *args: reads.append(args) or ended(*args))
    rows = len(whole.batches[7]["encoder_input_tokens"])
    reads.clear()
    part = parts[0].batches[7]
    assert 2 * len(part["encoder_input_tokens"]) == rows
    assert len(reads) == 2 * len(pairs(part)) < 2 * 6, "its own rows' examples, no others"


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


def test_every_example_of_any_stream_is_in_exactly_one_batch():
    rng = np.random.default_rng(0)
    sizes = np.stack([rng.integers(1, 65, 1000), rng.integers(1, 33, 1000)], axis=1)
    examples = [
        {"inputs": np.full(n, i + 2, np.int32), "targets": np.full(m, i + 2, np.int32)}
        for i, (n, m) in enumerate(sizes)
    ]
    picks = [
        streams.Pick((n, m), lambda example=example: example)
        for example, (n, m) in zip(examples, sizes.tolist(), strict=True)
    ]
    stream = grain.MapDataset.source(picks).repeat()
    batches = loader.TrainingBatches(stream, packing.Layout(sizes, 5), 400)
    window = 5 * WINDOW
    for w in range(7):  # the seventh goes over into the second epoch
        seen = [p for step in range(w * WINDOW, (w + 1) * WINDOW) for p in pairs(batches[step])]
        expected = [pair(examples[i % 1000]) for i in range(w * window, (w + 1) * window)]
        assert sorted(seen) == sorted(expected)
    padded = sum(batches[step]["encoder_input_tokens"].size for step in range(WINDOW))
    assert padded < 0.85 * window * 64  # half would be padding; five examples leave little choice


def test_a_subset_of_training_data_trains_on_the_training_split_alone(tiny_world):
    tasks = [catalogue.task(f"{NER}.n5.s0")]
    with pytest.raises(RequestError, match="TRAIN_SPLIT is 'validation'"):
        training(tiny_world, tasks, split="validation")


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20, 64])
@pytest.mark.parametrize("limit", [None, 7])
def test_evaluation_batches_hold_every_example_once(tiny_world, batch_size, limit):
    cache = open_ner(tiny_world, split="validation").sample(limit)
    inputs_length = int(np.median(cache.token_counts("inputs")))
    batches, truncated = loader.evaluation_batches(cache, inputs_length, batch_size)
    indices = np.concatenate([batch[0] for batch in batches])
    assert sorted(indices) == list(range(limit or 20))
    assert truncated == sum(cache.token_counts("inputs") + 1 > inputs_length)
    for rows, tokens in batches:
        assert tokens.shape[0] == batch_size
        assert tokens.shape[1] in loader.length_ladder(inputs_length)
        assert not tokens[len(rows) :].any()
        for i, row in zip(rows, tokens, strict=False):
            expected = [*cache.tokens("inputs", i)[: inputs_length - 1].tolist(), EOS]
            assert row[row > 0].tolist() == expected


def test_the_ladder_has_few_rungs_and_ends_at_the_most():
    assert loader.length_ladder(64).tolist() == [16, 24, 32, 48, 64]
    assert loader.length_ladder(60).tolist() == [16, 24, 32, 48, 64]
    assert loader.length_ladder(5).tolist() == [8]
    assert len(loader.length_ladder(1024)) <= 13
    rungs = loader.length_ladder(1024)
    assert (rungs % 8 == 0).all()
    for length in range(1, 1025):
        rung = rungs[np.searchsorted(rungs, length)]
        assert length <= rung
        assert rung <= max(16, 1.5 * length + 8)


@pytest.mark.parametrize("subset", ["n1.s0", "n5.s0", "n5.s1"])
def test_subsets_are_padded_like_the_whole(tiny_world, subset):
    def lengths(name: str) -> tuple[int, int]:
        tasks = [catalogue.task(name)]
        return training(tiny_world, tasks).batches.layout.lengths

    assert lengths(f"{NER}.{subset}") == lengths(NER)


def test_a_long_target_outside_of_a_subset_is_no_error(tiny_world):
    cache = open_ner(tiny_world)
    counts = cache.token_counts("targets") + 1
    task = catalogue.task(f"{NER}.n1.s0")
    own = (
        token_cache.open_cache(task, "train", config(tiny_world)).token_counts("targets").max() + 1
    )
    assert own < counts.max()
    lengths = {"inputs": LENGTHS["inputs"], "targets": int(counts.max()) - 1}
    assert training(tiny_world, [task], lengths=lengths).batches.layout.lengths[1] >= own
