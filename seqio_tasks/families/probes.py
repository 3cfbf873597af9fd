"""Probes: the masked plain text of a task's examples, to measure how well a model knows a language.

A probe uses the objective of mT5's pre-training, span corruption: texts are concatenated, split
into pieces that fill the inputs, and masked by `span_corruption.deterministic`. (A text of fewer
than thirty tokens would have a single masked span, always at its end; no model was trained on such
inputs.) The loss on the targets is LM_L of arXiv 2212.01757, and the share of masked spans that are
predicted exactly is its LM_EM.
"""

import dataclasses
from typing import Any

from seqio_tasks.errors import RequestError
from seqio_tasks.records import PROBE, Family, Format, Scoring
from seqio_tasks.sentencepiece_model import NUM_SENTINELS, Vocabulary


def sentinels(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Returns the ids of the sentinels, which must decrease by one from `<extra_id_0>`.

    The files of a probe are read without the vocabulary: the other sentinels follow from the first.

    Raises:
      RequestError: the ids do not decrease by one.
    """
    first = vocabulary.sentinels[0]
    if vocabulary.sentinels != tuple(range(first, first - NUM_SENTINELS, -1)):
        raise RequestError(
            f"the vocabulary {vocabulary.name} cannot be used for a probe: the ids of its sentinels"
            " do not decrease by one from <extra_id_0>, as in mT5's vocabulary"
        )
    return vocabulary.sentinels


def probe_of(family: Family) -> Family:
    """Returns the family with the same examples as plain text, for masking."""
    of, source, version = family.format, family.source, family.format.version
    if source.parts is not None:  # their texts, too, are plain
        parts = source.parts
        source = dataclasses.replace(source, parts=lambda split: tuple(map(probe_of, parts(split))))
        version = f"{version}.1"  # caches of before hold the labels instead of the texts
    return dataclasses.replace(
        family,
        name=f"{PROBE}{family.name}",
        title=f"Probe of {family.title}",
        source=source,
        format=Format(
            lambda dataset, language: _plain(of, of.preprocess(dataset, language)),
            objective="probe",
            version=version,
        ),
        scoring=Scoring(),
    )


def _plain(of: Format, dataset: Any) -> Any:
    """Converts formatted examples to plain text, as `targets`; plain text does not change."""
    import tensorflow as tf

    plain_text = of.plain_text
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
