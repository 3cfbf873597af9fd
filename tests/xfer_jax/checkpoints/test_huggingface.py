"""Hugging Face's checkpoints, compared with its own library: names, values, logits and decodes."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import convert, huggingface, locations, store
from xfer_jax.checkpoints import hf_config as hf_config_module
from xfer_jax.checkpoints.arrays import TARGET, Contents, Stored
from xfer_jax.mt5 import decoding, model

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `parity`")
transformers = pytest.importorskip(
    "transformers", reason="Transformers comes with the extra `parity`"
)

CONFIG = model.Config(
    vocab_size=128,
    emb_dim=48,
    num_heads=3,
    head_dim=8,
    mlp_dim=40,
    num_encoder_layers=3,  # Hugging Face's `generate` fails with more layers in the decoder
    num_decoder_layers=2,
    dtype="float32",
)
# Two libraries' float32 sums in another order; logits of the tests below reach about 10.
TOLERANCE = 1e-4


def hf_config(**changes) -> "transformers.MT5Config":
    sizes = {
        "vocab_size": CONFIG.vocab_size,
        "d_model": CONFIG.emb_dim,
        "d_kv": CONFIG.head_dim,
        "d_ff": CONFIG.mlp_dim,
        "num_layers": CONFIG.num_encoder_layers,
        "num_decoder_layers": CONFIG.num_decoder_layers,
        "num_heads": CONFIG.num_heads,
        "dropout_rate": 0.0,
    }
    return transformers.MT5Config(**sizes | changes)


def hf_model(tied: bool = False, config=None, **changes) -> "transformers.PreTrainedModel":
    """Returns Hugging Face's mT5 with random weights, its norms and biases too; or its T5."""
    torch.manual_seed(0)
    if config is None:
        made = transformers.MT5ForConditionalGeneration(hf_config(**changes))
    else:
        made = transformers.T5ForConditionalGeneration(config)
    if not tied:  # Hugging Face's ties what it makes; the public mT5 are not tied
        made.lm_head.weight = torch.nn.Parameter(torch.empty_like(made.shared.weight))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            scale = 0.3 if "norm" in name else 0.15
            weight.copy_(torch.randn_like(weight) * scale + ("norm" in name))
        made.shared.weight.mul_(4)
    return made.eval()


@pytest.fixture(scope="module")
def hf():
    return hf_model()


@pytest.fixture(scope="module")
def batch():
    """Four padded rows: full, ordinary, of one token, and of another length on each side."""
    rng = np.random.default_rng(0)
    arrays = {}
    for side, width, lengths in (("inputs", 11, (11, 6, 1, 9)), ("targets", 7, (7, 3, 1, 2))):
        rows = np.zeros((len(lengths), width), np.int32)
        for row, length in zip(rows, lengths, strict=True):
            row[:length] = rng.integers(2, CONFIG.vocab_size, length)
        arrays[side] = rows
    return arrays


def our_logits(params, batch, config=CONFIG) -> np.ndarray:
    targets = batch["targets"]
    shifted = decoding.shift_right(jnp.asarray(targets))
    apply = jax.jit(model.Transformer(config).apply)
    return np.asarray(apply({"params": params}, batch["inputs"], shifted, targets))


def their_logits(hf, batch) -> np.ndarray:
    inputs = torch.from_numpy(batch["inputs"]).long()
    shifted = torch.from_numpy(np.array(decoding.shift_right(jnp.asarray(batch["targets"])))).long()
    with torch.no_grad():
        return hf(
            input_ids=inputs, attention_mask=inputs > 0, decoder_input_ids=shifted
        ).logits.numpy()


def params_of(location) -> dict:
    """Reads parameters as training does."""
    contents = store.read(locations.locate(location))
    convert.check(contents, convert.infer_config(contents))
    arrays = {
        name.removeprefix(TARGET): jnp.asarray(array.as_float32().read(()))
        for name, array in contents.arrays.items()
    }
    return unflatten_dict(arrays, sep="/")


