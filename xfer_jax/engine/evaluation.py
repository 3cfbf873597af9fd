"""Evaluates a model: `xfer-jax eval` and `xfer-jax infer`. Files have the layout of T5X."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gin

from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task
from seqio_tasks.sentencepiece_model import EOS_ID, Vocabulary
from seqio_tasks.settings import Folder, settings
from xfer_jax.data import streams, token_cache
from xfer_jax.data.selection import EvalData
from xfer_jax.data.token_cache import Cache, open_cache
from xfer_jax.engine import run_folder
from xfer_jax.engine.checkpoint_spec import Checkpoint, CheckpointSpec
from xfer_jax.engine.prediction import Method, Predictor, Progress
from xfer_jax.mt5 import partitioning
from xfer_jax.mt5.model import Transformer
from xfer_jax.results import predictions, score_table
from xfer_jax.runtime import progress

_UNKNOWN_SOURCE = "by a checkpoint that does not say what it was trained on"


@dataclasses.dataclass(frozen=True)
class TargetScore:
    """The result of a model on one target."""

    task: Task
    split: str
    step: int  # of the model
    values: dict[str, float]  # all metrics, scaled as in the mT5 release, and the strict ones
    percent: float  # the score of the task in percent
    baseline: float  # in percent, see `baseline`
    examples: int
    truncated_inputs: int


def baseline(cache: Cache) -> float:
    """Returns the score, in percent, that needs no input.

    It is the higher one of two scores: of always the most frequent target, and of empty outputs.
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
) -> TargetScore:
    """Predicts a task's examples, scores them, and writes T5X's `inference_eval` files.

    Args:
      predictor: the model and the method of prediction.
      cache: the examples.
      folder: the folder in which `inference_eval/` is written.
      step: of the model; names and lines of the files contain it.
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
    # The name contains the step, because two evaluations may start in the same second.
    with run_folder.events(results / task.name, suffix=f".step{step}") as writer:
        for name, value in values.items():
            writer.add_scalar(f"inference/{name}", value, step)
    return TargetScore(
        task,
        cache.split,
        step,
        values,
        scoring.percent * values[scoring.score],
        baseline(cache),
        len(outputs),
        truncated,
    )


def evaluate_all(
    predictor: Predictor, targets: Sequence[Cache], folder: Path, step: int
) -> list[TargetScore]:
    """Evaluates every target in turn, and writes its files and TensorBoard events.

    Args:
      predictor: the model and the method of prediction.
      targets: the examples of each target.
      folder: the folder in which `inference_eval/` is written.
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


def table(results: Sequence[TargetScore], source: str | None) -> str:
    """Renders the table that is printed at the end of a run, with scores in percent.

    Args:
      results: one per target.
      source: the source language of the model; None if it is unknown.
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
    lines.append("baseline: always the most frequent target, or no output if that scores higher")
    cut = sum(r.truncated_inputs for r in results)
    if cut:
        lines.append(f"{cut} of {sum(r.examples for r in results)} inputs were truncated")
    return "\n".join([title, *lines])


def read_score(folder: Path, task: Task, split: str) -> TargetScore:
    """Returns the score of a run on a task from the outputs that count, see `predictions.read`.

    Raises:
      RequestError: there are none, or they are damaged.
    """
    found = predictions.read(folder, task)
    if found is None:
        raise RequestError(f"{folder} has no predictions of {task.name}")
    metric = task.metric
    assert metric is not None
    values = metric(found.references, found.answers)
    count = len(found.answers)
    return TargetScore(task, split, found.step, values, found.score, found.baseline, count, 0)


def write_scores(folder: Path, scores: Sequence[TargetScore], about: Mapping[str, Any]) -> None:
    """Writes the scores as `scores.csv`, in percent.

    Args:
      folder: the folder in which it is written.
      scores: one per target.
      about: what the checkpoint says about its training: source, n_shots (empty: all), examples,
        seed.
    """
    known = {"source": "source", "n_shots": "n_shots", "n_train": "examples", "seed": "seed"}
    known |= {"selected_by": "selected_by"}
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
            "split": s.split,
            "step": s.step,
        }
        for s in scores
    ]
    run_folder.write(folder / "scores.csv", score_table.text(rows))


def infer_task(
    predictor: Predictor, cache: Cache, folder: Path, mode: str, advance: Progress = lambda n: None
) -> Path:
    """Writes predictions, or the scores of the targets, in the layout of T5X's `infer`.

    Args:
      predictor: the model and the method of prediction.
      cache: the examples.
      folder: the folder in which the files are written.
      mode: `predict`, or `score` for the summed log-probability of each target, in nats.
      advance: called after every batch.

    Returns:
      The file `<task>-<mode>.jsonl-00000-of-00001`; next to it is an empty file `….COMPLETED`.
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


