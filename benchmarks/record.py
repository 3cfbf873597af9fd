"""Keeps a benchmark's result with the date, the machine and the versions that it was made with."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def keep(name: str, results: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes `NAME.json`.

    Args:
      name: of the benchmark.
      results: what it found.
      folder: where to.
    """
    record = {"date": datetime.date.today().isoformat(), "machine": machine(), **results}
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """Describes this machine and the packages that count."""
    model = [
        line.partition(":")[2].strip()
        for line in _read("/proc/cpuinfo").splitlines()
        if line.startswith("model name")
    ]
    memory = [line.split()[1] for line in _read("/proc/meminfo").splitlines()][:1]
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "processor": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).is_file() else ""
