"""The real command line on a tiny world: what it writes, and that a killed run ends like any.

Runs are made once for the module, by `finished` and what follows from it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from seqio_tasks import catalogue, data_config, metrics, subsets
from seqio_tasks.sentencepiece_model import EOS_ID
from tests.support.checkpoints import arrays
from tests.support.command_line import run
from tests.support.files import jsonl, read_rows
from xfer_jax.checkpoints import checksums, locations, run_file
from xfer_jax.data import token_cache
from xfer_jax.engine import evaluation, run_folder
from xfer_jax.mt5 import cost, decoding, model
from xfer_jax.runtime import device_memory

# The checkpoints are read back here on the devices that wrote them.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]

STEPS, SAVE_PERIOD, EVAL_PERIOD = 12, 4, 8
MACROS = {
    "TRAIN_STEPS": STEPS,
    "SAVE_PERIOD": SAVE_PERIOD,
    "EVAL_PERIOD": EVAL_PERIOD,
    "KEEP_CHECKPOINTS": None,
    "LOG_PERIOD": 3,
    "LEARNING_RATE": 0.02,
}
TARGETS = ("xfer_pocket_nli.en", "xfer_pocket_nli.sw")
FEATURES = ("inputs", "targets")


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    """The folder and the output of a run of twelve steps that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    code, out, err = run(command("train", MODEL_DIR=str(folder), **MACROS))
    assert code == 0, err
    return folder, out


def test_a_run_writes_t5x_s_layout(finished):
    folder, _ = finished
    assert locations.steps(folder) == [4, 8, 12]
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    for task in TARGETS:
        assert f"inference_eval/{task}-metrics.jsonl" in names
        for step in (EVAL_PERIOD, STEPS):
            assert f"inference_eval/{task}-{step:06d}.jsonl" in names
        assert any(name.startswith(f"inference_eval/{task}/events.out.tfevents.") for name in names)
    assert "config.gin" in names
    assert any(name.startswith("train/events.out.tfevents.") for name in names)
    assert not [name for name in names if Path(name).name.startswith(".")]


def test_predictions_parse_and_yield_the_metrics(finished):
    folder, _ = finished
    for task in TARGETS:
        lines = jsonl(folder / "inference_eval" / f"{task}-metrics.jsonl")
        assert [line["step"] for line in lines] == [EVAL_PERIOD, STEPS]
        for line in lines:
            predictions = jsonl(folder / "inference_eval" / f"{task}-{line['step']:06d}.jsonl")
            assert len(predictions) == 20
            for prediction in predictions:
                assert set(prediction) == {"input", "target", "output", "prediction"}
                assert prediction["prediction"] == prediction["output"]
                features = prediction["input"]
                assert features["inputs_pretokenized"].startswith("xnli: premise: ")
                assert prediction["target"] == features["targets_pretokenized"]
                assert features["targets"][-1] == features["inputs"][-1] == EOS_ID
            targets, outputs = ([p[key] for p in predictions] for key in ("target", "prediction"))
            expected = metrics.accuracy(targets, outputs)
            assert {name: line[name] for name in expected} == pytest.approx(expected)


def test_events_hold_the_metrics_and_the_loss(events, finished):
    folder, _ = finished
    for task in TARGETS:
        last = jsonl(folder / "inference_eval" / f"{task}-metrics.jsonl")[-1]
        step = last.pop("step")
        expected = {(f"inference/{name}", step): value for name, value in last.items()}
        seen = {(tag, s): v for tag, s, v in events(folder / "inference_eval" / task) if s == step}
        assert seen == pytest.approx(expected)
    logged = events(folder / "train")
    assert {tag for tag, _, _ in logged} == {"loss", "z_loss", "accuracy", "learning_rate"}
    loss = [(step, value) for tag, step, value in logged if tag == "loss"]
    assert [step for step, _ in loss] == [3, 4, 6, 8, 9, 12]  # and before saving
    assert all(0 < value < 10 for _, value in loss)
    assert loss[-1][1] < loss[0][1]
    assert {v for tag, _, v in logged if tag == "learning_rate"} == {float(np.float32(0.02))}


