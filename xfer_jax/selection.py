"""Which of a run's checkpoints counts: the last, or the best on validation.

A run that selects evaluates its checkpoints as it writes them. Afterwards `selection.json` in its
folder says which one was chosen, and by which rule. Whoever reads the run's checkpoint or its
predictions takes that one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from seqio_tasks import files
from seqio_tasks.errors import RequestError

FILE = "selection.json"
Rule = Literal["last", "source", "mean", "each_target"]
RULES: tuple[Rule, ...] = ("last", "source", "mean", "each_target")
Scores = Mapping[str, Mapping[int, float]]  # in percent, by the task's name and by step


class Selection(pydantic.BaseModel):
    """What `selection.json` says."""

    rule: Rule
    split: str  # of the scores
    source: str  # the task in the source language; '' if it is not evaluated
    step: int  # whose model is handed on
    steps: dict[str, int]  # whose predictions count, by task
    scores: dict[str, dict[int, float]]


def choose(scores: Scores, rule: Rule, source: str = "") -> dict[str, int]:
    """Chooses the step that counts for each task; of equally good ones the first.

    Args:
      scores: of the steps that all tasks were evaluated at.
      rule: `last`; `source`: the best on the source language, which is all that a zero-shot setting
        knows of; `mean`: the best mean over all tasks; `each_target`: the best of each task, which
        takes labelled data in every target language (Keung et al. 2020, arXiv 2004.15001).
      source: the task in the source language.

    Raises:
      RequestError: there is no score of the source language to choose by.
    """
    steps = common_steps(scores)
    if rule == "source" and source not in scores:
        raise RequestError(
            f"SELECT_BY = 'source' needs scores of {source or 'the source language'}: add it to"
            " TARGETS, or choose by another rule"
        )
    if rule == "each_target":
        return {name: max(steps, key=lambda step: of[step]) for name, of in scores.items()}
    judged = {"source": [source], "mean": list(scores), "last": []}[rule]

    def quality(step: int) -> float:
        return float(np.mean([scores[name][step] for name in judged])) if judged else step

    best = max(steps, key=quality)
    return dict.fromkeys(scores, best)


def ranked(scores: Scores, rule: Rule, source: str = "") -> list[set[int]]:
    """Returns the steps that a rule chooses, then those that it would choose without them, ….."""
    left = {name: dict(of) for name, of in scores.items()}
    found = []
    while common_steps(left):
        chosen = set(choose(left, rule, source).values())
        found.append(chosen)
        left = {name: {s: v for s, v in of.items() if s not in chosen} for name, of in left.items()}
    return found


def common_steps(scores: Scores) -> list[int]:
    """Returns the steps that all tasks were evaluated at, in order."""
    return sorted(set.intersection(*(set(of) for of in scores.values()))) if scores else []


def measured(folder: Path, metrics: Mapping[str, tuple[str, float]]) -> dict[str, dict[int, float]]:
    """Reads the scores of a run's evaluations from its `<task>-metrics.jsonl`, T5X's too.

    Args:
      folder: of the run.
      metrics: by the task's name: the metric that is its score, and the factor that makes it
        percent.

    Raises:
      RequestError: a file is damaged.
    """
    found = {}
    for name, (metric, factor) in metrics.items():
        path = folder / "inference_eval" / f"{name}-metrics.jsonl"
        lines = files.read_text(path).splitlines() if path.is_file() else []
        try:
            records = [json.loads(line) for line in lines if line.strip()]
            found[name] = {int(of["step"]): factor * float(of[metric]) for of in records}
        except (ValueError, KeyError, TypeError):
            raise RequestError(f"{path} is damaged: remove it, and run again") from None
    return found


def select(folder: Path, scores: Scores, rule: Rule, split: str, source: str = "") -> Selection:
    """Chooses by a rule, and writes `selection.json`."""
    steps = choose(scores, rule, source)
    # One model goes on where each target has its own.
    (step,) = set(choose(scores, "mean" if rule == "each_target" else rule, source).values())
    found = Selection(
        rule=rule, split=split, source=source, step=step, steps=steps,
        scores={name: dict(of) for name, of in scores.items()},
    )  # fmt: skip
    files.write(folder / FILE, found.model_dump_json(indent=1) + "\n")
    return found


def read(folder: Path) -> Selection | None:
    """Returns what was selected among a run's checkpoints; None where nothing was.

    Raises:
      RequestError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return Selection.model_validate_json(files.read_bytes(file))
    except pydantic.ValidationError:
        raise RequestError(f"{file} is damaged: remove it, and run again") from None
