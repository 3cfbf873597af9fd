"""The catalogue of tasks, by name. It is plain Python: resolving a name needs no TensorFlow.

The name of a task is `xfer_<family>.<language>`, such as `xfer_panx.sw`, with an optional subset of
its training data:

- `.n100.s0`: 100 examples, drawn with seed 0; they include the 10 examples of `.n10.s0`.
- `.matched.s0`: as many examples as the smallest language of the family has.

Mixtures and variants:

- `xfer_<family>.all_langs`: all languages of the family; `.n3000.s0` takes 3,000 examples of each.
- `xfer_<family>.uralic`: the languages of a language family (`languages.GROUPS`); `.n3000.s0` takes
  3,000 examples in total, as equally as the sizes of the languages allow.
- `xfer_intermediate.ner.uralic`: the same, by kind of task (`KINDS`);
  `xfer_intermediate.ner_and_text.uralic` adds span corruption of plain text.
- `xfer_probe.<family>.<language>`: the plain text of the same examples, masked, to measure how well
  a model knows the language (see `seqio_tasks.families.probes`).
"""

import functools
import re
from collections.abc import Mapping, Sequence

import gin

from seqio_tasks import data_files, languages
from seqio_tasks.errors import RequestError, did_you_mean
from seqio_tasks.families import (
    choice,
    pairs,
    panx,
    pocket,
    probes,
    squad,
    tagging,
    text,
    tydiqa,
    xnli,
)
from seqio_tasks.records import ALL_LANGUAGES, INTERMEDIATE, PREFIX, PROBE, TEXT, Family, Task
from seqio_tasks.settings import Count, Line, Lines, arguments

AND_TEXT = "_and_text"
# Kinds of intermediate tasks, and their family of tasks; any other kind is the name of its family.
KINDS = {
    "nli": "xnli", "paraphrase": "pawsx", "ner": "panx", "qa": "tydiqa", "tagging": "udpos",
    TEXT: TEXT,
}  # fmt: skip


@functools.cache
def families() -> Mapping[str, Family]:
    """Returns all families by name."""
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
def probe_families() -> Mapping[str, Family]:
    """Returns the probes of all families by name, e.g. `probe.panx`."""
    return {probe.name: probe for probe in map(probes.probe_of, families().values())}


