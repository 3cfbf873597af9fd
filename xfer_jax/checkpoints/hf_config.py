"""Hugging Face's `config.json`: checks that it describes the model of this tool, and writes it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints.arrays import Stored, read_file
from xfer_jax.mt5 import layers, model

FILE = "config.json"
EMBEDDING, LOGITS = "shared.weight", "lm_head.weight"
_KINDS = ("mt5", "t5")  # 't5' only for models like T5 1.1, e.g. ByT5
_FIXED = {  # constants of `model`, by their names in `config.json`
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": layers.NORM_EPSILON,
    "relative_attention_num_buckets": layers.NUM_BUCKETS,
    "relative_attention_max_distance": layers.MAX_DISTANCE,
}


def check(folder: str, found: Mapping[str, Stored], layers: Sequence[int]) -> None:
    """Checks that `config.json` describes the model of this tool, with these weights.

    A missing setting has the default of Hugging Face's library, which is right for mT5.

    Args:
      folder: the folder of the file, which may be missing.
      found: the weights by Hugging Face's names.
      layers: numbers of layers of encoder and decoder.

    Raises:
      RequestError: settings are wrong (the message lists them), or the file is damaged.
    """
    content = read_file(folder, FILE)
    if content is None:  # weights alone
        return
    try:
        config = files.parse_json(content, "it")
    except RequestError as error:
        raise RequestError(f"{folder}/{FILE} is damaged: {error}") from None
    if not isinstance(config, dict):
        raise RequestError(f"{folder}/{FILE} is damaged: it is not a JSON object")
    wrong = [
        f"{key} is {_shown(config[key])} instead of {value!r}"
        for key, value in (computed() | _sizes(found, layers)).items()
        if key in config and not _same(config[key], value)
    ]
    kind = config.get("model_type", "mt5")
    if kind not in _KINDS:
        wrong.append(f"model_type is {_shown(kind)} instead of 'mt5'")
    elif kind == "t5" and "feed_forward_proj" not in config:
        wrong.append("feed_forward_proj is missing, which for a t5 means 'relu'")
    elif kind == "t5" and LOGITS not in found and config.get("scale_decoder_outputs") is None:
        wrong.append(f"model_type is 't5' instead of 'mt5', and there is no {LOGITS}")
    wrong += _scaling(config, kind)
    if wrong:
        raise RequestError(
            f"{folder}/{FILE} does not describe an mT5 with these weights: {'; '.join(wrong)}"
        )


def computed() -> dict[str, Any]:
    """Returns the settings of `model` that do not follow from the weights."""
    return _FIXED | {
        "dense_act_fn": "gelu_new",
        "is_gated_act": True,
        "is_encoder_decoder": True,
        "is_decoder": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }


def _sizes(found: Mapping[str, Stored], layers: Sequence[int]) -> dict[str, int]:
    """Returns the settings that follow from the weights."""
    names = ("num_layers", "num_decoder_layers")
    sizes = {name: count for name, count in zip(names, layers, strict=True) if count}
    table = found.get("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    query = found.get("encoder.block.0.layer.0.SelfAttention.q.weight")
    hidden = found.get("encoder.block.0.layer.1.DenseReluDense.wi_0.weight")
    if EMBEDDING in found and len(found[EMBEDDING].shape) == 2:
        sizes["vocab_size"], sizes["d_model"] = found[EMBEDDING].shape
    if hidden and len(hidden.shape) == 2:
        sizes["d_ff"] = hidden.shape[0]
    if table and query and len(table.shape) == len(query.shape) == 2 and table.shape[1]:
        sizes["num_heads"] = table.shape[1]
        sizes["d_kv"] = query.shape[0] // table.shape[1]
    return sizes


def _scaling(config: dict[str, Any], kind: Any) -> list[str]:
    """Returns the setting that makes Hugging Face's library scale the logits by d_model^-0.5.

    In transformers 5 it is `scale_decoder_outputs` of a T5, by default true unless
    `tie_word_embeddings` is false; an mT5 scales nothing. In earlier versions it is
    `tie_word_embeddings`, by default true for a T5 and false for an mT5.
    """
    scale, tied = config.get("scale_decoder_outputs"), config.get("tie_word_embeddings")
    means = ", which scales the logits by d_model^-0.5"
    if scale is not None and scale is not False:
        return [f"scale_decoder_outputs is {_shown(scale)}{means}"]
    if scale is False:
        return []
    if kind == "t5" and tied is not False:
        shown = "missing" if tied is None else _shown(tied)
        return [f"tie_word_embeddings is {shown}{means}"]
    major = re.match(r"[0-9]{1,3}", str(config.get("transformers_version", "")))
    if tied and major and int(major[0]) < 5:
        return [f"tie_word_embeddings is {_shown(tied)}{means}"]
    return []


def _same(value: Any, expected: Any) -> bool:
    """Returns whether a setting has a value; `[1]` equals 1, but 1.0 and True do not."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(expected, float):
        return isinstance(value, float | int) and value == expected
    return type(value) is type(expected) and value == expected


def _shown(value: Any) -> str:
    return ascii(value)[:60] if isinstance(value, str | int | float | None) else "not a plain value"


def render(config: model.Config) -> dict[str, Any]:
    """Returns the content of `config.json` for a model."""
    return {
        "architectures": ["MT5ForConditionalGeneration"],
        "model_type": "mt5",
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_heads,
        **_FIXED,
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": False,
        "is_encoder_decoder": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
