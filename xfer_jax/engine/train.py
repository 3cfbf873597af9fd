"""Fine-tunes or pre-trains an mT5, and scores it on its targets. Read from top to bottom.

A run is a pure function of its configuration: batch and dropout key of a step depend on nothing but
the seed and the step. `resume` says where it starts.
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
from seqio_tasks.errors import PreemptedError, RequestError, RunError
from seqio_tasks.records import Task
from seqio_tasks.sentencepiece_model import Vocabulary
from seqio_tasks.settings import (
    AboveZero,
    BatchSize,
    Count,
    CountFromZero,
    Folder,
    FromZero,
    Line,
    Lines,
    Seed,
    settings,
)
from xfer_jax.checkpoints import locations, store
from xfer_jax.data import loader, streams, token_cache
from xfer_jax.engine import evaluation, resume, run_folder, train_step
from xfer_jax.engine.prediction import Method, Predictor
from xfer_jax.engine.train_step import PER_TARGET_TOKEN
from xfer_jax.mt5 import model, partitioning
from xfer_jax.mt5.model import Transformer
from xfer_jax.runtime import host_memory, preemption, progress

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


@gin.configurable(module="xfer_jax.engine.train")
@settings(
    {
        "task": "MIXTURE_OR_TASK_NAME",
        "targets": "EVAL_TASKS",
        "lengths": "TASK_FEATURE_LENGTHS",
        "initial_checkpoint": "INITIAL_CHECKPOINT_PATH",
        "eval_examples": "EVALUATOR_NUM_EXAMPLES",
        "seed": "RANDOM_SEED",
    }
)
class Run:
    """What `xfer-jax train` does. Macros of the same names in capitals set the fields."""

    model_dir: Folder  # where everything goes
    model: model.Config
    task: Line  # MIXTURE_OR_TASK_NAME: what to train on
    targets: Lines  # names of the tasks to evaluate on
    lengths: dict[str, Any]  # TASK_FEATURE_LENGTHS: most tokens of 'inputs' and 'targets'
    schedule: Callable[[Any], Any]  # learning rate by step
    method: Method  # of prediction
    train_steps: Count | None  # total, pre-training included, as in T5X
    train_steps_relative: CountFromZero | None = None  # instead: steps after the initial checkpoint
    initial_checkpoint: Line | None = None  # a new model when None
    batch_size: BatchSize = 128  # examples a step
    long_targets: Literal["error", "drop", "trim"] = "error"  # targets that their length would cut
    mixing_temperature: AboveZero | None = None  # of several tasks; None: equal parts
    train_split: Line = "train"
    eval_split: Line = "validation"
    eval_period: Count | None = None  # steps between evaluations; at the end only when None
    eval_batch_size: BatchSize = 256  # examples decoded at a time
    eval_examples: Count | None = None  # EVALUATOR_NUM_EXAMPLES: a sample a target; all when None
    save_period: Count | None = None  # steps between checkpoints; at the end only when None
    keep_checkpoints: Count | None = 1  # the latest so many; all when None
    log_period: Count = 50  # steps between lines of train metrics
    z_loss: FromZero = 1e-4
    # divides the summed loss: a number is T5X's fixed factor; 1 when None
    loss_normalizing_factor: AboveZero | Literal["NUM_REAL_TARGET_TOKENS"] | None = PER_TARGET_TOKEN
    num_partitions: Count = 1  # devices that share one copy of the model
    seed: Seed = 0

    def __post_init__(self):
        if self.train_steps is None and self.train_steps_relative is None:
            raise RequestError("set TRAIN_STEPS or TRAIN_STEPS_RELATIVE: how many steps to train")
        streams.check_lengths(self.lengths)
        streams.check_split("TRAIN_SPLIT", self.train_split, [self.task])
        streams.check_split("EVAL_SPLIT", self.eval_split, self.targets)


def train(run: Run, config_text: str) -> list[evaluation.Scores]:
    """Runs to the last step, evaluates, and returns the last scores.

    Args:
      run: what to do.
      config_text: the configuration as gin prints it, kept as `config.gin`.

    Raises:
      RequestError: a wrong request; nothing has been written then.
      RunError: the loss is no longer finite.
    """
    vocab = vocabulary.load_for(run.model.vocab_size)
    mesh = partitioning.make_mesh(run.num_partitions)
    if run.batch_size % mesh.shape["data"]:
        raise RequestError(
            f"BATCH_SIZE {run.batch_size} is not a multiple of the {mesh.shape['data']} devices"
            " that share the data"
        )
    train_tasks = catalogue.tasks(run.task)
    target_tasks = [task for name in run.targets for task in catalogue.tasks(name)]
    source = train_tasks[0].language if len(train_tasks) == 1 else records.ALL_LANGUAGES
    for task in target_tasks:
        run.method.check(task)
    run_folder.check(run.model_dir, config_text)

    origin = resume.find(run.model_dir, run.initial_checkpoint, vocab)
    shared = train_step.programs(run.model, mesh, run.z_loss, run.loss_normalizing_factor or 1.0)
    params, state, step = resume.restore(origin, run.model, mesh, shared, run.seed)
    first_step, last_step = _steps(run, origin, step)
    training, targets = _open_data(
        run, mesh, vocab, train_tasks, target_tasks, last_step - first_step
    )
    if origin.resumed and origin.about.get("data", training.caches) != training.caches:
        raise RequestError(
            f"the data of {run.task} have changed since {origin.checkpoint} was written; go on with"
            " the data it was trained on, or choose another MODEL_DIR"
        )
    run_folder.claim(run.model_dir, config_text, origin.inputs)
    _announce(run, origin, training, step, last_step)

    meta = {
        "first_step": first_step,
        "vocabulary": vocab.digest,
        "vocabulary_file": vocab.name,
        "task": run.task,
        "source": source,
        "n_shots": train_tasks[0].subset,
        "examples": training.examples,
        "seed": run.seed,
        "data": training.caches,
    }

    def score(params: dict, step: int) -> list[evaluation.Scores]:
        network, size = Transformer(run.model), run.eval_batch_size
        predictor = Predictor(network, params, mesh, vocab, run.lengths, size, run.method)
        return evaluation.evaluate_all(predictor, targets, run.model_dir, step)

    loop = _Loop(run, mesh, shared, training, score, meta, last_step, params, state, step)
    del params, state  # the loop's alone: it donates them
    loop.saved = step if origin.resumed else None
    scores = loop.run_to_the_end()
    if scores:
        progress.say(evaluation.table(scores, source))
        evaluation.write_scores(run.model_dir, scores, meta)
    return scores


def _steps(run: Run, origin: resume.Origin, step: int) -> tuple[int, int]:
    """Returns the run's first and last step, given the step that it starts or goes on from."""
    first_step = origin.about.get("first_step", step) if origin.resumed else step
    last_step = run.train_steps
    if run.train_steps_relative is not None:
        last_step = first_step + run.train_steps_relative
    assert last_step is not None, "a Run has one of the two"
    if last_step < step:
        raise RequestError(
            f"TRAIN_STEPS is {last_step}, but the run starts at step {step}: the total includes the"
            " initial checkpoint's steps; TRAIN_STEPS_RELATIVE counts from there"
        )
    return first_step, last_step


