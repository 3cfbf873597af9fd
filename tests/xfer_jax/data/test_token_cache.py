"""Token caches: built once and whole, verified when they are opened, sampled alike everywhere."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gin
import numpy as np
import pytest

from seqio_tasks import catalogue, digests, sentencepiece_model, vocabulary
from seqio_tasks.errors import RequestError, RunError
from tests.support.batches import NER, config, open_ner
from tests.support.files import flip
from xfer_jax.data import token_cache


@pytest.fixture
def builds(monkeypatch):
    """Records which caches are built."""
    built = []
    build = token_cache._build

    def counted(task, split, *args):
        built.append(f"{task.full_name}-{split}")
        return build(task, split, *args)

    monkeypatch.setattr(token_cache, "_build", counted)
    return built


def test_a_cache_holds_what_the_task_says(tiny_world):
    cache = open_ner(tiny_world, split="validation")
    assert len(cache) == 20
    examples = list(catalogue.task(NER).family.source.make("en", "validation", config(tiny_world)))
    for i, (text, example) in enumerate(zip(cache.texts, examples, strict=True)):
        assert text["inputs_pretokenized"] == "tag: " + " ".join(example["tokens"])
        assert text["targets_pretokenized"] == " $$ ".join(example["spans"])
        for feature in ("inputs", "targets"):
            tokens = tiny_world.encode(text[f"{feature}_pretokenized"])
            assert cache.tokens(feature, i).tolist() == tokens
            assert cache.token_counts(feature)[i] == len(tokens)
    assert cache.references == [text["targets_pretokenized"] for text in cache.texts]


def test_a_second_opening_builds_nothing(tiny_world, builds):
    first = open_ner(tiny_world)
    assert len(builds) <= 1  # another test may have built it before
    builds.clear()
    second = open_ner(tiny_world)
    assert builds == []
    assert second.folder == first.folder


@pytest.mark.slow
def test_a_cache_that_exists_needs_no_tensorflow(tiny_world):
    folder = open_ner(tiny_world).folder
    code = f"""
