"""Registers the tasks of the catalogue with SeqIO; imports TensorFlow.

`import seqio_tasks.registry` registers every task in every language and their mixtures; `get` and
`mixture` register subsets (`….n100.s0`) on first use. Source, text format and vocabulary are looked
up when a data set is opened, not when it is registered, so that gin and the environment can set
them later.
"""

import functools
import hashlib
import importlib.util
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import requests  # of TFDS
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from seqio_tasks import (
    catalogue,
    data_config,
    files,
    raw_data,
    records,
    span_corruption,
    subsets,
    vocabulary,
)
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError
from seqio_tasks.families import probes
from seqio_tasks.records import ALL_LANGUAGES, Example, Task

# JAX uses the accelerators; TensorFlow only prepares data.
tf.config.set_visible_devices([], "GPU")


_BEAM_TOOLS = ("apache_beam", "mwparserfromhell", "mwxml")  # packages that are rarely installed


class StudyVocabulary(seqio.SentencePieceVocabulary):
    """SeqIO's SentencePiece vocabulary, of the file that `data_config.configured()` names.

    All instances are equal, even before the file is read, because they all use the same file.
    """

    _sentencepiece_model_file: str

    def __init__(self):
        super().__init__(sentencepiece_model_file="")

    def _model_context(self):
        path = vocabulary.of(data_config.configured()).name
        if path != self._sentencepiece_model_file:
            self._sentencepiece_model_file = path
            self._model = None
        return super()._model_context()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StudyVocabulary)

    __hash__ = None  # type: ignore[assignment]


def raw_examples(task: Task, split: str, config: DataConfig) -> Iterator[Example]:
    """Yields the examples of a task from the data folder, or as the family generates them."""
    source = task.family.source
    if source.make is not None:
        return source.make(task.language, split, config)
    return raw_data.read(task, split, config.data_dir)


def _signature(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _signature(inner) for key, inner in value.items()}
    kind = value[0] if isinstance(value, list) and value else value
    dtype = tf.int32 if isinstance(kind, int) else tf.string
    return tf.TensorSpec([None] if isinstance(value, list) else [], dtype)


def _from_examples(task: Task, split: str, config: DataConfig) -> tf.data.Dataset:
    examples = list(raw_examples(task, split, config))
    if not examples:
        raise RequestError(f"{task.name} ({split}) contains no example")
    return tf.data.Dataset.from_generator(
        lambda: iter(examples), output_signature=_signature(examples[0])
    )


def _from_tfds(task: Task, split: str, name: str, tfds_split: str) -> tf.data.Dataset:
    try:
        source = seqio.TfdsDataSource(name, _tfds_data_dir(), splits={split: tfds_split})
        _check_tools(source.tfds_dataset.builder)
        return source.get_dataset(split, shuffle=False)
    except Exception as error:  # whatever TFDS and the network raise, the remedy is the same
        raise RequestError(
            f"{task.name} ({split}) cannot be read from TFDS {name} ({_reason(error)}); prepare it"
            " on a machine with a network and set TFDS_DATA_DIR to its folder, or set XFER_DATA_DIR"
            " to a folder in XTREME's layout that contains"
            f" {' or '.join(task.family.source.files(task.language, split))}"
        ) from error


def _check_tools(builder: tfds.core.DatasetBuilder) -> None:
    """Refuses data sets that TFDS cannot prepare (Wikipedia), before it downloads gigabytes.

    Raises:
      ModuleNotFoundError: names the packages.
    """
    if not isinstance(builder, tfds.core.BeamBasedBuilder) or builder.is_prepared():
        return
    lacking = [name for name in _BEAM_TOOLS if importlib.util.find_spec(name) is None]
    if lacking:
        raise ModuleNotFoundError(
            f"TFDS needs the packages {', '.join(lacking)}, which are not installed"
        )


def _tfds_data_dir() -> str | None:
    """Returns the folder of TFDS's data, `TFDS_DATA_DIR`; None: TFDS's default.

    TFDS itself reads the variable only once, on import.
    """
    folder = os.environ.get("TFDS_DATA_DIR")
    return str(files.absolute(folder)) if folder and "://" not in folder else folder or None


def _reason(error: Exception) -> str:
    """Returns one line on why TFDS failed: the first line of its message."""
    if isinstance(error, requests.exceptions.ConnectionError):
        request = error.request
        host = urllib.parse.urlsplit(str(request.url)).hostname if request else None
        return f"no connection to {host or 'the network'}"
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0][:200]


def _preprocessed(task: Task, split: str, config: DataConfig) -> tf.data.Dataset:
    source = task.family.source
    found = source.tfds(task.language, split)
    if source.make is None and config.data_dir is None and found is not None:
        dataset = _from_tfds(task, split, *found)
    else:
        dataset = _from_examples(task, split, config)
    return task.family.format.preprocess(dataset, task.language)


