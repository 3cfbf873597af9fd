"""Which checkpoints a run keeps, and which of them counts in the end."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import gin

from seqio_tasks.data_config import DataConfig
from seqio_tasks.records import Task
from seqio_tasks.settings import Count, Line, settings
from xfer_jax import selection
from xfer_jax.checkpoints import locations
from xfer_jax.data import token_cache
from xfer_jax.data.selection import EvalData
from xfer_jax.engine import evaluation
from xfer_jax.engine.checkpoint_spec import CheckpointSpec
from xfer_jax.engine.prediction import Method, Predictor
from xfer_jax.mt5.model import Transformer
from xfer_jax.results import predictions
from xfer_jax.runtime import progress


@gin.configurable(module="xfer_jax.engine.choice")
@settings({"evaluation": "EVAL_PERIOD", "save": "SAVE_PERIOD", "log": "LOG_PERIOD"})
class Periods:
    """Numbers of steps between what a run does beside training; None: only at its end."""

    evaluation: Count | None = None
    save: Count | None = None
    keep_checkpoints: Count | None = 1  # number of latest checkpoints to keep; None: all
    log: Count = 50


@gin.configurable(module="xfer_jax.engine.choice")
@settings({"by": "SELECT_BY", "test_split": "TEST_SPLIT"})
class Selection:
    """Which checkpoint counts in the end, and what else it is evaluated on."""

    # 'last'; or the best on EVAL_SPLIT: 'source' on the source language, 'mean' over all targets,
    # 'each_target' on each target for itself
    by: selection.Rule = "last"
    test_split: Line | None = None  # evaluated once, on the checkpoint that was chosen


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a run chooses among its checkpoints."""

    folder: Path  # of the run
    settings: Selection
    periods: Periods
    steps: range  # after the first of the run, to the last
    tasks: Sequence[Task]  # to evaluate on
    source: str  # language

    def scores(self) -> dict[str, dict[int, float]]:
        """Returns what the run's checkpoints scored so far, by task and step."""
        of = {task.name: task.family.scoring for task in self.tasks}
        metrics = {name: (scoring.score, scoring.percent) for name, scoring in of.items()}
        return {
            name: {step: score for step, score in found.items() if self._is_saved(step)}
            for name, found in selection.measured(self.folder, metrics).items()
        }

    def _is_saved(self, step: int) -> bool:
        at_period = bool(self.periods.save) and step % (self.periods.save or 1) == 0
        return step in self.steps and (at_period or step == self.steps[-1])

    @property
    def source_task(self) -> str:
        """The name of the task in the source language; empty if it is not evaluated."""
        names = [task.name for task in self.tasks if task.language == self.source]
        return names[0] if names else ""

    def keep(self, latest: int) -> None:
        """Removes the checkpoints that are neither among the best nor the latest.

        Args:
          latest: the step that was saved last.
        """
        count = self.periods.keep_checkpoints
        if self.settings.by == "last":
            locations.keep(self.folder, count)
        elif count is not None:
            best = selection.ranked(self.scores(), self.settings.by, self.source_task)[:count]
            locations.keep_only(self.folder, {latest}.union(*best))

    def evaluate(
        self, spec: CheckpointSpec, data: EvalData, data_config: DataConfig, method: Method
    ) -> list[evaluation.TargetScore]:
        """Chooses the checkpoint that counts, and evaluates it on the test split if there is one.

        Args:
          spec: of the run's folder.
          data: what its checkpoints were evaluated on.
          data_config: where the examples come from.
          method: of prediction.

        Returns:
          The scores on the test split, or else those that the choice was made by.
        """
        rule, split = self.settings.by, self.settings.test_split
        found = selection.select(self.folder, self.scores(), rule, data.split, self.source_task)
        progress.say(f"checkpoint {found.step} is chosen: SELECT_BY is {rule!r}")
        for step in sorted(set(found.steps.values())) if split else ():
            of_step = dataclasses.replace(spec, path=str(self.folder / f"checkpoint_{step}"))
            checkpoint = of_step.find(data_config)
            params, _, mesh = checkpoint.restore()
            predictor = Predictor(
                Transformer(spec.model), params, mesh, checkpoint.vocabulary, data.lengths,
                data.batch_size, method,
            )  # fmt: skip
            tasks = [task for task in self.tasks if found.steps[task.name] == step]
            caches = [token_cache.open_cache(task, split or "", data_config) for task in tasks]
            samples = [cache.sample(data.examples) for cache in caches]
            evaluation.evaluate_all(predictor, samples, self.folder / predictions.TEST, step)
        counted = split or data.split
        return [evaluation.read_score(self.folder, task, counted) for task in self.tasks]
