"""Scores a model on its targets, and writes results in T5X's output layout."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gin
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from seqio_tasks import catalogue, sentencepiece_model, vocabulary
from seqio_tasks.errors import RequestError
from seqio_tasks.families import probes
from seqio_tasks.records import Task
from seqio_tasks.sentencepiece_model import EOS_ID
from seqio_tasks.settings import BatchSize, Count, Folder, Line, Lines, settings
from xfer_jax.checkpoints import checksums, locations, run_file, store
from xfer_jax.data import streams, token_cache
from xfer_jax.data.token_cache import Cache, open_cache
from xfer_jax.engine import run_folder
from xfer_jax.engine.prediction import Method, Predictor, Progress
from xfer_jax.mt5 import model, partitioning
from xfer_jax.mt5.model import Transformer
from xfer_jax.results import score_table
from xfer_jax.runtime import progress

_UNKNOWN_SOURCE = "by a checkpoint that does not say what it was trained on"


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well a model does on one target."""

    task: Task
    split: str
    values: dict[str, float]  # every metric, as the mT5 release scales it, and the strict ones
    percent: float  # the task's own score in percent
    baseline: float  # in percent, see `baseline`
    examples: int
    truncated_inputs: int


def baseline(cache: Cache) -> float:
    """Scores the better of two answers that read no input: the commonest target, and nothing.

    Returns:
      The score in percent.
    """
    scoring, references = cache.task.family.scoring, cache.references
    counts = Counter(text["targets_pretokenized"] for text in cache.texts)
    metric = cache.task.metric
    assert metric is not None

    def percent(output: str) -> float:
        return scoring.percent * metric(references, [output] * len(references))[scoring.score]

    return max(percent(output) for output in (counts.most_common(1)[0][0], ""))


def evaluate_task(
    predictor: Predictor,
    cache: Cache,
    folder: Path,
    step: int,
    advance: Progress = lambda n: None,
) -> Scores:
    """Predicts a task's examples, scores them, and writes T5X's `inference_eval` files.

    Args:
      predictor: the model, and how it answers.
      cache: the examples.
      folder: gets `inference_eval/`.
      step: the model's, in the files' names and lines.
      advance: called after every batch.
    """
    task, scoring = cache.task, cache.task.family.scoring
    metric = task.metric
    assert metric is not None
    assert scoring.strict_metric is not None
    outputs, truncated = predictor.predict(cache, advance)
    texts, references = cache.texts, cache.references
    inputs = [text["inputs_pretokenized"] for text in texts]
    values = metric(references, outputs) | scoring.strict_metric(
        inputs, references, outputs, task.language
    )
    results = folder / "inference_eval"
    longest = predictor.lengths[token_cache.INPUTS]
    predictions = (
        {
            "input": {
                "inputs_pretokenized": text["inputs_pretokenized"],
                "inputs": streams.ended(cache.tokens(token_cache.INPUTS, i), longest).tolist(),
                "targets_pretokenized": text["targets_pretokenized"],
                "targets": [*cache.tokens(token_cache.TARGETS, i).tolist(), EOS_ID],
            },
            "target": reference,
            "output": answer,
            "prediction": answer,
        }
        for i, (text, reference, answer) in enumerate(zip(texts, references, outputs, strict=True))
    )
    run_folder.write_jsonl(results / f"{task.name}-{step:06d}.jsonl", predictions)
    run_folder.set_metrics(results / f"{task.name}-metrics.jsonl", step, values)
    # The step in the name: two evaluations may fall into one second.
    with run_folder.events(results / task.name, suffix=f".step{step}") as writer:
        for name, value in values.items():
            writer.add_scalar(f"inference/{name}", value, step)
    return Scores(
        task,
        cache.split,
        values,
        scoring.percent * values[scoring.score],
        baseline(cache),
        len(outputs),
        truncated,
    )


def evaluate_all(
    predictor: Predictor, targets: Sequence[Cache], folder: Path, step: int
) -> list[Scores]:
    """Scores every target in turn, with its files and TensorBoard events.

    Args:
      predictor: the model, and how it answers.
      targets: what to score on.
      folder: gets `inference_eval/`.
      step: of the parameters.
    """
    scores = []
    bar = progress.Bar("evaluate", sum(map(len, targets)), 0)
    for cache in targets:
        result = evaluate_task(predictor, cache, folder, step, lambda n: bar.advance(n, n))
        bar.show(**{cache.task.language: f"{result.percent:.1f}"})
        scores.append(result)
    bar.close()
    return scores


