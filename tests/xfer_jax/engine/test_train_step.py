"""Micro-batches: their gradients add up to those of the whole batch, on every mesh."""

import os
import subprocess
import sys

import numpy as np
import pytest

STEPS = 4
# Meshes of 8 CPU devices, (data, model), and numbers of micro-batches; each in a file of its own.
SCRIPT = """
import sys
from pathlib import Path
import jax, numpy as np
from jax.sharding import Mesh
from xfer_jax.checkpoints import store
from xfer_jax.engine import train_step
from xfer_jax.mt5 import model, partitioning

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
config = model.Config(
    vocab_size=512, emb_dim=128, num_heads=8, head_dim=16, mlp_dim=256, num_encoder_layers=1,
    num_decoder_layers=1, dropout_rate=0.0, dtype="float32",
)
start = jax.device_get(jax.jit(lambda: model.initialise(config, 0))())
rng = np.random.default_rng(0)
rows = 32
inputs, targets = rng.integers(1, 512, (rows, 12)), rng.integers(1, 512, (rows, 6))
inputs[:, 9:], targets[::3, 4:], inputs[5], targets[5] = 0, 0, 0, 0
batch = jax.tree.map(np.int32, {
    "encoder_input_tokens": inputs,
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    "decoder_target_tokens": targets,
})

def run(mesh, parts, places):
    settings = train_step.Update(1e-4, train_step.PER_TARGET_TOKEN, parts)
    features = dict(batch)
    if places:  # the loss takes the targets' places alone: of each part of each share its own
        own = batch["decoder_target_tokens"].reshape(mesh.shape["data"] * parts, -1)
        positions = np.full((len(own), own.shape[1] + 3), -1, np.int32)
        for row, tokens in zip(positions, own):
            row[: np.count_nonzero(tokens)] = np.flatnonzero(tokens)
        features["target_positions"] = positions
    layout = train_step.layout(config, mesh)["target"]
    params = jax.device_put(start, partitioning.shardings(layout))
    state = train_step.programs(config, mesh).fresh(params)
    update = train_step.compiled(config, mesh, settings)
    for _ in range(steps):
        on_mesh = partitioning.place(mesh, features)
        params, state, sums = update(params, state, on_mesh, np.uint32(0), np.float32(0.01))
    flat = jax.device_get(store.flatten_dict(params, sep="/"))
    of_loss = {f"loss/{name}": np.asarray(value) for name, value in sums.items()}
    name = f"{mesh.shape['data']}x{mesh.shape['model']}-{parts}-{places}.npz"
    np.savez(folder / name, **flat, **of_loss)

one = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
for parts in (1, 2, 4, 8):
    run(one, parts, False)
for model_parts, parts in ((2, 2), (2, 8), (1, 4)):
    run(partitioning.make_mesh(model_parts), parts, True)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Parameters and sums of the loss after some steps, by mesh, micro-batches and places."""
    folder = tmp_path_factory.mktemp("microbatches")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(STEPS)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return {file.stem: dict(np.load(file)) for file in sorted(folder.glob("*.npz"))}


@pytest.mark.parametrize(
    "name",
    ["1x1-2-False", "1x1-4-False", "1x1-8-False", "4x2-2-True", "4x2-8-True", "8x1-4-True"],
)
def test_micro_batches_add_up_to_the_whole_batch(trained, name):
    expected = trained["1x1-1-False"]
    found = trained[name]
    assert set(found) == set(expected)
    for part, whole in expected.items():
        difference = np.linalg.norm((found[part] - whole).astype(np.float64))
        assert difference <= 1e-6 * np.linalg.norm(whole), part
