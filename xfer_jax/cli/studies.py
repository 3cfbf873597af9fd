"""The command `study`."""

import argparse
import dataclasses
import sys
from typing import Any

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.cli import options

_STUDY_HELP = """\
actions:
  plan     prints the jobs and their cost: operations, memory, hours and disk; runs nothing
  run      runs the jobs that are not done, and collects the scores
  status   prints the progress; on a terminal it is updated while the study runs
  collect  writes the table of scores of the jobs that are done
  emit     writes the study as a Snakemake workflow, or as Slurm arrays

settings: --gin.NAME=VALUE sets a field of the study, e.g. --gin.study.Study.seeds="(0, 1, 2)"

One process runs a study, with --workers processes that do its jobs. For a cluster, use emit.
"""


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    command = options.add_command(
        commands,
        "study",
        "Plan, run and follow a study: stages of training and evaluation in many languages.",
        _study,
        _STUDY_HELP,
    )
    command.add_argument("action", choices=("plan", "run", "status", "collect", "emit"))
    command.add_argument("file", metavar="FILE.gin", help="study file, see gin/studies/")
    command.add_argument("--out", help="the study's folder; plan leaves out what is done there")
    command.add_argument(
        "--workers",
        type=int,
        help="run: number of worker processes on this machine; each has a GPU or some of the cores",
    )
    command.add_argument(
        "--job", metavar="JOB", help="run: only this job; the job that it starts from must be done"
    )
    command.add_argument(
        "--engine", choices=("native", "t5x"), help="what runs the jobs (default: as the file says)"
    )
    command.add_argument("--device", default="cpu", help="plan, emit: cpu, a100, h100, v4, v5e, …")
    command.add_argument("--once", action="store_true", help="status: print it once")
    command.add_argument("--to", choices=("snakemake", "slurm"), help="emit: for which engine")
    for name, help_of in (
        ("gpus", "GPUs of a job"),
        ("cpus", "processors of a job"),
        ("mem", "GiB of memory of a job"),
        ("time", "minutes of a job"),
    ):
        command.add_argument(f"--{name}", type=int, metavar="N", help=f"emit: {help_of}")
    command.add_argument("--partition", help="emit: of the cluster")
    command.add_argument("--account", help="emit: of the cluster")
    command.add_argument("--expect", help=argparse.SUPPRESS)  # digest of FILE when it was emitted
    options.add_gin(command, files=False)


def _study(args: argparse.Namespace, bindings: list[str]) -> None:
    from xfer_jax import configuration
    from xfer_jax.runtime import compilation, progress
    from xfer_jax.study import (
        collect,
        definition,
        execution,
        job_graph,
        job_record,
        plan,
        status,
    )  # fmt: skip

    paths = options.search_paths(args)
    if args.engine:
        bindings = [*bindings, f"study.Study.engine={args.engine!r}"]
    configuration.load("study", [args.file], bindings, paths, args.imports)
    study = dataclasses.replace(
        configuration.build(definition.Study),
        search_paths=tuple(paths),
        imports=tuple(args.imports),
    )
    out = files.absolute(args.out) if args.out else None
    if out is not None:
        job_record.refuse_older(out)
    if args.action == "plan":
        progress.say(plan.render(study, out, args.device))
        return
    if out is None:
        raise RequestError(f"study {args.action} needs --out, the study's folder")
    if args.expect not in (None, configuration.digest(args.file, paths)):
        raise RequestError(f"{args.file} has changed since the study was emitted: emit it again")
    if args.action == "status":
        every = job_graph.lay_out(study)
        if sys.stdout.isatty() and not args.once:
            status.follow(every, out)
        else:
            progress.say(status.render(every, out))
    elif args.action == "collect":
        progress.say(collect.collect(study, out))
    elif args.action == "emit":
        _emit(args, study, out, bindings, paths)
    elif args.job is not None:
        if args.workers is not None:
            raise RequestError("--job is one job, which this process does: leave out --workers")
        compilation.keep_programs()
        execution.run_job(study, out, args.job)
    else:
        if args.workers is None:
            compilation.keep_programs()
        execution.run(study, out, args.workers)


def _emit(
    args: argparse.Namespace, study: Any, out: Any, bindings: list[str], paths: list[str]
) -> None:
    from xfer_jax import configuration
    from xfer_jax.runtime import progress
    from xfer_jax.study import workflows

    if args.to is None:
        raise RequestError(f"study emit needs --to: {', '.join(workflows.TO)}")
    file = files.absolute(args.file)
    again = [str(file) if file.is_file() else args.file, "--out", str(out)]
    again += [f"--gin.{binding}" for binding in bindings]
    again += [f"--import={module}" for module in args.imports]
    if paths:
        again.append(f"--gin_search_paths={','.join(paths)}")
    again.append(f"--expect={configuration.digest(args.file, paths)}")
    names = {"gpus": "gpus", "cpus": "cpus", "mem": "mem_gib", "time": "minutes"}
    names |= {"partition": "partition", "account": "account"}
    given = ((names[name], getattr(args, name)) for name in names)
    asked = {name: value for name, value in given if value is not None}
    first, *others = workflows.emit(study, out, again, args.to, args.device, asked)
    progress.say(f"wrote {first} and {len(others)} files beside it")
    missing = workflows.missing(args.to)
    if missing:
        progress.say(f"note: {missing}")
