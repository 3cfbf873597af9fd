"""T5X's own commands on this project's gin files: the same experiments, checkpoints and results.

The first half needs no T5X. The second runs `python -m t5x.train`, `eval` and `infer`, unmodified,
once for the module, and the native engine beside them.
"""

import concurrent.futures
import importlib.util
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import gin
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from gin import config_parser

from seqio_tasks import metrics, miniature, registry, sentencepiece_model
from seqio_tasks.errors import RequestError
from tests.support.checkpoints import arrays
from tests.support.command_line import run as run_here
from tests.support.files import jsonl, read_rows
from xfer_jax import configuration, t5x_bindings
from xfer_jax.checkpoints import locations, store
from xfer_jax.engine import prediction
from xfer_jax.mt5 import model
from xfer_jax.results import probe_table

# The checkpoints are read back here on the devices that wrote them.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

SHIPPED = configuration.shipped_dir()
FILES = sorted(path.relative_to(SHIPPED) for path in (SHIPPED / "t5x_configs").glob("*.gin"))


class Names(config_parser.ParserDelegate):
    """Has gin's parser keep references as text, so that nothing has to be imported."""

    def configurable_reference(self, scoped_name, evaluate):
        return f"@{scoped_name}{'()' if evaluate else ''}"

    def macro(self, name):
        return f"%{name}"


def statements(*files: str) -> list:
    return [
        statement
        for file in files
        for statement in config_parser.ConfigParser((SHIPPED / file).read_text(), Names())
    ]


def macros(*files: str) -> dict:
    """Returns the macros that gin files declare, with their values."""
    return {
        s.selector: s.value
        for s in statements(*files)
        if isinstance(s, config_parser.BindingStatement) and not s.arg_name
    }


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_files_are_gin_and_include_what_there_is(file):
    includes = [
        s.filename for s in statements(file) if isinstance(s, config_parser.IncludeStatement)
    ]
    assert all((SHIPPED / name).is_file() for name in includes)
    assert (str(file) == "t5x_configs/common.gin") == (not includes and "native" not in str(file))


@pytest.mark.parametrize(
    ("ours", "native"),
    [
        (("common", "finetune"), ("common", "train")),
        (("common", "eval"), ("common", "eval")),
        (("common", "infer"), ("common", "infer")),
    ],
)
def test_every_macro_of_the_native_engine_has_the_same_default(ours, native):
    found = macros(*(f"t5x_configs/{name}.gin" for name in ours))
    expected = macros(*(f"gin/runs/{name}.gin" for name in native))
    assert {name: found.get(name) for name in expected} == expected


def test_a_misspelt_or_missing_macro_and_another_vocabulary_are_refused(tiny_world):
    def check(rows: int, *bindings: str) -> object:
        gin.parse_config(["data_config.configured.vocabulary_file = 'pocket'", *bindings])
        network = types.SimpleNamespace(config=types.SimpleNamespace(vocab_size=rows))
        made = types.SimpleNamespace(module=network)
        assert t5x_bindings.checked(made) is made
        return made

    rows = sentencepiece_model.rows(tiny_world)
    made = types.SimpleNamespace(module=types.SimpleNamespace(config=None))
    with pytest.raises(RequestError, match="REMAT is known to xfer-jax's network alone"):
        t5x_bindings.checked(made, remat=True)
    with pytest.raises(RequestError, match="MIXING_TEMPERATURE is known to xfer-jax alone"):
        t5x_bindings.training_task("xfer_panx.sw", "train", {}, "trim", 2.0)
    check(rows, "KEEP_CHECKPOINTS = 3", "TRAIN_STEPS = 3")  # T5X's own, and both engines'
    check(rows, "MINE = 3", "catalogue.evaluation_examples.count = %MINE")
    with pytest.raises(RequestError, match=rf"needs VOCAB_SIZE {rows}; the model has 1024 rows"):
        check(1024)
    with pytest.raises(RequestError, match=r"unknown macro TRAIN_STEPPS \(did you mean TRAIN_STEP"):
        check(rows, "TRAIN_STEPPS = 3")
    gin.clear_config()
    with pytest.raises(RequestError, match=r"SOURCE must be set"):
        check(rows, "SOURCE = %gin.REQUIRED")


