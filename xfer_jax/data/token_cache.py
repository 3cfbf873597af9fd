"""The cache of a task's tokens: made once by SeqIO, verified whenever it is opened.

The name of its folder has a hash of its origin (task, split, vocabulary, raw data, format), so that
an outdated cache is never read. The folder contains flat token arrays, which are memory-mapped, the
texts for evaluation, and `meta.json` with the SHA-256 of each file and of itself. A damaged cache
is made again. TensorFlow is imported only to make a cache.
"""

import dataclasses
import functools
import hashlib
import json
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from seqio_tasks import data_files, digests, files, quiet_registry, raw_data, subsets, vocabulary
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task
from xfer_jax.runtime import progress

CACHE_FORMAT = 2
INPUTS, TARGETS = "inputs", "targets"
_TEXTS, _META = "texts.jsonl", "meta.json"
_SEAL = "sha256"  # of the rest of meta.json


@dataclasses.dataclass(frozen=True)
class Cache:
    """The tokenised examples of one task and split, or of a subset of them."""

    task: Task
    split: str
    folder: Path
    indices: np.ndarray  # int64, which of the folder's examples

    def __len__(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def _arrays(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {
            feature: tuple(
                np.load(self.folder / f"{feature}{part}.npy", mmap_mode="r")
                for part in ("", "_offsets")
            )
            for feature in (INPUTS, TARGETS)
        }

    def tokens(self, feature: str, index: int) -> np.ndarray:
        """Returns the tokens of an example, not trimmed, without the end of sequence."""
        flat, offsets = self._arrays[feature]
        i = self.indices[index]
        return flat[offsets[i] : offsets[i + 1]]

    def sample(self, count: int | None) -> "Cache":
        """Returns a sample of the examples, see `subsets.sample_indices`; None: all of them."""
        if count is None or count >= len(self):
            return self
        chosen = subsets.sample_indices(self.identities(), count)
        return dataclasses.replace(self, indices=self.indices[chosen])

    def whole(self) -> "Cache":
        """Returns the cache with all examples of its folder."""
        return dataclasses.replace(self, indices=np.arange(len(self._arrays[INPUTS][1]) - 1))

    def token_counts(self, feature: str) -> np.ndarray:
        """Returns the number of tokens of every example, without end of sequence."""
        _, offsets = self._arrays[feature]
        return np.diff(offsets)[self.indices]

    @functools.cached_property
    def texts(self) -> list[dict[str, Any]]:
        """The fields of each example: `inputs_pretokenized`, `targets_pretokenized` and others."""
        wanted = set(self.indices.tolist())
        with (self.folder / _TEXTS).open(encoding="utf-8") as lines:
            found = {i: json.loads(line) for i, line in enumerate(lines) if i in wanted}
        return [found[i] for i in self.indices.tolist()]

    def identities(self) -> list[str]:
        """Returns the texts that identify the examples when subsets and samples are drawn."""
        return [
            subsets.identity(text.get("inputs_pretokenized", ""), text["targets_pretokenized"])
            for text in self.texts
        ]

    @property
    def references(self) -> list[Any]:
        """The references of the metrics: the target texts, or the lists of answers."""
        field = self.task.family.format.answers_field
        return [text[field] if field else text["targets_pretokenized"] for text in self.texts]


def open_cache(task: Task, split: str, config: DataConfig) -> Cache:
    """Opens a task's cache, and first makes it if it is missing or damaged.

    Args:
      task: from the catalogue; a subset applies to the training split.
      split: train, validation or test.
      config: where the examples come from, and the vocabulary.

    Raises:
      RequestError: the task has no such split, its data is missing or malformed, or the cache
        folder cannot be written.
      RunError: the disk is full.
    """
    task.check_split(split)
    key = _key(task, split, config)
    folder = data_files.cache_dir() / "tokens" / f"{task.full_name}-{split}-{_digest(key)[:16]}"
    if not folder.is_dir():
        _build(task, split, config, key, folder)
    elif damaged := _damaged_file(folder, key):
        _build_again(task, split, config, key, folder, damaged)
    meta = _meta(folder, key)
    assert meta is not None, "it is whole"
    cache = Cache(task, split, folder, np.arange(meta["examples"]))
    if task.subset is None or split != "train":
        return cache
    return dataclasses.replace(cache, indices=subsets.subset_indices(task, cache.identities()))


def _key(task: Task, split: str, config: DataConfig) -> dict[str, Any]:
    return {
        "format": CACHE_FORMAT,
        "task": task.full_name,
        "task_version": task.family.format.version,
        "split": split,
        "origin": raw_data.origin(task, split, config),
        "vocabulary": vocabulary.of(config).digest,
    }


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- Verifying ------------------------------------------------------------------------------------


def _meta(folder: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the content of `meta.json`; None if it is missing, damaged or of another cache."""
    try:
        meta = files.read_json(folder / _META)
    except RequestError:  # no such file, or not JSON any more
        return None
    if not isinstance(meta, dict) or meta.pop(_SEAL, None) != _digest(meta):
        return None
    return meta if {name: meta.get(name) for name in key} == key else None


def _damaged_file(folder: Path, key: dict[str, Any]) -> str | None:
    """Returns the name of a damaged file; None: the cache is whole."""
    meta = _meta(folder, key)
    if meta is None:
        return _META

    def is_whole(name: str) -> bool:
        try:
            return digests.sha256(folder / name) == meta["files"][name]
        except OSError:
            return False

    return next((name for name in meta["files"] if not is_whole(name)), None)


# --- Making ---------------------------------------------------------------------------------------


def _build_again(
    task: Task, split: str, config: DataConfig, key: dict[str, Any], folder: Path, damaged: str
) -> None:
    progress.say(f"{folder / damaged} is damaged: the data of {task.full_name} is tokenised again")
    try:
        _build(task, split, config, key, folder)
    except RequestError as error:
        raise RequestError(
            f"{folder / damaged} is damaged and cannot be made again: {error}"
        ) from None


def _build(task: Task, split: str, config: DataConfig, key: dict[str, Any], folder: Path) -> None:
    # A unique name, because processes on several machines may share the folder.
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        examples = _write(task, split, config, temporary)
        names = sorted(path.name for path in temporary.iterdir())
        meta = key | {
            "examples": examples,
            "files": {name: data_files.file_digest(temporary / name) for name in names},
        }
        sealed = meta | {_SEAL: _digest(meta)}
        (temporary / _META).write_text(json.dumps(sealed, indent=1, sort_keys=True), "utf-8")
        _put_in_place(temporary, folder, key)
    except OSError as error:
        doing = (
            f"the tokens of {task.full_name} cannot be written to {folder.parent}, set"
            " XFER_CACHE_DIR to another folder"
        )
        raise files.refusal(error, doing) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(task: Task, split: str, config: DataConfig, folder: Path) -> int:
    """Writes tokens and texts of a task into a folder; returns the number of examples."""
    registry = quiet_registry.load()  # TensorFlow: only when there is something to tokenise
    flat: dict[str, list[np.ndarray]] = {INPUTS: [], TARGETS: []}
    with (folder / _TEXTS).open("w", encoding="utf-8") as texts:
        examples = registry.tokenised(task, split, config)
        for example in progress.counted(f"tokenise {task.full_name}", examples):
            for feature, parts in flat.items():
                parts.append(np.asarray(example.pop(feature, ()), np.int32))
            texts.write(json.dumps(_as_text(example), ensure_ascii=False) + "\n")
    if not flat[TARGETS]:
        raise RequestError(f"{task.name} ({split}) contains no example")
    for feature, parts in flat.items():
        np.save(folder / f"{feature}.npy", np.concatenate(parts))
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        np.save(folder / f"{feature}_offsets.npy", offsets)
    return len(flat[TARGETS])


def _put_in_place(new: Path, folder: Path, key: dict[str, Any]) -> None:
    """Gives a new folder its final name, unless another process has made a whole one."""
    if folder.is_dir() and _damaged_file(folder, key):
        old = new.with_name(f"{new.name}.damaged")
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    try:
        new.rename(folder)
    except OSError:
        if _damaged_file(folder, key):
            raise


def _as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return (
        _as_text(value.tolist())
        if isinstance(value, np.ndarray)
        else ([_as_text(inner) for inner in value] if isinstance(value, list) else value)
    )
