"""Examples and batches that hold what they should, in a fixed order."""

import collections

import grain
import numpy as np
import pytest

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from tests.support.batches import EOS, LENGTHS, NER, TEXT, config, open_ner, pair, pairs
from xfer_jax.data import loader, packing, selection, streams, token_cache

WINDOW = 32  # batches of two: an epoch of the tiny world


@pytest.mark.parametrize("length", [0, 1, -5, None, 2.5, "long", True, 10**12, [8]])
@pytest.mark.parametrize("feature", ["inputs", "targets"])
def test_lengths_need_room_for_a_token_and_the_end(tiny_world, feature, length):
    lengths = {**LENGTHS, feature: length}
    with pytest.raises(RequestError, match=rf"TASK_FEATURE_LENGTHS\['{feature}'\] must be"):
        training(tiny_world, [catalogue.task(NER)], lengths=lengths)


def training(
    words, tasks, batch_size=2, num_batches=1, seed=0, shares=1, share=slice(None), **data
) -> loader.TrainingInput:
    settings = selection.TrainingData(
        **{"task": tasks[0].name, "lengths": LENGTHS, "batch_size": batch_size} | data
    )
    return loader.training_input(tasks, settings, config(words), num_batches, seed, shares, share)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    with pytest.raises(RequestError, match="set TRAIN_SPLIT to 'train', not 'validation'"):
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


def test_a_batch_of_tokens_has_as_many_examples_as_have_them_in_the_mean(tiny_world):
    tasks = [catalogue.task(NER)]
    found = training(tiny_world, tasks, batch_size=None, batch_tokens=100, num_batches=40)
    tokens = [np.count_nonzero(batch["encoder_input_tokens"]) for batch in found.iterator(0)]
    assert len(tokens) == 40
    assert np.mean(tokens) == pytest.approx(100, abs=0.5 * np.mean(tokens) / found.batch_size)
    for wrong in ({"batch_size": 4, "batch_tokens": 100}, {"batch_size": None}):
        with pytest.raises(RequestError, match="set BATCH_SIZE, in examples, or BATCH_TOKENS"):
            training(tiny_world, tasks, **wrong)


@pytest.mark.parametrize(("shares", "parts"), [(1, 2), (1, 4), (2, 2), (2, 4)])
def test_micro_batches_hold_the_examples_of_the_whole_batch(tiny_world, shares, parts):
    tasks = [catalogue.task(NER)]
    whole = training(tiny_world, tasks, batch_size=16, num_batches=3, shares=shares)
    settings = selection.TrainingData(tasks[0].name, LENGTHS, batch_size=16)
    cut = loader.training_input(
        tasks, settings, config(tiny_world), 3, 0, shares, microbatches=lambda layout: parts
    )
    assert (cut.batch_size, cut.microbatches) == (16, parts)
    for one, other in zip(whole.iterator(0), cut.iterator(0), strict=True):
        assert sorted(pairs(one)) == sorted(pairs(other))
        rows = len(other["encoder_input_tokens"])
        assert rows % (shares * parts) == 0
        own = other["decoder_target_tokens"].reshape(shares * parts, -1)
        for tokens, positions in zip(own, other["target_positions"], strict=True):
            assert np.flatnonzero(tokens).tolist() == positions[positions >= 0].tolist()
