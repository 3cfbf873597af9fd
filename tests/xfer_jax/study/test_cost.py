"""Costs against published sizes, XLA's count of operations, and numbers worked out elsewhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqio_tasks.errors import RequestError
from xfer_jax.mt5 import cost, model
from xfer_jax.study import devices

SMALL = model.Config()
BASE = model.Config(
    emb_dim=768, num_heads=12, mlp_dim=2048, num_encoder_layers=12, num_decoder_layers=12
)


@pytest.mark.parametrize(("config", "millions"), [(SMALL, 300), (BASE, 582)])
def test_parameters_are_the_published_number(config, millions):
    assert cost.parameters(config) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize(
    ("inputs", "targets", "tflop"),
    [(128, 8, 0.092), (256, 8, 0.174), (512, 64, 0.449), (1024, 128, 0.965)],
)
def test_an_example_of_mt5_base_costs_what_was_computed_for_it(inputs, targets, tflop):
    flops = cost.training_flops(BASE, inputs, targets)
    assert flops / 1e12 == pytest.approx(tflop, abs=0.0006)


def test_the_forward_pass_costs_what_xla_counts():
    config = model.Config(
        vocab_size=1024, emb_dim=128, num_heads=4, head_dim=32, mlp_dim=256, num_encoder_layers=2,
        num_decoder_layers=3, dropout_rate=0.0, dtype="float32",
    )  # fmt: skip
    inputs, targets = (jax.ShapeDtypeStruct((1, n), jnp.int32) for n in (64, 32))
    module = model.Transformer(config)

    def forward(params, inputs, targets):
        return module.apply({"params": params}, inputs, targets, targets)

    compiled = jax.jit(forward).lower(model.parameter_shapes(config), inputs, targets).compile()
    counted = compiled.cost_analysis()["flops"]
    # XLA counts what is not a matrix product too: norms, softmax, GELU.
    assert counted / cost.forward_flops(config, 64, 32) == pytest.approx(1.05, abs=0.05)


def test_a_checkpoint_is_as_large_as_its_arrays():
    from xfer_jax.checkpoints import store

    leaves = jax.tree.leaves(store.shapes(SMALL))
    size = sum(np.prod(leaf.shape, dtype=np.int64) * leaf.dtype.itemsize for leaf in leaves)
    assert cost.checkpoint_bytes(SMALL) == pytest.approx(size, rel=0.01)


def test_an_unknown_device_is_an_error_that_names_the_nearest():
    with pytest.raises(RequestError, match=r"unknown device 'h10' \(did you mean h100"):
        devices.device("h10")


def test_layers_that_are_computed_anew_are_not_kept():
    def beside_parameters(config):
        return cost.training_bytes(config, 64, 512, 64) - cost.training_bytes(config, 0, 512, 64)

    anew = beside_parameters(dataclasses.replace(BASE, remat=True)) / beside_parameters(BASE)
    assert 1 / 24 < anew < 1 / 6  # a layer of 24, and every layer's input
