"""The command line, `xfer-jax COMMAND`. Imports what a command needs, when it needs it.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 3 other work must be done first, 130
interrupted, 141 nobody reads the output, 143 preempted.
"""

import argparse
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from seqio_tasks import files
from seqio_tasks.errors import NotReadyError, PreemptedError, RequestError, RunError
from xfer_jax import host_memory

# commands that run the engine
_COMPUTING = ("train", "eval", "infer", "probe", "retrieve", "study")

# How control characters are shown: those of a file's name could steer the user's terminal.
_SHOWN_AS = {code: repr(chr(code))[1:-1] for code in [*range(32), *range(127, 160)] if code != 10}

_GIN_HELP = """\
configuration, by T5X's conventions (later ones win):
  --gin_file=FILE          a gin file; many allowed
  --gin.NAME=VALUE         sets a macro or a binding, e.g. --gin.SOURCE="'en'"
  --gin_search_paths=A,B   folders in which gin files are looked for
  --import=MODULE          a module that gin files may import; many allowed

gin/runs/{command}.gin lists every macro with its default.
"""


_STUDY_HELP = """\
actions:
  plan     the jobs, what is shared, operations, memory, hours and disk; runs nothing
  run      does the jobs that are not done, and collects the scores
  status   how far it is; on a terminal a table that renews itself while somebody runs it
  collect  makes the table of scores of the jobs that are done
  emit     writes it as a Snakemake workflow, or as Slurm arrays

settings: --gin.NAME=VALUE sets a field of the study, e.g. --gin.study.Study.seeds="(0, 1, 2)"

One process runs a study, with as many workers as --workers says. On a cluster, emit it.
"""


