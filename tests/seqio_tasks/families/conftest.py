"""What the families' tests share: the texts that a task makes of a file."""

import pytest

from seqio_tasks import catalogue, data_config, registry, vocabulary


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
