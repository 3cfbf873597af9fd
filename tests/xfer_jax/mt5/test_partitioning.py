"""The same loss, training and checkpoints on every mesh of eight devices, and on two processes."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from seqio_tasks.errors import RequestError
from tests.support.command_line import free_port
from xfer_jax.checkpoints import store
from xfer_jax.mt5 import partitioning

pytestmark = pytest.mark.slow

STEPS = 20
LOSS_TOLERANCE, PARAMETER_TOLERANCE = (
    1e-5,
    1e-4,
)  # relative; what float32 sums in another order give

# Device counts are fixed when JAX starts, so that eight devices need a process of their own.
MESHES = """
import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from xfer_jax.checkpoints import store
from xfer_jax.engine import train_step
from xfer_jax.mt5 import model, partitioning

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
config = model.Config(
    vocab_size=512, emb_dim=128, num_heads=8, head_dim=16, mlp_dim=256, num_encoder_layers=1,
    num_decoder_layers=1, dropout_rate=0.1, dtype="float32",
)
start = jax.device_get(jax.jit(lambda: model.initialise(config, 0))())
rng = np.random.default_rng(0)
inputs, targets = rng.integers(1, 512, (8, 12)), rng.integers(1, 512, (8, 6))
inputs[:, 9:], targets[:4, 4:] = 0, 0
batch = jax.tree.map(np.int32, {
    "encoder_input_tokens": inputs,
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    "decoder_target_tokens": targets,
})


def run(mesh):
    programs = train_step.programs(config, mesh)
    settings = train_step.Update(1e-4, train_step.PER_TARGET_TOKEN)
    compiled = train_step.compiled(config, mesh, settings)
    of_shares = batch["decoder_target_tokens"].reshape(mesh.shape["data"], -1)
    positions = np.full((len(of_shares), of_shares.shape[1] + 3), -1, np.int32)
    for row, tokens in zip(positions, of_shares):
        row[: np.count_nonzero(tokens)] = np.flatnonzero(tokens)
    layout = train_step.layout(config, mesh)["target"]
    params = jax.device_put(start, partitioning.shardings(layout))
    state = programs.fresh(params)
    losses = []
    features = batch | {"target_positions": positions}
    on_mesh = partitioning.place(mesh, features)
    update = compiled.lower(params, state, on_mesh, np.uint32(0), np.float32(0.01)).compile()
    # A vocabulary that is cut stays cut: nobody gathers the table, the kernel or their gradients.
    lines = update.as_text().splitlines()
    gathered = [line.split(" all-gather")[0] for line in lines if " all-gather" in line]
    whole = ("f32[512,128]", "f32[128,512]") if mesh.shape["model"] > 1 else ()
    assert not [line for line in gathered for shape in whole if shape in line], gathered
    for step in range(steps):
        on_mesh = partitioning.place(mesh, features)
        params, state, sums = update(params, state, on_mesh, np.uint32(0), np.float32(0.01))
        losses.append(float(sums["loss"] / sums["weight"]))
    # Kernel [E, V] and its moments are cut as the vocabulary is.
    tree, cut = store.to_tree(params, state, steps), 512 // mesh.shape["model"]
    slots = tree["state"]["param_states"]["decoder"]["logits_dense"]["kernel"]
    kernel = params["decoder"]["logits_dense"]["kernel"]
    pieces = [x.addressable_shards[0].data.shape for x in (kernel, slots["v_row"], slots["v_col"])]
    assert pieces == [(128, cut), (128,), (cut,)], pieces
    assert all(len(x.sharding.device_set) == mesh.size for x in jax.tree.leaves((params, state)))
    return losses, tree


assert jax.device_count() == 8
meshes = {"1x1": Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "model"))}
for parts in (1, 4, 8):
    meshes[f"{8 // parts}x{parts}"] = partitioning.make_mesh(parts)
losses, trees = {}, {}
for name, mesh in meshes.items():
    losses[name], trees[name] = run(mesh)
    flat = jax.device_get(store.flatten_dict(trees[name]["target"], sep="/"))
    np.savez(folder / f"{name}.npz", **flat)
(folder / "losses.json").write_text(json.dumps(losses))

