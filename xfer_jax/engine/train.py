"""Pre-trains or fine-tunes an mT5 model, and evaluates it: `xfer-jax train`.

A run is a pure function of its configuration: the batch and the dropout key of a step depend only
on the seed and the step. `resume` finds the step at which a run starts.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import gin
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from seqio_tasks import catalogue, records, vocabulary
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import PreemptedError, RequestError, RunError
from seqio_tasks.records import Task
from seqio_tasks.settings import (
    AboveZero,
    Count,
    CountFromZero,
    Folder,
    FromZero,
    Line,
    Seed,
    settings,
)
from xfer_jax.checkpoints import store
from xfer_jax.data import loader, token_cache
from xfer_jax.data.packing import Layout
from xfer_jax.data.selection import EvalData, TrainingData
from xfer_jax.engine import evaluation, resume, run_folder, train_step
from xfer_jax.engine.checkpoint_spec import CheckpointSpec
from xfer_jax.engine.choice import Choice, Periods, Selection
from xfer_jax.engine.prediction import Method, Predictor
from xfer_jax.engine.train_step import PER_TARGET_TOKEN
from xfer_jax.mt5 import cost, model, partitioning
from xfer_jax.mt5.model import Transformer
from xfer_jax.runtime import device_memory, host_memory, preemption, progress

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


@gin.configurable(module="xfer_jax.engine.train")
@settings()
class Optimisation:
    """How the parameters are optimised, and for how many steps."""

    schedule: Callable[[Any], Any]  # learning rate by step
    train_steps: Count | None  # total, including those of the initial checkpoint, as in T5X
    train_steps_relative: CountFromZero | None = None  # instead: steps after the initial checkpoint
    z_loss: FromZero = 1e-4
    # divides the summed loss: a number is T5X's fixed factor; 1 when None
    loss_normalizing_factor: AboveZero | Literal["NUM_REAL_TARGET_TOKENS"] | None = PER_TARGET_TOKEN

    def __post_init__(self):
        if self.train_steps is None and self.train_steps_relative is None:
            raise RequestError("set TRAIN_STEPS or TRAIN_STEPS_RELATIVE: how many steps to train")


@gin.configurable(module="xfer_jax.engine.train")
@settings(
    {
        "folder": "MODEL_DIR",
        "initial_checkpoint": "INITIAL_CHECKPOINT_PATH",
        "seed": "RANDOM_SEED",
    }
)
class Run:
    """The settings of `xfer-jax train`, see gin/runs/train.gin."""

    folder: Folder  # for all output
    model: model.Config
    training_data: TrainingData
    eval_data: EvalData
    data_config: DataConfig
    method: Method  # of prediction
    optimisation: Optimisation
    periods: Periods = Periods()
    selection: Selection = Selection()
    initial_checkpoint: Line | None = None  # None: a new model
    num_partitions: Count = 1  # devices that share one copy of the model
    seed: Seed = 0

    def __post_init__(self):
        if self.selection.test_split is not None:
            for task in (task for name in self.eval_data.tasks for task in catalogue.tasks(name)):
                task.check_split(self.selection.test_split, "TEST_SPLIT: ")
        if self.selection.by == "last":
            return
        if self.periods.save is None:
            raise RequestError(
                f"SELECT_BY = {self.selection.by!r} chooses among checkpoints: set SAVE_PERIOD, the"
                " steps between them"
            )
        if not self.eval_data.tasks:
            raise RequestError(
                f"SELECT_BY = {self.selection.by!r} needs TARGETS to evaluate checkpoints on"
            )


def train(run: Run, config_text: str) -> list[evaluation.TargetScore]:
    """Trains to the last step, evaluates, and returns the scores of the last step.

    Args:
      run: the settings.
      config_text: the configuration as gin prints it; it is saved as `config.gin`.

    Raises:
      RequestError: the request is wrong; nothing has been written.
      RunError: the loss is no longer finite.
    """
    vocab = vocabulary.load_for(run.data_config, run.model.vocab_size)
    mesh = partitioning.make_mesh(run.num_partitions)
    train_tasks = catalogue.tasks(run.training_data.task)
    target_tasks = run.eval_data.resolved()
    source = train_tasks[0].language if len(train_tasks) == 1 else records.ALL_LANGUAGES
    _check(run, mesh, target_tasks, source)
    run_folder.check(run.folder, config_text)

    origin = resume.find(run.folder, run.initial_checkpoint, vocab)
    programs = train_step.programs(run.model, mesh)
    params, state, step = resume.restore(origin, run.model, mesh, programs, run.seed)
    first_step, last_step = _steps(run, origin, step)
    before = origin.about.get("microbatches") if origin.resumed else None
    training, targets = _open_data(
        run, mesh, train_tasks, target_tasks, last_step - first_step, before
    )
    factor = run.optimisation.loss_normalizing_factor or 1.0
    settings = train_step.Update(run.optimisation.z_loss, factor, training.microbatches)
    update = train_step.compiled(run.model, mesh, settings)
    if origin.resumed and origin.about.get("data", training.caches) != training.caches:
        raise RequestError(
            f"the data of {run.training_data.task} have changed since {origin.checkpoint} was"
            " written; use the data it was trained on, or choose another MODEL_DIR"
        )
    run_folder.claim(run.folder, config_text, origin.inputs)
    _announce(run, origin, training, step, last_step)

    meta = {
        "first_step": first_step,
        "vocabulary": vocab.digest,
        "vocabulary_file": vocab.name,
        "task": run.training_data.task,
        "source": source,
        "n_shots": train_tasks[0].subset,
        "examples": training.examples,
        "seed": run.seed,
        "data": training.caches,
        "microbatches": training.microbatches,
    }

    def score(params: dict, step: int) -> list[evaluation.TargetScore]:
        network, data = Transformer(run.model), run.eval_data
        predictor = Predictor(
            network, params, mesh, vocab, data.lengths, data.batch_size, run.method
        )
        return evaluation.evaluate_all(predictor, targets, run.folder, step)

    saved = range(first_step + 1, last_step + 1)
    choice = Choice(run.folder, run.selection, run.periods, saved, target_tasks, source)
    loop = _Loop(run, mesh, update, training, score, choice, meta, last_step, params, state, step)
    del params, state  # the loop donates them, so nothing else may use them
    loop.saved = step if origin.resumed else None
    scores = loop.run_to_the_end()
    del loop
    if scores and (run.selection.by != "last" or run.selection.test_split is not None):
        spec = CheckpointSpec(str(run.folder), run.model, run.num_partitions)
        scores = choice.evaluate(spec, run.eval_data, run.data_config, run.method)
    selected = {} if run.selection.by == "last" else {"selected_by": run.selection.by}
    if scores:
        progress.say(evaluation.table(scores, source))
        evaluation.write_scores(run.folder, scores, meta | selected)
    return scores


def _check(run: Run, mesh: Mesh, target_tasks: Sequence[Task], source: str) -> None:
    """Raises RequestError if the devices, the targets or their languages do not suit a run."""
    batch_size, shares = run.training_data.batch_size, mesh.shape["data"]
    if batch_size is not None and batch_size % shares:
        raise RequestError(
            f"BATCH_SIZE {batch_size} is not a multiple of the {shares} devices that share the data"
        )
    for task in target_tasks:
        run.method.check(task)
    if run.selection.by == "source" and source not in {task.language for task in target_tasks}:
        raise RequestError(
            f"SELECT_BY = 'source' needs scores of the source language: add {source!r} to TARGETS,"
            " or choose by another rule"
        )


def _steps(run: Run, origin: resume.Origin, step: int) -> tuple[int, int]:
    """Returns the first and the last step of a run that starts or continues at a step."""
    first_step = origin.about.get("first_step", step) if origin.resumed else step
    last_step, relative = run.optimisation.train_steps, run.optimisation.train_steps_relative
    if relative is not None:
        last_step = first_step + relative
    assert last_step is not None, "Optimisation has one of the two"
    if last_step < step:
        raise RequestError(
            f"TRAIN_STEPS is {last_step}, but the run starts at step {step}: the total includes the"
            " initial checkpoint's steps; TRAIN_STEPS_RELATIVE counts from there"
        )
    return first_step, last_step


def _open_data(
    run: Run,
    mesh: Mesh,
    train_tasks: Sequence[Task],
    target_tasks: Sequence[Task],
    steps: int,
    microbatches: int | None,
) -> tuple[loader.TrainingInput, list[token_cache.Cache]]:
    """Returns the training batches, and the examples of each task to evaluate on.

    `microbatches` is their number so far, if the run goes on: it decides what dropout draws.
    """
    shares, data, config = mesh.shape["data"], run.eval_data, run.data_config
    rows = partitioning.local_rows(mesh, shares)
    with partitioning.first_goes_first():
        training = loader.training_input(
            train_tasks,
            run.training_data,
            config,
            steps,
            run.seed,
            shares,
            rows,
            lambda layout: microbatches or _microbatches(run, layout),
        )
        caches = [token_cache.open_cache(task, data.split, config) for task in target_tasks]
    return training, [cache.sample(data.examples) for cache in caches]


def _microbatches(run: Run, layout: Layout) -> int:
    """Returns into how many parts a batch is cut: as asked for, or as few as fit the device.

    Raises:
      RequestError: a single row does not fit.
    """
    if run.training_data.num_microbatches is not None:
        return run.training_data.num_microbatches
    memory, rows = device_memory.bytes_of_one(), layout.usual_rows / layout.shares
    parts = cost.microbatches(run.model, rows, *layout.lengths, memory)
    if parts is None:
        least = cost.training_bytes(run.model, 1, *layout.lengths)
        inputs, targets = layout.lengths
        raise RequestError(
            f"no micro-batch fits the device: the smallest, one row of {inputs} and {targets}"
            f" tokens, needs about {least / 2**30:.1f} GiB, and the device has"
            f" {memory / 2**30:.1f}; set REMAT = True, shorter TASK_FEATURE_LENGTHS or more"
            " NUM_PARTITIONS, or set NUM_MICROBATCHES to try it"
        )
    return parts


def _announce(
    run: Run, origin: resume.Origin, training: loader.TrainingInput, step: int, last_step: int
) -> None:
    """Prints the training data, and warnings about them."""
    going_on = f"; continuing from {origin.checkpoint}" if origin.checkpoint else ""
    for complaint in origin.damaged:
        progress.say(f"warning: {complaint}{going_on}")
    data = run.training_data
    progress.say(
        f"training on {data.task}: {training.examples} examples,"
        f" steps {step} to {last_step} of {training.batch_size} examples"
        + (f" in {training.microbatches} micro-batches" if training.microbatches > 1 else "")
    )
    if training.long_targets:
        what = {"drop": "left out", "trim": "cut"}[data.long_targets]
        progress.say(f"{training.long_targets} training targets are too long and {what}")
    if training.truncated_inputs:
        tokens = f"{data.lengths['inputs']} tokens"
        progress.say(f"{training.truncated_inputs} training inputs are truncated to {tokens}")


@dataclasses.dataclass
class _Loop:
    """The steps of a run, its checkpoints and its evaluations."""

    run: Run
    mesh: Mesh
    update: Callable[..., Any]  # see `train_step.compiled`
    training: loader.TrainingInput
    score: Callable[[dict, int], list[evaluation.TargetScore]]  # (parameters, step)
    choice: Choice
    meta: dict[str, Any]  # saved in checkpoints besides the arrays
    last_step: int
    params: dict
    state: optax.FactoredState
    step: int  # number of steps done
    saved: int | None = None  # the step of the latest checkpoint

    def run_to_the_end(self) -> list[evaluation.TargetScore]:
        """Trains, saves and evaluates; returns the scores at the last step.

        Raises:
          PreemptedError: SIGTERM; the step is saved.
        """
        bar = progress.Bar("train", self.last_step, self.step)
        with preemption.Watch() as watch:
            try:
                self._train(bar, watch)
                return self.score(self.params, self.step)
            except PreemptedError as end:
                watch.steps(running=True)
                if self.saved != self.step:
                    self._save()
                raise PreemptedError(
                    f"{end} at step {self.step}, which is saved; the same command continues there"
                ) from None

    def _train(self, bar: progress.Bar, watch: preemption.Watch) -> None:
        periods, first_step = self.run.periods, self.meta["first_step"]
        steps = np.arange(first_step, self.last_step)
        rates = np.broadcast_to(np.asarray(self.run.optimisation.schedule(steps)), steps.shape)
        writer = run_folder.events(self.run.folder / "train")
        batches = self.training.iterator(self.step - first_step)
        pending: list[dict[str, jax.Array]] = []  # sums of the loss that are still on the devices
        if self.saved is not None:  # the run may have ended between saving and evaluating
            self._evaluate_if_due(bar, watch)
        watch.steps(running=True)
        while self.step < self.last_step:
            rate = float(rates[self.step - first_step])
            pending.append(self._update(next(batches), rates[self.step - first_step], bar))
            if len(pending) == 1:  # the program may have been compiled just now
                host_memory.give_back()
            at_end = self.step == self.last_step
            saving = at_end or bool(periods.save and self.step % periods.save == 0)
            if self.step % periods.log == 0 or saving:
                bar.show(**_log(writer, pending, self.step, rate))
                pending.clear()
            if saving:
                self._save()
            if watch.wanted(self.step):
                raise PreemptedError("ended by SIGTERM")
            self._evaluate_if_due(bar, watch)
        if self.saved is None:  # a new run with no steps
            self._save()
        bar.close()
        writer.close()
        watch.steps(running=False)
        if bar.padding is not None:
            progress.say(f"{bar.padding:.0%} of the tokens of the packed batches are padding")

    def _update(self, batch: dict[str, np.ndarray], rate: Any, bar: progress.Bar) -> dict:
        """Takes one step; returns the sums of its loss, perhaps before they are computed."""
        rows = partitioning.all_rows(self.mesh, len(batch["encoder_input_tokens"]))
        bar.add_tokens(batch, rows)
        on_mesh = partitioning.place(self.mesh, batch)
        seed = np.asarray(self.run.seed, np.uint32)
        self.params, self.state, sums = self.update(self.params, self.state, on_mesh, seed, rate)
        self.step += 1
        bar.advance(1, self.training.batch_size)
        return sums

    def _save(self) -> None:
        if not _all_finite(self.params):
            raise RunError(
                f"the parameters are no longer finite at step {self.step}; nothing is saved"
            )
        tree = store.to_tree(self.params, self.state, self.step)
        store.save(self.run.folder, tree, self.meta)
        if partitioning.is_first():
            self.choice.keep(self.step)
        self.saved = self.step

    def _evaluate_if_due(self, bar: progress.Bar, watch: preemption.Watch) -> None:
        periods, selecting = self.run.periods, self.run.selection.by != "last"
        at = (periods.evaluation, periods.save if selecting else None)
        due = any(period and self.step % period == 0 for period in at)
        if due and self.step < self.last_step:
            bar.pause()
            watch.steps(running=False)
            self.score(self.params, self.step)
            if partitioning.is_first() and self.saved is not None:
                self.choice.keep(self.saved)
            watch.steps(running=True)
            bar.resume()


@jax.jit
def _all_finite(params: dict) -> jax.Array:
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(params)]))


def _log(
    writer: "SummaryWriter", pending: list[dict[str, jax.Array]], step: int, rate: float
) -> dict[str, str]:
    sums = jax.device_get(pending)
    totals = {name: float(np.sum([s[name] for s in sums])) for name in sums[0]}
    values = {
        "loss": totals["loss"] / totals["weight"],
        "z_loss": totals["z_loss"] / totals["weight"],
        "accuracy": totals["correct"] / totals["weight"],
        "learning_rate": rate,
    }
    if not math.isfinite(values["loss"]):
        bad = next(i for i, s in enumerate(sums) if not math.isfinite(float(s["loss"])))
        raise RunError(
            f"the loss became {float(sums[bad]['loss'])} at step {step - len(sums) + bad}"
        )
    for name, value in values.items():
        writer.add_scalar(name, value, step)
    return {"loss": f"{values['loss']:.3f}", "accuracy": f"{values['accuracy']:.3f}"}