def test_predict_by_chooses_the_search():
    greedy, beam, labels = map(prediction.Method, ("greedy", "beam", "labels"))
    assert t5x_bindings.by_method(greedy, 1, 2) == 1
    assert t5x_bindings.by_method(beam, 1, 2) == 2
    with pytest.raises(RequestError, match="'labels' is known to xfer-jax alone"):
        t5x_bindings.by_method(labels, 1, 2)


def test_folders_are_whole_paths(monkeypatch, tmp_path):
    """Orbax, and so T5X, saves under no other, and says so after the last step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/morty")
    assert t5x_bindings.folder("out/run") == f"{tmp_path}/out/run"
    assert t5x_bindings.folder("~/run") == "/home/morty/run"
    for path in ("/out/run", "gs://bucket/run"):
        assert t5x_bindings.folder(path) == path


def test_periods_suit_t5x():
    """It wants the larger of two to be a multiple of the smaller, and acts at the last step."""
    for save in (None, 1, 7, 200):
        for evaluate in (None, 1, 7, 200):
            found = (t5x_bindings.period(save, evaluate), t5x_bindings.period(evaluate, save))
            for wanted, period in zip((save, evaluate), found, strict=True):
                assert period == wanted if wanted else period > 10**8
            if not (save and evaluate):
                assert max(found) % min(found) == 0


@pytest.mark.slow
def test_the_last_step_counts_from_the_initial_checkpoint(tiny_world, t5x_config, tmp_path):
    gin.parse_config("data_config.configured.vocabulary_file = 'pocket'")
    tree = {"target": model.initialise(t5x_config, 0), "state": {"step": np.int32(1_000_000)}}
    store.save(tmp_path, tree, {})
    initial = t5x_bindings.checkpoint(str(tmp_path))
    assert initial == str(tmp_path / "checkpoint_1000000")
    assert t5x_bindings.last_step(initial, None, 400) == 1_000_400
    assert t5x_bindings.last_step(initial, 1_000_008, None) == 1_000_008
    assert t5x_bindings.last_step(initial, 7, 400) == 1_000_400  # as in both engines
    assert t5x_bindings.checkpoint(None) is None
    assert t5x_bindings.last_step(None, None, 400) == 400
    with pytest.raises(RequestError, match="set TRAIN_STEPS or TRAIN_STEPS_RELATIVE"):
        t5x_bindings.last_step(initial, None, None)


def test_checkpoints_that_do_not_do_are_refused(tiny_world, tmp_path):
    gin.parse_config("data_config.configured.vocabulary_file = 'pocket'")
    with pytest.raises(RequestError, match="is not a checkpoint"):
        t5x_bindings.checkpoint(str(tmp_path))
    other = tmp_path / "checkpoint_3"
    (other / "state").mkdir(parents=True)
    about = {"vocabulary": "0" * 64, "vocabulary_file": "/other.model"}
    (other / "run.json").write_text(json.dumps(about))
    with pytest.raises(RequestError, match=r"another vocabulary \(/other\.model\)"):
        t5x_bindings.checkpoint(str(other))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text(json.dumps({"model_type": "mt5"}))
    (tmp_path / "hf" / "model.safetensors").touch()
    with pytest.raises(RequestError, match="xfer-jax convert --from hf --to t5x"):
        t5x_bindings.checkpoint(str(tmp_path / "hf"))


def test_what_to_train_on_is_registered_and_looked_through(tiny_world, caplog):
    gin.parse_config("data_config.configured.vocabulary_file = 'pocket'")
    lengths = {"inputs": 24, "targets": 3}
    name = "xfer_pocket_ner.sw.n8.s3"
    with pytest.raises(RequestError, match=r"\d of 8 targets are longer than the 3 tokens"):
        t5x_bindings.training_task(name, "train", lengths, "error")
    with caplog.at_level("INFO"):
        assert t5x_bindings.training_task(name, "train", lengths, "trim") == name
    assert re.search(
        r"n8\.s3: 8 examples, \d inputs .* 24 tokens, \d targets .*\(trim\)", caplog.text
    )
    assert registry.get(name).name == name
    text = {"inputs": 24, "targets": 12}
    assert t5x_bindings.training_task("xfer_pocket_text.all_langs", "train", text, "error")
    with pytest.raises(RequestError, match="did you mean"):
        t5x_bindings.training_task("xfer_pocket_ner.sx", "train", lengths, "trim")


def test_what_to_evaluate_on_is_looked_through(tiny_world):
    gin.parse_config("data_config.configured.vocabulary_file = 'pocket'")
    lengths = {"inputs": 24, "targets": 12}

    def evaluation(*tasks: str, split: str = "validation", lengths=lengths, mode=None):
        return t5x_bindings.evaluation(tasks, split, lengths, dict, mode)

    assert evaluation() is None
    found = evaluation("xfer_pocket_nli.en", "xfer_pocket_nli.sw")
    mixture = found.pop("mixture_or_task_name")
    assert found == {"split": "validation", "task_feature_lengths": lengths}
    tasks = {task.name for task in registry.seqio.MixtureRegistry.get(mixture).tasks}
    assert tasks == {"xfer_pocket_nli.en", "xfer_pocket_nli.sw"}
    with pytest.raises(RequestError, match="set TARGETS"):
        evaluation(mode="predict")
    with pytest.raises(RequestError, match=r"xfer_tydiqa\.sw has no split 'test'"):
        evaluation("xfer_tydiqa.sw", split="test")
    for mode in (None, "score"):
        with pytest.raises(RequestError, match="text without targets"):
            evaluation("xfer_pocket_text.sw", mode=mode)
    assert evaluation("xfer_probe.pocket_text.sw", mode="score")
    with pytest.raises(RequestError, match="text without targets"):
        evaluation("xfer_probe.pocket_text.sw")  # T5X's eval would find no metric
    cut = {"inputs": 24, "targets": 3}
    assert evaluation("xfer_pocket_ner.sw", lengths=cut, mode="predict")
    with pytest.raises(RequestError, match="are longer than the 3 tokens"):
        evaluation("xfer_pocket_ner.sw", lengths=cut, mode="score")


@pytest.mark.slow
def test_the_network_decodes_step_by_step_in_the_cache_of_t5x(t5x, t5x_config):
    """One token after another as T5X asks for them gives T5X's own logits of the whole."""
    network, batch = t5x_bindings.Network(t5x_config), t5x.batch("unpacked")
    variables = {"params": t5x.params}
    inputs = batch["encoder_input_tokens"]
    encoded = network.apply(variables, inputs, method="encode")
    _, made = network.apply(
        variables,
        encoder_input_tokens=np.ones_like(inputs),
        decoder_input_tokens=np.ones_like(batch["decoder_input_tokens"]),
        decoder_target_tokens=np.ones_like(batch["decoder_input_tokens"]),
        mutable=["cache"],
        decode=True,
        enable_dropout=False,
    )
    cache = made["cache"]
    expected = t5x.reference["unpacked/logits"]
    for position in range(expected.shape[1]):
        token = batch["decoder_input_tokens"][:, position : position + 1]
        logits, made = network.apply(
            {**variables, "cache": cache},
            encoded,
            inputs,
            token,
            token,
            enable_dropout=False,
            decode=True,
            max_decode_length=expected.shape[1],
            mutable=["cache"],
            method="decode",
        )
        cache = made["cache"]
        # Where a target is padding T5X's teacher-forced pass attends to nothing.
        there = batch["decoder_target_tokens"][:, position] > 0
        # float32 rounding: the fixtures' own tolerance for logits
        np.testing.assert_allclose(logits[there, 0], expected[there, position], rtol=0, atol=5e-5)
    assert int(cache["cache_index"]) == expected.shape[1]


