"""What models answered: reads folders in T5X's layout, whichever engine wrote them.

A run's folder holds `config.gin` and `inference_eval/<task>-<step>.jsonl`. Files of metrics are not
trusted: scores are computed anew from the outputs.
"""

import ast
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seqio_tasks import catalogue
from seqio_tasks.catalogue import Task
from seqio_tasks.errors import RequestError

FOLDER = "inference_eval"


@dataclasses.dataclass(frozen=True)
class Outputs:
    """One model's answers to one task, of its last evaluation."""

    task: Task
    step: int
    inputs: list[str]
    tokens: list[list[int]]  # of the inputs; empty where the file has none
    references: list[Any]  # the target text, or the list of answers
    answers: list[str]

    @property
    def score(self) -> float:
        """The task's score in percent."""
        family, metric = self.task.family, self.task.metric
        assert metric is not None
        return family.percent * metric(self.references, self.answers)[family.score]


def read(run: Path, task: Task) -> Outputs | None:
    """Reads the outputs of a run's last evaluation of a task; None when there are none.

    Raises:
      RequestError: they are damaged.
    """
    files = {
        int(path.stem.rpartition("-")[2]): path
        for path in (run / FOLDER).glob(f"{task.name}-*.jsonl")
        if path.stem.rpartition("-")[2].isdigit()
    }
    if not files:
        return None
    step = max(files)
    inputs, tokens, references, answers = [], [], [], []
    try:
        # not splitlines(), which also parts a text at characters that JSON leaves as they are
        for line in filter(None, files[step].read_text("utf-8").split("\n")):
            record = json.loads(line)
            inputs.append(record["input"]["inputs_pretokenized"])
            tokens.append(record["input"].get("inputs", []))
            references.append(record["target"])
            answers.append(record["output"])
    except (ValueError, KeyError, TypeError):
        raise RequestError(
            f"{files[step]} is damaged: it is not what an evaluation wrote"
        ) from None
    if not answers:
        raise RequestError(f"{files[step]} is damaged: it is empty")
    return Outputs(task, step, inputs, tokens, references, answers)


def tasks(run: Path) -> list[Task]:
    """Returns the tasks of this project that a run's folder has outputs of.

    Raises:
      RequestError: it has none.
    """
    stems = {path.stem.rpartition("-") for path in (run / FOLDER).glob("*-*.jsonl")}
    names = sorted({name for name, _, step in stems if step.isdigit()})
    found = []
    for name in names:
        try:
            task = catalogue.task(name)
        except RequestError:
            continue  # of another registry
        if task.family.metric is not None:
            found.append(task)
    if not found:
        has = f"only of {', '.join(names[:4])}" if names else "none"
        raise RequestError(f"{run / FOLDER} has outputs of no task of this project: {has}")
    return found


def is_run(folder: Path) -> bool:
    """Whether a folder is one run's, in T5X's layout."""
    return (folder / FOLDER).is_dir()


def runs_in(folder: Path) -> list[Path]:
    """Returns the run folders at or anywhere below a folder."""
    if is_run(folder):
        return [folder]
    return sorted(path.parent for path in folder.rglob(FOLDER) if path.is_dir())


def table(runs: Sequence[Path]) -> pd.DataFrame:
    """Computes a table of scores from the outputs of runs, a row a run and target.

    What a run was trained on is read from its `config.gin`: of a task `xfer_panx.sw.n100.s0` the
    source is Swahili, and `n100` goes into the column `arm`.

    Raises:
      RequestError: a folder without outputs, or whose configuration does not say the language.
    """
    rows = []
    for run in runs:
        trained, seed = _trained_on(run)
        arm = trained.name.removeprefix(trained.full_name).strip(".").rpartition(".s")[0]
        for task in tasks(run):
            outputs = read(run, task)
            assert outputs is not None
            rows.append(
                {
                    "task": task.full_name.rpartition(".")[0],
                    "source": trained.language,
                    "target": task.language,
                    "arm": arm,
                    "seed": seed,
                    "metric": task.family.score,
                    "score": outputs.score,
                    "n_examples": len(outputs.answers),
                    "run": str(run),
                }
            )
    return pd.DataFrame(rows)


def _trained_on(run: Path) -> tuple[Task, int]:
    path = run / "config.gin"
    try:
        text = path.read_text("utf-8")
    except OSError:
        raise RequestError(
            f"{path} cannot be read: it says which language the model was trained in"
        ) from None
    name = _setting(text, "MIXTURE_OR_TASK_NAME")
    if not isinstance(name, str):
        parts = [_setting(text, macro) for macro in ("TASK", "SOURCE", "SUBSET")]
        name = ".".join(part for part in parts if isinstance(part, str) and part)
    try:
        task = catalogue.task(name)
    except RequestError as error:
        raise RequestError(f"{path} does not say what the model was trained on: {error}") from None
    seed = _setting(text, "RANDOM_SEED")
    return task, seed if isinstance(seed, int) else 0


def _setting(config: str, macro: str) -> Any:
    """Returns a macro's value, None where it is not a plain one."""
    match = re.search(rf"^{macro} = \\?\n? *(.+)$", config, re.M)
    try:
        return ast.literal_eval(match[1]) if match else None
    except (ValueError, SyntaxError):
        return None
