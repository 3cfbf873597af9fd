"""T5X's older layout: T5X's own checkpoint, what is written as T5X would, and old variants."""

import gzip
import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from seqio_tasks.errors import RequestError
from tests.support.checkpoints import is_spec, legacy_tree
from xfer_jax.checkpoints import locations, store, t5x_legacy
from xfer_jax.checkpoints.arrays import Contents, Stored

KERNEL = "target/encoder/layers_0/mlp/wi_0/kernel"


def contents(arrays: dict[str, np.ndarray], step: int = 3) -> Contents:
    held = {
        name: Stored(x.shape, x.dtype, lambda index, x=x: x[index]) for name, x in arrays.items()
    }
    return Contents("held", "native", step, held)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = {
        KERNEL: (130, 128),
        "target/encoder/encoder_norm/scale": (128,),
        "state/param_states/encoder/encoder_norm/scale/v": (128,),
        "state/param_states/encoder/encoder_norm/scale/v_row": (1,),
        "state/param_states/encoder/layers_0/mlp/wi_0/kernel/v_row": (128,),
    }
    return {n: rng.standard_normal(shape, np.float32) for n, shape in shapes.items()}


@pytest.fixture
def written(arrays, tmp_path):
    folder = tmp_path / "checkpoint_3"
    folder.mkdir()
    t5x_legacy.write(contents(arrays), folder)
    return folder


def rewrite(path: Path, change) -> None:
    """Changes the msgpack file."""
    content = serialization.msgpack_restore((path / "checkpoint").read_bytes())
    content = change(content) or content
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize(content))


def test_t5x_s_own_checkpoint_is_read_as_its_files_say(t5x):
    path = t5x.checkpoint("legacy")
    found = store.read(path)
    assert (found.form, found.step) == ("t5x-legacy", 30)
    expected = legacy_tree(path)
    assert expected.pop("state/step") == 30
    assert set(found.arrays) == set(expected)
    folders = 0
    for name, leaf in expected.items():
        if isinstance(leaf, dict):  # zarr version 2: here one gzipped chunk an array
            folders += 1
            folder = path / leaf["kvstore"]["path"]
            metadata = json.loads((folder / ".zarray").read_text())
            assert metadata["chunks"] == metadata["shape"]
            (chunk,) = (file for file in folder.iterdir() if file.name != ".zarray")
            raw = gzip.decompress(chunk.read_bytes())
            leaf = np.frombuffer(raw, metadata["dtype"]).reshape(metadata["shape"])
        np.testing.assert_array_equal(found.arrays[name].read(()), leaf, err_msg=name)
    assert folders > 60
    for name, array in t5x.flat_params.items():
        np.testing.assert_array_equal(found.arrays[f"target/{name}"].read(()), array)


def test_what_is_written_lies_where_t5x_puts_it(t5x, tmp_path):
    path = t5x.checkpoint("legacy")
    t5x_legacy.write(t5x_legacy.read(path), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in path.iterdir()}
    ours, theirs = legacy_tree(tmp_path), legacy_tree(path)
    assert set(ours) == set(theirs)
    for name, leaf in theirs.items():
        if isinstance(leaf, dict):
            same = ("driver", "dtype", "kvstore")
            assert {k: ours[name][k] for k in same} == {k: leaf[k] for k in same}
            assert ours[name]["metadata"]["shape"] == leaf["metadata"]["shape"]
        else:
            np.testing.assert_array_equal(ours[name], leaf, err_msg=name)
            assert ours[name].dtype == leaf.dtype


def test_what_is_written_is_read_bit_for_bit(written, arrays):
    found = t5x_legacy.read(written)
    assert found.step == 3
    assert set(found.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name].read(()), array)
        part = tuple(slice(0, size, None) for size in array.shape[:1])
        np.testing.assert_array_equal(found.arrays[name].read(part), array)
    rows = (slice(64, 130), slice(3, 7))
    np.testing.assert_array_equal(found.arrays[KERNEL].read(rows), arrays[KERNEL][rows])
    chunk = written / KERNEL.replace("/", ".") / "0.0"  # neither compressed nor padded
    assert chunk.read_bytes() == arrays[KERNEL].tobytes()


@pytest.fixture
def chunked(arrays, tmp_path, monkeypatch):
    """A checkpoint whose kernel, of 130 rows of 512 bytes, is too large for one chunk."""
    monkeypatch.setattr("xfer_jax.checkpoints.arrays._CHUNK_BYTES", 30 * 512)
    folder = tmp_path / "checkpoint_3"
    folder.mkdir()
    arrays[KERNEL][26:52] = 0  # a chunk of zeros
    t5x_legacy.write(contents(arrays), folder)
    return folder


