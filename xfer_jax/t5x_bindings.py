"""What gin alone cannot say when `t5x_configs/` translates this project's macros for T5X.

The gin files name these functions, and `Network`, this project's network with the signatures of
T5X's. A wrong request is refused before T5X starts to work, in the words of the native engine.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gin
import jax
import jax.numpy as jnp
from absl import logging

from seqio_tasks import catalogue, data_config, registry, vocabulary
from seqio_tasks.errors import RequestError
from xfer_jax import configuration
from xfer_jax.checkpoints import checksums, locations, run_file, store
from xfer_jax.checkpoints.arrays import is_remote
from xfer_jax.data import loader, selection, streams, token_cache
from xfer_jax.engine import prediction
from xfer_jax.mt5 import partitioning
from xfer_jax.mt5.model import Transformer

_NEVER = 10**9  # steps; longer than any run, so that T5X acts at the run's last step alone


def checked(model: Any, remat: bool = False) -> Any:
    """Returns T5X's model if configuration, model and vocabulary fit together.

    T5X itself notices neither a misspelt macro nor an embedding made for another vocabulary.

    Args:
      model: `t5x.models.EncoderDecoderModel`.
      remat: REMAT, which this project's network knows and T5X's does not.

    Raises:
      RequestError: a macro that nothing uses or that must be set, another vocabulary, or REMAT.
    """
    if remat and not isinstance(model.module, Transformer):
        raise RequestError(
            "REMAT is known to xfer-jax's network alone: add"
            " --gin_file=t5x_configs/native_network.gin, or leave it out"
        )
    configuration.check_macros(gin.config_str(), "gin/runs", "t5x_configs")
    vocabulary.load_for(data_config.configured(), model.module.config.vocab_size)
    return model


def by_method(method: prediction.Method, greedy: Any, beam: Any) -> Any:
    """Returns what T5X does for PREDICT_BY.

    Raises:
      RequestError: the method is neither greedy nor beam.
    """
    if method.name == prediction.LABELS:
        raise RequestError(
            f"PREDICT_BY {prediction.LABELS!r} is known to xfer-jax alone; T5X has"
            f" {prediction.GREEDY!r} and {prediction.BEAM!r}"
        )
    return greedy if method.name == prediction.GREEDY else beam


# --- Folders, checkpoints and steps ---------------------------------------------------------------


def folder(path: str) -> str:
    """Returns the whole path: with a relative one, T5X trains to the end and then cannot save."""
    return path if is_remote(path) else str(Path(path).expanduser().absolute())


def checkpoint(path: str | None) -> str | None:
    """Returns the checkpoint's own folder, `checkpoint_<step>`, of what a user names.

    Args:
      path: a checkpoint or a run's folder, local or gs://; None for none.

    Raises:
      RequestError: there is none, it is damaged, T5X cannot read it, or it was trained with another
        vocabulary.
    """
    if path is None:
        return None
    location = locations.locate(path)
    if locations.form(location) == "hf":
        raise RequestError(
            f"{location} is a checkpoint of Hugging Face's, which T5X does not read; convert it:"
            " xfer-jax convert --from hf --to t5x"
        )
    used = vocabulary.of(data_config.configured())
    with checksums.verified(location):  # T5X itself compares no hashes
        run_file.check_vocabulary(location, run_file.about(location), used)
    return str(location)


def last_step(
    checkpoint: str | None, train_steps: int | None, train_steps_relative: int | None
) -> int:
    """Returns the step that a run ends with.

    T5X counts relative steps from where a process starts, and so trains longer whenever a run is
    taken up again. Here they count from the initial checkpoint.

    Args:
      checkpoint: the initial one, from `checkpoint`.
      train_steps: the total.
      train_steps_relative: instead, if not None: how many after the initial checkpoint.

    Raises:
      RequestError: neither is set.
    """
    if train_steps_relative is None and train_steps is None:
        raise RequestError("how long to train is not said: set TRAIN_STEPS or TRAIN_STEPS_RELATIVE")
    if train_steps_relative is None:
        assert train_steps is not None
        return train_steps
    return train_steps_relative + (store.read(checkpoint).step if checkpoint else 0)


def period(steps: int | None, other: int | None) -> int:
    """Returns a period for T5X, which does nothing at all when a period is None.

    Args:
      steps: between two actions; None: only at the end of the run.
      other: the period of other actions; T5X wants one to be a multiple of the other.
    """
    return steps or _NEVER * (other or 1)


# --- Tasks ----------------------------------------------------------------------------------------


def batch_rows(batch_size: int | None, batch_tokens: int | None, lengths: Mapping[str, int]) -> int:
    """Returns the rows of a batch: BATCH_SIZE, or as many as have BATCH_TOKENS, as in the release.

    Raises:
      RequestError: both are set, or none.
    """
    if (batch_size is None) == (batch_tokens is None):
        raise RequestError("set BATCH_SIZE or BATCH_TOKENS, and the other to None")
    return batch_size or max(1, (batch_tokens or 0) // lengths["inputs"])


def packed(pack: bool | None, batch_tokens: int | None) -> bool:
    """Returns whether T5X packs examples into rows: PACK, or else whether BATCH_TOKENS is set."""
    return batch_tokens is not None if pack is None else pack


def training_task(
    name: str,
    split: str,
    lengths: Mapping[str, int],
    long_targets: Literal["error", "drop", "trim"],
    mixing_temperature: float | None = None,
    select_by: str = "last",
    test_split: str | None = None,
) -> str:
    """Registers what to train on, and says what its lengths cut.

    Args:
      name: MIXTURE_OR_TASK_NAME.
      split: of the data.
      lengths: TASK_FEATURE_LENGTHS.
      long_targets: `error`, `drop` or `trim`, for targets that their length would cut.
      mixing_temperature: MIXING_TEMPERATURE, which must be None: SeqIO's mixtures have equal parts.
      select_by: SELECT_BY, which must be 'last'.
      test_split: TEST_SPLIT, which must be None.

    Raises:
      RequestError: as the native engine refuses it, targets that would be cut among the reasons.
    """
    if mixing_temperature is not None:
        raise RequestError(
            "MIXING_TEMPERATURE is known to xfer-jax alone; T5X mixes tasks in equal parts"
        )
    if select_by != "last" or test_split is not None:
        raise RequestError(
            "SELECT_BY and TEST_SPLIT are known to xfer-jax alone: leave them out, keep all"
            " checkpoints by KEEP_CHECKPOINTS = None, and evaluate them with `xfer-jax eval`"
        )
    registry.get(name)
    tasks, config = catalogue.tasks(name), data_config.configured()
    data = selection.TrainingData(name, dict(lengths), split, long_targets=long_targets)
    with partitioning.first_goes_first():
        found = loader.training_input(tasks, data, config, 1, 0)
    logging.info(
        "%s: %d examples, %d inputs are cut to %d tokens, %d targets are too long (%s)",
        *(name, found.examples, found.truncated_inputs, lengths["inputs"]),
        *(found.long_targets, long_targets),
    )
    return name


def longest_target(lengths: Mapping[str, int], long_targets: str) -> int | None:
    """Returns how long a training target may be, or it is left out; None: however long.

    Args:
      lengths: TASK_FEATURE_LENGTHS.
      long_targets: LONG_TARGETS.
    """
    return lengths["targets"] if long_targets == "drop" else None


def evaluation(
    tasks: Sequence[str],
    split: str,
    lengths: Mapping[str, int] | None,
    dataset: Callable[..., Any],
    mode: str | None = None,
) -> Any:
    """Returns T5X's configuration of what to evaluate on; None if there is no task.

    Args:
      tasks: their names.
      split: of each; T5X would leave out those without it, and say nothing.
      lengths: most tokens of each feature; None: those of the longest example.
      dataset: makes `t5x.utils.DatasetConfig` from task, split and lengths.
      mode: of inference, `predict` or `score`; None: training or evaluation.

    Raises:
      RequestError: no such task or split, or no metric; in mode `score`, targets that would be cut.
    """
    if not tasks and mode is None:
        return None
    mixture = registry.mixture(tasks)
    for task in (task for name in tasks for task in catalogue.tasks(name)):
        task.check_split(split)
        if mode is not None and task.family.format.objective == "probe":
            continue
        prediction.Method().check(task)
        if mode == "score" and lengths is not None:
            with partitioning.first_goes_first():
                cache = token_cache.open_cache(task, split, data_config.configured())
                streams.Supervised(cache, dict(lengths))
    return dataset(mixture_or_task_name=mixture, split=split, task_feature_lengths=lengths)


# --- The network ----------------------------------------------------------------------------------


class Network(Transformer):
    """This project's network as T5X's `EncoderDecoderModel` calls it: the same parameters.

    What was decoded so far is in the collection `cache`. T5X repeats and reorders the rows of all
    its arrays but `cache_index`.
    """

    def __call__(
        self,
        encoder_input_tokens,
        decoder_input_tokens,
        decoder_target_tokens,
        encoder_segment_ids=None,
        decoder_segment_ids=None,
        encoder_positions=None,
        decoder_positions=None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
    ) -> jax.Array:
        """Returns the logits [B, L, V]; with `decode`, makes empty caches of L positions too."""
        del encoder_positions, decoder_positions  # T5X's network does not use them either
        if decode:
            self.put_variable(
                "cache", "keys_values", self.empty_caches(*decoder_input_tokens.shape)
            )
            self.put_variable("cache", "cache_index", jnp.zeros((), jnp.int32))
        return super().__call__(
            encoder_input_tokens.astype(jnp.int32),  # T5X's eval asks for shapes with floats
            decoder_input_tokens.astype(jnp.int32),
            decoder_target_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            enable_dropout=enable_dropout,
        )

    def decode(
        self,
        encoded,
        encoder_input_tokens,
        decoder_input_tokens,
        decoder_target_tokens,
        *,
        enable_dropout: bool,
        decode: bool,
        max_decode_length: int,
    ) -> jax.Array:
        """Returns the logits [B, 1, V] after one more token, [B, 1]; T5X asks for nothing else."""
        assert decode
        assert not enable_dropout
        del decoder_target_tokens, max_decode_length  # the caches' length is known
        position: jax.Array = self.get_variable("cache", "cache_index")
        logits_BxV, caches = self.decode_step(
            decoder_input_tokens[:, 0],
            self.get_variable("cache", "keys_values"),
            position,
            self.cross_keys_values(encoded),
            encoder_input_tokens,
        )
        self.put_variable("cache", "keys_values", caches)
        self.put_variable("cache", "cache_index", position + 1)
        return logits_BxV[:, None]
