"""The commands `tasks` and `vocab`."""

import argparse
from typing import TYPE_CHECKING, Any

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.cli import options

if TYPE_CHECKING:
    from seqio_tasks.data_config import DataConfig
    from seqio_tasks.records import Task


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    command = options.add_command(
        commands,
        "tasks",
        "List the tasks: languages, splits and where their data comes from.",
        _tasks,
    )
    command.add_argument("name", nargs="?", default="", help="only tasks whose name contains this")
    command.add_argument(
        "--filter",
        choices=("intermediate", "xtreme_r"),  # records.TASK_GROUPS
        help="only the English intermediate tasks, or only those of XTREME-R",
    )
    command.add_argument(
        "--sizes", action="store_true", help="count the examples in the data folder (slower)"
    )

    command = options.add_command(
        commands,
        "vocab",
        "Train a SentencePiece vocabulary, with sentinels, from tasks' text.",
        _vocab,
    )
    command.add_argument(
        "--tasks", required=True, help="names, separated by commas: xfer_panx.all_langs"
    )
    command.add_argument(
        "--languages", default="", help="only these languages of a mixture: ar,bn,en"
    )
    command.add_argument("--split", default="train", help="split to read (default: train)")
    command.add_argument(
        "--examples", type=int, default=5000, help="number of texts from each task (default: 5000)"
    )
    command.add_argument(
        "--size", type=int, required=True, help="number of pieces, with the 100 sentinels"
    )
    command.add_argument("--out", required=True, help="file to write, e.g. out/panx.model")


def _tasks(args: argparse.Namespace, bindings: list[str]) -> None:
    del bindings
    from seqio_tasks import catalogue, data_config, languages, records

    config = data_config.configured()
    shown = 0
    for family in catalogue.families().values():
        if args.filter and args.filter not in family.groups:
            continue
        for code in family.languages:
            task = records.Task(family, code)
            if args.name not in task.name:
                continue
            shown += 1
            origins = [_origin(task, split, config, args.sizes) for split in family.source.splits]
            print(f"{task.name:<22} {languages.get(code).name:<12} {'  '.join(origins)}")
    if args.filter in (None, records.INTERMEDIATE):
        shown += _mixtures(args.name)
    if args.filter in (None, records.XTREME_R):
        shown += _retrieval(args.name, config, args.sizes)
    if not shown:
        group = f" of {args.filter}" if args.filter else ""
        raise RequestError(
            f"no task's name{group} contains {args.name!r}; `xfer-jax tasks` lists all"
        )
    folder = config.data_dir
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


def _retrieval(part: str, config: "DataConfig", count: bool) -> int:
    """Prints the retrieval tasks, which `retrieve` reads itself; returns how many there are."""
    from seqio_tasks import retrieval_data

    shown = 0
    for family in retrieval_data.FAMILIES.values():
        if part not in family.name:
            continue
        shown += 1
        there = "files in XTREME's layout alone"
        if count and config.data_dir is not None:
            sizes = []
            for code in family.languages:
                try:
                    (of,) = retrieval_data.read(family.name, config.data_dir, (code,))
                    sizes.append(f"{code} {len(of.queries):,}")
                except RequestError:
                    continue
            there = ", ".join(sizes) or "-"
        print(f"{family.name:<22} retrieval, {len(family.languages)} languages: {there}")
    return shown


def _origin(task: "Task", split: str, config: "DataConfig", count: bool) -> str:
    from seqio_tasks import raw_data

    source = task.family.source
    if source.make is not None:
        made = sum(1 for _ in source.make(task.language, split, config)) if count else "made here"
        return f"{split} {made}"
    size = f" ({source.sizes[split]:,})" if split in source.sizes else ""
    parts = raw_data.parts(task, split)
    if config.data_dir is None:
        return f"{split} {'+'.join(_elsewhere(part, split) for part in parts)}{size}"
    try:
        paths = [raw_data.find(part, split, config.data_dir) for part in parts]
    except RequestError:
        return f"{split} -{size}"
    if not count:
        return f"{split} {'+'.join(path.name for path in paths)}{size}"
    try:
        examples = (_ for part in parts for _ in raw_data.read(part, split, config.data_dir))
        return f"{split} {sum(1 for _ in examples)}"
    except RequestError:
        return f"{split} unreadable"


def _elsewhere(task: "Task", split: str) -> str:
    """Where a task's data is when there is no data folder."""
    tfds = task.family.source.tfds(task.language, split)
    if tfds:
        return "/".join(tfds)
    files = task.family.source.files(task.language, split)
    return f"file {files[0]}" if files else "-"


def _vocab(args: argparse.Namespace, bindings: list[str]) -> None:
    del bindings
    from seqio_tasks import (
        catalogue,
        data_config,
        quiet_registry,
        sentencepiece_model,
        vocabulary,
    )

    languages = [code for code in args.languages.split(",") if code]
    tasks = catalogue.of_languages(args.tasks.split(","), languages)
    if args.examples < 1:
        raise RequestError(f"--examples must be at least 1, not {args.examples}")
    for task in tasks:
        task.check_split(args.split, "--split: ")
    registry, config = quiet_registry.load(), data_config.configured()
    texts = (t for task in tasks for t in registry.texts(task, args.split, config, args.examples))
    print(f"training {args.size} pieces on {len(tasks)} tasks; this can take minutes", flush=True)
    path = sentencepiece_model.train(texts, args.size, files.absolute(args.out))
    loaded = vocabulary.load(str(path))
    print(
        f"wrote {path}: {loaded.size} pieces from {len(tasks)} tasks; train with"
        f" --gin.VOCAB_FILE=\"'{path}'\""
    )
