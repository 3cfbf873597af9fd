"""The command line: quick help; one line for every wrong request, before anything is written."""

import json
import re

import pytest

from tests.support.command_line import one_line
from xfer_jax.checkpoints import checksums
from xfer_jax.cli import main as cli


@pytest.fixture
def refused(command, capsys, tmp_path):
    """Checks that a command answers with exit code 2, one line, and writes no folder."""

    def check(pattern: str, name: str = "train", *extra: str, **macros) -> str:
        folder = tmp_path / "out"
        where = {"train": "MODEL_DIR", "eval": "EVAL_OUTPUT_DIR", "infer": "INFER_OUTPUT_DIR"}[name]
        macros = {where: str(folder), **({"TRAIN_STEPS": 2} if name == "train" else {})} | macros
        arguments = command(name, **{k: v for k, v in macros.items() if v is not ...})
        assert cli.main([*arguments, *extra]) == 2
        line = one_line(capsys)
        assert re.search(pattern, line), line
        assert not folder.exists(), sorted(folder.rglob("*"))
        return line

    return check


TRAIN_REFUSALS = {
    "data folder missing": (
        {"TASK": "xfer_panx", "DATA_DIR": "/nowhere/xtreme"},
        r"the data folder /nowhere/xtreme .*does not exist",
    ),
    "source unknown": (
        {"SOURCE": "enn"},
        r"'xfer_pocket_nli\.enn' \(did you mean .*xfer_pocket_nli\.en",
    ),
    "target unknown": ({"TARGETS": ("en", "zz")}, r"unknown task 'xfer_pocket_nli\.zz'"),
    "task unknown": ({"TASK": "xfer_pocket_nil"}, r"did you mean .*xfer_pocket_nli\.en"),
    "targets not a tuple": ({"TARGETS": "en"}, r"en"),
    "macro misspelt": ({"BATCHSIZE": 3}, r"unknown macro BATCHSIZE \(did you mean .*BATCH_SIZE"),
    "macro required": ({"MODEL_DIR": ...}, r"MODEL_DIR"),
    "label cut": (
        {"TASK": "xfer_pocket_ner", "TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 6}},
        r"targets are longer than the 6 tokens .* LONG_TARGETS",
    ),
    "long targets unknown": ({"LONG_TARGETS": "cut"}, r"LONG_TARGETS must be 'error', .*'cut'"),
    "length 0": (
        {"TASK_FEATURE_LENGTHS": {"inputs": 0, "targets": 4}},
        r"TASK_FEATURE_LENGTHS\['inputs'\] must be .*not 0",
    ),
    "length missing": ({"TASK_FEATURE_LENGTHS": {"inputs": 8}}, r"\['targets'\] must be .*None"),
    "lengths not a dictionary": ({"TASK_FEATURE_LENGTHS": 64}, r"TASK_FEATURE_LENGTHS|lengths"),
    "vocabulary too large": ({"VOCAB_SIZE": 128}, r"needs VOCAB_SIZE 512; the model has 128 rows"),
    "vocabulary too small": ({"VOCAB_SIZE": 1024}, r"needs VOCAB_SIZE 512; the model has 1024"),
    "vocabulary missing": ({"VOCAB_FILE": "/nowhere/a.model"}, r"/nowhere/a\.model cannot be read"),
    "vocabulary of another kind": ({"VOCAB_FILE": __file__}, r"is not a SentencePiece model"),
    "checkpoint missing": (
        {"INITIAL_CHECKPOINT_PATH": "/nowhere/c"},
        r"/nowhere/c is not a checkpoint",
    ),
    "float16": ({"DTYPE": "float16"}, r"float16 is not supported.* overflow"),
    "model without width": ({"EMB_DIM": 0}, r"EMB_DIM must be at least 1, not 0"),
    "batch size 0": ({"BATCH_SIZE": 0}, r"(?i)batch_size .*0"),
    "batch size negative": ({"BATCH_SIZE": -4}, r"(?i)batch_size .*-4"),
    "batch size not a number": ({"BATCH_SIZE": "big"}, r"(?i)batch_size .*'big'"),
    "evaluation batch size 0": ({"EVAL_BATCH_SIZE": 0}, r"(?i)eval_batch_size .*0"),
    "evaluation examples 0": (
        {"EVALUATOR_NUM_EXAMPLES": 0},
        r"EVALUATOR_NUM_EXAMPLES|eval_examples .*0",
    ),
    "evaluation examples negative": (
        {"EVALUATOR_NUM_EXAMPLES": -5},
        r"EVALUATOR_NUM_EXAMPLES|eval_examples .*-5",
    ),
    "log period 0": ({"LOG_PERIOD": 0}, r"(?i)log_period .*0"),
    "save period negative": ({"SAVE_PERIOD": -1}, r"(?i)save_period .*-1"),
    "seed negative": ({"RANDOM_SEED": -1}, r"RANDOM_SEED .*-1"),
    "no steps": ({"TRAIN_STEPS": None}, r"TRAIN_STEPS"),
    "learning rate not a number": ({"LEARNING_RATE": "fast"}, r"LEARNING_RATE|learning_rate"),
    "learning-rate factor misspelt": (
        {"LEARNING_RATE_FACTORS": "constant * linear_warmpu"},
        r"'linear_warmpu' \(did you mean linear_warmup",
    ),
    "warm-up of no steps": (
        {"LEARNING_RATE_FACTORS": "constant * linear_warmup", "WARMUP_STEPS": 0},
        r"WARMUP_STEPS .*0",
    ),
    "partitions 0": ({"NUM_PARTITIONS": 0}, r"NUM_PARTITIONS must be at least 1, not 0"),
    "partitions too many": ({"NUM_PARTITIONS": 1000}, r"NUM_PARTITIONS 1000 does not divide"),
    "subset too large": ({"SUBSET": "n65.s0"}, r"needs 65 training examples.* has 64"),
    "subset misspelt": ({"SUBSET": "100"}, r"unknown task 'xfer_pocket_nli\.en\.100'"),
    "split unknown": ({"EVAL_SPLIT": "dev"}, r"no split 'dev'; it has train, validation, test"),
    "labels of a task without": (
        {
            "TASK": "xfer_pocket_ner",
            "PREDICT_BY": "labels",
            "TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 48},
        },
        r"xfer_pocket_ner\.en has no closed set of labels",
    ),
    "prediction unknown": ({"PREDICT_BY": "bean"}, r"unknown PREDICT_BY 'bean'"),
    "no beams": ({"PREDICT_BY": "beam", "NUM_BEAMS": 0}, r"NUM_BEAMS must be .* not 0"),
    "alpha below 0": ({"PREDICT_BY": "beam", "BEAM_ALPHA": -1}, r"BEAM_ALPHA must be .* not -1"),
    "evaluation without a metric": (
        {"TASK": "xfer_pocket_text", "TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 16}},
        r"xfer_pocket_text",
    ),
}


@pytest.mark.parametrize("case", TRAIN_REFUSALS)
def test_wrong_training_requests_are_refused_before_anything_is_written(refused, case):
    macros, pattern = TRAIN_REFUSALS[case]
    refused(pattern, **macros)


def test_a_missing_file_is_named_with_the_task_and_both_ways_to_get_it(refused, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    line = refused(r"xfer_panx\.en \(train\)", TASK="xfer_panx", DATA_DIR=str(data))
    assert "panx/train-en.tsv" in line
    assert str(data) in line
    assert "XTREME's download scripts" in line
    assert "unset XFER_DATA_DIR to read TFDS wikiann/en:1.0.0" in line


def test_gin_files_that_cannot_be_read_are_named(refused, tmp_path):
    refused(r"no gin file missing\.gin .*looked for in", "train", "--gin_file=missing.gin")
    wrong = tmp_path / "wrong.gin"
    wrong.write_text("BATCH_SIZE = = 3\n")
    refused(r"wrong\.gin: this is no gin .*'BATCH_SIZE = = 3'", "train", f"--gin_file={wrong}")
    refused(r"gin configuration: .*nobody", "train", "--gin.nobody.knows=1")
    refused(r"no setting train\.Run\.sede \(did you mean seed", "train", "--gin.Run.sede=1")
    refused(r"--gin\.BATCH_SIZE: this is no gin", "train", "--gin.BATCH_SIZE=")
    said = refused(r"SOURCE=en: text needs quotation marks", "train", "--gin.SOURCE=en")
    assert """--gin.SOURCE="'en'\"""" in said


PROCESSES = {
    ("--process_count=2",): "all three of --coordinator_address",
    ("--process_index=0",): "all three of --coordinator_address",
    ("--coordinator_address=a:1", "--process_count=2"): "all three of",
    ("--coordinator_address=a:1", "--process_count=0", "--process_index=0"): "at least 1, not 0",
    ("--coordinator_address=a:1", "--process_count=2", "--process_index=2"): "from 0 to 1, not 2",
    ("--coordinator_address=a", "--process_count=2", "--process_index=0"): "HOST:PORT, not 'a'",
}


@pytest.mark.parametrize("options", PROCESSES)
def test_processes_that_cannot_find_each_other_are_refused(refused, options):
    refused(PROCESSES[options], "train", *options)


def test_a_file_in_the_way_is_said(refused, command, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        assert cli.main(command("train", MODEL_DIR=str(path), TRAIN_STEPS=2)) == 2
        assert f"the folder {path} cannot be written" in one_line(capsys)


def test_a_checkpoint_must_be_of_the_vocabulary(earlier_run, refused):
    folder, _ = earlier_run
    file = folder / "checkpoint_5" / "run.json"
    about = json.loads(file.read_text()) | {
        "vocabulary": "0" * 64,
        "vocabulary_file": "other.model",
    }
    file.write_text(json.dumps(about))
    checksums.write(file.parent)
    pattern = r"checkpoint_5 was trained with another vocabulary \(other\.model\)"
    refused(pattern, INITIAL_CHECKPOINT_PATH=str(folder))
    refused(pattern, "eval", CHECKPOINT_PATH=str(folder))


@pytest.mark.slow
def test_a_checkpoint_must_fit_the_model(earlier_run, refused):
    folder, _ = earlier_run
    pattern = r"checkpoint_5 does not fit the model: .*is \(32, 48\), the model has \(32, 64\)"
    refused(pattern, INITIAL_CHECKPOINT_PATH=str(folder), MLP_DIM=64)
    refused(pattern, "eval", CHECKPOINT_PATH=str(folder), MLP_DIM=64)


def test_train_steps_include_the_checkpoint_s(earlier_run, refused):
    folder, _ = earlier_run
    origin = {"INITIAL_CHECKPOINT_PATH": str(folder)}
    line = refused(r"TRAIN_STEPS is 4, but the run starts at step 5", TRAIN_STEPS=4, **origin)
    assert "TRAIN_STEPS_RELATIVE" in line
    refused(r"TRAIN_STEPS", TRAIN_STEPS=None, TRAIN_STEPS_RELATIVE=-1, **origin)


EVALUATION_REFUSALS = {
    "no targets": ("eval", {"TARGETS": ()}, r"nothing to evaluate on: set TARGETS"),
    "no targets to infer": ("infer", {"TARGETS": ()}, r"set TARGETS"),
    "no checkpoint": ("eval", {"CHECKPOINT_PATH": ...}, r"CHECKPOINT_PATH"),
    "checkpoint missing": (
        "infer",
        {"CHECKPOINT_PATH": "/nowhere"},
        r"nowhere is not a checkpoint",
    ),
    "length 0": (
        "eval",
        {"TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 0}},
        r"TASK_FEATURE_LENGTHS\['targets'\] must be .*not 0",
    ),
    "batch size 0": ("eval", {"EVAL_BATCH_SIZE": 0}, r"(?i)eval_batch_size .*0"),
    "examples 0": (
        "eval",
        {"EVALUATOR_NUM_EXAMPLES": 0},
        r"EVALUATOR_NUM_EXAMPLES|eval_examples .*0",
    ),
    "mode unknown": (
        "infer",
        {"INFER_MODE": "guess"},
        r"INFER_MODE must be 'predict' or 'score', not 'guess'",
    ),
    "prediction unknown": ("eval", {"PREDICT_BY": "bean"}, r"unknown PREDICT_BY 'bean'"),
    "labels of a task without": (
        "eval",
        {"TASK": "xfer_pocket_ner", "PREDICT_BY": "labels"},
        r"xfer_pocket_ner\.en has no closed set of labels",
    ),
    "no metric": ("eval", {"TASK": "xfer_pocket_text"}, r"xfer_pocket_text"),
    "float16": ("eval", {"DTYPE": "float16"}, r"float16 is not supported"),
}


@pytest.mark.parametrize("case", EVALUATION_REFUSALS)
def test_wrong_evaluations_are_refused_before_anything_is_written(refused, earlier_run, case):
    name, macros, pattern = EVALUATION_REFUSALS[case]
    refused(pattern, name, **({"CHECKPOINT_PATH": str(earlier_run[0])} | macros))
