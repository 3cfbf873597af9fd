"""The columns that the documentation lists are those that are written, no more and no fewer."""

import ast
import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from docgen import columns
from seqio_tasks import catalogue
from xfer_jax import selection
from xfer_jax.analysis import analysis_folder, analyze, checkpoints, features
from xfer_jax.results import csv_file, probe_table, score_table

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("ar", "bn", "de", "en", "es", "fi", "hi", "id", "ru", "sw")
SOURCES = ("ar", "de", "en", "fi")
SENTENCE = "tag: rick sanchez went to new york"
ANSWERS = ("PER: rick sanchez", "LOC: rick sanchez", "PER: morty", "", "nonsense")


@pytest.fixture(scope="module")
def analysis(tmp_path_factory) -> Path:
    """An analysis of a made-up study that has all that a table can be of."""
    study = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    rows = []
    for source in SOURCES:
        run = study / source / "inference_eval"
        run.mkdir(parents=True)
        for target in LANGUAGES:
            task = catalogue.task(f"xfer_panx.{target}")
            lines = [
                {
                    "input": {"inputs_pretokenized": SENTENCE, "inputs": [5, 6, 1]},
                    "target": "PER: rick sanchez",
                    "output": ANSWERS[int(rng.integers(len(ANSWERS)))],
                }
                for _ in range(5)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (run / f"{task.name}-000010.jsonl").write_text(text)
            for shots in (0, 10, 100, 1000):
                score = 100 if source == target else 30 + 4 * np.log1p(shots) + rng.uniform(0, 9)
                rows.append(("", source, target, shots, source, score))
            for intermediate in ("more", "panx.hi", "panx.id"):
                rows.append((intermediate, source, target, 0, source, 40 + rng.uniform(0, 9)))
    names = ["intermediate", "source", "target", "n_shots", "run", "score"]
    table = pd.DataFrame(rows, columns=names).assign(task="xfer_panx", metric="span_f1", seed=0)
    table["n_train"] = table["source"].map({code: 100 * i for i, code in enumerate(SOURCES, 1)})
    table.assign(engine="native").to_csv(study / "scores.csv", index=False)
    compared = [
        ("xfer_panx", source, target, 0, 0, rule, 200, 40 + rng.uniform(0, 9), source)
        for source in SOURCES
        for target in LANGUAGES
        for rule in selection.RULES
    ]
    csv_file.write(study / checkpoints.FILE, pd.DataFrame(compared, columns=checkpoints.COLUMNS))
    csv_file.write(study / probe_table.FILE, _probes(rng))
    analyze.analyze(analyze.Request([study], study / "analysis", permutations=19))
    return study / "analysis"


def _probes(rng: np.random.Generator) -> pd.DataFrame:
    n = 12
    known = probe_table.Answers(*rng.uniform(5, 9, (4, n)), np.full(n, 4.0), np.full(n, 2.0))
    rows = [
        {"task": "xfer_panx", "language": code, **probe_table.measure(known, seed)}
        for seed, code in enumerate(LANGUAGES)
    ]
    return pd.DataFrame(rows)


def header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as lines:
        return next(csv.reader(lines))


def check(name: str, written: list[str]) -> None:
    """Asserts that a table's columns are documented, and that those documented are there."""
    table = columns.TABLES[name]
    unknown = [column for column in written if not table.describes(column)]
    assert not unknown, f"{name}: docgen/columns.py says nothing of {unknown}"
    missing = [c for c in table.columns if c not in written and c not in table.optional]
    assert not missing, f"{name}: docgen/columns.py lists {missing}, which is not written"


def test_every_table_of_an_analysis_is_listed():
    listed = {name.removeprefix("analysis/").removesuffix(".csv") for name in columns.TABLES
              if name.startswith("analysis/")}  # fmt: skip
    assert listed == set(analysis_folder.ANALYSIS_TABLES)


@pytest.mark.parametrize("name", analysis_folder.ANALYSIS_TABLES)
def test_the_columns_of_an_analysis_are_those_written(analysis, name):
    check(f"analysis/{name}.csv", header(analysis / f"{name}.csv"))


def test_every_figure_of_the_report_is_listed():
    sections = (ROOT / "xfer_jax" / "report" / "sections").glob("*.py")
    drawn = {
        what
        for file in sections
        for what in re.findall(r'pictures\.draw\(\s*f"\{task\} ([^"]+)"', file.read_text("utf-8"))
    }
    assert drawn == set(columns.FIGURES)


def tree(module: str) -> ast.Module:
    """Returns a module's syntax: importing those of the engine would take seconds."""
    return ast.parse((ROOT / "xfer_jax" / module).read_text("utf-8"))


def test_the_columns_of_scores_are_those_written():
    check("scores.csv", list(score_table.COLUMNS))


def literal(module: str, begins: str) -> list[str]:
    """Returns the columns that a module writes as one text."""
    texts = {node.value for node in ast.walk(tree(module)) if isinstance(node, ast.Constant)}
    (line,) = (text for text in texts if isinstance(text, str) and text.startswith(begins))
    return line.split(",")


def test_the_columns_of_checkpoints_are_those_written():
    check("checkpoints.csv", list(checkpoints.COLUMNS))


def test_the_columns_of_retrieval_are_those_written():
    check("retrieval.csv", literal("engine/retrieval.py", "task,language,n_queries"))


def test_the_columns_of_probes_are_those_written(analysis):
    check("probe.csv", header(analysis.parent / "probe.csv"))


def test_the_columns_of_features_are_those_written():
    known = features.typology(LANGUAGES, features.Options())
    check("features.csv", list(features.table(known, LANGUAGES)))
