"""Correlates a table of scores with features of the languages.

Reads only tables and decoded outputs: those of a study, of folders in T5X's layout, or a user's
table. Writes all results to a folder as CSV files, from which `report` makes a page.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqio_tasks.errors import RequestError
from xfer_jax.analysis import (
    alignment,
    analysis_folder,
    checkpoints,
    correlations,
    features,
    gains,
    learning_curves,
    summary,
)
from xfer_jax.analysis.correlations import TaskScores
from xfer_jax.analysis.features import Feature
from xfer_jax.analysis.request import Request
from xfer_jax.results import csv_file, language_names, predictions, probe_table, score_table

# Single-language features that differ between tasks; each has a source and a target side.
_OF_TASK = ("in_language", "n_train", "lm_loss", "bits_per_byte", "lm_em")
_MADE_UP = "xfer_pocket_"  # prefix of tasks in miniature languages, which mC4 does not contain
_SIDES = ("source", "target")


def analyze(request: Request) -> str:
    """Analyses scores, writes the results, and returns a summary as text.

    Raises:
      RequestError: see `score_table.read`, `predictions.table` and `features.read`.
    """
    _check_out(request)
    scores, root = _load(request)
    table = scores.table
    codes = sorted({*table["source"], *table["target"]})
    zero_shot, of_choice = score_table.zero_shot(table)
    aligned = alignment.align(zero_shot, root) if root else None
    notes = [*scores.notes, *of_choice, *(aligned.notes if aligned else ())]
    baselines = alignment.baselines(table, aligned)
    if not baselines.empty:
        table, zero_shot = (_with_baselines(rows, baselines) for rows in (table, zero_shot))
    notes += alignment.without_baseline(zero_shot)
    made_up = bool(table["task"].str.startswith(_MADE_UP).all())
    known, of_features = _features(request, codes, aligned, made_up)
    notes += of_features
    probe = _probe(request)
    tasks = [
        _task(str(name), rows, codes, known, probe) for name, rows in zero_shot.groupby("task")
    ]
    if probe is not None and not set(probe["task"]) & {task.name for task in tasks}:
        notes.append(
            "the probes are not used, because they belong to other tasks"
            f" ({', '.join(sorted(set(probe['task'])))})"
        )
    if not (enough := len(codes) >= score_table.FEWEST):
        notes.append(
            f"there are only {len(codes)} languages: with fewer than {score_table.FEWEST} no"
            " correlations are computed"
        )
    names, values = features.wals(codes)
    gained, of_gains = gains.analyse(
        table, request.options, request.permutations, request.seed, made_up
    )
    notes += of_gains
    own = {
        task.name: dict(zip(codes, task.by_language["in_language"].tolist(), strict=True))
        for task in tasks
    }
    by_language = [correlations.by_language(task, codes) for task in tasks]
    correlated, of_correlations = (
        correlations.analyse(tasks, names, values, request, codes) if enough else ({}, [])
    )
    curves, of_curves = learning_curves.analyse(table, own, request.reach, request.seed)
    notes += [note for _, of_task in by_language for note in of_task]
    notes += [*of_correlations, *of_curves]
    found = {
        "scores": table,
        "features": features.table(known, codes),
        "languages": pd.concat([languages for languages, _ in by_language]),
        "shares": pd.DataFrame(
            [row for task in tasks for row in correlations.variance_shares(task, len(codes))]
        ),
        "alignment": alignment.wide(zero_shot, aligned, names, values, codes),
        "outcomes": aligned.outcomes if aligned else pd.DataFrame(),
        "checkpoints": checkpoints.compare(root) if root else pd.DataFrame(),
        **correlated,
        **curves,
        **gained,
    }
    if enough and found["correlations"].empty:
        why = [_why_nothing(tasks), *(aligned.unscorable if aligned else ())]
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
    analysis_folder.write(request.out, about, found)
    return summary.summary(found, notes)


def _features(
    request: Request, codes: Sequence[str], aligned: alignment.Aligned | None, made_up: bool
) -> tuple[dict[str, Feature], list[str]]:
    """Returns the features of all tasks by name, and notes for the reader."""
    known, notes = features.typology(codes, request.options), []
    if not made_up:
        known |= features.pretraining(codes)
    if aligned:
        known |= features.lexical(aligned.texts, codes, aligned.pieces)
    for path in request.features:
        own, of_file = features.read(path, codes)
        known |= _without_collisions(path, own, known)
        notes += of_file
    if not made_up and np.isfinite(known["mc4_source"].values).any():
        notes.append(
            "the mC4 sizes were written from memory of Xue et al. (2021), Table 6, and are not"
            " verified"
        )
    return known, notes


def _check_out(request: Request) -> None:
    """Raises RequestError if the output folder is a file, or if writing would replace an input."""
    if request.out.exists() and not request.out.is_dir():
        raise RequestError(f"{request.out} is a file; --out must be a folder")
    read = [*request.scores, *request.features, *filter(None, [request.probe])]
    written = {_real(request.out) / f"{name}.csv" for name in analysis_folder.ANALYSIS_TABLES}
    for path in read:
        if _real(path) in written or _real(path) == _real(request.out):
            raise RequestError(
                f"--out {request.out} would overwrite the input {path}: name another folder"
            )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike `resolve`, it accepts circular links


def _without_collisions(
    path: Path, own: Mapping[str, Feature], known: Mapping[str, Feature]
) -> Mapping[str, Feature]:
    """Returns a user's features; raises RequestError if a name is already taken."""
    taken = {*known, "score", *(f"{name}_{side}" for name in _OF_TASK for side in _SIDES)}
    for name in own:
        if name in taken:
            raise RequestError(f"{path}: the name {name!r} is taken; rename this feature")
    return own


