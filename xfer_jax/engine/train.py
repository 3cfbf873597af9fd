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
from xfer_jax.checkpoints import locations, store
from xfer_jax.data import loader, token_cache
from xfer_jax.data.selection import EvalData, TrainingData
from xfer_jax.engine import evaluation, resume, run_folder, train_step
from xfer_jax.engine.prediction import Method, Predictor
from xfer_jax.engine.train_step import PER_TARGET_TOKEN
from xfer_jax.mt5 import model, partitioning
from xfer_jax.mt5.model import Transformer
from xfer_jax.runtime import host_memory, preemption, progress

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
@settings({"evaluation": "EVAL_PERIOD", "save": "SAVE_PERIOD", "log": "LOG_PERIOD"})
class Periods:
    """Numbers of steps between what a run does beside training; None: only at its end."""

    evaluation: Count | None = None
    save: Count | None = None
    keep_checkpoints: Count | None = 1  # number of latest checkpoints to keep; None: all
    log: Count = 50


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
    initial_checkpoint: Line | None = None  # None: a new model
    num_partitions: Count = 1  # devices that share one copy of the model
    seed: Seed = 0


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
    batch_size, optimisation = run.training_data.batch_size, run.optimisation
    if batch_size % mesh.shape["data"]:
        raise RequestError(
            f"BATCH_SIZE {batch_size} is not a multiple of the {mesh.shape['data']} devices"
            " that share the data"
        )
    train_tasks = catalogue.tasks(run.training_data.task)
    target_tasks = run.eval_data.resolved()
    source = train_tasks[0].language if len(train_tasks) == 1 else records.ALL_LANGUAGES
    for task in target_tasks:
        run.method.check(task)
    run_folder.check(run.folder, config_text)

    origin = resume.find(run.folder, run.initial_checkpoint, vocab)
    factor = optimisation.loss_normalizing_factor or 1.0
    shared = train_step.programs(run.model, mesh, optimisation.z_loss, factor)
    params, state, step = resume.restore(origin, run.model, mesh, shared, run.seed)
    first_step, last_step = _steps(run, origin, step)
    training, targets = _open_data(run, mesh, train_tasks, target_tasks, last_step - first_step)
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
    }

    def score(params: dict, step: int) -> list[evaluation.TargetScore]:
        network, data = Transformer(run.model), run.eval_data
        predictor = Predictor(
            network, params, mesh, vocab, data.lengths, data.batch_size, run.method
        )
        return evaluation.evaluate_all(predictor, targets, run.folder, step)

    loop = _Loop(run, mesh, shared, training, score, meta, last_step, params, state, step)
    del params, state  # the loop donates them, so nothing else may use them
    loop.saved = step if origin.resumed else None
    scores = loop.run_to_the_end()
    if scores:
        progress.say(evaluation.table(scores, source))
        evaluation.write_scores(run.folder, scores, meta)
    return scores


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
    run: Run, mesh: Mesh, train_tasks: Sequence[Task], target_tasks: Sequence[Task], steps: int
) -> tuple[loader.TrainingInput, list[token_cache.Cache]]:
    """Returns the training batches, and the examples of each task to evaluate on."""
    shares, data, config = mesh.shape["data"], run.eval_data, run.data_config
    rows = partitioning.local_rows(mesh, shares)
    with partitioning.first_goes_first():
        training = loader.training_input(
            train_tasks, run.training_data, config, steps, run.seed, shares, rows
        )
        caches = [token_cache.open_cache(task, data.split, config) for task in target_tasks]
    return training, [cache.sample(data.examples) for cache in caches]


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
        f" steps {step} to {last_step} of {data.batch_size} examples"
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
    shared: train_step.Programs
    training: loader.TrainingInput
    score: Callable[[dict, int], list[evaluation.TargetScore]]  # (parameters, step)
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
        self.params, self.state, sums = self.shared.update(
            self.params, self.state, on_mesh, seed, rate
        )
        self.step += 1
        bar.advance(1, self.run.training_data.batch_size)
        return sums

    def _save(self) -> None:
        if not _all_finite(self.params):
            raise RunError(
                f"the parameters are no longer finite at step {self.step}; nothing is saved"
            )
        tree = store.to_tree(self.params, self.state, self.step)
        store.save(self.run.folder, tree, self.meta)
        if partitioning.is_first():
            locations.keep(self.run.folder, self.run.periods.keep_checkpoints)
        self.saved = self.step

    def _evaluate_if_due(self, bar: progress.Bar, watch: preemption.Watch) -> None:
        period = self.run.periods.evaluation
        if period and self.step % period == 0 and self.step < self.last_step:
            bar.pause()
            watch.steps(running=False)
            self.score(self.params, self.step)
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
