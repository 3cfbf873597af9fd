"""Finds and reads the raw examples of a task, and identifies their version."""

from collections.abc import Iterator
from pathlib import Path

from seqio_tasks import data_files
from seqio_tasks.data_config import DataConfig
from seqio_tasks.records import Example, Task


def parts(task: Task, split: str) -> tuple[Task, ...]:
    """Returns the tasks that make up a split; the task itself if it has no parts."""
    if (of := task.family.source.parts) is None:
        return (task,)
    return tuple(Task(family, task.language) for family in of(split))


def find(task: Task, split: str, data_dir: Path | None) -> Path:
    """Finds the file of a task in the data folder.

    Raises:
      RequestError: the file is missing; names the file, the task and the ways to get it.
    """
    source = task.family.source
    tfds = source.tfds(task.language, split)
    where = f"{tfds[0]} ({tfds[1]})" if tfds else None
    candidates = source.files(task.language, split)
    return data_files.find(data_dir, candidates, task.name, split, where, source.remedy)


def read(task: Task, split: str, data_dir: Path | None) -> Iterator[Example]:
    """Yields the examples of a task as they are in the data folder.

    Raises:
      RequestError: the file is missing or malformed.
    """
    return task.family.source.read(find(task, split, data_dir), task.language, split)


def origin(task: Task, split: str, config: DataConfig) -> str:
    """Returns a text that identifies the raw data of a task: a hash, or its name in TFDS.

    Raises:
      RequestError: the data folder does not contain it.
    """
    if task.family.source.digest is not None:
        return task.family.source.digest(config)
    origins = []
    for part in parts(task, split):
        tfds = part.family.source.tfds(task.language, split)
        if tfds and config.data_dir is None:
            origins.append("/".join(tfds))
        else:
            origins.append(data_files.file_digest(find(part, split, config.data_dir)))
    return "+".join(origins)
