"""Probes: plain text of every family, masked the same in whatever way it is read."""

import gin
import pytest
import seqio

from seqio_tasks import (
    catalogue,
    data_config,
    miniature,
    records,
    registry,
    span_corruption,
    subsets,
    vocabulary,
)
from seqio_tasks.errors import RequestError
from xfer_jax.data import streams, token_cache

LENGTHS = {"inputs": 24, "targets": 10}


@pytest.fixture
def world():
    try:
        gin.parse_config("World.train_examples = 40\nWorld.eval_examples = 8")
        gin.parse_config("World.text_sentences = 60\ndata_config.configured.pocket_pieces = 300")
        gin.parse_config("data_config.configured.vocabulary_file = 'pocket'")
        yield miniature.World()
    finally:
        gin.clear_config()


def dataset(name: str, split: str = "train", lengths=LENGTHS, **options) -> list[dict]:
    options = {"shuffle": False, "use_cached": False, **options}
    task = registry.get(name)
    return list(task.get_dataset(lengths, split, **options).as_numpy_iterator())


def test_every_family_has_a_probe():
    assert list(catalogue.probe_families()) == [f"probe.{name}" for name in catalogue.families()]
    for name, probe in catalogue.probe_families().items():
        family = catalogue.families()[name.removeprefix("probe.")]
        assert probe.languages == family.languages
        if family.source.parts is None:
            assert probe.source == family.source
        assert (probe.scoring, probe.format.objective) == (records.Scoring(), "probe")
        for code in (*probe.languages, records.ALL_LANGUAGES):
            assert registry.get(f"xfer_{name}.{code}").name == f"xfer_{name}.{code}"
    assert registry.get("xfer_probe.panx.sw").metric_fns == []


def test_a_probe_is_named_for_gin():
    assert catalogue.probe("xfer_panx") == catalogue.probe("xfer_probe.panx") == "xfer_probe.panx"
    assert catalogue.task("xfer_probe.panx.sw").full_name == "xfer_probe.panx.sw"
    with pytest.raises(RequestError, match="a probe has no subsets"):
        catalogue.task("xfer_probe.panx.sw.n10.s0")


@pytest.mark.slow
def test_the_words_of_the_formats_are_not_asked_for(world):
    plain = {
        "ner": [" ".join(e["tokens"]) for e in world.examples("ner", "hi", "train")],
        "nli": [f"{e['premise']} {e['hypothesis']}" for e in world.examples("nli", "hi", "train")],
        "text": world.text("hi", "train"),
        # the padding of punctuation as the model reads it, nothing else
        "qa": [e["context"] for e in world.examples("qa", "hi", "train")],
    }
    for family, expected in plain.items():
        found = dataset(f"xfer_probe.pocket_{family}.hi")
        # pieces are cut between tokens, which may be within a word
        joined = "".join(example["inputs_pretokenized"].decode() for example in found)
        assert "".join(joined.split()) == "".join("".join(expected).split())


def test_what_is_asked_for_can_be_read(world):
    loaded = vocabulary.of(data_config.configured())
    found = dataset("xfer_probe.pocket_ner.sw")
    assert len(found) > 10
    for example in found:
        shown = example["targets_pretokenized"].decode()
        assert shown.startswith("<extra_id_0>")
        assert shown == loaded.decode(example["targets"].tolist())


def test_texts_are_joined_and_masked_by_their_own_tokens(world, restore):
    loaded = vocabulary.of(data_config.configured())
    texts = [" ".join(e["tokens"]) for e in world.examples("ner", "sw", "train")]
    windows = span_corruption.windows(map(loaded.encode, texts), LENGTHS["inputs"])
    found = dataset("xfer_probe.pocket_ner.sw")
    assert len(found) == len(windows) > 10
    for example, window in zip(found, windows, strict=True):
        inputs, targets = (example[feature].tolist() for feature in ("inputs", "targets"))
        assert (inputs[-1], targets[-1]) == (1, 1)
        assert len(inputs) <= LENGTHS["inputs"]
        assert restore(inputs[:-1], targets[:-1], loaded.sentinel(0)) == window.tolist()
        expected = span_corruption.deterministic(window, LENGTHS["inputs"], loaded.sentinels)
        assert [inputs[:-1], targets[:-1]] == [part.tolist() for part in expected]


