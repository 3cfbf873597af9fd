"""The commands of tables: features, analyze, xtreme-r, report."""

import argparse
from typing import Any

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from xfer_jax.cli import options

_ANALYZE_HELP = """\
A table of scores needs the columns source, target and score (percent). It may have task, n_shots,
n_train, seed, intermediate, arm and baseline. Languages are ISO 639 codes, BCP 47 tags, FLORES
codes, Glottocodes or names. For folders of runs, by T5X or by this tool, scores are computed from
the predictions, and errors are counted by type. A table of features has the columns source and
target, or language, and one column for each feature. The correlations use zero-shot scores, or
those with the fewest shots; of several training sizes, they use the largest.
"""


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    command = options.add_command(
        commands,
        "features",
        "Write features of pairs of languages: typology, language family, geography.",
        _features,
    )
    command.add_argument("--languages", required=True, help="codes or names: ar,bn,en,Finnish")
    command.add_argument("--out", required=True, help="file to write, e.g. out/features.csv")
    _add_options(command)
    _add_analyze(commands)
    command = options.add_command(
        commands,
        "xtreme-r",
        "Compute XTREME-R's score from the predictions of a model's runs.",
        _xtreme_r,
    )
    command.add_argument(
        "folders",
        nargs="+",
        metavar="DIR",
        help="folders of runs in T5X's layout, and of `retrieve`",
    )
    command = options.add_command(
        commands,
        "report",
        "Draw the results of an analysis as one page, DIR/report.html.",
        _report,
    )
    command.add_argument("folder", metavar="DIR", help="folder that `xfer-jax analyze` wrote")


def _add_analyze(commands: Any) -> None:
    command = options.add_command(
        commands,
        "analyze",
        "Correlate a table of scores with features of its languages.",
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
    command.add_argument("--out", required=True, help="folder to write the tables to")
    command.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="use only rows with this value",
    )
    command.add_argument(
        "--fractions", action="store_true", help="scores are fractions of 1, not percentages"
    )
    command.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="CSV",
        help="table with your own features",
    )
    command.add_argument(
        "--probe",
        metavar="CSV",
        help="table of `xfer-jax probe` (default: the one in the study's folder)",
    )
    command.add_argument(
        "--predictors",
        default="",
        metavar="A,B",
        help="predictors of the regression (default: the known features of pairs)",
    )
    command.add_argument(
        "--reach",
        type=float,
        help="estimate the examples needed for this score (default: 90%% of the in-language score)",
    )
    command.add_argument("--permutations", type=int, default=10_000, help="(default: 10000)")
    command.add_argument(
        "--seed", type=int, default=0, help="random seed of permutations and bootstrap"
    )
    _add_options(command)


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--measure",
        choices=("cosine", "agreement"),
        default="cosine",
        help="similarity of typology: cosine, or the share of equal values (default: cosine)",
    )
    command.add_argument(
        "--imputed",
        action="store_true",
        help="fill gaps of WALS with the values that URIEL imputes",
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