@gin.configurable(module="xfer_jax.engine.evaluation")
@settings({"folder": "EVAL_OUTPUT_DIR or INFER_OUTPUT_DIR", "mode": "INFER_MODE"})
class Evaluation:
    """The settings of `xfer-jax eval` and `xfer-jax infer`."""

    checkpoint: CheckpointSpec
    folder: Folder  # for all output
    eval_data: EvalData
    data_config: DataConfig
    method: Method  # of prediction
    mode: Literal["predict", "score"] = "predict"  # of infer

    def __post_init__(self):
        if not self.eval_data.tasks:
            raise RequestError("there is nothing to evaluate on: set TARGETS, e.g. ('en', 'sw')")

    def _cache(self, task: Task, vocab: Vocabulary) -> Cache:
        data = self.eval_data
        cache = open_cache(task, data.split, self.data_config).sample(data.examples)
        if task.family.format.objective != "probe":
            return cache
        return streams.masked(cache, data.lengths, vocab, self.data_config.mask_seed)

    def open(self) -> "Opened":
        """Loads the model and the data.

        Raises:
          RequestError: the request is wrong.
        """
        checkpoint = self.checkpoint.find(self.data_config)
        run_folder.check_inputs(self.folder, checkpoint.inputs)
        tasks = self.eval_data.resolved()
        for task in tasks:
            if task.family.format.objective != "probe":
                self.method.check(task)
        vocab, data = checkpoint.vocabulary, self.eval_data
        with partitioning.first_goes_first():
            caches = [self._cache(task, vocab) for task in tasks]
        params, step, mesh = checkpoint.restore()
        network = Transformer(self.checkpoint.model)
        predictor = Predictor(
            network, params, mesh, vocab, data.lengths, data.batch_size, self.method
        )
        return Opened(predictor, caches, step, checkpoint)


@dataclasses.dataclass(frozen=True)
class Opened:
    """The model and the data of an evaluation."""

    predictor: Predictor
    caches: list[Cache]
    step: int  # of the checkpoint
    checkpoint: Checkpoint


def evaluate(request: Evaluation, config_text: str) -> list[TargetScore]:
    """Evaluates a checkpoint on its targets, writes files in T5X's layout, and prints the table."""
    folder = request.folder
    run_folder.check(folder, config_text)
    for task in request.eval_data.resolved():
        request.method.check(task)
    opened = request.open()
    about = opened.checkpoint.about
    run_folder.claim(folder, config_text, opened.checkpoint.inputs)
    scores = evaluate_all(opened.predictor, opened.caches, folder, opened.step)
    progress.say(table(scores, about.get("source")))
    write_scores(folder, scores, about)
    return scores


def infer(request: Evaluation, config_text: str) -> None:
    """Writes a checkpoint's predictions or scores, one file per target."""
    folder = request.folder
    run_folder.check(folder, config_text)
    opened = request.open()
    predictor, caches = opened.predictor, opened.caches
    run_folder.claim(folder, config_text, opened.checkpoint.inputs)
    bar = progress.Bar("infer", sum(map(len, caches)), 0)
    for cache in caches:
        path = infer_task(predictor, cache, folder, request.mode, lambda n: bar.advance(n, n))
        progress.say(f"wrote {path}")
    bar.close()
