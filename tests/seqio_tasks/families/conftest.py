"""What the families' tests share: a small vocabulary, and texts that were encoded with it."""

import pytest

from seqio_tasks import catalogue, data_config, registry, sentencepiece_model, vocabulary


@pytest.fixture(scope="module")
def vocabulary_file(tmp_path_factory):
    texts = ["tag: xnli: premise: hypothesis: question: context: $$ PER ORG LOC 0 1 2 a b c"] * 9
    path = tmp_path_factory.mktemp("formats") / "small.model"
    return str(sentencepiece_model.train(texts, 140, path, exact=False))


@pytest.fixture
def texts(tmp_path, monkeypatch, vocabulary_file):
    """Returns what a task makes of a file's text: a list of (inputs, targets)."""
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))

    def of(name: str, split: str, path: str, content: str) -> list[tuple[str, str]]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content.encode())
        loaded = vocabulary.load(vocabulary_file)
        pairs = []
        config = data_config.configured(vocabulary_file=vocabulary_file)
        for example in registry.tokenised(catalogue.task(name), split, config):
            pair = tuple(example[f"{f}_pretokenized"].decode() for f in ("inputs", "targets"))
            ids = tuple(example[feature].tolist() for feature in ("inputs", "targets"))
            assert ids == tuple(map(loaded.encode, pair))
            pairs.append(pair)
        return pairs

    return of
