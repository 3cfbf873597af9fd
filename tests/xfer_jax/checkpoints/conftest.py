"""What the checkpoints' tests share: one state, as a tree and in every form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.checkpoints import STEP, TINY, flat
from xfer_jax.checkpoints import convert, store
from xfer_jax.mt5 import model, optimizer


@pytest.fixture(scope="session")
def state():
    """A run's parameters and moments, in which every array is different."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype), model.parameter_shapes(TINY)
    )
    moments = jax.tree.map(
        lambda x: jnp.asarray(rng.random(x.shape), x.dtype) if x.ndim else x, optimizer.init(params)
    )
    return params, moments._replace(count=jnp.asarray(STEP, jnp.int32))


@pytest.fixture(scope="session")
def tree(state):
    return store.to_tree(*state, STEP)


@pytest.fixture(scope="session")
def truth(tree):
    return flat(tree)


@pytest.fixture(scope="module")
def forms(tree, tmp_path_factory):
    """The folder of the same checkpoint in every form."""
    folder = tmp_path_factory.mktemp("forms")
    about = {"task": "xfer_panx", "vocabulary": "a" * 64}
    found = {"native": store.save(folder / "native", tree, about)}
    for form in ("t5x", "t5x-legacy", "hf"):
        found[form] = convert.convert(str(found["native"]), str(folder / form), form)
    return found


@pytest.fixture
def saved(tmp_path, tree):
    """A run's folder with its checkpoint, and the tree that is in it."""
    return store.save(tmp_path / "run", tree, {"first_step": 1_000_000, "task": "x"}), tree
