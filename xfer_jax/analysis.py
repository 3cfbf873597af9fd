"""Joins a table of scores with what is known of the languages, and says what goes together.

Knows only tables: those of a study, or a user's own. Everything that is printed is written to a
folder as CSV, which `report` draws.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqio_tasks.errors import RequestError
from xfer_jax import features, statistics, tables
from xfer_jax.features import Feature, Options

_TEXTS = 2000  # examples a language that lexical similarity is computed from


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be analysed, and how."""

    scores: Path
    out: Path
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fractions: bool = False
    features: Sequence[Path] = ()  # a user's own
    options: Options = dataclasses.field(default_factory=Options)
    permutations: int = statistics.PERMUTATIONS
    seed: int = 0


def analyze(request: Request) -> str:
    """Analyses a table, writes what was found, and returns it as text.

    Raises:
      RequestError: see `tables.read` and `features.read`.
    """
    scores = tables.read(request.scores, request.where, request.fractions)
    table = scores.table
    codes = sorted({*table["source"], *table["target"]})
    known = features.typology(codes, request.options)
    if request.scores.is_dir():
        known |= features.lexical(study_texts(request.scores, table), codes)
    for path in request.features:
        known |= features.read(path, codes)
    zero_shot = table[(table["n_shots"] == table["n_shots"].min()) & (table["intermediate"] == "")]
    zero_shot = zero_shot[zero_shot["arm"] == ""]
    found, donors, notes = [], [], list(scores.notes)
    for task, of_task in zero_shot.groupby("task"):
        sources, targets = (_in_order(of_task[side], codes) for side in ("source", "target"))
        matrix = tables.matrix(of_task, sources, targets)
        rows, columns = ([codes.index(code) for code in side] for side in (sources, targets))
        for name, feature in known.items():
            row = _correlation(task, name, feature, matrix, rows, columns, request, notes)
            if row:
                found.append(row)
        donors += _donors(str(task), matrix, sources, targets)
    if not found:
        raise RequestError(f"{request.scores}: no feature is known of enough of its languages")
    correlations = pd.DataFrame(found)
    correlations["fdr"] = statistics.false_discovery(correlations["qap_p"])
    languages = pd.DataFrame(donors)
    for name, frame in {
        "scores": table,
        "features": features.table(known, codes),
        "correlations": correlations,
        "languages": languages,
    }.items():
        tables.write(request.out / f"{name}.csv", frame)
    about: dict[str, Any] = {
        "scores": str(request.scores),
        "where": dict(request.where),
        "options": dataclasses.asdict(request.options),
        "permutations": request.permutations,
        "seed": request.seed,
        "notes": notes,
    }
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (request.out / "analysis.json").write_text(text, encoding="utf-8")
    return _text(correlations, languages, notes)


def _in_order(used: pd.Series, codes: Sequence[str]) -> list[str]:
    there = set(used)
    return [code for code in codes if code in there]


def _correlation(
    task: Any,
    name: str,
    feature: Feature,
    matrix: np.ndarray,
    rows: Sequence[int],
    columns: Sequence[int],
    request: Request,
    notes: list[str],
) -> dict[str, Any] | None:
    """Returns a row of the table of correlations; None, and a note, where there can be none."""
    try:
        found = statistics.correlate(
            matrix, feature.values, rows, columns, request.permutations, request.seed
        )
    except ValueError as error:
        notes.append(f"{task}, {name}: {error}")
        return None
    coverage = np.nan
    if feature.coverage is not None:
        here = feature.coverage[np.ix_(rows, columns)]
        coverage = float(np.mean(here[np.isfinite(feature.values[np.ix_(rows, columns)])]))
    return {"task": task, "feature": name, **dataclasses.asdict(found), "coverage": coverage}


def _donors(
    task: str, matrix: np.ndarray, sources: Sequence[str], targets: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns every language's mean score as source and as target, its own pair left out."""
    own = np.asarray(sources)[:, None] == np.asarray(targets)
    others = np.where(own, np.nan, matrix)
    rows = []
    for code in sorted({*sources, *targets}):
        as_source = others[sources.index(code)] if code in sources else np.asarray([np.nan])
        as_target = others[:, targets.index(code)] if code in targets else np.asarray([np.nan])
        itself = np.nan
        if code in sources and code in targets:
            itself = matrix[sources.index(code), targets.index(code)]
        rows.append(
            {
                "task": task,
                "language": code,
                "as_source": _mean(as_source),
                "as_target": _mean(as_target),
                "in_language": itself,
            }
        )
    return rows


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def study_texts(folder: Path, table: pd.DataFrame) -> dict[str, list[str]]:
    """Returns texts of every language from the inputs that a study's models were asked.

    Args:
      folder: of the study; its table names the runs, whose `inference_eval` holds the inputs.
      table: the study's, with the column `run`.
    """
    texts: dict[str, list[str]] = {}
    if "run" not in table:
        return texts
    for (task, target), rows in table.groupby(["task", "target"]):
        results = folder / rows["run"].iloc[0] / "inference_eval"
        files = sorted(results.glob(f"{task}.{target}-[0-9]*.jsonl"))
        if files:
            lines = files[-1].read_text("utf-8").splitlines()[:_TEXTS]
            inputs = [json.loads(line)["input"]["inputs_pretokenized"] for line in lines]
            texts.setdefault(target, []).extend(inputs)
    return texts


def _text(correlations: pd.DataFrame, languages: pd.DataFrame, notes: Sequence[str]) -> str:
    lines = []
    for task, rows in correlations.groupby("task", sort=False):
        lines.append(f"{task}: zero-shot score and what is known of the two languages")
        lines.append(
            "  feature       pairs  languages  Pearson  95% interval     Spearman"
            "  QAP p  FDR    (naive p)"
        )
        ordered = rows.reindex(rows["pearson"].abs().sort_values(ascending=False).index)
        for row in ordered.itertuples():
            lines.append(
                f"  {row.feature:<12}{row.pairs:>7}{row.languages:>11}{row.pearson:>+9.2f}"
                f"  [{row.low:+.2f}, {row.high:+.2f}]{row.spearman:>+11.2f}{row.qap_p:>8.4f}"
                f"{row.fdr:>7.3f}  {row.naive_p:>9.1e}"
            )
        of_task = languages[(languages["task"] == task) & languages["as_source"].notna()]
        best = of_task.sort_values("as_source", ascending=False).reset_index(drop=True)
        named = [f"{r.language} {r.as_source:.1f}" for r in best.head(3).itertuples()]
        line = f"  best sources: {', '.join(named)}"
        english = best.index[best["language"] == "en"]
        if len(english) and english[0] > 2:
            line += f"; English is number {english[0] + 1} with {best['as_source'][english[0]]:.1f}"
        lines.append(line)
    lines.append(
        "p-values permute languages; the naive ones, of pairs taken as independent, are wrong"
    )
    lines += [f"note: {note}" for note in notes]
    return "\n".join(lines)
