"""The checkpoint that a command evaluates: where it is, its model, and its devices."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gin
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from seqio_tasks import vocabulary
from seqio_tasks.data_config import DataConfig
from seqio_tasks.sentencepiece_model import Vocabulary
from seqio_tasks.settings import Count, Line, settings
from xfer_jax.checkpoints import checksums, locations, run_file, store
from xfer_jax.mt5 import model, partitioning


@gin.configurable(module="xfer_jax.engine.checkpoint_spec")
@settings({"path": "CHECKPOINT_PATH"})
class CheckpointSpec:
    """Which checkpoint to read, the sizes of its model, and how to lay it out on the devices."""

    path: Line  # a checkpoint or a run's folder
    model: model.Config
    num_partitions: Count = 1  # devices that share one copy of the model

    def find(self, data_config: DataConfig) -> "Checkpoint":
        """Finds the checkpoint, and checks that it fits the vocabulary of the data.

        Raises:
          RequestError: there is no such checkpoint, or it was trained with another vocabulary.
        """
        vocab = vocabulary.load_for(data_config, self.model.vocab_size)
        location = locations.locate(self.path)
        about = run_file.about(location)
        run_file.check_vocabulary(location, about, vocab)
        return Checkpoint(self, location, about, vocab)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that fits the vocabulary. Its arrays are read by `restore` only."""

    spec: CheckpointSpec
    location: str | Path
    about: Mapping[str, Any]  # what it says about its training
    vocabulary: Vocabulary

    @functools.cached_property
    def inputs(self) -> dict[str, str]:
        """The digests of checkpoint and vocabulary, see `run_folder.check_inputs`."""
        return {
            "checkpoint": checksums.identity(self.location),
            "vocabulary": self.vocabulary.digest,
        }

    def restore(self) -> tuple[dict, int, Mesh]:
        """Reads the checkpoint.

        Returns:
          The parameters, laid out over the devices; the step; and the mesh of the devices.

        Raises:
          RequestError: see `store.restore`.
        """
        config, mesh = self.spec.model, partitioning.make_mesh(self.spec.num_partitions)
        axes, shapes = model.logical_axes(config), model.parameter_shapes(config)
        step = jax.ShapeDtypeStruct((), jnp.int32, sharding=partitioning.replicated(mesh))
        like = {"target": partitioning.layout(mesh, axes, shapes), "state": {"step": step}}
        tree = store.restore(self.location, like)
        return tree["target"], int(tree["state"]["step"]), mesh
