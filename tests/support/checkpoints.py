"""Checkpoints of a tiny model: what is in them, what is asked of them, what is said of them."""

import os
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from flax import serialization
from flax.traverse_util import flatten_dict

from seqio_tasks.errors import RequestError
from tests.support.files import flip
from xfer_jax.checkpoints import store
from xfer_jax.engine import train_step
from xfer_jax.mt5 import model, partitioning

STEP = 1_000_007
# Some sides reach 128, so that both kinds of moments, factored and whole, occur; no two are equal.
TINY = model.Config(
    vocab_size=256,
    emb_dim=128,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=2,
)


def flat(tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in flatten_dict(tree, sep="/").items()}


def like(config=TINY):
    """What training asks of a checkpoint."""
    return train_step.layout(config, partitioning.make_mesh())


def parameters_like(config=TINY):
    """What evaluation asks of a checkpoint."""
    asked = like(config)
    return {"target": asked["target"], "state": {"step": asked["state"]["step"]}}


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


def all_files(folder) -> list:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip_any(file: Path, rng: np.random.Generator) -> None:
    """Flips one bit of a file, where chance has it."""
    flip(file, int(rng.integers(8 * file.stat().st_size)))


def arrays(checkpoint: Path) -> dict[str, np.ndarray]:
    """Returns what Orbax reads of a checkpoint's arrays."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        return flat(checkpointer.restore(checkpoint / "state"))


def is_spec(_, leaf: dict) -> bool:
    """T5X's own test of a leaf that stands for an array in a folder."""
    return {"driver", "kvstore", "metadata"} <= leaf.keys()


def legacy_tree(path: Path) -> dict:
    """Returns the leaves of the msgpack file in T5X's older layout."""
    content = serialization.msgpack_restore((path / "checkpoint").read_bytes())
    assert content["version"] == 3
    return flatten_dict(content["optimizer"], is_leaf=is_spec, sep="/")


def legacy_arrays(path: Path) -> dict[str, np.ndarray]:
    """Follows T5X: a leaf of the msgpack file is an array, or a TensorStore spec to be opened."""
    leaves = legacy_tree(path)
    for name, leaf in leaves.items():
        if isinstance(leaf, dict):
            leaf["kvstore"]["path"] = os.path.join(path, leaf["kvstore"]["path"])
            leaves[name] = ts.open(ts.Spec(leaf), open=True).result().read().result()
    return leaves
