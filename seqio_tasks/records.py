"""The records of the catalogue: a family of tasks, and a task (a family in one language)."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError

PREFIX = "xfer_"
PROBE = "probe."  # between the prefix and a family's name
ALL_LANGUAGES = "all_langs"
TEXT = "text"  # the family of plain text
SPLITS = ("train", "validation", "test")
Example = dict[str, Any]
Metric = Callable[[Sequence[Any], Sequence[str]], dict[str, float]]
INTERMEDIATE = "intermediate"  # the nine English tasks of Phang et al. 2020; or see KINDS
XTREME_R = "xtreme_r"  # the text-to-text tasks among its ten tasks
TASK_GROUPS = (INTERMEDIATE, XTREME_R)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the raw examples of a family come from: files, TFDS, a generator, or other families."""

    # (language, split) -> paths in the data folder where it may be, first choice first
    files: Callable[[str, str], tuple[str, ...]] = lambda language, split: ()
    # (path, language, split) -> raw examples, with the fields of the TFDS source
    read: Callable[[Path, str, str], Iterator[Example]] = lambda path, language, split: iter(())
    # (language, split) -> TFDS name and split, or None if TFDS does not have it
    tfds: Callable[[str, str], tuple[str, str] | None] = lambda language, split: None
    splits: tuple[str, ...] = SPLITS
    # published numbers of examples of each language, by split, if known
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    matched_size: int | None = None  # training examples of the smallest language
    # number of training examples of small languages, so that a mixture takes no more of them
    small: Mapping[str, int] = dataclasses.field(default_factory=dict)
    # how to get missing files, for the error message
    remedy: str = "put it there with XTREME's download scripts"
    # (language, split, config) -> raw examples that are generated, not read; and a digest of the
    # generator
    make: Callable[[str, str, DataConfig], Iterator[Example]] | None = None
    digest: Callable[[DataConfig], str] | None = None
    # split -> the families whose examples are concatenated, instead of reading files
    parts: Callable[[str], tuple["Family", ...]] | None = None


@dataclasses.dataclass(frozen=True)
class Format:
    """How a raw example becomes text."""

    # (tf.data.Dataset of raw examples, language) -> with `inputs` and `targets` strings
    preprocess: Callable[[Any, str], Any]
    # 'supervised'; or text without targets, masked as one stream: 'span_corruption' with random
    # masks, 'probe' with masks that are always the same
    objective: str = "supervised"
    # `inputs` -> its text without the words of the text format; None: the examples have no inputs,
    # because they are plain text already
    plain_text: Callable[[str], str] | None = None
    labels: tuple[str, ...] = ()  # the closed set of targets, if there is one
    answers_field: str | None = None  # field of an example that is a list of accepted answers
    tags: bool = False  # a target has one tag per token of the input, separated by spaces
    version: str = "1"  # part of the name of every cache


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How outputs are scored; by default they are not, because there are no references."""

    # (references, outputs) -> scores, as in the mT5 release; see `metric_by_language`
    metric: Callable[..., dict[str, float]] | None = None
    # (inputs, references, outputs, language) -> scores, without the compat metric's quirks
    strict_metric: Callable[..., dict[str, float]] | None = None
    score: str = ""  # the key in the result of `metric` that is the score of the task
    percent: float = 1.0  # factor that converts the score to percent
    metric_by_language: bool = False  # `metric` takes the language as its third argument


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of task in several languages."""

    name: str  # 'panx'
    title: str  # for readers: 'PAN-X (WikiANN) named entities'
    languages: tuple[str, ...]
    source: Source
    format: Format
    scoring: Scoring = Scoring()
    groups: tuple[str, ...] = ()  # members of TASK_GROUPS


@dataclasses.dataclass(frozen=True)
class Task:
    """One family in one language, optionally with a subset of its training data."""

    family: Family
    language: str
    subset: int | None = None  # number of training examples
    seed: int = 0  # of the subset
    matched: bool = False  # the subset is the size-matched arm

    @property
    def name(self) -> str:
        if self.subset is None:
            return self.full_name
        size = "matched" if self.matched else f"n{self.subset}"
        return f"{self.full_name}.{size}.s{self.seed}"

    @property
    def full_name(self) -> str:
        """The name of the task without its subset."""
        return f"{PREFIX}{self.family.name}.{self.language}"

    def check_split(self, split: str, setting: str = "") -> None:
        """Raises RequestError unless the task has a split; `setting` is what the user has set."""
        if split not in self.family.source.splits:
            there = ", ".join(self.family.source.splits)
            raise RequestError(f"{setting}{self.name} has no split {split!r}; it has {there}")

    @property
    def metric(self) -> Metric | None:
        """The metric of the family, (references, outputs) -> scores, for the task's language."""
        by_language = self.family.scoring.metric
        if by_language is None or not self.family.scoring.metric_by_language:
            return by_language

        def metric(targets: Sequence[Any], predictions: Sequence[str]) -> dict[str, float]:
            return by_language(targets, predictions, self.language)

        return metric