def tasks(name: str) -> tuple[Task, ...]:
    """Resolves a name to its task, or a mixture's name to its tasks.

    Raises:
      RequestError: there is no such task; names the most similar ones.
    """
    if not isinstance(name, str):
        raise RequestError(f"a task name must be text, such as 'xfer_panx.sw', not {name!r:.80}")
    match = _NAME.fullmatch(name)
    if match is None:
        raise _unknown(name)
    for number in (match["size"], match["seed"]):
        if number and len(number) > _DIGITS:
            raise RequestError(
                f"{data_files.shown(name)}: {number[:_DIGITS]}… is too large for a subset or a"
                f" seed, which have at most {_DIGITS} digits"
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
        plain = "pocket_text" if labelled.startswith("pocket") else TEXT
        found += tuple(_of_family(name, plain, of.language, None, 0, False)[0] for of in found)
    return found


_LONGEST_NAME = 80  # characters of an unknown name that are compared and shown
_DIGITS = 9  # most digits of a subset's size or seed
_NAME = re.compile(
    rf"{PREFIX}(?:{INTERMEDIATE}\.(?P<kind>[a-z_]+)"
    rf"|(?P<family>(?:{re.escape(PROBE)})?[a-z0-9_]+))\.(?P<language>\w+?)"
    r"(?:\.(?:n(?P<size>[1-9][0-9]*)|(?P<matched>matched))\.s(?P<seed>0|[1-9][0-9]*))?"
)


def _of_family(
    name: str, family_name: str, language: str, size: int | None, seed: int, matched: bool
) -> tuple[Task, ...]:
    """Returns the tasks of a family in a language, in a group of languages, or in all."""
    family = {**families(), **probe_families()}.get(family_name)
    if family is None:
        raise _unknown(name)
    if family.format.objective == "probe" and (size or matched):
        raise RequestError(
            f"{name}: a probe has no subsets; set EVALUATOR_NUM_EXAMPLES to the number of texts"
        )
    if matched:
        if family.source.matched_size is None:
            raise RequestError(f"{name}: {PREFIX}{family.name} has no size-matched arm")
        size = family.source.matched_size
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
        raise RequestError(
            f"{name}: {size} examples are too few for {len(codes)} languages; choose at least"
            f" {len(codes)}"
        )
    shares = _shares(size, codes, family.source.small)
    if sum(shares.values()) < size:
        raise RequestError(
            f"{name} needs {size} training examples; its languages have {sum(shares.values())}"
        )
    return tuple(Task(family, code, shares[code], seed) for code in codes)


def _shares(total: int, codes: Sequence[str], small: Mapping[str, int]) -> dict[str, int]:
    """Divides examples among languages, as equally as the data of small languages allow."""
    shares: dict[str, int] = {}
    for code in sorted(codes, key=lambda code: small.get(code, total)):
        equal = (total - sum(shares.values())) // (len(codes) - len(shares))
        shares[code] = min(equal, small.get(code, total))
    return shares


def mixtures(family: Family) -> tuple[str, ...]:
    """Returns the names of the language groups with languages in a family of tasks."""
    return tuple(
        group
        for group, codes in languages.GROUPS.items()
        if group not in family.languages and set(codes) & set(family.languages)
    )


def intermediates() -> tuple[str, ...]:
    """Returns the names of the intermediate tasks in groups of languages."""
    return tuple(
        f"{PREFIX}{INTERMEDIATE}.{kind}.{group}"
        for kind, family in KINDS.items()
        if family in families()
        for group in mixtures(families()[family])
    )


def _unknown(name: str) -> RequestError:
    known = [
        f"{PREFIX}{f.name}.{code}"
        for f in (*families().values(), *probe_families().values())
        for code in (*f.languages, ALL_LANGUAGES, *mixtures(f))
    ]
    short = name[:_LONGEST_NAME]
    hint = did_you_mean(short, [*known, *intermediates()]) or "; `xfer-jax tasks` lists them"
    return RequestError(f"unknown task {short!r}{hint}")


def task(name: str) -> Task:
    """Resolves the name of a single task.

    Raises:
      RequestError: there is no such task, or it is a mixture.
    """
    found = tasks(name)
    if len(found) > 1:
        raise RequestError(f"{name} is a mixture of {len(found)} tasks; name a single task")
    return found[0]


def of_languages(names: Sequence[str], languages: Sequence[str] = ()) -> list[Task]:
    """Resolves names of tasks and mixtures, and keeps the tasks in some languages.

    Args:
      names: names of tasks and mixtures.
      languages: languages to keep; all by default.

    Raises:
      RequestError: a task is unknown, or none of the tasks is in a language.
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


@gin.configurable(module="seqio_tasks.catalogue")
@arguments({"language": "SOURCE"})
def name(task: Line, language: Line, subset: Line = "") -> str:
    """Builds the name of a task from its parts, for gin: `xfer_panx`, `sw`, `n100.s0`."""
    return ".".join(part for part in (task, language, subset) if part)


@gin.configurable(module="seqio_tasks.catalogue")
@arguments({"languages": "TARGETS"})
def names(task: Line, languages: Lines) -> tuple[str, ...]:
    """Builds the names of a task in several languages, for gin."""
    return tuple(f"{task}.{language}" for language in languages)


@gin.configurable(module="seqio_tasks.catalogue")
@arguments()
def probe(task: Line) -> str:
    """Returns the name of a task's probe, for gin: `xfer_probe.panx` for `xfer_panx`."""
    return task if task.startswith(PREFIX + PROBE) else PREFIX + PROBE + task.removeprefix(PREFIX)


@gin.configurable(module="seqio_tasks.catalogue")
@arguments({"count": "EVALUATOR_NUM_EXAMPLES"})
def evaluation_examples(count: Count | None = None) -> int | None:
    """Returns how many examples of a task SeqIO delivers, see `sample_indices`; None: all.

    Args:
      count: the value of EVALUATOR_NUM_EXAMPLES; gin binds it.
    """
    return count


@gin.configurable(module="seqio_tasks.catalogue")
@arguments({"tokens": "the length of a target"})
def longest_target(tokens: Count | None = None) -> int | None:
    """Returns the maximum number of tokens of a target, including end of sequence.

    SeqIO drops longer examples.

    Args:
      tokens: the value; gin binds it. None: no example is dropped.
    """
    return tokens
