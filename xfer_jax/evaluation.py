"""Predicts, scores and writes results in T5X's output layout."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqio_tasks.catalogue import Task
from seqio_tasks.errors import RequestError
from seqio_tasks.vocabulary import Vocabulary
from xfer_jax import data, decoding
from xfer_jax.data import Cache
from xfer_jax.model import Transformer

GREEDY, LABELS = "greedy", "labels"
MODES = ("predict", "score")  # of inference
Progress = Callable[[int], None]  # told how many more examples are done


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


def predict(
    module: Transformer,
    params: dict,
    cache: Cache,
    vocabulary: Vocabulary,
    lengths: data.Lengths,
    batch_size: int,
    *,
    method: str = GREEDY,
    limit: int | None = None,
    progress: Progress = lambda n: None,
) -> tuple[list[str], int]:
    """Predicts the outputs of a task's examples.

    Args:
      module: the network.
      params: its parameters.
      cache: the examples.
      vocabulary: to decode with.
      lengths: most tokens of inputs, and of targets, which is the longest output.
      batch_size: examples decoded at a time.
      method: `greedy`, or `labels` to choose the likeliest of the task's closed set of labels.
      limit: number of examples, from the first; all by default.
      progress: called after every batch.

    Returns:
      The outputs as text in the order of the examples, and how many inputs were cut.

    Raises:
      RequestError: an unknown method, or labels for a task without a closed set.
    """
    data.check_lengths(lengths)
    check_method(cache.task, method)
    label_tokens = _label_tokens(cache.task, vocabulary) if method == LABELS else None
    batches, truncated = data.evaluation_batches(cache, lengths[data.INPUTS], batch_size, limit)
    outputs: dict[int, str] = {}
    for indices, tokens in batches:
        if label_tokens is None:
            ids, _ = decoding.greedy(module, params, tokens, lengths[data.TARGETS])
            texts = [vocabulary.decode(row) for row in np.asarray(ids)[: len(indices)].tolist()]
        else:
            best = np.argmax(decoding.score_labels(module, params, tokens, label_tokens), axis=1)
            texts = [cache.task.family.labels[i] for i in best[: len(indices)]]
        outputs.update(zip(indices.tolist(), texts, strict=True))
        progress(len(indices))
    return [outputs[i] for i in range(len(outputs))], truncated


def check_method(task: Task, method: str) -> None:
    """Raises RequestError unless a task can be evaluated, and by this method."""
    if task.family.objective != "supervised":
        raise RequestError(f"{task.name} is text without targets: there is nothing to evaluate")
    if method not in (GREEDY, LABELS):
        raise RequestError(f"unknown PREDICT_BY {method!r}: there are {GREEDY!r} and {LABELS!r}")
    if method == LABELS and not task.family.labels:
        raise RequestError(
            f"{task.name} has no closed set of labels: PREDICT_BY must be {GREEDY!r}"
        )


def _label_tokens(task: Task, vocabulary: Vocabulary) -> jnp.ndarray:
    rows = [data.ended(np.asarray(vocabulary.encode(x)), 1 << 20) for x in task.family.labels]
    width = max(map(len, rows))
    return jnp.asarray([np.pad(row, (0, width - len(row))) for row in rows])


def baseline(cache: Cache, limit: int | None = None) -> float:
    """Scores the better of two answers that read no input: the commonest target, and nothing.

    Returns:
      The score in percent.
    """
    family, references = cache.task.family, cache.references[:limit]
    counts = Counter(text["targets_pretokenized"] for text in cache.texts[:limit])
    metric = family.metric
    assert metric is not None

    def percent(output: str) -> float:
        return family.percent * metric(references, [output] * len(references))[family.score]

    return max(percent(output) for output in (counts.most_common(1)[0][0], ""))


def evaluate(
    module: Transformer,
    params: dict,
    cache: Cache,
    vocabulary: Vocabulary,
    lengths: data.Lengths,
    batch_size: int,
    *,
    output_dir: Path,
    step: int,
    method: str = GREEDY,
    limit: int | None = None,
    progress: Progress = lambda n: None,
) -> Scores:
    """Predicts a task's examples, scores them, and writes T5X's `inference_eval` files.

    Args:
      output_dir: the folder that gets `inference_eval/`.
      step: the model's, in the files' names and lines.
      The others are those of `predict`.
    """
    task, family = cache.task, cache.task.family
    assert family.metric is not None
    assert family.strict_metric is not None
    outputs, truncated = predict(
        module,
        params,
        cache,
        vocabulary,
        lengths,
        batch_size,
        method=method,
        limit=limit,
        progress=progress,
    )
    texts, references = cache.texts[:limit], cache.references[:limit]
    inputs = [text["inputs_pretokenized"] for text in texts]
    values = family.metric(references, outputs) | family.strict_metric(
        inputs, references, outputs, task.language
    )
    folder = output_dir / "inference_eval"
    predictions = (
        {
            "input": {
                "inputs_pretokenized": text["inputs_pretokenized"],
                "inputs": data.ended(cache.tokens(data.INPUTS, i), lengths[data.INPUTS]).tolist(),
                "targets_pretokenized": text["targets_pretokenized"],
                "targets": [*cache.tokens(data.TARGETS, i).tolist(), data.EOS_ID],
            },
            "target": reference,
            "output": output,
            "prediction": output,
        }
        for i, (text, reference, output) in enumerate(zip(texts, references, outputs, strict=True))
    )
    write_jsonl(folder / f"{task.name}-{step:06d}.jsonl", predictions)
    append_metrics(folder / f"{task.name}-metrics.jsonl", step, values)
    return Scores(
        task,
        cache.split,
        values,
        family.percent * values[family.score],
        baseline(cache, limit),
        len(outputs),
        truncated,
    )


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write_whole(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def append_metrics(path: Path, step: int, values: dict[str, float]) -> None:
    """Sets a step's line in `<task>-metrics.jsonl`; a step that is run again replaces its line."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    others = [record for line in lines if (record := json.loads(line))["step"] != step]
    write_jsonl(path, sorted([*others, {"step": step, **values}], key=lambda r: r["step"]))


