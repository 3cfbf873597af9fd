"""XTREME-R's ten tasks, and its overall score (Ruder et al. 2021).

Languages are those of `XTREME_R_TASK2LANGS` in google-research/xtreme, `evaluate.py`. It has none
for LAReQA: those are XQuAD's without Romanian. Groups are the paper's four; `evaluate.py` leaves
LAReQA out of retrieval and lists XCOPA a second time by itself.
"""

import dataclasses
from collections.abc import Mapping
from statistics import fmean

from seqio_tasks import retrieval_data
from seqio_tasks.families import choice, panx, squad, tagging, tydiqa, xnli

CLASSIFICATION, TAGGING, QA, RETRIEVAL = "classification", "tagging", "qa", "retrieval"
GROUPS = (CLASSIFICATION, TAGGING, QA, RETRIEVAL)
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]  # by task, language and metric; percent


@dataclasses.dataclass(frozen=True)
class Task:
    """One of the ten."""

    name: str  # as XTREME has it
    group: str
    languages: tuple[str, ...]
    metrics: tuple[str, ...]  # the task's score is their mean
    family: str | None = None  # in the catalogue; None: not text to text


_XCOPA = tuple(code for code in choice.XCOPA_LANGUAGES if code != "en")  # which is COPA

TASKS = (
    Task("xnli", CLASSIFICATION, xnli.LANGUAGES, ("accuracy",), "xnli"),
    Task("xcopa", CLASSIFICATION, _XCOPA, ("accuracy",), "xcopa"),
    Task("udpos", TAGGING, tagging.LANGUAGES, ("tag_f1",), "udpos"),
    Task("panx", TAGGING, panx.LANGUAGES, ("span_f1",), "panx"),
    Task("xquad", QA, squad.XQUAD_LANGUAGES, ("em", "f1"), "xquad"),
    Task("mlqa", QA, squad.MLQA_LANGUAGES, ("em", "f1"), "mlqa"),
    Task("tydiqa", QA, tuple(tydiqa.NAMES), ("em", "f1"), "tydiqa"),
    Task("tatoeba", RETRIEVAL, retrieval_data.TATOEBA, ("accuracy",)),
    Task("mewslix", RETRIEVAL, retrieval_data.MEWSLIX, ("map@20",)),
    Task("lareqa", RETRIEVAL, retrieval_data.LAREQA, ("map@20",)),
)


@dataclasses.dataclass(frozen=True)
class Overall:
    """What scores come to, percent; without the tasks and groups that lack one."""

    tasks: dict[str, float]  # means over the languages and metrics
    groups: dict[str, float]  # means of their tasks
    overall: float | None  # the mean of the ten tasks
    missing: tuple[str, ...]  # 'tatoeba', 'xnli.sw', 'xquad.el.em'


def overall(scores: Scores, partial: bool = False) -> Overall:
    """Computes XTREME-R's score of each task, of each group, and over all.

    Args:
      scores: percent, of each task in each language by each of its metrics; others are ignored.
      partial: whether scores may be missing. What lacks one has no mean, and `missing` says which.

    Raises:
      ValueError: a score is missing and `partial` is false.
    """
    missing = tuple(name for task in TASKS for name in _missing(task, scores))
    if missing and not partial:
        raise ValueError(f"XTREME-R's overall score needs all ten tasks, missing {_few(missing)}")
    tasks = {
        task.name: fmean(
            fmean(scores[task.name][code][metric] for code in task.languages)
            for metric in task.metrics
        )
        for task in TASKS
        if not _missing(task, scores)
    }
    of_group = {group: [task.name for task in TASKS if task.group == group] for group in GROUPS}
    groups = {
        group: fmean(tasks[name] for name in names)
        for group, names in of_group.items()
        if tasks.keys() >= set(names)
    }
    return Overall(tasks, groups, None if missing else fmean(tasks.values()), missing)


def _missing(task: Task, scores: Scores) -> list[str]:
    found = scores.get(task.name)
    if not found:
        return [task.name]
    names = []
    for code in task.languages:
        if code not in found:
            names.append(f"{task.name}.{code}")
        else:
            absent = [metric for metric in task.metrics if metric not in found[code]]
            names.extend(f"{task.name}.{code}.{metric}" for metric in absent)
    return names


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
