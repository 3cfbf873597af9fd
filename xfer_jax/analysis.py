"""Joins a table of scores with what is known of the languages, and says what correlates.

Knows only tables and decoded outputs: those of a study, of folders in T5X's layout, or a user's own
table. Everything that is found is written to a folder as CSV, which `report` draws.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqio_tasks import language_codes, languages
from seqio_tasks.errors import RequestError, did_you_mean
from xfer_jax import (
    alignment,
    analysis_text,
    csv_file,
    features,
    gains,
    growth,
    outputs,
    probe_table,
    regression,
    statistics,
    tables,
)
from xfer_jax.features import Feature, Options

_KNOWN_OF = 0.4  # share of the pairs that a feature must be known of, to be regressed on unasked
_KNOWN_OF_LANGUAGES = 0.5  # of the languages, for a feature of one language to be correlated
_SENSITIVITY_PERMUTATIONS = 999
_MOST_PERMUTATIONS = 1_000_000  # all are in memory at once
# Features that are a task's own, of source and of target.
_OF_TASK = ("in_language", "n_train", "lm_loss", "bits_per_byte", "lm_em")
_MADE_UP = "xfer_pocket_"  # tasks in miniature languages, which mC4 knows nothing of
_TYPOLOGICAL = ("syntax", "morphology", "phonology", "inventory")
_SIDES = ("source", "target")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be analysed, and how."""

    scores: Sequence[Path]  # one table, one study's folder, or folders in T5X's layout
    out: Path
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fractions: bool = False
    features: Sequence[Path] = ()  # a user's own
    probe: Path | None = None  # a table of `probe`; the study's own by default
    options: Options = dataclasses.field(default_factory=Options)
    predictors: Sequence[str] = ()  # of the regression; pairs' features that are mostly known
    reach: float | None = None  # the score that examples are counted for
    permutations: int = statistics.PERMUTATIONS
    seed: int = 0

    def __post_init__(self):
        if self.reach is not None and not 0 <= self.reach <= 100:
            raise RequestError(f"--reach must be a score from 0 to 100, not {self.reach}")
        if not 1 <= self.permutations <= _MOST_PERMUTATIONS:
            raise RequestError(
                f"--permutations must be at least 1 and at most {_MOST_PERMUTATIONS:,},"
                f" not {self.permutations}"
            )
        if self.seed < 0:
            raise RequestError(f"--seed must be at least 0, not {self.seed}")


@dataclasses.dataclass(frozen=True)
class _Task:
    """The scores of one task as a matrix, and all that is known of its languages."""

    name: str
    matrix: np.ndarray  # [S, T]
    sources: list[str]
    targets: list[str]
    rows: list[int]  # places of the sources among all languages
    columns: list[int]
    known: dict[str, Feature]
    each: dict[str, np.ndarray]  # what is known of single languages, [N]
    baselines: np.ndarray  # [T], in percent; NaN where it is not known

    def abroad(self) -> np.ndarray:
        """Which cells [S, T] have a score and are of two languages."""
        return np.isfinite(self.matrix) & (np.asarray(self.sources)[:, None] != self.targets)


