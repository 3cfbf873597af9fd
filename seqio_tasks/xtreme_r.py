"""The ten tasks of XTREME-R, and its overall score (Ruder et al. 2021).

Languages are those of `XTREME_R_TASK2LANGS` in google-research/xtreme, `evaluate.py`. It has no
languages for LAReQA: here they are those of XQuAD without Romanian. Groups are the four of the
paper; `evaluate.py` omits LAReQA from retrieval and lists XCOPA a
second time as a separate group.
"""

import dataclasses
from collections.abc import Mapping
from statistics import fmean

from seqio_tasks import retrieval_data
from seqio_tasks.families import choice, panx, squad, tagging, tydiqa, xnli

CLASSIFICATION, TAGGING, QA, RETRIEVAL = "classification", "tagging", "qa", "retrieval"
GROUPS = (CLASSIFICATION, TAGGING, QA, RETRIEVAL)
# Scores in percent by task, language and metric.
ScoresByTask = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclasses.dataclass(frozen=True)
class BenchmarkTask:
    """One of the ten tasks."""

    name: str  # in XTREME
    group: str
    languages: tuple[str, ...]
    metrics: tuple[str, ...]  # the task's score is their mean
    family: str | None = None  # family in the catalogue; None: not a text-to-text task


_XCOPA = tuple(code for code in choice.XCOPA_LANGUAGES if code != "en")  # English is COPA

TASKS = (
    BenchmarkTask("xnli", CLASSIFICATION, xnli.LANGUAGES, ("accuracy",), "xnli"),
    BenchmarkTask("xcopa", CLASSIFICATION, _XCOPA, ("accuracy",), "xcopa"),
    BenchmarkTask("udpos", TAGGING, tagging.LANGUAGES, ("tag_f1",), "udpos"),
    BenchmarkTask("panx", TAGGING, panx.LANGUAGES, ("span_f1",), "panx"),
    BenchmarkTask("xquad", QA, squad.XQUAD_LANGUAGES, ("em", "f1"), "xquad"),
    BenchmarkTask("mlqa", QA, squad.MLQA_LANGUAGES, ("em", "f1"), "mlqa"),
    BenchmarkTask("tydiqa", QA, tuple(tydiqa.NAMES), ("em", "f1"), "tydiqa"),
    BenchmarkTask("tatoeba", RETRIEVAL, retrieval_data.TATOEBA, ("accuracy",)),
    BenchmarkTask("mewslix", RETRIEVAL, retrieval_data.MEWSLIX, ("map@20",)),
    BenchmarkTask("lareqa", RETRIEVAL, retrieval_data.LAREQA, ("map@20",)),
)


@dataclasses.dataclass(frozen=True)
class Overall:
    """Mean scores in percent; tasks and groups with missing scores are left out."""

    tasks: dict[str, float]  # means over the languages and metrics
    groups: dict[str, float]  # means over their tasks
    overall: float | None  # mean over the ten tasks
    missing: tuple[str, ...]  # 'tatoeba', 'xnli.sw', 'xquad.el.em'


def overall(scores: ScoresByTask, partial: bool = False) -> Overall:
    """Computes the XTREME-R score of each task, of each group, and overall.

    Args:
      scores: percent, by task, language and metric; other tasks and metrics are ignored.
      partial: whether scores may be missing. A task or group with a missing score has no mean, and
        `missing` lists the missing scores.

    Raises:
      ValueError: a score is missing and `partial` is false.
    """
    missing = tuple(name for task in TASKS for name in _missing(task, scores))
    if missing and not partial:
        raise ValueError(
            f"the overall score of XTREME-R needs all ten tasks; missing: {_few(missing)}"
        )
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


def _missing(task: BenchmarkTask, scores: ScoresByTask) -> list[str]:
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
