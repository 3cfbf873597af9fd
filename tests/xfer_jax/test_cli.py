"""The command line: quick help; one line for every wrong request, before anything is written."""

import json
import os
import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from seqio_tasks import catalogue, vocabulary
from seqio_tasks.errors import RequestError
from xfer_jax import configuration
from xfer_jax.checkpoints import checksums, locations, store
from xfer_jax.cli import main as cli
from xfer_jax.engine import run_folder, train
from xfer_jax.mt5 import model, optimizer


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "xfer_jax.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- Help and lists -------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["tasks", "--help"], ["train", "--help"]])
def test_help_answers_in_a_blink(arguments):
    seconds = []
    for _ in range(3):  # the best of three: other work on the machine is not the command's fault
        began = time.perf_counter()
        result = start(*arguments)
        seconds.append(time.perf_counter() - began)
        assert result.returncode == 0
        assert result.stdout.startswith("usage: xfer-jax")
        assert not result.stderr
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["tasks", "panx.sw"]])
def test_help_and_lists_import_neither_jax_nor_tensorflow(arguments):
    code = f"""
import sys
from xfer_jax.cli import main as cli
try:
    assert cli.main({arguments!r}) == 0
except SystemExit as error:
    assert error.code == 0
assert not {{"jax", "tensorflow", "seqio"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)


def test_tasks_lists_names_languages_and_where_the_data_comes_from(capsys):
    assert cli.main(["tasks", "panx.sw"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert re.match(r"xfer_panx\.sw +Swahili +train wikiann/sw:1\.0\.0/train ", out[0])
    assert "TFDS (set XFER_DATA_DIR to read files instead)" in out[1]


def test_tasks_are_listed_by_group(capsys):
    assert cli.main(["tasks", "--filter", "intermediate"]) == 0
    *listed, summary = capsys.readouterr().out.splitlines()
    families = [line for line in listed if line.startswith("xfer_intermediate.")]
    assert [line.split()[0] for line in families] == list(catalogue.intermediates())
    assert "xfer_intermediate.ner.uralic               xfer_panx: et fi hu" in families
    assert summary.startswith(f"{9 + len(families)} tasks; ")
    del listed[-len(families) :]
    names = ("squad", "squad2", "ccg", "qqp", "mnli", "anli")
    names += ("hellaswag", "cosmosqa", "commonsenseqa")
    assert [line.split()[0] for line in listed] == [f"xfer_{name}.en" for name in names]
    assert "train squad/v2.0:3.0.0/train (130,319)  validation" in listed[1]
    assert "train file ccg/train.tsv  validation file ccg/dev.tsv" in listed[2]
    assert "validation anli/r1:0.1.0/validation+anli/r2:0.1.0/validation+" in listed[5]
    assert cli.main(["tasks", "xquad", "--filter", "xtreme_r"]) == 0
    listed = capsys.readouterr().out.splitlines()[:-1]
    assert len(listed) == 12
    assert listed[0].endswith(" test xquad/ar:3.0.0/test (1,190)")
    assert cli.main(["tasks", "tatoeba", "--filter", "xtreme_r"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith("tatoeba                retrieval, 41 languages: ")
    assert cli.main(["tasks", "qqp", "--filter", "xtreme_r"]) == 2
    assert "no task's name of xtreme_r contains 'qqp'" in one_line(capsys)


def test_tasks_counts_the_examples_of_all_parts(capsys, monkeypatch, tmp_path):
    for number in (1, 2, 3):
        path = tmp_path / "anli" / f"R{number}" / "dev.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text('{"context": "a", "hypothesis": "b", "label": "e"}\n' * number)
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    assert cli.main(["tasks", "anli", "--sizes"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.split("  ")[-3:-1] == ["train -", "validation 6"]


def test_tasks_counts_the_examples_of_a_data_folder(capsys, monkeypatch, tmp_path):
    (tmp_path / "panx").mkdir()
    (tmp_path / "panx" / "train-sw.tsv").write_text("Rick\tB-PER\n\nanaishi\tO\n")
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    assert cli.main(["tasks", "panx.sw", "--sizes"]) == 0
    line, summary = capsys.readouterr().out.splitlines()
    assert line.split()[2:] == ["train", "2", "validation", "-", "test", "-"]
    assert str(tmp_path) in summary


def test_tasks_of_an_unknown_name_are_an_error(capsys):
    assert cli.main(["tasks", "klingon"]) == 2
    assert "'klingon'" in one_line(capsys)


def test_vocab_trains_a_vocabulary_with_sentinels(capsys, tmp_path, monkeypatch):
    (tmp_path / "panx").mkdir()
    words = ["Rick\tB-PER", "anaishi\tO", "Paris\tB-LOC", "na\tO", "Morty\tB-PER", "mjini\tO"]
    text = "".join(f"{a}\n{b}\n{c}\n\n" for a in words for b in words for c in words)
    (tmp_path / "panx" / "train-sw.tsv").write_text(text)
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    out = tmp_path / "made" / "sw.model"
    arguments = ["vocab", "--tasks=xfer_panx.sw", "--size=130", f"--out={out}"]
    assert cli.main(arguments) == 0
    assert f"wrote {out}: 130 pieces from 1 tasks" in capsys.readouterr().out
    loaded = vocabulary.load(str(out))
    assert loaded.size == 130
    assert loaded.decode(loaded.encode("tag: Rick na Morty")) == "tag: Rick na Morty"
    assert loaded.encode("<extra_id_0>")[-1] == loaded.sentinel(0) == 129

    assert cli.main([*arguments[:2], "--size=100000", f"--out={tmp_path / 'large.model'}"]) == 2
    assert "100000 pieces cannot be trained" in one_line(capsys)
    assert not (tmp_path / "large.model").exists()
    assert cli.main([*arguments, "--languages=sw,fi"]) == 2
    assert "have no language fi" in one_line(capsys)


# --- Shipped gin files ----------------------------------------------------------------------------

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
    assert scored.split in family.splits


@pytest.mark.parametrize("task", TASK_FILES)
def test_a_task_s_file_names_tasks_and_splits_that_there_are(task):
    bindings = ["MODEL_DIR = 'out'", "VOCAB_SIZE = 512", "SOURCE = 'en'"]
    configuration.load("train", ["gin/models/pocket.gin", f"gin/tasks/{task}"], bindings)
    run = configuration.build(train.Run)
    taught, scored = run.training_data, run.eval_data
    assert all(taught.split in task.family.splits for task in catalogue.tasks(taught.task))
    assert all(scored.split in catalogue.task(name).family.splits for name in scored.tasks)


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


def test_later_settings_win(tmp_path):
    first, second = tmp_path / "a.gin", tmp_path / "b.gin"
    first.write_text("BATCH_SIZE = 3\nEMB_DIM = 48\n")
    second.write_text("BATCH_SIZE = 4\n")
    bindings = [*REQUIRED, "EMB_DIM = 56"]
    text = configuration.load("train", [str(first), "b.gin"], bindings, [str(tmp_path)])
    assert "BATCH_SIZE = 4" in text
    assert "EMB_DIM = 56" in text


def test_the_configuration_s_text_does_not_depend_on_the_order_of_settings():
    settings = [*REQUIRED, "BATCH_SIZE = 3", "EMB_DIM = 48"]
    a, b = (configuration.load("train", [], order) for order in (settings, settings[::-1]))
    assert a == b


# --- Wrong requests -------------------------------------------------------------------------------


def one_line(capsys) -> str:
    """Returns the one line on standard error."""
    err = capsys.readouterr().err
    assert err.startswith("xfer-jax: "), err
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


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
        r"/nowhere/c is no checkpoint",
    ),
    "float16": ({"DTYPE": "float16"}, r"float16 is refused.* overflow"),
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


def test_a_wrong_argument_exits_with_2(capsys):
    for arguments in (["fly"], [], ["train", "--batch_size=3"], ["vocab"]):
        with pytest.raises(SystemExit) as error:
            cli.main(arguments)
        assert error.value.code == 2
        assert capsys.readouterr().err.startswith("usage: ")


def test_debug_shows_the_traceback_too(command, capsys, tmp_path):
    macros = {"MODEL_DIR": str(tmp_path / "out"), "TRAIN_STEPS": 2}
    assert cli.main([*command("train", **macros, SOURCE="xx"), "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("xfer-jax: unknown task")


def test_a_real_process_says_one_line_too(command, tmp_path):
    out = tmp_path / "out"
    result = start(*command("train", MODEL_DIR=str(out), TRAIN_STEPS=2, SOURCE="xx"))
    assert result.returncode == 2
    assert re.fullmatch(r"xfer-jax: unknown task 'xfer_pocket_nli\.xx'.*\n", result.stderr)
    assert not out.exists()


# --- Checkpoints and folders of other runs --------------------------------------------------------


@pytest.fixture
def earlier_run(command, tmp_path, tiny_world):
    """A run's folder as training leaves it at step 5, and the macros that it was made with."""
    folder = tmp_path / "earlier"
    macros = {"MODEL_DIR": str(folder), "TRAIN_STEPS": 8}
    _, file, *bindings = command("train", **macros)
    text = configuration.load(
        "train",
        [file.removeprefix("--gin_file=")],
        [binding.removeprefix("--gin.") for binding in bindings],
    )
    run_folder.claim(folder, text, {})
    request = configuration.build(train.Run)
    params = jax.tree.map(lambda x: jnp.ones(x.shape), model.parameter_shapes(request.model))
    tree = store.to_tree(params, optimizer.init(params), 5)
    task = request.training_data.task
    about = {"first_step": 0, "task": task, "vocabulary_file": tiny_world.name}
    store.save(folder, tree, about | {"vocabulary": tiny_world.digest})
    return folder, macros


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_another_run_is_left_alone_and_the_difference_shown(
    earlier_run, command, capsys
):
    folder, macros = earlier_run
    before = contents(folder)
    assert cli.main(command("train", **macros, LEARNING_RATE=0.5)) == 2
    line = one_line(capsys)
    assert f"{folder} contains the results of a run with other settings" in line
    assert "was LEARNING_RATE = 0.001" in line
    assert "now LEARNING_RATE = 0.5" in line
    assert contents(folder) == before


