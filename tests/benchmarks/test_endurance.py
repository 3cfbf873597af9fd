"""What the endurance benchmarks conclude with: a difference is seen, a margin is counted right."""

import shutil

import numpy as np
import pytest
from scipy import stats

from benchmarks import kill_resume, worlds
from xfer_jax.checkpoints import store
from xfer_jax.mt5 import model, optimizer

pytestmark = pytest.mark.slow

CONFIG = model.Config(
    vocab_size=128, emb_dim=8, num_heads=1, head_dim=8, mlp_dim=8,
    num_encoder_layers=1, num_decoder_layers=1,
)  # fmt: skip


def save(folder, step: int, scale: float = 1.0) -> None:
    params = model.initialise(CONFIG, np.uint32(0))
    norm = params["encoder"]["encoder_norm"]
    norm["scale"] = np.asarray(norm["scale"]) * np.float32(scale)
    store.save(folder, store.to_tree(params, optimizer.init(params), step), {})


@pytest.fixture
def study(tmp_path):
    """A folder as a study leaves it: a table, outputs, a checkpoint."""
    out = tmp_path / "a"
    save(out / "job", 3)
    (out / "scores.csv").write_text("score\n1\n")
    (out / "job" / "config.gin").write_text(f"MODEL_DIR = '{out}/job'\n")
    (out / "job" / "inference_eval").mkdir()
    (out / "job" / "inference_eval" / "x-000003.jsonl").write_text("{}\n")
    return out


def copied(study):
    other = study.with_name("b")
    shutil.copytree(study, other)
    (other / "job" / "config.gin").write_text(f"MODEL_DIR = '{other}/job'\n")
    return other


def test_equal_studies_do_not_differ(study):
    assert kill_resume.differences(copied(study), study) == []


@pytest.mark.parametrize(
    "name", ["scores.csv", "job/config.gin", "job/inference_eval/x-000003.jsonl"]
)
def test_a_changed_or_missing_file_is_seen(study, name):
    other = copied(study)
    (other / name).write_text("else")
    assert kill_resume.differences(other, study) == [name]
    (other / name).unlink()
    assert kill_resume.differences(study, other) == [name]


def test_another_bit_of_a_parameter_and_another_step_are_seen(study):
    other = copied(study)
    shutil.rmtree(other / "job" / "checkpoint_3")
    save(other / "job", 4, scale=1 + 2**-23)
    expected = ["job: step", "job: target/encoder/encoder_norm/scale"]
    assert kill_resume.differences(other, study) == expected


def test_lives_are_such_that_the_kills_take_most_of_the_work():
    longest = kill_resume.longest_life(startup=5.0, work=60.0, kills=50)
    lives = np.random.default_rng(0).uniform(0, longest, 1_000_000)
    assert np.maximum(lives - 5.0, 0).mean() * 50 == pytest.approx(0.8 * 60, rel=0.01)


def test_margins_are_summed_up_over_seeds(tmp_path):
    values = {0: 10.0, 1: 14.0, 2: 12.0}
    pairs = [(a, b) for a in "abcd" for b in "abcd"]
    for seed, margin in values.items():
        lines = ["source,target,score,syntactic_similarity,lexical_similarity"]
        for i, (a, b) in enumerate(pairs):
            near = 0.0 if a == b else [0.0, 0.5, 1.0][i % 3]
            lines.append(f"{a},{b},{99 if a == b else 50 + margin * near},{near},0.5")
        (tmp_path / f"syntax-s{seed}.csv").write_text("\n".join(lines) + "\n")
    found = worlds.summarise(tmp_path)["syntax"]
    assert found["syntactic_similarity"]["by_seed"] == list(values.values())
    mean, low, high = found["syntactic_similarity"]["mean_low_high"]
    expected = stats.ttest_1samp(list(values.values()), 0).confidence_interval(0.95)
    assert (mean, low, high) == (
        pytest.approx(12.0),
        pytest.approx(expected.low, abs=0.01),
        pytest.approx(expected.high, abs=0.01),
    )
    assert found["lexical_similarity"]["by_seed"] == [0.0, 0.0, 0.0]
