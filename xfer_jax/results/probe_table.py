"""Measures how well a model knows each language: LM_L and LM_EM, from predictions for masked texts.

Reads the files that `xfer-jax probe`, or T5X's `infer` with t5x_configs/probe.gin, writes:
`xfer_probe.<task>.<language>-score.jsonl-…` with the log-probabilities of the masked spans, and
`…-predict.jsonl-…` with the spans that the model predicted. Does not import an engine.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pydantic

from seqio_tasks import catalogue, files, records
from seqio_tasks.errors import RequestError
from seqio_tasks.sentencepiece_model import NUM_SENTINELS
from seqio_tasks.span_corruption import spans
from xfer_jax.results import csv_file

FILE = "probe.csv"
MODES = ("score", "predict")
_SUFFIX = "jsonl-00000-of-00001"
_SENTINEL = re.compile(r"<extra_id_\d+>")
_DRAWS, _BLOCK = 2000, 100


def path(folder: Path, task: str, mode: str) -> Path:
    """Returns the path of a probe's scores or predictions, with the file name that T5X uses."""
    return folder / f"{task}-{mode}.{_SUFFIX}"


@dataclasses.dataclass(frozen=True)
class Answers:
    """Counts and losses of a model's predictions for a probe, one number per piece of text."""

    loss: np.ndarray  # nats, summed over all target tokens
    tokens: np.ndarray  # target tokens, including sentinels and end of sequence, as in mT5
    size: np.ndarray  # UTF-8 bytes of the masked text
    characters: np.ndarray  # of the masked text
    spans: np.ndarray  # number of masked spans
    exact: np.ndarray  # number of masked spans that are predicted token for token


def read(folder: Path, task: str) -> Answers:
    """Reads the two files of a probe.

    Raises:
      RequestError: a file is missing or damaged, or the two files are of different texts.
    """
    rows = []
    scores = _lines(path(folder, task, "score"), _Scored)
    predictions = _lines(path(folder, task, "predict"), _Predicted)
    if len(scores) != len(predictions):
        raise RequestError(
            f"{folder}: {task} has {len(scores)} scores but {len(predictions)} predictions; remove"
            " both files, and probe again"
        )
    for scored, generated in zip(scores, predictions, strict=True):
        targets = [token for token in scored.inputs.targets if token]
        target_text = scored.inputs.targets_pretokenized
        loss, predicted = -scored.score, generated.prediction_tokens
        if [token for token in generated.inputs.targets if token] != targets:
            raise RequestError(
                f"{folder}: the scores and the predictions of {task} have different masks; remove"
                " both files, and probe again"
            )
        if len(targets) < 3:
            continue  # the last piece has a single token: nothing is masked
        # All targets begin with <extra_id_0>; the ids of the next sentinels decrease by one.
        sentinels = range(targets[0], targets[0] - NUM_SENTINELS, -1)
        expected, found = spans(targets, sentinels), spans(predicted, sentinels)
        masked = " ".join(_SENTINEL.sub(" ", target_text).split())
        exact = sum(found.get(number) == span for number, span in expected.items())
        rows.append((loss, len(targets), len(masked.encode()), len(masked), len(expected), exact))
    if not rows:
        raise RequestError(
            f"{path(folder, task, 'score')} contains no masked text; choose a task with longer"
            " texts"
        )
    return Answers(*np.asarray(rows, float).T)


class _Inputs(pydantic.BaseModel):
    targets: list[int]


class _ScoredInputs(_Inputs):
    targets_pretokenized: str


class _Scored(pydantic.BaseModel):
    """A line of a file of scores."""

    inputs: _ScoredInputs
    score: pydantic.FiniteFloat  # log-probability of the targets, in nats


class _Predicted(pydantic.BaseModel):
    """A line of a file of predictions."""

    inputs: _Inputs
    prediction_tokens: list[int]


_Line = TypeVar("_Line", bound=pydantic.BaseModel)