def _why_nothing(tasks: Sequence[TaskScores]) -> str:
    """Returns why there is no correlation at all."""
    cross_lingual = [task.matrix[task.cross_lingual()] for task in tasks]
    if not any(len(scores) for scores in cross_lingual):
        return "no pair of two different languages has a score"
    if all(np.ptp(scores) == 0 for scores in cross_lingual if len(scores)):
        return "all pairs of two languages have the same score"
    return "no feature is known for enough of the languages"


# --- Inputs ---------------------------------------------------------------------------------------


def _load(request: Request) -> tuple[score_table.ScoreTable, Path | None]:
    """Returns the table, and the folder to which its column `run` is relative, if it has one."""
    first, *others = request.scores
    if not first.is_dir():
        if others:
            raise RequestError(
                "--scores takes one table, or folders of runs; it cannot take several tables"
            )
        return score_table.read(first, request.where, request.fractions), None
    table = first / "scores.csv"
    if not others and table.is_file() and not predictions.is_run(first):
        return score_table.read(table, request.where, request.fractions), first
    runs = [run for folder in request.scores for run in predictions.runs_in(folder)]
    if not runs:
        raise RequestError(
            f"{first} contains neither scores.csv nor {predictions.FOLDER}/ of a run: give --scores"
            " a table, the folder of a study, or folders in T5X's layout"
        )
    frame = predictions.table(runs).astype(str)
    return score_table.check(frame, first, request.where, request.fractions), Path()


def _probe(request: Request) -> pd.DataFrame | None:
    path = request.probe
    if path is None:
        path = request.scores[0] / probe_table.FILE  # in the folder of a study
        if len(request.scores) > 1 or not path.is_file():
            return None
    frame = csv_file.read(path, ("task", "language", "lm_loss", "lm_em"))
    if "run" in frame:  # of several models the first counts: the others start from it
        frame = frame[frame["run"] == frame["run"].iloc[0]]
    for name in probe_table.names(frame):
        frame[name] = csv_file.numbers(path, frame[name])
    frame["language"] = language_names.codes_of(path, frame["language"])
    return frame


def _task(
    name: str,
    rows: pd.DataFrame,
    codes: Sequence[str],
    known: Mapping[str, Feature],
    probe: pd.DataFrame | None,
) -> TaskScores:
    present = {side: set(rows[side]) for side in _SIDES}
    sources, targets = ([code for code in codes if code in present[side]] for side in _SIDES)
    places = {code: i for i, code in enumerate(codes)}
    own = rows[rows["source"] == rows["target"]].groupby("source")["score"].mean()
    by_language = {"in_language": own}
    sizes = rows[rows["n_train"] > 0].groupby("source")["n_train"].mean()
    if sizes.nunique() > 1:
        by_language["n_train"] = np.log10(sizes)
    if probe is not None and name in set(probe["task"]):
        of_task = probe[probe["task"] == name].groupby("language")
        for column in probe_table.names(probe):
            by_language[column] = of_task[column].mean()
    values = {
        key: series.reindex(list(codes)).to_numpy(float) for key, series in by_language.items()
    }
    of_task_known = dict(known)
    for key, of_each in values.items():
        both = features.of_each(key, of_each)
        if key == "n_train":  # no model was trained on the target
            both.pop("n_train_target")
        of_task_known |= both
    return TaskScores(
        name,
        score_table.matrix(rows, sources, targets),
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
    """Returns the baseline of each target [T], NaN where unknown."""
    if "baseline" not in rows:
        return np.full(len(targets), np.nan)
    return rows.groupby("target")["baseline"].mean().reindex(list(targets)).to_numpy(float)