def test_evaluations_within_a_second_keep_their_events(events, monkeypatch, tmp_path):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    for step in (8, 12):
        with run_folder.events(tmp_path / TARGETS[0], suffix=f".step{step}") as writer:
            writer.add_scalar("inference/accuracy", float(step), step)
    seen = sorted(events(tmp_path / TARGETS[0]))
    assert seen == [("inference/accuracy", 8, 8.0), ("inference/accuracy", 12, 12.0)]


def test_the_table_and_scores_csv_say_the_last_scores(finished):
    folder, out = finished
    rows = read_rows(folder / "scores.csv")
    assert [(row["task"], row["source"], row["target"]) for row in rows] == [
        ("xfer_pocket_nli", "en", "en"),
        ("xfer_pocket_nli", "en", "sw"),
    ]
    table = out[out.index("xfer_pocket_nli accuracy in percent, trained on en") :].splitlines()
    assert table[2].split()[-2:] == ["source", "language"]
    assert table[3].split()[-1] == "zero-shot"
    for task, row, line in zip(TARGETS, rows, table[2:4], strict=True):
        last = jsonl(folder / "inference_eval" / f"{task}-metrics.jsonl")[-1]
        assert float(row["score"]) == pytest.approx(last["accuracy"])
        assert (row["metric"], row["n_examples"]) == ("accuracy", "20")
        assert (row["n_shots"], row["seed"]) == ("", "0")  # all of the training data
        targets = [p["target"] for p in jsonl(folder / "inference_eval" / f"{task}-000012.jsonl")]
        commonest = 100 * max(targets.count(label) for label in "012") / len(targets)
        assert float(row["baseline"]) == pytest.approx(commonest)
        assert line.split()[:4] == [
            row["target"],
            f"{float(row['score']):.1f}",
            f"{commonest:.1f}",
            "20",
        ]


def test_the_log_says_what_is_trained_and_what_is_cut(finished):
    _, out = finished
    assert "training on xfer_pocket_nli.en: 64 examples, steps 0 to 12 of 4 examples" in out
    assert re.search(r"^\d+ training inputs are truncated to 24 tokens$", out, re.MULTILINE)
    assert re.search(r"^train 12/12, loss \d+\.\d+, accuracy", out, re.MULTILINE)


KILLED_IN_ITS_SECOND_SAVE = """
import os, signal, sys
from pathlib import Path
from xfer_jax.checkpoints import store
from xfer_jax.cli import main as cli

save, saved = store.save, []

def killed(self, target):
    assert not {"tensorflow", "seqio"} & set(sys.modules), "the caches exist"
    os.kill(os.getpid(), signal.SIGKILL)

def counted(*args):
    saved.append(1)
    if len(saved) == 2:  # all is written, only the name is not final
        Path.rename = killed
    return save(*args)

store.save = counted
cli.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def killed_and_resumed(finished, command, tmp_path_factory):
    """The folder of the same run, killed by a signal while it saved step 8, then run again."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    arguments = command("train", MODEL_DIR=str(folder), **MACROS)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_ITS_SECOND_SAVE, *arguments],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert locations.steps(folder) == [4]
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert left
    assert left[0].startswith(".checkpoint_8")
    code, out, err = run(arguments)
    assert code == 0, err
    return folder, out


def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(finished, killed_and_resumed):
    whole, (resumed, out) = finished[0], killed_and_resumed
    assert "steps 4 to 12 of 4 examples" in out
    assert locations.steps(resumed) == locations.steps(whole)
    for step in locations.steps(whole):
        expected, found = (arrays(folder / f"checkpoint_{step}") for folder in (whole, resumed))
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{step} {name}")
    for task in TARGETS:
        for name in (f"{task}-metrics.jsonl", f"{task}-000008.jsonl", f"{task}-000012.jsonl"):
            paths = [folder / "inference_eval" / name for folder in (whole, resumed)]
            assert paths[0].read_bytes() == paths[1].read_bytes(), name
    assert (whole / "scores.csv").read_bytes() == (resumed / "scores.csv").read_bytes()


