"""Probes: what a model knows of each language, measured by hand and by the real command."""

from pathlib import Path

import numpy as np
import pytest

from seqio_tasks import sentencepiece_model
from xfer_jax.cli import main as cli
from xfer_jax.results import probe_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    text = {"TASK": "xfer_pocket_text", "SOURCE": "all_langs", "TARGETS": ()}
    steps = {"TRAIN_STEPS": 16, "LEARNING_RATE": 0.02, "BATCH_SIZE": 16}
    lengths = {"TASK_FEATURE_LENGTHS": {"inputs": 24, "targets": 8}}
    assert cli.main(command("train", **text, **steps, **lengths, MODEL_DIR=str(folder))) == 0
    return folder


@pytest.fixture
def probe(command, trained, tmp_path):
    def run(**macros) -> int:
        settings = {
            "CHECKPOINT_PATH": str(trained),
            "PROBE_OUTPUT_DIR": str(tmp_path / "probe"),
            "PROBE_FEATURE_LENGTHS": {"inputs": 24, "targets": 8},
            "EVALUATOR_NUM_EXAMPLES": 30,
        }
        return cli.main(command("probe", **settings | macros))

    return run


def test_the_command_writes_a_table_and_does_nothing_twice(probe, tmp_path, capsys, tiny_world):
    assert probe() == 0
    printed = capsys.readouterr().out
    file = tmp_path / "probe" / probe_table.FILE
    table = file.read_text()
    header, *rows = table.splitlines()
    assert [row.split(",")[:2] for row in rows] == [["xfer_pocket_nli", c] for c in ("en", "sw")]
    for row in rows:
        values = dict(zip(header.split(","), row.split(","), strict=True))
        assert 0 < float(values["lm_loss"]) < np.log(sentencepiece_model.rows(tiny_world))
        assert float(values["lm_loss_low"]) < float(values["lm_loss"])
        assert f"{float(values['lm_loss']):.3f}" in printed
    outputs = sorted((tmp_path / "probe").rglob("*jsonl*"))
    times = [path.stat().st_mtime_ns for path in outputs]
    assert len(outputs) == 2 * 2 * 2  # languages, modes, and what says that a file is whole
    file.unlink()
    assert probe() == 0
    assert file.read_text() == table
    assert [path.stat().st_mtime_ns for path in outputs] == times


def test_two_tasks_share_a_table_and_other_settings_are_refused(probe, tmp_path, capsys):
    assert probe(TARGETS=("sw",)) == 0
    assert probe(TARGETS=("sw",), TASK="xfer_pocket_ner") == 0
    table = (tmp_path / "probe" / probe_table.FILE).read_text().splitlines()
    assert [row.split(",")[0] for row in table[1:]] == ["xfer_pocket_ner", "xfer_pocket_nli"]
    capsys.readouterr()
    assert probe(TARGETS=("sw",), MASK_SEED=1) == 2
    assert "contains the results of a run with other settings" in capsys.readouterr().err
    assert probe(TARGETS=()) == 2
    assert "there is nothing to probe" in capsys.readouterr().err


def test_training_is_seen_in_the_loss(probe, command, tmp_path, capsys):
    """A model that was trained on the languages' text knows them better than a fresh one."""
    fresh = tmp_path / "fresh"
    text = {"TASK": "xfer_pocket_text", "SOURCE": "en", "TARGETS": (), "MODEL_DIR": str(fresh)}
    lengths = {"TASK_FEATURE_LENGTHS": {"inputs": 24, "targets": 8}}
    assert cli.main(command("train", **text, **lengths, TRAIN_STEPS=1, LEARNING_RATE=1e-9)) == 0
    losses = []
    for name, checkpoint in (("a", None), ("b", str(fresh))):
        chosen = {"CHECKPOINT_PATH": checkpoint} if checkpoint else {}
        assert probe(PROBE_OUTPUT_DIR=str(tmp_path / name), **chosen) == 0
        losses.append(probe_table.collect(tmp_path / name)["lm_loss"].mean())
    assert losses[0] < losses[1] - 0.5
