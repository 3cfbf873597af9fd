"""Measures how well a model predicts masked spans of a task's text: `xfer-jax probe`.

The loss is computed with teacher forcing, and the spans by greedy decoding. Masks and files are the
same as those of T5X's `infer` with t5x_configs/probe.gin.
"""

from typing import Any, ClassVar

import gin

from seqio_tasks import sentencepiece_model, span_corruption
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError
from seqio_tasks.records import PREFIX
from seqio_tasks.settings import Folder, settings
from xfer_jax.data import token_cache
from xfer_jax.data.selection import EVAL_MACROS, EvalData
from xfer_jax.data.token_cache import Cache
from xfer_jax.engine import run_folder
from xfer_jax.engine.checkpoint_spec import CheckpointSpec
from xfer_jax.engine.evaluation import Evaluation
from xfer_jax.engine.prediction import Method, Predictor
from xfer_jax.mt5 import partitioning
from xfer_jax.results import probe_table
from xfer_jax.runtime import progress


@gin.configurable(module="xfer_jax.engine.probe")
@settings(EVAL_MACROS | {"lengths": "PROBE_FEATURE_LENGTHS"})
class ProbeData(EvalData):
    """The texts to probe a model with; `tasks` are probes of one family."""

    LENGTHS: ClassVar[str] = "PROBE_FEATURE_LENGTHS"

    def __post_init__(self):
        super().__post_init__()
        span_corruption.text_length(self.lengths, self.LENGTHS)


@gin.configurable(module="xfer_jax.engine.probe")
@settings({"folder": "PROBE_OUTPUT_DIR"})
class Probe:
    """The settings of `xfer-jax probe`."""

    checkpoint: CheckpointSpec
    folder: Folder  # for all output
    eval_data: ProbeData
    data_config: DataConfig

    def __post_init__(self):
        if not self.eval_data.tasks:
            raise RequestError("there is nothing to probe: set TARGETS, e.g. ('en', 'sw')")


def probe(request: Probe, config_text: str) -> None:
    """Probes a checkpoint, and prints and writes the table. Finished files are not made again.

    Raises:
      RequestError: the request is wrong, or the folder contains the probe of another checkpoint.
    """
    folder, first = request.folder, request.eval_data.resolved()[0]
    of_family = folder / f"{PREFIX}{first.family.name}"
    run_folder.check(of_family, config_text)
    opened = Evaluation(
        request.checkpoint, of_family, request.eval_data, request.data_config, Method()
    ).open()
    predictor, caches = opened.predictor, opened.caches
    run_folder.claim(of_family, config_text, opened.checkpoint.inputs)
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
