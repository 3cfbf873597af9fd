"""What the tasks' tests share: data, a small vocabulary, the inverse of span corruption."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from seqio_tasks import sentencepiece_model


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def vocabulary_file(tmp_path_factory) -> str:
    """A vocabulary of 147 pieces, of the formats' words and some Swahili."""
    path = tmp_path_factory.mktemp("vocabulary") / "small.model"
    texts = [f"tag: jina{i} Asha Juma alikwenda Nairobi jana PER: LOC: $$" for i in range(20)] * 3
    return str(sentencepiece_model.train(texts, 170, path, exact=False))


@pytest.fixture
def restore() -> Callable[[Sequence[int], Sequence[int], int], list[int]]:
    """Puts masked tokens back: the inverse of `corrupt`, for tokens below the 100 sentinels."""

    def restored(inputs: Sequence[int], targets: Sequence[int], first_sentinel: int) -> list[int]:
        lowest = first_sentinel - 99
        masked: dict[int, list[int]] = {}
        for token in targets:
            if token >= lowest:
                current = masked.setdefault(token, [])
            else:
                current.append(token)
        tokens: list[int] = []
        for token in inputs:
            tokens += masked.pop(token) if token >= lowest else [token]
        assert not any(masked.values())
        return tokens

    return restored
