"""Finds the checkpoint from which a run starts.

(1) If MODEL_DIR contains checkpoints, the latest undamaged one. (2) Otherwise
INITIAL_CHECKPOINT_PATH, including its step and optimizer state, as in T5X. (3) Otherwise none: a
new model.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from seqio_tasks.sentencepiece_model import Vocabulary
from xfer_jax.checkpoints import checksums, locations, run_file, store
from xfer_jax.engine import run_folder, train_step
from xfer_jax.mt5 import model, partitioning


class Origin(NamedTuple):
    """The checkpoint from which a run starts."""

    checkpoint: str | Path | None  # None: a new model
    resumed: bool  # the checkpoint is one of the run itself
    about: dict[str, Any]  # what the checkpoint contains besides the arrays
    inputs: dict[str, str]  # digests of what the run reads
    damaged: list[str]  # messages about checkpoints of the run that cannot be used


def find(folder: Path, initial: str | None, vocab: Vocabulary) -> Origin:
    """Finds the checkpoint to start from, and removes unfinished files of a killed run.

    Args:
      folder: the run's.
      initial: INITIAL_CHECKPOINT_PATH; None: a new model.
      vocab: the vocabulary of the run.

    Raises:
      RequestError: there is no such checkpoint; or it has another vocabulary; or the inputs are not
        those with which the run began.
    """
    if partitioning.is_first():
        locations.tidy(folder)
        files.tidy(folder)
        files.tidy(folder / "inference_eval")
    partitioning.meet("leftovers are gone")
    own, damaged = locations.latest(folder)
    checkpoint: str | Path | None = own
    inputs = {"vocabulary": vocab.digest}
    if initial:
        try:
            located = locations.locate(initial)
        except RequestError:
            if own is None:  # otherwise it is no longer needed
                raise
        else:
            inputs["initial checkpoint"] = checksums.identity(located)
            checkpoint = own or located
    run_folder.check_inputs(folder, inputs)
    about = run_file.about(checkpoint) if checkpoint else {}
    if checkpoint:
        run_file.check_vocabulary(checkpoint, about, vocab)
    return Origin(checkpoint, own is not None, about, inputs, damaged)


def restore(
    origin: Origin, config: model.Config, mesh: Mesh, shared: train_step.Programs, seed: int
) -> tuple[dict, optax.FactoredState, int]:
    """Returns the parameters, the state of the optimizer and the step at the start of a run."""
    if origin.checkpoint:
        # `locations.latest` has just compared the hashes of the run's own checkpoint.
        layout, compare = train_step.layout(config, mesh), not origin.resumed
        tree = store.restore(origin.checkpoint, layout, compare_hashes=compare)
        params, step = tree["target"], int(tree["state"]["step"])
    else:
        tree, params, step = {"state": {}}, shared.initialise(np.uint32(seed)), 0
    if "param_states" in tree["state"]:
        state = store.optimizer_state(tree, None)
    else:
        state = shared.fresh(params)
    counter = jax.device_put(np.asarray(step, np.int32), partitioning.replicated(mesh))
    return params, state._replace(count=counter), step