def _open_data(
    run: Run,
    mesh: Mesh,
    vocab: Vocabulary,
    train_tasks: Sequence[Task],
    target_tasks: Sequence[Task],
    steps: int,
) -> tuple[loader.TrainingData, list[token_cache.Cache]]:
    """Returns the training data, and the examples of each task to evaluate on."""
    shares = mesh.shape["data"]
    with partitioning.first_goes_first():
        training = loader.training_data(
            train_tasks,
            run.train_split,
            vocab,
            run.lengths,
            run.batch_size,
            steps,
            run.seed,
            run.long_targets,
            run.mixing_temperature,
            shares,
            partitioning.local_rows(mesh, shares),
        )
        targets = [
            token_cache.open_cache(task, run.eval_split, vocab).sample(run.eval_examples)
            for task in target_tasks
        ]
    return training, targets


def _announce(
    run: Run, origin: resume.Origin, training: loader.TrainingData, step: int, last_step: int
) -> None:
    """Prints what is trained on, and what a user should know of it."""
    going_on = f"; going on from {origin.checkpoint}" if origin.checkpoint else ""
    for complaint in origin.damaged:
        progress.say(f"warning: {complaint}{going_on}")
    progress.say(
        f"training on {run.task}: {training.examples} examples,"
        f" steps {step} to {last_step} of {run.batch_size} examples"
    )
    if training.long_targets:
        what = {"drop": "left out", "trim": "cut"}[run.long_targets]
        progress.say(f"{training.long_targets} training targets are too long and {what}")
    if training.truncated_inputs:
        progress.say(
            f"{training.truncated_inputs} training inputs are cut to {run.lengths['inputs']}"
        )