def table(results: Sequence[Scores], source: str | None) -> str:
    """Renders results as the table that a run ends with, scores in percent.

    Args:
      results: one a target.
      source: the language that the model was trained on; None if it is not known.
    """
    scored = {
        r.task.full_name.rpartition(".")[0] + " " + r.task.family.scoring.score for r in results
    }
    rows = [("target", "score", "baseline", "examples", "")]
    for r in results:
        note = "source language" if r.task.language == source else "zero-shot" if source else ""
        rows.append(
            (r.task.language, f"{r.percent:.1f}", f"{r.baseline:.1f}", str(r.examples), note)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"  {row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:4], widths[1:], strict=True))
        + (f"  {row[4]}" if row[4] else "")
        for row in rows
    ]
    trained = f"trained on {source}" if source else _UNKNOWN_SOURCE
    title = f"{', '.join(sorted(scored))} in percent, {trained}"
    lines.append("baseline: the better of always the commonest target and always nothing")
    cut = sum(r.truncated_inputs for r in results)
    if cut:
        lines.append(f"{cut} of {sum(r.examples for r in results)} inputs were cut to their length")
    return "\n".join([title, *lines])


def write_scores(folder: Path, scores: Sequence[Scores], about: Mapping[str, Any]) -> None:
    """Writes the last scores of a run as `scores.csv`, in percent.

    Args:
      folder: gets the file.
      scores: one a target.
      about: what the checkpoint knows of its training: source, n_shots, examples, seed.
    """
    known = {"source": "source", "n_shots": "n_shots", "n_train": "examples", "seed": "seed"}
    trained = {column: about[name] for column, name in known.items() if about.get(name) is not None}
    rows = [
        trained
        | {
            "task": s.task.full_name.rpartition(".")[0],
            "target": s.task.language,
            "metric": s.task.family.scoring.score,
            "score": s.percent,
            "baseline": s.baseline,
            "n_examples": s.examples,
            "engine": "native",
        }
        for s in scores
    ]
    run_folder.write(folder / "scores.csv", score_table.text(rows))


def infer_task(
    predictor: Predictor, cache: Cache, folder: Path, mode: str, advance: Progress = lambda n: None
) -> Path:
    """Writes predictions, or the scores of the targets, in the layout of T5X's `infer`.

    Args:
      predictor: the model, and how it answers.
      cache: the examples.
      folder: gets the files.
      mode: `predict`, or `score` for the summed log-probability of each target, in nats.
      advance: called after every batch.

    Returns:
      The file `<task>-<mode>.jsonl-00000-of-00001`; an empty `….COMPLETED` stands beside it.
    """
    values: Sequence[Any]
    if mode == "predict":
        key, (values, _) = "prediction", predictor.predict(cache, advance)
    else:
        key, values = "score", predictor.score(cache, advance)
    path = folder / f"{cache.task.name}-{mode}.jsonl-00000-of-00001"
    texts = cache.texts
    run_folder.write_jsonl(
        path, ({"inputs": text, key: value} for text, value in zip(texts, values, strict=True))
    )
    run_folder.write(path.with_name(path.name + ".COMPLETED"), "")
    return path


# --- The commands eval and infer ------------------------------------------------------------------


def restore(location: str | Path, config: model.Config, mesh: Mesh) -> tuple[dict, int]:
    """Reads a checkpoint's parameters, laid out over the mesh, and its step.

    Args:
      location: from `locations.locate`.
      config: the sizes that it must have.
      mesh: of the devices.

    Raises:
      RequestError: see `store.restore`.
    """
    axes, shapes = model.logical_axes(config), model.parameter_shapes(config)
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=partitioning.replicated(mesh))
    like = {"target": partitioning.layout(mesh, axes, shapes), "state": {"step": step}}
    tree = store.restore(location, like)
    return tree["target"], int(tree["state"]["step"])