needs_t5x = pytest.mark.skipif(
    importlib.util.find_spec("t5x") is None,
    reason="T5X is not installed: setup.py says how, beside the extra t5x",
)
TASKS = ("xfer_pocket_ner.en", "xfer_pocket_ner.sw")
LENGTHS = {"inputs": 24, "targets": 12}
# A few targets of the tiny world are longer; a score of a cut one would be refused.
WHOLE = {"inputs": 24, "targets": 40}
PROBED = {"PROBE_FEATURE_LENGTHS": LENGTHS, "EVALUATOR_NUM_EXAMPLES": 30}
NER = {"TASK": "xfer_pocket_ner", "TASK_FEATURE_LENGTHS": LENGTHS, "LONG_TARGETS": "drop"}
PRETRAINED_STEPS, STEPS = 30, 12


class T5XCommands:
    """Runs T5X's commands, two at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._pool = concurrent.futures.ThreadPoolExecutor(2)
        self._started: dict[str, concurrent.futures.Future] = {}

    def start(self, name: str, command: str, *files: str | Path, **macros) -> None:
        """Starts `python -m t5x.<command>`, later if two are running."""
        arguments = [f"--gin_file={file}" for file in files]
        arguments += [f"--gin.{macro}={value!r}" for macro, value in macros.items()]
        self._started[name] = self._pool.submit(
            subprocess.run,
            [sys.executable, "-m", f"t5x.{command}", *arguments],
            cwd=SHIPPED,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def printed(self, name: str) -> str:
        """Waits for a command and returns what it printed."""
        result = self._started[name].result()
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout


def native(*arguments: str) -> None:
    """Runs the native engine's command line here."""
    code, _, err = run_here(list(arguments))
    gin.clear_config()
    assert code == 0, err