def analyze(request: Request) -> str:
    """Analyses scores, writes what was found, and returns it as text.

    Raises:
      RequestError: see `tables.read`, `outputs.table` and `features.read`.
    """
    _check_out(request)
    scores, root = _load(request)
    table = scores.table
    codes = sorted({*table["source"], *table["target"]})
    notes = list(scores.notes)
    zero_shot, said = tables.zero_shot(table)
    aligned = alignment.align(zero_shot, root) if root else None
    notes += [*said, *(aligned.notes if aligned else ())]
    baselines = alignment.baselines(table, aligned)
    if not baselines.empty:
        table, zero_shot = (_with_baselines(rows, baselines) for rows in (table, zero_shot))
    notes += alignment.without_baseline(zero_shot)
    made_up = bool(table["task"].str.startswith(_MADE_UP).all())
    known = features.typology(codes, request.options)
    if not made_up:
        known |= features.pretraining(codes)
    if aligned:
        known |= features.lexical(aligned.texts, codes, aligned.pieces)
    for path in request.features:
        known |= _without_collisions(path, features.read(path, codes, notes), known)
    if not made_up and np.isfinite(known["mc4_source"].values).any():
        notes.append("mC4's sizes are recalled from Xue et al. (2021), Table 6, and not verified")
    probe = _probe(request)
    tasks = [
        _task(str(name), rows, codes, known, probe) for name, rows in zero_shot.groupby("task")
    ]
    if probe is not None and not set(probe["task"]) & {task.name for task in tasks}:
        notes.append(
            f"the probes are of other tasks ({', '.join(sorted(set(probe['task'])))}), and not used"
        )
    enough = len(codes) >= tables.FEWEST
    if not enough:
        notes.append(
            f"there are {len(codes)} languages: of fewer than {tables.FEWEST} no correlations are"
            " computed"
        )
    names, values = features.wals(codes)
    gained, of_gains = gains.analyse(
        table, request.options, request.permutations, request.seed, made_up
    )
    notes += of_gains
    own = {
        task.name: dict(zip(codes, task.each["in_language"].tolist(), strict=True))
        for task in tasks
    }
    found = {
        "scores": table,
        "features": features.table(known, codes),
        "languages": pd.concat([_languages(task, codes, notes) for task in tasks]),
        "shares": pd.DataFrame([row for task in tasks for row in _shares(task, len(codes))]),
        "alignment": alignment.wide(zero_shot, aligned, names, values, codes),
        "outcomes": aligned.outcomes if aligned else pd.DataFrame(),
        **(_statistics(tasks, names, values, request, codes, notes) if enough else {}),
        **growth.analyse(table, own, request.reach, request.seed, notes),
        **gained,
    }
    if enough and found["correlations"].empty:
        why = [_why_nothing(tasks), *(aligned.uncounted if aligned else ())]
        raise RequestError(f"{request.scores[0]}: {'; '.join(why)}")
    about: dict[str, Any] = {
        "scores": [str(path) for path in request.scores],
        "where": dict(request.where),
        "features": [str(path) for path in request.features],
        "options": dataclasses.asdict(request.options),
        "permutations": request.permutations,
        "seed": request.seed,
        "kinds": {name: feature.of for name, feature in known.items()},
        "made_up": made_up,
        "notes": notes,
    }
    tables.write_analysis(request.out, about, found)
    return analysis_text.summary(found, notes)


def _check_out(request: Request) -> None:
    """Raises RequestError unless the output can go where it is asked for, over no input."""
    if request.out.exists() and not request.out.is_dir():
        raise RequestError(f"{request.out} is a file; --out takes a folder")
    read = [*request.scores, *request.features, *filter(None, [request.probe])]
    written = {_real(request.out) / f"{name}.csv" for name in tables.ANALYSIS_TABLES}
    for path in read:
        if _real(path) in written or _real(path) == _real(request.out):
            raise RequestError(
                f"--out {request.out} would write over {path}, which is read: name another folder"
            )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike `resolve`, of links in a circle too


def _without_collisions(
    path: Path, own: Mapping[str, Feature], known: Mapping[str, Feature]
) -> Mapping[str, Feature]:
    """Returns a user's features; raises RequestError where a name is taken."""
    taken = {*known, "score", *(f"{name}_{side}" for name in _OF_TASK for side in _SIDES)}
    for name in own:
        if name in taken:
            raise RequestError(
                f"{path}: the name {name!r} is taken; give this feature another name"
            )
    return own


def _why_nothing(tasks: Sequence[_Task]) -> str:
    """Returns why there is no correlation at all."""
    there = [task.matrix[task.abroad()] for task in tasks]
    if not any(len(scores) for scores in there):
        return "no pair of two different languages has a score"
    if all(np.ptp(scores) == 0 for scores in there if len(scores)):
        return "all pairs of two languages have the same score"
    return "no feature is known of enough of its languages"


