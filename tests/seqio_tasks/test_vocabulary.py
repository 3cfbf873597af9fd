"""Which vocabulary is used: one of a file, read once, or one that is trained on first use."""

import hashlib
import os
import random
import re
from pathlib import Path

import gin
import pytest

from seqio_tasks import data_config, vocabulary
from seqio_tasks.errors import RequestError


@pytest.mark.parametrize("path", ["", 5, "a\0b", ["v"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(RequestError):
        vocabulary.load(path)


def test_a_vocabulary_is_loaded_once(vocabulary_file):
    assert vocabulary.load(vocabulary_file) is vocabulary.load(vocabulary_file)


def test_the_file_is_of_the_argument_of_gin_or_of_the_environment(vocabulary_file, monkeypatch):
    monkeypatch.delenv("XFER_VOCAB", raising=False)

    def file(given: str | None = None) -> str:
        return data_config.configured(vocabulary_file=given).vocabulary_file

    assert file() == "gs://t5-data/vocabs/mc4.250000.100extra/sentencepiece.model"
    monkeypatch.setenv("XFER_VOCAB", vocabulary_file)
    assert file() == vocabulary_file
    assert vocabulary.of(data_config.configured()).size == 147
    assert vocabulary.vocab_size() == 256
    assert file("other.model") == str(Path("other.model").absolute())
    try:
        gin.parse_config("data_config.configured.vocabulary_file = 'bound.model'")
        bound = data_config.configured().vocabulary_file
        assert bound == str(Path("bound.model").absolute())
    finally:
        gin.clear_config()


@pytest.fixture
def panx(tmp_path, monkeypatch):
    """A data folder of two languages, and a cache folder that is empty."""
    (tmp_path / "data" / "panx").mkdir(parents=True)
    words = {
        "sw": ["Rick\tB-PER", "anaishi\tO", "na\tO"],
        "fi": ["Morty\tB-PER", "asuu\tO", "ja\tO"],
    }
    for language, some in words.items():
        text = "".join(f"{a}\n{b}\n{c}\n\n" for a in some for b in some for c in some)
        (tmp_path / "data" / "panx" / f"train-{language}.tsv").write_text(text)
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "data" / "panx"


@pytest.mark.slow
def test_a_vocabulary_is_trained_once_for_the_same_text(panx):
    name = vocabulary.trained(("xfer_panx.sw", "xfer_panx.fi"), 130)
    loaded = vocabulary.load(name)
    assert loaded.size == 130
    assert loaded.decode(loaded.encode("Rick asuu")) == "Rick asuu"
    made = os.stat(name).st_mtime_ns
    assert vocabulary.trained(("xfer_panx.sw", "xfer_panx.fi"), 130) == name
    mixture = vocabulary.trained(("xfer_panx.all_langs",), 130, ("sw", "fi"))
    assert os.stat(name).st_mtime_ns == made
    assert vocabulary.load(mixture).size == 130
    with (panx / "train-fi.tsv").open("a") as file:
        file.write("Summer\tB-PER\n\n")
    assert vocabulary.trained(("xfer_panx.sw", "xfer_panx.fi"), 130) != name


def test_what_a_vocabulary_cannot_be_trained_from_is_refused(panx):
    for arguments, why in (
        ((("xfer_panx.sw",), 130, ("fi",)), "xfer_panx.sw have no language fi"),
        ((("xfer_panx.de",), 130), "panx/train-de.tsv"),
        ((("xfer_panx.sw",), 100_000), "100000 pieces cannot be trained"),
        ((("xfer_panx.s",), 130), "unknown task 'xfer_panx.s'"),
        ((("xfer_panx.sw",), True), "must be an integer of at most"),
        (("xfer_panx.sw", 130), "vocabulary.trained.tasks must be a list"),
        ((("xfer_panx.sw",), 130, "sw"), "vocabulary.trained.languages must be a list"),
        ((("xfer_panx.sw",), 130, (), 0), "vocabulary.trained.examples must be at least 1, not 0"),
    ):
        with pytest.raises(RequestError, match=re.escape(why)):
            vocabulary.trained(*arguments)
    assert not list(panx.parents[1].glob("cache/vocabularies/*"))


@pytest.mark.slow
def test_a_damaged_vocabulary_is_trained_again(panx, capsys):
    path = Path(vocabulary.trained(("xfer_panx.sw",), 120))
    whole = path.read_bytes()
    sums = path.with_name(f"{path.name}.sha256")
    assert sums.read_text() == f"{hashlib.sha256(whole).hexdigest()}  {path.name}\n"
    assert sorted(path.parent.iterdir()) == [path, sums]
    rng = random.Random(0)
    for file in (path, path, path, sums):
        content = bytearray(file.read_bytes())
        place = rng.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        capsys.readouterr()
        assert vocabulary.trained(("xfer_panx.sw",), 120) == str(path)
        assert "is damaged; training it again" in capsys.readouterr().out
        assert path.read_bytes() == whole
    sums.unlink()  # killed between the two
    assert vocabulary.trained(("xfer_panx.sw",), 120) == str(path)
    assert sums.is_file()


def test_a_cache_folder_that_cannot_be_made_is_named(panx, monkeypatch):
    (panx / "file").write_text("no folder")
    monkeypatch.setenv("XFER_CACHE_DIR", str(panx / "file"))
    with pytest.raises(RequestError, match="set XFER_CACHE_DIR to another one"):
        vocabulary.trained(("xfer_panx.sw",), 120)


def test_gin_may_name_a_vocabulary_that_is_trained_for_it(cache_dir):
    gin.parse_config(
        """
        World.text_sentences = 60
        data_config.configured.vocabulary_file = @vocabulary.trained()
        vocabulary.trained.tasks = ("xfer_pocket_text.en",)
        vocabulary.trained.size = 150
        """
    )
    try:
        assert vocabulary.of(data_config.configured()).size == 150
    finally:
        gin.clear_config()
