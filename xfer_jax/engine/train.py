"""Fine-tunes or pre-trains an mT5, and scores it on its targets. Read from top to bottom.

A run is a pure function of its configuration: batch and dropout key of a step depend on nothing but
the seed and the step. How it resumes: (1) MODEL_DIR holds checkpoints: from the latest that is
whole; (2) else INITIAL_CHECKPOINT_PATH: from there, with its step and optimizer state, as T5X does;
(3) else new.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gin
import jax
import jax.numpy as jnp
import numpy as np

from seqio_tasks import catalogue, files, records, vocabulary
from seqio_tasks.errors import PreemptedError, RequestError, RunError
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
from xfer_jax.checkpoints import checksums, locations, run_file, store
from xfer_jax.data import loader, streams, token_cache
from xfer_jax.engine import evaluation, run_folder
from xfer_jax.engine.prediction import Method, Predictor
from xfer_jax.mt5 import model, partitioning
from xfer_jax.mt5.model import Transformer
from xfer_jax.runtime import host_memory, preemption, progress

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter
from xfer_jax.engine import train_step
from xfer_jax.engine.train_step import PER_TARGET_TOKEN


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
    # ---- Vocabulary, mesh, tasks ----
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
    model_dir = run.model_dir
    run_folder.check(model_dir, config_text)

    # ---- Where to start ----
    if partitioning.is_first():
        locations.tidy(model_dir)
        files.tidy(model_dir)
        files.tidy(model_dir / "inference_eval")
    partitioning.meet("leftovers are gone")
    origin: str | Path | None
    origin, damaged = locations.latest(model_dir)
    resumed = origin is not None
    inputs = {"vocabulary": vocab.digest}
    if run.initial_checkpoint:
        try:
            initial = locations.locate(run.initial_checkpoint)
        except RequestError:
            if not resumed:  # else it is no longer needed
                raise
        else:
            inputs["initial checkpoint"] = checksums.identity(initial)
            origin = origin or initial
    run_folder.check_inputs(model_dir, inputs)
    about = run_file.about(origin) if origin else {}
    shared = train_step.programs(run.model, mesh, run.z_loss, run.loss_normalizing_factor or 1.0)
    if origin:
        run_file.check_vocabulary(origin, about, vocab)
        # Of a run's own checkpoint `latest` has compared the hashes just now.
        tree = store.restore(origin, train_step.layout(run.model, mesh), compare_hashes=not resumed)
        params, step = tree["target"], int(tree["state"]["step"])
    else:
        tree, params, step = {"state": {}}, shared.initialise(np.uint32(run.seed)), 0
    if "param_states" in tree["state"]:
        state = store.optimizer_state(tree, None)
    else:
        state = shared.fresh(params)
    counter = jax.device_put(np.asarray(step, np.int32), partitioning.replicated(mesh))
    state = state._replace(count=counter)
    del tree
    first_step = about.get("first_step", step) if resumed else step
    last_step = run.train_steps
    if run.train_steps_relative is not None:
        last_step = first_step + run.train_steps_relative
    assert last_step is not None, "a Run has one of the two"
    if last_step < step:
        raise RequestError(
            f"TRAIN_STEPS is {last_step}, but the run starts at step {step}: the total includes the"
            " initial checkpoint's steps; TRAIN_STEPS_RELATIVE counts from there"
        )

    # ---- Data ----
    shares = mesh.shape["data"]
    share = partitioning.local_rows(mesh, shares)
    with partitioning.first_goes_first():
        training = loader.training_data(
            train_tasks,
            run.train_split,
            vocab,
            run.lengths,
            run.batch_size,
            last_step - first_step,
            run.seed,
            run.long_targets,
            run.mixing_temperature,
            shares,
            share,
        )
        targets = [
            token_cache.open_cache(task, run.eval_split, vocab).sample(run.eval_examples)
            for task in target_tasks
        ]
    if resumed and about.get("data", training.caches) != training.caches:
        raise RequestError(
            f"the data of {run.task} have changed since {origin} was written; go on with the data"
            " it was trained on, or choose another MODEL_DIR"
        )
    run_folder.claim(model_dir, config_text, inputs)
    for complaint in damaged:
        progress.say(f"warning: {complaint}" + (f"; going on from {origin}" if origin else ""))
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

    # ---- Loop ----
    steps = np.arange(first_step, last_step)
    rates = np.broadcast_to(np.asarray(run.schedule(steps)), steps.shape)
    seed = np.asarray(run.seed, np.uint32)
    writer = run_folder.events(model_dir / "train")
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

    def save() -> int:
        if not _all_finite(params):
            raise RunError(f"the parameters are no longer finite at step {step}; nothing is saved")
        store.save(model_dir, store.to_tree(params, state, step), meta)
        if partitioning.is_first():
            locations.keep(model_dir, run.keep_checkpoints)
        return step

    def evaluate() -> list[evaluation.Scores]:
        predictor = Predictor(
            Transformer(run.model),
            params,
            mesh,
            vocab,
            run.lengths,
            run.eval_batch_size,
            run.method,
        )
        return evaluation.evaluate_all(predictor, targets, model_dir, step)

    def evaluate_if_due() -> None:
        if run.eval_period and step % run.eval_period == 0 and step < last_step:
            bar.pause()
            watch.steps(running=False)
            evaluate()
            watch.steps(running=True)
            bar.resume()

    bar = progress.Bar("train", last_step, step)
    pending: list[dict[str, jax.Array]] = []
    batches = training.iterator(step - first_step)
    saved = step if resumed else None
    with preemption.Watch() as watch:
        try:
            if resumed:  # it may have ended between saving and evaluating
                evaluate_if_due()
            watch.steps(running=True)
            while step < last_step:
                batch = next(batches)
                rows = partitioning.all_rows(mesh, len(batch["encoder_input_tokens"]))
                bar.add_tokens(batch, rows)
                rate = rates[step - first_step]
                on_mesh = partitioning.place(mesh, batch)
                params, state, sums = shared.update(params, state, on_mesh, seed, rate)
                if not pending:  # it may have been compiled just now
                    host_memory.give_back()
                step += 1
                pending.append(sums)
                bar.advance(1, run.batch_size)
                at_end = step == last_step
                saving = at_end or bool(run.save_period and step % run.save_period == 0)
                if step % run.log_period == 0 or saving:
                    bar.show(**_log(writer, pending, step, float(rate)))
                    pending.clear()
                if saving:
                    saved = save()
                if watch.wanted(step):
                    raise PreemptedError("ended by SIGTERM")
                evaluate_if_due()
            if saved is None:  # a new run of no steps
                save()
            bar.close()
            writer.close()
            watch.steps(running=False)
            if bar.padding is not None:
                progress.say(f"{bar.padding:.0%} of the tokens of the packed batches are padding")
            scores = evaluate()
        except PreemptedError as end:
            watch.steps(running=True)
            if saved != step:
                save()
            raise PreemptedError(
                f"{end} at step {step}, which is saved; the same command goes on from there"
            ) from None
    if scores:
        progress.say(evaluation.table(scores, source))
        evaluation.write_scores(model_dir, scores, meta)
    return scores


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
