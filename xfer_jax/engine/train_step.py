"""One step of training, compiled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from xfer_jax.checkpoints import store
from xfer_jax.mt5 import model, optimizer, partitioning
from xfer_jax.mt5.loss import MAX_LOGITS, sequence_loss
from xfer_jax.mt5.model import Transformer

# T5X's name for a LOSS_NORMALIZING_FACTOR that is each batch's number of target tokens without
# padding. The gradient is then the mean over target tokens, and does not grow with the batch.
PER_TARGET_TOKEN: Literal["NUM_REAL_TARGET_TOKENS"] = "NUM_REAL_TARGET_TOKENS"


def train_step(
    module: Transformer,
    z_loss: float,
    normalizing_factor: float | str,
    shards: int,
    max_logits: int,
    params: dict,
    state: optax.FactoredState,
    batch: dict[str, jax.Array],
    seed: jax.Array,
    learning_rate: jax.Array,
) -> tuple[dict, optax.FactoredState, dict[str, jax.Array]]:
    """Updates the parameters once; returns them, the optimizer's state and the sums of the loss.

    Args:
      module: the network.
      z_loss: see `sequence_loss`.
      normalizing_factor: divides the summed loss; PER_TARGET_TOKEN: the number of target tokens of
        the batch, on all devices together.
      shards: see `sequence_loss`.
      max_logits: see `sequence_loss`; of all devices together.
      params: the parameters.
      state: of the optimizer; its `count` is the step.
      batch: features by the names of `Transformer.__call__`; and `target_positions`, if the loss is
        computed at these positions only, see `packing.Layout`.
      seed: of dropout, together with the step.
      learning_rate: of this step.
    """
    dropout = jax.random.fold_in(jax.random.key(seed), state.count)
    batch = dict(batch)
    positions = batch.pop("target_positions", None)
    table = params["token_embedder"]["embedding"]
    ids, batch = _renumbered(batch, len(table))
    looked_up = params | {"token_embedder": {"embedding": table.at[ids].get(mode="clip")}}
    module = Transformer(dataclasses.replace(module.config, vocab_size=len(ids)))

    def states_of(params: dict) -> jax.Array:
        hidden = model.call(
            module,
            params,
            "forward",
            **batch,
            enable_dropout=module.config.dropout_rate > 0,
            rngs={"dropout": dropout},
        )
        return hidden if positions is None else _at(hidden, positions)

    targets = batch["decoder_target_tokens"]
    if positions is not None:
        targets = jnp.where(positions >= 0, _at(targets, positions), 0)
    factor: Any = normalizing_factor
    if normalizing_factor == PER_TARGET_TOKEN:
        factor = jnp.maximum(
            jnp.sum(targets > 0, dtype=jnp.float32), 1.0
        )  # a batch of padding only: 0 / 1
    hidden, to_params = jax.vjp(states_of, looked_up)
    kernel = params["decoder"]["logits_dense"]["kernel"]
    sums, back = sequence_loss(
        hidden, kernel, targets, targets > 0, z_loss, shards, max_logits, factor
    )
    (gradients,) = to_params(back.to_hidden)
    # The gradient of the kernel is as large as all states: compute it after those are freed.
    last = gradients["token_embedder"]["embedding"]
    gradients["decoder"]["logits_dense"] = {"kernel": back.to_kernel(last[0, 0])}
    rows = optimizer.Rows(ids, gradients["token_embedder"]["embedding"])
    gradients["token_embedder"] = {"embedding": rows}
    return *optimizer.update(params, gradients, state, learning_rate), sums._asdict()


def _at(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns the values of x [rows, L, …] at positions [shares, N] in the rows of each share."""
    of_shares = x.reshape(len(positions), -1, *x.shape[2:])
    where = jnp.maximum(positions, 0).reshape(*positions.shape, *[1] * (x.ndim - 2))
    return jnp.take_along_axis(of_shares, where, axis=1)


def _renumbered(
    batch: dict[str, jax.Array], vocab_size: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Renumbers the tokens of a batch from 0, as if the vocabulary contained no others.

    A batch uses about a hundredth of mT5's embedding. Gradient and update of these rows only are
    much smaller than those of the whole table.

    Returns:
      ids: int32 [N], the tokens in order, padding (0) first; filled up with `vocab_size`, which is
        not a token.
      batch: the batch with the new numbers. Targets keep their numbers, because the embedding is
        not used for them.
    """
    names = ("encoder_input_tokens", "decoder_input_tokens")
    tokens = jnp.concatenate(
        [jnp.zeros(1, jnp.int32), *(batch[name].reshape(-1) for name in names)]
    )
    size = min(tokens.size, vocab_size)
    ids = jnp.unique(tokens, size=size, fill_value=vocab_size)
    new = {name: jnp.searchsorted(ids, batch[name]).astype(jnp.int32) for name in names}
    return ids, batch | new


@functools.cache
def layout(config: model.Config, mesh: Mesh) -> dict:
    """Returns the shapes, dtypes and shardings of the arrays of a checkpoint, as a tree."""
    like, axes = store.shapes(config), model.logical_axes(config)
    slot_axes = jax.tree.map(
        lambda names, leaf, slots: {
            slot: partitioning.slot_axes(names, leaf.shape, slot, array.shape)
            for slot, array in slots.items()
        },
        axes,
        like["target"],
        like["state"]["param_states"],
        is_leaf=lambda x: isinstance(x, tuple),
    )
    tree_axes = {"target": axes, "state": {"step": (), "param_states": slot_axes}}
    return partitioning.layout(mesh, tree_axes, like)


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled functions for a model on a mesh, which all runs of a process share."""

    initialise: Callable[..., dict]  # (seed) -> parameters
    fresh: Callable[..., optax.FactoredState]  # (parameters) -> state before the first update
    update: Callable[..., Any]  # (parameters, state, batch, seed, rate) -> as `train_step`


# Without this option, XLA's CPU backend copies donated arrays before it updates them.
_IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}


@functools.cache
def programs(config: model.Config, mesh: Mesh, z_loss: float, factor: float | str) -> Programs:
    """Returns the functions that runs of the same model, mesh and loss share."""
    like = layout(config, mesh)
    params = partitioning.shardings(like["target"])
    shards = partitioning.parts(mesh, "vocab", config.vocab_size)
    state = partitioning.shardings(store.optimizer_state(like, like["state"]["step"]))
    return Programs(
        jax.jit(functools.partial(model.initialise, config), out_shardings=params),
        jax.jit(optimizer.init, out_shardings=state),
        jax.jit(
            functools.partial(
                train_step, Transformer(config), z_loss, factor, shards, MAX_LOGITS * mesh.size
            ),
            donate_argnums=(0, 1),
            out_shardings=(params, state, partitioning.replicated(mesh)),
            compiler_options=_IN_PLACE if jax.default_backend() == "cpu" else None,
        ),
    )
