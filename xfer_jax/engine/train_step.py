"""One step of training, compiled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from xfer_jax.checkpoints import store
from xfer_jax.mt5 import model, optimizer, partitioning
from xfer_jax.mt5.loss import MAX_LOGITS, Sums, sequence_loss
from xfer_jax.mt5.model import Transformer

# T5X's name for a LOSS_NORMALIZING_FACTOR that is each batch's number of target tokens without
# padding. The gradient is then the mean over target tokens, and does not grow with the batch.
PER_TARGET_TOKEN: Literal["NUM_REAL_TARGET_TOKENS"] = "NUM_REAL_TARGET_TOKENS"


@dataclasses.dataclass(frozen=True)
class Update:
    """What a compiled step is made for, beside the model and its mesh."""

    z_loss: float  # see `sequence_loss`
    # divides the summed loss; PER_TARGET_TOKEN: the number of target tokens of the batch, on all
    # devices together
    normalizing_factor: float | str
    microbatches: int = 1  # parts of a batch that are computed one after another


def train_step(
    module: Transformer,
    mesh: Mesh,
    settings: Update,
    max_logits: int,
    params: dict,
    state: optax.FactoredState,
    batch: dict[str, jax.Array],
    seed: jax.Array,
    learning_rate: jax.Array,
) -> tuple[dict, optax.FactoredState, dict[str, jax.Array]]:
    """Updates the parameters once; returns them, the optimizer's state and the sums of the loss.

    Micro-batches are computed one after another and their gradients are added, so that a batch of
    any size fits the device. But for the order of sums, the update does not depend on their number
    if nothing is dropped out; dropout draws other masks for each number of them.

    Args:
      module: the network.
      mesh: of the devices.
      settings: of the update.
      max_logits: see `sequence_loss`; of all devices together.
      params: the parameters.
      state: of the optimizer; its `count` is the step.
      batch: features by the names of `Transformer.__call__`; and `target_positions`, if the loss is
        computed at these positions only, see `packing.Layout`.
      seed: of dropout, together with the step.
      learning_rate: of this step.
    """
    dropout = jax.random.fold_in(jax.random.key(seed), state.count)
    table = params["token_embedder"]["embedding"]
    factor: Any = settings.normalizing_factor
    if factor == PER_TARGET_TOKEN:
        tokens = jnp.sum(batch["decoder_target_tokens"] > 0, dtype=jnp.float32)
        factor = jnp.maximum(tokens, 1.0)  # of padding alone: 0 / 1
    ids, batch = _renumbered(batch, len(table))
    looked_up = params | {"token_embedder": {"embedding": table.at[ids].get(mode="clip")}}
    shards = partitioning.parts(mesh, "vocab", module.config.vocab_size)
    module = Transformer(dataclasses.replace(module.config, vocab_size=len(ids)))

    loss = functools.partial(
        sequence_loss,
        z_loss=settings.z_loss,
        shards=shards,
        max_logits=max_logits,
        normalizing_factor=factor,
    )

    def add(total: tuple, part: tuple[dict[str, jax.Array], jax.Array]) -> tuple[tuple, None]:
        return jax.tree.map(jnp.add, total, _gradients(module, loss, looked_up, *part)), None

    count = settings.microbatches
    if count == 1:
        sums, gradients = _gradients(module, loss, looked_up, batch, dropout)
    else:
        parts = {name: partitioning.split(mesh, x, count) for name, x in batch.items()}
        keys = jax.vmap(functools.partial(jax.random.fold_in, dropout))(jnp.arange(count))
        nothing = Sums(*[jnp.zeros((), jnp.float32)] * 4), jax.tree.map(jnp.zeros_like, looked_up)
        (sums, gradients), _ = lax.scan(add, nothing, (parts, keys))
    rows = optimizer.Rows(ids, gradients["token_embedder"]["embedding"])
    gradients["token_embedder"] = {"embedding": rows}
    return *optimizer.update(params, gradients, state, learning_rate), sums._asdict()


def _gradients(
    module: Transformer,
    loss: Callable[..., Any],
    params: dict,
    batch: dict[str, jax.Array],
    dropout: jax.Array,
) -> tuple[Sums, dict]:
    """Returns the loss's sums and the gradients of a batch, or of a part of one.

    Args:
      module: the network.
      loss: `sequence_loss` with its settings.
      params: the parameters, of the embedding only the rows that are looked up.
      batch: see `train_step`, with the numbers of those rows.
      dropout: key of the dropout.
    """
    batch = dict(batch)
    positions = batch.pop("target_positions", None)

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
    hidden, to_params = jax.vjp(states_of, params)
    kernel = params["decoder"]["logits_dense"]["kernel"]
    sums, back = loss(hidden, kernel, targets, targets > 0)
    (gradients,) = to_params(back.to_hidden)
    # The gradient of the kernel is as large as all states: compute it after those are freed.
    last = gradients["token_embedder"]["embedding"]
    gradients["decoder"]["logits_dense"] = {"kernel": back.to_kernel(last[0, 0])}
    return sums, gradients


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
    """What is compiled to begin a run; all runs of a process share it."""

    initialise: Callable[..., dict]  # (seed) -> parameters
    fresh: Callable[..., optax.FactoredState]  # (parameters) -> state before the first update


@functools.cache
def programs(config: model.Config, mesh: Mesh) -> Programs:
    """Returns the functions that runs of the same model and mesh share."""
    params, state = _shardings(config, mesh)
    return Programs(
        jax.jit(functools.partial(model.initialise, config), out_shardings=params),
        jax.jit(optimizer.init, out_shardings=state),
    )


# Without this option, XLA's CPU backend copies donated arrays before it updates them.
_IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}


@functools.cache
def compiled(config: model.Config, mesh: Mesh, settings: Update) -> Callable[..., Any]:
    """Returns `train_step` of a model, a mesh and settings, compiled when it is first called.

    Returns:
      A function (parameters, state, batch, seed, learning rate), which donates the first two.
    """
    params, state = _shardings(config, mesh)
    step = functools.partial(
        train_step, Transformer(config), mesh, settings, MAX_LOGITS * mesh.size
    )
    return jax.jit(
        step,
        donate_argnums=(0, 1),
        out_shardings=(params, state, partitioning.replicated(mesh)),
        compiler_options=_IN_PLACE if jax.default_backend() == "cpu" else None,
    )


def _shardings(config: model.Config, mesh: Mesh) -> tuple[Any, Any]:
    like = layout(config, mesh)
    state = store.optimizer_state(like, like["state"]["step"])
    return partitioning.shardings(like["target"]), partitioning.shardings(state)
