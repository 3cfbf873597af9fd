"""Which examples belong to a subset: by hashes of their own texts, on every machine alike."""

import hashlib
from collections.abc import Sequence

import numpy as np

from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task

_SAMPLE = "evaluation"  # in place of a subset's seed


def identity(inputs: str, targets: str) -> str:
    """Returns the text that identifies an example when subsets are drawn."""
    return f"{inputs}\t{targets}"


def subset_order(texts: Sequence[str], seed: int | str) -> np.ndarray:
    """Ranks examples for nested subsets: the first n are the subset of size n.

    The rank of an example is a hash of its own text, so that it depends neither on the machine nor
    on the order or the source of the data. Repeats of a text are told apart by their count.

    Args:
      texts: one string an example, that identifies it.
      seed: of the draw.

    Returns:
      int64 [number of examples], indices in order of rank.
    """
    seen: dict[str, int] = {}
    ranks = []
    for text in texts:
        seen[text] = seen.get(text, -1) + 1
        ranks.append(hashlib.sha256(f"{seed}|{seen[text]}|{text}".encode()).digest())
    return np.asarray(sorted(range(len(ranks)), key=ranks.__getitem__), np.int64)


def sample_indices(texts: Sequence[str], count: int) -> np.ndarray:
    """Returns the sorted indices of the examples that stand for all when few are evaluated.

    A file may be sorted, by label or by source: its first examples are no sample. This one is drawn
    by the examples' own texts, as subsets are; the sample of 100 is part of the sample of 1,000.

    Args:
      texts: one string an example, see `identity`.
      count: how many; all, if there are fewer.
    """
    return np.sort(subset_order(texts, _SAMPLE)[:count])


def subset_indices(task: Task, texts: Sequence[str]) -> np.ndarray:
    """Returns the sorted indices of a task's training subset among all its training texts.

    Raises:
      RequestError: the subset is larger than the data.
    """
    assert task.subset is not None
    if task.subset > len(texts):
        raise RequestError(
            f"{task.name} asks for {task.subset} training examples;"
            f" {task.full_name} has {len(texts)}"
        )
    return np.sort(subset_order(texts, task.seed)[: task.subset])
