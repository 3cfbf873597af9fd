"""A study's table of scores, computed anew from the outputs that its jobs wrote.

Files of metrics are not trusted: what counts are the outputs, whichever engine wrote them.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqio_tasks import catalogue, records
from seqio_tasks.errors import RequestError
from xfer_jax.engine import run_folder
from xfer_jax.results import predictions
from xfer_jax.study.definition import MORE, Study
from xfer_jax.study.job_graph import Job, lay_out, load
from xfer_jax.study.job_record import damaged, read

FILE = "scores.csv"
COLUMNS = (
    "task", "source", "target", "intermediate", "n_shots", "seed", "metric", "score",
    "n_examples", "model", "engine", "run", "arm", "n_train",
)  # fmt: skip


def collect(study: Study, out: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Scores the outputs of all jobs that are done, and writes them to `scores.csv`.

    Returns:
      The table: a row a cell, scores in percent. And what a reader should know: jobs whose outputs
      are missing or damaged, which the table leaves out, and unlike machines.
    """
    rows: list[dict[str, Any]] = []
    complaints: list[str] = []
    machines: dict[str, str] = {}
    for job in lay_out(study):
        record = read(out, job.name)
        if record is None:
            continue
        machines[f"{record.cores} cores and {record.device}"] = job.name
        if job.targets:
            try:
                problem = damaged(out, job.name, record)
                if problem:
                    raise RequestError(problem)
                rows += of_job(study, job, out)
            except RequestError as error:
                complaints.append(f"{job.name} is left out: {error}")
    if len(machines) > 1:
        complaints.append(
            "these jobs ran on unlike machines, so their scores may differ by more than the last"
            f" digits: {'; '.join(f'{name} with {where}' for where, name in machines.items())}"
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"score": f"{row['score']:.6g}"} for row in rows)
    run_folder.write(out / FILE, text.getvalue())
    return rows, complaints


def of_job(study: Study, job: Job, out: Path) -> list[dict[str, Any]]:
    """Returns the rows of one job that is done."""
    rows = []
    run, _ = load(study, job, out)
    for name in run.eval_data.tasks:
        task = catalogue.task(name)
        percent, examples = rescore(out / job.name, task)
        cell = (
            task.full_name.rpartition(".")[0],
            job.source,
            task.language,
            job.intermediate,
            job.n_shots,
            job.seed,
            task.family.score,
            percent,
            examples,
            study.model,
            study.engine,
            job.name,
            job.arm,
            "" if job.n_shots else _trained_on(out / job.name),
        )
        rows.append(dict(zip(COLUMNS, cell, strict=True)))
    return rows


def rescore(model_dir: Path, task: records.Task) -> tuple[float, int]:
    """Computes a task's score from the outputs of a run's last evaluation.

    Returns:
      The score in percent, and how many examples there are.

    Raises:
      RequestError: there are no outputs, or they are damaged.
    """
    try:
        found = predictions.read(model_dir, task)
    except RequestError as error:
        raise RequestError(f"{error}; remove {model_dir}, and run again") from None
    if found is None:
        raise RequestError(f"{model_dir} has no predictions of {task.name}; remove {model_dir}")
    return found.score, len(found.answers)


def _trained_on(folder: Path) -> str:
    """Returns how many examples a source model was trained on; empty where nobody wrote it down."""
    files = sorted(folder.glob("checkpoint_*/run.json"))
    return str(json.loads(files[-1].read_text("utf-8")).get("examples", "")) if files else ""


def matrices(rows: Sequence[Mapping[str, Any]]) -> str:
    """Renders zero-shot scores as tables, sources down and targets across.

    One a task, and one for each intermediate task.
    """
    groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["n_shots"] == 0:
            key = (row["task"], row["metric"], row["arm"], row["intermediate"])
            groups.setdefault(key, []).append(row)
    return "\n\n".join(_matrix(*group, of_group) for group, of_group in groups.items())


def _matrix(
    task: str, metric: str, arm: str, intermediate: str, rows: Sequence[Mapping[str, Any]]
) -> str:
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        cells.setdefault((row["source"], row["target"]), []).append(row["score"])
    targets = list(dict.fromkeys(target for _, target in cells))
    arm = f", {arm}" if arm else ""
    if intermediate:
        arm += f", after {'more steps in the source' if intermediate == MORE else intermediate}"
    lines = [f"{task} {metric} in percent, zero-shot{arm}: sources down, targets across"]
    lines.append("      " + "".join(f"{target:>6}" for target in targets) + "   mean of others")
    for source in dict.fromkeys(source for source, _ in cells):
        row = {t: float(np.mean(cells[source, t])) for t in targets if (source, t) in cells}
        others = [score for target, score in row.items() if target != source]
        mean = f"{np.mean(others):>17.1f}" if others else ""
        shown = "".join(f"{row[t]:>6.1f}" if t in row else "     -" for t in targets)
        lines.append(f"  {source:<4}{shown}{mean}")
    return "\n".join(lines)


def thirds(
    cells: Mapping[tuple[str, str], float], similarity: Callable[[str, str], float]
) -> tuple[float, float]:
    """Compares pairs of languages that are alike with pairs that are not.

    Args:
      cells: scores by (source, target) language.
      similarity: of two languages. Pairs that are equally alike each count with their mean score,
        so that it does not matter which of them fall into a third.

    Returns:
      The mean score of the third of the pairs of two languages that are most alike, and of the
      third that are least alike.
    """
    groups: dict[float, list[float]] = {}
    for (source, target), score in cells.items():
        if source != target:
            groups.setdefault(similarity(source, target), []).append(score)
    levelled = [np.mean(groups[alike]) for alike in sorted(groups) for _ in groups[alike]]
    third = len(levelled) // 3
    return float(np.mean(levelled[-third:])), float(np.mean(levelled[:third]))
