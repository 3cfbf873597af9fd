"""Delivers token batches: Grain reads examples from token caches, and packs them into rows."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from seqio_tasks import vocabulary
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task
from xfer_jax.data import streams
from xfer_jax.data.packing import Layout, round_up
from xfer_jax.data.selection import TrainingData
from xfer_jax.data.streams import Chunks, Supervised
from xfer_jax.data.token_cache import INPUTS, TARGETS, Cache, open_cache

# --- Batches --------------------------------------------------------------------------------------


def length_ladder(most: int) -> np.ndarray:
    """Returns the lengths that evaluation pads to: 16, 24, 32, 48, 64, 96 … `most`."""
    powers = [1 << i for i in range(4, 20)]
    steps = sorted([*powers, *(p + p // 2 for p in powers)])
    return np.asarray([*(step for step in steps if step < most), int(round_up(np.asarray(most)))])


def _pad(rows: Sequence[np.ndarray], length: int, filler: int = 0) -> np.ndarray:
    out = np.full((len(rows), length), filler, np.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def pad_to_ladder(rows: Sequence[np.ndarray], batch_size: int, most: int) -> np.ndarray:
    """Pads rows to a length of the ladder, and adds rows of padding: int32 [batch_size, length]."""
    ladder = length_ladder(most)
    length = ladder[np.searchsorted(ladder, max(map(len, rows)))]
    return _pad([*rows, *[np.zeros(0, np.int32)] * (batch_size - len(rows))], length)


class TrainingBatches:
    """Random access to the batch of any step, for Grain; it depends only on stream and step.

    A batch has the next examples of the stream, packed into rows; segment ids separate the examples
    of a row. Batches are not sorted by length: their losses would differ too much for Adafactor,
    which gets sums.
    """

    def __init__(
        self,
        stream: grain.MapDataset,
        layout: Layout,
        num_batches: int,
        share: slice = slice(None),
    ):
        """Prepares the batches.

        Args:
          stream: dataset of `Pick`.
          layout: layout of every batch.
          num_batches: number of batches.
          share: the layout's shares that this process feeds to its devices.
        """
        self._stream, self.layout = stream, layout
        self._num_batches, self._share = num_batches, share

    def __len__(self) -> int:
        return self._num_batches

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """Returns this process's rows of the batch of a step, int32 [rows, length]; 0 is padding.

        `encoder_segment_ids` and `decoder_segment_ids` number the examples of a row from 1.
        `target_positions` [shares, positions] has the positions of target tokens in the flattened
        rows of a share, then -1. The loss is computed only there: many positions are padding, and
        logits over the vocabulary are expensive.
        """
        first = step * self.layout.batch_size
        picks = [self._stream[i] for i in range(first, first + self.layout.batch_size)]
        sizes = np.asarray([pick.size for pick in picks])
        rows = self.layout.rows(sizes)
        positions = self.layout.positions(rows, sizes)
        parts = range(self.layout.shares)[self._share]
        each = len(rows) // self.layout.shares
        own = rows[parts.start * each : parts.stop * each]
        examples = [[picks[i].read() for i in row] for row in own]
        inputs, targets = (
            [[example[feature] for example in row] for row in examples]
            for feature in (INPUTS, TARGETS)
        )
        before = [[np.pad(tokens, (1, 0))[:-1] for tokens in row] for row in targets]
        numbers = [
            [[np.full(len(tokens), i) for i, tokens in enumerate(row, 1)] for row in feature]
            for feature in (inputs, targets)
        ]
        inputs_length, targets_length = self.layout.lengths
        target_tokens = _joined(targets, targets_length)
        real = [np.flatnonzero(of_share) for of_share in target_tokens.reshape(len(parts), -1)]
        return {
            "encoder_input_tokens": _joined(inputs, inputs_length),
            "decoder_input_tokens": _joined(before, targets_length),
            "decoder_target_tokens": target_tokens,
            "target_positions": _pad(real, positions, -1),
            "encoder_segment_ids": _joined(numbers[0], inputs_length),
            "decoder_segment_ids": _joined(numbers[1], targets_length),
        }


def _joined(rows: Sequence[Sequence[np.ndarray]], length: int) -> np.ndarray:
    nothing = np.zeros(0, np.int32)
    return _pad([np.concatenate([nothing, *row]) for row in rows], length)


@dataclasses.dataclass(frozen=True)
class TrainingInput:
    """The training batches of a run, and statistics of their examples."""

    batches: TrainingBatches
    batch_size: int  # examples of a step
    microbatches: int
    examples: int
    truncated_inputs: int
    long_targets: int
    caches: list[str]  # names of the folders of the caches, which change with the data

    def iterator(self, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batches from a step on; a thread prepares them ahead."""
        dataset = grain.MapDataset.source(self.batches)[first_step:]
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=16)
        return iter(dataset.to_iter_dataset(options))


