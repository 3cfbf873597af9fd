"""Fine-tunes or pre-trains an mT5, and scores it on its targets. Read from top to bottom.

A run is a pure function of its configuration: batch and dropout key of a step depend on nothing but
the seed and the step. How it resumes: (1) MODEL_DIR holds checkpoints: from the latest; (2) else
INITIAL_CHECKPOINT_PATH: from there, with its step and optimizer state, as T5X does; (3) else new.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tensorboardX import SummaryWriter

from seqio_tasks import catalogue, vocabulary
from seqio_tasks.errors import RequestError, RunError
from xfer_jax import (
    checkpoints,
    data,
    evaluation,
    host_memory,
    model,
    optimizer,
    partitioning,
    progress,
)
from xfer_jax.loss import sequence_loss
from xfer_jax.model import Transformer

CONFIG_FILE = "config.gin"


@gin.configurable(module="xfer_jax.train")
@dataclasses.dataclass(frozen=True)
class Run:
    """What `xfer-jax train` does. Macros of the same names in capitals set the fields."""

    model_dir: str  # where everything goes
    model: model.Config
    task: str  # MIXTURE_OR_TASK_NAME: what to train on
    targets: Sequence[str]  # names of the tasks to evaluate on
    lengths: dict[str, int]  # TASK_FEATURE_LENGTHS: most tokens of 'inputs' and 'targets'
    schedule: Callable[[Any], Any]  # learning rate by step
    train_steps: int | None  # total, pre-training included, as in T5X
    train_steps_relative: int | None = None  # instead: steps after the initial checkpoint
    initial_checkpoint: str | None = None  # INITIAL_CHECKPOINT_PATH; a new model when None
    batch_size: int = 128  # examples a step
    long_targets: str = "error"  # or 'drop', 'trim': targets that their length would cut
    train_split: str = "train"
    eval_split: str = "validation"
    eval_period: int | None = None  # steps between evaluations; at the end only when None
    eval_batch_size: int = 256  # examples decoded at a time
    eval_examples: int | None = None  # EVALUATOR_NUM_EXAMPLES: first ones a target; all when None
    predict_by: str = "greedy"  # or 'labels': the likeliest of a closed set
    save_period: int | None = None  # steps between checkpoints; at the end only when None
    log_period: int = 50  # steps between lines of train metrics
    z_loss: float = 1e-4
    loss_normalizing_factor: float | None = None  # divides the summed loss; 1 when None, as in T5X
    num_partitions: int = 1  # devices that share one copy of the model
    seed: int = 0

    def __post_init__(self):
        _check_numbers(self, ("batch_size", "eval_batch_size", "log_period"))
        optional = ("train_steps", "eval_period", "save_period", "eval_examples")
        _check_numbers(self, (name for name in optional if getattr(self, name) is not None))
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise RequestError(f"RANDOM_SEED must lie in [0, 2^32), not {self.seed!r}")
        factor = self.loss_normalizing_factor
        if factor is not None and not (isinstance(factor, (int, float)) and factor > 0):
            raise RequestError(f"LOSS_NORMALIZING_FACTOR must be above 0 or None, not {factor!r}")
        if self.train_steps is None and self.train_steps_relative is None:
            raise RequestError(
                "how long to train is not said: set TRAIN_STEPS or TRAIN_STEPS_RELATIVE"
            )


def _check_numbers(settings: Any, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or value < 1:
            macro = {"eval_examples": "EVALUATOR_NUM_EXAMPLES"}.get(name, name.upper())
            raise RequestError(f"{macro} must be an integer of at least 1, not {value!r}")


def run_vocabulary(config: model.Config) -> vocabulary.Vocabulary:
    """Loads the vocabulary and checks that the model's embedding is made for it.

    Raises:
      RequestError: the embedding has fewer rows than pieces, or 128 and more to spare.
    """
    loaded = vocabulary.load()
    if not 0 <= config.vocab_size - loaded.size < vocabulary.ROW_MULTIPLE:
        raise RequestError(
            f"the vocabulary {loaded.name} has {loaded.size} pieces and needs VOCAB_SIZE"
            f" {vocabulary.rows(loaded)}; the model has {config.vocab_size} rows"
        )
    return loaded


def check_vocabulary(about: dict, used: vocabulary.Vocabulary, checkpoint: str | Path) -> None:
    """Raises RequestError if a checkpoint says that it was trained with another vocabulary."""
    if about.get("vocabulary", used.digest) != used.digest:
        raise RequestError(
            f"{checkpoint} was trained with another vocabulary ({about['vocabulary_file']}) than"
            f" {used.name}; name its own by VOCAB_FILE"
        )


def check_model_dir(model_dir: Path, config_text: str) -> None:
    """Checks that a folder is new or this run's own.

    Raises:
      RequestError: the folder holds another run; shows what differs.
    """
    file = model_dir / CONFIG_FILE
    if not file.is_file():
        if checkpoints.steps(model_dir):
            raise RequestError(
                f"{model_dir} holds checkpoints but no {CONFIG_FILE}; choose another MODEL_DIR"
            )
        return
    old, new = (
        {line for line in text.splitlines() if line.strip() and not line.startswith("#")}
        for text in (file.read_text(), config_text)
    )
    if old != new:
        differences = [f"was {line.strip()}" for line in sorted(old - new)]
        differences += [f"now {line.strip()}" for line in sorted(new - old)]
        shown = "; ".join(differences[:6]) + ("; …" if differences[6:] else "")
        raise RequestError(
            f"{model_dir} holds another run's results ({shown}); choose another MODEL_DIR, or"
            " remove it"
        )


def claim_model_dir(model_dir: Path, config_text: str) -> None:
    """Makes the folder and writes the run's configuration into it.

    Raises:
      RequestError: the folder cannot be written.
    """
    try:
        evaluation.write_whole(model_dir / CONFIG_FILE, config_text)
    except OSError as error:
        reason = error.strerror
        raise RequestError(f"the folder {model_dir} cannot be written: {reason}") from None


def train_step(
    module: Transformer,
    tx: optax.GradientTransformation,
    z_loss: float,
    normalizing_factor: float,
    params: dict,
    opt_state: optax.OptState,
    batch: dict[str, jax.Array],
    seed: jax.Array,
    step: jax.Array,
) -> tuple[dict, optax.OptState, dict[str, jax.Array]]:
    """Updates the parameters once; returns them, the optimizer's state and the loss's sums."""
    dropout = jax.random.fold_in(jax.random.key(seed), step)

    def loss_of(params: dict) -> tuple[jax.Array, dict[str, jax.Array]]:
        hidden = model.call(
            module,
            params,
            "forward",
            **batch,
            enable_dropout=module.config.dropout_rate > 0,
            rngs={"dropout": dropout},
        )
        targets = batch["decoder_target_tokens"]
        kernel = params["decoder"]["logits_dense"]["kernel"]
        sums = sequence_loss(hidden, kernel, targets, targets > 0, z_loss)
        return sums["loss"] / normalizing_factor, sums

    (_, sums), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt_state = tx.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, sums


def abstract_state(run_model: model.Config, tx: optax.GradientTransformation, mesh) -> dict:
    """Returns the tree of shapes, dtypes and shardings that a checkpoint of the model has."""
    shapes = model.parameter_shapes(run_model)
    shardings = partitioning.parameter_shardings(mesh, model.logical_axes(run_model), shapes)
    like = jax.eval_shape(lambda p: checkpoints.to_tree(p, tx.init(p), 0), shapes)
    on_all = partitioning.replicated(mesh)
    return {
        "target": _with_shardings(shapes, shardings),
        "state": jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_all), like["state"]
        ),
    }


def _with_shardings(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def train(run: Run, config_text: str) -> list[evaluation.Scores]:
    """Runs to the last step, evaluates, and returns the last scores.

    Args:
      run: what to do.
      config_text: the configuration as gin prints it, kept as `config.gin`.

    Raises:
      RequestError: a wrong request; nothing has been written then.
      RunError: the loss is no longer finite.
    """
    if jax.default_backend() == "cpu":
        host_memory.keep()

    # ---- Vocabulary, mesh, tasks ----
    vocab = run_vocabulary(run.model)
    mesh = partitioning.make_mesh(run.num_partitions)
    if run.batch_size % mesh.shape["data"]:
        raise RequestError(
            f"BATCH_SIZE {run.batch_size} is not a multiple of the {mesh.shape['data']} devices"
            " that share the data"
        )
    train_tasks = catalogue.tasks(run.task)
    target_tasks = [task for name in run.targets for task in catalogue.tasks(name)]
    source = train_tasks[0].language if len(train_tasks) == 1 else catalogue.ALL_LANGUAGES
    for task in target_tasks:
        evaluation.check_method(task, run.predict_by)
    model_dir = Path(run.model_dir).expanduser()
    check_model_dir(model_dir, config_text)

    # ---- Where to start ----
    tx = optimizer.adafactor(run.schedule)
    resumed = checkpoints.steps(model_dir)
    origin = checkpoints.locate(model_dir) if resumed else None
    if origin is None and run.initial_checkpoint:
        origin = checkpoints.locate(run.initial_checkpoint)
    about = checkpoints.about(origin) if origin else {}
    if origin:
        check_vocabulary(about, vocab, origin)
    like = abstract_state(run.model, tx, mesh)
    on_all = partitioning.replicated(mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, like["target"])

    @functools.partial(jax.jit, out_shardings=shardings)
    def initialise():
        return model.initialise(run.model, run.seed)

    if origin:
        params, opt_state, step = checkpoints.from_tree(checkpoints.restore(origin, like), tx)
    else:
        params, step = initialise(), 0
        opt_state = tx.init(params)
    opt_state = jax.device_put(opt_state, on_all)
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
    training = data.training_data(
        train_tasks,
        run.train_split,
        vocab,
        run.lengths,
        run.batch_size,
        last_step - first_step,
        run.seed,
        run.long_targets,
    )
    if resumed and about.get("data", training.caches) != training.caches:
        raise RequestError(
            f"the data of {run.task} have changed since {origin} was written; go on with the data"
            " it was trained on, or choose another MODEL_DIR"
        )
    targets = [data.open_cache(task, run.eval_split, vocab) for task in target_tasks]
    claim_model_dir(model_dir, config_text)
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
    module = Transformer(run.model)
    factor = run.loss_normalizing_factor or 1.0
    update = jax.jit(
        functools.partial(train_step, module, tx, run.z_loss, factor),
        donate_argnums=(0, 1),
        out_shardings=(shardings, on_all, on_all),
    )
    seed = jnp.asarray(run.seed, jnp.uint32)
    on_data = partitioning.batch_sharding(mesh)
    writer = SummaryWriter(str(model_dir / "train"), filename_suffix=".v2")
    meta = {
        "first_step": first_step,
        "vocabulary": vocab.digest,
        "vocabulary_file": vocab.name,
        "task": run.task,
        "source": source,
        "n_shots": train_tasks[0].subset,
        "seed": run.seed,
        "data": training.caches,
    }

    def save() -> None:
        if not _all_finite(params):
            raise RunError(f"the parameters are no longer finite at step {step}; nothing is saved")
        checkpoints.save(model_dir, checkpoints.to_tree(params, opt_state, step), meta)

    def evaluate() -> list[evaluation.Scores]:
        return evaluate_targets(module, params, targets, vocab, run, step)

    scores: list[evaluation.Scores] = []
    bar = progress.Bar("train", last_step, step)
    pending: list[dict[str, jax.Array]] = []
    batches = training.iterator(step - first_step)
    while step < last_step:
        batch = next(batches)
        bar.add_tokens(batch)
        params, opt_state, sums = update(
            params, opt_state, jax.device_put(batch, on_data), seed, jnp.asarray(step)
        )
        step += 1
        pending.append(sums)
        bar.advance(1, run.batch_size)
        saving = run.save_period is not None and step % run.save_period == 0
        if step % run.log_period == 0 or saving or step == last_step:
            bar.show(**_log(writer, pending, step, float(run.schedule(jnp.asarray(step - 1)))))
            pending.clear()
        if saving and step < last_step:
            save()
        if run.eval_period and step % run.eval_period == 0 and step < last_step:
            bar.pause()
            evaluate()
            bar.resume()
    bar.close()
    if not resumed or resumed[-1] != step:
        save()
    writer.close()

    # ---- Evaluation ----
    scores = evaluate()
    if scores:
        text = evaluation.table(scores, source)
        progress.say(text)
        write_scores(model_dir, scores, meta)
    return scores


@jax.jit
def _all_finite(params: dict) -> jax.Array:
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(params)]))


def evaluate_targets(
    module: Transformer,
    params: dict,
    targets: Sequence[data.Cache],
    vocab: vocabulary.Vocabulary,
    how: Any,
    step: int,
) -> list[evaluation.Scores]:
    """Scores every target in turn, with its files and TensorBoard events.

    Args:
      module: the network.
      params: its parameters.
      targets: what to score on.
      vocab: to decode with.
      how: a `Run` or an `Evaluation`.
      step: of the parameters.
    """
    folder = Path(how.model_dir).expanduser()
    limit = how.eval_examples
    total = sum(len(cache) if limit is None else min(len(cache), limit) for cache in targets)
    scores = []
    bar = progress.Bar("evaluate", total, 0)
    for cache in targets:
        result = evaluation.evaluate(
            module,
            params,
            cache,
            vocab,
            how.lengths,
            how.eval_batch_size,
            output_dir=folder,
            step=step,
            method=how.predict_by,
            limit=limit,
            progress=lambda n: bar.advance(n, n),
        )
        events = folder / "inference_eval" / cache.task.name
        # The step in the name: two evaluations may fall into one second.
        with SummaryWriter(str(events), filename_suffix=f".step{step}.v2") as writer:
            for name, value in result.values.items():
                writer.add_scalar(f"inference/{name}", value, step)
        bar.show(**{cache.task.language: f"{result.percent:.1f}"})
        scores.append(result)
    bar.close()
    return scores


def _log(
    writer: SummaryWriter, pending: list[dict[str, jax.Array]], step: int, rate: float
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


def write_scores(folder: Path, scores: Sequence[evaluation.Scores], about: dict[str, Any]) -> None:
    """Writes the table of the run's end as `scores.csv`, scores in percent.

    Args:
      folder: gets the file.
      scores: one a target.
      about: what the checkpoint knows of its training: source, n_shots (empty: all), seed.
    """
    columns = "task,source,target,n_shots,seed,metric,score,baseline,n_examples"
    trained = [about.get(name) for name in ("source", "n_shots", "seed")]
    source, n_shots, seed = ("" if value is None else value for value in trained)
    rows = [
        f"{s.task.full_name.rpartition('.')[0]},{source},{s.task.language},{n_shots},{seed},"
        f"{s.task.family.score},{s.percent:.6g},{s.baseline:.6g},{s.examples}"
        for s in scores
    ]
    evaluation.write_whole(folder / "scores.csv", "\n".join([columns, *rows, ""]))


# --- Evaluation and inference of a checkpoint -----------------------------------------------------


@gin.configurable(module="xfer_jax.train")
@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `xfer-jax eval` and `xfer-jax infer` do."""

    checkpoint: str  # CHECKPOINT_PATH: a checkpoint or a run's folder
    model_dir: str  # EVAL_OUTPUT_DIR or INFER_OUTPUT_DIR
    model: model.Config
    targets: Sequence[str]
    lengths: dict[str, int]
    eval_split: str = "validation"
    eval_batch_size: int = 256
    eval_examples: int | None = None
    predict_by: str = "greedy"
    num_partitions: int = 1
    mode: str = "predict"  # of infer: or 'score'

    def __post_init__(self):
        _check_numbers(self, ("eval_batch_size",))
        _check_numbers(self, ("eval_examples",) if self.eval_examples is not None else ())
        data.check_lengths(self.lengths)
        if self.mode not in evaluation.MODES:
            raise RequestError(
                f"unknown INFER_MODE {self.mode!r}: there are {' and '.join(evaluation.MODES)}"
            )
        if not self.targets:
            raise RequestError("there is nothing to evaluate on: set TARGETS, e.g. ('en', 'sw')")


