"""`xfer-jax convert`: every form into every other bit for bit, or one sentence and nothing left."""

import hashlib
import itertools
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import serialization
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from seqio_tasks.errors import RequestError
from tests.support.checkpoints import STEP, legacy_arrays
from tests.support.checkpoints import arrays as arrays_of
from xfer_jax.checkpoints import arrays, checksums, convert, huggingface, locations, run_file, store
from xfer_jax.cli import main as cli
from xfer_jax.mt5 import model

# What Orbax says of checkpoints that are read on another machine than they were written on.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

EMBEDDING = "target/token_embedder/embedding"


@pytest.fixture
def copied(forms, tmp_path):
    """Copies the checkpoint of a form without its hashes, to be damaged."""

    def copy(form: str) -> Path:
        made = shutil.copytree(forms[form], tmp_path / "copied" / forms[form].name)
        (made / "SHA256SUMS").unlink()
        return made

    return copy


@pytest.fixture
def answer(capsys):
    """Runs `convert` and returns its exit code, what it printed and the errors."""

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["convert", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(answer, tmp_path):
    """Checks that a conversion fails with one line that matches, and leaves nothing behind."""

    def check(pattern: str, source, *arguments, code: int = 2) -> None:
        before = set(tmp_path.rglob("*"))
        arguments = arguments or (tmp_path / "new" / "out", "--to", "t5x")
        found, out, err = answer(source, *arguments)
        assert (found, out) == (code, ""), err
        assert re.fullmatch(f"xfer-jax: .*(?:{pattern}).*\n", err), err
        assert set(tmp_path.rglob("*")) == before

    return check


READERS = {"native": arrays_of, "t5x": arrays_of, "t5x-legacy": legacy_arrays}


@pytest.mark.parametrize(("source", "to"), itertools.product(convert.FORMS, repeat=2))
def test_every_form_becomes_every_other_bit_for_bit(forms, truth, answer, tmp_path, source, to):
    step = ("--step", STEP) if source == "hf" and to != "hf" else ()
    code, _, err = answer(forms[source], tmp_path / "out", "--to", to, *step)
    assert code == 0, err
    assert not err
    if to == "hf":  # what is in it, the tests of `huggingface` ask Hugging Face's library
        for name in ("model.safetensors", "config.json"):
            made = (tmp_path / "out" / name).read_bytes()
            assert made == (forms["hf"] / name).read_bytes()
        return
    found = READERS[to](tmp_path / "out" / f"checkpoint_{STEP}")
    assert set(found) == set(truth)
    for name, array in found.items():
        expected = truth[name]
        if source == "hf" and name.startswith("state/param_states"):
            expected = np.zeros_like(expected)  # Adafactor as it begins
        np.testing.assert_array_equal(array, expected, err_msg=name)
        assert array.dtype == expected.dtype


@pytest.mark.parametrize("form", ["native", "t5x"])
def test_orbax_restores_what_is_written_in_the_way_that_t5x_has_it_do(forms, tree, truth, form):
    """T5X's OrbaxCheckpointManagerInterface.restore: a manager, an item, and a sharding each."""
    options = ocp.CheckpointManagerOptions(step_prefix="checkpoint", create=False)
    handlers = {"state": ocp.PyTreeCheckpointHandler(use_ocdbt=True)}
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    how = ocp.ArrayRestoreArgs(
        mesh=mesh, mesh_axes=jax.sharding.PartitionSpec(), dtype=None, restore_type=jax.Array
    )
    with ocp.CheckpointManager(
        forms[form].parent, item_handlers=handlers, options=options
    ) as manager:
        assert manager.latest_step() == STEP
        restored = manager.restore(
            STEP,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(tree, restore_args=jax.tree.map(lambda _: how, tree))
            ),
        )
    found = flatten_dict(restored["state"], sep="/")
    assert set(found) == set(truth)
    for name, array in found.items():
        assert isinstance(array, jax.Array)
        np.testing.assert_array_equal(array, truth[name], err_msg=name)


def test_what_a_run_knows_besides_arrays_is_kept(forms, answer, tmp_path):
    assert answer(forms["native"], tmp_path / "a", "--to", "native", "--step", 5)[0] == 0
    made = tmp_path / "a" / "checkpoint_5"
    assert run_file.about(made) == run_file.about(forms["native"]) != {}
    assert store.read(made).step == 5
    assert answer(forms["t5x"], tmp_path / "b", "--to", "native")[0] == 0
    assert run_file.about(tmp_path / "b" / f"checkpoint_{STEP}") == {}


def test_of_a_run_s_folder_the_latest_checkpoint_is_taken(tree, answer, tmp_path):
    for step in (9, 100, 20):
        late = {"target": tree["target"], "state": tree["state"] | {"step": np.int32(step)}}
        store.save(tmp_path / "run", late, {})
    code, out, _ = answer(tmp_path / "run", tmp_path / "out", "--to", "t5x")
    assert code == 0
    assert f"read {tmp_path}/run/checkpoint_100: native, step 100\n" in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoint_100"]


