"""XTREME-R's ten tasks, each trained, asked and scored on files in the documented layouts."""

import json
import re
from pathlib import Path

import pytest

from seqio_tasks import retrieval_data, xtreme_r
from seqio_tasks.errors import RequestError
from tests.support.files import lines as records
from tests.support.files import read_rows
from tests.support.files import squad as in_squad_s_form
from tests.support.tiny import TINY_MODEL, TINY_WORLD
from xfer_jax.analysis import xtreme_r as xtreme_scores
from xfer_jax.cli import main as cli

pytestmark = pytest.mark.slow

SETTINGS = """
TASK_FEATURE_LENGTHS = {'inputs': 32, 'targets': 12}
VOCAB_FILE = 'pocket'
BATCH_SIZE = 4
BATCH_TOKENS = None
EVAL_BATCH_SIZE = 8
TRAIN_STEPS_RELATIVE = 2
SAVE_PERIOD = None
LONG_TARGETS = 'trim'
"""
# task of gin/tasks: languages that it is asked in
ASKED = {
    "xnli": ("en", "sw"),
    "xcopa": ("et",),
    "udpos": ("en", "fi"),
    "panx": ("en", "sw"),
    "xquad": ("es",),
    "mlqa": ("de",),
    "tydiqa": ("en", "sw"),
}


def squad(count: int, prefix: str = "") -> str:
    qas = [
        {
            "id": f"{prefix}{i}",
            "question": f"who is {i}",
            "answers": [{"text": f"ana {i}", "answer_start": 0}],
        }
        for i in range(count)
    ]
    return in_squad_s_form(*qas, context="ana 0 ana 1 ana 2 ana 3 sat.")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of four examples a language and split, as XTREME's scripts and the releases have."""
    folder = tmp_path_factory.mktemp("xtreme")
    tags = "ana\tNOUN\nsat\tVERB\n\nto\tADP\nRiga\tPROPN\n\n"
    entities = "Ana\tB-PER\nsat\tO\n\nin\tO\nRiga\tB-LOC\n\n"
    xnli = "language\tgold_label\tsentence1\tsentence2\n" + "".join(
        f"{code}\t{label}\tana sat\tana stood\n"
        for code in ("en", "sw")
        for label in ("entailment", "neutral", "contradiction", "neutral")
    )
    choice = {"premise": "ana sat", "choice1": "tired", "choice2": "ill", "question": "cause"}
    choices = records(*({**choice, "label": i % 2, "idx": i} for i in range(4)))
    goldp = "tydiqa/tydiqa-goldp-v1.1"
    files = {
        "xnli/multinli.train.en.tsv": "premise\thypo\tlabel\n" + "a sat\tb sat\tneutral\n" * 4,
        "xnli/xnli.dev.tsv": xnli,
        "xcopa/train-en.jsonl": choices,
        "xcopa/val-et.jsonl": choices,
        "udpos/train-en.tsv": 2 * tags,
        "udpos/dev-en.tsv": tags,
        "udpos/dev-fi.tsv": tags,
        "panx/train-en.tsv": 2 * entities,
        "panx/dev-en.tsv": entities,
        "panx/dev-sw.tsv": entities,
        "squad/train-v1.1.json": squad(4),
        "xquad/xquad.es.json": squad(2),
        "mlqa/MLQA_V1/test/test-context-de-question-de.json": squad(2),
        "mlqa/MLQA_V1/dev/dev-context-de-question-de.json": squad(2),
        f"{goldp}-train/tydiqa.goldp.en.train.json": squad(4, "english-"),
        f"{goldp}-dev/tydiqa.goldp.en.dev.json": squad(2, "english-"),
        f"{goldp}-dev/tydiqa.goldp.sw.dev.json": squad(2, "swahili-"),
        "tatoeba/sw-en.sw": "nyumba\nana\nmti\n",
        "tatoeba/sw-en.en": "house\nana\ntree\n",
        "mewslix/candidate_set_entities.jsonl": records(
            *(
                {
                    "entity_id": f"Q{i}",
                    "description": f"ana {i}.",
                    "sentence_spans": [{"start": 0, "end": 6}],
                }
                for i in range(3)
            )
        ),
        "mewslix/wikinews_mentions/dev-ta.jsonl": records(
            {
                "context": {"text": "ana 1 sat.", "sentence_spans": [{"start": 0, "end": 10}]},
                "mentions": [
                    {
                        "example_id": "1",
                        "mention_span": {"start": 0, "end": 5},
                        "entity_id": "Q1",
                    }
                ],
            }
        ),
    }
    lareqa = json.loads(squad(2))
    for paragraph in lareqa["data"][0]["paragraphs"]:
        paragraph["sentence_breaks"] = [[0, 12], [12, 28]]
    files |= {f"lareqa/xquad-r/{code}.json": json.dumps(lareqa) for code in retrieval_data.LAREQA}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> Path:
    """A folder with a run of each task, and the three retrievals by the first one's model."""
    out = tmp_path_factory.mktemp("runs")
    (out / "world.gin").write_text(TINY_WORLD + TINY_MODEL)
    (out / "settings.gin").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFER_DATA_DIR", str(data))
        for task, languages in ASKED.items():
            arguments = [
                f"--gin_file={out / 'world.gin'}", f"--gin_file=gin/tasks/{task}.gin",
                f"--gin_file={out / 'settings.gin'}", f"--gin.TARGETS={languages}",
                "--gin.SOURCE='en'", f"--gin.MODEL_DIR={str(out / task)!r}",
            ]  # fmt: skip
            assert cli.main(["train", *arguments]) == 0, task
        for task, language in (("tatoeba", "sw"), ("mewslix", "ta"), ("lareqa", "zh")):
            arguments = [
                f"--gin_file={out / 'world.gin'}", "--gin.VOCAB_FILE='pocket'",
                f"--gin.TASK={task!r}", f"--gin.TARGETS=({language!r},)",
                f"--gin.CHECKPOINT_PATH={str(out / 'panx')!r}",
                f"--gin.RETRIEVAL_OUTPUT_DIR={str(out / task)!r}",
            ]  # fmt: skip
            arguments += ["--gin.EVAL_SPLIT='validation'"] if task == "mewslix" else []
            assert cli.main(["retrieve", *arguments]) == 0, task
    return out