class StudySource(seqio.DataSource):
    """The examples of one task with `inputs` and `targets` text.

    They are read from the data folder, generated by the family, or loaded from TFDS; then
    preprocessed by the family; then, for the training split of a subset, selected. There is a
    single shard, because a subset is drawn from all examples.

    Args:
      task: the task.
      config: where its examples come from; None: what gin and the environment set whenever they are
        read, for the registered tasks that T5X opens.
    """

    def __init__(self, task: Task, config: DataConfig | None = None):
        self._task, self._config = task, config
        super().__init__(splits=task.family.source.splits, caching_permitted=task.subset is None)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str) -> list[str]:
        return [split]

    def get_dataset(self, split, shuffle=True, seed=None, shard_info=None, *, num_epochs=1):
        dataset = self.examples(split)
        count = catalogue.evaluation_examples()
        if count is not None:
            dataset = _only(dataset, lambda texts: subsets.sample_indices(texts, count))
        if shuffle:
            dataset = dataset.shuffle(100_000, seed=seed)
        if shard_info and shard_info.num_shards > 1:
            dataset = dataset.shard(shard_info.num_shards, shard_info.index)
        return dataset.repeat(num_epochs)

    def examples(self, split: str) -> tf.data.Dataset:
        """Returns all examples of the task in source order, even if fewer are evaluated."""
        task, config = self._task, self._config or data_config.configured()
        first, *others = (_preprocessed(p, split, config) for p in raw_data.parts(task, split))
        dataset = functools.reduce(tf.data.Dataset.concatenate, others, first)
        if task.subset is not None and split == "train":
            dataset = _only(dataset, lambda texts: subsets.subset_indices(task, texts))
        return dataset


def _only(
    dataset: tf.data.Dataset, choose: Callable[[Sequence[str]], np.ndarray]
) -> tf.data.Dataset:
    """Keeps the examples whose indices `choose` selects, given the identity of every example."""
    texts = [_identity(example) for example in dataset.as_numpy_iterator()]
    chosen = np.zeros(len(texts), bool)
    chosen[choose(texts)] = True
    keep = tf.constant(chosen)
    return dataset.enumerate().filter(lambda i, _: keep[i]).map(lambda _, example: example)


def _identity(example: Mapping[str, bytes]) -> str:
    return subsets.identity(example.get("inputs", b"").decode(), example["targets"].decode())


def _references(task: Task):
    field = task.family.format.answers_field

    def postprocess(output: str, example: dict | None = None, is_target: bool = False):
        if is_target and field is not None and example is not None:
            return [tf.compat.as_text(answer) for answer in example[field]]
        return output

    return postprocess


