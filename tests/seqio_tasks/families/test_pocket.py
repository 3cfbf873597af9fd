"""The miniature languages' vocabulary: made in the cache, or refused in a sentence."""

import pytest

from seqio_tasks import miniature
from seqio_tasks.errors import RequestError
from seqio_tasks.families import pocket


@pytest.mark.parametrize("size", ["512", 512.0, None, True])
def test_a_size_is_a_whole_number(size):
    with pytest.raises(
        RequestError, match="the size of a vocabulary must be an integer of at most"
    ):
        pocket.vocabulary_file(miniature.World(), size)


def test_a_cache_that_cannot_be_written_is_answered_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(
        RequestError, match="cannot be written, set XFER_CACHE_DIR to another one: "
    ):
        pocket.vocabulary_file(miniature.World(), 512)