@pytest.mark.slow
def test_only_the_mask_seed_changes_a_mask(world):
    long = {"inputs": 64, "targets": 14}

    def by_text(**options) -> set[tuple[bytes, bytes]]:
        found = dataset("xfer_probe.pocket_qa.sw", lengths=long, **options)
        return {(e["inputs_pretokenized"], e["targets"].tobytes()) for e in found}

    once = by_text()
    assert len(once) > 15
    assert by_text(seed=7) == once
    gin.parse_config("data_config.configured.mask_seed = 1")
    other = by_text()
    assert {text for text, _ in other} == {text for text, _ in once}
    assert len(other - once) > len(once) / 2


@pytest.mark.parametrize("seed", ["'x'", "1.5", "True", "None", "-1"])
def test_a_mask_seed_of_another_type_is_refused(seed):
    try:
        gin.parse_config(f"data_config.configured.mask_seed = {seed}")
        with pytest.raises(
            RequestError, match=r"MASK_SEED must be (a whole number|at least 0), not"
        ):
            data_config.configured()
    finally:
        gin.clear_config()


@pytest.mark.slow
def test_the_native_engine_masks_the_same(world):
    loaded = vocabulary.of(data_config.configured())
    task = catalogue.task("xfer_probe.pocket_ner.sw")
    cache = token_cache.open_cache(task, "train", data_config.configured())
    for seed in (0, 3):
        gin.parse_config(
            f"data_config.configured.mask_seed = {seed}\nevaluation_examples.count = 25"
        )
        masked = streams.masked(cache.sample(25), LENGTHS, loaded, seed)
        found = dataset("xfer_probe.pocket_ner.sw")
        assert len(masked) == len(found) > 5
        for i, (example, text) in enumerate(zip(found, masked.texts, strict=True)):
            for feature in LENGTHS:
                assert [*masked.tokens(feature, i), 1] == example[feature].tolist()
                key = f"{feature}_pretokenized"
                assert text[key] == example[key].decode()


def test_a_sample_of_a_probe_is_drawn_by_its_texts(world):
    texts = [" ".join(e["tokens"]) for e in world.examples("ner", "sw", "train")]
    chosen = subsets.sample_indices([f"\t{text}" for text in texts], 12)
    assert chosen.tolist() != list(range(12))
    task = catalogue.task("xfer_probe.pocket_ner.sw")
    cache = token_cache.open_cache(task, "train", data_config.configured())
    found = [text["targets_pretokenized"] for text in cache.sample(12).texts]
    assert found == [texts[i] for i in chosen]


def test_a_vocabulary_that_does_not_count_down_is_refused(world, monkeypatch):
    loaded = vocabulary.of(data_config.configured())
    monkeypatch.setattr(loaded, "sentinels", loaded.sentinels[::-1])
    task = catalogue.task("xfer_probe.pocket_ner.sw")
    cache = token_cache.open_cache(task, "train", data_config.configured())
    with pytest.raises(RequestError, match="do not decrease by one from <extra_id_0>"):
        streams.masked(cache, LENGTHS, loaded, 0)
    with pytest.raises(RequestError, match="do not decrease by one from <extra_id_0>"):
        dataset("xfer_probe.pocket_ner.sw")


def test_lengths_that_do_not_suit_are_refused(world):
    with pytest.raises(RequestError, match="24 input tokens needs 6 target tokens"):
        dataset("xfer_probe.pocket_ner.sw", lengths={"inputs": 24, "targets": 5})


@pytest.mark.slow
def test_t5x_reads_a_probe_as_any_task(world):
    converter = seqio.EncDecFeatureConverter(pack=False)
    found = dataset("xfer_probe.pocket_ner.sw", "validation")
    task = registry.get("xfer_probe.pocket_ner.sw")
    examples = task.get_dataset(LENGTHS, "validation", shuffle=False, use_cached=False)
    converted = list(converter(examples, LENGTHS).as_numpy_iterator())
    assert len(converted) > 1
    for example, features in zip(found, converted, strict=True):
        for feature, name in (
            ("inputs", "encoder_input_tokens"),
            ("targets", "decoder_target_tokens"),
        ):
            row = features[name].tolist()
            assert len(row) == LENGTHS[feature]
            assert row[: len(example[feature])] == example[feature].tolist()
            assert not any(row[len(example[feature]) :])
