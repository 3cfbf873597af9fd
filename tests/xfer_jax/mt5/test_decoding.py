"""Greedy decoding, beam search and scoring, against T5X's outputs and plain forward passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xfer_jax.mt5 import decoding, model

TINY = model.Config(
    vocab_size=12,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
    dtype="float32",
)


@pytest.fixture(scope="module")
def tiny():
    """A network whose choices are its own: with 12 tokens, some sequences end and some do not."""
    return model.Transformer(TINY), jax.jit(lambda: model.initialise(TINY, seed=0))()


@functools.partial(jax.jit, static_argnames="module")
def forward(module, params, inputs, before, present):
    """Runs the whole network; compiled once for all tests of a shape."""
    return module.apply({"params": params}, inputs, before, present)


def random_inputs(seed: int, lengths) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.zeros((len(lengths), 9), np.int32)  # one shape for most tests: each is compiled
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = rng.integers(2, TINY.vocab_size, size=length)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(("name", "length"), [("greedy", 12), ("greedy_len5", 5)])
def test_greedy_equals_t5x_s(t5x, t5x_module, name, length):
    inputs = t5x.batch("unpacked")["encoder_input_tokens"]
    tokens, scores = decoding.greedy(t5x_module, t5x_jax_params(t5x), inputs, length)
    assert tokens.dtype == jnp.int32
    np.testing.assert_array_equal(tokens, t5x.reference[f"decode/{name}/tokens"])
    np.testing.assert_allclose(scores, t5x.reference[f"decode/{name}/scores"], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "length", "beams", "alpha"),
    [
        ("default", 12, 1, 0.6),
        ("default_len5", 5, 1, 0.6),
        ("beam4", 12, 4, 0.6),
        ("beam4_all", 12, 4, 0.6),
        ("beam4_alpha0_all", 12, 4, 0.0),
        ("beam4_len5_all", 5, 4, 0.6),
        ("beam4_len2_all", 2, 4, 0.6),  # not every row has four hypotheses that end
    ],
)
def test_beam_search_equals_t5x_s(t5x, t5x_module, name, length, beams, alpha):
    inputs = t5x.batch("unpacked")["encoder_input_tokens"]
    found = decoding.beam_search(t5x_module, t5x_jax_params(t5x), inputs, length, beams, alpha)
    tokens, scores = (np.asarray(x)[:, ::-1] for x in found)  # T5X has the best last
    if not name.endswith("_all"):
        tokens, scores = tokens[:, -1], scores[:, -1]
    np.testing.assert_array_equal(tokens, t5x.reference[f"decode/{name}/tokens"])
    np.testing.assert_allclose(scores, t5x.reference[f"decode/{name}/scores"], rtol=0, atol=2e-5)


def t5x_jax_params(t5x):
    return jax.tree.map(jnp.asarray, t5x.params)


@pytest.mark.slow
def test_score_equals_t5x_s(t5x, t5x_module):
    batch = t5x.batch("unpacked")
    scores = decoding.score(
        t5x_module,
        t5x_jax_params(t5x),
        batch["encoder_input_tokens"],
        batch["decoder_target_tokens"],
    )
    np.testing.assert_allclose(scores, t5x.reference["unpacked/row_score"], rtol=0, atol=2e-5)


def test_shift_right_makes_t5x_s_decoder_inputs(t5x):
    batch = t5x.batch("unpacked")
    shifted = decoding.shift_right(jnp.asarray(batch["decoder_target_tokens"]))
    np.testing.assert_array_equal(shifted, batch["decoder_input_tokens"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_greedy_equals_running_the_whole_network_at_each_step(tiny, seed):
    module, params = tiny
    length = 7
    inputs = random_inputs(seed, lengths=[9, 1, 4, 7, 2, 9, 3, 5])
    tokens, scores = map(np.asarray, decoding.greedy(module, params, inputs, length))

    expected, expected_scores = np.zeros_like(tokens), np.zeros(len(inputs))
    ended = np.zeros(len(inputs), bool)
    # The network's masks come from the targets, so that those are given as present throughout.
    present = np.ones_like(tokens)
    for position in range(length):
        before = decoding.shift_right(expected)
        logits = np.asarray(forward(module, params, inputs, before, present), np.float64)
        logits = logits[:, position]
        choice = np.where(ended, decoding.PAD_ID, logits.argmax(-1))
        log_p = logits.max(-1) - np.log(np.exp(logits).sum(-1))
        expected_scores += np.where(ended, 0.0, log_p)
        expected[:, position] = choice
        ended |= choice == decoding.EOS_ID
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(decoding.greedy_tokens(module, params, inputs, length), expected)


@pytest.mark.parametrize("size", [1, 7, 97, 512, 768])
def test_of_equal_logits_the_first_is_the_likeliest(size):
    few_values = np.random.default_rng(size).integers(-3, 3, (64, size)).astype(np.float32)
    likeliest = decoding._argmax(jnp.asarray(few_values))
    assert likeliest.dtype == jnp.int32
    np.testing.assert_array_equal(likeliest, few_values.argmax(1))


@pytest.mark.slow
def test_nothing_follows_the_end_of_sequence(tiny):
    tokens = np.concatenate(
        [decoding.greedy(*tiny, random_inputs(seed, [9] * 8), 7)[0] for seed in range(6)]
    )
    ends = (tokens == decoding.EOS_ID).argmax(1)
    with_end = (tokens == decoding.EOS_ID).any(1)
    assert with_end.any()
    assert not with_end.all()
    for row, end in zip(tokens[with_end], ends[with_end], strict=True):
        assert not row[end + 1 :].any()


@pytest.mark.slow
def test_rows_of_padding_end_at_once_and_disturb_no_other(tiny):
    inputs = random_inputs(0, lengths=[9, 1, 4, 7, 2, 9, 3, 5])
    alone, alone_scores = map(np.asarray, decoding.greedy(*tiny, inputs, 7))
    padded = inputs.copy()
    padded[4:] = 0
    tokens, scores = map(np.asarray, decoding.greedy(*tiny, padded, 7))
    assert not tokens[4:].any()
    assert not scores[4:].any()
    np.testing.assert_array_equal(tokens[:4], alone[:4])
    np.testing.assert_allclose(scores[:4], alone_scores[:4], rtol=1e-5)
    only_padding, _ = decoding.greedy(*tiny, np.zeros_like(inputs), 7)
    assert not np.asarray(only_padding).any()


@pytest.mark.slow
def test_outputs_do_not_depend_on_the_padding_of_the_inputs(tiny):
    inputs = random_inputs(1, lengths=[5, 3, 4, 1, 9, 2, 7, 6])
    wider = np.pad(inputs, ((0, 0), (0, 6)))
    tokens, scores = decoding.greedy(*tiny, inputs, 7)
    wide_tokens, wide_scores = decoding.greedy(*tiny, wider, 7)
    np.testing.assert_array_equal(tokens, wide_tokens)
    np.testing.assert_allclose(scores, wide_scores, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_greedy_s_score_is_the_score_of_its_output(tiny):
    compared = 0
    for seed in range(6):
        inputs = random_inputs(seed, [9] * 8)
        tokens, scores = map(np.asarray, decoding.greedy(*tiny, inputs, 7))
        ends = (tokens == decoding.EOS_ID).argmax(1)
        emitted = np.where((tokens == decoding.EOS_ID).any(1), ends + 1, tokens.shape[1])
        # A 0 emitted on the way counts for the decoder, and is padding to teacher forcing.
        plain = (tokens > 0).sum(1) == emitted
        again = np.asarray(decoding.score(*tiny, inputs, tokens))
        np.testing.assert_allclose(scores[plain], again[plain], rtol=0, atol=2e-5)
        compared += plain.sum()
    assert compared >= 5


LABEL_SETS = (
    ((3, 1), (4, 1), (5, 1)),  # like XNLI's
    ((3, 1), (4, 5, 1), (2, 6, 7, 1)),
    ((3, 4, 1), (3, 5, 1), (3, 5, 6, 1), (8, 3, 4, 1)),  # they part late, and more than once
    ((7, 2, 1),),
)


@pytest.mark.slow
@pytest.mark.parametrize("labels", LABEL_SETS)
def test_the_label_is_greedy_s_when_it_is_held_to_the_set(tiny, labels):
    """Against running the whole network at each step, all but the allowed tokens left out."""
    module, params = tiny
    inputs = random_inputs(3, lengths=[9, 1, 4, 7, 6, 2, 9, 3])
    chosen = np.asarray(decoding.choose_label(module, params, inputs, labels))
    width = max(map(len, labels))
    present = np.ones((1, width), np.int32)
    for row, found in zip(inputs, chosen, strict=True):
        emitted: tuple[int, ...] = ()
        while emitted not in labels:
            so_far = np.zeros((1, width), np.int32)
            so_far[0, : len(emitted)] = emitted
            before = decoding.shift_right(so_far)
            logits = np.asarray(forward(module, params, row[None], before, present))
            logits = logits[0, len(emitted)]
            allowed = {x[len(emitted)] for x in labels if x[: len(emitted)] == emitted}
            emitted = (*emitted, max(allowed, key=lambda token: logits[token]))
        assert labels[found] == emitted


@pytest.mark.slow
def test_where_greedy_emits_a_label_it_is_the_one_that_is_chosen(tiny):
    module, params = tiny
    logits = params["decoder"]["logits_dense"]
    louder = {"logits_dense": {"kernel": logits["kernel"].at[:, decoding.EOS_ID].multiply(4.0)}}
    params = params | {"decoder": params["decoder"] | louder}  # most sequences end
    inputs = np.concatenate([random_inputs(seed, [9] * 8) for seed in range(8)])
    tokens = np.asarray(decoding.greedy(module, params, inputs, 7)[0]).tolist()
    ended = [decoding.EOS_ID in row for row in tokens]
    emitted = [tuple(row[: row.index(1) + 1]) if 1 in row else () for row in tokens]
    others = ((3, 3, 3, 3, 3, 3, 3, 3, 1), (2, 2, 2, 2, 2, 2, 2, 2, 1))
    labels = tuple(sorted({*emitted, *others} - {()}))
    chosen = np.asarray(decoding.choose_label(module, params, inputs, labels))
    agreed = [labels[i] == row for i, row in zip(chosen, emitted, strict=True)]
    assert np.asarray(agreed)[ended].all()
    assert sum(ended) >= 5
    assert len(set(emitted)) > 3