_ANALYZE_HELP = """\
A table needs the columns source, target and score (percent); task, n_shots, n_train, seed,
intermediate, arm and baseline are understood. Languages are ISO 639 codes, BCP 47 tags, FLORES
codes, Glottocodes or names. Folders of runs, by T5X or by this tool, are scored anew from their
outputs, and their errors counted. A table of features has source and target, or language, and a
column a feature. Zero-shot scores are correlated, or those of the fewest shots; of several training
sizes, those of the largest.
"""


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--measure",
        choices=("cosine", "agreement"),
        default="cosine",
        help="of typology: cosine, or the share of values that agree (default: cosine)",
    )
    command.add_argument(
        "--imputed", action="store_true", help="fill gaps of WALS by URIEL's nearest neighbours"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xfer-jax",
        description="Measures how mT5 carries knowledge from language to language, and says why.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, epilog: str | None = None) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "--debug", action="store_true", help="show tracebacks of wrong requests"
        )
        return command

    command = add("tasks", "List the tasks: languages, splits and where their data comes from.")
    command.add_argument("name", nargs="?", default="", help="only tasks whose name contains this")
    command.add_argument(
        "--filter",
        choices=("intermediate", "xtreme_r"),  # catalogue.GROUPS
        help="only the English intermediate tasks, or only those of XTREME-R",
    )
    command.add_argument(
        "--sizes", action="store_true", help="count the examples in the data folder (slower)"
    )

    command = add("vocab", "Train a SentencePiece vocabulary, with sentinels, from tasks' text.")
    command.add_argument("--tasks", required=True, help="joined by commas: xfer_panx.all_langs")
    command.add_argument("--languages", default="", help="of a mixture, only these: ar,bn,en")
    command.add_argument("--split", default="train", help="split to read (default: train)")
    command.add_argument(
        "--examples", type=int, default=5000, help="texts drawn of each task (default: 5000)"
    )
    command.add_argument("--size", type=int, required=True, help="pieces, 100 sentinels included")
    command.add_argument("--out", required=True, help="file to write, e.g. out/panx.model")

    command = add(
        "convert",
        "Convert a checkpoint between this tool, T5X and Hugging Face; without DST, describe it.",
    )
    forms = ("native", "t5x", "t5x-legacy", "hf")
    command.add_argument("source", metavar="SRC", help="a checkpoint or a run's folder, or gs://…")
    command.add_argument("destination", metavar="DST", nargs="?", help="folder to make")
    command.add_argument(
        "--to",
        choices=forms,
        help="what DST is to be: this tool's (Orbax, with run.json), T5X's (Orbax), T5X's older"
        " (zarr and msgpack) or Hugging Face's (safetensors)",
    )
    command.add_argument(
        "--from", dest="came_from", choices=forms, help="what SRC must be (default: recognised)"
    )
    command.add_argument(
        "--step", type=int, help="step that DST stands at (default: SRC's; Hugging Face's: 0)"
    )

    command = add(
        "study", "Plan, run and follow a grid of tasks, languages, shots and seeds.", _STUDY_HELP
    )
    command.add_argument("action", choices=("plan", "run", "status", "collect", "emit"))
    command.add_argument("file", metavar="FILE.gin", help="the study: see gin/studies/")
    command.add_argument(
        "--out", help="the study's folder; of plan: what is done there is left out"
    )
    command.add_argument(
        "--workers",
        type=int,
        help="run: so many processes on this machine, with a GPU or some of the cores each",
    )
    command.add_argument(
        "--job", metavar="JOB", help="run: only this job; what it starts from must be done"
    )
    command.add_argument(
        "--engine", choices=("native", "t5x"), help="who does the jobs (default: the file's)"
    )
    command.add_argument("--device", default="cpu", help="plan: cpu, a100, h100, v4, v5e, …")
    command.add_argument("--once", action="store_true", help="status: do not renew it")
    command.add_argument("--to", choices=("snakemake", "slurm"), help="emit: what for")
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
    command.add_argument("--gin_search_paths", default="", help=argparse.SUPPRESS)
    command.add_argument(
        "--import", dest="imports", action="append", default=[], help=argparse.SUPPRESS
    )

    command = add(
        "features", "Write what is known of pairs of languages: typology, descent, place."
    )
    command.add_argument("--languages", required=True, help="codes or names: ar,bn,en,Finnish")
    command.add_argument("--out", required=True, help="file to write, e.g. out/features.csv")
    _add_options(command)

    command = add(
        "analyze", "Correlate a table of scores with what is known of its languages.", _ANALYZE_HELP
    )
    command.add_argument(
        "--scores",
        required=True,
        nargs="+",
        metavar="PATH",
        help="CSV with source, target, score; a study's folder; or folders of runs, T5X's too",
    )
    command.add_argument("--out", required=True, help="folder for the tables that are found")
    command.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only such rows"
    )
    command.add_argument(
        "--fractions", action="store_true", help="scores are fractions of 1, not percentages"
    )
    command.add_argument(
        "--features", action="append", default=[], metavar="CSV", help="features of your own"
    )
    command.add_argument(
        "--probe", metavar="CSV", help="of `xfer-jax probe`; a study's own is found"
    )
    command.add_argument(
        "--predictors",
        default="",
        metavar="A,B",
        help="of the regression (default: of pairs, known)",
    )
    command.add_argument(
        "--reach", type=float, help="score to count examples for (default: 90%% of in-language)"
    )
    command.add_argument("--permutations", type=int, default=10_000, help="(default: 10000)")
    command.add_argument("--seed", type=int, default=0, help="of permutations and resampling")
    _add_options(command)

    command = add("xtreme-r", "Compute XTREME-R's score of what a model's runs answered.")
    command.add_argument(
        "folders", nargs="+", metavar="DIR", help="of runs in T5X's layout, and of `retrieve`"
    )

    command = add("report", "Draw what an analysis found as one page, DIR/report.html.")
    command.add_argument("folder", metavar="DIR", help="that `xfer-jax analyze` wrote")

    command = add(
        "probe",
        "Ask a checkpoint for masked spans of a task's own text: LM_L and LM_EM per language.",
        _GIN_HELP.format(command="probe"),
    )
    command.add_argument("--gin_file", action="append", default=[], help=argparse.SUPPRESS)
    command.add_argument("--gin_search_paths", default="", help=argparse.SUPPRESS)
    command.add_argument(
        "--import", dest="imports", action="append", default=[], help=argparse.SUPPRESS
    )
    command.add_argument(
        "--outputs", metavar="DIR", help="only sum up what T5X's infer, or this, left in a folder"
    )

    command = add(
        "retrieve",
        "Rank candidates by the encoder's mean states: Tatoeba, Mewsli-X, LAReQA.",
        _GIN_HELP.format(command="retrieve"),
    )
    command.add_argument("--gin_file", action="append", default=[], help=argparse.SUPPRESS)
    command.add_argument("--gin_search_paths", default="", help=argparse.SUPPRESS)
    command.add_argument(
        "--import", dest="imports", action="append", default=[], help=argparse.SUPPRESS
    )

    for name, summary in (
        ("train", "Pre-train or fine-tune an mT5, then score it on its targets."),
        ("eval", "Score a checkpoint on its targets."),
        ("infer", "Write a checkpoint's predictions, or the scores it gives to the targets."),
    ):
        command = add(name, summary, _GIN_HELP.format(command=name))
        command.add_argument("--gin_file", action="append", default=[], help=argparse.SUPPRESS)
        command.add_argument("--gin_search_paths", default="", help=argparse.SUPPRESS)
        command.add_argument(
            "--import", dest="imports", action="append", default=[], help=argparse.SUPPRESS
        )
        processes = command.add_argument_group("several processes, one a machine or GPU")
        processes.add_argument(
            "--multiprocess",
            action="store_true",
            help="join the others; on TPU pods, Slurm and Open MPI nothing else has to be said",
        )
        processes.add_argument("--coordinator_address", help="HOST:PORT of process 0")
        processes.add_argument("--process_count", type=int, help="how many there are")
        processes.add_argument("--process_index", type=int, help="which one this is, from 0")
    return parser


