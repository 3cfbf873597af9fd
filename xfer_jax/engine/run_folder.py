"""The folder of a run, in T5X's layout: checks to which run it belongs, and writes its files.

If there are several processes, all read but only the first one writes.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import locations
from xfer_jax.mt5 import partitioning

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


CONFIG_FILE = "config.gin"
INPUTS_FILE = "inputs.json"  # digests of what the run reads
# Macros for places of files, and for how many checkpoints are kept. They may change between two
# starts of a run, because inputs are compared by their digests.
_LOCATIONS = (
    "MODEL_DIR", "EVAL_OUTPUT_DIR", "INFER_OUTPUT_DIR", "PROBE_OUTPUT_DIR", "RETRIEVAL_OUTPUT_DIR",
    "INITIAL_CHECKPOINT_PATH", "CHECKPOINT_PATH", "DATA_DIR", "VOCAB_FILE", "KEEP_CHECKPOINTS",
)  # fmt: skip
_RESULTS = ("checkpoint_*", "inference_eval/*.jsonl", "*.jsonl*", "*.csv")


def check_place(folder: Path) -> None:
    """Raises RequestError unless a folder exists or can be created."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise RequestError(
            f"the folder {folder} cannot be written: {there} is no folder; choose another place"
        )
    file = folder / CONFIG_FILE
    if os.path.lexists(file) and not file.is_file():
        raise RequestError(f"{file} is not a file: remove it, or choose another folder")


def check(folder: Path, config_text: str) -> None:
    """Checks that a folder is new, or contains results of a run with the same settings.

    The places of the run and of its inputs may differ, so that a run can be moved.

    Raises:
      RequestError: the folder contains results of another run; shows the differences.
    """
    check_place(folder)
    if not _has_results(folder):
        return  # an earlier run may have failed at once
    file = folder / CONFIG_FILE
    if not file.is_file():
        if locations.steps(folder):
            raise RequestError(
                f"{folder} contains checkpoints but no {CONFIG_FILE}; choose another MODEL_DIR"
            )
        return
    old, new = _settings(files.read_text(file)), _settings(config_text)
    if old != new:
        differences = [f"was {line}" for line in sorted(old - new)]
        differences += [f"now {line}" for line in sorted(new - old)]
        shown = "; ".join(differences[:6]) + ("; …" if differences[6:] else "")
        raise RequestError(
            f"{folder} contains the results of a run with other settings ({shown}); choose another"
            " folder, or remove this one"
        )


def _has_results(folder: Path) -> bool:
    return any(True for pattern in _RESULTS for _ in folder.glob(pattern))


def _settings(config_text: str) -> set[str]:
    """Returns the settings of a configuration without those of `_LOCATIONS`."""
    statements = re.sub(r"\\\n\s*", "", config_text).splitlines()
    return {
        " ".join(statement.split())
        for statement in statements
        if statement.strip()
        and not statement.startswith("#")
        and statement.partition("=")[0].strip() not in _LOCATIONS
    }


def check_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    """Checks that the results in a folder were made from the same inputs.

    Args:
      folder: of the run.
      inputs: digests by the name of the input: 'vocabulary', 'checkpoint', 'training data'.

    Raises:
      RequestError: an input has changed since the run began.
    """
    file = folder / INPUTS_FILE
    if not file.is_file() or not _has_results(folder):
        return
    before = files.read_json(file)
    if not isinstance(before, dict):
        raise RequestError(f"{file} is damaged: it is not a JSON object; choose another folder")
    for name, digest in inputs.items():
        if before.get(name, digest) != digest:
            raise RequestError(
                f"{folder} contains results of another {name}: it has changed since the run began;"
                " use the old one, choose another folder, or remove this one"
            )


def claim(folder: Path, config_text: str, inputs: Mapping[str, str]) -> None:
    """Creates the folder, and writes the run's settings and the digests of its inputs to it.

    Raises:
      RequestError: the folder cannot be written.
      RunError: the disk is full.
    """
    write(folder / INPUTS_FILE, json.dumps(dict(inputs), indent=1, sort_keys=True) + "\n")
    write(folder / CONFIG_FILE, config_text)


def write(path: Path, text: str) -> None:
    """Writes a file completely or not at all, see `files.write`."""
    if partitioning.is_first():
        files.write(path, text)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object per line, completely or not at all."""
    write(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def set_metrics(path: Path, step: int, values: dict[str, float]) -> None:
    """Writes the line of a step in `<task>-metrics.jsonl`, in place of an earlier one."""
    lines = files.read_text(path).splitlines() if path.is_file() else []
    try:
        others = [record for line in lines if (record := json.loads(line))["step"] != step]
    except (ValueError, KeyError, TypeError):
        raise RequestError(f"{path} is damaged: remove it; scores are in the outputs") from None
    write_jsonl(path, sorted([*others, {"step": step, **values}], key=lambda r: r["step"]))


def events(folder: Path, suffix: str = "") -> "SummaryWriter":
    """Opens TensorBoard events in a folder; `suffix` distinguishes files of the same second."""
    from tensorboardX import SummaryWriter  # imports PyTorch, 1.5 s, where there is one

    return SummaryWriter(
        str(folder), filename_suffix=f"{suffix}.v2", write_to_disk=partitioning.is_first()
    )