def test_large_arrays_are_cut_into_chunks_that_divide_them(chunked, arrays):
    folder = chunked / KERNEL.replace("/", ".")
    files = {".zarray", *(f"{i}.0" for i in range(5))}  # 26 rows are the most that divide 130
    assert {file.name for file in folder.iterdir()} == files
    np.testing.assert_array_equal(t5x_legacy.read(chunked).arrays[KERNEL].read(()), arrays[KERNEL])


@pytest.mark.parametrize("lost", ["1.0", "4.0"])
def test_a_lost_chunk_is_an_error_and_no_zeros(chunked, lost):
    (chunked / KERNEL.replace("/", ".") / lost).unlink()
    array = t5x_legacy.read(chunked).arrays[KERNEL]
    with pytest.raises(RequestError, match=rf"checkpoint_3 cannot be read: {KERNEL} \(.*{lost}"):
        array.read(())


def test_checkpoints_that_were_written_to_the_cloud_are_read(written, arrays):
    def to_cloud(content: dict) -> None:
        leaves = flatten_dict(content["optimizer"], is_leaf=is_spec, sep="/")
        for name, leaf in leaves.items():
            if isinstance(leaf, dict):
                path = leaf["kvstore"]["path"]
                leaf["kvstore"] = {"driver": "gcs", "bucket": "t5x-dummy-bucket"}
                if "norm" in name:
                    leaf["path"] = path.rstrip("/")  # as TensorStore before 0.1.14 has it
                else:
                    leaf["kvstore"]["path"] = path

    rewrite(written, to_cloud)
    for location in (written, f"file://{written}"):  # an address, for TensorStore, like gs://
        found = store.read(locations.locate(location))
        for name, array in arrays.items():
            np.testing.assert_array_equal(found.arrays[name].read(()), array)


def test_weights_that_t5x_saved_in_bfloat16_are_read(written, arrays):
    folder = written / KERNEL.replace("/", ".")
    shutil.rmtree(folder)
    few = arrays[KERNEL].astype(ml_dtypes.bfloat16)
    spec = {"driver": "zarr", "kvstore": f"file://{folder}/", "metadata": {"shape": few.shape}}
    ts.open(spec | {"dtype": "bfloat16"}, create=True).result().write(few).result()
    found = store.read(written).arrays[KERNEL]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.as_float32().read(()), few.astype(np.float32))


def test_layouts_that_t5x_no_longer_reads_are_named(written):
    rewrite(written, lambda content: content | {"version": 1})
    with pytest.raises(RequestError, match=r"3 has T5X's layout 1, .* use layout 2 or 3"):
        t5x_legacy.read(written)


def test_bfloat16_that_stands_as_integers_is_refused(written):
    """Layout 2 has it so."""

    def as_integers(content: dict) -> dict:
        leaves = flatten_dict(content["optimizer"], is_leaf=is_spec, sep="/")
        leaves[KERNEL] = np.ones((130, 128), np.uint16)
        return {"version": 2, "optimizer": unflatten_dict(leaves, sep="/")}

    rewrite(written, as_integers)
    with pytest.raises(RequestError, match=f"{KERNEL} has uint16 numbers, which are not weights"):
        store.read(written)


@pytest.mark.parametrize("folder", ["../elsewhere", "a/../../b", "a\nb", ".."])
def test_an_array_cannot_lie_outside(written, folder):
    def move(content: dict) -> None:
        leaves = flatten_dict(content["optimizer"], is_leaf=is_spec, sep="/")
        leaves[KERNEL]["kvstore"]["path"] = folder

    rewrite(written, move)
    with pytest.raises(RequestError, match=r"checkpoint is damaged: an array cannot be in '"):
        store.read(written)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93" * 5000,  # arrays in arrays
        b"\xdd\xff\xff\xff\xff",  # an array of four billion elements
        b"\xc6\xff\xff\xff\xff",  # four gigabytes
        b"\xc9\xff\xff\xff\xff\x01",  # an extension of them
        b"\x81\xa9optimizer\xc0",
        b"\x81\xa9optimizer\x81\xa5state\x81\xa4step\xc7\x03\x01\x93\x91\xcf",
    ],
)
def test_an_index_that_is_none_is_one_sentence(written, content):
    (written / "checkpoint").write_bytes(content)
    with pytest.raises(RequestError, match=r"^\S*checkpoint_3/checkpoint is damaged: [^\n]+$"):
        store.read(written)
