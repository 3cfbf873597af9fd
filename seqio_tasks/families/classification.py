"""Tasks with a closed set of labels, as text `xnli: premise: … hypothesis: …` -> a label."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from seqio_tasks import metrics, strict_metrics
from seqio_tasks.records import Format, Scoring

Field = str | tuple[str, int]  # a field of an example, or an item of a field that is a list


def text_format(
    task: str, parts: Mapping[str, Field], labels: tuple[str, ...], unnatural: str | None = None
) -> Format:
    """Returns the text format of a task.

    Args:
      task: first word of the inputs, such as `xnli:`.
      parts: the field of each part of the inputs, by the name of the part in the inputs.
      labels: the targets, by the index in the field `label`.
      unnatural: the part that is not text of the language, but a word of the format.
    """
    prompts = [f" {part}: " for part in parts]

    def preprocess(dataset: Any, language: str) -> Any:
        """Makes `inputs` and `targets` from the parts and the index of the label."""
        import tensorflow as tf

        del language

        def as_text(example):
            pieces = [task]
            for prompt, field in zip(prompts, parts.values(), strict=True):
                text = example[field] if isinstance(field, str) else example[field[0]][field[1]]
                pieces += [prompt, text]
            return {
                "inputs": tf.strings.join(pieces),
                "targets": tf.gather(tf.constant(labels), example["label"]),
            }

        return dataset.map(as_text, num_parallel_calls=tf.data.AUTOTUNE)

    def plain_text(inputs: str) -> str:
        """Returns the parts, joined by spaces."""
        rest, texts = inputs.removeprefix(task + prompts[0]), []
        for part, prompt in [*zip(parts, prompts, strict=True)][:0:-1]:
            rest, _, text = rest.rpartition(prompt)
            if part != unnatural:
                texts.append(text)
        return " ".join([rest, *reversed(texts)])

    return Format(preprocess, plain_text=plain_text, labels=labels)


def scoring(labels: Sequence[str]) -> Scoring:
    """Returns the scoring of a task with these labels: accuracy."""
    strict = functools.partial(strict_metrics.accuracy, labels=labels)
    return Scoring(metrics.accuracy, strict, "accuracy")
