"""What a task is: a family of tasks, and one family in one language."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PREFIX = "xfer_"
PROBE = "probe."  # between the prefix and a family's name
ALL_LANGUAGES = "all_langs"
TEXT = "text"  # the family of plain text
SPLITS = ("train", "validation", "test")
Example = dict[str, Any]
Metric = Callable[[Sequence[Any], Sequence[str]], dict[str, float]]
INTERMEDIATE = "intermediate"  # the nine English tasks of Phang et al. 2020; or by kind, see KINDS
XTREME_R = "xtreme_r"  # of its ten tasks, those that are text to text
GROUPS = (INTERMEDIATE, XTREME_R)


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of task in several languages."""

    name: str  # 'panx'
    title: str  # for people: 'PAN-X (WikiANN) named entities'
    languages: tuple[str, ...]
    # (language, split) -> paths in the data folder that may hold it, first choice first
    files: Callable[[str, str], tuple[str, ...]]
    # (path, language, split) -> raw examples, with the fields of the TFDS source
    read: Callable[[Path, str, str], Iterator[Example]]
    # (language, split) -> TFDS name and split, or None where TFDS has none
    tfds: Callable[[str, str], tuple[str, str] | None]
    # (tf.data.Dataset of raw examples, language) -> with `inputs` and `targets` strings
    preprocess: Callable[[Any, str], Any]
    # (references, outputs) -> scores, as the mT5 release has it; see `metric_by_language`
    metric: Callable[..., dict[str, float]] | None
    # (inputs, references, outputs, language) -> scores, without the compat metric's quirks
    strict_metric: Callable[..., dict[str, float]] | None
    score: str  # the key of `metric` that stands for the task
    percent: float = 1.0  # times `score` gives percent
    metric_by_language: bool = False  # `metric` takes the language as its third argument
    labels: tuple[str, ...] = ()  # the closed set of targets, where there is one
    answers_field: str | None = None  # of the example, where the reference is a list of answers
    tags: bool = False  # a target is one tag a token of the input, joined by spaces
    # 'supervised', or text without targets, masked as one stream: 'span_corruption', at random;
    # 'probe', always alike
    objective: str = "supervised"
    # `inputs` -> the text in it that people wrote, without the words of the format; None: there are
    # no inputs, the examples are plain text already
    plain_text: Callable[[str], str] | None = None
    matched_size: int | None = None  # training examples of the smallest language
    # training examples of languages that have few, so that a mixture asks for no more of them
    small: Mapping[str, int] = dataclasses.field(default_factory=dict)
    version: str = "1"  # of the formats; part of every cache's name
    # (language, split) -> raw examples made here instead of read; with a digest of what makes them
    make: Callable[[str, str], Iterator[Example]] | None = None
    digest: Callable[[], str] | None = None
    splits: tuple[str, ...] = SPLITS
    # split -> the families whose examples make it up, one after another, instead of own files
    parts: Callable[[str], tuple["Family", ...]] | None = None
    groups: tuple[str, ...] = ()  # of GROUPS
    # published numbers of examples of each language, by split, where a source was read
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    # how to come by the files that are missing, for the error
    remedy: str = "put it there with XTREME's download scripts"


@dataclasses.dataclass(frozen=True)
class Task:
    """One family in one language, perhaps a subset of its training data."""

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
        """The task without its subset."""
        return f"{PREFIX}{self.family.name}.{self.language}"

    @property
    def metric(self) -> Metric | None:
        """The family's metric as (references, outputs) -> scores in the task's language."""
        by_language = self.family.metric
        if by_language is None or not self.family.metric_by_language:
            return by_language

        def metric(targets: Sequence[Any], predictions: Sequence[str]) -> dict[str, float]:
            return by_language(targets, predictions, self.language)

        return metric