saved = store.save(folder, trees["2x4"], {})
for name, mesh in meshes.items():
    like = train_step.layout(config, mesh)
    restored = store.restore(saved, like)
    same = jax.tree.map(np.array_equal, jax.device_get(restored), jax.device_get(trees["2x4"]))
    assert all(jax.tree.leaves(same)), name
    laid_out = jax.tree.map(lambda x, y: x.sharding == y.sharding, restored, like)
    assert all(jax.tree.leaves(laid_out)), name
print("all equal")
"""


def environment(devices: int) -> dict[str, str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def largest_difference(found: dict, expected: dict) -> float:
    """Returns the largest difference of two arrays of the same name, relative to their norm."""
    assert set(found) == set(expected)
    return max(
        np.linalg.norm((found[name] - array).astype(np.float64)) / np.linalg.norm(array)
        for name, array in expected.items()
    )


def test_meshes_of_eight_devices_compute_and_save_what_one_device_does(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", MESHES, str(tmp_path), str(STEPS)],
        env=environment(devices=8),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("all equal\n")
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert losses["1x1"][-1] < losses["1x1"][0] - 0.5  # it has learnt something
    single = dict(np.load(tmp_path / "1x1.npz"))
    for mesh in ("8x1", "2x4", "1x8"):
        assert losses[mesh][0] == pytest.approx(losses["1x1"][0], rel=LOSS_TOLERANCE), mesh
        trained = dict(np.load(tmp_path / f"{mesh}.npz"))
        assert largest_difference(trained, single) < PARAMETER_TOLERANCE, mesh


@pytest.fixture(scope="module")
def runs(command, tmp_path_factory):
    """Folders and outputs of a run by one process of one device, and by two of two devices."""
    folders = {name: tmp_path_factory.mktemp(name) / "run" for name in ("one", "two")}
    macros = {
        "TRAIN_STEPS": STEPS,
        "BATCH_SIZE": 8,
        "LOG_PERIOD": 1,
        "LEARNING_RATE": 0.01,
        "SAVE_PERIOD": 10,
        "NUM_HEADS": 4,
    }

    def start(name: str, devices: int, *flags: str, **more) -> subprocess.Popen:
        arguments = command("train", MODEL_DIR=str(folders[name]), **macros, **more)
        return subprocess.Popen(
            [sys.executable, "-m", "xfer_jax.cli", *arguments, *flags],
            env=environment(devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    joined = [f"--coordinator_address=localhost:{free_port()}", "--process_count=2"]
    outputs = {}
    alone = start("one", 1)
    outputs["one"], errors = alone.communicate(timeout=300)  # it leaves its tokens to the others
    assert alone.returncode == 0, errors
    processes = {
        "first": start("two", 2, *joined, "--process_index=0", NUM_PARTITIONS=2),
        "second": start("two", 2, *joined, "--process_index=1", NUM_PARTITIONS=2),
    }
    try:
        for name, process in processes.items():
            outputs[name], errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in processes.values():
            process.kill()
    return folders, outputs


def test_two_processes_train_as_one(runs):
    folders, _ = runs
    arrays = {
        name: {
            parameter: array.read(())
            for parameter, array in store.read(folder / f"checkpoint_{STEPS}").arrays.items()
            if parameter.startswith("target/")
        }
        for name, folder in folders.items()
    }
    assert largest_difference(arrays["two"], arrays["one"]) < PARAMETER_TOLERANCE


def test_two_processes_log_the_same_loss(runs, events):
    folders, _ = runs
    one, two = (
        [(step, value) for tag, step, value in events(folders[name] / "train") if tag == "loss"]
        for name in ("one", "two")
    )
    assert [step for step, _ in two] == list(range(1, STEPS + 1))
    assert two[0][1] == pytest.approx(one[0][1], rel=LOSS_TOLERANCE)
    assert dict(two) == pytest.approx(dict(one), rel=PARAMETER_TOLERANCE)


def test_two_processes_predict_and_score_as_one(runs):
    folders, _ = runs
    files = [f"inference_eval/xfer_pocket_nli.{code}-0000{STEPS}.jsonl" for code in ("en", "sw")]
    for file in [*files, "scores.csv"]:
        assert (folders["two"] / file).read_text() == (folders["one"] / file).read_text()


def test_of_two_processes_one_writes_and_speaks(runs):
    folders, outputs = runs
    assert "steps 0 to 20" in outputs["first"]
    # XLA's own lines, which its threads tear: two may share a line, or one be cut in two.
    lines = filter(None, outputs["second"].splitlines())
    own = [line for line in lines if not line.startswith("[Gloo]") and "peer ranks" not in line]
    assert own == []
    assert len(list((folders["two"] / "train").glob("events*"))) == 1
    found, expected = (
        {path.relative_to(folder).parts[:2] for path in folder.rglob("*") if path.is_dir()}
        for folder in (folders["two"], folders["one"])
    )
    assert found == expected


# Three devices a process, two to a model: both processes feed the rows of the middle pair.
OVERLAP = """
import sys