def _tasks(args: argparse.Namespace) -> None:
    from seqio_tasks import catalogue, languages, records, sources

    folder = sources.data_dir()
    shown = 0
    for family in catalogue.families().values():
        if args.filter and args.filter not in family.groups:
            continue
        for code in family.languages:
            name = f"{records.PREFIX}{family.name}.{code}"
            if args.name not in name:
                continue
            shown += 1
            origins = [_origin(catalogue.task(name), split, args.sizes) for split in family.splits]
            print(f"{name:<22} {languages.get(code).name:<12} {'  '.join(origins)}")
    if args.filter in (None, records.INTERMEDIATE):
        shown += _mixtures(args.name)
    if args.filter in (None, records.XTREME_R):
        shown += _retrieval(args.name, args.sizes)
    if not shown:
        group = f" of {args.filter}" if args.filter else ""
        raise RequestError(
            f"no task's name{group} contains {args.name!r}; `xfer-jax tasks` lists all"
        )
    where = f"files in {folder}" if folder else "TFDS (set XFER_DATA_DIR to read files instead)"
    print(f"{shown} tasks; each family has a mixture `.{records.ALL_LANGUAGES}`; data: {where}")


def _mixtures(part: str) -> int:
    """Prints the intermediate tasks in families of languages; returns how many there are."""
    from seqio_tasks import catalogue, records

    names = [name for name in catalogue.intermediates() if part in name]
    for name in names:
        of = catalogue.tasks(name)
        codes = " ".join(task.language for task in of)
        print(f"{name:<42} {records.PREFIX}{of[0].family.name}: {codes}")
    return len(names)


def _retrieval(part: str, count: bool) -> int:
    """Prints the retrieval tasks, which `retrieve` reads itself; returns how many there are."""
    from seqio_tasks import retrieval_data, sources

    shown = 0
    for family in retrieval_data.FAMILIES.values():
        if part not in family.name:
            continue
        shown += 1
        there = "files in XTREME's layout alone"
        if count and sources.data_dir() is not None:
            sizes = []
            for code in family.languages:
                try:
                    (of,) = retrieval_data.read(family.name, (code,))
                    sizes.append(f"{code} {len(of.queries):,}")
                except RequestError:
                    continue
            there = ", ".join(sizes) or "-"
        print(f"{family.name:<22} retrieval, {len(family.languages)} languages: {there}")
    return shown


def _origin(task, split: str, count: bool) -> str:
    from seqio_tasks import raw_data, sources

    family = task.family
    if family.make is not None:
        made = sum(1 for _ in family.make(task.language, split)) if count else "made here"
        return f"{split} {made}"
    size = f" ({family.sizes[split]:,})" if split in family.sizes else ""
    parts = raw_data.parts(task, split)
    if sources.data_dir() is None:
        return f"{split} {'+'.join(_elsewhere(part, split) for part in parts)}{size}"
    try:
        paths = [raw_data.find(part, split) for part in parts]
    except RequestError:
        return f"{split} -{size}"
    if not count:
        return f"{split} {'+'.join(path.name for path in paths)}{size}"
    try:
        return f"{split} {sum(1 for part in parts for _ in raw_data.read(part, split))}"
    except RequestError:
        return f"{split} unreadable"


def _elsewhere(task, split: str) -> str:
    """Where a task's data is when there is no data folder."""
    tfds = task.family.tfds(task.language, split)
    if tfds:
        return "/".join(tfds)
    files = task.family.files(task.language, split)
    return f"file {files[0]}" if files else "-"