def losses(printed: str) -> list[tuple[int, float]]:
    """Reads (step, loss a target token) from what T5X's train prints."""
    found = re.findall(
        r"\[(\d+)\] collection=train accuracy.* loss=([\d.]+)",
        printed,
    )
    return [(int(step), float(loss)) for step, loss in found]


@pytest.fixture(scope="module")
def pretrained(command, tmp_path_factory) -> Path:
    """The folder of a model that the native engine pre-trained."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    text = {"TASK": "xfer_pocket_text", "SOURCE": "all_langs", "TARGETS": ()}
    steps = {"TRAIN_STEPS": PRETRAINED_STEPS, "LEARNING_RATE": 0.02, "BATCH_SIZE": 16}
    native(*command("train", **text, **steps, TASK_FEATURE_LENGTHS=LENGTHS, MODEL_DIR=str(folder)))
    return folder


@pytest.fixture(scope="module")
def ran(pretrained, tiny_gin, tmp_path_factory) -> T5XCommands:
    """All of T5X's commands; what they leave is in the folder, one a name."""
    commands = T5XCommands(tmp_path_factory.mktemp("t5x"))
    folder = commands.folder
    # T5X's network from the native checkpoint, ours from the same in the form of the public ones.
    legacy = folder / "legacy" / f"checkpoint_{PRETRAINED_STEPS}"
    native("convert", "--to=t5x-legacy", str(pretrained), str(legacy))
    for name, origin, files in (
        ("finetuned", pretrained, ()),
        ("own_network", legacy, ("t5x_configs/native_network.gin",)),
    ):
        commands.start(
            name,
            "train",
            *("t5x_configs/finetune.gin", *files, tiny_gin),
            **NER,
            MODEL_DIR=str(folder / name),
            INITIAL_CHECKPOINT_PATH=str(origin),
            TRAIN_STEPS_RELATIVE=STEPS,
            BATCH_SIZE=16,
            SAVE_PERIOD=8,
            KEEP_CHECKPOINTS=None,
            EVAL_PERIOD=8,
            LOG_PERIOD=1,
            DROPOUT_RATE=0.0,
            LEARNING_RATE=0.02,
        )
    commands.printed("finetuned")
    trained = NER | {"CHECKPOINT_PATH": str(folder / "finetuned")}
    commands.start(
        "eval",
        "eval",
        *("t5x_configs/eval.gin", tiny_gin),
        **trained,
        EVAL_OUTPUT_DIR=str(folder / "eval"),
    )
    for name, files, macros in (
        (
            "beam",
            ("t5x_configs/infer.gin", "t5x_configs/native_network.gin"),
            {"PREDICT_BY": "beam", "NUM_BEAMS": 3, "EVALUATOR_NUM_EXAMPLES": 7},
        ),
        (
            "score",
            ("t5x_configs/infer.gin",),
            {"INFER_MODE": "score", "TASK_FEATURE_LENGTHS": WHOLE},
        ),
        ("probe", ("t5x_configs/probe.gin",), {"INFER_MODE": "score", **PROBED}),
        ("probe_spans", ("t5x_configs/probe.gin",), {"INFER_MODE": "predict", **PROBED}),
    ):
        output = {"INFER_OUTPUT_DIR": str(folder / name.removesuffix("_spans"))}
        commands.start(name, "infer", *files, tiny_gin, **trained | macros | output)
    commands.start(  # the tiny world, then the pocket model and text of the file
        "pretrain_pocket",
        "train",
        *("t5x_configs/finetune.gin", tiny_gin, "t5x_configs/pretrain_pocket.gin"),
        MODEL_DIR=str(folder / "pretrain_pocket"),
        BATCH_SIZE=8,
        TRAIN_STEPS=24,
        SAVE_PERIOD=8,
        LOG_PERIOD=8,
        KEEP_CHECKPOINTS=2,
    )
    return commands


