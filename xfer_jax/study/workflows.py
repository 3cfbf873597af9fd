"""Writes a study for a cluster: a Snakemake workflow, or plain Slurm arrays.

Every task is `study run --job NAME`, which does one job and writes its `done.json`. Those files
alone say what can be begun: tasks share nothing but the study's folder.
"""

import json
import math
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jinja2
import pydantic
from pydantic import Field

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.study import devices, job_graph, plan
from xfer_jax.study.definition import Study
from xfer_jax.study.job import Job

TO = ("snakemake", "slurm")
RESOURCES = "resources.json"  # what the jobs of each stage need; kept when a study is emitted again
_MOST_TASKS = 1000  # of a Slurm array: MaxArraySize is 1,001 unless the site has raised it
_SLACK, _START_MINUTES = 2, 15  # times what the plan estimates, and to start and compile
_INSTALL = {
    "snakemake": "pip install snakemake snakemake-executor-plugin-slurm, in its own environment",
    "slurm": "submit from a login node of the cluster",
}


class Resources(pydantic.BaseModel):
    """What a job asks of a machine."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    gpus: Annotated[int, Field(ge=0, le=64)]
    cpus: Annotated[int, Field(ge=1, le=1024)]
    mem_gib: Annotated[int, Field(ge=1, le=1 << 14)]
    minutes: Annotated[int, Field(ge=1, le=60 * 24 * 60)]
    partition: str = ""
    account: str = ""


def emit(
    study: Study,
    out: Path,
    arguments: Sequence[str],
    to: str,
    device: str = "cpu",
    asked: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Writes the files into a folder of the study's folder.

    Args:
      study: the study.
      out: its folder, which all machines see under this path.
      arguments: of `xfer-jax`, from FILE on: what tells the study.
      to: one of `TO`.
      device: of `devices.DEVICES`, what the plan estimates minutes for.
      asked: of `Resources`, what the user asks for of every job; the rest is as it was written
        before, or else as the plan estimates.

    Returns:
      The files; the first is the one to start.

    Raises:
      RequestError: resources that are wrong, or less than the plan estimates.
    """
    if "\n" in str(out):
        raise RequestError(
            f"the study's folder {str(out)!r} has a line break in its name: rename it"
        )
    folder, every = out / to, job_graph.lay_out(study)
    stages: dict[str, list[Job]] = {}
    for job in every:
        stages.setdefault(_rule(job.group), []).append(job)
    needs = _resources(folder / RESOURCES, plan.estimates(study, None, device), device, asked or {})
    program = [sys.executable, "-m", "xfer_jax.cli", "study"]
    commands = {action: shlex.join([*program, action, *arguments]) for action in ("run", "collect")}
    written = {RESOURCES: _json({name: needs[name].model_dump() for name in stages})}
    values = {"folder": str(folder), "out": str(out), **commands, "most": _MOST_TASKS}
    first = next(iter(needs.values()))
    if to == "snakemake":
        of = {
            name: {job.name: job.parent.name if job.parent else None for job in jobs}
            for name, jobs in stages.items()
        }
        written["study.json"] = _json({**commands, "stages": of})
        values |= {"stages": list(stages), "gpus_here": max(n.gpus for n in needs.values())}
        values |= {"partition": first.partition, "account": first.account}
        names = {
            "Snakefile": "Snakefile",
            "local/config.yaml": "local.yaml",
            "slurm/config.yaml": "slurm.yaml",
        }
    else:
        levels, lists = _arrays(every, needs, folder)
        written |= lists
        small = first.model_copy(update={"gpus": 0})
        values |= {"levels": levels, "collect_options": _options(small, folder, "scores-%j")}
        values |= {"collect_command": commands["collect"]}
        values |= {name: shlex.quote(str(folder / f"{name}.sh")) for name in ("task", "collect")}
        names = {name: name for name in ("submit.sh", "task.sh", "collect.sh")}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xfer_jax.study", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    for name, template in names.items():
        written[name] = environment.get_template(f"{template}.j2").render(values)
    for name in [*names, *(name for name in written if name not in names)]:
        files.write(folder / name, written[name])
        if name.endswith(".sh"):
            (folder / name).chmod(0o755)
    return [folder / name for name in names]


