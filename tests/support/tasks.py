"""What a task makes of its files, or of TFDS's examples, or says against them."""

from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from seqio_tasks import catalogue, data_config, registry
from seqio_tasks.errors import RequestError
from seqio_tasks.records import Family, Task


def read(name: str, split: str) -> list[dict]:
    """Returns the raw examples of a task."""
    return list(registry.raw_examples(catalogue.task(name), split, data_config.configured()))


def texts(name: str, split: str) -> list[tuple[str, str]]:
    """Returns what a task makes of its files: (inputs, targets)."""
    source = registry.StudySource(catalogue.task(name))
    return _pairs(source.get_dataset(split, shuffle=False))


def complaint(name: str, split: str) -> str:
    """Returns what a task says of its data; one sentence, in one line."""
    with pytest.raises(RequestError) as caught:
        texts(name, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_tfds(task: Task, split: str, tmp_path: Path, examples: list[dict]) -> list:
    """Returns the texts of examples that went through the features of the task's data in TFDS."""
    found = task.family.source.tfds(task.language, split)
    assert found is not None
    features = tfds.builder(found[0], data_dir=tmp_path).info.features
    return preprocessed(task.family, features, task.language, examples)


def preprocessed(family: Family, features, language: str, examples: list[dict]) -> list:
    """Returns the texts of examples that went through features of TFDS."""
    records = [features.serialize_example(example) for example in examples]
    dataset = tf.data.Dataset.from_tensor_slices(records).map(features.deserialize_example)
    return _pairs(family.format.preprocess(dataset, language))


def _pairs(dataset: tf.data.Dataset) -> list[tuple[str, str]]:
    rows = dataset.as_numpy_iterator()
    return [(row["inputs"].decode(), row["targets"].decode()) for row in rows]