@pytest.mark.slow
@needs_t5x
def test_t5x_starts_from_a_native_checkpoint_with_its_moments(ran, pretrained):
    first = f"checkpoint_{PRETRAINED_STEPS}"
    expected = arrays(pretrained / first)
    moments = [array for name, array in expected.items() if name.startswith("state/param_states")]
    assert sum(array.any() for array in moments) > 20
    for run in ("finetuned", "own_network"):  # from the native form, and from T5X's older one
        printed = ran.printed(run)
        assert re.search(
            r"xfer_pocket_ner\.en: \d+ examples, .* [1-9]\d* targets .*\(drop\)", printed
        )
        last = PRETRAINED_STEPS + STEPS
        assert locations.steps(ran.folder / run) == [PRETRAINED_STEPS, PRETRAINED_STEPS + 8, last]
        found = arrays(ran.folder / run / first)  # T5X saves what it starts from
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.slow
@needs_t5x
def test_our_network_trains_in_t5x_as_t5x_s_own(ran):
    expected, found = (losses(ran.printed(run)) for run in ("finetuned", "own_network"))
    steps = [step for step, _ in expected]
    assert steps == list(range(PRETRAINED_STEPS + 1, PRETRAINED_STEPS + STEPS + 1))
    assert expected[-1][1] < 0.9 * expected[0][1]
    # float32 rounding of two programs, after steps that each multiply it
    assert found == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in expected]
    for task in TASKS:
        for step in (PRETRAINED_STEPS + 8, PRETRAINED_STEPS + STEPS):
            name = f"inference_eval/{task}-{step:06d}.jsonl"
            texts = [
                [line["prediction"] for line in jsonl(ran.folder / run / name)]
                for run in ("finetuned", "own_network")
            ]
            assert texts[0] == texts[1]
            assert len(texts[0]) == 20