def _seed_of(seed: int, name: str) -> int:
    """Returns a 32-bit seed for a task, so that every task has its own order."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:4], "big")


def training_input(
    tasks: Sequence[Task],
    data: TrainingData,
    config: DataConfig,
    num_batches: int,
    seed: int,
    shares: int = 1,
    share: slice = slice(None),
    microbatches: Callable[[Layout], int] = lambda layout: 1,
) -> TrainingInput:
    """Opens the training batches of a task or of a mixture of tasks.

    Args:
      tasks: what to train on: the tasks of `data.task`.
      data: split, lengths and batch size.
      config: where the examples come from, and the vocabulary.
      num_batches: of the whole run, which starts at batch 0.
      seed: of the order of the data and of the masks of span corruption.
      shares: groups of devices that share the rows of a batch.
      share: those of them that this process feeds.
      microbatches: into how many parts a batch of a layout is cut on each of them.

    Raises:
      RequestError: see `open_cache`, `Supervised` and `Chunks`; or a task is a probe.
    """
    streams, all_sources, sizes = [], [], []
    folders = []
    for task in tasks:
        if task.subset is not None and data.split != "train":
            raise RequestError(
                f"{task.name} is a subset of 'train'; set TRAIN_SPLIT to 'train', not"
                f" {data.split!r}"
            )
        if task.family.format.objective == "probe":
            raise RequestError(f"{task.name} is a probe, only for evaluation: train on other tasks")
        cache = open_cache(task, data.split, config)
        folders.append(cache.folder.name)
        source: Supervised | Chunks
        if task.family.format.objective == "supervised":
            source = Supervised(cache, data.lengths, data.long_targets)
            # Subsets have the layout of the whole task, so that all share a compiled program.
            fits = "drop" if data.long_targets == "error" else data.long_targets
            sizes.append(Supervised(cache.whole(), data.lengths, fits).sizes())
        else:
            source = Chunks(cache, data.lengths, vocabulary.of(config).sentinels)
            sizes.append(source.sizes())
        streams.append(source.stream(_seed_of(seed, task.name)))
        all_sources.append(source)
    weights, temperature = np.ones(len(tasks)), data.mixing_temperature
    if temperature is not None:
        weights = np.asarray([len(source) ** (1 / temperature) for source in all_sources])
    stream = streams[0]
    if len(streams) > 1:
        stream = grain.MapDataset.mix(streams, None if temperature is None else weights.tolist())
    every = np.concatenate(sizes)
    often = np.concatenate(
        [np.full(len(of), weight / len(of)) for of, weight in zip(sizes, weights, strict=True)]
    )
    batch_size = data.batch_size
    if batch_size is None:
        assert data.batch_tokens is not None, "TrainingData has one of the two"
        examples = data.batch_tokens / np.average(every[:, 0], weights=often)
        batch_size = max(shares, round(examples / shares) * shares)
    layout = Layout(every, batch_size, shares, often)
    parts = microbatches(layout)
    if parts > 1:
        layout = Layout(every, batch_size, shares * parts, often)
        here = range(shares)[share]
        share = slice(here.start * parts, here.stop * parts)
    return TrainingInput(
        TrainingBatches(stream, layout, num_batches, share),
        batch_size=batch_size,
        microbatches=parts,
        examples=sum(len(source) for source in all_sources),
        truncated_inputs=sum(source.truncated_inputs for source in all_sources),
        long_targets=sum(source.long_targets for source in all_sources),
        caches=folders,
    )


def evaluation_batches(
    cache: Cache, inputs_length: int, batch_size: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Returns batches of inputs, sorted by length so that there is little padding.

    Args:
      cache: the examples to evaluate on.
      inputs_length: most tokens of inputs.
      batch_size: rows of every batch; the last batch is filled with rows of padding.

    Returns:
      Pairs of indices of examples, int [n], and `encoder_input_tokens`, int32 [batch_size, K], with
      these examples as first n rows; and the number of examples with truncated inputs.
    """
    counts = cache.token_counts(INPUTS) + 1
    sizes = np.minimum(counts, inputs_length)
    order = np.argsort(-sizes, kind="stable")
    batches = []
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        rows = [streams.ended(cache.tokens(INPUTS, i), inputs_length) for i in indices]
        batches.append((indices, pad_to_ladder(rows, batch_size, inputs_length)))
    return batches, int((counts > inputs_length).sum())