def missing(to: str) -> str | None:
    """Says how to come by the program that runs what was written; None where it is installed."""
    program = {"snakemake": "snakemake", "slurm": "sbatch"}[to]
    return None if shutil.which(program) else f"there is no {program} on PATH here: {_INSTALL[to]}"


def _rule(group: tuple[str, str]) -> str:
    """Returns the name of the rule, or of the array, of the jobs of a group, see `Job.group`."""
    return "_".join(group).replace(" ", "_")


def _resources(
    file: Path, estimated: Sequence[plan.Estimate], device: str, asked: Mapping[str, Any]
) -> dict[str, Resources]:
    """Returns what the jobs of each stage need, by stage."""
    before = files.read_json(file) if file.is_file() else {}
    on_gpu = device != "cpu"
    found = {}
    for stage in estimated:
        name = _rule((stage.stage, stage.task))
        least = math.ceil(60 * stage.hours_a_job)
        memory = stage.training.memory if stage.training else 0.0
        default = {
            "gpus": int(on_gpu),
            "cpus": 8 if on_gpu else 2,
            "mem_gib": 48 if on_gpu else max(8, math.ceil(3 * memory / 2**30)),
            "minutes": _SLACK * least + _START_MINUTES,
        }
        try:
            found[name] = Resources.model_validate({**default, **before.get(name, {}), **asked})
        except (pydantic.ValidationError, AttributeError) as error:
            first: Any = error.errors()[0] if isinstance(error, pydantic.ValidationError) else {}
            where = ".".join(map(str, first.get("loc", ())))
            raise RequestError(
                f"{file} or the command line asks for resources that cannot be, of {name}: {where}"
                f" {first.get('msg', 'no JSON object')}"
            ) from None
        if found[name].minutes < least:
            raise RequestError(
                f"a job of {name} takes about {least} minutes on {devices.device(device).title}:"
                f" {found[name].minutes} are too few; give more by --time"
            )
    return found


def _arrays(
    every: Sequence[Job], needs: Mapping[str, Resources], folder: Path
) -> tuple[list[list[dict[str, str]]], dict[str, str]]:
    """Returns Slurm's arrays, level by level of what they start from; and their lists of jobs."""
    depth: dict[str, int] = {}
    groups: dict[tuple[int, str], list[str]] = {}
    for job in every:
        depth[job.name] = depth[job.parent.name] + 1 if job.parent else 0
        rule = _rule(job.group)
        groups.setdefault((depth[job.name], rule), []).append(job.name)
    levels: list[list[dict[str, str]]] = [[] for _ in range(max(depth.values()) + 1)]
    lists: dict[str, str] = {}
    for (level, stage), names in groups.items():
        for start in range(0, len(names), _MOST_TASKS):
            part = names[start : start + _MOST_TASKS]
            file = f"{level}-{stage}-{start // _MOST_TASKS}.txt"
            lists[file] = "".join(f"{name}\n" for name in part)
            options = _options(needs[stage], folder, "%A_%a")
            levels[level].append(
                {
                    "stage": stage,
                    "options": f"--array=1-{len(part)} --job-name={stage} --requeue"
                    f" --signal=B:TERM@120 {options}",
                    "list": shlex.quote(str(folder / file)),
                }
            )
    return levels, lists


def _options(needs: Resources, folder: Path, log: str) -> str:
    """Returns the options of sbatch that ask for resources."""
    options = [
        f"--cpus-per-task={needs.cpus}",
        f"--mem={needs.mem_gib}G",
        f"--time={needs.minutes}",
        "--open-mode=append",
        f"--output={folder}/{log}.log",
    ]
    options += [f"--gpus={needs.gpus}"] if needs.gpus else []
    options += [f"--partition={needs.partition}"] if needs.partition else []
    options += [f"--account={needs.account}"] if needs.account else []
    return shlex.join(options)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"