@pytest.mark.slow
@needs_t5x
def test_both_engines_predict_the_same_from_t5x_s_checkpoint(ran, command, tmp_path):
    checkpoint = {"CHECKPOINT_PATH": str(ran.folder / "finetuned")}
    native(*command("eval", **NER, **checkpoint, EVAL_OUTPUT_DIR=str(tmp_path)))
    ran.printed("eval")
    last = PRETRAINED_STEPS + STEPS
    different = set()
    for task in TASKS:
        # T5X's eval, and the evaluation at the end of its train
        for run in ("eval", "finetuned"):
            written = ran.folder / run / "inference_eval"
            lines = jsonl(written / f"{task}-{last:06d}.jsonl")
            ours = jsonl(tmp_path / "inference_eval" / f"{task}-{last:06d}.jsonl")
            assert [line["prediction"] for line in lines] == [line["prediction"] for line in ours]
            assert [line["target"] for line in lines] == [line["target"] for line in ours]
            for line, same in zip(lines, ours, strict=True):
                assert set(line) == set(same)
                for text in ("inputs_pretokenized", "targets_pretokenized", "inputs"):
                    assert line["input"][text] == same["input"][text]
            # what T5X wrote is enough to compute every metric anew
            scores = jsonl(written / f"{task}-metrics.jsonl")[-1]
            assert scores.pop("step") == last
            expected = jsonl(tmp_path / "inference_eval" / f"{task}-metrics.jsonl")[-1]
            again = metrics.span_f1(*([x[key] for x in lines] for key in ("target", "prediction")))
            assert scores == pytest.approx(again) == {name: expected[name] for name in scores}
            different |= {line["prediction"] for line in lines}
    assert len(different) > 1  # else there would be little to compare


@pytest.mark.slow
@needs_t5x
def test_both_engines_search_alike(ran, command, tmp_path):
    """T5X's beam search, in it this project's network, and this project's own."""
    macros = {"PREDICT_BY": "beam", "NUM_BEAMS": 3, "EVALUATOR_NUM_EXAMPLES": 7}
    folders = {"CHECKPOINT_PATH": str(ran.folder / "finetuned"), "INFER_OUTPUT_DIR": str(tmp_path)}
    native(*command("infer", **NER, **macros, **folders))
    ran.printed("beam")
    for task in TASKS:
        name = f"{task}-predict.jsonl-00000-of-00001"
        lines = jsonl(ran.folder / "beam" / name)
        assert lines == jsonl(tmp_path / name)
        assert len(lines) == 7
        assert (ran.folder / "beam" / f"{name}.COMPLETED").is_file()


@pytest.mark.slow
@needs_t5x
def test_both_engines_score_alike(ran, command, tmp_path):
    whole = NER | {"TASK_FEATURE_LENGTHS": WHOLE, "INFER_MODE": "score"}
    folders = {"CHECKPOINT_PATH": str(ran.folder / "finetuned"), "INFER_OUTPUT_DIR": str(tmp_path)}
    native(*command("infer", **whole, **folders))
    ran.printed("score")
    for task in TASKS:
        name = f"{task}-score.jsonl-00000-of-00001"
        lines, ours = jsonl(ran.folder / "score" / name), jsonl(tmp_path / name)
        assert [line["inputs"] for line in lines] == [line["inputs"] for line in ours]
        scores = [[line["score"] for line in run] for run in (lines, ours)]
        # float32 sums of some twenty log-probabilities
        np.testing.assert_allclose(*scores, rtol=0, atol=1e-4)
        assert len(set(scores[0])) > 10


@pytest.mark.slow
@needs_t5x
def test_a_probe_gives_the_same_table_under_both_engines(ran, command, tiny_world, tmp_path):
    for run in ("probe", "probe_spans"):
        ran.printed(run)
    folders = {
        "CHECKPOINT_PATH": str(ran.folder / "finetuned"),
        "PROBE_OUTPUT_DIR": str(tmp_path),
    }
    native(*command("probe", **NER | PROBED | folders))
    native("probe", "--outputs", str(ran.folder / "probe"))
    ours, theirs = (
        probe_table.collect(folder).set_index(["task", "language"])
        for folder in (tmp_path, ran.folder / "probe")
    )
    assert list(ours.index) == [("xfer_pocket_ner", code) for code in ("en", "sw")]
    assert list(theirs.index) == list(ours.index)
    for name in ("n_examples", "n_spans", "n_tokens", "n_bytes", "lm_em", "lm_em_examples"):
        assert ours[name].to_list() == theirs[name].to_list()
    for name in ("lm_loss", "bits_per_byte", "lm_loss_low", "lm_loss_high"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-4)
    assert (ours["lm_loss"] < np.log(sentencepiece_model.rows(tiny_world))).all()
    assert (ours["n_spans"] > 5).all()