import gin, sys
from seqio_tasks import catalogue, data_config
from xfer_jax.data import token_cache
gin.parse_config({gin.config_str()!r})
config = data_config.configured(vocabulary_file="pocket")
cache = token_cache.open_cache(catalogue.task({NER!r}), "train", config)
assert str(cache.folder) == {str(folder)!r}, cache.folder
assert len(cache.texts) == len(cache)
assert not {{"tensorflow", "seqio"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.slow
def test_another_vocabulary_or_world_is_another_cache(tiny_world, tmp_path, builds):
    folders = [open_ner(tiny_world).folder]
    other = sentencepiece_model.train(
        (text["inputs_pretokenized"] for text in open_ner(tiny_world).texts),
        150,
        tmp_path / "other.model",
        exact=False,
    )
    folders.append(open_ner(vocabulary.load(str(other))).folder)
    with gin.unlock_config():
        gin.bind_parameter("World.seed", 7)
    folders.append(open_ner(tiny_world).folder)
    folders.append(open_ner(tiny_world, split="validation").folder)
    assert len(set(folders)) == 4
    assert len({(folder / "inputs.npy").read_bytes() for folder in folders}) == 4


@pytest.mark.slow
def test_changed_files_are_another_cache(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    (tmp_path / "panx").mkdir()
    file = tmp_path / "panx" / "train-sw.tsv"
    file.write_text("Rick\tB-PER\nanaishi\tO\nParis\tB-LOC\n\n")
    first = open_ner(tiny_world, "xfer_panx.sw")
    assert first.references == ["PER: Rick $$ LOC: Paris"]
    file.write_text("Rick\tO\n\nParis\tB-LOC\n")
    second = open_ner(tiny_world, "xfer_panx.sw")
    assert second.folder != first.folder
    assert second.references == ["", "LOC: Paris"]
    assert [second.tokens("targets", i).size for i in (0, 1)] == [
        0,
        len(tiny_world.encode("LOC: Paris")),
    ]


def test_subsets_share_the_cache_and_are_nested(tiny_world, builds):
    whole = open_ner(tiny_world)
    builds.clear()
    small, large = (open_ner(tiny_world, f"{NER}.n{n}.s0") for n in (5, 20))
    assert builds == []
    assert (len(small), len(large)) == (5, 20)
    assert set(small.indices) < set(large.indices) < set(range(len(whole)))
    for i, index in enumerate(small.indices):
        assert small.texts[i] == whole.texts[index]
        assert small.tokens("inputs", i).tolist() == whole.tokens("inputs", index).tolist()
    other = open_ner(tiny_world, f"{NER}.n20.s1")
    assert set(other.indices) != set(large.indices)
    assert len(open_ner(tiny_world, f"{NER}.n5.s0", "validation")) == 20  # of training data alone
    with pytest.raises(RequestError, match=r"needs 65 training examples.* has 64"):
        open_ner(tiny_world, f"{NER}.n65.s0")


def test_an_unknown_split_is_an_error_that_lists_the_splits(tiny_world):
    with pytest.raises(RequestError, match="no split 'dev'; it has train, validation, test"):
        open_ner(tiny_world, split="dev")


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """A cache folder of the test's own: what it leaves there, no other test meets."""
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def token_folders(cache) -> list:
    return list((cache / "tokens").iterdir())


def test_a_build_that_fails_leaves_nothing(tiny_world, own_cache, monkeypatch):
    from seqio_tasks import registry

    task = "xfer_pocket_nli.fi"
    tokenised = registry.tokenised

    def failing(*args):
        for i, example in enumerate(tokenised(*args)):
            if i == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            yield example

    with monkeypatch.context() as patch:
        patch.setattr(registry, "tokenised", failing)
        with pytest.raises(
            RunError, match=r"tokens of xfer_pocket_nli\.fi .*XFER_CACHE_DIR.*No space"
        ):
            open_ner(tiny_world, task)
    assert token_folders(own_cache) == []
    assert len(open_ner(tiny_world, task)) == 64


def test_a_build_that_is_killed_leaves_no_folder_that_looks_finished(
    tiny_world, own_cache, monkeypatch
):
    task = "xfer_pocket_nli.ru"
    with monkeypatch.context() as patch:  # as after SIGKILL: nobody tidies up, no last rename
        patch.setattr(token_cache.shutil, "rmtree", lambda *args, **kwargs: None)
        patch.setattr("pathlib.Path.rename", lambda *args: None)
        with pytest.raises(AssertionError):
            open_ner(tiny_world, task)
    left = token_folders(own_cache)
    assert left
    assert all(path.name.startswith(".") for path in left)
    assert len(open_ner(tiny_world, task)) == 64


def test_a_folder_without_its_last_file_is_made_again(tiny_world, builds):
    folder = open_ner(tiny_world, split="test").folder
    builds.clear()
    (folder / "meta.json").unlink()
    assert len(open_ner(tiny_world, split="test")) == 20
    assert builds == [f"{NER}-test"]


def test_a_task_without_examples_is_an_error(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    (tmp_path / "panx").mkdir()
    (tmp_path / "panx" / "train-sw.tsv").write_text("\n\n")
    with pytest.raises(RequestError, match=r"xfer_panx\.sw"):
        open_ner(tiny_world, "xfer_panx.sw")


def contents(cache: token_cache.Cache) -> list:
    tokens = [cache.tokens(f, i).tolist() for f in ("inputs", "targets") for i in range(len(cache))]
    return [tokens, cache.texts]


@pytest.mark.usefixtures("own_cache")
def test_a_flipped_bit_changes_no_token(tiny_world, builds, tmp_path, monkeypatch, capsys):
    whole = open_ner(tiny_world, split="test")
    expected, count = contents(whole), len(whole)
    names = sorted(path.name for path in whole.folder.iterdir())
    assert len(names) == 6
    spare = shutil.copytree(whole.folder, tmp_path / "spare", ignore=lambda *_: ["meta.json"])

    def write_again(task, split, words, folder) -> int:  # as fast as forty flips need it
        shutil.copytree(spare, folder, dirs_exist_ok=True)
        return count

    tokenise = token_cache._write
    monkeypatch.setattr(token_cache, "_write", write_again)
    rng = np.random.default_rng(0)
    builds.clear()
    for i in range(40):
        path = whole.folder / names[i % len(names)]
        flip(path, int(rng.integers(8 * path.stat().st_size)))
        if i == 39:
            monkeypatch.setattr(token_cache, "_write", tokenise)
        assert contents(open_ner(tiny_world, split="test")) == expected, path.name
        said = capsys.readouterr().out
        if path.name != "meta.json":  # where a flip may turn a space into a tab's like
            assert len(builds) == 1
            assert f"{path} is damaged: the data of {NER} is tokenised again" in said
        builds.clear()
    assert [path.name for path in whole.folder.parent.iterdir()] == [whole.folder.name]


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_a_cache_that_lost_a_file_or_is_another_s_is_made_again(tiny_world, builds):
    cache = open_ner(tiny_world, split="test")
    expected = contents(cache)
    other = open_ner(tiny_world, split="validation").folder
    builds.clear()

    def empty(path):
        path.write_bytes(b"")

    for harm in (
        lambda folder: (folder / "texts.jsonl").unlink(),
        lambda folder: empty(folder / "targets.npy"),
        lambda folder: (folder / "meta.json").write_text("[]"),
        lambda folder: [shutil.rmtree(folder), shutil.copytree(other, folder)],
    ):
        harm(cache.folder)
        assert contents(open_ner(tiny_world, split="test")) == expected
    assert builds == [f"{NER}-test"] * 4


@pytest.mark.usefixtures("own_cache")
def test_a_damaged_cache_that_cannot_be_made_again_is_refused(tiny_world, monkeypatch):
    from seqio_tasks import registry

    folder = open_ner(tiny_world, split="test").folder
    before = (folder / "inputs.npy").read_bytes()
    flip(folder / "inputs.npy", 5000)

    def unreachable(*args):
        raise RequestError("TFDS cannot be reached")

    monkeypatch.setattr(registry, "tokenised", unreachable)
    for _ in range(2):  # nor is it trained on the second time
        with pytest.raises(RequestError) as caught:
            open_ner(tiny_world, split="test")
        damaged = folder / "inputs.npy"
        assert str(caught.value) == (
            f"{damaged} is damaged and cannot be made again: TFDS cannot be reached"
        )
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    (folder / "inputs.npy").write_bytes(before)
    assert len(open_ner(tiny_world, split="test")) == 20


def test_a_cache_is_read_once_a_process(tiny_world, monkeypatch):
    first = open_ner(tiny_world, split="test")
    monkeypatch.setattr(digests.data_files, "file_digest", None)
    assert contents(open_ner(tiny_world, split="test")) == contents(first)


def test_a_cache_folder_that_cannot_be_written_is_named(tiny_world, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setattr(token_cache.data_files, "cache_dir", lambda: file / "cache")
    with pytest.raises(RequestError) as caught:
        open_ner(tiny_world, split="test")
    message = str(caught.value)
    assert "\n" not in message
    assert f"cannot be written to {file / 'cache' / 'tokens'}, set XFER_CACHE_DIR" in message


def test_samples_are_nested_and_in_the_order_of_the_file(tiny_world):
    cache = open_ner(tiny_world)
    assert cache.sample(None) is cache.sample(64) is cache.sample(10**12) is cache
    before: set[int] = set()
    for count in (1, 5, 30, 63):
        indices = cache.sample(count).indices.tolist()
        assert len(indices) == count
        assert indices == sorted(indices) != list(range(count))
        assert before < set(indices)
        before = set(indices)
    subset = open_ner(tiny_world, f"{NER}.n20.s0")
    assert set(subset.sample(6).indices) < set(subset.indices)


def test_a_sample_does_not_depend_on_the_order_of_the_file(tiny_world, tmp_path, monkeypatch):
    """A file that is sorted by label: its first examples have one label."""
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    (tmp_path / "panx").mkdir()
    file = tmp_path / "panx" / "dev-sw.tsv"
    lines = [f"Rick{i}\t{'B-PER' if i < 60 else 'B-LOC'}\n" for i in range(120)]
    found = []
    for order in (lines, lines[::-1], sorted(lines)):
        file.write_text("\n".join(order))
        sample = open_ner(tiny_world, "xfer_panx.sw", "validation").sample(40)
        found.append(sorted(sample.references))
    assert found[0] == found[1] == found[2]
    people = sum(text.startswith("PER") for text in found[0])
    assert 10 < people < 30


def test_what_evaluation_samples_is_not_what_the_cache_holds(tiny_world, tmp_path, monkeypatch):
    """T5X binds its evaluation's sample for the whole process, which may make caches too."""
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path))
    gin.parse_config("catalogue.evaluation_examples.count = 3")
    assert len(open_ner(tiny_world, split="test")) == 20