def table(results: Sequence[Scores], source: str) -> str:
    """Renders results as the table that a run ends with, scores in percent."""
    scored = {r.task.full_name.rpartition(".")[0] + " " + r.task.family.score for r in results}
    rows = [("target", "score", "baseline", "examples", "")]
    for r in results:
        note = "source language" if r.task.language == source else "zero-shot"
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
    title = f"{', '.join(sorted(scored))} in percent, trained on {source}"
    lines.append("baseline: the better of always the commonest target and always nothing")
    cut = sum(r.truncated_inputs for r in results)
    if cut:
        lines.append(f"{cut} of {sum(r.examples for r in results)} inputs were cut to their length")
    return "\n".join([title, *lines])


# --- Inference ------------------------------------------------------------------------------------


def infer(
    module: Transformer,
    params: dict,
    cache: Cache,
    vocabulary: Vocabulary,
    lengths: data.Lengths,
    batch_size: int,
    *,
    output_dir: Path,
    mode: str,
    method: str = GREEDY,
    limit: int | None = None,
    progress: Progress = lambda n: None,
) -> Path:
    """Writes predictions, or the scores of the targets, in the layout of T5X's `infer`.

    Args:
      mode: `predict`, or `score` for the summed log-probability of each target, in nats.
      The others are those of `predict` and `evaluate`.

    Returns:
      The file `<task>-<mode>.jsonl-00000-of-00001`; an empty `….COMPLETED` stands beside it.
    """
    if mode == "predict":
        values: Sequence[Any] = predict(
            module,
            params,
            cache,
            vocabulary,
            lengths,
            batch_size,
            method=method,
            limit=limit,
            progress=progress,
        )[0]
        key = "prediction"
    else:
        values = score_targets(
            module, params, cache, lengths, batch_size, limit=limit, progress=progress
        )
        key = "score"
    path = output_dir / f"{cache.task.name}-{mode}.jsonl-00000-of-00001"
    texts = cache.texts[:limit]
    write_jsonl(
        path,
        ({"inputs": text, key: value} for text, value in zip(texts, values, strict=True)),
    )
    path.with_name(path.name + ".COMPLETED").touch()
    return path


def score_targets(
    module: Transformer,
    params: dict,
    cache: Cache,
    lengths: data.Lengths,
    batch_size: int,
    *,
    limit: int | None = None,
    progress: Progress = lambda n: None,
) -> list[float]:
    """Returns the summed log-probability of every target, in nats.

    Raises:
      RequestError: a task without targets, or a target longer than its length.
    """
    data.check_lengths(lengths)
    check_method(cache.task, GREEDY)
    data.Supervised(cache, lengths)  # refuses targets that would be cut: their score would be wrong
    batches, _ = data.evaluation_batches(cache, lengths[data.INPUTS], batch_size, limit)
    scores: dict[int, float] = {}
    for indices, inputs in batches:
        rows = [data.ended(cache.tokens(data.TARGETS, i), lengths[data.TARGETS]) for i in indices]
        targets = data.pad_to_ladder(rows, batch_size, lengths[data.TARGETS])
        values = np.asarray(decoding.score(module, params, inputs, targets))[: len(indices)]
        scores.update(zip(indices.tolist(), values.tolist(), strict=True))
        progress(len(indices))
    return [scores[i] for i in range(len(scores))]