# --- What is read ---------------------------------------------------------------------------------


def _load(request: Request) -> tuple[tables.Scores, Path | None]:
    """Returns the table, and the folder that its column `run` is relative to, where it has one."""
    first, *others = request.scores
    if not first.is_dir():
        if others:
            raise RequestError("--scores takes one table, or folders of runs")
        return tables.read(first, request.where, request.fractions), None
    table = first / "scores.csv"
    if not others and table.is_file() and not outputs.is_run(first):
        return tables.read(table, request.where, request.fractions), first
    runs = [run for folder in request.scores for run in outputs.runs_in(folder)]
    if not runs:
        raise RequestError(
            f"{first} holds neither scores.csv nor a run's {outputs.FOLDER}/: --scores takes a"
            " table, a study's folder, or folders in T5X's layout"
        )
    frame = outputs.table(runs).astype(str)
    return tables.check(frame, first, request.where, request.fractions), Path()


def _probe(request: Request) -> pd.DataFrame | None:
    path = request.probe
    if path is None:
        path = request.scores[0] / "probe" / probe_table.FILE  # of a study
        if len(request.scores) > 1 or not path.is_file():
            return None
    frame = csv_file.read(path, ("task", "language", "lm_loss", "lm_em"))
    for name in probe_table.names(frame):
        frame[name] = csv_file.numbers(path, frame[name])
    frame["language"] = tables.language_codes_of(path, frame["language"])
    return frame


def _task(
    name: str,
    rows: pd.DataFrame,
    codes: Sequence[str],
    known: Mapping[str, Feature],
    probe: pd.DataFrame | None,
) -> _Task:
    here = {side: set(rows[side]) for side in ("source", "target")}
    sources, targets = ([code for code in codes if code in here[side]] for side in here)
    places = {code: i for i, code in enumerate(codes)}
    own = rows[rows["source"] == rows["target"]].groupby("source")["score"].mean()
    each = {"in_language": own}
    sizes = rows[rows["n_train"] > 0].groupby("source")["n_train"].mean()
    if sizes.nunique() > 1:
        each["n_train"] = np.log10(sizes)
    if probe is not None and name in set(probe["task"]):
        of_task = probe[probe["task"] == name].groupby("language")
        for column in probe_table.names(probe):
            each[column] = of_task[column].mean()
    values = {key: series.reindex(list(codes)).to_numpy(float) for key, series in each.items()}
    of_task_known = dict(known)
    for key, of_each in values.items():
        both = features.of_each(key, of_each)
        if key == "n_train":  # nobody was trained in the target
            both.pop("n_train_target")
        of_task_known |= both
    return _Task(
        name,
        tables.matrix(rows, sources, targets),
        sources,
        targets,
        [places[code] for code in sources],
        [places[code] for code in targets],
        of_task_known,
        values,
        _baselines(rows, targets),
    )


def _with_baselines(rows: pd.DataFrame, baselines: pd.Series) -> pd.DataFrame:
    pairs = pd.MultiIndex.from_frame(rows[["task", "target"]])
    return rows.assign(baseline=baselines.reindex(pairs).to_numpy())


def _baselines(rows: pd.DataFrame, targets: Sequence[str]) -> np.ndarray:
    """Returns what answers that read no input score in each target, [T]."""
    if "baseline" not in rows:
        return np.full(len(targets), np.nan)
    return rows.groupby("target")["baseline"].mean().reindex(list(targets)).to_numpy(float)


# --- What is found --------------------------------------------------------------------------------


