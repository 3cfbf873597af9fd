"""Checkpoints: bit-exact there and back, whole or not there, T5X's own, and what does not fit."""

import dataclasses
import hashlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import checksums, convert, locations, run_file, store
from xfer_jax.cli import main as cli
from xfer_jax.engine import evaluation, train_step
from xfer_jax.mt5 import model, optimizer, partitioning

# Orbax leaves coroutines behind when it cannot read an array.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# One side of some matrices is 128, so that both kinds of moments, factored and whole, occur.
TINY = model.Config(
    vocab_size=128,
    emb_dim=128,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dtype="float32",
)


def flat(tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in flatten_dict(tree, sep="/").items()}


@pytest.fixture(scope="module")
def state():
    """A run's state in which every array is different."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype), model.parameter_shapes(TINY)
    )
    moments = jax.tree.map(
        lambda x: jnp.asarray(rng.random(x.shape), x.dtype) if x.ndim else x, optimizer.init(params)
    )
    return params, moments._replace(count=jnp.asarray(1_000_007, jnp.int32))


def like(config=TINY):
    """What training asks of a checkpoint."""
    return train_step.layout(config, partitioning.make_mesh())


def parameters_like(config=TINY):
    """What evaluation asks of a checkpoint."""
    asked = like(config)
    return {"target": asked["target"], "state": {"step": asked["state"]["step"]}}


@pytest.fixture
def saved(tmp_path, state):
    tree = store.to_tree(*state, 1_000_007)
    return store.save(tmp_path / "run", tree, {"first_step": 1_000_000, "task": "x"}), tree


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
    other = dataclasses.replace(TINY, mlp_dim=24, num_encoder_layers=2)
    with pytest.raises(RequestError, match="does not fit the model") as error:
        store.restore(path, parameters_like(other))
    said = str(error.value)
    assert str(path) in said
    shape = "target/encoder/layers_0/mlp/wi_0/kernel is (128, 16), the model has (128, 24)"
    assert shape in said
    assert "more" in said  # of a second layer's nine parameters and the MLPs, eight are shown

    larger = dataclasses.replace(TINY, num_encoder_layers=2)
    with pytest.raises(
        RequestError, match="target/encoder/layers_1/attention/key/kernel is missing"
    ):
        store.restore(path, parameters_like(larger))


def test_arrays_that_the_model_lacks_are_named(tmp_path):
    larger = dataclasses.replace(TINY, num_decoder_layers=2)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), model.parameter_shapes(larger))
    tree = store.to_tree(params, optimizer.init(params), 3)
    path = store.save(tmp_path, tree, {})
    for asked in (like(), parameters_like()):
        with pytest.raises(RequestError, match=r"decoder/layers_1/.* is not in the model"):
            store.restore(path, asked)


def refusal(path, asked) -> str:
    """Returns what is said of a checkpoint that cannot be restored."""
    try:
        store.restore(path, asked)
    except RequestError as error:
        return str(error)
    except Exception as error:  # Orbax's own have reports that pytest cannot print
        kind = type(error).__name__
    else:
        kind = "nothing"
    return pytest.fail(f"raised {kind}, not a RequestError", pytrace=False)


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RequestError, match=f"{path} is not a checkpoint: name"):
            locations.locate(path)
    (tmp_path / "checkpoint_5" / "state").mkdir(parents=True)
    (tmp_path / "checkpoint_5" / "state" / "note.txt").write_text("not Orbax")
    said = refusal(locations.locate(tmp_path), like())
    assert "checkpoint_5 is damaged, or not a checkpoint" in said


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


def test_the_latest_checkpoint_is_the_one_of_the_highest_step(saved, state):
    path, _ = saved
    folder = path.parent
    store.save(folder, store.to_tree(*state, 999_999), {})
    assert locations.steps(folder) == [999_999, 1_000_007]
    assert locations.locate(folder) == path
    assert locations.locate(folder / "checkpoint_999999").name == "checkpoint_999999"


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


def test_the_hashes_are_those_that_sha256sum_computes(saved):
    path, _ = saved
    lines = (path / "SHA256SUMS").read_text().splitlines()
    found = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "SHA256SUMS"]
    assert path / "run.json" in files
    assert found == {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }
    assert checksums.damage(path) is None


def test_damage_is_seen_wherever_it_is(saved):
    path, _ = saved
    for file in sorted((path / "state").rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            name = file.relative_to(path)
            assert checksums.damage(path) == f"{name} is not as it was written"
            file.unlink()
            assert checksums.damage(path) == f"{name} is missing"
            file.write_bytes(content)
    assert checksums.damage(path) is None


def all_files(folder) -> list:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(file, rng) -> None:
    """Changes one bit of a file, where chance has it."""
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    file.write_bytes(content)


@pytest.mark.parametrize("form", ["native", "t5x", "t5x-legacy", "hf"])
def test_a_flipped_bit_is_refused_wherever_it_is(forms, form):
    """As many in small files as in large ones, in SHA256SUMS and run.json too."""
    path, rng, asked = forms[1][form], np.random.default_rng(17), parameters_like()
    for _ in range(40 if form == "native" else 10):
        file = rng.choice(all_files(path))
        content = file.read_bytes()
        flip(file, rng)
        said = refusal(path, asked)
        assert said.startswith(f"{path} is damaged: ")
        if file.name != "SHA256SUMS":  # of which the bit may be in the name or hash of another
            assert f"damaged: {file.relative_to(path)} is not as it was written; copy" in said
        file.write_bytes(content)
    assert store.restore(path, asked)


def test_any_change_of_the_hashes_themselves_is_seen(saved):
    path, _ = saved
    sums, rng = path / "SHA256SUMS", np.random.default_rng(3)
    content = sums.read_bytes()
    for _ in range(40):
        flip(sums, rng)
        assert checksums.damage(path)
        sums.write_bytes(content)
    lines = content.splitlines(keepends=True)
    for wrong in (b"", content[:-1], content + b"\n", b"".join(lines[:-1]), content + lines[0]):
        sums.write_bytes(wrong)
        assert checksums.damage(path)
    sums.write_bytes(content + b"0" * 64 + b"  ../../etc/passwd\n")
    assert checksums.damage(path) == "SHA256SUMS is not as it was written"
    sums.unlink()
    sums.mkdir()
    assert checksums.damage(path) == "SHA256SUMS is not a file"


def test_a_file_of_arrays_without_a_hash_is_refused_and_a_note_is_not(saved):
    path, _ = saved
    for name in ("notes.txt", "state/.nfs0001"):
        (path / name).write_text("mine")
    assert checksums.damage(path) is None
    (path / "state" / "d" / "more").write_text("?")
    assert checksums.damage(path) == "state/d/more has no hash in SHA256SUMS"


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
    path = forms[1]["t5x"]
    kernel = max(all_files(path), key=lambda file: file.stat().st_size)
    content = kernel.read_bytes()
    flip(kernel, np.random.default_rng(0))
    assert f"damaged: {kernel.relative_to(path)} is not" in refusal(f"file://{path}", like())
    kernel.unlink()
    assert f"{kernel.relative_to(path)} is missing" in refusal(f"file://{path}", like())
    kernel.write_bytes(content)


ONE_OF_TWO = """
import sys
import jax
from seqio_tasks.errors import RequestError
from tests.xfer_jax.checkpoints import test_store
from xfer_jax.checkpoints import locations, store
from xfer_jax.mt5 import partitioning
partitioning.join(sys.argv[1], 2, int(sys.argv[2]))
whole, damaged = sys.argv[3:]
mine = whole if partitioning.is_first() else damaged
try:
    store.restore(mine, test_store.parameters_like())