def _vocab(args: argparse.Namespace) -> None:
    from seqio_tasks import (
        catalogue,
        quiet_registry,
        sentencepiece_model,
        vocabulary,
    )

    languages = [code for code in args.languages.split(",") if code]
    tasks = catalogue.of_languages(args.tasks.split(","), languages)
    if args.examples < 1:
        raise RequestError(f"--examples must be at least 1, not {args.examples}")
    for task in tasks:
        if args.split not in task.family.splits:
            there = ", ".join(task.family.splits)
            raise RequestError(f"--split: {task.name} has no split {args.split!r}; it has {there}")
    registry = quiet_registry.load()
    texts = (text for task in tasks for text in registry.texts(task, args.split, args.examples))
    print(f"training {args.size} pieces on {len(tasks)} tasks; this can take minutes", flush=True)
    path = sentencepiece_model.train(texts, args.size, files.absolute(args.out))
    loaded = vocabulary.load(str(path))
    print(
        f"wrote {path}: {loaded.size} pieces from {len(tasks)} tasks; train with"
        f" --gin.VOCAB_FILE=\"'{path}'\""
    )


def _convert(args: argparse.Namespace) -> None:
    if (args.destination is None) != (args.to is None):
        raise RequestError("to convert, give both DST and --to; to describe SRC, neither")
    if args.step is not None:
        if args.to in (None, "hf"):
            raise RequestError("--step is of a DST that has one: --to native, t5x or t5x-legacy")
        if not 0 <= args.step < 2**31:
            raise RequestError(f"--step must lie in [0, 2^31), not {args.step}")
    if "jax" not in sys.modules:  # an accelerator may be busy, and would not help
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from xfer_jax import convert

    convert.convert(args.source, args.destination, args.to, args.came_from, args.step)


def _gin_command(args: argparse.Namespace, bindings: list[str]) -> None:
    from xfer_jax import compilation, configuration, evaluation, probe, retrieval, train

    several = _check_processes(args) if args.command not in ("probe", "retrieve") else False
    compilation.keep_programs()
    if several:
        from xfer_jax import partitioning, progress

        partitioning.join(args.coordinator_address, args.process_count, args.process_index)
        progress.mute(not partitioning.is_first())
    paths = _search_paths(args)
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


def _search_paths(args: argparse.Namespace) -> list[str]:
    return [str(files.absolute(path)) for path in args.gin_search_paths.split(",") if path]


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


def _study(args: argparse.Namespace, bindings: list[str]) -> None:
    from xfer_jax import (
        compilation,
        configuration,
        execution,
        planning,
        progress,
        study,
    )

    paths = _search_paths(args)
    if args.engine:
        bindings = [*bindings, f"study.Study.engine={args.engine!r}"]
    configuration.load("study", [args.file], bindings, paths, args.imports)
    grid = dataclasses.replace(
        configuration.build(study.Study), search_paths=tuple(paths), imports=tuple(args.imports)
    )
    out = files.absolute(args.out) if args.out else None
    if args.action == "plan":
        progress.say(planning.plan(grid, out, args.device))
        return
    if out is None:
        raise RequestError(f"study {args.action} needs --out, the study's folder")
    if args.expect not in (None, configuration.digest(args.file, paths)):
        raise RequestError(f"{args.file} has changed since the study was emitted: emit it again")
    if args.action == "status":
        every = study.jobs(grid)
        if sys.stdout.isatty() and not args.once:
            planning.follow(every, out)
        else:
            progress.say(planning.status(every, out))
    elif args.action == "collect":
        execution.collect(grid, out)
    elif args.action == "emit":
        _emit(args, grid, out, bindings, paths)
    elif args.job is not None:
        if args.workers is not None:
            raise RequestError("--job is one job, which this process does: leave out --workers")
        compilation.keep_programs()
        execution.run_job(grid, out, args.job)
    else:
        if args.workers is None:
            compilation.keep_programs()
        execution.run(grid, out, args.workers)


def _emit(
    args: argparse.Namespace, grid: Any, out: Any, bindings: list[str], paths: list[str]
) -> None:
    from xfer_jax import configuration, emission, progress

    if args.to is None:
        raise RequestError(f"study emit needs --to: {', '.join(emission.TO)}")
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
    first, *others = emission.emit(grid, out, again, args.to, args.device, asked)
    progress.say(f"wrote {first} and {len(others)} files beside it")
    missing = emission.missing(args.to)
    if missing:
        progress.say(f"note: {missing}")


