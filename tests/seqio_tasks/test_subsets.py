"""Subsets of training data: drawn by the texts' hashes, nested, the same in both engines."""

import hashlib
import random

import numpy as np
import pytest

from seqio_tasks import (
    catalogue,
    data_config,
    sentencepiece_model,
    subsets,
)
from seqio_tasks.errors import RequestError

TEXTS = [f"tag: mfano wa {i}\tLOC: {i}" for i in range(300)]


def subset(size: int, seed: int = 0, texts: list[str] = TEXTS) -> list[int]:
    return subsets.subset_indices(catalogue.task(f"xfer_panx.sw.n{size}.s{seed}"), texts).tolist()


def test_the_subset_is_the_same_on_every_machine():
    """Results of studies hang on these: they may not change."""
    small = [
        "tag: rick\tPER: rick",
        "tag: morty\t",
        "tag: rick\tPER: rick",
        "tag: हिन्दी\tLOC: हिन्दी",
    ]
    assert subsets.subset_order(small, 0).tolist() == [2, 0, 1, 3]
    assert subsets.subset_order(small, 1).tolist() == [3, 0, 1, 2]
    assert subset(8) == [6, 79, 80, 82, 85, 113, 156, 263]


def test_the_order_is_that_of_the_texts_hashes():
    def rank(text: str) -> str:
        return hashlib.sha256(f"7|0|{text}".encode()).hexdigest()

    expected = sorted(range(len(TEXTS)), key=lambda i: rank(TEXTS[i]))
    order = subsets.subset_order(TEXTS, 7)
    assert order.tolist() == expected
    assert order.dtype == np.int64


@pytest.mark.parametrize("seed", range(3))
def test_subsets_are_nested(seed):
    previous: set[int] = set()
    for size in (1, 10, 100, 299, 300):
        chosen = subset(size, seed)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == size
        assert previous <= set(chosen)
        previous = set(chosen)
    assert previous == set(range(300))


def test_seeds_draw_different_subsets():
    draws = [set(subset(100, seed)) for seed in range(20)]
    assert len(set(map(frozenset, draws))) == 20
    overlaps = [len(a & b) for i, a in enumerate(draws) for b in draws[:i]]
    assert np.mean(overlaps) == pytest.approx(100 / 3, abs=1)  # as for independent draws


def test_all_examples_are_equally_likely():
    counts = np.zeros(len(TEXTS))
    for seed in range(200):
        counts[subset(60, seed)] += 1
    # binomial with mean 40 and standard deviation 5.7
    assert counts.min() > 40 - 5 * 5.7
    assert counts.max() < 40 + 5 * 5.7
    assert counts.std() == pytest.approx(5.7, abs=1)


def test_the_subset_does_not_hang_on_the_order_of_the_source():
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    for size in (1, 10, 100):
        original = {TEXTS[i] for i in subset(size)}
        assert {shuffled[i] for i in subset(size, texts=shuffled)} == original


def test_repeats_are_examples_of_their_own():
    texts = ["a", "b"] * 50
    order = subsets.subset_order(texts, 0)
    assert sorted(order) == list(range(100))
    # not one text first and then the other
    assert 20 < sum(texts[i] == "a" for i in order[:50]) < 30 + 10
    turned = subsets.subset_order(texts[::-1], 0)
    assert [texts[i] for i in order] == [texts[::-1][i] for i in turned]


def test_a_subset_larger_than_the_data_is_refused():
    assert subset(300) == list(range(300))
    with pytest.raises(RequestError) as caught:
        subset(301)
    assert str(caught.value) == (
        "xfer_panx.sw.n301.s0 needs 301 training examples; xfer_panx.sw has 300"
    )
    with pytest.raises(RequestError, match=r"xfer_panx\.sw\.matched\.s0 needs 1000 training"):
        subsets.subset_indices(catalogue.task("xfer_panx.sw.matched.s0"), TEXTS)


def panx_file(texts: list[str]) -> str:
    return "".join(f"{text}\tO\nhapa\tB-LOC\n\n" for text in texts)


@pytest.fixture
def subset_inputs(tmp_path, monkeypatch):
    """Returns the inputs of a PAN-X subset as SeqIO's source and the engine's cache have them."""
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "cache"))
    file = sentencepiece_model.train(
        ["tag: mfano wa hapa LOC 0 1 2 3"] * 9, 130, tmp_path / "v", exact=False
    )

    def of(name: str, words: list[str], split: str = "train") -> tuple[list[str], list[str]]:
        from seqio_tasks import registry
        from xfer_jax.data import token_cache

        (tmp_path / "panx").mkdir(exist_ok=True)
        part = "dev" if split == "validation" else split
        (tmp_path / "panx" / f"{part}-sw.tsv").write_text(panx_file(words))
        task = catalogue.task(name)
        dataset = registry.StudySource(task).get_dataset(split, shuffle=False)
        by_seqio = [example["inputs"].decode() for example in dataset.as_numpy_iterator()]
        config = data_config.configured(vocabulary_file=str(file))
        cache = token_cache.open_cache(task, split, config)
        return by_seqio, [text["inputs_pretokenized"] for text in cache.texts]

    return of


WORDS = [f"mfano{i % 50}" for i in range(60)]  # ten of them twice


@pytest.mark.slow
@pytest.mark.parametrize(("size", "seed"), [(1, 0), (25, 0), (25, 1), (60, 0)])
def test_seqio_and_the_engine_take_the_same_subset(subset_inputs, size, seed):
    by_seqio, by_engine = subset_inputs(f"xfer_panx.sw.n{size}.s{seed}", WORDS)
    assert by_seqio == by_engine
    assert len(by_seqio) == size
    identities = [f"tag: {word} hapa\tLOC: hapa" for word in WORDS]
    expected = sorted(subsets.subset_order(identities, seed)[:size])
    assert by_seqio == [f"tag: {WORDS[i]} hapa" for i in expected]


def test_only_training_data_is_cut(subset_inputs):
    by_seqio, by_engine = subset_inputs("xfer_panx.sw.n25.s0", WORDS, "validation")
    assert by_seqio == by_engine == [f"tag: {word} hapa" for word in WORDS]


def test_a_subset_larger_than_the_file_is_refused(subset_inputs):
    with pytest.raises(RequestError, match=r"needs 61 training examples; xfer_panx\.sw has 60"):
        subset_inputs("xfer_panx.sw.n61.s0", WORDS)