def test_of_another_model_s_run_the_configuration_is_shown(earlier_run, command, capsys):
    folder, macros = earlier_run
    before = contents(folder)
    assert cli.main(command("train", **macros, EMB_DIM=16)) == 2
    assert "now EMB_DIM = 16" in one_line(capsys)
    assert contents(folder) == before


def test_checkpoints_of_unknown_origin_are_left_alone(earlier_run, command, capsys):
    folder, macros = earlier_run
    (folder / "config.gin").unlink()
    (folder / "checkpoint_5" / "run.json").unlink()  # as T5X leaves it
    before = contents(folder)
    assert cli.main(command("train", **macros)) == 2
    assert "contains checkpoints but no config.gin" in one_line(capsys)
    assert contents(folder) == before


def test_a_run_does_not_go_on_with_other_data(earlier_run, command, capsys):
    folder, macros = earlier_run
    file = folder / "checkpoint_5" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data": ["what_it_was"]}))
    checksums.write(file.parent)
    before = contents(folder)
    assert cli.main(command("train", **macros)) == 2
    assert "the data of xfer_pocket_nli.en have changed" in one_line(capsys)
    assert contents(folder) == before


def test_a_run_that_was_moved_or_is_linked_goes_on(
    earlier_run, command, tmp_path, monkeypatch, capsys
):
    folder, macros = earlier_run
    (tmp_path / "é" / "b").mkdir(parents=True)
    folder.rename(tmp_path / "é" / "b" / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "é" / "b")
    monkeypatch.chdir(tmp_path / "é")
    for written, steps in (("../é/b/moved/", "5 to 8"), ("../link/moved", "8 to 8")):
        assert cli.main(command("train", **macros | {"MODEL_DIR": written})) == 0
        assert f"steps {steps}" in capsys.readouterr().out
    assert locations.steps(tmp_path / "link" / "moved") == [8]  # KEEP_CHECKPOINTS


