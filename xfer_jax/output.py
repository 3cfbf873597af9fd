"""A run's folder, in T5X's layout: whose it is, and files that are written whole or not at all.

Of several processes only the first writes; all read.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqio_tasks.errors import RequestError
from xfer_jax import checkpoints, partitioning

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

CONFIG_FILE = "config.gin"


def check(folder: Path, config_text: str) -> None:
    """Checks that a folder is new or this run's own.

    Raises:
      RequestError: the folder holds another run; shows what differs.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        if checkpoints.steps(folder):
            raise RequestError(
                f"{folder} holds checkpoints but no {CONFIG_FILE}; choose another MODEL_DIR"
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
            f"{folder} holds another run's results ({shown}); choose another MODEL_DIR, or"
            " remove it"
        )


def claim(folder: Path, config_text: str) -> None:
    """Makes the folder and writes the run's configuration into it.

    Raises:
      RequestError: the folder cannot be written.
    """
    try:
        write(folder / CONFIG_FILE, config_text)
    except OSError as error:
        reason = error.strerror
        raise RequestError(f"the folder {folder} cannot be written: {reason}") from None


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    if not partitioning.is_first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def set_metrics(path: Path, step: int, values: dict[str, float]) -> None:
    """Sets a step's line in `<task>-metrics.jsonl`; a step that is run again replaces its line."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    others = [record for line in lines if (record := json.loads(line))["step"] != step]
    write_jsonl(path, sorted([*others, {"step": step, **values}], key=lambda r: r["step"]))


def events(folder: Path, suffix: str = "") -> "SummaryWriter":
    """Opens a folder's TensorBoard events; `suffix` tells files of one second apart."""
    from tensorboardX import SummaryWriter  # imports PyTorch, 1.5 s, where there is one

    return SummaryWriter(
        str(folder), filename_suffix=f"{suffix}.v2", write_to_disk=partitioning.is_first()
    )
