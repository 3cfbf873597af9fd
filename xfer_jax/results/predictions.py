"""Reads the outputs of models from folders in T5X's layout, whichever engine wrote them.

The folder of a run contains `config.gin` and `inference_eval/<task>-<step>.jsonl`. Scores are
always computed from the outputs, never read from files of metrics.
"""

import ast
import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pydantic

from seqio_tasks import catalogue, strict_metrics
from seqio_tasks.errors import RequestError
from seqio_tasks.files import read_text
from seqio_tasks.records import Task
from xfer_jax import selection

FOLDER = "inference_eval"
TEST = "test"  # folder in a run's: the evaluation of the chosen checkpoint on a test split


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The answers of one model to one task, from its last evaluation."""

    task: Task
    step: int
    inputs: list[str]
    tokens: list[list[int]]  # token ids of the inputs; empty if the file has none
    references: list[Any]  # the target text, or the list of answers
    answers: list[str]

    @property
    def score(self) -> float:
        """The score of the task in percent.

        Raises:
          RequestError: the metric does not accept these references.
        """
        return self.percent(self.task.family.scoring.score)

    def percent(self, name: str) -> float:
        """Returns one of the scores of the task in percent; raises RequestError, see `score`."""
        return self._percent(self.answers, name)

    @property
    def perfect(self) -> float:
        """The score, in percent, of answers that are equal to the references."""
        return self._percent(self._first_references())

    @property
    def expects_something(self) -> bool:
        """True if any reference contains an answer or an entity."""
        if self.task.family.format.answers_field:
            return any(answer for answers in self.references for answer in answers)
        return any(strict_metrics.parse_spans(reference) for reference in self.references)

    @property
    def baseline(self) -> float:
        """The score in percent of always giving the most frequent target, or nothing if better."""
        most_frequent, _ = Counter(self._first_references()).most_common(1)[0]
        n = len(self.answers)
        return max(self._percent([answer] * n) for answer in (most_frequent, ""))

    def _first_references(self) -> list[str]:
        return [r if isinstance(r, str) else r[0] for r in self.references]

    def _percent(self, answers: Sequence[str], name: str | None = None) -> float:
        scoring, metric = self.task.family.scoring, self.task.metric
        assert metric is not None
        try:
            return scoring.percent * metric(self.references, answers)[name or scoring.score]
        except ValueError as error:
            raise RequestError(f"{self.task.name}: the outputs cannot be scored: {error}") from None


class _Input(pydantic.BaseModel):
    """The input of a model."""

    inputs_pretokenized: str
    inputs: list[int] = []


class _Record(pydantic.BaseModel):
    """A line of a file of outputs, as evaluations write it; other fields are ignored."""

    model_config = pydantic.ConfigDict(strict=True)

    input: _Input
    target: str | Annotated[list[str], pydantic.Field(min_length=1)]
    output: str


def read(run: Path, task: Task) -> Outputs | None:
    """Reads the outputs of a task in a run that count; None if there are none.

    They are those of the test split, else of the checkpoint that was chosen, else the last.

    Raises:
      RequestError: the file of outputs is damaged.
    """
    if (run / TEST / FOLDER).is_dir():
        return read(run / TEST, task)
    files = {
        int(path.stem.rpartition("-")[2]): path
        for path in (run / FOLDER).glob(f"{task.name}-*.jsonl")
        if path.stem.rpartition("-")[2].isdecimal()
    }
    if not files:
        return None
    chosen = selection.read(run)
    step = chosen.steps.get(task.name, max(files)) if chosen else max(files)
    if step not in files:
        raise RequestError(
            f"{run / FOLDER} has no outputs of {task.name} at the chosen step {step}"
        )
    records = _records(files[step], task)
    return Outputs(
        task,
        step,
        [record.input.inputs_pretokenized for record in records],
        [record.input.inputs for record in records],
        [record.target for record in records],
        [record.output for record in records],
    )


def _records(path: Path, task: Task) -> list[_Record]:
    """Reads a file of outputs, one record per line.

    Raises:
      RequestError: an evaluation of this task cannot have written a line; names the line.
    """
    records = []
    # not splitlines(), which also splits at characters that JSON does not escape
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = _Record.model_validate_json(line)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"][:2]) or "the line"
            raise RequestError(
                f"{path} is damaged: line {number}, {place}: {first['msg']}"
            ) from None
        wrong = _wrong_target(record.target, task)
        if wrong:
            raise RequestError(f"{path} is damaged: line {number}, target: {wrong}")
        records.append(record)
    if not records:
        raise RequestError(f"{path} is damaged: it is empty")
    return records


def _wrong_target(target: str | list[str], task: Task) -> str:
    """Returns what is wrong with a target of a task, or an empty text."""
    text_format = task.family.format
    if text_format.answers_field:
        return "expected a list of answers" if isinstance(target, str) else ""
    if not isinstance(target, str):
        return "expected text"
    if text_format.labels and target.strip() not in text_format.labels:
        return f"expected one of {', '.join(text_format.labels)}"
    return ""


def tasks(run: Path) -> list[Task]:
    """Returns the tasks of this project for which a run has outputs.

    Raises:
      RequestError: there are none.
    """
    stems = {path.stem.rpartition("-") for path in (run / FOLDER).glob("*-*.jsonl")}
    names = sorted({name for name, _, step in stems if step.isdecimal()})
    found = []
    for name in names:
        try:
            task = catalogue.task(name)
        except RequestError:
            continue  # a task of another registry
        if task.family.scoring.metric is not None:
            found.append(task)
    if not found:
        has = f"only outputs of {', '.join(names[:4])}" if names else "no files *-<step>.jsonl"
        raise RequestError(f"{run / FOLDER} has no outputs of a task of this project: it has {has}")
    return found


def is_run(folder: Path) -> bool:
    """Returns whether a folder is the folder of one run, in T5X's layout."""
    return (folder / FOLDER).is_dir()


def runs_in(folder: Path) -> list[Path]:
    """Returns the run folders at or anywhere below a folder."""
    if is_run(folder):
        return [folder]
    found = (path.parent for path in folder.rglob(FOLDER) if path.is_dir())
    return sorted(run for run in found if not (run.name == TEST and is_run(run.parent)))


def table(runs: Sequence[Path]) -> pd.DataFrame:
    """Computes a table of scores from the outputs of runs, one row per run and target.

    The training task of a run is read from its `config.gin`: for the task `xfer_panx.sw.n100.s0`,
    the source language is Swahili and the column `arm` is `n100`.

    Raises:
      RequestError: a folder has no outputs, or its configuration does not name the training task.
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
                    "metric": task.family.scoring.score,
                    "score": outputs.score,
                    "n_examples": len(outputs.answers),
                    "run": str(run),
                }
            )
    return pd.DataFrame(rows)


def _trained_on(run: Path) -> tuple[Task, int]:
    path = run / "config.gin"
    try:
        text = read_text(path)
    except RequestError as error:
        raise RequestError(
            f"{error}; this file says which task and language the model was trained on"
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
    """Returns the value of a macro; None if it is missing or not a literal."""
    match = re.search(rf"^{macro} = \\?\n? *(.+)$", config, re.M)
    try:
        return ast.literal_eval(match[1]) if match else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