def test_a_folder_is_of_its_inputs_wherever_they_are(tmp_path):
    folder = tmp_path / "run"
    run_folder.claim(
        folder, "A = 1\nMODEL_DIR = \\\n    'x'\n", {"vocabulary": "1", "checkpoint": "2"}
    )
    run_folder.check(folder, "A = 2\n")  # there are no results yet
    run_folder.check_inputs(folder, {"vocabulary": "3"})
    (folder / "scores.csv").write_text("")
    run_folder.check(folder, "A = 1\nMODEL_DIR = 'y'\nVOCAB_FILE = 'z'\n")
    run_folder.check_inputs(folder, {"vocabulary": "1", "checkpoint": "2", "new": "4"})
    with pytest.raises(RequestError, match=r"other settings .was A = 1; now A = 2."):
        run_folder.check(folder, "A = 2\n")
    with pytest.raises(RequestError, match=r"results of another checkpoint: it has changed since"):
        run_folder.check_inputs(folder, {"vocabulary": "1", "checkpoint": "3"})
    (folder / "inputs.json").write_text("[]")
    with pytest.raises(RequestError, match=r"inputs\.json is damaged"):
        run_folder.check_inputs(folder, {})


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
    "checkpoint missing": ("infer", {"CHECKPOINT_PATH": "/nowhere"}, r"/nowhere is no checkpoint"),
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
    "float16": ("eval", {"DTYPE": "float16"}, r"float16 is refused"),
}


@pytest.mark.parametrize("case", EVALUATION_REFUSALS)
def test_wrong_evaluations_are_refused_before_anything_is_written(refused, earlier_run, case):
    name, macros, pattern = EVALUATION_REFUSALS[case]
    refused(pattern, name, **({"CHECKPOINT_PATH": str(earlier_run[0])} | macros))