SIGTERM = """
import os, signal, sys
from xfer_jax.cli import main as cli
from xfer_jax.mt5 import partitioning

place, calls = partitioning.place, []

def counted(*args, **kwargs):
    calls.append(1)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGTERM)
    return place(*args, **kwargs)

partitioning.place = counted
sys.exit(cli.main(sys.argv[1:]))
"""


def ended_here(arguments: list[str], monkeypatch) -> tuple[int, str]:
    """Runs the command here until SIGTERM comes in the evaluation of step 8, after its checkpoint.

    Returns the exit code and the errors.
    """
    greedy_tokens, calls = decoding.greedy_tokens, []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return greedy_tokens(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "greedy_tokens", counted)
        code, _, err = run(arguments)
    return code, err


def ended_as_a_process(arguments: list[str], _) -> tuple[int, str]:
    """Likewise in a process of its own, amid step 6, which is finished."""
    ended = subprocess.run(
        [sys.executable, "-c", SIGTERM, *arguments],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(("ended", "step"), [(ended_as_a_process, 6), (ended_here, 8)])
def test_a_preempted_run_saves_and_ends_bit_for_bit_as_one_that_was_not(
    finished, command, tmp_path, monkeypatch, ended, step
):
    folder = tmp_path / "run"
    arguments = command("train", MODEL_DIR=str(folder), **MACROS)
    code, err = ended(arguments, monkeypatch)
    assert code == 143, err
    assert err.splitlines()[-1] == (
        f"xfer-jax: ended by SIGTERM at step {step}, which is saved; the same command"
        " continues there"
    )
    assert locations.steps(folder)[-1] == step
    code, out, err = run(arguments)
    assert code == 0, err
    assert f"steps {step} to {STEPS} of 4 examples" in out
    expected, found = (arrays(path / f"checkpoint_{STEPS}") for path in (finished[0], folder))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    for file in [
        *(f"inference_eval/{task}-metrics.jsonl" for task in TARGETS),
        *(f"inference_eval/{task}-{step:06d}.jsonl" for task in TARGETS for step in (8, STEPS)),
        "scores.csv",
    ]:
        assert (folder / file).read_bytes() == (finished[0] / file).read_bytes(), file


def test_a_damaged_latest_checkpoint_falls_back_to_the_one_before(finished, command, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    # The configuration names its folder.
    config = folder / "config.gin"
    config.write_text(config.read_text().replace(str(finished[0]), str(folder)))
    largest = max(
        (folder / f"checkpoint_{STEPS}" / "state").rglob("d/*"),
        key=lambda file: file.stat().st_size,
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    code, out, err = run(command("train", MODEL_DIR=str(folder), **MACROS))
    assert code == 0, err
    assert f"warning: {folder}/checkpoint_{STEPS} is damaged: state/" in out
    assert f"continuing from {folder}/checkpoint_8\n" in out
    assert checksums.damage(folder / f"checkpoint_{STEPS}") is None
    expected, found = (arrays(path / f"checkpoint_{STEPS}") for path in (finished[0], folder))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_training_changes_every_array(finished):
    early, late = (arrays(finished[0] / f"checkpoint_{step}") for step in (4, 12))
    same = [
        name
        for name, array in early.items()
        if array.shape != (1,) and np.array_equal(array, late[name])
    ]
    assert same == []
    assert (int(early["state/step"]), int(late["state/step"])) == (4, 12)


def test_a_finished_run_that_is_started_again_only_evaluates(finished, command):
    folder, before = finished
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, err = run(command("train", MODEL_DIR=str(folder), **MACROS))
    assert code == 0, err
    assert "steps 12 to 12 of 4 examples" in out
    assert (
        out[out.index("xfer_pocket_nli accuracy") :]
        == before[before.index("xfer_pocket_nli acc") :]
    )
    for path, was in content.items():
        assert path.read_bytes() == was, path


def test_an_initial_checkpoint_hands_on_step_and_moments(finished, command, tmp_path):
    origin = finished[0] / "checkpoint_8"
    folder = tmp_path / "second"
    macros = {"MODEL_DIR": str(folder), "INITIAL_CHECKPOINT_PATH": str(origin)}
    more = {"TRAIN_STEPS_RELATIVE": 1, "SOURCE": "sw", "SUBSET": "n8.s3", "TARGETS": ("sw",)}
    code, out, err = run(command("train", **macros, **more))
    assert code == 0, err
    assert "training on xfer_pocket_nli.sw.n8.s3: 8 examples, steps 8 to 9 of 4 examples" in out
    assert locations.steps(folder) == [9]
    assert [
        line["step"] for line in jsonl(folder / "inference_eval" / f"{TARGETS[1]}-metrics.jsonl")
    ]
    before, after = arrays(origin), arrays(folder / "checkpoint_9")
    assert int(after["state/step"]) == 9
    # T5X's decay at step 8 is 1 - 9^-0.8 = 0.83: the slots keep that share of what they were. Fresh
    # ones would hold the new gradient's squares alone, and could be smaller than this.
    keeps = 1 - 9**-0.8
    for name, slot in before.items():
        if name.endswith("/v") and slot.size > 1:
            assert (after[name] >= 0.999 * keeps * slot).all(), name
            assert (after[name] != slot).any()
    (row,) = read_rows(folder / "scores.csv")
    assert (row["source"], row["target"], row["n_shots"]) == ("sw", "sw", "8")


@pytest.fixture(scope="module")
def network(finished):
    """The network and the parameters that the finished run ended with, read without its code."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(finished[0] / "checkpoint_12" / "state")
    params = jax.tree.map(jax.numpy.asarray, tree["target"])
    config = model.Config(
        vocab_size=params["token_embedder"]["embedding"].shape[0],
        emb_dim=32,
        num_heads=2,
        head_dim=16,
        mlp_dim=48,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dtype="float32",
    )
    return model.Transformer(config), params


def tokens(words, texts: list[str], length: int) -> np.ndarray:
    """Tokenises texts, trims and ends them, and pads them to rows of `length`."""
    rows = np.zeros((len(texts), length), np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = [*words.encode(text)[: length - 1], EOS_ID]
        row[: len(ids)] = ids
    return rows


def test_eval_reproduces_the_run_s_last_metrics(finished, command, tmp_path):
    folder, out = finished
    # Another batch size: outputs must come back in the examples' order whatever the batches are.
    macros = {"CHECKPOINT_PATH": str(folder), "EVAL_OUTPUT_DIR": str(tmp_path / "eval")}
    code, eval_out, err = run(command("eval", **macros, EVAL_BATCH_SIZE=7))
    assert code == 0, err
    table = out[out.index("xfer_pocket_nli accuracy") :]
    assert eval_out.endswith(table)
    for task in TARGETS:
        name = f"{task}-metrics.jsonl"
        again = jsonl(tmp_path / "eval" / "inference_eval" / name)
        assert again == jsonl(folder / "inference_eval" / name)[-1:]
        name = f"{task}-000012.jsonl"
        again = (tmp_path / "eval" / "inference_eval" / name).read_bytes()
        assert again == (folder / "inference_eval" / name).read_bytes()
    assert (tmp_path / "eval" / "scores.csv").read_bytes() == (folder / "scores.csv").read_bytes()


def test_an_earlier_checkpoint_can_be_evaluated_on_a_part(finished, command, tmp_path):
    folder, _ = finished
    code, _, err = run(
        command(
            "eval",
            CHECKPOINT_PATH=str(folder / "checkpoint_8"),
            EVAL_OUTPUT_DIR=str(tmp_path),
            TARGETS=("sw",),
            EVALUATOR_NUM_EXAMPLES=5,
        )
    )
    assert code == 0, err
    task = TARGETS[1]
    predictions = jsonl(tmp_path / "inference_eval" / f"{task}-000008.jsonl")
    every = jsonl(folder / "inference_eval" / f"{task}-000008.jsonl")
    drawn = subsets.sample_indices(
        [subsets.identity(*(p["input"][f"{f}_pretokenized"] for f in FEATURES)) for p in every], 5
    )
    assert predictions == [every[i] for i in drawn]
    assert predictions != every[:5]


def test_infer_predicts_what_the_run_predicted(finished, command, tmp_path):
    folder, _ = finished
    macros = {"CHECKPOINT_PATH": str(folder), "INFER_OUTPUT_DIR": str(tmp_path)}
    code, out, err = run(command("infer", **macros))
    assert code == 0, err
    for task in TARGETS:
        path = tmp_path / f"{task}-predict.jsonl-00000-of-00001"
        assert f"wrote {path}" in out
        assert path.with_name(path.name + ".COMPLETED").read_bytes() == b""
        expected = jsonl(folder / "inference_eval" / f"{task}-000012.jsonl")
        lines = jsonl(path)
        assert [line["prediction"] for line in lines] == [e["prediction"] for e in expected]
        assert [line["inputs"]["inputs_pretokenized"] for line in lines] == [
            e["input"]["inputs_pretokenized"] for e in expected
        ]


def test_infer_scores_are_log_probabilities_of_the_targets(
    finished, network, command, tmp_path, tiny_world
):
    folder, _ = finished
    macros = {"CHECKPOINT_PATH": str(folder), "INFER_OUTPUT_DIR": str(tmp_path)}
    code, _, err = run(command("infer", **macros, INFER_MODE="score", TARGETS=("sw",)))
    assert code == 0, err
    lines = jsonl(tmp_path / f"{TARGETS[1]}-score.jsonl-00000-of-00001")
    assert len(lines) == 20

    pretokenized = [
        [line["inputs"][f"{feature}_pretokenized"] for line in lines]
        for feature in ("inputs", "targets")
    ]
    inputs, targets = (
        tokens(tiny_world, pretokenized[0], 24),
        tokens(tiny_world, pretokenized[1], 4),
    )
    expected = decoding.score(*network, inputs, targets)
    np.testing.assert_allclose([line["score"] for line in lines], expected, rtol=0, atol=1e-4)


def test_predicting_by_labels_chooses_the_likeliest_digit(
    finished, network, command, tmp_path, tiny_world
):
    folder, _ = finished
    macros = {"CHECKPOINT_PATH": str(folder), "EVAL_OUTPUT_DIR": str(tmp_path)}
    code, _, err = run(command("eval", **macros, PREDICT_BY="labels", TARGETS=("en",)))
    assert code == 0, err
    lines = jsonl(tmp_path / "inference_eval" / f"{TARGETS[0]}-000012.jsonl")
    texts = [line["input"]["inputs_pretokenized"] for line in lines]
    inputs = tokens(tiny_world, texts, 24)
    labels = [tokens(tiny_world, [label] * len(lines), 4) for label in "012"]
    # The end of sequence follows in any case.
    digits = [np.where(label == EOS_ID, 0, label) for label in labels]
    scores = [decoding.score(*network, inputs, digit) for digit in digits]
    likeliest = np.argmax(scores, axis=0)
    assert [line["prediction"] for line in lines] == [str(label) for label in likeliest]
    metric = jsonl(tmp_path / "inference_eval" / f"{TARGETS[0]}-metrics.jsonl")[-1]["accuracy"]
    hits = [line["prediction"] == line["target"] for line in lines]
    assert metric == pytest.approx(100 * np.mean(hits))


def test_predicting_by_beam_search_writes_the_best_hypotheses(
    finished, network, command, tmp_path, tiny_world
):
    folder, _ = finished
    macros = {"CHECKPOINT_PATH": str(folder), "INFER_OUTPUT_DIR": str(tmp_path)}
    beam = {"PREDICT_BY": "beam", "NUM_BEAMS": 3, "BEAM_ALPHA": 0.2}
    code, _, err = run(command("infer", **macros, **beam, TARGETS=("en",)))
    assert code == 0, err
    lines = jsonl(tmp_path / f"{TARGETS[0]}-predict.jsonl-00000-of-00001")
    texts = [line["inputs"]["inputs_pretokenized"] for line in lines]
    found, _ = decoding.beam_search(*network, tokens(tiny_world, texts, 24), 4, 3, 0.2)
    expected = [tiny_world.decode(row) for row in np.asarray(found)[:, 0].tolist()]
    assert [line["prediction"] for line in lines] == expected


def test_a_step_that_is_evaluated_again_replaces_its_line(tmp_path):
    path = tmp_path / "task-metrics.jsonl"
    for step, value in ((10, 1.0), (20, 2.0), (10, 3.0)):
        run_folder.set_metrics(path, step, {"accuracy": value})
    assert jsonl(path) == [{"step": 10, "accuracy": 3.0}, {"step": 20, "accuracy": 2.0}]


def test_the_baseline_is_the_better_of_commonest_and_nothing(tiny_world):
    for name in ("xfer_pocket_nli.en", "xfer_pocket_ner.en"):
        config = data_config.configured(vocabulary_file=tiny_world.name)
        cache = token_cache.open_cache(catalogue.task(name), "validation", config)
        scoring = cache.task.family.scoring
        commonest = max(cache.references, key=cache.references.count)
        scores = [
            scoring.percent * scoring.metric(cache.references, [answer] * len(cache))[scoring.score]
            for answer in (commonest, "")
        ]
        assert evaluation.baseline(cache) == pytest.approx(max(scores))


@pytest.fixture(scope="module")
def exploded(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exploded") / "run"
    macros = {"TRAIN_STEPS": 6, "SAVE_PERIOD": 1, "LEARNING_RATE": 1e30, "TARGETS": ()}
    return folder, *run(command("train", MODEL_DIR=str(folder), **macros))


def test_a_loss_that_is_no_number_ends_the_run_with_the_step(exploded):
    _, code, _, err = exploded
    assert code == 1
    assert re.fullmatch(r"xfer-jax: the loss became (nan|inf) at step 1\n", err)


def test_no_checkpoint_of_a_run_that_exploded_holds_what_is_no_number(exploded):
    folder = exploded[0]
    assert locations.steps(folder) == [1]
    for step in locations.steps(folder):
        for name, array in arrays(folder / f"checkpoint_{step}").items():
            assert np.isfinite(array).all(), (step, name)


def test_micro_batches_train_what_the_whole_batch_does_and_keep_their_number(
    command, tmp_path, monkeypatch
):
    macros = {**MACROS, "DROPOUT_RATE": 0.0, "TARGETS": ()}
    found = {}
    for parts in (1, 2):
        folder = tmp_path / str(parts)
        code, out, err = run(
            command("train", MODEL_DIR=str(folder), **macros, NUM_MICROBATCHES=parts)
        )
        assert code == 0, err
        assert ("in 2 micro-batches" in out) == (parts == 2)
        found[parts] = arrays(folder / f"checkpoint_{STEPS}")
    for name, array in found[1].items():
        difference = np.linalg.norm((found[2][name] - array).astype(np.float64))
        assert difference <= 1e-5 * np.linalg.norm(array), name
    # Chosen by the device's memory; a run that goes on keeps its number on a larger device.
    folder = tmp_path / "small"
    monkeypatch.setattr(cost, "microbatches", lambda *sizes: 4)
    code, out, err = run(command("train", MODEL_DIR=str(folder), **macros))
    assert code == 0, err
    assert "in 4 micro-batches" in out
    assert run_file.about(folder / f"checkpoint_{STEPS}")["microbatches"] == 4
    shutil.rmtree(folder / f"checkpoint_{STEPS}")
    monkeypatch.undo()
    code, out, err = run(command("train", MODEL_DIR=str(folder), **macros))
    assert code == 0, err
    assert "in 4 micro-batches" in out


def test_a_row_that_does_not_fit_the_device_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.setattr(device_memory, "bytes_of_one", lambda: 1 << 20)
    code, _, err = run(command("train", MODEL_DIR=str(tmp_path / "run"), **MACROS))
    assert code == 2
    assert "no micro-batch fits the device: the smallest, one row of" in err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def selected(command, tmp_path_factory):
    """A run that keeps the best of its checkpoints, and the scores of all of them."""
    folder = tmp_path_factory.mktemp("selected") / "run"
    macros = {**MACROS, "SELECT_BY": "mean", "TEST_SPLIT": "test", "KEEP_CHECKPOINTS": 1}
    code, out, err = run(command("train", MODEL_DIR=str(folder), **macros))
    assert code == 0, err
    lines = {task: jsonl(folder / "inference_eval" / f"{task}-metrics.jsonl") for task in TARGETS}
    return folder, out, lines


def test_the_best_checkpoint_is_chosen_kept_and_handed_on(selected, command, tmp_path):
    folder, out, lines = selected
    means = {
        of[0]["step"]: np.mean([line["accuracy"] for line in of])
        for of in zip(*lines.values(), strict=True)
    }
    assert sorted(means) == [4, 8, 12]  # evaluated as they are written
    best = max(sorted(means), key=means.__getitem__)
    assert f"checkpoint {best} is chosen: SELECT_BY is 'mean'" in out
    assert set(locations.steps(folder)) == {best, STEPS}  # the latest is what a run goes on from
    assert locations.locate(folder).name == f"checkpoint_{best}"
    rows = read_rows(folder / "scores.csv")
    other = tmp_path / "eval"
    macros = {"CHECKPOINT_PATH": str(folder / f"checkpoint_{best}"), "EVAL_SPLIT": "test"}
    code, _, err = run(command("eval", EVAL_OUTPUT_DIR=str(other), **macros))
    assert code == 0, err
    expected = read_rows(other / "scores.csv")
    for row, of_eval in zip(rows, expected, strict=True):
        assert (row["split"], row["step"], row["selected_by"]) == ("test", str(best), "mean")
        assert row["score"] == of_eval["score"]


def test_a_run_that_selects_and_is_started_again_ends_alike(selected, command):
    folder, _, _ = selected
    before = (folder / "scores.csv").read_bytes(), (folder / "selection.json").read_bytes()
    macros = {**MACROS, "SELECT_BY": "mean", "TEST_SPLIT": "test", "KEEP_CHECKPOINTS": 1}
    code, _, err = run(command("train", MODEL_DIR=str(folder), **macros))
    assert code == 0, err
    after = (folder / "scores.csv").read_bytes(), (folder / "selection.json").read_bytes()
    assert after == before


@pytest.mark.parametrize(
    ("macros", "sentence"),
    [
        ({"SELECT_BY": "mean", "SAVE_PERIOD": None}, "set SAVE_PERIOD"),
        ({"SELECT_BY": "mean", "TARGETS": ()}, "needs TARGETS"),
        ({"SELECT_BY": "best"}, "SELECT_BY must be 'last', 'source', 'mean' or 'each_target'"),
        ({"SELECT_BY": "source", "TARGETS": ("sw",)}, "needs scores of the source language"),
        ({"TEST_SPLIT": "tset"}, "TEST_SPLIT: xfer_pocket_nli.en has no split 'tset'"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(command, tmp_path, macros, sentence):
    code, _, err = run(command("train", MODEL_DIR=str(tmp_path / "run"), **MACROS | macros))
    assert code == 2
    assert sentence in err
    assert not (tmp_path / "run").exists()
