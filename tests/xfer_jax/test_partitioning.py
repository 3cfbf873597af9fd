"""The same loss and update on every mesh of eight devices as on one."""

import os
import subprocess
import sys

import pytest

from seqio_tasks.errors import RequestError
from xfer_jax import partitioning

# Device counts are fixed when JAX starts, so that eight devices need a process of their own.
SCRIPT = """
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from seqio_tasks.errors import RequestError
from xfer_jax import decoding, model, optimizer, partitioning, train
from xfer_jax.model import Transformer

config = model.Config(
    vocab_size=128, emb_dim=128, num_heads=8, head_dim=16, mlp_dim=128, num_encoder_layers=1,
    num_decoder_layers=1, dropout_rate=0.0, dtype="float32",
)
module, tx = Transformer(config), optimizer.adafactor(optimizer.schedule("constant", 0.01))
start = jax.device_get(jax.jit(lambda: model.initialise(config, 0))())
rng = np.random.default_rng(0)
inputs, targets = rng.integers(1, 128, (8, 12)), rng.integers(1, 128, (8, 6))
inputs[:, 9:], targets[:4, 4:] = 0, 0
batch = {
    "encoder_input_tokens": inputs,
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    "decoder_target_tokens": targets,
}
batch = jax.tree.map(np.int32, batch)


def one_update(mesh):
    axes = model.logical_axes(config)
    shardings = partitioning.parameter_shardings(mesh, axes, start)
    params = jax.device_put(start, shardings)
    on_data = jax.device_put(batch, partitioning.batch_sharding(mesh))
    update = jax.jit(functools.partial(train.train_step, module, tx, 1e-4, 1.0))
    seed, step = jnp.asarray(0, jnp.uint32), jnp.asarray(0)
    params, state, sums = update(params, tx.init(params), on_data, seed, step)
    kernel = params["decoder"]["logits_dense"]["kernel"]
    assert len(kernel.sharding.device_set) == mesh.size
    assert kernel.addressable_shards[0].data.shape == (128, 128 // mesh.shape["model"])
    return jax.device_get((params, jax.tree.leaves(state), sums))


def largest_difference(a, b):
    norm = lambda x: float(np.linalg.norm(np.asarray(x, np.float64)))
    differences = jax.tree.map(lambda x, y: norm(x - y) / max(norm(y), 1e-30), a, b)
    return max(jax.tree.leaves(differences))


assert jax.device_count() == 8
single = one_update(Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "model")))
moved = largest_difference(single[0], start)
assert moved > 1e-4, moved
for num_partitions in (1, 2, 4, 8):
    mesh = partitioning.make_mesh(num_partitions)
    assert dict(mesh.shape) == {"data": 8 // num_partitions, "model": num_partitions}
    difference = largest_difference(one_update(mesh), single)
    assert difference < 1e-5, (num_partitions, difference)
    print(f"data {8 // num_partitions} model {num_partitions}: {difference:.1e}")

axes, shapes = {"a": ("vocab", "embed"), "b": ("heads", "relpos_buckets")}, {
    "a": jax.ShapeDtypeStruct((16, 5), jnp.float32),
    "b": jax.ShapeDtypeStruct((6, 32), jnp.float32),
}
cut = partitioning.parameter_shardings(partitioning.make_mesh(4), axes, shapes)
assert tuple(cut["a"].spec) == ("model", None), cut["a"]
assert tuple(cut["b"].spec) == (None, None), "six heads are not cut into four"

for wrong in (3, 16, 0, -1):
    try:
        partitioning.make_mesh(wrong)
    except RequestError as error:
        assert f"NUM_PARTITIONS {wrong} " in str(error) and "8 devices" in str(error)
    else:
        raise AssertionError(f"{wrong} partitions of 8 devices")
print("all equal")
"""


def test_meshes_of_eight_devices_compute_what_one_device_computes():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("all equal\n")


def test_partitions_that_do_not_divide_the_devices_are_refused():
    with pytest.raises(RequestError, match="NUM_PARTITIONS 1000 does not divide the"):
        partitioning.make_mesh(1000)