@gin.configurable(module="xfer_jax.engine.evaluation")
@settings(
    {
        "checkpoint": "CHECKPOINT_PATH",
        "model_dir": "EVAL_OUTPUT_DIR or INFER_OUTPUT_DIR",
        "targets": "EVAL_TASKS",
        "lengths": "TASK_FEATURE_LENGTHS",
        "eval_examples": "EVALUATOR_NUM_EXAMPLES",
        "mode": "INFER_MODE",
    }
)
class Evaluation:
    """What `xfer-jax eval` and `xfer-jax infer` do."""

    checkpoint: Line  # a checkpoint or a run's folder
    model_dir: Folder  # EVAL_OUTPUT_DIR or INFER_OUTPUT_DIR
    model: model.Config
    targets: Lines
    lengths: dict[str, Any]
    method: Method
    eval_split: Line = "validation"
    eval_batch_size: BatchSize = 256
    eval_examples: Count | None = None
    num_partitions: Count = 1
    mode: Literal["predict", "score"] = "predict"  # of infer

    def __post_init__(self):
        streams.check_lengths(self.lengths)
        streams.check_split("EVAL_SPLIT", self.eval_split, self.targets)
        if not self.targets:
            raise RequestError("there is nothing to evaluate on: set TARGETS, e.g. ('en', 'sw')")

    def _cache(self, task: Task, vocab: sentencepiece_model.Vocabulary) -> Cache:
        cache = open_cache(task, self.eval_split, vocab).sample(self.eval_examples)
        if task.family.format.objective != "probe":
            return cache
        return streams.masked(cache, self.lengths, vocab, probes.mask_seed())

    def open(self) -> "Opened":
        """Loads the model and the data.

        Raises:
          RequestError: a wrong request.
        """
        vocab = vocabulary.load_for(self.model.vocab_size)
        location = locations.locate(self.checkpoint)
        about = run_file.about(location)
        run_file.check_vocabulary(location, about, vocab)
        inputs = {"checkpoint": checksums.identity(location), "vocabulary": vocab.digest}
        run_folder.check_inputs(self.model_dir, inputs)
        tasks = [task for name in self.targets for task in catalogue.tasks(name)]
        for task in tasks:
            if task.family.format.objective != "probe":
                self.method.check(task)
        with partitioning.first_goes_first():
            caches = [self._cache(task, vocab) for task in tasks]
        mesh = partitioning.make_mesh(self.num_partitions)
        params, step = restore(location, self.model, mesh)
        predictor = Predictor(
            Transformer(self.model),
            params,
            mesh,
            vocab,
            self.lengths,
            self.eval_batch_size,
            self.method,
        )
        return Opened(predictor, caches, step, about, inputs)


@dataclasses.dataclass(frozen=True)
class Opened:
    """What an evaluation works with."""

    predictor: Predictor
    caches: list[Cache]
    step: int  # of the checkpoint
    about: Mapping[str, Any]  # what the checkpoint says of its training
    inputs: Mapping[str, str]  # digests of what is read


def evaluate(how: Evaluation, config_text: str) -> list[Scores]:
    """Scores a checkpoint on its targets, in T5X's output layout, and prints the table."""
    folder = how.model_dir
    run_folder.check(folder, config_text)
    for task in (task for name in how.targets for task in catalogue.tasks(name)):
        how.method.check(task)
    opened = how.open()
    predictor, caches, step, about = opened.predictor, opened.caches, opened.step, opened.about
    run_folder.claim(folder, config_text, opened.inputs)
    scores = evaluate_all(predictor, caches, folder, step)
    progress.say(table(scores, about.get("source")))
    write_scores(folder, scores, about)
    return scores


def infer(how: Evaluation, config_text: str) -> None:
    """Writes a checkpoint's predictions or scores, one file a target."""
    folder = how.model_dir
    run_folder.check(folder, config_text)
    opened = how.open()
    predictor, caches = opened.predictor, opened.caches
    run_folder.claim(folder, config_text, opened.inputs)
    bar = progress.Bar("infer", sum(map(len, caches)), 0)
    for cache in caches:
        path = infer_task(predictor, cache, folder, how.mode, lambda n: bar.advance(n, n))
        progress.say(f"wrote {path}")
    bar.close()