@dataclasses.dataclass
class _Loop:
    """The steps of a run, its checkpoints and its evaluations."""

    run: Run
    mesh: Mesh
    shared: train_step.Programs
    training: loader.TrainingData
    score: Callable[[dict, int], list[evaluation.Scores]]  # (parameters, step)
    meta: dict[str, Any]  # what checkpoints know besides arrays
    last_step: int
    params: dict
    state: optax.FactoredState
    step: int  # the next
    saved: int | None = None  # the step of the latest checkpoint

    def run_to_the_end(self) -> list[evaluation.Scores]:
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
                    f"{end} at step {self.step}, which is saved; the same command goes on from"
                    " there"
                ) from None

    def _train(self, bar: progress.Bar, watch: preemption.Watch) -> None:
        run, first_step = self.run, self.meta["first_step"]
        steps = np.arange(first_step, self.last_step)
        rates = np.broadcast_to(np.asarray(run.schedule(steps)), steps.shape)
        writer = run_folder.events(run.model_dir / "train")
        batches = self.training.iterator(self.step - first_step)
        pending: list[dict[str, jax.Array]] = []  # sums of the loss that are not fetched yet
        if self.saved is not None:  # it may have ended between saving and evaluating
            self._evaluate_if_due(bar, watch)
        watch.steps(running=True)
        while self.step < self.last_step:
            rate = float(rates[self.step - first_step])
            pending.append(self._update(next(batches), rates[self.step - first_step], bar))
            if len(pending) == 1:  # it may have been compiled just now
                host_memory.give_back()
            at_end = self.step == self.last_step
            saving = at_end or bool(run.save_period and self.step % run.save_period == 0)
            if self.step % run.log_period == 0 or saving:
                bar.show(**_log(writer, pending, self.step, rate))
                pending.clear()
            if saving:
                self._save()
            if watch.wanted(self.step):
                raise PreemptedError("ended by SIGTERM")
            self._evaluate_if_due(bar, watch)
        if self.saved is None:  # a new run of no steps
            self._save()
        bar.close()
        writer.close()
        watch.steps(running=False)
        if bar.padding is not None:
            progress.say(f"{bar.padding:.0%} of the tokens of the packed batches are padding")

    def _update(self, batch: dict[str, np.ndarray], rate: Any, bar: progress.Bar) -> dict:
        """Takes one step; returns the sums of its loss, which may still be computed."""
        rows = partitioning.all_rows(self.mesh, len(batch["encoder_input_tokens"]))
        bar.add_tokens(batch, rows)
        on_mesh = partitioning.place(self.mesh, batch)
        seed = np.asarray(self.run.seed, np.uint32)
        self.params, self.state, sums = self.shared.update(
            self.params, self.state, on_mesh, seed, rate
        )
        self.step += 1
        bar.advance(1, self.run.batch_size)
        return sums

    def _save(self) -> None:
        if not _all_finite(self.params):
            raise RunError(
                f"the parameters are no longer finite at step {self.step}; nothing is saved"
            )
        tree = store.to_tree(self.params, self.state, self.step)
        store.save(self.run.model_dir, tree, self.meta)
        if partitioning.is_first():
            locations.keep(self.run.model_dir, self.run.keep_checkpoints)
        self.saved = self.step

    def _evaluate_if_due(self, bar: progress.Bar, watch: preemption.Watch) -> None:
        period = self.run.eval_period
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
