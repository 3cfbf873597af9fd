"""Predicts or scores the examples of a task with a model, on all devices."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import gin
import jax
import numpy as np
from jax.sharding import Mesh
from pydantic import Field

from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task
from seqio_tasks.sentencepiece_model import EOS_ID, Vocabulary
from seqio_tasks.settings import FromZero, settings
from xfer_jax.data import loader, streams, token_cache
from xfer_jax.data.token_cache import Cache
from xfer_jax.mt5 import decoding, partitioning
from xfer_jax.mt5.model import Transformer

GREEDY, BEAM, LABELS = "greedy", "beam", "labels"
Progress = Callable[[int], None]  # is called with the number of examples that are newly done


@gin.configurable(module="xfer_jax.engine.prediction")
@settings({"name": "PREDICT_BY", "alpha": "BEAM_ALPHA"})
class Method:
    """The method of prediction."""

    name: str = GREEDY  # or 'beam': beam search; 'labels': greedy within a fixed set of labels
    num_beams: Annotated[int, Field(ge=1, le=1024)] = 4
    alpha: FromZero = 0.6  # length penalty of beam search; 0: none

    def __post_init__(self):
        if self.name not in (GREEDY, BEAM, LABELS):
            raise RequestError(
                f"unknown PREDICT_BY {self.name!r}: there are {GREEDY!r}, {BEAM!r} and {LABELS!r}"
            )

    def check(self, task: Task) -> None:
        """Raises RequestError if a task cannot be evaluated, or not with this method."""
        if task.family.format.objective != "supervised":
            raise RequestError(f"{task.name} is text without targets: there is nothing to evaluate")
        if self.name == LABELS and not task.family.format.labels:
            raise RequestError(
                f"{task.name} has no closed set of labels: PREDICT_BY must be {GREEDY!r} or"
                f" {BEAM!r}"
            )


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model, and what it needs to predict. If there are several processes, all must call it."""

    module: Transformer
    params: dict
    mesh: Mesh
    vocabulary: Vocabulary
    lengths: streams.Lengths  # maximum numbers of tokens; of 'targets': also of outputs
    batch_size: int  # rounded up to a multiple of the number of devices that share the data
    method: Method = Method()  # noqa: RUF009 - it is frozen

    def predict(self, cache: Cache, progress: Progress = lambda n: None) -> tuple[list[str], int]:
        """Returns the outputs as text, in the order of the examples; and the number of cut inputs.

        Args:
          cache: the examples.
          progress: called after every batch.

        Raises:
          RequestError: the task cannot be evaluated with this method.
        """
        streams.check_lengths(self.lengths)
        if not isinstance(cache, streams.Masked):
            self.method.check(cache.task)
        labels = self._label_tokens(cache.task) if self.method.name == LABELS else None
        batches, truncated = self._batches(cache)
        outputs: dict[int, str] = {}
        for indices, inputs in batches:
            answers = partitioning.fetch(self._answer(self._place(inputs), labels))[: len(indices)]
            if labels is None:
                texts = [self.vocabulary.decode(row) for row in answers.tolist()]
            else:
                texts = [cache.task.family.format.labels[i] for i in answers]
            outputs.update(zip(indices.tolist(), texts, strict=True))
            progress(len(indices))
        return [outputs[i] for i in range(len(outputs))], truncated

    def predict_tokens(self, cache: Cache, progress: Progress = lambda n: None) -> list[list[int]]:
        """Returns the outputs as tokens, see `predict`, without the padding after their end."""
        streams.check_lengths(self.lengths)
        batches, _ = self._batches(cache)
        outputs: dict[int, list[int]] = {}
        for indices, inputs in batches:
            answers = partitioning.fetch(self._answer(self._place(inputs), None))[: len(indices)]
            rows = [row[: np.count_nonzero(row)].tolist() for row in answers]
            outputs.update(zip(indices.tolist(), rows, strict=True))
            progress(len(indices))
        return [outputs[i] for i in range(len(outputs))]

    def _answer(self, inputs: jax.Array, labels: decoding.Labels | None) -> jax.Array:
        """Returns tokens [B, L]; or with labels, the index of the chosen label [B]."""
        if labels is not None:
            return decoding.choose_label(self.module, self.params, inputs, labels)
        longest = self.lengths[token_cache.TARGETS]
        if self.method.name == GREEDY:
            return decoding.greedy_tokens(self.module, self.params, inputs, longest)
        beams, alpha = self.method.num_beams, self.method.alpha
        return decoding.beam_search(self.module, self.params, inputs, longest, beams, alpha)[0][
            :, 0
        ]

    def score(self, cache: Cache, progress: Progress = lambda n: None) -> list[float]:
        """Returns the summed log-probability of every example's target, in nats.

        Args:
          cache: the examples.
          progress: called after every batch.

        Raises:
          RequestError: the task has no targets, or a target is longer than the maximum.
        """
        if not isinstance(cache, streams.Masked):
            Method().check(cache.task)
        # Refuses targets that would be truncated, because their score would be wrong.
        streams.Supervised(cache, self.lengths)
        batches, _ = self._batches(cache)
        longest = self.lengths[token_cache.TARGETS]
        scores: dict[int, float] = {}
        for indices, inputs in batches:
            rows = [streams.ended(cache.tokens(token_cache.TARGETS, i), longest) for i in indices]
            targets = self._place(loader.pad_to_ladder(rows, len(inputs), longest))
            values = decoding.score(self.module, self.params, self._place(inputs), targets)
            values = partitioning.fetch(values)[: len(indices)]
            scores.update(zip(indices.tolist(), values.tolist(), strict=True))
            progress(len(indices))
        return [scores[i] for i in range(len(scores))]

    def _batches(self, cache: Cache) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
        share = self.mesh.shape["data"]
        size = -(-self.batch_size // share) * share
        return loader.evaluation_batches(cache, self.lengths[token_cache.INPUTS], size)

    def _place(self, batch: np.ndarray) -> jax.Array:
        rows = partitioning.local_rows(self.mesh, len(batch))
        return partitioning.place(self.mesh, batch[rows])

    def _label_tokens(self, task: Task) -> decoding.Labels:
        encoded = (self.vocabulary.encode(label) for label in task.family.format.labels)
        return tuple((*map(int, tokens), EOS_ID) for tokens in encoded)