@pytest.mark.slow
@needs_t5x
def test_t5x_pretrains_the_pocket_model_by_span_corruption(ran):
    (_, first), _, (step, last) = losses(ran.printed("pretrain_pocket"))
    assert step == 24
    assert last < 0.9 * first
    assert locations.steps(ran.folder / "pretrain_pocket") == [16, 24]  # KEEP_CHECKPOINTS


@pytest.mark.slow
@needs_t5x
def test_the_native_engine_goes_on_from_t5x_s_checkpoint(ran, command, tmp_path):
    last = PRETRAINED_STEPS + STEPS
    macros = {"INITIAL_CHECKPOINT_PATH": str(ran.folder / "finetuned"), "TARGETS": ()}
    steps = {"TRAIN_STEPS_RELATIVE": 1, "DROPOUT_RATE": 0.0, "BATCH_SIZE": 16}
    native(*command("train", **NER, **macros, **steps, MODEL_DIR=str(tmp_path / "run")))
    assert locations.steps(tmp_path / "run") == [last + 1]
    before = arrays(ran.folder / "finetuned" / f"checkpoint_{last}")
    after = arrays(tmp_path / "run" / f"checkpoint_{last + 1}")
    assert set(after) == set(before)
    assert after["state/step"] == before["state/step"] + 1
    # Adafactor's decay of this step: the moments keep that share of what T5X left them.
    keeps = 1 - (last + 1) ** -0.8
    for name, slot in before.items():
        if name.startswith("state/param_states") and slot.any():
            assert (after[name] >= 0.999 * keeps * slot).all(), name
            assert (after[name] != slot).any(), name


LOOK = """
import __main__, json, pathlib, sys
import gin, jax
from flax.core import unfreeze
from flax.linen import partitioning
from flax.traverse_util import flatten_dict
from t5x import models, train, utils
__main__.train = train.train

root, tiny, *sizes = sys.argv[1:]
gin.add_config_file_search_path(root)

def parse(files, *bindings):
    gin.clear_config()
    tasks = [str(path) for path in pathlib.Path(root).glob("gin/tasks/*.gin")]  # all go through
    files = ["t5x_configs/finetune.gin", *tasks, *files]
    gin.parse_config_files_and_bindings(files, bindings, finalize_config=False)

def parameters(size):
    parse([f"gin/models/{size}.gin"], "VOCAB_SIZE = 250112")
    model = gin.get_configurable(models.EncoderDecoderModel)()
    tokens = {f"{side}_tokens": (1, 1) for side in ("encoder_input", "decoder_input")}
    rng = jax.random.PRNGKey(0)
    variables = unfreeze(jax.eval_shape(lambda: model.get_initial_variables(rng, tokens)))
    axes = flatten_dict(partitioning.get_axis_names(variables["params_axes"]), sep="/")
    return {
        path: [leaf.shape, str(leaf.dtype), tuple(axes[path])]
        for path, leaf in flatten_dict(variables["params"], sep="/").items()
    }

def examples(long_targets):
    lengths = "TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 12}"
    # XQuAD's file and others say that something else is trained on
    taught = "train/catalogue.name.task = %TASK"
    task = ["TASK = 'xfer_pocket_ner'", taught, lengths, f"LONG_TARGETS = {long_targets!r}"]
    parse([tiny], *task, "BATCH_SIZE = 1")
    with gin.config_scope("train"):
        config = gin.get_configurable(utils.DatasetConfig)()
    get_dataset = gin.query_parameter("train.get_dataset_fn").scoped_configurable_fn
    converter = models.EncoderDecoderModel.FEATURE_CONVERTER_CLS
    return sum(1 for _ in get_dataset(config, 0, 1, converter, num_epochs=1))

looked = {size: parameters(size) for size in sizes}
print(json.dumps([looked, {what: examples(what) for what in ("trim", "drop")}]))
"""