def load(folder):
    """Has Hugging Face's library load a folder, and say what it misses there."""
    return transformers.MT5ForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )


def assert_same_logits(params, hf, batch) -> None:
    ours, theirs = our_logits(params, batch), their_logits(hf, batch)
    assert np.abs(theirs).max() > 2
    present = batch["targets"] > 0  # what padding attends to is each library's own business
    np.testing.assert_allclose(ours[present], theirs[present], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 1), (2, 3), (12, 12)])
def test_every_weight_of_hugging_face_s_mt5_has_a_name_of_its_own(encoder, decoder):
    sizes = hf_config(num_layers=encoder, num_decoder_layers=decoder)
    with torch.device("meta"):
        made = transformers.MT5ForConditionalGeneration(sizes)
    theirs = set(made.state_dict()) - {
        f"{stack}.embed_tokens.weight" for stack in ("encoder", "decoder")
    }
    table = huggingface.names(encoder, decoder)
    assert sorted(table.values()) == sorted(theirs)
    ours = model.parameter_shapes(
        model.Config(num_encoder_layers=encoder, num_decoder_layers=decoder)
    )
    assert set(table) == set(flatten_dict(ours, sep="/"))


def save_bin(hf, folder, **how) -> None:
    folder.mkdir()
    torch.save(hf.state_dict(), folder / "pytorch_model.bin", **how)