@pytest.mark.parametrize("form", ["t5x", "t5x-legacy", "hf"])
def test_checkpoints_are_read_from_afar(forms, truth, answer, tmp_path, form):
    address = f"file://{forms[form]}"  # for TensorStore as far as gs:// is
    assert locations.form(address) == form
    code, out, _ = answer(address, tmp_path / "out", "--to", "t5x-legacy", "--step", STEP)
    assert code == 0
    assert f"read {address}: {form}, step" in out
    found = legacy_arrays(tmp_path / "out" / f"checkpoint_{STEP}")
    np.testing.assert_array_equal(found[EMBEDDING], truth[EMBEDDING])


def test_t5x_s_two_layouts_become_the_same(t5x, answer, tmp_path):
    for layout, to in (("legacy", "t5x"), ("orbax", "t5x-legacy")):
        assert answer(t5x.checkpoint(layout), tmp_path / to, "--to", to)[0] == 0
    expected = arrays_of(t5x.checkpoint("orbax"))
    for found in (
        arrays_of(tmp_path / "t5x" / "checkpoint_30"),
        legacy_arrays(tmp_path / "t5x-legacy" / "checkpoint_30"),
    ):
        assert set(found) == set(expected)
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    for name, array in t5x.flat_params.items():
        np.testing.assert_array_equal(found[f"target/{name}"], array, err_msg=name)
    assert found["state/step"] == 30


def rows(out: str) -> dict[str, list[str]]:
    """Returns the table's columns behind the name, by the name."""
    head, *lines = (re.split("  +", line) for line in out.splitlines()[1:])
    assert head == ["part", "arrays", "parameters", "dtype", "bytes", "sha256"]
    return {line[0]: line[1:] for line in lines if len(line) == len(head)}


def test_the_table_says_what_is_in_a_checkpoint(forms, truth, answer):
    code, out, err = answer(forms["t5x-legacy"])
    assert (code, err) == (0, "")
    sizes = "mT5 of 256 rows x 128, 2 heads of 8, MLP 24, 1 + 2 layers"
    assert out.splitlines()[0] == sizes
    assert out.splitlines()[-1] == f"read {forms['t5x-legacy']}: t5x-legacy, step {STEP}"
    table = rows(out)
    for part, belongs in {
        "all parameters": lambda name: name.startswith("target/"),
        "optimizer state": lambda name: name.startswith("state/param_states/"),
        "encoder": lambda name: name.startswith("target/encoder/"),
        "decoder": lambda name: name.startswith("target/decoder/") and "logits" not in name,
        "decoder/logits_dense": lambda name: name == "target/decoder/logits_dense/kernel",
        "token_embedder": lambda name: name == EMBEDDING,
    }.items():
        arrays = {name: array for name, array in sorted(truth.items()) if belongs(name)}
        size = sum(array.size for array in arrays.values())
        digest = hashlib.sha256()
        for name, array in arrays.items():
            shape = "x".join(map(str, array.shape))
            digest.update(f"{name} {shape} ".encode() + hashlib.sha256(array.tobytes()).digest())
        expected = [str(len(arrays)), f"{size:,}", "float32", f"{4 * size:,}", digest.hexdigest()]
        assert table.pop(part) == expected
    assert not table


def test_the_hashes_are_the_same_in_every_form_and_change_with_a_bit(forms, answer, copied):
    tables = {form: rows(answer(path)[1]) for form, path in forms.items()}
    for table in tables.values():
        assert table["all parameters"] == tables["hf"]["all parameters"]
        assert table.get("optimizer state") in (tables["native"]["optimizer state"], None)

    path = copied("hf")
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-4] ^= 1  # the last bit of some weight
    (path / "model.safetensors").write_bytes(content)
    assert rows(answer(path)[1])["all parameters"][-1] != tables["hf"]["all parameters"][-1]


def test_weights_of_fewer_bits_have_the_hash_of_what_they_become(copied, answer, tmp_path):
    path = copied("hf")
    weights = load_file(path / "model.safetensors")
    few = {name: array.astype(ml_dtypes.bfloat16) for name, array in weights.items()}
    save_file(few, path / "model.safetensors")
    code, out, _ = answer(path, tmp_path / "out", "--to", "t5x", "--step", 0)
    assert code == 0
    before = rows(out)["all parameters"]
    after = rows(answer(tmp_path / "out")[1])["all parameters"]
    assert (before[2], after[2]) == ("bfloat16", "float32")
    assert before[-1] == after[-1]
    assert int(after[3].replace(",", "")) == 2 * int(before[3].replace(",", ""))


def test_what_is_left_out_or_made_anew_is_said(forms, answer, tmp_path):
    out = answer(forms["t5x"], tmp_path / "a", "--to", "hf")[1]
    assert f"wrote {tmp_path}/a: hf; the optimizer state and the step are left out" in out
    out = answer(tmp_path / "a", tmp_path / "b", "--to", "t5x", "--step", 7)[1]
    assert f"wrote {tmp_path}/b/checkpoint_7: t5x, step 7; with a fresh optimizer state" in out


def cut(file: Path, share: float = 0.5) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def cut_all(folder: Path) -> None:
    for file in folder.rglob("d/*"):
        cut(file)


