"""What models answered: reads folders in T5X's layout, whichever engine wrote them.

A run's folder holds `config.gin` and `inference_eval/<task>-<step>.jsonl`. Files of metrics are not
trusted: scores are computed anew from the outputs.
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
        """The task's score in percent.

        Raises:
          RequestError: the metric does not take these references.
        """
        return self.percent(self.task.family.score)

    def percent(self, name: str) -> float:
        """Returns one of the task's scores in percent; raises RequestError, see `score`."""
        return self._percent(self.answers, name)

    @property
    def perfect(self) -> float:
        """The score, in percent, of answers that equal the references."""
        return self._percent(self._first_references())

    @property
    def expects_something(self) -> bool:
        """Whether a reference holds more than nothing, or no entity."""
        if self.task.family.answers_field:
            return any(answer for answers in self.references for answer in answers)
        return any(strict_metrics.parse_spans(reference) for reference in self.references)

    @property
    def baseline(self) -> float:
        """The better score, in percent, of always the commonest reference and always nothing."""
        commonest, _ = Counter(self._first_references()).most_common(1)[0]
        n = len(self.answers)
        return max(self._percent([answer] * n) for answer in (commonest, ""))

    def _first_references(self) -> list[str]:
        return [r if isinstance(r, str) else r[0] for r in self.references]

    def _percent(self, answers: Sequence[str], name: str | None = None) -> float:
        family, metric = self.task.family, self.task.metric
        assert metric is not None
        try:
            return family.percent * metric(self.references, answers)[name or family.score]
        except ValueError as error:
            raise RequestError(f"{self.task.name}: outputs cannot be scored: {error}") from None


class _Input(pydantic.BaseModel):
    """What a model was given."""

    inputs_pretokenized: str
    inputs: list[int] = []


class _Record(pydantic.BaseModel):
    """A line of a file of outputs, as evaluations write it; what else it holds does not matter."""

    model_config = pydantic.ConfigDict(strict=True)

    input: _Input
    target: str | Annotated[list[str], pydantic.Field(min_length=1)]
    output: str


def read(run: Path, task: Task) -> Outputs | None:
    """Reads the outputs of a run's last evaluation of a task; None when there are none.

    Raises:
      RequestError: they are damaged.
    """
    files = {
        int(path.stem.rpartition("-")[2]): path
        for path in (run / FOLDER).glob(f"{task.name}-*.jsonl")
        if path.stem.rpartition("-")[2].isdecimal()
    }
    if not files:
        return None
    step = max(files)
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
    """Reads a file of outputs, a record a line.

    Raises:
      RequestError: a line is not what an evaluation of this task writes; names it.
    """
    records = []
    # not splitlines(), which also parts a text at characters that JSON leaves as they are
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
    """Returns what is wrong with a target of a task, nothing where it is right."""
    family = task.family
    if family.answers_field:
        return "expected a list of answers" if isinstance(target, str) else ""
    if not isinstance(target, str):
        return "expected text"
    if family.labels and target.strip() not in family.labels:
        return f"expected one of {', '.join(family.labels)}"
    return ""


def tasks(run: Path) -> list[Task]:
    """Returns the tasks of this project that a run's folder has outputs of.

    Raises:
      RequestError: it has none.
    """
    stems = {path.stem.rpartition("-") for path in (run / FOLDER).glob("*-*.jsonl")}
    names = sorted({name for name, _, step in stems if step.isdecimal()})
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
        text = read_text(path)
    except RequestError as error:
        raise RequestError(
            f"{error}; this file says which language the model was trained in"
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
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
