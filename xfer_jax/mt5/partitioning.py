"""The device mesh (data, model), the sharding of arrays over it, and its processes.

Parameters and the optimizer's moments are sharded by T5X's standard logical axis rules. Batches are
split along `data`; each process feeds the rows of its own devices. Scalars are on every device.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqio_tasks.errors import RequestError

_MESSAGE_BYTES = 4096  # of an error message that one process sends to the others


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Raises an error of one process in all processes, so that none waits for one that has ended.

    Raises:
      RequestError: the error of this process, or else of the first process with an error.
    """
    message = ""
    try:
        yield
    except RequestError as error:
        message = str(error)
        if jax.process_count() == 1:
            raise
    if jax.process_count() == 1:
        return
    sent = message.encode("utf-8", "replace")[:_MESSAGE_BYTES].ljust(_MESSAGE_BYTES)
    gathered = multihost_utils.process_allgather(np.frombuffer(sent, np.uint8))
    texts = [row.tobytes().decode("utf-8", "replace").rstrip() for row in np.asarray(gathered)]
    if message := message or next(filter(None, texts), ""):
        raise RequestError(message)


RULES: dict[str, str | None] = {
    "batch": "data",
    "vocab": "model",
    "embed": None,
    "mlp": "model",
    "heads": "model",
    "joined_kv": "model",
    "relpos_buckets": None,
}
Axes = tuple[str | None, ...]  # logical axes of an array; None is never sharded


# --- Devices --------------------------------------------------------------------------------------


def make_mesh(num_partitions: int = 1) -> Mesh:
    """Arranges all devices of all processes as (data, model).

    Args:
      num_partitions: devices that share one copy of the model (T5X's `num_partitions`).

    Raises:
      RequestError: `num_partitions` does not divide the number of devices.
    """
    # Neighbours share a model, within one process if possible.
    devices = np.asarray(sorted(jax.devices(), key=lambda d: (d.process_index, d.id)))
    if num_partitions < 1 or devices.size % num_partitions:
        raise RequestError(
            f"NUM_PARTITIONS {num_partitions} does not divide the number of devices; set it to a"
            f" divisor of {devices.size}"
        )
    return Mesh(devices.reshape(-1, num_partitions), ("data", "model"))


def sharding(mesh: Mesh, axes: Axes, shape: tuple[int, ...]) -> NamedSharding:
    """Returns the sharding of an array; an axis that the mesh does not divide is not sharded.

    Args:
      mesh: from `make_mesh`.
      axes: the logical axes of the array, names in RULES.
      shape: the shape of the array.
    """

    def mesh_axis_of(name: str | None, size: int) -> str | None:
        mesh_axis = RULES[name] if name else None
        return mesh_axis if mesh_axis and size % mesh.shape[mesh_axis] == 0 else None

    return NamedSharding(mesh, PartitionSpec(*map(mesh_axis_of, axes, shape)))


def parts(mesh: Mesh, name: str, size: int) -> int:
    """Returns the number of shards of a logical axis of this size."""
    (mesh_axis,) = sharding(mesh, (name,), (size,)).spec
    return mesh.shape[mesh_axis] if mesh_axis else 1


def layout(mesh: Mesh, axes: Any, shapes: Any) -> Any:
    """Returns the shapes and the shardings of a tree of arrays.

    Args:
      mesh: from `make_mesh`.
      axes: tree of logical axes, e.g. `model.logical_axes`.
      shapes: tree of arrays or shapes, of the same structure.

    Returns:
      Tree of `jax.ShapeDtypeStruct` with shardings.
    """
    return jax.tree.map(
        lambda names, leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding(mesh, names, leaf.shape)
        ),
        axes,
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def shardings(laid_out: Any) -> Any:
    """Returns the shardings of a tree from `layout`."""
    return jax.tree.map(lambda leaf: leaf.sharding, laid_out)


def slot_axes(axes: Axes, shape: tuple[int, ...], slot: str, slot_shape: tuple[int, ...]) -> Axes:
    """Returns the logical axes of a moment of Adafactor.

    As in optax and T5X, `v_row` of a factored matrix is the mean over the longer side, and `v_col`
    over the shorter one; if the sides are equal, over the second and the first.

    Args:
      axes: logical axes of the parameter.
      shape: shape of the parameter.
      slot: v, v_row, v_col or m.
      slot_shape: shape of the slot; (1,) if the parameter does not use it.
    """
    if slot_shape == shape:
        return axes
    if slot_shape == (1,):
        return (None,)
    shorter, longer = np.argsort(shape, kind="stable")
    return (axes[shorter if slot == "v_row" else longer],)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device has completely."""
    return NamedSharding(mesh, PartitionSpec())


# --- Processes ------------------------------------------------------------------------------------


def join(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Connects this process with the other processes of a run.

    Args:
      coordinator: `host:port` of process 0, the same for all.
      count: number of processes.
      index: index of this process, from 0. TPU pods, Slurm and Open MPI supply all three if None.

    Raises:
      RequestError: a value is missing, or the other processes cannot be reached.
    """
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"the processes cannot connect ({reason}); set --coordinator_address=HOST:PORT,"
            " --process_count=N and --process_index=I"
        ) from None


def is_first() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """Runs the body in the first process, then in the others, which find its files."""
    if not is_first():
        meet("the first process is done")
    try:
        yield
    finally:
        if is_first():
            meet("the first process is done")


def meet(where: str) -> None:
    """Waits until every process has called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def local_rows(mesh: Mesh, batch_size: int) -> slice:
    """Returns the rows of a batch that this process feeds to its devices."""
    split = NamedSharding(mesh, PartitionSpec("data"))
    indices = split.addressable_devices_indices_map((batch_size,)).values()
    bounds = [index[0].indices(batch_size) for index in indices if index]
    return slice(min(start for start, *_ in bounds), max(stop for _, stop, _ in bounds))


def place(mesh: Mesh, rows: Any) -> Any:
    """Places a batch on the mesh, split along `data`.

    Args:
      mesh: from `make_mesh`.
      rows: tree of arrays [rows, …], with the rows of `local_rows`.
    """
    split = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(
            split, x, (all_rows(mesh, len(x)), *x.shape[1:])
        ),
        rows,
    )


def split(mesh: Mesh, x: jax.Array, count: int) -> jax.Array:
    """Cuts a batch into parts that hold equally much of every device's rows, inside a program.

    Args:
      mesh: from `make_mesh`.
      x: [shares x count x n, …], cut along `data`.
      count: number of parts.

    Returns:
      [count, shares x n, …]; every part is cut along `data`, and no row moves between devices.
    """
    shares = mesh.shape["data"]
    by_share = x.reshape(shares, count, -1, *x.shape[1:]).swapaxes(0, 1)
    cut = NamedSharding(mesh, PartitionSpec(None, "data"))
    joined = by_share.reshape(count, -1, *x.shape[1:])
    return jax.lax.with_sharding_constraint(joined, cut)


def all_rows(mesh: Mesh, count: int) -> int:
    """Returns the rows of a batch, given the rows that this process feeds."""
    shares = mesh.shape["data"]
    here = local_rows(mesh, shares)
    return count * shares // (here.stop - here.start)


def fetch(array: jax.Array) -> np.ndarray:
    """Returns the whole array, in every process."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)
