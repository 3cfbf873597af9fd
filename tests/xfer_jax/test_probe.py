"""Probes: what a model knows of each language, measured by hand and by the real command."""

import json
from pathlib import Path

import numpy as np
import pytest

from seqio_tasks import sentencepiece_model
from seqio_tasks.errors import RequestError
from xfer_jax.cli import main as cli
from xfer_jax.results import probe_table


def write(folder: Path, language: str, *pieces: tuple) -> None:
    """Writes a probe's files; a piece is (targets, text, score, predicted)."""
    for mode in probe_table.MODES:
        lines = []
        for targets, text, score, predicted in pieces:
            asked = {"targets": targets, "targets_pretokenized": text}
            answer = {"score": score} if mode == "score" else {"prediction_tokens": predicted}
            lines.append(json.dumps({"inputs": asked} | answer))
        file = probe_table.path(folder, f"xfer_probe.panx.{language}", mode)
        file.write_text("".join(line + "\n" for line in lines))


PIECES = (
    # two spans of which the first is exact; T5X pads the targets
    ([999, 5, 6, 998, 7, 1, 0, 0], "<extra_id_0> ab <extra_id_1> é", -6.0, [999, 5, 6, 998, 8, 1]),
    # one span, exact, though more is said after it
    ([999, 9, 1], "<extra_id_0> xyz", -3.0, [999, 9, 998, 4, 1]),
    # a span that is too long is not exact
    ([999, 9, 1], "<extra_id_0> xyz", -3.0, [999, 9, 9, 1]),
    # nothing is masked: it does not count
    ([999, 1], "<extra_id_0>", -50.0, [999, 1]),
)


def test_measures_by_hand(tmp_path):
    write(tmp_path, "sw", *PIECES)
    answers = probe_table.read(tmp_path, "xfer_probe.panx.sw")
    found = probe_table.measure(answers)
    assert (found["n_examples"], found["n_spans"], found["n_tokens"]) == (3, 4, 12)
    assert found["lm_loss"] == pytest.approx(12 / 12)
    assert found["lm_em"] == pytest.approx(2 / 4)
    assert found["lm_em_examples"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    # 'ab é' has four characters and five bytes
    assert found["n_bytes"] == 5 + 3 + 3
    assert found["bits_per_byte"] == pytest.approx(12 / np.log(2) / 11)
    assert found["bits_per_character"] == pytest.approx(12 / np.log(2) / 10)


def test_intervals_are_those_of_drawn_pieces():
    rng = np.random.default_rng(0)
    n = 40
    tokens = rng.integers(3, 30, n).astype(float)
    loss = tokens * rng.gamma(4, 0.5, n)
    spans = rng.integers(1, 5, n).astype(float)
    exact = rng.binomial(spans.astype(int), 0.3).astype(float)
    found = probe_table.measure(probe_table.Answers(loss, tokens, tokens, tokens, spans, exact))
    drawn = rng.integers(n, size=(4000, n))
    for name, above, below in (("lm_loss", loss, tokens), ("lm_em", exact, spans)):
        ratios = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        assert found[f"{name}_low"] == pytest.approx(low, abs=0.1 * (high - low))
        assert found[f"{name}_high"] == pytest.approx(high, abs=0.1 * (high - low))


def test_files_that_are_no_probes_are_refused(tmp_path):
    with pytest.raises(RequestError, match="contains no probe: no file has the name"):
        probe_table.collect(tmp_path)
    write(tmp_path, "sw", *PIECES)
    scores, said = (probe_table.path(tmp_path, "xfer_probe.panx.sw", m) for m in probe_table.MODES)
    whole = said.read_text()
    said.write_text(whole.replace("[999, 5, 6, 998, 7", "[999, 5, 6, 998, 6"))
    with pytest.raises(RequestError, match="have different masks"):
        probe_table.collect(tmp_path)
    said.write_text(whole.partition("\n")[2])
    with pytest.raises(RequestError, match="4 scores but 3 predictions"):
        probe_table.collect(tmp_path)
    said.write_text(whole[:100])
    with pytest.raises(RequestError, match="is damaged"):
        probe_table.collect(tmp_path)
    said.unlink()
    with pytest.raises(
        RequestError, match="missing: run the probe with INFER_MODE 'score' and 'pred"
    ):
        probe_table.collect(tmp_path)
    said.write_text(whole)
    scores.write_text('{"inputs": {}, "score": 1}\n' * 4)
    with pytest.raises(RequestError, match="is not a file of a probe"):
        probe_table.collect(tmp_path)
    assert not (tmp_path / probe_table.FILE).exists()


# ----------------------------------------------------------------------------------- the command


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
