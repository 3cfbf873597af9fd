"""The commands of one run: train, eval, infer, probe, retrieve; and `convert`."""

import argparse
import os
import sys
from typing import Any

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.cli import options


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    for name, summary in (
        ("train", "Pre-train or fine-tune an mT5, then evaluate it on its targets."),
        ("eval", "Evaluate a checkpoint on its targets."),
        ("infer", "Write a checkpoint's predictions, or its log-probabilities of the targets."),
    ):
        command = options.add_command(
            commands, name, summary, _gin_command, options.GIN_HELP.format(command=name)
        )
        options.add_gin(command)
        processes = command.add_argument_group("several processes, one per machine or per GPU")
        processes.add_argument(
            "--multiprocess",
            action="store_true",
            help="join the other processes; TPU pods, Slurm and Open MPI need no other option",
        )
        processes.add_argument("--coordinator_address", help="address of process 0: HOST:PORT")
        processes.add_argument("--process_count", type=int, help="number of processes")
        processes.add_argument("--process_index", type=int, help="number of this process, from 0")

    command = options.add_command(
        commands,
        "probe",
        "Probe a checkpoint with span corruption of a task's text: LM_L and LM_EM per language.",
        _probe,
        options.GIN_HELP.format(command="probe"),
    )
    options.add_gin(command)
    command.add_argument(
        "--outputs",
        metavar="DIR",
        help="only compute the table from predictions in DIR, by T5X's infer or by this command",
    )

    command = options.add_command(
        commands,
        "retrieve",
        "Rank candidates by the encoder's mean states: Tatoeba, Mewsli-X, LAReQA.",
        _gin_command,
        options.GIN_HELP.format(command="retrieve"),
    )
    options.add_gin(command)
    _add_convert(commands)


def _add_convert(commands: Any) -> None:
    command = options.add_command(
        commands,
        "convert",
        "Convert a checkpoint between this tool, T5X and Hugging Face; without DST, describe it.",
        _convert,
    )
    forms = ("native", "t5x", "t5x-legacy", "hf")
    command.add_argument("source", metavar="SRC", help="a checkpoint or a run's folder, or gs://…")
    command.add_argument("destination", metavar="DST", nargs="?", help="folder to write")
    command.add_argument(
        "--to",
        choices=forms,
        help="format of DST: native (Orbax, with run.json), t5x (Orbax), t5x-legacy (zarr and"
        " msgpack) or hf (Hugging Face's safetensors)",
    )
    command.add_argument(
        "--from",
        dest="came_from",
        choices=forms,
        help="format that SRC must have (default: found out)",
    )
    command.add_argument(
        "--step", type=int, help="step of DST (default: that of SRC; 0 for Hugging Face)"
    )


def _gin_command(args: argparse.Namespace, bindings: list[str]) -> None:
    from xfer_jax import configuration
    from xfer_jax.engine import evaluation, probe, retrieval, train
    from xfer_jax.runtime import compilation

    several = _check_processes(args) if args.command not in ("probe", "retrieve") else False
    compilation.keep_programs()
    if several:
        from xfer_jax.mt5 import partitioning
        from xfer_jax.runtime import progress

        partitioning.join(args.coordinator_address, args.process_count, args.process_index)
        progress.mute(not partitioning.is_first())
    paths = options.search_paths(args)
    text = configuration.load(args.command, args.gin_file, bindings, paths, args.imports)
    if args.command == "probe":
        probe.probe(configuration.build(probe.Probe), text)
    elif args.command == "retrieve":
        retrieval.retrieve(configuration.build(retrieval.Retrieval), text)
    elif args.command == "train":
        train.train(configuration.build(train.Run), text)
    elif args.command == "eval":
        evaluation.evaluate(configuration.build(evaluation.Evaluation), text)
    else:
        evaluation.infer(configuration.build(evaluation.Evaluation), text)


def _check_processes(args: argparse.Namespace) -> bool:
    """Returns whether this process is one of several.

    Raises:
      RequestError: it is, and what it must know of the others is missing or impossible.
    """
    address, count, index = args.coordinator_address, args.process_count, args.process_index
    given = [value is not None for value in (address, count, index)]
    if any(given) and not all(given) and not args.multiprocess:
        raise RequestError(
            "several processes need all three of --coordinator_address=HOST:PORT,"
            " --process_count=N and --process_index=I; or --multiprocess alone, where the scheduler"
            " tells them"
        )
    if count is not None and count < 1:
        raise RequestError(f"--process_count must be at least 1, not {count}")
    if index is not None and not 0 <= index < (count or index + 1):
        raise RequestError(f"--process_index must be from 0 to {(count or 1) - 1}, not {index}")
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise RequestError(f"--coordinator_address must be HOST:PORT, not {address!r}")
    return args.multiprocess or any(given)


def _probe(args: argparse.Namespace, bindings: list[str]) -> None:
    if args.outputs:
        _probe_outputs(args)
    else:
        _gin_command(args, bindings)


def _probe_outputs(args: argparse.Namespace) -> None:
    from xfer_jax.results import probe_table

    folder = files.absolute(args.outputs)
    print(probe_table.text(probe_table.collect(folder)))
    print(f"wrote {folder / probe_table.FILE}")


def _convert(args: argparse.Namespace, bindings: list[str]) -> None:
    del bindings
    if (args.destination is None) != (args.to is None):
        raise RequestError("to convert, give both DST and --to; to describe SRC, neither")
    if args.step is not None:
        if args.to in (None, "hf"):
            raise RequestError("--step is of a DST that has one: --to native, t5x or t5x-legacy")
        if not 0 <= args.step < 2**31:
            raise RequestError(f"--step must lie in [0, 2^31), not {args.step}")
    if "jax" not in sys.modules:  # an accelerator may be busy, and would not help
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from xfer_jax.checkpoints import convert

    convert.convert(args.source, args.destination, args.to, args.came_from, args.step)