except RequestError as error:
    print("refused", error)
found, complaints = locations.latest(whole.rpartition("/")[0])
print("found", found)
try:
    locations.latest(damaged.rpartition("/")[0])
except RequestError as error:
    print("refused too", error)
"""


def test_if_one_of_two_processes_reads_damage_both_say_so(saved, tmp_path):
    path, _ = saved
    damaged = shutil.copytree(path, tmp_path / "damaged" / path.name)
    (damaged / "state" / "_METADATA").write_text("{}")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
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


def test_the_latest_whole_checkpoint_is_found_past_damaged_ones(saved, state):
    path, _ = saved
    folder = path.parent
    for step in (5, 7):
        store.save(folder, store.to_tree(*state, step), {})
    assert locations.latest(folder) == (path, [])
    (path / "state" / "_METADATA").write_text("{}")
    found, complaints = locations.latest(folder)
    assert found == folder / "checkpoint_7"
    assert complaints == [f"{path} is damaged: state/_METADATA is not as it was written"]
    for step in (5, 7):
        (folder / f"checkpoint_{step}" / "state" / "_METADATA").unlink()
    with pytest.raises(RequestError, match=r"checkpoint_7 is damaged.*checkpoint_5.*remove"):
        locations.latest(folder)
    assert locations.latest(folder / "nothing") == (None, [])


def make_file(path) -> None:
    path.write_text("no folder")


def make_link(path) -> None:
    path.symlink_to("/nowhere/at/all")


def make_notes(path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("no arrays")


NO_CHECKPOINTS = {
    "empty folder": lambda path: path.mkdir(),
    "file": make_file,
    "dangling link": make_link,
    "folder of notes": make_notes,
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_passed_over(saved, state, capsys, kind):
    path, _ = saved
    odd = path.with_name("checkpoint_2000000")
    NO_CHECKPOINTS[kind](odd)
    assert locations.steps(path.parent) == [1_000_007]
    complaint = f"{odd} is not a checkpoint and is skipped"
    assert locations.latest(path.parent) == (path, [complaint])
    assert locations.locate(path.parent) == path
    assert capsys.readouterr().out == f"warning: {complaint}\n"
    # Nor does it stand in the way of the checkpoint of that step.
    made = store.save(path.parent, store.to_tree(*state, 2_000_000), {})
    assert locations.latest(path.parent) == (made, [])
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, odd.name]
    assert not odd.is_symlink()


def test_alone_what_is_no_checkpoint_does_not_stop_a_run_from_beginning(tmp_path):
    (tmp_path / "checkpoint_99").mkdir()
    found, complaints = locations.latest(tmp_path)
    assert found is None
    assert complaints == [f"{tmp_path}/checkpoint_99 is not a checkpoint and is skipped"]


def test_what_is_left_of_a_checkpoint_is_damage_and_no_reason_to_begin_anew(saved):
    path, _ = saved
    shutil.rmtree(path / "state")
    with pytest.raises(RequestError, match=r"1000007 is damaged: state/.* is missing; remove"):
        locations.latest(path.parent)
    (path / "SHA256SUMS").unlink()
    with pytest.raises(RequestError, match=r"1000007 is damaged: it has no arrays; remove"):
        locations.latest(path.parent)


def test_results_are_of_the_newest_checkpoint_or_refused(saved, state):
    """A run goes on from an older one, and trains again what was lost; results would be of it."""
    path, _ = saved
    store.save(path.parent, store.to_tree(*state, 5), {})
    (path / "state" / "_METADATA").write_text("{}")
    assert locations.latest(path.parent)[0].name == "checkpoint_5"
    assert locations.locate(path.parent) == path
    assert f"{path} is damaged: state/_METADATA is not" in refusal(path, like())


def test_a_run_is_found_by_another_path_to_it(saved, tmp_path, monkeypatch):
    path, _ = saved
    (tmp_path / "link").symlink_to(path.parent)
    monkeypatch.chdir(path.parent)
    for name in ("../run", ".", str(path.parent) + "/", "../link/../run", "../link"):
        assert locations.locate(name).samefile(path)
        assert locations.latest(name)[0].samefile(path)


@pytest.mark.parametrize("count", [0, 1])
def test_a_checkpoint_that_is_half_removed_is_none(saved, state, monkeypatch, count):
    path, _ = saved
    store.save(path.parent, store.to_tree(*state, 999_999), {})

    def killed(folder, **_):
        next(file for file in Path(folder).rglob("*") if file.is_file()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    before = locations.steps(path.parent)
    with pytest.raises(KeyboardInterrupt):
        locations.keep(path.parent, count)
    assert locations.steps(path.parent) == before[1:]
    monkeypatch.undo()
    locations.tidy(path.parent)
    assert not list(path.parent.glob(".*"))
    locations.keep(path.parent, count)
    assert len(locations.steps(path.parent)) == count


def test_a_checkpoint_that_was_being_replaced_is_given_back(saved):
    path, _ = saved
    path.rename(path.with_name(f".{path.name}.old"))  # killed before the new one had the name
    path.with_name(f".{path.name}.new").mkdir()
    locations.tidy(path.parent)
    assert [folder.name for folder in path.parent.iterdir()] == [path.name]


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


def test_other_names_are_not_taken_for_checkpoints(tmp_path):
    for name in (
        ".checkpoint_6.4711",
        "checkpoint_6.orbax-checkpoint-tmp-12",
        "checkpoint_six",
        "checkpoint_",
        "old_checkpoint_6",
        "checkpoint_007",
        "checkpoint_-1",
        "checkpoint_1e5",
        "checkpoint_\u0663",  # a digit in Arabic script
        "checkpoint_99999999999999999999",
        "checkpoint_2147483648",
        "checkpoint_6\n",
    ):
        (tmp_path / name / "state").mkdir(parents=True)
    assert locations.steps(tmp_path) == []
    assert locations.latest(tmp_path) == (None, [])


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


@pytest.fixture(scope="module")
def forms(tmp_path_factory, state):
    """One state in every form."""
    folder = tmp_path_factory.mktemp("forms")
    tree = store.to_tree(*state, 1_000_007)
    native = store.save(folder / "native", tree, {})
    others = ("t5x", "t5x-legacy", "hf")
    made = {form: convert.convert(str(native), str(folder / form), form) for form in others}
    return flat(tree), made | {"native": native}


@pytest.mark.parametrize("form", ["t5x", "t5x-legacy"])
@pytest.mark.parametrize("address", ["", "file://"])
def test_training_takes_up_every_form_with_its_moments(forms, state, form, address):
    expected, folders = forms
    restored = store.restore(locations.locate(f"{address}{folders[form]}"), like())
    found = flat(restored)
    assert set(found) == set(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.dtype == expected[name].dtype
    asked = flatten_dict(like(), sep="/")
    for name, array in flatten_dict(restored, sep="/").items():
        assert array.sharding == asked[name].sharding
    opt_state = store.optimizer_state(restored, np.int32(1_000_007))
    for mine, original in zip(jax.tree.leaves(opt_state), jax.tree.leaves(state[1]), strict=True):
        np.testing.assert_array_equal(mine, original)


@pytest.mark.parametrize("asked", [like, parameters_like])
def test_of_hugging_face_s_form_there_are_parameters_and_step_0(forms, asked):
    expected, folders = forms
    found = flat(store.restore(locations.locate(folders["hf"]), asked()))
    assert found.pop("state/step") == 0
    assert set(found) == {name for name in expected if name.startswith("target/")}
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("form", ["t5x", "t5x-legacy", "hf"])
def test_a_vocabulary_of_another_size_is_said_of_both_ends(forms, form):
    larger = dataclasses.replace(TINY, vocab_size=256)
    said = refusal(forms[1][form], like(larger))
    assert "target/token_embedder/embedding is (128, 128), the model has (256, 128)" in said
    assert "target/decoder/logits_dense/kernel is (128, 128), the model has (128, 256)" in said


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


BAD_RUNS = (
    "{", "[1]", "null", "", "7", "[" * 100_000, "9" * 5000, '{"first_step": 1.5}',
    '{"first_step": -1}', '{"first_step": 99999999999}', '{"first_step": null}',
    '{"first_step": true}', '{"vocabulary": "abc"}', '{"vocabulary": 3}',
    '{"source": "en\\nsw,en"}', '{"source": ["en"]}', '{"seed": 1e999}', '{"n_shots": -3}',
    '{"data": [[[1]]]}', '{"else": {"a": {"b": {"c": 1}}}}', '{"task": "\\u0000"}',
)  # fmt: skip


@pytest.mark.parametrize("content", BAD_RUNS, ids=lambda text: text[:24])
def test_what_a_run_knows_must_be_readable(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RequestError, match=r"^\S*/run\.json is damaged: [^\n]{1,300}$"):
        run_file.about(tmp_path)


def test_what_a_run_knows_must_be_what_was_written(saved):
    path, _ = saved
    (path / "run.json").write_text('{"first_step": 1000001}')
    with pytest.raises(RequestError, match=r"1000007 is damaged: run\.json is not as it was"):
        run_file.about(path)


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


def test_orbax_s_list_of_arrays_is_written_as_orbax_does(tmp_path, forms):
    expected, folders = forms
    arrays = {tuple(name.split("/")): array for name, array in expected.items()}
    with store.ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", unflatten_dict(arrays))
    ours, theirs = (
        json.loads((folder / "state" / "_METADATA").read_text())
        for folder in (folders["t5x"], tmp_path)
    )
    assert ours == theirs


@pytest.mark.parametrize("source", ["en", None])
def test_results_say_what_is_known_of_the_training(tmp_path, source):
    tasks = [catalogue.task(f"xfer_pocket_nli.{language}") for language in ("en", "sw")]
    scores = [evaluation.TargetScore(task, "test", {}, 50.0, 25.0, 4, 0) for task in tasks]
    title, _, *rows = evaluation.table(scores, source).splitlines()
    if source:
        assert title.endswith("accuracy in percent, trained on en")
        assert [row.split("  ")[-1] for row in rows[:2]] == ["source language", "zero-shot"]
    else:
        assert title.endswith("by a checkpoint that does not say what it was trained on")
        assert [row.split()[-1] for row in rows[:2]] == ["4", "4"]  # neither is known to be so
    evaluation.write_scores(tmp_path, scores, {"source": source} if source else {})
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == [source or ""] * 2


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


def test_the_latest_checkpoints_alone_are_kept(tmp_path):
    for step in (5, 40, 100):
        (tmp_path / f"checkpoint_{step}" / "state").mkdir(parents=True)
    locations.keep(tmp_path, None)
    assert locations.steps(tmp_path) == [5, 40, 100]
    locations.keep(tmp_path, 2)
    assert locations.steps(tmp_path) == [40, 100]
    locations.keep(tmp_path, 5)
    (tmp_path / ".checkpoint_7.gone" / "state").mkdir(parents=True)  # of one killed meanwhile
    locations.tidy(tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint_100", "checkpoint_40"]


def test_a_checkpoint_s_identity_is_of_its_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "x").write_bytes(bytes(3 << 20))
    assert checksums.identity(tmp_path / "a") == checksums.identity(tmp_path / "b")
    for place in (0, 3 << 20):  # the first and the last part are looked at
        with (tmp_path / "b" / "part" / "x").open("r+b") as file:
            file.seek(max(0, place - 1))
            file.write(b"1")
        assert checksums.identity(tmp_path / "a") != checksums.identity(tmp_path / "b")
        (tmp_path / "b" / "part" / "x").write_bytes(bytes(3 << 20))
    (tmp_path / "b" / "SHA256SUMS").write_text("of another")
    assert checksums.identity(tmp_path / "a") != checksums.identity(tmp_path / "b")