def open_checkpoint(
    how: Evaluation,
) -> tuple[Transformer, dict, vocabulary.Vocabulary, list[data.Cache], int, dict[str, Any]]:
    """Loads network, parameters, vocabulary, data, step, and what the checkpoint knows of itself.

    Raises:
      RequestError: a wrong request.
    """
    vocab = run_vocabulary(how.model)
    path = checkpoints.locate(how.checkpoint)
    about = checkpoints.about(path)
    check_vocabulary(about, vocab, path)
    tasks = [task for name in how.targets for task in catalogue.tasks(name)]
    for task in tasks:
        evaluation.check_method(task, how.predict_by)
    caches = [data.open_cache(task, how.eval_split, vocab) for task in tasks]
    mesh = partitioning.make_mesh(how.num_partitions)
    shapes = model.parameter_shapes(how.model)
    shardings = partitioning.parameter_shardings(mesh, model.logical_axes(how.model), shapes)
    on_all = partitioning.replicated(mesh)
    like = {
        "target": _with_shardings(shapes, shardings),
        "state": {"step": jax.ShapeDtypeStruct((), jnp.int32, sharding=on_all)},
    }
    tree = checkpoints.restore(path, like)
    step = int(tree["state"]["step"])
    return Transformer(how.model), tree["target"], vocab, caches, step, about


def evaluate(how: Evaluation, config_text: str) -> list[evaluation.Scores]:
    """Scores a checkpoint on its targets, in T5X's output layout, and prints the table."""
    folder = Path(how.model_dir).expanduser()
    check_model_dir(folder, config_text)
    module, params, vocab, caches, step, about = open_checkpoint(how)
    claim_model_dir(folder, config_text)
    scores = evaluate_targets(module, params, caches, vocab, how, step)
    progress.say(evaluation.table(scores, about.get("source", "an unknown language")))
    write_scores(folder, scores, about)
    return scores


def infer(how: Evaluation, config_text: str) -> None:
    """Writes a checkpoint's predictions or scores, one file a target."""
    folder = Path(how.model_dir).expanduser()
    check_model_dir(folder, config_text)
    module, params, vocab, caches, *_ = open_checkpoint(how)
    claim_model_dir(folder, config_text)
    for cache in caches:
        path = evaluation.infer(
            module,
            params,
            cache,
            vocab,
            how.lengths,
            how.eval_batch_size,
            output_dir=folder,
            mode=how.mode,
            method=how.predict_by,
            limit=how.eval_examples,
        )
        progress.say(f"wrote {path}")