def _features(args: argparse.Namespace) -> None:
    from xfer_jax import features, tables

    codes = [tables.code_of(name) for name in args.languages.split(",") if name.strip()]
    if len(codes) < 2 or len(set(codes)) < len(codes):
        raise RequestError(f"--languages needs two different languages or more: {args.languages}")
    known = features.typology(codes, features.Options(args.measure, args.imputed))
    path = files.absolute(args.out)
    tables.write(path, features.table(known, codes))
    print(f"wrote {path}: {len(known)} features of {len(codes) * (len(codes) - 1)} pairs")
    for note in tables.typology_notes(codes):
        print(f"note: {note}")


def _analyze(args: argparse.Namespace) -> None:
    from xfer_jax import analysis, features

    where = dict(condition.partition("=")[::2] for condition in args.where)
    if len(where) < len(args.where):
        raise RequestError(f"--where names a column twice: {' '.join(args.where)}")
    request = analysis.Request(
        scores=[files.absolute(path) for path in args.scores],
        out=files.absolute(args.out),
        where=where,
        fractions=args.fractions,
        features=[files.absolute(path) for path in args.features],
        probe=files.absolute(args.probe) if args.probe else None,
        options=features.Options(args.measure, args.imputed),
        predictors=[name.strip() for name in args.predictors.split(",") if name.strip()],
        reach=args.reach,
        permutations=args.permutations,
        seed=args.seed,
    )
    print(analysis.analyze(request))
    print(f"tables: {request.out}")


def _xtreme_r(args: argparse.Namespace) -> None:
    from xfer_jax import xtreme

    print(xtreme.text(xtreme.collect([files.absolute(path) for path in args.folders])))


def _report(args: argparse.Namespace) -> None:
    from xfer_jax import report as pages

    print(f"wrote {pages.report(files.absolute(args.folder))}")


def _probe_outputs(args: argparse.Namespace) -> None:
    from xfer_jax import probe_table

    folder = files.absolute(args.outputs)
    print(probe_table.text(probe_table.collect(folder)))
    print(f"wrote {folder / probe_table.FILE}")


def report(work: Callable[[], Any], debug: bool = False) -> int:
    """Does some work; turns what goes wrong into one sentence on stderr and an exit code.

    Args:
      work: what to do.
      debug: show the traceback too.

    Returns:
      The exit code, see the module.
    """
    try:
        work()
        return 0
    except RequestError as error:
        code = 2
        sentence = str(error).splitlines()[0]  # gin appends which configurable was being called
        trace = traceback.format_exc()
    except BrokenPipeError:  # whoever reads the output has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        refused = files.refusal(error, str(error.filename or "the work"))
        code = 2 if isinstance(refused, RequestError) and error.filename else 1
        sentence, trace = str(refused), traceback.format_exc()
    except RunError as error:
        code, sentence, trace = 1, str(error), traceback.format_exc()
    except NotReadyError as error:
        code, sentence, trace = 3, str(error), traceback.format_exc()
    except PreemptedError as error:
        code, sentence, trace = 143, str(error), traceback.format_exc()
    except KeyboardInterrupt:
        code, sentence, trace = 130, "interrupted", ""
    if debug:
        print(trace, file=sys.stderr)
    print(f"xfer-jax: {sentence.translate(_SHOWN_AS)}", file=sys.stderr)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments, by default the process's.

    Returns:
      The exit code.
    """
    as_program = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    bindings = [arg.removeprefix("--gin.") for arg in argv if arg.startswith("--gin.")]
    args = _parser().parse_args([arg for arg in argv if not arg.startswith("--gin.")])
    if as_program:
        for stream in (sys.stdout, sys.stderr):  # no locale makes printing a name fail
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if as_program and args.command in _COMPUTING:
        host_memory.restart_with_large_pages()
    if args.command == "tasks":
        return report(lambda: _tasks(args), args.debug)
    if args.command == "vocab":
        return report(lambda: _vocab(args), args.debug)
    if args.command == "study":
        return report(lambda: _study(args, bindings), args.debug)
    if args.command == "convert":
        return report(lambda: _convert(args), args.debug)
    if args.command == "features":
        return report(lambda: _features(args), args.debug)
    if args.command == "analyze":
        return report(lambda: _analyze(args), args.debug)
    if args.command == "xtreme-r":
        return report(lambda: _xtreme_r(args), args.debug)
    if args.command == "report":
        return report(lambda: _report(args), args.debug)
    if args.command == "probe" and args.outputs:
        return report(lambda: _probe_outputs(args), args.debug)
    return report(lambda: _gin_command(args, bindings), args.debug)


if __name__ == "__main__":
    sys.exit(main())
