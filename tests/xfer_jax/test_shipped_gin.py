"""The gin files that are shipped: every command takes them, and they say what there is."""

import re

import jax
import pytest

from seqio_tasks import catalogue
from xfer_jax import configuration
from xfer_jax.engine import train
from xfer_jax.mt5 import model

GIN = configuration.shipped_dir() / "gin"


TASK_FILES = sorted(path.name for path in (GIN / "tasks").glob("*.gin"))


MODEL_FILES = sorted(path.name for path in (GIN / "models").glob("*.gin"))


# What the defaults leave open.
REQUIRED = [
    "MODEL_DIR = 'out'",
    "TASK = 'xfer_panx'",
    "SOURCE = 'en'",
    "TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 8}",
]


@pytest.mark.parametrize("task", TASK_FILES)
@pytest.mark.parametrize("name", ["train", "eval", "infer"])
def test_every_command_takes_every_task_s_file(name, task):
    files = ["gin/models/pocket.gin", f"gin/tasks/{task}"]
    required = {"train": "MODEL_DIR", "eval": "EVAL_OUTPUT_DIR", "infer": "INFER_OUTPUT_DIR"}
    bindings = [f"{required[name]} = 'out'", "SOURCE = 'en'", "VOCAB_SIZE = 512"]
    if name != "train":
        bindings.append("CHECKPOINT_PATH = 'out'")
    assert "TASK_FEATURE_LENGTHS" in configuration.load(name, files, bindings)


@pytest.mark.parametrize("task", ["xquad", "mlqa"])
def test_what_has_no_training_data_is_trained_on_squad(task):
    files = ["gin/models/pocket.gin", f"gin/tasks/{task}.gin"]
    bindings = ["MODEL_DIR = 'out'", "VOCAB_SIZE = 512", "SUBSET = 'n100.s0'"]
    configuration.load("train", files, bindings)
    run = configuration.build(train.Run)
    assert run.training_data.task == "xfer_squad.en.n100.s0"
    family, scored = catalogue.families()[task], run.eval_data
    assert set(scored.tasks) == {f"xfer_{task}.{code}" for code in family.languages}
    assert scored.split in family.source.splits


@pytest.mark.parametrize("task", TASK_FILES)
def test_a_task_s_file_names_tasks_and_splits_that_there_are(task):
    bindings = ["MODEL_DIR = 'out'", "VOCAB_SIZE = 512", "SOURCE = 'en'"]
    configuration.load("train", ["gin/models/pocket.gin", f"gin/tasks/{task}"], bindings)
    run = configuration.build(train.Run)
    taught, scored = run.training_data, run.eval_data
    assert all(taught.split in task.family.source.splits for task in catalogue.tasks(taught.task))
    assert all(scored.split in catalogue.task(name).family.source.splits for name in scored.tasks)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_every_model_s_file_sets_the_sizes_that_it_says(name):
    file = GIN / "models" / name
    configuration.load("train", [str(file)], [*REQUIRED, "VOCAB_SIZE = 250112"])
    config = configuration.build(model.Config)
    head = re.search(r"(\d[\d,]*) M parameters, [\d.]+ GB in float32", file.read_text())
    if head:  # the pocket model's vocabulary, and so its size, is the user's
        shapes = model.parameter_shapes(config)
        count = sum(x.size for x in jax.tree.leaves(shapes))
        assert round(count / 1e6) == int(head[1].replace(",", ""))


def test_a_file_from_the_installation_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "EMB_DIM = 128" in configuration.load("train", ["gin/models/pocket.gin"], REQUIRED)