def save_bins(hf, folder) -> None:
    """Two files and an index, as Hugging Face's library wrote before safetensors."""
    folder.mkdir()
    names = list(hf.state_dict())
    halves = {
        "pytorch_model-1.bin": names[: len(names) // 2],
        "pytorch_model-2.bin": names[len(names) // 2 :],
    }
    for file, half in halves.items():
        torch.save({name: hf.state_dict()[name] for name in half}, folder / file)
    index = {"weight_map": {name: file for file, half in halves.items() for name in half}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


SAVED = {
    "safetensors": lambda hf, folder: hf.save_pretrained(folder),
    "several safetensors": lambda hf, folder: hf.save_pretrained(folder, max_shard_size="60KB"),
    "bin": save_bin,
    "bin of old": lambda hf, folder: save_bin(hf, folder, _use_new_zipfile_serialization=False),
    "several bins": save_bins,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("how", SAVED)
def test_what_hugging_face_saves_is_read_bit_for_bit(hf, tmp_path, how, dtype):
    saved = hf_model().to(getattr(torch, dtype)) if dtype != "float32" else hf
    folder = tmp_path / "saved"
    SAVED[how](saved, folder)
    assert len(list(folder.glob("*.safetensors")) + list(folder.glob("*.bin"))) > ("several" in how)
    contents = store.read(locations.locate(folder))
    assert (contents.form, contents.step, contents.note) == ("hf", 0, "")
    assert convert.infer_config(contents) == convert.dataclasses.replace(CONFIG, dtype="bfloat16")
    state = saved.state_dict()
    table = huggingface.names(CONFIG.num_encoder_layers, CONFIG.num_decoder_layers)
    assert set(contents.arrays) == {f"target/{name}" for name in table}
    for ours, theirs in table.items():
        array = contents.arrays[f"target/{ours}"]
        assert array.dtype.name == dtype
        expected = state[theirs].float().numpy()
        if ours.endswith(("kernel", "rel_embedding")):
            expected = expected.T
        np.testing.assert_array_equal(array.as_float32().read(()), expected, err_msg=ours)
        part = tuple(slice(1, size - 2) for size in array.shape)
        np.testing.assert_array_equal(array.as_float32().read(part), expected[part], err_msg=ours)


def test_a_file_of_weights_is_enough(hf, tmp_path):
    hf.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    contents = store.read(locations.locate(tmp_path / "model.safetensors"))
    assert convert.infer_config(contents).num_decoder_layers == CONFIG.num_decoder_layers


def test_safetensors_are_taken_before_a_pickle(hf, tmp_path):
    hf.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even one")
    assert store.read(tmp_path).arrays


@pytest.mark.parametrize("how", ["safetensors", "bin"])
def test_the_network_is_hugging_face_s(hf, batch, tmp_path, how):
    SAVED[how](hf, tmp_path / "saved")
    assert_same_logits(params_of(tmp_path / "saved"), hf, batch)


@pytest.mark.parametrize("how", ["safetensors", "bin"])
def test_without_a_kernel_of_its_own_the_logits_are_the_embedding_s(batch, tmp_path, how):
    tied = hf_model(tied=True)
    SAVED[how](tied, tmp_path / "saved")
    contents = store.read(tmp_path / "saved")
    alone = how == "safetensors"  # which hold an array that has several names once
    assert ("it has no lm_head.weight: the embedding replaces it" in contents.note) == alone
    assert_same_logits(params_of(tmp_path / "saved"), tied, batch)


def test_the_embedding_s_other_names_and_a_table_that_none_reads_are_known(hf, batch, tmp_path):
    """As in old files: PyTorch's hold the embedding under three names, or one of them."""
    state = hf.state_dict()
    state["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(
        32, 3
    )
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_same_logits(params_of(tmp_path), hf, batch)
    del state["shared.weight"], state["encoder.embed_tokens.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_same_logits(params_of(tmp_path), hf, batch)


@pytest.fixture(scope="module")
def t5_sizes():
    """What makes Hugging Face's T5 an mT5 of the size of the others."""
    kept = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers")
    sizes = {name: hf_config().to_dict()[name] for name in kept}
    more = {"num_heads": CONFIG.num_heads, "dropout_rate": 0.0, "decoder_start_token_id": 0}
    return sizes | more | {"feed_forward_proj": "gated-gelu"}


def test_a_t5_that_does_not_scale_its_logits_is_read(t5_sizes, batch, tmp_path):
    """ByT5 and T5 1.1 are such."""
    t5 = hf_model(config=transformers.T5Config(**t5_sizes, tie_word_embeddings=False))
    assert not t5.config.scale_decoder_outputs
    t5.save_pretrained(tmp_path)
    assert_same_logits(params_of(tmp_path), t5, batch)


@pytest.mark.parametrize("said", ["tied", "scaled", "nothing"])
def test_a_t5_that_scales_its_logits_is_refused(t5_sizes, batch, tmp_path, said):
    """Read as an mT5 its logits would be too large by sqrt(d_model), as the library computes."""
    scaled = hf_model(config=transformers.T5Config(**t5_sizes))
    assert scaled.config.scale_decoder_outputs
    scaled.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    keys = {"tie_word_embeddings", "scale_decoder_outputs"}
    kept = {"tied": "tie_word_embeddings", "scaled": "scale_decoder_outputs"}.get(said)
    (tmp_path / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if key not in keys - {kept}})
    )
    found = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path)
    assert found.config.scale_decoder_outputs
    named = kept or "tie_word_embeddings is missing"
    with pytest.raises(RequestError, match=rf"{named}.*scales the logits by d_model\^-0\.5"):
        store.read(tmp_path)
    (tmp_path / "config.json").unlink()
    ours, theirs = our_logits(params_of(tmp_path), batch), their_logits(scaled, batch)
    present = batch["targets"] > 0
    factor = CONFIG.emb_dim**-0.5
    np.testing.assert_allclose(ours[present] * factor, theirs[present], rtol=0, atol=TOLERANCE)


def test_settings_that_the_library_derives_are_as_here(tmp_path):
    """A file that names them differently is computed differently by the library, too."""
    saved = hf_config(tie_word_embeddings=False)
    saved.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    expected = hf_config_module.computed()
    derived = transformers.MT5Config.from_dict(config).to_dict()
    present = {key: value for key, value in expected.items() if key in derived}
    assert {"dense_act_fn", "is_gated_act", "pad_token_id"} < set(present)
    assert {key: derived[key] for key in present} == present
    other = transformers.MT5Config.from_dict(config | {"dense_act_fn": "relu"})
    assert other.dense_act_fn == "relu"


def test_files_of_the_hub_s_cache_are_links(hf, tmp_path):
    """models--x/snapshots/<revision>/ holds links to models--x/blobs/."""
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    hf.save_pretrained(snapshot, max_shard_size="60KB")
    blobs.mkdir()
    for i, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / str(i))
        file.symlink_to(blobs / str(i))
    assert len(list(blobs.iterdir())) > 3
    assert store.read(locations.locate(snapshot)).arrays


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A random checkpoint of ours in Hugging Face's form, and its parameters."""
    folder = tmp_path_factory.mktemp("written")
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: (rng.standard_normal(x.shape) * 0.15 + (x.ndim == 1)).astype(np.float32),
        model.parameter_shapes(CONFIG),
    )
    params["token_embedder"]["embedding"] *= 4
    arrays = {
        f"target/{name}": Stored(x.shape, x.dtype, lambda index, x=x: x[index])
        for name, x in flatten_dict(params, sep="/").items()
    }
    huggingface.write(Contents("held", "native", 0, arrays), CONFIG, folder)
    return folder, params