@pytest.fixture(scope="module")
def looked(tiny_gin) -> tuple[dict, dict]:
    """What T5X makes of the gin files: parameters by size, numbers of examples by LONG_TARGETS."""
    sizes = [path.stem for path in sorted((SHIPPED / "gin" / "models").glob("*.gin"))]
    result = subprocess.run(
        [sys.executable, "-c", LOOK, str(SHIPPED), str(tiny_gin), *sizes],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    parameters, examples = json.loads(result.stdout.splitlines()[-1])
    return parameters, examples


@pytest.mark.slow
@needs_t5x
def test_t5x_s_network_of_every_size_has_our_parameters(looked):
    parameters, _ = looked
    assert set(parameters) >= {"pocket", "small", "base", "large", "xl"}
    for size, theirs in parameters.items():
        bound = macros(f"gin/models/{size}.gin")
        fields = {name.lower(): value for name, value in bound.items() if name != "VOCAB_SIZE"}
        config = model.Config(vocab_size=250112, **fields)
        axes = flatten_dict(model.logical_axes(config), sep="/")
        ours = {
            path: [list(leaf.shape), str(leaf.dtype), list(axes[path])]
            for path, leaf in flatten_dict(model.parameter_shapes(config), sep="/").items()
        }
        assert theirs == ours, size


@pytest.mark.slow
@needs_t5x
def test_t5x_trains_on_the_examples_that_long_targets_leaves(looked, tiny_world):
    _, examples = looked
    every = miniature.World().examples("ner", "en", "train")
    lengths = [len(tiny_world.encode(" $$ ".join(example["spans"]))) + 1 for example in every]
    assert examples == {"trim": 64, "drop": sum(n <= LENGTHS["targets"] for n in lengths)}
    assert 10 < examples["drop"] < 60


@pytest.mark.slow
@needs_t5x
def test_a_study_is_done_by_t5x_s_binary_and_scored_from_its_outputs(
    pretrained, tiny_gin, tmp_path
):
    small = tmp_path / "small.gin"
    small.write_text(
        f"include {str(tiny_gin)!r}\nTASK = 'xfer_pocket_ner'\nTRAIN_STEPS_RELATIVE = 2\n"
    )
    file = tmp_path / "study.gin"
    file.write_text(
        "s/study.Stage:\n  tasks = ('pocket_ner',)\n  train_on = ('en',)\n  score_on = 'targets'\n"
        "study.Study:\n  engine = 't5x'\n  model = 'pocket'\n  stages = (@s/study.Stage(),)\n"
        f"  targets = ('en', 'hi')\n  files = ({str(small)!r},)\n"
        f"  initial_checkpoint = {str(pretrained)!r}\n"
        f"  settings = ({f'TASK_FEATURE_LENGTHS = {WHOLE}'!r},)\n"
    )
    out = tmp_path / "out"
    native("study", "run", str(file), "--out", str(out))
    rows = read_rows(out / "scores.csv")
    assert [(row["source"], row["target"], row["engine"]) for row in rows] == [
        ("en", "en", "t5x"),
        ("en", "hi", "t5x"),
    ]
    results = out / "s" / "pocket_ner.en.s0" / "inference_eval"
    for row in rows:
        (line,) = jsonl(results / f"xfer_pocket_ner.{row['target']}-metrics.jsonl")
        assert line["step"] == PRETRAINED_STEPS + 2
        assert float(row["score"]) == pytest.approx(100 * line["span_f1"], abs=1e-3)


def test_batches_of_tokens_are_packed_rows_as_in_the_release():
    lengths = {"inputs": 1024, "targets": 512}
    assert t5x_bindings.batch_rows(None, 2**17, lengths) == 128
    assert t5x_bindings.batch_rows(48, None, lengths) == 48
    assert t5x_bindings.packed(None, 2**17)
    assert not t5x_bindings.packed(None, None)
    assert t5x_bindings.packed(True, None)
    for both in ((None, None), (48, 2**17)):
        with pytest.raises(RequestError, match="set BATCH_SIZE or BATCH_TOKENS"):
            t5x_bindings.batch_rows(*both, lengths)
