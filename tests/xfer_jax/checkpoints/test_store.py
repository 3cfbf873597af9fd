"""Checkpoints: bit-exact there and back, whole or not there, T5X's own, and what does not fit."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from seqio_tasks.errors import RequestError
from tests.support.checkpoints import (
    TINY,
    all_files,
    flat,
    flip_any,
    like,
    parameters_like,
    refusal,
)
from tests.support.command_line import free_port
from xfer_jax.checkpoints import convert, locations, run_file, store
from xfer_jax.cli import main as cli
from xfer_jax.mt5 import model, optimizer

# Orbax leaves coroutines behind when it cannot read an array.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_what_is_saved_is_restored_bit_for_bit(saved, state):
    path, tree = saved
    assert path.name == "checkpoint_1000007"
    assert run_file.about(path) == {"first_step": 1_000_000, "task": "x"}
    restored = store.restore(path, like())
    expected = flat(tree)
    for name, array in flat(restored).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.dtype == expected[name].dtype
    assert set(flat(restored)) == set(expected)

    step = int(restored["state"]["step"])
    assert step == 1_000_007
    params, opt_state = restored["target"], store.optimizer_state(restored, np.int32(step))
    assert jax.tree.structure(opt_state) == jax.tree.structure(state[1])
    for mine, original in zip(
        jax.tree.leaves((params, opt_state)), jax.tree.leaves(state), strict=True
    ):
        np.testing.assert_array_equal(mine, original)


def test_the_tree_is_t5x_s(state, t5x, t5x_config):
    like_t5x = like(t5x_config)
    names = set(flatten_dict(like_t5x, sep="/"))
    params = set(t5x.flat_params)
    slots = {
        f"state/param_states/{p}/{slot}" for p in params for slot in ("m", "v", "v_row", "v_col")
    }
    assert names == {f"target/{p}" for p in params} | slots | {"state/step"}


def test_the_parameters_alone_may_be_restored(saved):
    path, tree = saved
    restored = flat(store.restore(path, parameters_like()))
    assert set(restored) == {name for name in flat(tree) if "param_states" not in name}
    for name, array in restored.items():
        np.testing.assert_array_equal(array, flat(tree)[name])


def test_everything_that_does_not_fit_is_said_at_once(saved):
    path, _ = saved
    other = dataclasses.replace(TINY, mlp_dim=16, num_encoder_layers=2)
    with pytest.raises(RequestError, match="does not fit the model") as error:
        store.restore(path, parameters_like(other))
    said = str(error.value)
    assert str(path) in said
    shape = "target/encoder/layers_0/mlp/wi_0/kernel is (128, 24), the model has (128, 16)"
    assert shape in said
    assert "more" in said  # of a second layer's nine parameters and the MLPs, eight are shown

    larger = dataclasses.replace(TINY, num_encoder_layers=2)
    with pytest.raises(
        RequestError, match="target/encoder/layers_1/attention/key/kernel is missing"
    ):
        store.restore(path, parameters_like(larger))


def test_arrays_that_the_model_lacks_are_named(tmp_path):
    larger = dataclasses.replace(TINY, num_decoder_layers=3)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), model.parameter_shapes(larger))
    tree = store.to_tree(params, optimizer.init(params), 3)
    path = store.save(tmp_path, tree, {})
    for asked in (like(), parameters_like()):
        with pytest.raises(RequestError, match=r"decoder/layers_2/.* is not in the model"):
            store.restore(path, asked)


@pytest.mark.parametrize("asked", [like, parameters_like])
def test_another_program_s_checkpoint_does_not_fit(tmp_path, asked):
    with store.ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_3" / "state", {"params": {"w": jnp.ones(3)}})
    said = refusal(locations.locate(tmp_path), asked())
    assert "checkpoint_3 is damaged, or not a checkpoint of a T5X model" in said


@pytest.mark.parametrize(
    "damage",
    [
        "all removed",
        "all cut short",
        "one overwritten",
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_line(saved, damage):
    path, _ = saved
    files = sorted((path / "state").rglob("d/*"), key=lambda file: file.stat().st_size)
    for file in files[-1:] if damage == "one overwritten" else files:
        if damage == "all removed":
            file.unlink()
        elif damage == "all cut short":
            file.write_bytes(file.read_bytes()[:-100])
        else:
            file.write_bytes(bytes(100))
    said = refusal(path, like())
    assert "checkpoint_1000007 " in said
    assert "\n" not in said


def test_saving_a_step_again_replaces_it(saved, state):
    path, _ = saved
    other = jax.tree.map(lambda x: x + 1, state[0])
    store.save(path.parent, store.to_tree(other, state[1], 1_000_007), {"again": True})
    restored = store.restore(path, like())
    np.testing.assert_array_equal(
        restored["target"]["decoder"]["decoder_norm"]["scale"],
        other["decoder"]["decoder_norm"]["scale"],
    )
    assert run_file.about(path) == {"again": True}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "t5x", "t5x-legacy", "hf"])
def test_a_flipped_bit_is_refused_wherever_it_is(forms, form):
    """As many in small files as in large ones, in SHA256SUMS and run.json too."""
    path, rng, asked = forms[form], np.random.default_rng(17), parameters_like()
    for _ in range(40 if form == "native" else 10):
        file = rng.choice(all_files(path))
        content = file.read_bytes()
        flip_any(file, rng)
        said = refusal(path, asked)
        assert said.startswith(f"{path} is damaged: ")
        if file.name != "SHA256SUMS":  # of which the bit may be in the name or hash of another
            assert f"damaged: {file.relative_to(path)} is not as it was written; copy" in said
        file.write_bytes(content)
    assert store.restore(path, asked)


def test_checkpoints_of_earlier_versions_are_read(saved):
    """They had hashes of `state/` alone."""
    path, tree = saved
    lines = (path / "SHA256SUMS").read_text().splitlines(keepends=True)
    (path / "SHA256SUMS").write_text("".join(line for line in lines if "  state/" in line))
    assert len(lines) > len((path / "SHA256SUMS").read_text().splitlines())
    found = flat(store.restore(path, parameters_like()))
    np.testing.assert_array_equal(
        found["target/token_embedder/embedding"], flat(tree)["target/token_embedder/embedding"]
    )
    assert run_file.about(path)["task"] == "x"


def test_hashes_are_compared_afar(forms):
    path = forms["t5x"]
    kernel = max(all_files(path), key=lambda file: file.stat().st_size)
    content = kernel.read_bytes()
    flip_any(kernel, np.random.default_rng(0))
    assert f"damaged: {kernel.relative_to(path)} is not" in refusal(f"file://{path}", like())
    kernel.unlink()
    assert f"{kernel.relative_to(path)} is missing" in refusal(f"file://{path}", like())
    kernel.write_bytes(content)


ONE_OF_TWO = """
import sys
import jax
from seqio_tasks.errors import RequestError
from tests.support.checkpoints import parameters_like
from xfer_jax.checkpoints import locations, store
from xfer_jax.mt5 import partitioning
partitioning.join(sys.argv[1], 2, int(sys.argv[2]))
whole, damaged = sys.argv[3:]
mine = whole if partitioning.is_first() else damaged
try:
    store.restore(mine, parameters_like())