def test_every_task_is_trained_asked_and_scored(runs, capsys):
    scores = xtreme_scores.collect([runs])
    assert set(scores) == {task.name for task in xtreme_r.TASKS}
    for task in xtreme_r.TASKS:
        assert set(scores[task.name]) <= set(task.languages)
        for of_language in scores[task.name].values():
            assert set(task.metrics) <= set(of_language)
            assert all(0 <= of_language[name] <= 100 for name in task.metrics)
    for task, languages in ASKED.items():
        assert set(scores[task]) == set(languages)
        for row in read_rows(runs / task / "scores.csv"):
            value = scores[task][row["target"]][row["metric"]]
            assert value == pytest.approx(float(row["score"]), rel=1e-5)
    assert scores["lareqa"].keys() == {"zh"}
    assert cli.main(["xtreme-r", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^  xnli +classification +accuracy +2 of 15 ", printed, re.M)
    assert "no overall score: missing xnli.ar" in printed


def test_the_overall_score_is_printed_when_all_is_there(monkeypatch):
    scores = {
        task.name: {
            code: {metric: 40.0 + i for i, metric in enumerate(task.metrics)}
            for code in task.languages
        }
        for task in xtreme_r.TASKS
    }
    printed = xtreme_scores.text(scores)
    assert "overall: 40.1" in printed  # three of ten have 40.5
    assert "qa: 40.5" in printed
    assert "missing" not in printed


def test_two_models_are_not_mixed_up(runs, tmp_path, capsys):
    (tmp_path / "inference_eval").mkdir()
    for path in (runs / "xnli" / "inference_eval").glob("*sw*.jsonl"):
        (tmp_path / "inference_eval" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RequestError, match="both have xnli in sw: name the folders of one model"):
        xtreme_scores.collect([runs, tmp_path])
    assert cli.main(["xtreme-r", str(tmp_path / "nothing")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["xtreme-r", str(tmp_path / "empty")]) == 2
    assert "no outputs of XTREME-R tasks" in capsys.readouterr().err
