"""The device mesh (data, model), where each array of a run lies on it, and the processes it spans.

Parameters and the optimizer's moments follow logical axis rules, T5X's standard ones; batches are
cut along `data`, each process feeding the rows of its own devices; scalars are on every device.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqio_tasks.errors import RequestError

_SAID_BYTES = 4096  # of what one process tells the others


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Has an error of one process raised in all; else the others would wait for one that is gone.

    Raises:
      RequestError: of this process, or of the first that has one.
    """
    said = ""
    try:
        yield
    except RequestError as error:
        said = str(error)
        if jax.process_count() == 1:
            raise
    if jax.process_count() == 1:
        return
    mine = np.frombuffer(said.encode("utf-8", "replace")[:_SAID_BYTES].ljust(_SAID_BYTES), np.uint8)
    everyone = multihost_utils.process_allgather(mine)
    texts = [row.tobytes().decode("utf-8", "replace").rstrip() for row in np.asarray(everyone)]
    said = said or next(filter(None, texts), "")
    if said:
        raise RequestError(said)


RULES: dict[str, str | None] = {
    "batch": "data",
    "vocab": "model",
    "embed": None,
    "mlp": "model",
    "heads": "model",
    "joined_kv": "model",
    "relpos_buckets": None,
}
Axes = tuple[str | None, ...]  # an array's logical axes; None is never cut


# --- Devices --------------------------------------------------------------------------------------


def make_mesh(num_partitions: int = 1) -> Mesh:
    """Arranges all devices of all processes as (data, model).

    Args:
      num_partitions: devices that share one copy of the model (T5X's `num_partitions`).

    Raises:
      RequestError: `num_partitions` does not divide the number of devices.
    """
    # Neighbours share a model: those of one process as far as they go.
    devices = np.asarray(sorted(jax.devices(), key=lambda d: (d.process_index, d.id)))
    if num_partitions < 1 or devices.size % num_partitions:
        raise RequestError(
            f"NUM_PARTITIONS {num_partitions} does not divide the {devices.size} devices here"
        )
    return Mesh(devices.reshape(-1, num_partitions), ("data", "model"))


def sharding(mesh: Mesh, axes: Axes, shape: tuple[int, ...]) -> NamedSharding:
    """Maps an array's logical axes to the mesh; an axis that the mesh does not divide is not cut.

    Args:
      mesh: from `make_mesh`.
      axes: one name an axis, each in RULES.
      shape: of the array.
    """

    def cut(name: str | None, size: int) -> str | None:
        mesh_axis = RULES[name] if name else None
        return mesh_axis if mesh_axis and size % mesh.shape[mesh_axis] == 0 else None

    return NamedSharding(mesh, PartitionSpec(*map(cut, axes, shape)))


def parts(mesh: Mesh, name: str, size: int) -> int:
    """Returns into how many parts `sharding` cuts a logical axis of this size."""
    (mesh_axis,) = sharding(mesh, (name,), (size,)).spec
    return mesh.shape[mesh_axis] if mesh_axis else 1


def layout(mesh: Mesh, axes: Any, shapes: Any) -> Any:
    """Lays a tree of arrays out over the mesh.

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
    """Returns the logical axes of what Adafactor keeps of a parameter.

    Of a factored matrix `v_row` is the mean over its longer side and `v_col` over the shorter one
    (over the second and the first, if they are equal), as optax and T5X have it.

    Args:
      axes: the parameter's.
      shape: the parameter's.
      slot: v, v_row, v_col or m.
      slot_shape: of the slot; (1,) where the parameter does not use it.
    """
    if slot_shape == shape:
        return axes
    if slot_shape == (1,):
        return (None,)
    shorter, longer = np.argsort(shape, kind="stable")
    return (axes[shorter if slot == "v_row" else longer],)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


# --- Processes ------------------------------------------------------------------------------------


def join(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Makes this process one of several that compute together.

    Args:
      coordinator: `host:port` of process 0, the same for all.
      count: number of processes.
      index: this one's, from 0. On TPU pods, Slurm and Open MPI all three are found out when None.

    Raises:
      RequestError: nothing is found out, or the others cannot be reached.
    """
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"the processes cannot be joined ({reason}); say --coordinator_address=HOST:PORT,"
            " --process_count=N and --process_index=I"
        ) from None


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """Has the first process do the body, and then the others, which find what it left on disk."""
    if not is_first():
        meet("the first is through")
    try:
        yield
    finally:
        if is_first():
            meet("the first is through")


def meet(where: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def local_rows(mesh: Mesh, batch_size: int) -> slice:
    """Returns the rows of a batch that this process feeds to its devices."""
    cut = NamedSharding(mesh, PartitionSpec("data"))
    indices = cut.addressable_devices_indices_map((batch_size,)).values()
    bounds = [index[0].indices(batch_size) for index in indices if index]
    return slice(min(start for start, *_ in bounds), max(stop for _, stop, _ in bounds))


def place(mesh: Mesh, rows: Any) -> Any:
    """Lays a batch out over the mesh, cut along `data`.

    Args:
      mesh: from `make_mesh`.
      rows: tree of arrays [rows, …], those that `local_rows` names.
    """
    cut = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(
            cut, x, (all_rows(mesh, len(x)), *x.shape[1:])
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
    """Returns how many rows a batch has of which this process feeds so many."""
    shares = mesh.shape["data"]
    here = local_rows(mesh, shares)
    return count * shares // (here.stop - here.start)


def fetch(array: jax.Array) -> np.ndarray:
    """Returns the whole array to every process."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)