def _statistics(
    tasks: Sequence[_Task],
    names: Sequence[str],
    values: np.ndarray,
    request: Request,
    codes: Sequence[str],
    notes: list[str],
) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("correlations", "regression", "models", "wals", "sensitivity")
    }
    for task in tasks:
        rows = _correlations(task, request, notes)
        if rows.empty:
            continue
        found["correlations"].append(rows)
        regressed = _regression(task, request, notes)
        if regressed:
            found["regression"].append(regressed[0])
            found["models"].append(regressed[1])
        judged = alignment.by_feature(
            task.matrix, task.rows, task.columns, names, values, request.permutations, request.seed
        )
        if not judged.empty:
            judged.insert(0, "task", task.name)
            found["wals"].append(judged)
        found["sensitivity"].append(_sensitivity(task, request, codes))
    return {
        name: pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        for name, frames in found.items()
    }


def _correlations(task: _Task, request: Request, notes: list[str]) -> pd.DataFrame:
    rows = []
    for name, feature in task.known.items():
        share = np.isfinite(feature.values[np.ix_(task.rows, task.columns)]).mean()
        if feature.of != "pair" and 0 < share < _KNOWN_OF_LANGUAGES:
            notes.append(
                f"{task.name}: {name} is known of {share:.0%} of the languages, and is left out"
            )
        if not share or (feature.of != "pair" and share < _KNOWN_OF_LANGUAGES):
            continue
        try:
            found = statistics.correlate(
                task.matrix, feature.values, task.rows, task.columns,
                request.permutations, request.seed,
            )  # fmt: skip
        except ValueError as error:
            notes.append(f"{task.name}: no correlation with {name}: {error}")
            continue
        row = {"task": task.name, "feature": name, "of": feature.of, **dataclasses.asdict(found)}
        row |= _within(task, name, request)
        row["coverage"] = np.nan
        if feature.coverage is not None:
            values, here = (
                grid[np.ix_(task.rows, task.columns)] for grid in (feature.values, feature.coverage)
            )
            row["coverage"] = float(np.mean(here[np.isfinite(values)]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    if not frame.empty:
        # Features of pairs are one question, those of single languages another.
        of_pairs = frame["of"] == "pair"
        for rows, p, adjusted in (
            (of_pairs, "qap_p", "fdr"),
            (~of_pairs, "qap_p", "fdr"),
            (frame["within_p"].notna(), "within_p", "within_fdr"),
        ):
            frame.loc[rows, adjusted] = np.nan
            if rows.any():
                frame.loc[rows, adjusted] = statistics.false_discovery(frame.loc[rows, p])
    return frame


def _within(task: _Task, name: str, request: Request) -> dict[str, float]:
    feature = task.known[name]
    nothing = {"within": np.nan, "within_p": np.nan}
    if feature.of != "pair":
        return nothing
    try:
        pairs = regression.sample(task.matrix, {name: feature.values}, task.rows, task.columns)
        r, p = regression.within(pairs, request.permutations, request.seed)
    except ValueError:
        return nothing  # too few pairs; their correlation stands, with its number of pairs
    return {"within": r, "within_p": p}


def _regression(
    task: _Task, request: Request, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    for name in request.predictors:
        if name not in task.known:
            hint = did_you_mean(name, task.known)
            raise RequestError(f"--predictors: there is no feature {name!r}{hint}")
    there = task.abroad()
    wanted = {}
    for name in request.predictors or task.known:
        values = task.known[name].values[np.ix_(task.rows, task.columns)][there]
        mostly = task.known[name].of == "pair" and np.isfinite(values).mean() >= _KNOWN_OF
        if request.predictors or (mostly and np.nanstd(values) > 0):
            wanted[name] = task.known[name].values
    dropped: list[str] = []
    try:
        pairs = regression.sample(task.matrix, wanted, task.rows, task.columns)
        if not request.predictors:
            x = dict(zip(pairs.names, pairs.x.T, strict=True))
            kept, dropped = regression.distinct(x)
            kept_features = {name: wanted[name] for name in kept}
            pairs = regression.sample(task.matrix, kept_features, task.rows, task.columns)
        found = regression.regress(pairs, request.permutations, request.seed)
    except ValueError as error:
        notes.append(f"{task.name}: no regression: {error}")
        return None
    coefficients = pd.DataFrame([dataclasses.asdict(c) for c in found.coefficients])
    coefficients.insert(0, "task", task.name)
    model = {
        "task": task.name,
        **{k: v for k, v in dataclasses.asdict(found).items() if k != "coefficients"},
        "collinear": "\t".join(dropped),
    }
    return coefficients, pd.DataFrame([model])


def _sensitivity(task: _Task, request: Request, codes: Sequence[str]) -> pd.DataFrame:
    """Correlates typology anew under every choice that the literature leaves open."""
    own = task.each["in_language"][task.columns]
    ways = {"as they are": task.matrix}
    if np.isfinite(own).all() and (own > 0).all():
        ways["relative to the target's own"] = 100 * task.matrix / own
    there = task.abroad()
    without = statistics.without_levels(task.matrix, there)
    if np.nanstd(without) > 1e-9 * np.nanstd(task.matrix):  # of one source nothing is left
        ways["without each language's level"] = without
    rows = []
    for measure in features.MEASURES:
        for imputed in (False, True):
            known = features.typology(codes, Options(measure, imputed))
            for way, matrix in ways.items():
                for name in _TYPOLOGICAL:
                    try:
                        found = statistics.correlate(
                            matrix, known[name].values, task.rows, task.columns,
                            min(request.permutations, _SENSITIVITY_PERMUTATIONS), request.seed,
                            brief=True,
                        )  # fmt: skip
                    except ValueError:
                        continue  # the table of correlations says why
                    rows.append(
                        {
                            "task": task.name,
                            "feature": name,
                            "measure": measure,
                            "imputed": imputed,
                            "scores": way,
                            "pairs": found.pairs,
                            "pearson": found.pearson,
                            "spearman": found.spearman,
                            "qap_p": found.qap_p,
                        }
                    )
    return pd.DataFrame(rows)


def _languages(task: _Task, codes: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """Returns the mean score of every language as source and as target, its own pair left out.

    Beside them stand, where they are known, the mean baseline of the targets that a source was
    scored on, `as_source_baseline`, and that of the language as a target, `baseline`.
    """
    own = np.asarray(task.sources)[:, None] == np.asarray(task.targets)
    others = pd.DataFrame(np.where(own, np.nan, task.matrix), task.sources, task.targets)
    frame = pd.DataFrame({"task": task.name, "language": list(codes)})
    frame["as_source"] = frame["language"].map(others.mean(axis=1))
    frame["as_target"] = frame["language"].map(others.mean(axis=0))
    if np.isfinite(task.baselines).any():
        simple = others.notna() * np.where(np.isfinite(others), task.baselines, np.nan)
        frame["as_source_baseline"] = frame["language"].map(simple.mean(axis=1))
        of_target = dict(zip(task.targets, task.baselines, strict=True))
        frame["baseline"] = frame["language"].map(of_target)
    try:
        levels = regression.levels(task.matrix, task.rows, task.columns, len(codes))
        for name in ("donor", "donor_error", "recipient", "recipient_error"):
            frame[name] = getattr(levels, name)
    except ValueError as error:
        notes.append(f"{task.name}: {error}")
    for name, values in task.each.items():
        frame[name] = values
    known = [languages.LANGUAGES.get(code.partition("-")[0]) for code in codes]
    frame["name"] = [language_codes.name_of(code) for code in codes]
    frame["family"] = [language_codes.family_of(code) for code in codes]
    frame["genus"] = [found.genus if found else "" for found in known]
    there = frame["as_source"].notna() | frame["as_target"].notna() | frame["in_language"].notna()
    return frame[there]


def _shares(task: _Task, n: int) -> list[dict[str, Any]]:
    try:
        shares = regression.levels(task.matrix, task.rows, task.columns, n).shares
    except ValueError:
        return []  # the table of languages has a note on it
    return [{"task": task.name, **dataclasses.asdict(shares)}]
