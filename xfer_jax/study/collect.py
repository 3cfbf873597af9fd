"""Collects a study's tables: scores, probes and retrieval.

Scores are computed anew from the outputs of the jobs, whichever engine wrote them; files of metrics
are not trusted.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task
from xfer_jax import selection
from xfer_jax.analysis import checkpoints
from xfer_jax.engine import retrieval, run_folder
from xfer_jax.results import csv_file, predictions, probe_table, score_table
from xfer_jax.results.score_table import MORE
from xfer_jax.study import job_record, job_settings
from xfer_jax.study.definition import Study
from xfer_jax.study.job import Job
from xfer_jax.study.job_graph import lay_out

FILE = "scores.csv"
_TABLES = {"probe": probe_table.FILE, "retrieve": retrieval.FILE}  # by action


def collect(study: Study, out: Path) -> str:
    """Writes the tables of the jobs that are done into the study's folder.

    Returns:
      What to print: matrices of scores, tables of probes, and warnings.
    """
    done, warnings = _done(lay_out(study), out)
    rows, problems = scores(study, out, done)
    run_folder.write(out / FILE, score_table.text(rows))
    shown = [matrices(rows), f"scores: {out / FILE}"]
    compared = [row for job in done for row in _by_rule(study, job, out)]
    if compared:
        csv_file.write(out / checkpoints.FILE, pd.DataFrame(compared, columns=checkpoints.COLUMNS))
        shown.append(f"checkpoints: {out / checkpoints.FILE}")
    for action, file in _TABLES.items():
        frames = [_table(out, job, file) for job in done if job.stage.action == action]
        if frames:
            csv_file.write(out / file, pd.concat(frames))
            shown.append(f"{action}: {out / file}")
    return "\n\n".join(part for part in shown if part) + "".join(
        f"\nwarning: {problem}" for problem in (*problems, *warnings)
    )


def _done(every: Iterable[Job], out: Path) -> tuple[list[Job], list[str]]:
    """Returns the jobs that are done, and a warning if unlike machines did them."""
    done: list[Job] = []
    machines: dict[str, str] = {}
    for job in every:
        record = job_record.read(out, job.name)
        if record is not None:
            done.append(job)
            machines[f"{record.cores} cores and {record.device}"] = job.name
    if len(machines) < 2:
        return done, []
    named = "; ".join(f"{name} with {where}" for where, name in machines.items())
    return done, [
        "these jobs ran on unlike machines, so their scores may differ by more than the last"
        f" digits: {named}"
    ]


def _by_rule(study: Study, job: Job, out: Path) -> Iterator[dict[str, Any]]:
    """Yields what each rule would have chosen among the checkpoints of a job, see `selection`."""
    found = selection.read(out / job.name)
    if found is None:
        return
    run = job_settings.load(study, job, out)[0]
    assert isinstance(run, job_settings.Run)
    for rule in selection.RULES:
        if rule == "source" and not found.source:
            continue
        for name, step in selection.choose(found.scores, rule, found.source).items():
            task = catalogue.task(name)
            yield {
                "task": task.full_name.rpartition(".")[0],
                "source": job.source_model.language or job_settings.trained(run, job)[1],
                "target": task.language,
                "n_shots": _n_shots(job, out),
                "seed": job.seed,
                "rule": rule,
                "step": step,
                "score": found.scores[name][step],
                "run": job.name,
            }


def _table(out: Path, job: Job, file: str) -> pd.DataFrame:
    """Returns the table of a job, with a column that names the model: '' is the initial one."""
    frame = pd.read_csv(out / job.name / file, keep_default_na=False)
    frame["run"] = job.parent.name if job.parent else ""
    return frame


def scores(study: Study, out: Path, done: Iterable[Job]) -> tuple[list[dict[str, Any]], list[str]]:
    """Computes the scores of jobs from their outputs.

    Returns:
      A row for each cell, with the columns of `score_table`; and which jobs are left out, and why.
    """
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    baselines: dict[tuple[str, int], float] = {}
    for job in done:
        if job.stage.action != "train" or not job.targets:
            continue
        try:
            problem = job_record.damaged(out, job.name)
            if problem:
                raise RequestError(problem)
            rows += _rows(study, job, out, baselines)
        except RequestError as error:
            problems.append(f"{job.name} is left out: {error}")
    return rows, problems


def _rows(
    study: Study, job: Job, out: Path, baselines: dict[tuple[str, int], float]
) -> list[dict[str, Any]]:
    """Returns the rows of one job that is done; keeps baselines, which many jobs share."""
    rows = []
    run, model = job_settings.load(study, job, out)[0], job.source_model
    assert isinstance(run, job_settings.Run)
    for name in run.eval_data.tasks:
        task = catalogue.task(name)
        found = _outputs(out / job.name, task)
        references = (task.name, hash(str(found.references)))
        if references not in baselines:
            baselines[references] = found.baseline
        rows.append(
            {
                "task": task.full_name.rpartition(".")[0],
                "source": model.language or job_settings.trained(run, job)[1],
                "target": task.language,
                "intermediate": _intermediate(study, model),
                "arm": model.variant,
                "n_shots": _n_shots(job, out),
                "n_train": "" if job.is_few_shot else _examples(out / job.name),
                "seed": job.seed,
                "metric": task.family.scoring.score,
                "score": found.score,
                "baseline": baselines[references],
                "n_examples": len(found.answers),
                "split": run.selection.test_split or run.eval_data.split,
                "step": found.step,
                "selected_by": run.selection.by,
                "model": study.model,
                "engine": study.engine,
                "run": job.name,
            }
        )
    return rows


def _outputs(folder: Path, task: Task) -> predictions.Outputs:
    """Returns a job's outputs of a task; raises RequestError if there are none, or damaged ones."""
    found = predictions.read(folder, task)
    if found is None:
        raise RequestError(f"it has no predictions of {task.name}; remove {folder / 'done.json'}")
    return found


def _intermediate(study: Study, model: Job) -> str:
    """Returns what a source model was trained on before: 'panx.uralic.n1100', or ''.

    Several tasks are joined by ' > '. Training on the model's own task and language is 'more'. The
    first stage is not named if it trains a new model: it is the pre-training.
    """
    *before, _ = model.chain
    if before and study.initial_checkpoint is None:
        before = before[1:]
    names = []
    for job in before:
        own = (job.task, job.language) == (model.task, model.language)
        parts = filter(None, (job.task, job.language, job.variant))
        names.append(MORE if own else ".".join(parts))
    return " > ".join(names)


def _n_shots(job: Job, out: Path) -> int | str:
    if not job.is_few_shot:
        return 0
    return int(job.variant[1:]) if job.variant.startswith("n") else _examples(out / job.name)


def _examples(folder: Path) -> int | str:
    """Returns how many examples a model was trained on; '' where it was not written down."""
    files = sorted(folder.glob("checkpoint_*/run.json"))
    return json.loads(files[-1].read_text("utf-8")).get("examples", "") if files else ""


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
