"""Which tasks there are, by name; plain Python, so that a name costs no TensorFlow.

A task's name is `xfer_<family>.<language>`, e.g. `xfer_panx.sw`, with an optional subset of its
training data: `.n100.s0` (100 examples drawn with seed 0; the 10 of `.n10.s0` are among them) or
`.matched.s0` (as many as the family's smallest language has). `xfer_<family>.all_langs` is the
mixture of all its languages, `xfer_<family>.uralic` that of a language family's
(`languages.GROUPS`), of which `.n3000.s0` takes 3,000 examples in all, equally many of each where
there are as many (of `all_langs` it takes 3,000 of each).
`xfer_intermediate.ner.uralic` is the same by the kind of task (`KINDS`), and
`xfer_intermediate.ner_and_text.uralic` also keeps span corruption of plain text in the mixture.
`xfer_probe.<family>.<language>` is the plain text of the same examples, masked, to ask what a
language model knows of it (see `seqio_tasks.probes`).
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gin
import numpy as np

from seqio_tasks import languages, sources
from seqio_tasks.errors import RequestError, did_you_mean

PREFIX = "xfer_"
PROBE = "probe."  # between the prefix and a family's name
ALL_LANGUAGES = "all_langs"
TEXT = "text"  # the family of plain text
AND_TEXT = "_and_text"
# Kinds of intermediate tasks, and the family of tasks that each is; any other goes by its own name.
KINDS = {
    "nli": "xnli", "paraphrase": "pawsx", "ner": "panx", "qa": "tydiqa", "tagging": "udpos",
    TEXT: TEXT,
}  # fmt: skip
SPLITS = ("train", "validation", "test")
Example = dict[str, Any]
Metric = Callable[[Sequence[Any], Sequence[str]], dict[str, float]]
INTERMEDIATE = "intermediate"  # the nine English tasks of Phang et al. 2020; or by kind, see KINDS
XTREME_R = "xtreme_r"  # of its ten tasks, those that are text to text
GROUPS = (INTERMEDIATE, XTREME_R)
_SAMPLE = "evaluation"  # in place of a subset's seed


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


@functools.cache
def families() -> Mapping[str, Family]:
    """Returns all families by name."""
    # they import this module's Family
    from seqio_tasks import choice, pairs, panx, pocket, squad, tagging, text, tydiqa, xnli

    known = (
        xnli.FAMILY,
        panx.FAMILY,
        tydiqa.FAMILY,
        *squad.FAMILIES,
        *tagging.FAMILIES,
        *pairs.FAMILIES,
        *choice.FAMILIES,
        text.FAMILY,
        *pocket.FAMILIES,
    )
    return {family.name: family for family in known}


@functools.cache
def probes() -> Mapping[str, Family]:
    """Returns the probes of all families by name, e.g. `probe.panx`."""
    from seqio_tasks.probes import probe_of  # it imports this module's Family

    return {probe.name: probe for probe in map(probe_of, families().values())}


def tasks(name: str) -> tuple[Task, ...]:
    """Resolves a name to its task, or a mixture's name to its tasks.

    Raises:
      RequestError: no such task; names the nearest.
    """
    if not isinstance(name, str):
        raise RequestError(f"a task's name must be text, such as 'xfer_panx.sw', not {name!r:.80}")
    match = _NAME.fullmatch(name)
    if match is None:
        raise _unknown(name)
    for number in (match["size"], match["seed"]):
        if number and len(number) > _DIGITS:
            raise RequestError(
                f"{sources.shown(name)}: {number[:_DIGITS]}… is too large for a subset or a seed,"
                f" which have {_DIGITS} digits at most"
            )
    size = int(match["size"]) if match["size"] else None
    seed, matched = int(match["seed"] or 0), bool(match["matched"])
    kind, group = match["kind"], match["language"]
    if kind is None:
        return _of_family(name, match["family"], group, size, seed, matched)
    labelled, with_text = kind.removesuffix(AND_TEXT), kind.endswith(AND_TEXT)
    if group not in {**languages.GROUPS, **languages.LANGUAGES}:
        raise _unknown(name)
    found = _of_family(name, KINDS.get(labelled, labelled), group, size, seed, matched)
    if with_text:
        text = "pocket_text" if labelled.startswith("pocket") else TEXT
        found += tuple(_of_family(name, text, of.language, None, 0, False)[0] for of in found)
    return found


_LONGEST_NAME = 80  # characters of an unknown name that are looked at
_DIGITS = 9  # of a subset's size or seed
_NAME = re.compile(
    rf"{PREFIX}(?:{INTERMEDIATE}\.(?P<kind>[a-z_]+)"
    rf"|(?P<family>(?:{re.escape(PROBE)})?[a-z0-9_]+))\.(?P<language>\w+?)"
    r"(?:\.(?:n(?P<size>[1-9][0-9]*)|(?P<matched>matched))\.s(?P<seed>0|[1-9][0-9]*))?"
)


def _of_family(
    name: str, family_name: str, language: str, size: int | None, seed: int, matched: bool
) -> tuple[Task, ...]:
    """Returns the tasks of a family in a language, or in several."""
    family = {**families(), **probes()}.get(family_name)
    if family is None:
        raise _unknown(name)
    if family.objective == "probe" and (size or matched):
        raise RequestError(
            f"{name}: a probe has no subsets; EVALUATOR_NUM_EXAMPLES says how many texts it takes"
        )
    if matched:
        if family.matched_size is None:
            raise RequestError(f"{name}: {PREFIX}{family.name} has no size-matched arm")
        size = family.matched_size
    if language in family.languages:
        return (Task(family, language, size, seed, matched),)
    if language == ALL_LANGUAGES:
        return tuple(Task(family, code, size, seed, matched) for code in family.languages)
    codes = [code for code in languages.GROUPS.get(language, ()) if code in family.languages]
    if not codes:
        raise _unknown(name)
    if size is None or matched:
        return tuple(Task(family, code, size, seed, matched) for code in codes)
    if size < len(codes):
        raise RequestError(f"{name}: {size} examples are fewer than its {len(codes)} languages")
    shares = _shares(size, codes, family.small)
    if sum(shares.values()) < size:
        raise RequestError(
            f"{name} asks for {size} training examples; its languages have {sum(shares.values())}"
        )
    return tuple(Task(family, code, shares[code], seed) for code in codes)


def _shares(total: int, codes: Sequence[str], small: Mapping[str, int]) -> dict[str, int]:
    """Shares out examples as equally as the data of small languages allow."""
    shares: dict[str, int] = {}
    for code in sorted(codes, key=lambda code: small.get(code, total)):
        equal = (total - sum(shares.values())) // (len(codes) - len(shares))
        shares[code] = min(equal, small.get(code, total))
    return shares


def mixtures(family: Family) -> tuple[str, ...]:
    """Returns the names of the language families that a family of tasks has languages of."""
    return tuple(
        group
        for group, codes in languages.GROUPS.items()
        if group not in family.languages and set(codes) & set(family.languages)
    )


def intermediates() -> tuple[str, ...]:
    """Returns the names of the intermediate tasks in language families, by kind and group."""
    return tuple(
        f"{PREFIX}{INTERMEDIATE}.{kind}.{group}"
        for kind, family in KINDS.items()
        if family in families()
        for group in mixtures(families()[family])
    )


def _unknown(name: str) -> RequestError:
    known = [
        f"{PREFIX}{f.name}.{code}"
        for f in (*families().values(), *probes().values())
        for code in (*f.languages, ALL_LANGUAGES, *mixtures(f))
    ]
    short = name[:_LONGEST_NAME]
    hint = did_you_mean(short, [*known, *intermediates()]) or "; `xfer-jax tasks` lists them"
    return RequestError(f"unknown task {short!r}{hint}")


def task(name: str) -> Task:
    """Resolves the name of a single task.

    Raises:
      RequestError: no such task, or a mixture.
    """
    found = tasks(name)
    if len(found) > 1:
        raise RequestError(f"{name} is a mixture of {len(found)} tasks where one task is needed")
    return found[0]


def of_languages(names: Sequence[str], languages: Sequence[str] = ()) -> list[Task]:
    """Resolves names of tasks and mixtures, and keeps those of some languages.

    Args:
      names: of tasks and mixtures.
      languages: to keep; all by default.

    Raises:
      RequestError: an unknown task, or a language that none of them has.
    """
    for given, what in ((names, "tasks"), (languages, "languages")):
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise RequestError(f"{what} must be a list or tuple of names, not {given!r:.80}")
    every = [task for name in names for task in tasks(name)]
    known = [task.language for task in every]
    unknown = [str(code) for code in languages if code not in known]
    if unknown:
        raise RequestError(f"{', '.join(names)} have no language {', '.join(unknown)}")
    return [task for task in every if not languages or task.language in languages]


def parts(task: Task, split: str) -> tuple[Task, ...]:
    """Returns the tasks whose examples make up a split: the task itself, where it has no parts."""
    if task.family.parts is None:
        return (task,)
    return tuple(Task(family, task.language) for family in task.family.parts(split))


def find(task: Task, split: str) -> Path:
    """Finds a task's file in the data folder.

    Raises:
      RequestError: it is not there; names the file, the task and the ways to get it.
    """
    family = task.family
    tfds = family.tfds(task.language, split)
    where = f"{tfds[0]} ({tfds[1]})" if tfds else None
    candidates = family.files(task.language, split)
    return sources.find(candidates, task.name, split, where, family.remedy)


def read(task: Task, split: str) -> Iterator[Example]:
    """Yields a task's examples as they are in its data folder.

    Raises:
      RequestError: its file is not there, or malformed.
    """
    return task.family.read(find(task, split), task.language, split)


def origin(task: Task, split: str) -> str:
    """Returns what tells a task's raw data from other data: a hash of it, or its name in TFDS.

    Raises:
      RequestError: the data folder does not have it.
    """
    if task.family.digest is not None:
        return task.family.digest()
    origins = []
    for part in parts(task, split):
        tfds = part.family.tfds(task.language, split)
        if tfds and sources.data_dir() is None:
            origins.append("/".join(tfds))
        else:
            origins.append(sources.file_digest(find(part, split)))
    return "+".join(origins)


def registry() -> ModuleType:
    """Imports `seqio_tasks.registry`, and TensorFlow with it, without its chatter at start-up.

    TensorFlow writes lines about missing GPUs to file descriptor 2, which no setting silences; they
    are shown only if the import fails.
    """
    with contextlib.ExitStack() as stack:
        try:
            terminal = os.dup(2)
            stack.callback(os.close, terminal)
            chatter = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no standard error, or nowhere to keep the lines: they may be shown
            return importlib.import_module("seqio_tasks.registry")
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(chatter.fileno(), 2)
        try:
            return importlib.import_module("seqio_tasks.registry")
        except BaseException:
            chatter.seek(0)
            os.write(terminal, chatter.read())
            raise
        finally:
            os.dup2(terminal, 2)


def _text(value: Any, what: str, example: str) -> str:
    if isinstance(value, str):
        return value
    raise RequestError(f"{what} must be text, such as {example!r}, not {value!r:.80}")


@gin.configurable(module="seqio_tasks.catalogue")
def name(task: str, language: str, subset: str = "") -> str:
    """Builds a task's name from its parts, for gin: `xfer_panx`, `sw`, `n100.s0`.

    Raises:
      RequestError: a part is no text.
    """
    parts = (
        _text(task, "a task", "xfer_panx"),
        _text(language, "a language", "sw"),
        _text(subset, "a subset", "n100.s0"),
    )
    return ".".join(part for part in parts if part)


@gin.configurable(module="seqio_tasks.catalogue")
def names(task: str, languages: Sequence[str]) -> tuple[str, ...]:
    """Builds the names of a task in several languages, for gin.

    Raises:
      RequestError: the languages are no list or tuple, or one of them no text.
    """
    if not isinstance(languages, list | tuple):
        raise RequestError(
            "languages (TARGETS) must be a tuple, such as ('en', 'sw') or, of one, ('en',), not"
            f" {languages!r:.80}"
        )
    return tuple(name(task, language, subset="") for language in languages)


@gin.configurable(module="seqio_tasks.catalogue")
def probe(task: str) -> str:
    """Returns the name of a task's probe, for gin: `xfer_probe.panx` of `xfer_panx`.

    Raises:
      RequestError: the task is no text.
    """
    task = _text(task, "a task", "xfer_panx")
    return task if task.startswith(PREFIX + PROBE) else PREFIX + PROBE + task.removeprefix(PREFIX)


@gin.configurable(module="seqio_tasks.catalogue")
def evaluation_examples(count: int | None = None) -> int | None:
    """Returns how many examples SeqIO delivers of a task, see `sample_indices`; None: all.

    Args:
      count: EVALUATOR_NUM_EXAMPLES, for gin to bind.

    Raises:
      RequestError: it is neither None nor an integer of at least 1.
    """
    if count is not None and (type(count) is not int or count < 1):
        raise RequestError(
            f"EVALUATOR_NUM_EXAMPLES must be an integer of at least 1, not {count!r}"
        )
    return count


@gin.configurable(module="seqio_tasks.catalogue")
def longest_target(tokens: int | None = None) -> int | None:
    """Returns how long a target may be, its end included, or SeqIO leaves the example out.

    Args:
      tokens: for gin to bind; None: nothing is left out.

    Raises:
      RequestError: it is no positive whole number.
    """
    return _positive(tokens, "the length of a target")


def _positive(value: Any, what: str) -> int | None:
    if value is None or (type(value) is int and value > 0):
        return value
    raise RequestError(f"{what} must be a whole number from 1, or None, not {value!r:.80}")


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