def edit_json(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_weights(path: Path, change) -> None:
    """Rewrites the weights by Hugging Face's library."""
    weights = load_file(path / "model.safetensors")
    save_file(change(weights) or weights, path / "model.safetensors")


def edit_header(path: Path, change) -> None:
    file = path / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def replace_header(path: Path, change) -> None:
    file = path / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = change(content[8 : 8 + length])
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def as_index(path: Path, name: str, text: str | None = None, link: Path | None = None) -> None:
    """Has an index name a file of weights in place of `model.safetensors`."""
    if link:
        (path / "model.safetensors").rename(link)
        (path / name).symlink_to(link)
    else:
        (path / "model.safetensors").rename(path.parent / "weights.safetensors")
    index = json.dumps({"weight_map": {"shared.weight": name}})
    (path / "model.safetensors.index.json").write_text(text or index)


def rename_array(path: Path, name: str, new: str) -> None:
    file = path / "state" / "_METADATA"
    file.write_text(file.read_text().replace(json.dumps(name), json.dumps(new)))


def spoil(value: float):
    def change(weights: dict) -> None:
        weights["encoder.block.0.layer.1.DenseReluDense.wo.weight"][3, 2] = value

    return change


NOTHING = {"data_offsets": [0, 0]}
KERNEL = "target.encoder.layers_0.mlp.wi_0.kernel"
DAMAGES = {
    "legacy: array's file truncated": (
        "t5x-legacy",
        lambda path: cut(path / KERNEL / "0.0"),
        r"cannot be read: target/encoder/layers_0/mlp/wi_0/kernel \(",
    ),
    "legacy: array's file gone": (
        "t5x-legacy",
        lambda path: (path / KERNEL / "0.0").unlink(),
        r"cannot be read: target/encoder/layers_0/mlp/wi_0/kernel \(.*0\.0",
    ),
    "legacy: array's folder gone": (
        "t5x-legacy",
        lambda path: shutil.rmtree(path / KERNEL),
        r"cannot be read: target/encoder/layers_0/mlp/wi_0/kernel \(",
    ),
    "legacy: many folders gone": (
        "t5x-legacy",
        lambda path: [shutil.rmtree(folder) for folder in path.glob("target.*.kernel")],
        r"cannot be read: target/.* \(.*; and \d+ more",
    ),
    "legacy: array's description garbled": (
        "t5x-legacy",
        lambda path: (path / KERNEL / ".zarray").write_text("{"),
        r"cannot be read: target/encoder/layers_0/mlp/wi_0/kernel \(",
    ),
    "legacy: index garbled": (
        "t5x-legacy",
        lambda path: (path / "checkpoint").write_bytes(b"\x81\xa7version\xc1 nonsense"),
        r"/checkpoint is damaged: ",
    ),
    "legacy: index truncated": (
        "t5x-legacy",
        lambda path: cut(path / "checkpoint"),
        r"/checkpoint is damaged: ",
    ),
    "legacy: index empty": (
        "t5x-legacy",
        lambda path: (path / "checkpoint").write_bytes(b""),
        r"/checkpoint is damaged: ",
    ),
    "TensorFlow's": (
        "t5x-legacy",
        lambda path: (path / "checkpoint").write_text('model_checkpoint_path: "model-1"\n'),
        r"is a TensorFlow checkpoint; use T5X's conversion of it",
    ),
    "Orbax: data truncated": ("t5x", lambda path: cut_all(path / "state"), r"\d+ .*"),
    "Orbax: data gone": (
        "native",
        lambda path: [file.unlink() for file in path.rglob("d/*")],
        r"checkpoint_\d+ cannot be read: ",
    ),
    "Orbax: manifest garbled": (
        "native",
        lambda path: (path / "state" / "manifest.ocdbt").write_bytes(b"nonsense"),
        r"checkpoint_\d+ cannot be read: ",
    ),
    "Orbax: list of arrays gone": (
        "native",
        lambda path: (path / "state" / "_METADATA").unlink(),
        r"is damaged, or not a checkpoint of a T5X model",
    ),
    "Orbax: list of arrays truncated": (
        "t5x",
        lambda path: cut(path / "state" / "_METADATA"),
        r"is damaged, or not a checkpoint of a T5X model",
    ),
    "hf: truncated": (
        "hf",
        lambda path: cut(path / "model.safetensors", 0.9),
        r"/model\.safetensors is truncated: it ends before byte [\d,]+",
    ),
    "hf: truncated by one byte": (
        "hf",
        lambda path: (path / "model.safetensors").write_bytes(
            (path / "model.safetensors").read_bytes()[:-1]
        ),
        r"/model\.safetensors is truncated",
    ),
    "hf: truncated in the header": (
        "hf",
        lambda path: cut(path / "model.safetensors", 0.001),
        r"/model\.safetensors is truncated",
    ),
    "hf: empty": (
        "hf",
        lambda path: (path / "model.safetensors").write_bytes(b""),
        r"/model\.safetensors is truncated",
    ),
    "hf: garbled header": (
        "hf",
        lambda path: (path / "model.safetensors").write_bytes(
            (99).to_bytes(8, "little") + b"?" * 999
        ),
        r"/model\.safetensors is damaged: ",
    ),
    "hf: endless header": (
        "hf",
        lambda path: (path / "model.safetensors").write_bytes(b"<!DOCTYPE html>" * 99),
        r"/model\.safetensors is damaged: its header cannot be [\d,]+ bytes",
    ),
    "hf: header that contradicts itself": (
        "hf",
        lambda path: edit_header(path, lambda h: h["shared.weight"].update(shape=[256, 64])),
        r"/model\.safetensors is damaged: bytes \d+ to \d+ are not an F32 array of shape \(256,",
    ),
    "hf: integers": (
        "hf",
        lambda path: edit_weights(
            path, lambda w: w.update({"shared.weight": np.zeros((256, 128), np.int64)})
        ),
        r"has arrays of type 'I64', which are not weights",
    ),
    "hf: array missing": (
        "hf",
        lambda path: edit_weights(path, lambda w: w.pop("decoder.final_layer_norm.weight") is None),
        r"does not fit the model: target/decoder/decoder_norm/scale is missing",
    ),
    "hf: array left over": (
        "hf",
        lambda path: edit_weights(path, lambda w: w.update(classifier=np.ones(3, np.float32))),
        r"does not fit the model: target/classifier is not in the model",
    ),
    "hf: several things at once": (
        "hf",
        lambda path: edit_weights(
            path,
            lambda w: w.update(
                {
                    "classifier": np.ones(3, np.float32),
                    "encoder.final_layer_norm.weight": np.ones(5, np.float32),
                    "lm_head.weight": np.ones((250, 128), np.float32),
                }
            ),
        ),
        r"(?=.*encoder_norm/scale is \(5,\), the model has \(128,\))"
        r"(?=.*logits_dense/kernel is \(128, 250\), the model has \(128, 256\))"
        r".*target/classifier is not in the model",
    ),
    "hf: no mT5": (
        "hf",
        lambda path: edit_weights(path, lambda w: {"bert.weight": np.ones(3, np.float32)}),
        r"is not an mT5: it has no target/token_embedder/embedding, no target/encoder/",
    ),
    "hf: vocabulary of another size": (
        "hf",
        lambda path: edit_json(path / "config.json", vocab_size=250),
        r"/config\.json does not describe an mT5 with .*: vocab_size is 250 instead of 256",
    ),
    "hf: another network": (
        "hf",
        lambda path: edit_json(
            path / "config.json", feed_forward_proj="gated-silu", layer_norm_epsilon=1e-5
        ),
        r"feed_forward_proj is 'gated-silu' instead of 'gated-gelu'; layer_norm_epsilon is 1e-05",
    ),
    "hf: a T5 that scales its logits": (
        "hf",
        lambda path: (
            edit_weights(path, lambda w: w.pop("lm_head.weight") is None)
            or edit_json(path / "config.json", model_type="t5")
        ),
        r"/config\.json does not describe an mT5 with .*: model_type is 't5' instead of 'mt5'",
    ),
    "legacy: chunks that no memory holds": (
        "t5x-legacy",
        lambda path: edit_json(path / KERNEL / ".zarray", chunks=[2**40, 24]),
        r"wi_0/kernel \(chunks of \(1099511627776, 24\) are larger than the array\)",
    ),
    "legacy: a shape that no memory holds": (
        "t5x-legacy",
        lambda path: edit_json(path / KERNEL / ".zarray", shape=[10**13, 24], chunks=[128, 24]),
        r"wi_0/kernel \(the shape \(10000000000000, 24\) is too large for its files\)",
    ),
    "legacy: numbers of a gigabyte each": (
        "t5x-legacy",
        lambda path: edit_json(path / KERNEL / ".zarray", dtype="|V100000000000"),
        r"wi_0/kernel (has \|V|\(the shape )",
    ),
    "legacy: sizes below zero": (
        "t5x-legacy",
        lambda path: edit_json(path / KERNEL / ".zarray", shape=[-128, 24]),
        r"cannot be read: target/encoder/layers_0/mlp/wi_0/kernel \(",
    ),
    "t5x: arrays that are called absurdly": (
        "t5x",
        lambda path: rename_array(path, "encoder_norm", "encoder\n_norm"),
        r"damaged: an array is named '\S*encoder/encoder\\n_norm/scale\S*'",
    ),
    "t5x: list nested deeply": (
        "t5x",
        lambda path: (path / "state" / "_METADATA").write_text("[" * 100_000),
        r"is damaged, or not a checkpoint of a T5X model",
    ),
    "hf: a billion layers": (
        "hf",
        lambda path: edit_weights(
            path,
            lambda w: w.update(
                {"encoder.block.999999999.layer.0.layer_norm.weight": np.ones(128, np.float32)}
            ),
        ),
        r"is not an mT5: it has an array encoder\.block\.999999999, but at most 256 layers",
    ),
    "hf: layers of thousands of digits": (
        "hf",
        lambda path: edit_header(
            path,
            lambda h: h.update(
                {f"encoder.block.{'9' * 5000}.x": {"dtype": "F32", "shape": [0]} | NOTHING}
            ),
        ),
        r"is not an mT5: it has an array encoder\.block\.9{20}, but at most",
    ),
    "hf: arrays that overlap": (
        "hf",
        lambda path: edit_header(
            path,
            lambda h: h["shared.weight"].update(data_offsets=h["lm_head.weight"]["data_offsets"]),
        ),
        r"its arrays overlap or leave a gap at byte \d+",
    ),
    "hf: bytes behind the last array": (
        "hf",
        lambda path: (path / "model.safetensors").open("ab").write(b"more"),
        r"is damaged: there are bytes after its last array",
    ),
    "hf: huge numbers": (
        "hf",
        lambda path: edit_header(path, lambda h: h["shared.weight"].update(shape=[10**30, 0])),
        r"safetensors is damaged: shared\.weight\.shape\.0: Input should be ",
    ),
    "hf: NaN for a number": (
        "hf",
        lambda path: edit_header(
            path, lambda h: h["shared.weight"].update(shape=[float("nan"), 2])
        ),
        r"safetensors is damaged: shared\.weight\.shape\.0: Input should be a valid integer",
    ),
    "hf: sizes below zero": (
        "hf",
        lambda path: edit_header(path, lambda h: h["shared.weight"].update(shape=[-1, 2])),
        r"safetensors is damaged: shared\.weight\.shape\.0: Input should be greater",
    ),
    "hf: an array twice": (
        "hf",
        lambda path: replace_header(
            path, lambda text: text.replace(b'"shared.weight"', b'"lm_head.weight"')
        ),
        r"is damaged: two entries are named 'lm_head\.weight'",
    ),
    "hf: header nested deeply": (
        "hf",
        lambda path: replace_header(path, lambda text: b'{"a":' * 50_000),
        r"is damaged: JSON that is nested too deeply",
    ),
    "hf: header that is no JSON": (
        "hf",
        lambda path: replace_header(path, lambda text: b"\xff\xfe" + text),
        r"safetensors is damaged: ",
    ),
    "hf: index that leads elsewhere": (
        "hf",
        lambda path: as_index(path, "../weights.safetensors"),
        r"index\.json names '\.\./weights\.safetensors', which is not a weights file in the same",
    ),
    "hf: index with a whole path": (
        "hf",
        lambda path: as_index(path, str(path / "model.safetensors")),
        r"index\.json names '/.*, which is not a weights file in the same",
    ),
    "hf: index with a NUL": (
        "hf",
        lambda path: as_index(path, "a\0.safetensors"),
        r"index\.json names 'a\\x00\.safetensors', which is not a weights file",
    ),
    "hf: index that names a link out of the folder": (
        "hf",
        lambda path: as_index(path, "1.safetensors", link=path.parent / "weights.safetensors"),
        r"index\.json names '1\.safetensors', which is not a weights file in the same folder",
    ),
    "hf: index nested deeply": (
        "hf",
        lambda path: as_index(path, "x", text="[" * 100_000),
        r"/model\.safetensors\.index\.json is damaged: ",
    ),
    "hf: scaled logits": (
        "hf",
        lambda path: edit_json(path / "config.json", scale_decoder_outputs=True),
        r"config\.json does not .*: scale_decoder_outputs is True, which scales the logits by",
    ),
    "hf: a T5 whose logits are scaled by default": (
        "hf",
        lambda path: edit_json(path / "config.json", model_type="t5", tie_word_embeddings=True),
        r"tie_word_embeddings is True, which scales the logits by d_model\^-0\.5",
    ),
    "hf: an mT5 that transformers 4 scaled": (
        "hf",
        lambda path: edit_json(
            path / "config.json", tie_word_embeddings=True, transformers_version="4.46.0"
        ),
        r"tie_word_embeddings is True, which scales the logits by d_model\^-0\.5",
    ),
    "hf: other sizes and tokens": (
        "hf",
        lambda path: edit_json(
            path / "config.json",
            num_heads=4,
            d_kv=4,
            num_layers=3,
            decoder_start_token_id=2,
            pad_token_id=1,
            dense_act_fn="relu",
            is_gated_act=False,
            layer_norm_epsilon="1e-6",
        ),
        r"(?=.*num_heads is 4 instead of 2)(?=.*d_kv is 4 instead of 8)"
        r"(?=.*num_layers is 3 instead of 1)(?=.*decoder_start_token_id is 2 instead of 0)"
        r"(?=.*pad_token_id is 1 instead of 0)(?=.*dense_act_fn is 'relu' instead of 'gelu_new')"
        r"(?=.*is_gated_act is False)(?=.*layer_norm_epsilon is '1e-6' instead of 1e-06)",
    ),
    "hf: another family": (
        "hf",
        lambda path: edit_json(path / "config.json", model_type="umt5"),
        r"model_type is 'umt5' instead of 'mt5'",
    ),
    "hf: configuration nested deeply": (
        "hf",
        lambda path: (path / "config.json").write_text("[" * 100_000),
        r"/config\.json is damaged: ",
    ),
    "hf: configuration garbled": (
        "hf",
        lambda path: (path / "config.json").write_text("["),
        r"/config\.json is damaged: ",
    ),
    "hf: NaN": (
        "hf",
        lambda path: edit_weights(path, spoil(np.nan)),
        r"has NaN or infinite weights in target/encoder/layers_0/mlp/wo/kernel; it is damaged",
    ),
    "hf: infinity": (
        "hf",
        lambda path: edit_weights(path, spoil(-np.inf)),
        r"has NaN or infinite weights in target/encoder/layers_0/mlp/wo/kernel",
    ),
    "hf: more than float32 holds": (
        "hf",
        lambda path: edit_weights(
            path, lambda w: w.update({"shared.weight": np.full((256, 128), 1e300)})
        ),
        r"has NaN or infinite weights in target/token_embedder/embedding",
    ),
    "hf: both infinities": (
        "hf",
        lambda path: edit_weights(
            path,
            lambda w: w.update(
                {"shared.weight": np.tile(np.float32([-np.inf, np.inf]), (256, 64))}
            ),
        ),
        r"has NaN or infinite weights in target/token_embedder/embedding",
    ),
    "hf: file gone": (
        "hf",
        lambda path: (path / "model.safetensors").rename(path / "weights"),
        r"is not a checkpoint: name a folder",
    ),
    "hf: index without its files": (
        "hf",
        lambda path: (
            (path / "model.safetensors").rename(path / "model.safetensors.index.json")
            and (path / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
            )
        ),
        r" has no 1\.safetensors, 2\.safetensors, which model\.safetensors\.index\.json names",
    ),
    "hf: index garbled": (
        "hf",
        lambda path: (path / "model.safetensors").rename(path / "model.safetensors.index.json"),
        r"/model\.safetensors\.index\.json is damaged: ",
    ),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")  # NumPy's would be a second line
@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_checkpoint_is_one_sentence_and_leaves_nothing(refused, copied, case):
    form, damage, pattern = DAMAGES[case]
    path = copied(form)
    damage(path)
    refused(pattern, path)


def test_a_step_that_t5x_has_cast_to_the_dtype_of_weights_is_read():
    # T5X casts it when it restores an Orbax checkpoint with a dtype, and saves it so.
    for step in (np.float32(42), np.asarray([1_000_000], np.float32), np.int32(7)):
        found = arrays.checked_step("checkpoint", step)
        assert type(found) is int
        assert found == step


@pytest.mark.parametrize("step", [-1, 2**31, 1.5, "3", [1, 2], None, np.float32("nan")])
def test_a_step_that_is_none_is_one_sentence(refused, copied, step):
    path = copied("t5x-legacy")
    content = serialization.msgpack_restore((path / "checkpoint").read_bytes())
    content["optimizer"]["state"]["step"] = step
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    refused("is damaged: its step is not an integer from 0 to 2,147,483,647", path)


@pytest.mark.parametrize(("form", "to"), zip(convert.FORMS, reversed(convert.FORMS), strict=True))
def test_a_flipped_bit_is_not_converted(forms, refused, tmp_path, form, to):
    path = shutil.copytree(forms[form], tmp_path / "copied" / forms[form].name)
    rng = np.random.default_rng(5)
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "SHA256SUMS"]
    for file in sorted(files)[:: max(len(files) // 4, 1)]:
        whole = file.read_bytes()
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        file.write_bytes(content)
        name = re.escape(str(file.relative_to(path)))
        wrong = rf"{re.escape(str(path))} is damaged: {name} is not as it was written; copy"
        refused(wrong, path, tmp_path / "new" / "out", "--to", to)
        refused(wrong, path)
        file.write_bytes(whole)


@pytest.mark.parametrize("form", convert.FORMS)
def test_every_form_has_hashes_as_sha256sum_computes_them(forms, form):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=forms[form],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")
    listed = {line.split("  ")[1] for line in (forms[form] / "SHA256SUMS").read_text().splitlines()}
    there = {str(f.relative_to(forms[form])) for f in forms[form].rglob("*") if f.is_file()}
    assert there - listed == {"SHA256SUMS"}


def test_that_there_are_no_hashes_is_said(forms, answer, copied):
    assert answer(forms["hf"])[1].endswith(": hf, step 0\n")
    said = ": hf, step 0; it has no SHA256SUMS to detect damage\n"
    assert answer(copied("hf"))[1].endswith(said)


@pytest.mark.parametrize("to", convert.FORMS)
def test_damage_that_shows_while_writing_leaves_nothing_in_any_form(refused, copied, tmp_path, to):
    path = copied("hf")
    edit_weights(path, spoil(np.nan))
    refused("has NaN", path, tmp_path / "new" / "out", "--to", to)
    refused("has NaN", path)  # and as well when it is only described


def test_what_a_run_knows_must_be_readable_to_be_kept(refused, copied, tmp_path):
    path = copied("native")
    (path / "run.json").write_text("{")
    refused(r"/run\.json is damaged: ", path, tmp_path / "new" / "out", "--to", "native")


def test_what_is_no_checkpoint_is_said_to_be_none(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("not one")
    for name in ("empty", "note.txt", "missing"):
        refused(f"{tmp_path}/{name} is not a checkpoint: name", tmp_path / name)
    refused("file:///nowhere/x is not a checkpoint", "file:///nowhere/x")


def test_an_address_that_cannot_be_fetched_is_named(refused):
    refused("ftp://host/x/state/_METADATA cannot be fetched: .*scheme", "ftp://host/x")


class Malice:
    """What pickle would run a command for."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["torch", "torch before 1.6", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(refused, tmp_path, how):
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `parity`")
    proof = tmp_path / "it_ran"
    content = {"shared.weight": torch.ones(4, 4), "more": Malice(f"touch {proof}")}
    file = tmp_path / "pytorch_model.bin"
    if how == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "torch")
    with open(file, "rb") as opened:  # it is what it is meant to be
        assert b"touch" in opened.read()
    refused("is not loaded: it is damaged, or has objects that can run code", tmp_path)
    assert not proof.exists()


BAD_BINS = {
    "truncated": (lambda torch, file: cut(file), "is not loaded: it is damaged"),
    "garbled": (lambda torch, file: file.write_bytes(b"hello world" * 99), "is not loaded"),
    "empty": (lambda torch, file: file.write_bytes(b""), "is not loaded"),
    "a list": (lambda torch, file: torch.save([1, 2, 3], file), "is not loaded"),
    "a tensor": (
        lambda torch, file: torch.save(torch.ones(3), file),
        "is not loaded: it is damaged, or has objects that can run code",
    ),
    "with a number": (
        lambda torch, file: torch.save({"a": torch.ones(3), "epoch": 3}, file),
        "contains more than weights",
    ),
    "of integers": (
        lambda torch, file: torch.save({"shared.weight": torch.ones(3, dtype=torch.int32)}, file),
        "embedding has int32 numbers, which are not weights",
    ),
}


@pytest.mark.parametrize("case", BAD_BINS)
def test_a_damaged_bin_is_one_sentence(refused, tmp_path, case):
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `parity`")
    damage, pattern = BAD_BINS[case]
    file = tmp_path / "pytorch_model.bin"
    torch.save({"shared.weight": torch.ones(99, 99)}, file)
    damage(torch, file)
    refused(pattern, tmp_path)


def test_a_bin_that_stands_for_more_than_it_holds_is_refused(refused, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `parity`")
    for name, tensor in {
        "shared.weight": torch.ones(1).expand(2**20, 2**20),  # 4 TiB of four bytes
        7: torch.ones(3),
    }.items():
        torch.save({name: tensor}, tmp_path / "pytorch_model.bin")
        refused("contains more than weights", tmp_path)


@pytest.mark.parametrize("version", ["2.5.1+cu121", "1.13.0", "unknown"])
def test_no_bin_is_loaded_by_a_pytorch_that_runs_code(refused, tmp_path, monkeypatch, version):
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `parity`")
    torch.save({"shared.weight": torch.ones(3)}, tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("it was loaded"))
    refused(r"PyTorch .* can run code of a file; install PyTorch 2\.6 or", tmp_path)


def test_a_bin_afar_is_to_be_copied_first(refused, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    refused(r"pytorch_model\.bin is remote: copy", f"file://{tmp_path}")


def test_the_source_must_be_what_it_is_said_to_be(forms, refused, answer, tmp_path):
    out = tmp_path / "out"
    refused(
        r"hf is hf \(Hugging Face's .*\), not t5x", forms["hf"], out, "--to", "t5x", "--from", "t5x"
    )
    refused("not t5x-legacy", forms["t5x"], out, "--to", "hf", "--from", "t5x-legacy")
    refused("not native", forms["t5x"], out, "--to", "hf", "--from", "native")
    for i, form in enumerate(("t5x", "t5x-legacy")):  # `t5x` is either of T5X's
        assert answer(forms[form], tmp_path / str(i), "--to", "hf", "--from", "t5x")[0] == 0


def test_what_is_at_the_destination_stays(forms, refused, tmp_path):
    there = tmp_path / "out" / f"checkpoint_{STEP}"
    there.mkdir(parents=True)
    for destination in (there, there.parent):
        refused(
            f"{there} exists; remove it", forms["hf"], destination, "--to", "t5x", "--step", STEP
        )
    refused("out exists; remove it", forms["native"], tmp_path / "out", "--to", "hf")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    refused("link exists; remove it", forms["native"], tmp_path / "link", "--to", "hf")


def test_a_destination_in_the_source_is_refused(forms, refused, copied, tmp_path, monkeypatch):
    path = copied("t5x")
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(path.parent)
    for inside in (
        path / "out",
        tmp_path / "link" / "out",
        Path(path.name) / ".." / path.name / "x",
    ):
        refused("is inside the source checkpoint", path, inside, "--to", "hf")


def test_paths_may_have_dots(forms, answer, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    source = os.path.relpath(forms["hf"])
    code, _, err = answer(source, "../there/../out/", "--to", "hf")
    assert code == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "out"]
    assert checksums.damage(tmp_path / "out") is None


def test_of_conversions_to_one_place_one_is_kept_and_the_others_refused(tmp_path):
    final = tmp_path / "new" / "out"

    def both() -> None:
        with convert._whole(final) as slow:
            (slow / "mine").write_text("slow")
            with convert._whole(final) as fast:  # leaves alone what is still being written
                (fast / "mine").write_text("fast")
            assert (slow / "mine").is_file()

    with pytest.raises(RequestError, match="out exists: another process has just made it"):
        both()
    assert [path.name for path in final.parent.iterdir()] == ["out"]
    assert (final / "mine").read_text() == "fast"


def test_what_a_conversion_that_was_killed_has_left_goes(tmp_path):
    (tmp_path / ".out.0123456789ab.converting").mkdir()
    (tmp_path / ".out.ba9876543210.converting").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("kept")
    with convert._whole(tmp_path / "out") as folder:
        (folder / "x").write_text("")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".out.ba9876543210.converting", "elsewhere", "out"]
    assert (tmp_path / "elsewhere" / "mine").is_file()


def test_a_destination_that_cannot_be_made_is_said(forms, refused, tmp_path):
    (tmp_path / "file").write_text("")
    refused(
        "file/out cannot be made: Not a directory",
        forms["t5x"],
        tmp_path / "file/out",
        "--to",
        "hf",
    )
    # /proc refuses even root, whom no permission stops.
    refused("/proc/out/x cannot be made: ", forms["t5x"], "/proc/out/x", "--to", "hf")
    refused("is remote: choose a local folder", forms["t5x"], "gs://bucket/x", "--to", "hf")


def test_the_step_is_asked_for_where_it_is_not_known(forms, refused, answer, tmp_path):
    named = tmp_path / "checkpoint_1000000"
    refused("has step 1000000 in its name, but .* is at step 0", forms["hf"], named, "--to", "t5x")
    assert answer(forms["hf"], named, "--to", "t5x", "--step", 1_000_000)[0] == 0
    assert store.read(named).step == 1_000_000
    refused(
        "--step is of a DST that has one", forms["t5x"], tmp_path / "x", "--to", "hf", "--step", 1
    )
    refused(r"--step must lie in \[0", forms["t5x"], tmp_path / "x", "--to", "t5x", "--step", -1)


def test_a_destination_and_its_form_belong_together(refused, forms, tmp_path):
    refused("give both DST and --to", forms["t5x"], "--to", "hf")
    refused("give both DST and --to", forms["t5x"], tmp_path / "out")
    refused("--step is of a DST", forms["t5x"], "--step", "5")


def looks_finished(folder: Path) -> list[Path]:
    """Returns the folders at any depth that would be taken for a checkpoint."""
    inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    return [path for path in inside if locations.form(path) or locations.steps(path)]


@pytest.mark.parametrize("to", convert.FORMS)
def test_a_conversion_that_is_interrupted_leaves_nothing(forms, answer, tmp_path, monkeypatch, to):
    reads = itertools.count()
    read_bytes = arrays.read_bytes

    def interrupt(*args):
        if next(reads) == 20:
            raise KeyboardInterrupt
        return read_bytes(*args)

    arguments = (forms["hf"], tmp_path / "new" / "out", "--to", to)
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "_BATCH_BYTES", 1)  # each array is written before the next is read
        patch.setattr(huggingface, "read_bytes", interrupt)
        assert answer(*arguments)[0] == 130
    assert not list(tmp_path.iterdir())
    assert answer(*arguments)[0] == 0
    assert looks_finished(tmp_path)


KILLED = """
import itertools, os, signal, sys
from xfer_jax.checkpoints import arrays, huggingface
from xfer_jax.cli import main as cli
arrays._BATCH_BYTES = 1  # each array is on the disk before the next is read
reads, read_bytes = itertools.count(), huggingface.read_bytes
def killed(*args):
    if next(reads) == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_bytes(*args)
huggingface.read_bytes = killed
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_conversion_that_is_killed_leaves_nothing_that_looks_finished(forms, answer, tmp_path):
    arguments = {to: [forms["hf"], tmp_path / to / "out", "--to", to] for to in convert.FORMS}
    processes = [
        subprocess.Popen([sys.executable, "-c", KILLED, "convert", *map(str, those)])
        for those in arguments.values()
    ]
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * len(processes)
    for to, those in arguments.items():
        left = [path for path in (tmp_path / to).rglob("*") if path.is_file()]
        assert sum(file.stat().st_size for file in left) > 10_000, "it was killed while it wrote"
        assert not looks_finished(tmp_path / to)
        assert answer(*those)[0] == 0  # what was left is no hindrance, and goes
        folder = tmp_path / to / "out"
        assert [path.name for path in (folder if to != "hf" else folder.parent).iterdir()] == [
            "checkpoint_0" if to != "hf" else "out"
        ]


@pytest.mark.parametrize("to", convert.FORMS)
def test_a_disk_that_fails_is_one_sentence_and_leaves_nothing(forms, refused, tmp_path, to):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # bytes a file
    try:
        out = tmp_path / "new" / "out"
        refused("out.* cannot be written: .*arge", forms["hf"], out, "--to", to, code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["t5x", "hf"])
def test_a_few_arrays_are_in_memory_not_all(tmp_path, monkeypatch, to):
    large = 16 << 20  # bytes of each array below, many times what the rest takes
    config = model.Config(128, 512, 2, 64, large // (512 * 4), 2, 2)
    shapes = flatten_dict({"target": model.parameter_shapes(config)}, sep="/")
    ones = {
        name: arrays.Stored(x.shape, np.dtype(np.float32), lambda i, x=x: np.ones(x.shape, "f4")[i])
        for name, x in shapes.items()
    }
    assert sum(np.prod(x.shape) == large // 4 for x in shapes.values()) == 12
    (tmp_path / "made").mkdir()
    huggingface.write(arrays.Contents("made", "native", 0, ones), config, tmp_path / "made")
    monkeypatch.setattr(arrays, "_BATCH_BYTES", large)
    tracemalloc.start()
    try:
        convert.convert(str(tmp_path / "made"), str(tmp_path / "out"), to)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3.2 * large  # of 12: the array in hand, what it was made from, the one before