import jax
import numpy as np

from xfer_jax.mt5 import partitioning

partitioning.join(sys.argv[1], 2, int(sys.argv[2]))
mesh = partitioning.make_mesh(2)
here = partitioning.local_rows(mesh, 3)
assert (here.start, here.stop) == ((0, 2), (1, 3))[jax.process_index()]
whole = {"rows": np.arange(24).reshape(6, 4), "shares": np.arange(6).reshape(3, 2)}
mine = {
    "rows": whole["rows"][partitioning.local_rows(mesh, 6)],
    "shares": whole["shares"][here],
}
assert [len(x) for x in mine.values()] == [4, 2]
for name, array in partitioning.place(mesh, mine).items():
    np.testing.assert_array_equal(partitioning.fetch(array), whole[name])
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(shard.data, whole[name][shard.index])
print("all there")
"""


def test_two_processes_feed_rows_that_both_of_them_hold():
    coordinator = f"localhost:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OVERLAP, coordinator, str(index)],
            env=environment(devices=3),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            assert "all there" in output
    finally:
        for process in processes:
            process.kill()


def test_a_process_that_cannot_join_says_so_in_one_line(command):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "xfer_jax.cli",
            *command("train", MODEL_DIR="x"),
            "--multiprocess",
        ],
        env=environment(1),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("xfer-jax: the processes cannot connect (")
    assert result.stderr.count("\n") == 1
    assert "--process_index=I" in result.stderr


def test_partitions_that_do_not_divide_the_devices_are_refused():
    for wrong in (1000, 0, -1):
        with pytest.raises(RequestError, match=f"NUM_PARTITIONS {wrong} does not divide the"):
            partitioning.make_mesh(wrong)


def test_an_axis_that_the_mesh_does_not_divide_is_not_cut():
    mesh = jax.sharding.AbstractMesh((2, 4), ("data", "model"))
    cut = partitioning.sharding(mesh, ("vocab", "embed"), (16, 5))
    assert cut.spec == PartitionSpec("model", None)
    whole = partitioning.sharding(mesh, ("heads", "relpos_buckets"), (6, 32))
    assert whole.spec == PartitionSpec(None, None)  # six heads are not cut into four


@pytest.mark.parametrize("shape", [(128, 256), (256, 128), (128, 128)])
def test_factored_moments_are_cut_as_the_side_that_they_keep(shape):
    """Optax itself says which side that is: the gradient varies along one side only."""
    import optax

    axes = ("vocab", "embed")
    tx = optax.scale_by_factored_rms(factored=True, min_dim_size_to_factor=128)
    for side in (0, 1):
        steps = np.arange(1, shape[side] + 1, dtype=np.float32)
        gradient = np.broadcast_to(np.expand_dims(steps, 1 - side), shape)
        _, state = tx.update({"w": gradient}, tx.init({"w": gradient}), {"w": gradient})
        for slot in ("v_row", "v_col"):
            values = np.asarray(getattr(state, slot)["w"])
            named = partitioning.slot_axes(axes, shape, slot, values.shape)
            varies = float(values.max()) > 1.001 * float(values.min())
            assert (named == (axes[side],)) == varies


def test_slots_without_factors_follow_their_parameter():
    assert partitioning.slot_axes(("embed",), (8,), "v", (8,)) == ("embed",)
    assert partitioning.slot_axes(("embed", "mlp"), (8, 4), "v", (8, 4)) == ("embed", "mlp")
    assert partitioning.slot_axes(("embed", "mlp"), (128, 128), "v", (1,)) == (None,)
