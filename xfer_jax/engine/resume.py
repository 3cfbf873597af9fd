"""Where a run starts.

(1) MODEL_DIR holds checkpoints: from the latest that is whole; (2) else INITIAL_CHECKPOINT_PATH:
from there, with its step and optimizer state, as T5X does; (3) else a new model.
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
    """What a run starts from."""

    checkpoint: str | Path | None  # None: a new model
    resumed: bool  # the checkpoint is the run's own
    about: dict[str, Any]  # what it knows besides arrays
    inputs: dict[str, str]  # digests of what the run reads
    damaged: list[str]  # checkpoints of its own that are passed over, and why


def find(model_dir: Path, initial: str | None, vocab: Vocabulary) -> Origin:
    """Finds the checkpoint to start from, after removing what a killed run has left.

    Args:
      model_dir: the run's folder.
      initial: INITIAL_CHECKPOINT_PATH; None: a new model.
      vocab: that the run uses.

    Raises:
      RequestError: no such checkpoint, another vocabulary, or other inputs than those of before.
    """
    if partitioning.is_first():
        locations.tidy(model_dir)
        files.tidy(model_dir)
        files.tidy(model_dir / "inference_eval")
    partitioning.meet("leftovers are gone")
    own, damaged = locations.latest(model_dir)
    checkpoint: str | Path | None = own
    inputs = {"vocabulary": vocab.digest}
    if initial:
        try:
            located = locations.locate(initial)
        except RequestError:
            if own is None:  # else it is no longer needed
                raise
        else:
            inputs["initial checkpoint"] = checksums.identity(located)
            checkpoint = own or located
    run_folder.check_inputs(model_dir, inputs)
    about = run_file.about(checkpoint) if checkpoint else {}
    if checkpoint:
        run_file.check_vocabulary(checkpoint, about, vocab)
    return Origin(checkpoint, own is not None, about, inputs, damaged)


def restore(
    origin: Origin, config: model.Config, mesh: Mesh, shared: train_step.Programs, seed: int
) -> tuple[dict, optax.FactoredState, int]:
    """Returns the parameters, the optimizer's state and the step that a run starts with."""
    if origin.checkpoint:
        # Of a run's own checkpoint `locations.latest` has compared the hashes just now.
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
