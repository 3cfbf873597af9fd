"""Asks a model for masked spans of a task's own text, as it was pre-trained: `xfer-jax probe`.

One teacher-forced pass for the loss of what was masked, and greedy decoding for the spans
themselves; files and masks are those of T5X's `infer` with t5x_configs/probe.gin.
"""

from typing import Any

import gin

from seqio_tasks import catalogue, sentencepiece_model, span_corruption
from seqio_tasks.errors import RequestError
from seqio_tasks.records import PREFIX
from seqio_tasks.settings import BatchSize, Count, Folder, Line, Lines, settings
from xfer_jax.data import streams, token_cache
from xfer_jax.data.token_cache import Cache
from xfer_jax.engine import evaluation, run_folder
from xfer_jax.engine.prediction import Method, Predictor
from xfer_jax.mt5 import model, partitioning
from xfer_jax.results import probe_table
from xfer_jax.runtime import progress


@gin.configurable(module="xfer_jax.engine.probe")
@settings(
    {
        "checkpoint": "CHECKPOINT_PATH",
        "folder": "PROBE_OUTPUT_DIR",
        "tasks": "EVAL_TASKS",
        "lengths": "PROBE_FEATURE_LENGTHS",
        "split": "EVAL_SPLIT",
        "batch_size": "EVAL_BATCH_SIZE",
        "examples": "EVALUATOR_NUM_EXAMPLES",
    }
)
class Probe:
    """What `xfer-jax probe` does."""

    checkpoint: Line
    folder: Folder
    model: model.Config
    tasks: Lines  # probes, of one family
    lengths: dict[str, Any]
    split: Line = "train"
    batch_size: BatchSize = 256
    examples: Count | None = None
    num_partitions: Count = 1

    def __post_init__(self):
        streams.check_lengths(self.lengths, "PROBE_FEATURE_LENGTHS")
        span_corruption.text_length(self.lengths, "PROBE_FEATURE_LENGTHS")
        if not self.tasks:
            raise RequestError("there is nothing to probe: set TARGETS, e.g. ('en', 'sw')")


def probe(how: Probe, config_text: str) -> None:
    """Probes a checkpoint, and prints and writes the table; what was done before is kept.

    Raises:
      RequestError: a wrong request, or a folder that holds the probe of another checkpoint.
    """
    first = catalogue.tasks(how.tasks[0])[0]
    folder = how.folder
    of_family = folder / f"{PREFIX}{first.family.name}"
    run_folder.check(of_family, config_text)
    opened = evaluation.Evaluation(
        checkpoint=how.checkpoint,
        model_dir=of_family,
        model=how.model,
        targets=how.tasks,
        lengths=how.lengths,
        method=Method(),
        eval_split=how.split,
        eval_batch_size=how.batch_size,
        eval_examples=how.examples,
        num_partitions=how.num_partitions,
    )
    found = opened.open()
    predictor, caches = found.predictor, found.caches
    run_folder.claim(of_family, config_text, found.inputs)
    bar = progress.Bar("probe", 2 * sum(map(len, caches)), 0)
    for cache in caches:
        for mode in probe_table.MODES:
            path = probe_table.path(of_family, cache.task.name, mode)
            finished = path.with_name(path.name + ".COMPLETED")
            if finished.is_file():
                bar.advance(len(cache), 0)
                continue
            records = _records(predictor, cache, mode, bar)
            run_folder.write_jsonl(path, records)
            run_folder.write(finished, "")
    bar.close()
    if partitioning.is_first():
        progress.say(probe_table.text(probe_table.collect(folder)))
        progress.say(f"wrote {folder / probe_table.FILE}")


def _records(
    predictor: Predictor, cache: Cache, mode: str, bar: progress.Bar
) -> list[dict[str, Any]]:
    def advance(n: int) -> None:
        bar.advance(n, n)

    key, answers = (
        ("score", predictor.score(cache, advance))
        if mode == "score"
        else ("prediction_tokens", predictor.predict_tokens(cache, advance))
    )
    return [
        {
            "inputs": text
            | {
                "targets": [
                    *cache.tokens(token_cache.TARGETS, i).tolist(),
                    sentencepiece_model.EOS_ID,
                ]
            },
            key: answer,
        }
        for i, (text, answer) in enumerate(zip(cache.texts, answers, strict=True))
    ]
