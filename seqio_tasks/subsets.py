"""Chooses the examples of a subset by hashes of their texts, so that all machines agree."""

import hashlib
from collections.abc import Sequence

import numpy as np

from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task

_SAMPLE = "evaluation"  # instead of the seed of a subset


def identity(inputs: str, targets: str) -> str:
    """Returns the text that identifies an example when subsets are drawn."""
    return f"{inputs}\t{targets}"


def subset_order(texts: Sequence[str], seed: int | str) -> np.ndarray:
    """Ranks examples for nested subsets: the first n are the subset of size n.

    The rank of an example is a hash of its text, so it does not depend on the machine, or on the
    order or the source of the data. Repeats of a text are distinguished by their count.

    Args:
      texts: one string per example that identifies it.
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
    """Returns the sorted indices of a sample of examples, for evaluation on fewer examples.

    A file may be sorted by label or by source, so its first examples are not a fair sample. This
    sample is drawn by hashes of the texts, like subsets; the sample of 100 is part of the sample of
    1,000.

    Args:
      texts: one string per example, see `identity`.
      count: size of the sample; all examples if there are fewer.
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
            f"{task.name} needs {task.subset} training examples; {task.full_name} has {len(texts)}"
        )
    return np.sort(subset_order(texts, task.seed)[: task.subset])
