"""Computes the XTREME-R score of a model: `xfer-jax xtreme-r FOLDERS`.

Computes scores from the outputs in folders of T5X's layout, and reads the tables of `retrieve`.
Does not import the engine.
"""

from collections.abc import Sequence
from pathlib import Path

from seqio_tasks import catalogue, records, xtreme_r
from seqio_tasks.errors import RequestError
from xfer_jax.results import csv_file, predictions

RETRIEVAL_FILE = "retrieval.csv"
_MISSING_SHOWN = 6


def collect(folders: Sequence[Path]) -> dict[str, dict[str, dict[str, float]]]:
    """Collects scores in percent, by XTREME-R task, language and metric.

    Args:
      folders: folders of runs and of retrieval, or their parents.

    Raises:
      RequestError: there are no XTREME-R scores, or two folders have the same task and language.
    """
    scores: dict[str, dict[str, dict[str, float]]] = {}
    origin: dict[tuple[str, str], Path] = {}

    def enter(task: str, language: str, values: dict[str, float], folder: Path) -> None:
        other = origin.setdefault((task, language), folder)
        if other == folder and language in scores.get(task, {}):
            raise RequestError(f"{folder} has {task} in {language} twice; keep one of them")
        if other != folder:
            raise RequestError(
                f"{other} and {folder} both have {task} in {language}: name the folders of one"
                " model"
            )
        scores.setdefault(task, {})[language] = values

    for folder in folders:
        if not folder.is_dir():
            raise RequestError(f"{folder} is not a folder; name folders of runs or of retrieval")
        for run in predictions.runs_in(folder):
            for task in xtreme_r.TASKS:
                for code in task.languages if task.family else ():
                    one = catalogue.task(f"{records.PREFIX}{task.family}.{code}")
                    found = predictions.read(run, one)
                    if found is not None and one.metric is not None:
                        percent = {name: found.percent(name) for name in task.metrics}
                        enter(task.name, code, percent, run)
        for path in sorted(folder.rglob(RETRIEVAL_FILE)):
            frame = csv_file.read(path, ("task", "language", "metric", "score"))
            frame["score"] = csv_file.numbers(path, frame["score"])
            odd = frame[~frame["score"].between(0, 100)]
            if len(odd):
                raise RequestError(
                    f"{csv_file.at(path, odd)}: score {odd['score'].iloc[0]:g} is not a percentage"
                    "; expected 0 to 100"
                )
            wanted = {task.name: task for task in xtreme_r.TASKS if not task.family}
            for row in frame.itertuples():
                of = wanted.get(row.task)
                if of and (row.language not in of.languages or row.metric not in of.metrics):
                    raise RequestError(
                        f"{csv_file.at(path, frame.loc[[row.Index]])}: {row.task} has no"
                        f" {row.metric} in the language {row.language!r:.80}"
                    )
                enter(row.task, row.language, {row.metric: row.score}, path.parent)
    known = {task.name for task in xtreme_r.TASKS}
    if not known & set(scores):
        raise RequestError(
            f"{', '.join(map(str, folders))}: no outputs of XTREME-R tasks"
            f" ({', '.join(task.name for task in xtreme_r.TASKS)})"
        )
    return scores


def text(scores: xtreme_r.ScoresByTask) -> str:
    """Renders the score of each task, each group and overall, or which scores are missing."""
    found = xtreme_r.overall(scores, partial=True)
    lines = ["XTREME-R, percent: mean over languages; for QA, mean of F1 and EM"]
    for task in xtreme_r.TASKS:
        have = scores.get(task.name, {})
        languages = [code for code in task.languages if code in have]
        score = f"{found.tasks[task.name]:.1f}" if task.name in found.tasks else "-"
        note = ""
        if languages and task.name not in found.tasks:
            values = [have[code][metric] for code in languages for metric in task.metrics]
            note = f"  ({sum(values) / len(values):.1f} over these languages)"
        lines.append(
            f"  {task.name:<10}{task.group:<16}{'+'.join(task.metrics):<10}"
            f"{len(languages):>3} of {len(task.languages):<4}{score:>6}{note}"
        )
    lines += [f"  {group}: {score:.1f}" for group, score in found.groups.items()]
    if found.overall is not None:
        lines.append(f"  overall: {found.overall:.1f}")
    else:
        named = ", ".join(found.missing[:_MISSING_SHOWN])
        more = len(found.missing) - _MISSING_SHOWN
        lines.append(
            f"  no overall score: missing {named}" + (f" and {more} more" if more > 0 else "")
        )
    return "\n".join(lines)
