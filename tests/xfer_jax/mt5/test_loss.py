"""The loss against T5X's numbers and against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from xfer_jax.mt5 import loss
from xfer_jax.mt5.model import Transformer

KINDS = ("unpacked", "packed")
TOKENS, VOCAB = 8 * 12, 512  # of T5X's batches
# One piece; pieces that divide the 96 tokens; pieces that do not; one token a piece.
PIECES = (1 << 24, TOKENS * VOCAB // 4, 7 * VOCAB + 3, VOCAB)


def float64_loss(logits, targets, z_loss):
    """-log p(target) + z_loss · (log Z)², written out."""
    logits = np.asarray(logits, np.float64)
    largest = logits.max(-1, keepdims=True)
    log_z = np.log(np.exp(logits - largest).sum(-1)) + largest[..., 0]
    target = np.take_along_axis(logits, np.asarray(targets)[..., None], -1)[..., 0]
    return log_z - target + z_loss * log_z**2, z_loss * log_z**2


@pytest.mark.slow
@pytest.mark.parametrize("max_logits", [1 << 24, 40])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.1])
def test_the_loss_of_any_logits_equals_float64(scale, z_loss, max_logits):
    rng = np.random.default_rng(0)
    logits = (scale * rng.standard_normal((3, 5, 17))).astype(np.float32)
    targets = rng.integers(17, size=(3, 5))
    kernel = jnp.eye(17)  # so that the states are the logits
    expected, expected_z = float64_loss(logits, targets, z_loss)
    sums, _ = loss.sequence_loss(
        logits, kernel, targets, np.ones((3, 5)), z_loss, max_logits=max_logits
    )
    assert float(sums.loss) == pytest.approx(expected.sum(), rel=1e-5)
    assert float(sums.z_loss) == pytest.approx(expected_z.sum(), rel=1e-5)
    if z_loss == 0:
        found = loss.token_losses(logits, kernel, targets, max_logits=max_logits)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_states_in_bfloat16_are_taken_in_float32():
    states, kernel = jnp.asarray([[[1.0, 2.0, 3.0]]], jnp.bfloat16), jnp.eye(3)
    found = loss.token_losses(states, kernel, jnp.asarray([[2]]))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, float64_loss(states, [[2]], 0.0)[0], rtol=1e-6)


@pytest.fixture(scope="module")
def states(t5x, t5x_module):
    """The states under the logits by kind of batch, and how to go back from them to parameters."""

    def forward(kind):
        def hidden(params):
            variables = {"params": params}
            return t5x_module.apply(variables, **t5x.batch(kind), method=Transformer.forward)

        return jax.vjp(jax.jit(hidden), jax.tree.map(jnp.asarray, t5x.params))

    return {kind: forward(kind) for kind in KINDS}


@pytest.mark.slow
@pytest.mark.parametrize("max_logits", PIECES)
@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_gradients_equal_t5x_s_in_any_pieces(t5x, states, kind, max_logits):
    hidden, to_params = states[kind]
    kernel = jnp.asarray(t5x.params["decoder"]["logits_dense"]["kernel"])
    targets = t5x.batch(kind)["decoder_target_tokens"]

    @jax.jit
    def sums_and_gradients(hidden, kernel):
        sums, back = loss.sequence_loss(hidden, kernel, targets, targets > 0, max_logits=max_logits)
        return sums, back.to_hidden, back.to_kernel(sums.loss)

    sums, to_hidden, to_kernel = sums_and_gradients(hidden, kernel)

    expected = t5x.json("reference")[kind]
    assert float(sums.loss) == pytest.approx(expected["loss"], abs=1e-4)
    assert float(sums.z_loss) == pytest.approx(expected["z_loss"], abs=1e-4)
    assert float(sums.weight) == expected["weight_sum"]
    assert float(sums.correct) == expected["accuracy_total"]

    gradients = flatten_dict(to_params(to_hidden)[0], sep="/")
    gradients["decoder/logits_dense/kernel"] += to_kernel
    assert set(gradients) == set(t5x.flat_params)
    for name, array in gradients.items():
        reference = t5x.reference[f"{kind}/grad/target/{name}"]
        np.testing.assert_allclose(array, reference, rtol=0, atol=5e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("max_logits", PIECES)
@pytest.mark.parametrize("shards", [2, 4])
def test_shards_of_the_vocabulary_change_nothing(max_logits, shards):
    rng = np.random.default_rng(2)
    hidden = jnp.asarray(rng.standard_normal((8, 12, 16)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((16, VOCAB)), jnp.float32)
    targets = rng.integers(VOCAB, size=(8, 12))

    def everything(*pieces):
        sums, back = loss.sequence_loss(hidden, kernel, targets, targets > 40, 1e-4, *pieces)
        return sums, back.to_hidden, back.to_kernel(sums.loss)

    expected, found = everything(), everything(shards, max_logits)
    for array, reference in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(array, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("max_logits", PIECES)
@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.1])
def test_gradients_are_those_of_the_loss_written_out(z_loss, max_logits):
    rng = np.random.default_rng(3)
    hidden = jnp.asarray(rng.standard_normal((8, 12, 16)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((16, VOCAB)), jnp.float32)
    targets = rng.integers(VOCAB, size=(8, 12))
    weights = rng.choice([0.0, 0.25, 1.5], size=(8, 12)).astype(np.float32)

    def written_out(hidden, kernel):
        logits = hidden @ kernel
        log_z = jax.nn.logsumexp(logits, axis=-1)
        target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return jnp.sum(weights * (log_z - target + z_loss * log_z**2)) / 3.0

    expected = jax.grad(written_out, argnums=(0, 1))(hidden, kernel)
    _, back = loss.sequence_loss(
        hidden, kernel, targets, weights, z_loss, 1, max_logits, normalizing_factor=3.0
    )
    found = back.to_hidden, back.to_kernel(jnp.float32(-2.0))
    for array, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("max_logits", [1 << 24, 7 * 24])
def test_a_learnt_token_s_gradient_survives_products_of_rounded_numbers(monkeypatch, max_logits):
    # Accelerators round what they multiply (TF32, bfloat16): p - 1 must be formed before.
    exact = loss._product

    def rounding(axes, x, y):
        return exact(axes, *(jax.lax.reduce_precision(a, 8, 7) for a in (x, y)))

    rng = np.random.default_rng(4)
    hidden, kernel = (
        np.asarray(jnp.asarray(rng.standard_normal(shape), jnp.bfloat16), np.float64)
        for shape in ((1, 7, 16), (16, 64))
    )
    kernel[:, 5] = 1.375 * np.sign(hidden[0, 0])  # the first token is learnt
    targets = np.asarray([[5, 1, 2, 3, 4, 6, 7]])
    raised = np.exp(hidden[0, 0] @ (kernel - kernel[:, 5:6]))
    raised[5] = 0.0
    to_logits = raised / (1.0 + raised.sum())
    to_logits[5] = -to_logits.sum()  # p - 1, without its rounding
    assert 1e-4 < -to_logits[5] < 1e-3
    expected = kernel @ to_logits

    monkeypatch.setattr(loss, "_product", rounding)
    _, back = loss.sequence_loss(
        *(jnp.asarray(a, jnp.float32) for a in (hidden, kernel)),
        targets,
        np.ones((1, 7)),
        z_loss=0.0,
        max_logits=max_logits,
    )
    error = np.linalg.norm(back.to_hidden[0, 0] - expected) / np.linalg.norm(expected)
    assert error < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("max_logits", [1 << 24, 40, 13])
def test_weights_scale_the_loss_and_choose_what_accuracy_counts(max_logits):
    rng = np.random.default_rng(1)
    hidden, kernel = rng.standard_normal((2, 5, 4)), rng.standard_normal((4, 13))
    logits = hidden @ kernel
    targets = rng.integers(13, size=(2, 5))
    targets[:, :3] = logits.argmax(-1)[:, :3]
    weights = rng.choice([0.0, 0.25, 1.5], size=(2, 5))
    weights[0, :2] = 0.0, 0.25

    as_float32 = (jnp.asarray(x, jnp.float32) for x in (hidden, kernel))
    sums, _ = loss.sequence_loss(*as_float32, targets, weights, z_loss=0.01, max_logits=max_logits)
    total, z = float64_loss(logits, targets, 0.01)
    hit = (logits.argmax(-1) == targets) & (weights > 0)
    expected = {
        "loss": (total * weights).sum(),
        "z_loss": (z * weights).sum(),
        "weight": weights.sum(),
        "correct": hit.sum(),
    }
    assert {name: float(x) for name, x in sums._asdict().items()} == pytest.approx(
        expected, rel=1e-5
    )


def test_the_logits_of_a_whole_batch_never_exist_in_memory():
    def largest(max_logits: int) -> int:
        """Returns the elements of the largest array of the gradient's program."""
        shapes = [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in (
                ((4, 64, 8), jnp.float32),
                ((8, 1024), jnp.float32),
                ((4, 64), jnp.int32),
                ((4, 64), jnp.float32),
            )
        ]

        def gradients(hidden, kernel, targets, weights):
            sums, back = loss.sequence_loss(hidden, kernel, targets, weights, max_logits=max_logits)
            return back.to_hidden, back.to_kernel(sums.loss)

        program = jax.make_jaxpr(gradients)(*shapes)
        return max(array.size for array in _arrays(program.jaxpr))

    whole, piece = 4 * 64 * 1024, 16 * 1024
    assert largest(1 << 24) >= whole
    assert largest(piece) <= piece


def _arrays(jaxpr):
    """Yields the arrays that a program computes, those of the programs inside it too."""
    for equation in jaxpr.eqns:
        yield from (out.aval for out in equation.outvars if hasattr(out.aval, "size"))
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _arrays(inner)


@pytest.mark.slow
@pytest.mark.parametrize("max_logits", PIECES)
def test_losses_of_tokens_equal_t5x_s_in_any_pieces(t5x, states, max_logits):
    hidden, _ = states["unpacked"]
    kernel = jnp.asarray(t5x.params["decoder"]["logits_dense"]["kernel"])
    targets = t5x.batch("unpacked")["decoder_target_tokens"]
    found = np.asarray(loss.token_losses(hidden, kernel, targets, max_logits=max_logits))
    expected = t5x.reference["unpacked/token_loss"] - t5x.reference["unpacked/token_z_loss"]
    there = targets > 0
    # float32 rounding: the fixtures' own tolerance for logits
    np.testing.assert_allclose(found[there], expected[there], rtol=0, atol=5e-5)
