"""The device mesh (data, model), and where each array of a run lies on it.

Parameters follow logical axis rules, T5X's standard ones; batches are cut along `data`; the
optimizer's factored moments (vectors) and scalars are on every device.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqio_tasks.errors import RequestError

RULES: dict[str, str | None] = {
    "batch": "data",
    "vocab": "model",
    "embed": None,
    "mlp": "model",
    "heads": "model",
    "joined_kv": "model",
    "relpos_buckets": None,
}


def make_mesh(num_partitions: int = 1) -> Mesh:
    """Arranges all devices as (data, model).

    Args:
      num_partitions: devices that share one copy of the model (T5X's `num_partitions`).

    Raises:
      RequestError: `num_partitions` does not divide the number of devices.
    """
    devices = np.asarray(jax.devices())
    if num_partitions < 1 or devices.size % num_partitions:
        raise RequestError(
            f"NUM_PARTITIONS {num_partitions} does not divide the {devices.size} devices here"
        )
    return Mesh(devices.reshape(-1, num_partitions), ("data", "model"))


def parameter_shardings(mesh: Mesh, axes: dict, shapes: dict) -> dict:
    """Maps the logical axes of each parameter to the mesh.

    Args:
      mesh: from `make_mesh`.
      axes: tree of tuples of logical axis names (`model.logical_axes`).
      shapes: tree of arrays or shapes, of the same structure.

    Returns:
      Tree of `NamedSharding`. An axis that the mesh does not divide is not cut.
    """

    def sharding(names: tuple[str, ...], leaf) -> NamedSharding:
        cuts = [
            RULES[name] if RULES[name] and size % mesh.shape[RULES[name]] == 0 else None
            for name, size in zip(names, leaf.shape, strict=True)
        ]
        return NamedSharding(mesh, PartitionSpec(*cuts))

    return jax.tree.map(sharding, axes, shapes, is_leaf=lambda x: isinstance(x, tuple))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is cut along `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))