except RequestError as error:
    print("refused", error)
found, complaints = locations.latest(whole.rpartition("/")[0])
print("found", found)
try:
    locations.latest(damaged.rpartition("/")[0])
except RequestError as error:
    print("refused too", error)
"""


@pytest.mark.slow
def test_if_one_of_two_processes_reads_damage_both_say_so(saved, tmp_path):
    path, _ = saved
    damaged = shutil.copytree(path, tmp_path / "damaged" / path.name)
    (damaged / "state" / "_METADATA").write_text("{}")
    address = f"localhost:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, address, str(index), str(path), str(damaged)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        for index in range(2)
    ]
    try:
        for process in processes:
            out, _ = process.communicate(timeout=300)
            assert f"refused {damaged} is damaged: state/_METADATA is not as it was" in out
            assert f"found {path}\n" in out
            assert f"refused too {damaged} is damaged: state/_METADATA is not as" in out
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("when", ["arrays", "about", "rename"])
def test_a_save_that_is_killed_leaves_no_checkpoint(tmp_path, state, monkeypatch, when):
    tree = store.to_tree(*state, 4)

    class Killed(BaseException):  # past every handler, as a signal is
        pass

    def kill(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        if when == "arrays":
            patch.setattr(store.ocp.PyTreeCheckpointer, "save", kill)
        elif when == "about":
            patch.setattr(store.json, "dumps", kill)
        else:
            patch.setattr("pathlib.Path.rename", kill)
        with pytest.raises(Killed):
            store.save(tmp_path, tree, {})
    assert locations.steps(tmp_path) == []
    with pytest.raises(RequestError):
        locations.locate(tmp_path)
    store.save(tmp_path, tree, {"whole": True})  # what was left is no hindrance, and goes
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_4"]
    assert locations.steps(tmp_path) == [4]
    assert run_file.about(locations.locate(tmp_path)) == {"whole": True}


def test_t5x_s_own_checkpoint_loads_with_its_moments(t5x, t5x_config, tmp_path):
    original = t5x.checkpoint("orbax")
    copy = tmp_path / "checkpoint_30"
    shutil.copytree(original, copy)
    path = locations.locate(tmp_path)
    assert path == copy
    assert run_file.about(path) == {}
    restored = store.restore(path, like(t5x_config))
    params, step = restored["target"], int(restored["state"]["step"])
    assert step == 30
    opt_state = store.optimizer_state(restored, np.int32(step))
    for name, array in flat(params).items():
        np.testing.assert_array_equal(array, t5x.flat_params[name], err_msg=name)
    again = flat(store.to_tree(params, opt_state, step))
    assert all(
        array.any() for name, array in again.items() if name.endswith("/v_row") and array.size > 1
    )
    assert set(again) == set(flatten_dict(like(t5x_config), sep="/"))


@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # of Orbax's, in the comparison
def test_t5x_s_two_layouts_hold_the_same(t5x):
    legacy, orbax = (store.read(t5x.checkpoint(layout)) for layout in ("legacy", "orbax"))
    assert (legacy.form, orbax.form) == ("t5x-legacy", "t5x")
    assert legacy.step == orbax.step == 30
    assert set(legacy.arrays) == set(orbax.arrays)
    for name, array in legacy.arrays.items():
        other = orbax.arrays[name]
        assert (array.shape, array.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(array.read(()), other.read(()), err_msg=name)
    with store.ocp.PyTreeCheckpointer() as checkpointer:  # as Orbax itself reads it
        theirs = flat(checkpointer.restore(t5x.checkpoint("orbax") / "state"))
    assert theirs.pop("state/step") == 30
    assert set(theirs) == set(orbax.arrays)
    for name, array in theirs.items():
        np.testing.assert_array_equal(orbax.arrays[name].read(()), array, err_msg=name)
    for name, array in t5x.flat_params.items():
        np.testing.assert_array_equal(orbax.arrays[f"target/{name}"].read(()), array)


@pytest.mark.parametrize("form", ["t5x", "t5x-legacy"])
@pytest.mark.parametrize("address", ["", "file://"])
def test_training_takes_up_every_form_with_its_moments(forms, truth, state, form, address):
    restored = store.restore(locations.locate(f"{address}{forms[form]}"), like())
    found = flat(restored)
    assert set(found) == set(truth)
    for name, array in found.items():
        np.testing.assert_array_equal(array, truth[name], err_msg=name)
        assert array.dtype == truth[name].dtype
    asked = flatten_dict(like(), sep="/")
    for name, array in flatten_dict(restored, sep="/").items():
        assert array.sharding == asked[name].sharding
    opt_state = store.optimizer_state(restored, np.int32(1_000_007))
    for mine, original in zip(jax.tree.leaves(opt_state), jax.tree.leaves(state[1]), strict=True):
        np.testing.assert_array_equal(mine, original)


@pytest.mark.parametrize("asked", [like, parameters_like])
def test_of_hugging_face_s_form_there_are_parameters_and_step_0(forms, truth, asked):
    found = flat(store.restore(locations.locate(forms["hf"]), asked()))
    assert found.pop("state/step") == 0
    assert set(found) == {name for name in truth if name.startswith("target/")}
    for name, array in found.items():
        np.testing.assert_array_equal(array, truth[name], err_msg=name)


@pytest.mark.parametrize("form", ["t5x", "t5x-legacy", "hf"])
def test_a_vocabulary_of_another_size_is_said_of_both_ends(forms, form):
    larger = dataclasses.replace(TINY, vocab_size=384)
    said = refusal(forms[form], like(larger))
    assert "target/token_embedder/embedding is (256, 128), the model has (384, 128)" in said
    assert "target/decoder/logits_dense/kernel is (128, 256), the model has (128, 384)" in said


def test_weights_that_are_not_finite_are_named(tmp_path, state):
    params = jax.tree.map(jnp.array, state[0])
    for value, stack in ((jnp.nan, "encoder"), (-jnp.inf, "decoder")):
        norm = params[stack][f"{stack}_norm"]
        norm["scale"] = norm["scale"].at[5].set(value)
    path = store.save(tmp_path, store.to_tree(params, state[1], 5), {})
    said = refusal(path, like())
    assert "checkpoint_5 has NaN or infinite weights in target/" in said
    for stack in ("encoder", "decoder"):
        assert f"target/{stack}/{stack}_norm/scale" in said


@pytest.mark.parametrize("how", [{"use_ocdbt": False}, {"use_zarr3": True}])
def test_other_layouts_that_orbax_knows_are_read(tmp_path, state, how):
    tree = store.to_tree(*state, 6)
    handler = store.ocp.PyTreeCheckpointHandler(**how)
    with store.ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_6" / "state", tree)
    found = flat(store.restore(locations.locate(tmp_path), like()))
    assert set(found) == set(flat(tree))
    for name, array in flat(tree).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_orbax_s_list_of_arrays_is_written_as_orbax_does(tmp_path, forms, truth):
    arrays = {tuple(name.split("/")): array for name, array in truth.items()}
    with store.ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", unflatten_dict(arrays))
    ours, theirs = (
        json.loads((folder / "state" / "_METADATA").read_text())
        for folder in (forms["t5x"], tmp_path)
    )
    assert ours == theirs


@pytest.mark.slow
def test_training_from_any_form_is_the_same_training(command, tmp_path, tiny_world):
    """Hugging Face's has no moments and T5X's has those of step 0: both begin at 0."""
    sizes = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 48}
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    config = model.Config(vocab_size=512, **sizes, **layers)
    params = model.initialise(config, seed=3)
    tree = store.to_tree(params, optimizer.init(params), 0)
    fresh = store.save(tmp_path, tree, {})
    ends = {}
    for form in ("hf", "t5x-legacy"):
        origin = convert.convert(str(fresh), str(tmp_path / form), form)
        folder = tmp_path / f"from {form}"
        macros = {"MODEL_DIR": str(folder), "TRAIN_STEPS": 3, "TARGETS": ()}
        assert cli.main(command("train", **macros, INITIAL_CHECKPOINT_PATH=str(origin))) == 0
        ends[form] = store.read(folder / "checkpoint_3")
    names = ends["hf"].arrays
    assert set(names) == set(ends["t5x-legacy"].arrays)
    for name in names:
        hf, t5x = (end.arrays[name].read(()) for end in ends.values())
        np.testing.assert_array_equal(hf, t5x, err_msg=name)
    embedding = ends["hf"].arrays["target/token_embedder/embedding"].read(())
    assert (embedding != params["token_embedder"]["embedding"]).any()
