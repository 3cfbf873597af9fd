"""The commands of tables: features, analyze, xtreme-r, report."""

import argparse
from typing import Any

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.cli import options

_ANALYZE_HELP = """\
A table needs the columns source, target and score (percent); task, n_shots, n_train, seed,
intermediate, arm and baseline are understood. Languages are ISO 639 codes, BCP 47 tags, FLORES
codes, Glottocodes or names. Folders of runs, by T5X or by this tool, are scored anew from their
outputs, and their errors counted. A table of features has source and target, or language, and a
column a feature. Zero-shot scores are correlated, or those of the fewest shots; of several training
sizes, those of the largest.
"""


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    command = options.add_command(
        commands,
        "features",
        "Write what is known of pairs of languages: typology, descent, place.",
        _features,
    )
    command.add_argument("--languages", required=True, help="codes or names: ar,bn,en,Finnish")
    command.add_argument("--out", required=True, help="file to write, e.g. out/features.csv")
    _add_options(command)
    _add_analyze(commands)
    command = options.add_command(
        commands,
        "xtreme-r",
        "Compute XTREME-R's score of what a model's runs answered.",
        _xtreme_r,
    )
    command.add_argument(
        "folders", nargs="+", metavar="DIR", help="of runs in T5X's layout, and of `retrieve`"
    )
    command = options.add_command(
        commands,
        "report",
        "Draw what an analysis found as one page, DIR/report.html.",
        _report,
    )
    command.add_argument("folder", metavar="DIR", help="that `xfer-jax analyze` wrote")


def _add_analyze(commands: Any) -> None:
    command = options.add_command(
        commands,
        "analyze",
        "Correlate a table of scores with what is known of its languages.",
        _analyze,
        _ANALYZE_HELP,
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


def _features(args: argparse.Namespace, bindings: list[str]) -> None:
    del bindings
    from xfer_jax.analysis import features
    from xfer_jax.results import csv_file, language_names

    codes = [language_names.code_of(name) for name in args.languages.split(",") if name.strip()]
    if len(codes) < 2 or len(set(codes)) < len(codes):
        raise RequestError(f"--languages needs two different languages or more: {args.languages}")
    known = features.typology(codes, features.Options(args.measure, args.imputed))
    path = files.absolute(args.out)
    csv_file.write(path, features.table(known, codes))
    print(f"wrote {path}: {len(known)} features of {len(codes) * (len(codes) - 1)} pairs")
    for note in language_names.typology_notes(codes):
        print(f"note: {note}")


def _analyze(args: argparse.Namespace, bindings: list[str]) -> None:
    del bindings
    from xfer_jax.analysis import analyze, features

    where = dict(condition.partition("=")[::2] for condition in args.where)
    if len(where) < len(args.where):
        raise RequestError(f"--where names a column twice: {' '.join(args.where)}")
    request = analyze.Request(
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
    print(analyze.analyze(request))
    print(f"tables: {request.out}")


def _xtreme_r(args: argparse.Namespace, bindings: list[str]) -> None:
    del bindings
    from xfer_jax.analysis import xtreme_r

    print(xtreme_r.text(xtreme_r.collect([files.absolute(path) for path in args.folders])))


def _report(args: argparse.Namespace, bindings: list[str]) -> None:
    del bindings
    from xfer_jax import report as pages

    print(f"wrote {pages.report(files.absolute(args.folder))}")