def _lines(file: Path, model: type[_Line]) -> list[_Line]:
    """Reads a file of JSON lines; raises RequestError with the number of an invalid line."""
    if not file.is_file():
        raise RequestError(
            f"{file} is missing: run the probe with INFER_MODE 'score' and 'predict'"
        )
    found = []
    # not splitlines(), which also splits at characters that JSON does not escape
    for number, line in enumerate(files.read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(model.model_validate_json(line))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"][:2]))
            if not place:
                raise RequestError(
                    f"{file} is damaged: line {number} is not JSON; remove the file, and probe"
                    " again"
                ) from None
            raise RequestError(
                f"{file} is not a file of a probe: line {number}, {place}: {first['msg']}; with"
                " T5X, use t5x_configs/probe.gin"
            ) from None
    return found


def measure(answers: Answers, seed: int = 0) -> dict[str, float]:
    """Computes the measures of a probe, with 95% intervals from resampling pieces of text.

    Returns:
      `lm_loss` (LM_L), nats per target token; `bits_per_byte` and `bits_per_character` of the
      masked text, which do not depend on the tokenisation; `lm_em` (LM_EM), the share of masked
      spans that are predicted exactly; and `lm_em_examples`, the mean over pieces of that share.
      Each has `_low` and `_high`, the ends of its interval.
    """
    bits = answers.loss / np.log(2)
    ratios = {
        "lm_loss": (answers.loss, answers.tokens),
        "bits_per_byte": (bits, answers.size),
        "bits_per_character": (bits, answers.characters),
        "lm_em": (answers.exact, answers.spans),
        "lm_em_examples": (answers.exact / answers.spans, np.ones(len(bits))),
    }
    stacked = np.stack([part for pair in ratios.values() for part in pair], axis=1)
    rng = np.random.default_rng((seed, 3))
    n = len(bits)
    drawn = np.concatenate(
        [rng.multinomial(n, np.full(n, 1 / n), _BLOCK) @ stacked for _ in range(_DRAWS // _BLOCK)]
    )
    found: dict[str, float] = {
        "n_examples": n,
        "n_spans": int(answers.spans.sum()),
        "n_tokens": int(answers.tokens.sum()),
        "n_bytes": int(answers.size.sum()),
    }
    for i, (name, (numerator, denominator)) in enumerate(ratios.items()):
        low, high = np.quantile(drawn[:, 2 * i] / drawn[:, 2 * i + 1], [0.025, 0.975])
        found |= {
            name: numerator.sum() / denominator.sum(),
            f"{name}_low": low,
            f"{name}_high": high,
        }
    return found


def tasks_in(folder: Path) -> Iterator[tuple[Path, records.Task]]:
    """Yields the probes with scores in a folder or its subfolders, and the folder of each."""
    for file in sorted(folder.rglob(f"*-score.{_SUFFIX}")):
        task = catalogue.task(file.name.removesuffix(f"-score.{_SUFFIX}"))
        if task.family.format.objective == "probe":
            yield file.parent, task


def collect(folder: Path) -> pd.DataFrame:
    """Computes the table of all probes in a folder, and writes it to `probe.csv` there.

    Raises:
      RequestError: there are no probes; or see `read`.
    """
    rows = []
    for where, task in tasks_in(folder):
        of = records.PREFIX + task.family.name.removeprefix(records.PROBE)
        rows.append({"task": of, "language": task.language} | measure(read(where, task.name)))
    if not rows:
        raise RequestError(
            f"{folder} contains no probe: no file has the name xfer_probe.…-score.{_SUFFIX}"
        )
    table = pd.DataFrame(rows)
    csv_file.write(folder / FILE, table)
    return table


def text(table: pd.DataFrame) -> str:
    """Renders a table of probes for a terminal."""
    lines: list[str] = []
    for task, rows in table.groupby("task", sort=False):
        lines.append(f"{task}: masked spans of the training text")
        lines.append(
            "  language pieces  spans   LM_L  95% interval   bits/byte   LM_EM  95% interval"
        )
        for row in rows.sort_values("lm_loss").itertuples():
            lines.append(
                f"  {row.language:<8}{row.n_examples:>7}{row.n_spans:>7}{row.lm_loss:>7.3f}"
                f"  [{row.lm_loss_low:.3f}, {row.lm_loss_high:.3f}]{row.bits_per_byte:>10.3f}"
                f"{row.lm_em:>8.3f}  [{row.lm_em_low:.3f}, {row.lm_em_high:.3f}]"
            )
    lines.append("LM_L: nats per target token; LM_EM: share of the masked spans predicted exactly")
    return "\n".join(lines)


def names(table: pd.DataFrame) -> Sequence[str]:
    """Returns the measures in a table of probes."""
    return [name for name in ("lm_loss", "bits_per_byte", "lm_em") if name in table]
