"""Probes: the plain text of a task's examples, masked, to see how well a model knows a language.

A probe asks for the objective of mT5's pre-training: texts stand one after another, cut into
pieces that fill the inputs, each masked by `span_corruption.deterministic`. (A text of fewer than
thirty tokens by itself would have one masked span, always at its end; no model was trained on
such.) The loss on the targets is LM_L of arXiv 2212.01757, the share of masked spans that are
predicted exactly its LM_EM.
"""

import dataclasses
from typing import Any

import gin

from seqio_tasks.errors import RequestError
from seqio_tasks.records import PROBE, Family
from seqio_tasks.sentencepiece_model import NUM_SENTINELS, Vocabulary


@gin.configurable(module="seqio_tasks.families.probes")
def mask_seed(seed: int = 0) -> int:
    """Returns the seed of the probes' masks.

    Args:
      seed: MASK_SEED, for gin to bind.

    Raises:
      RequestError: it is no whole number, or negative.
    """
    if type(seed) is not int or seed < 0:
        raise RequestError(f"MASK_SEED must be a whole number of at least 0, not {seed!r:.80}")
    return seed


def sentinels(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Returns the ids of the sentinels, which must count down from `<extra_id_0>`.

    A probe's files are read without the vocabulary: the first sentinel tells the others.

    Raises:
      RequestError: they do not count down.
    """
    first = vocabulary.sentinels[0]
    if vocabulary.sentinels != tuple(range(first, first - NUM_SENTINELS, -1)):
        raise RequestError(
            f"the vocabulary {vocabulary.name} does not count its sentinels down from"
            " <extra_id_0>, as mT5's does: it cannot be used for a probe"
        )
    return vocabulary.sentinels


def probe_of(family: Family) -> Family:
    """Returns the family of the same examples as plain text to be masked."""
    return dataclasses.replace(
        family,
        name=f"{PROBE}{family.name}",
        title=f"Probe of {family.title}",
        preprocess=lambda dataset, language: _plain(family, family.preprocess(dataset, language)),
        metric=None,
        strict_metric=None,
        score="",
        labels=(),
        answers_field=None,
        objective="probe",
        matched_size=None,
    )


def _plain(family: Family, dataset: Any) -> Any:
    """Turns formatted examples into plain text, as `targets`; text stays as it is."""
    import tensorflow as tf

    plain_text = family.plain_text
    if plain_text is None:
        return dataset

    def convert(inputs: bytes) -> bytes:
        return plain_text(inputs.decode("utf-8")).encode("utf-8")

    def as_targets(example: dict) -> dict:
        return {
            "targets": tf.ensure_shape(
                tf.numpy_function(convert, [example["inputs"]], tf.string), []
            )
        }

    return dataset.map(as_targets, num_parallel_calls=tf.data.AUTOTUNE)