def _without_long_targets(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Drops tokenised examples whose targets are longer than `longest_target`.

    It does not use the feature lengths, because SeqIO could then no longer find them itself.
    """
    longest = catalogue.longest_target()
    if longest is None:
        return dataset
    return dataset.filter(lambda example: tf.size(example["targets"]) < longest)


def _pieces(dataset: tf.data.Dataset, most: int) -> tf.data.Dataset:
    """Concatenates tokenised texts without separators, and splits them into pieces of `most`."""
    return dataset.map(lambda example: example["targets"]).unbatch().batch(most)


def _corrupt_stream(
    dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None
) -> tf.data.Dataset:
    """Span corruption as in pre-training, on concatenated tokenised texts.

    The stream is split into pieces that fill the inputs, see `span_corruption.windows`, and the
    masks differ in every epoch. Only the two features remain, because a piece can span texts.

    Raises:
      RequestError: the lengths do not fit, see `span_corruption.text_length`.
    """
    most = span_corruption.text_length(sequence_length)
    sentinels = vocabulary.of(data_config.configured()).sentinels

    def corrupted(tokens: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mask = span_corruption.noise_mask(len(tokens), np.random.default_rng(seed))
        return span_corruption.corrupt(tokens, mask, sentinels)

    @seqio.map_over_dataset(num_seeds=1)
    def as_features(tokens, seed):
        return _features(corrupted, tokens, tf.stack(seed))

    return as_features(_pieces(dataset, most))


def _corrupt_deterministically(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None,
    output_features: Mapping[str, seqio.Feature],
) -> tf.data.Dataset:
    """Span corruption of concatenated texts, with masks that depend only on their tokens.

    Also adds the text of the piece as `inputs_pretokenized`, and the masked spans with their
    sentinels as `targets_pretokenized`.

    Raises:
      RequestError: the lengths do not fit, see `span_corruption.text_length`; or the vocabulary
        does not, see `probes.sentinels`.
    """
    most = span_corruption.text_length(sequence_length)
    assert sequence_length is not None
    config = data_config.configured()
    inputs_length, seed = sequence_length["inputs"], config.mask_seed
    sentinels = probes.sentinels(vocabulary.of(config))
    decode = output_features["targets"].vocabulary.decode_tf

    def corrupted(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return span_corruption.deterministic(tokens, inputs_length, sentinels, seed)

    @seqio.map_over_dataset
    def as_features(tokens):
        features = _features(corrupted, tokens)
        return {
            **features,
            "inputs_pretokenized": decode(tokens),
            "targets_pretokenized": decode(features["targets"]),
        }

    return as_features(_pieces(dataset, most))


def _features(function, *arguments) -> dict[str, tf.Tensor]:
    inputs, targets = tf.numpy_function(function, arguments, (tf.int32, tf.int32))
    return {
        "inputs": tf.ensure_shape(inputs, [None]),
        "targets": tf.ensure_shape(targets, [None]),
    }


_AFTER_CACHE: dict[str, list[Callable[..., tf.data.Dataset]]] = {
    "supervised": [_without_long_targets],
    "span_corruption": [_corrupt_stream],
    "probe": [_corrupt_deterministically],
}


def _task(task: Task, config: DataConfig | None = None) -> seqio.Task:
    """Makes SeqIO's task, which is not registered; arguments as in `StudySource`."""
    # SeqIO refuses a cache placeholder if the source forbids caching, as for subsets.
    cache = [seqio.CacheDatasetPlaceholder()] if task.subset is None else []
    words = (
        seqio.SentencePieceVocabulary(vocabulary.of(config).name) if config else StudyVocabulary()
    )
    feature = seqio.Feature(words, add_eos=True)
    return seqio.Task(
        task.name,
        source=StudySource(task, config),
        preprocessors=[
            seqio.preprocessors.tokenize,
            *cache,
            *_AFTER_CACHE[task.family.format.objective],
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={"inputs": feature, "targets": feature},
        postprocess_fn=_references(task),
        metric_fns=[task.metric] if task.metric else [],
    )


def get(name: str) -> seqio.Task | seqio.Mixture:
    """Returns the SeqIO task or mixture with a name, and registers it if it is new.

    Raises:
      RequestError: there is no such task; names the most similar ones.
    """
    tasks = catalogue.tasks(name)
    for task in tasks:
        if task.name not in seqio.TaskRegistry.names():
            seqio.TaskRegistry.add_provider(task.name, _task(task))
    if tasks[0].name != name and name not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add(name, [t.name for t in tasks], default_rate=1.0)
    return seqio.get_mixture_or_task(name)


def mixture(names: Sequence[str]) -> str:
    """Registers tasks and returns one name for all of them, for gin.

    Args:
      names: names of tasks or mixtures, at least one.

    Returns:
      The name itself if there is only one, or else the name of a new mixture in equal parts.

    Raises:
      RequestError: there is no name, or a name is unknown.
    """
    if not names:
        raise RequestError("there is no task to evaluate on: set TARGETS, e.g. ('en', 'sw')")
    for name in names:
        get(name)
    if len(names) == 1:
        return names[0]
    # File names contain it, and the names of all tasks together would be too long.
    digest = hashlib.sha256("|".join(names).encode()).hexdigest()[:8]
    together = f"{names[0]}_and_{len(names) - 1}_more_{digest}"
    if together not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add(together, list(names), default_rate=1.0)
    return together


def tokenised(task: Task, split: str, config: DataConfig) -> Iterator[dict[str, np.ndarray]]:
    """Yields the tokenised examples of a task in source order, not trimmed and without EOS.

    Args:
      task: the task; of a subset, all examples are yielded.
      split: train, validation or test.
      config: where the examples come from, and the vocabulary.

    Fields: `inputs` and `targets` int32 arrays, `inputs_pretokenized` and `targets_pretokenized`
    bytes, and other fields that the family's preprocessing keeps. Text for span corruption has only
    `targets`, and is not masked yet.
    """
    whole = _task(Task(task.family, task.language), config)
    dataset = whole.source.examples(split)
    yield from whole.preprocess_precache(dataset, seed=0).as_numpy_iterator()


def texts(task: Task, split: str, config: DataConfig, examples: int = -1) -> Iterator[str]:
    """Yields the input and target texts of a task's examples, e.g. to train a vocabulary on.

    Args:
      task: the task.
      split: train, validation or test.
      config: where the examples come from.
      examples: number of examples, see `subsets.sample_indices`; -1: all.
    """
    dataset = StudySource(task, config).examples(split)
    if examples >= 0:
        dataset = _only(dataset, lambda texts: subsets.sample_indices(texts, examples))
    for example in dataset.as_numpy_iterator():
        for feature in ("inputs", "targets"):
            if feature in example:
                yield example[feature].decode("utf-8")


for _family in (*catalogue.families().values(), *catalogue.probe_families().values()):
    for _language in (*_family.languages, ALL_LANGUAGES):
        get(f"{records.PREFIX}{_family.name}.{_language}")
for _name in catalogue.intermediates():
    get(_name)