def test_hugging_face_loads_what_is_written_and_misses_nothing(written, batch):
    folder, params = written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, info = load(folder)
    assert not any(info.values()), info
    assert loaded.dtype == torch.float32
    assert_same_logits(params, loaded.eval(), batch)
    assert loaded.lm_head.weight.data_ptr() != loaded.shared.weight.data_ptr()


def test_the_file_is_what_hugging_face_s_library_reads(written):
    from safetensors import safe_open

    folder, params = written
    with safe_open(folder / "model.safetensors", "np") as weights:
        assert weights.metadata() == {"format": "pt"}
        found = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
    table = huggingface.names(CONFIG.num_encoder_layers, CONFIG.num_decoder_layers)
    assert set(found) == set(table.values())
    for ours, array in flatten_dict(params, sep="/").items():
        transposed = ours.endswith(("kernel", "rel_embedding"))
        np.testing.assert_array_equal(found[table[ours]], array.T if transposed else array)


def test_hugging_face_saves_it_again_and_it_is_the_same(written, tmp_path):
    folder, params = written
    load(folder)[0].save_pretrained(tmp_path)
    again = flatten_dict(params_of(tmp_path), sep="/")
    for name, array in flatten_dict(params, sep="/").items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_both_emit_the_same_tokens(written, batch):
    folder, params = written
    loaded, _ = load(folder)
    inputs = torch.from_numpy(batch["inputs"]).long()
    theirs = (
        loaded.eval()
        .generate(input_ids=inputs, attention_mask=inputs > 0, max_new_tokens=12, do_sample=False)
        .numpy()[:, 1:]
    )  # without the start token
    ours, _ = decoding.greedy(model.Transformer(CONFIG), params, jnp.asarray(batch["inputs"]), 12)
    ours = np.asarray(ours)
    assert len(np.unique(ours)) > 4
    np.testing.assert_array_equal(ours[:, : theirs.shape[1]], theirs)
    assert not ours[:, theirs.shape[1] :].any()


def test_t5x_s_weights_give_t5x_s_logits_in_hugging_face_s_library(t5x, t5x_config, tmp_path):
    arrays = {
        f"target/{name}": Stored(x.shape, x.dtype, lambda index, x=x: x[index])
        for name, x in t5x.flat_params.items()
    }
    huggingface.write(Contents("held", "t5x", 30, arrays), t5x_config, tmp_path)
    loaded, _ = load(tmp_path)
    batch = t5x.batch("unpacked")
    inputs, shifted = (
        torch.from_numpy(batch[f"{side}_input_tokens"]).long() for side in ("encoder", "decoder")
    )
    with torch.no_grad():
        found = loaded.eval()(
            input_ids=inputs, attention_mask=inputs > 0, decoder_input_ids=shifted
        ).logits.numpy()
    present = batch["decoder_target_tokens"] > 0
    expected = t5x.reference["unpacked/logits"]
    np.testing.assert_allclose(found[present], expected[present], rtol=0, atol=TOLERANCE)
