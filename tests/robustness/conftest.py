"""What the cases of wrong requests find ready: a tiny model in every form, tables, runs, analyses.

All of it is made once a session, by the tool itself.
"""

import io
import json
import os
from pathlib import Path

import gin
import jax
import numpy as np
import pytest
import sentencepiece

from benchmarks import bad_input
from seqio_tasks import sentencepiece_model, vocabulary

ROWS = 256  # of the tiny models' embedding

TINY = """\
EMB_DIM = 8
NUM_HEADS = 2
HEAD_DIM = 4
MLP_DIM = 8
NUM_ENCODER_LAYERS = 1
NUM_DECODER_LAYERS = 1
DTYPE = 'float32'
TASK = 'xfer_pocket_nli'
SOURCE = 'en'
TARGETS = ('en', 'sw')
VOCAB_FILE = '{vocabulary}'
TASK_FEATURE_LENGTHS = {{'inputs': 24, 'targets': 8}}
BATCH_SIZE = 4
TRAIN_STEPS = 2
World.train_examples = 16
World.eval_examples = 8
World.text_sentences = 40
"""
STUDY = """\
source/study.Stage:
  tasks = ('pocket_nli',)
  train_on = ('en', 'sw')
  score_on = 'targets'
study.Study:
  model = 'pocket'
  stages = (@source/study.Stage(),)
  targets = ('en', 'hi')
  settings = ('TRAIN_STEPS_RELATIVE = 2', "VOCAB_FILE = '{vocabulary}'")
"""
SCORES = "source,target,score\n" + "".join(
    f"{a},{b},{90 if a == b else 40 + (7 * i + 3 * j) % 31}\n"
    for i, a in enumerate(("ar", "bn", "en", "fi", "sw"))
    for j, b in enumerate(("ar", "bn", "en", "fi", "sw"))
)
CONFIG = "TASK = 'xfer_panx'\nSOURCE = '{source}'\nRANDOM_SEED = 0\n"


def _vocabulary(folder: Path) -> Path:
    words = [
        "premise",
        "hypothesis",
        "xnli",
        "tag",
        "question",
        "context",
        "choice",
        "Rick",
        "na",
        "Morty",
        "anaishi",
        "Paris",
    ]
    texts = [f"{a}: {b} {c} 0 1 2 $$" for a in words for b in words for c in words]
    return sentencepiece_model.train(texts, 180, folder / "tiny.model", exact=False)


def _answers(target: str, wrong: int) -> str:
    records = []
    for number in range(10):
        text = f"PER: Rick{number} {target}"
        answer = "" if number < wrong else text
        inputs = {"inputs_pretokenized": f"tag: Rick{number} {target}", "inputs": [5, 6, 1]}
        records.append({"input": inputs, "target": text, "output": answer, "prediction": answer})
    return "".join(json.dumps(record) + "\n" for record in records)


def _run(folder: Path, source: str, targets: tuple[str, ...]) -> None:
    (folder / "inference_eval").mkdir(parents=True)
    (folder / "config.gin").write_text(CONFIG.format(source=source))
    for i, target in enumerate(targets):
        file = folder / "inference_eval" / f"xfer_panx.{target}-000004.jsonl"
        file.write_text(_answers(target, 0 if source == target else 2 + i))


def _probe(folder: Path) -> None:
    folder.mkdir()
    score, predict = [], []
    for number in range(4):
        inputs = {"targets": [279, 5 + number, 278, 7, 1], "targets_pretokenized": "<extra_id_0> a"}
        score.append({"inputs": inputs, "score": -3.0 - number})
        predict.append({"inputs": inputs, "prediction_tokens": [279, 5, 278, 7, 1]})
    for mode, records in (("score", score), ("predict", predict)):
        file = folder / f"xfer_probe.panx.en-{mode}.jsonl-00000-of-00001"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))


def _checkpoints(folder: Path, vocab: Path) -> None:
    from xfer_jax.checkpoints import convert, store
    from xfer_jax.mt5 import model, optimizer

    config = model.Config(
        vocab_size=ROWS, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=8,
        num_encoder_layers=1, num_decoder_layers=1,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), model.parameter_shapes(config)
    )
    loaded = vocabulary.load(str(vocab))
    about = {"vocabulary": loaded.digest, "vocabulary_file": loaded.name, "source": "en"}
    tree = store.to_tree(params, optimizer.init(params), 3)
    store.save(folder / "native", tree, about)
    for form in ("t5x", "t5x-legacy", "hf"):
        convert.convert(str(folder / "native"), str(folder / form), form)


def _others(folder: Path) -> None:
    """Vocabularies that are none of T5's."""
    texts = [f"a{i} b{i} c" for i in range(200)]
    for name, ids in (
        ("ids.model", {"pad_id": 3, "eos_id": 2, "unk_id": 0, "bos_id": 1}),
        ("no_sentinels.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
    ):
        made = io.BytesIO()
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(texts), model_writer=made, vocab_size=230,
            hard_vocab_limit=False, minloglevel=2, **ids,
        )  # fmt: skip
        (folder / name).write_bytes(made.getvalue())


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """The folder of what `Case.ready` names."""
    folder = tmp_path_factory.mktemp("world")
    vocab = _vocabulary(folder)
    (folder / "tiny.gin").write_text(TINY.format(vocabulary=vocab))
    (folder / "study.gin").write_text(STUDY.format(vocabulary=vocab))
    (folder / "scores.csv").write_text(SCORES)
    for source in ("en", "sw", "ar", "bn"):
        _run(folder / "runs" / source, source, ("en", "sw", "ar", "bn"))
    _probe(folder / "probe")
    _others(folder)
    _checkpoints(folder, vocab)
    answer = bad_input.run(
        ["analyze", "--scores", str(folder / "scores.csv"), "--out", str(folder / "analysis"),
         "--permutations=20"],
        seconds=120,
    )  # fmt: skip
    assert answer.code == 0, answer
    return folder


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """A case runs in a folder of its own, and neither hears from the last nor tells the next."""
    for name in ("XFER_DATA_DIR", "XFER_VOCAB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    compiled = jax.config.jax_compilation_cache_dir
    gin.clear_config()
    yield
    gin.clear_config()
    jax.config.update("jax_compilation_cache_dir", compiled)


@pytest.fixture
def refused(world, tmp_path, monkeypatch, cache_dir):
    """Checks that a wrong request is answered as it should be."""
    before = set(cache_dir.rglob(".*"))  # other tests may have left something on purpose

    def check(case: bad_input.Case) -> None:
        here = tmp_path / "here"
        for name, value in case.env.items():
            value = value.replace(bad_input.HERE, str(here)).replace(bad_input.WORLD, str(world))
            monkeypatch.setenv(name, value)
        found = bad_input.judge(case, world, here)
        left = set(cache_dir.rglob(".*")) - before
        found += [f"left {path}" for path in left if path.name != ".checked"]
        assert not found, "\n".join([f"xfer-jax {case.argv}", *found])

    return check


@pytest.fixture
def accepted(world, tmp_path, monkeypatch):
    """Checks that an odd request is done; returns what it printed."""

    def check(case: bad_input.Case) -> str:
        here = tmp_path / "here"
        argv = bad_input.prepare(case, world, here)
        for name, value in case.env.items():
            value = value.replace(bad_input.HERE, str(here)).replace(bad_input.WORLD, str(world))
            monkeypatch.setenv(name, value)
        answer = bad_input.run(argv)
        assert answer.code == 0, answer
        assert not answer.err, answer
        for name in filter(None, case.words.split()):
            assert os.path.exists(here / name), f"{name} was not made"
        return answer.out

    return check
