"""Values of a wrong type or size for every macro, every field of a study and every option."""

import pytest

from benchmarks.bad_input import Case

HUGE = 10**12
ENDLESS = "1e999"  # how a Python literal says infinity


def train(id: str, words: str, *settings: str, **more) -> Case:
    return command("train", "MODEL_DIR", id, words, *settings, **more)


def command(name: str, folder: str, id: str, words: str, *settings: str, **more) -> Case:
    argv = [name, "--gin_file=$WORLD/tiny.gin", f"--gin.{folder}='out'"]
    if name != "train":
        argv.append("--gin.CHECKPOINT_PATH='$WORLD/native'")
    argv += [f"--gin.{setting}" for setting in settings]
    return Case(f"{name}-{id}", argv, words, **more)


def values(
    name: str, *given: str, also: tuple[str, ...] = (), words: str | None = None
) -> list[Case]:
    """Wrong values of a macro of `train`, in gin's syntax."""
    return [
        train(f"{name}={value[:24]}", words or rf"\b{name}\b", f"{name}={value}", *also)
        for value in given
    ]


WHOLE = ("0", "1.5", "'x'", "True")
SIZES = (
    "BATCH_SIZE", "EVAL_BATCH_SIZE", "EMB_DIM", "NUM_HEADS", "HEAD_DIM", "MLP_DIM",
    "NUM_ENCODER_LAYERS", "NUM_DECODER_LAYERS", "NUM_PARTITIONS",
)  # fmt: skip
NUMBER = ("'x'", "True", ENDLESS)
TEXT = ("3", "('a', 'b')", r"'a\0b'")

MACROS = [
    *(case for name in SIZES for case in values(name, *WHOLE, str(HUGE))),
    *values("BATCH_SIZE", "-1", "(3,)", "{}", "None"),
    *values("BATCH_TOKENS", "0", "-1", "(3,)", "{}", "'x'", "1024"),
    *values("NUM_MICROBATCHES", "0", "-1", "1.5", "'x'"),
    *values("VOCAB_SIZE", *WHOLE, str(HUGE)),
    *values("LOG_PERIOD", *WHOLE, "None"),
    *values("TRAIN_STEPS", *WHOLE, str(HUGE)),
    *values("TRAIN_STEPS_RELATIVE", "-1", "1.5", "True", str(HUGE)),
    *values("EVAL_PERIOD", *WHOLE),
    *values("SAVE_PERIOD", *WHOLE),
    *values("EVALUATOR_NUM_EXAMPLES", *WHOLE),
    *values("RANDOM_SEED", "-1", "1.5", "'x'", "True", "None", "{}", str(2**32)),
    *values("DROPOUT_RATE", *NUMBER, "-0.1", "1.5", "None"),
    *values("LEARNING_RATE", *NUMBER, "-1", "None"),
    *values("Z_LOSS", *NUMBER, "-1", "None"),
    *values("LOSS_NORMALIZING_FACTOR", "'x'", "True", "{}", ENDLESS, "0", "-1"),
    *values("MIXING_TEMPERATURE", *NUMBER, "0", "-1"),
    *values("WARMUP_STEPS", "'x'", "-1", "{}", "None",
            also=("LEARNING_RATE_FACTORS='constant * linear_warmup'",)),
    *values("DECAY_FACTOR", "'x'", "{}", "None", ENDLESS,
            also=("LEARNING_RATE_FACTORS='linear_decay'",)),
    *values("BEAM_ALPHA", *NUMBER, "-1", "None", also=("PREDICT_BY='beam'",)),
    *values("NUM_BEAMS", *WHOLE, "None", str(HUGE), also=("PREDICT_BY='beam'",)),
    *values("REMAT", "3", "'x'"),
    *values("DTYPE", "3", "'float16'", "'int8'", "{}"),
    *values("LEARNING_RATE_FACTORS", "3", "None", "''", "'x'", "'constant *'", "('constant',)",
            words="LEARNING_RATE_FACTORS|learning-rate factor"),
    *values("LONG_TARGETS", "3", "'cut'"),
    *values("PREDICT_BY", "3", "'bean'"),
    *values("TRAIN_SPLIT", "3", "'dev'"),
    *values("EVAL_SPLIT", "3", "'dev'"),
    *values("MODEL_DIR", *TEXT, "''", "' '", "None"),
    *values("INITIAL_CHECKPOINT_PATH", "3", r"'a\0b'"),
    *values("VOCAB_FILE", "3", r"'a\0b'"),
    *values("DATA_DIR", "3", r"'a\0b'", also=("TASK='xfer_panx'",)),
    *values("SUBSET", "3", "('a',)", "{}"),
    *values("TARGETS", "3", "'en'", "('en')", "{}", "True"),
    *values("TARGETS", "(3,)", "(None,)", words="TARGETS|language"),
    *values("TASK", "3", "None", "('a',)", "{}"),
    *values("SOURCE", "3", "('en',)", "{}", words="SOURCE|language"),
    *values("TASK_FEATURE_LENGTHS", "64", "None", "'x'", "{}", "()", "{'inputs': 8}",
            "{'inputs': 0, 'targets': 8}", "{'inputs': 8, 'targets': -1}",
            "{'inputs': 1.5, 'targets': 8}", "{'inputs': 'x', 'targets': 8}",
            "{'inputs': True, 'targets': 8}", f"{{'inputs': {HUGE}, 'targets': 8}}",
            "{'inputs': 24, 'targets': 8, 'target': 9}"),
]  # fmt: skip

NAMES = [
    train("subset-none-such", "n0", "SUBSET='n0.s0'"),
    train("subset-huge", r"too large|examples", f"SUBSET='n{HUGE}.s0'"),
    train("subset-endless", r"n999|long|number", f"SUBSET='n{'9' * 5000}.s0'"),
    train("task-unknown", "xfer_nope", "TASK='xfer_nope'"),
    train("task-empty", "task", "TASK=''"),
    train("task-nul", "task", r"TASK='xfer_\0'"),
    train("task-newline", "task", r"TASK='xfer_\npanx'"),
    train("source-unknown", "xx", "SOURCE='xx'"),
    train("source-long", "task", f"SOURCE='{'e' * 5000}'"),
    train("source-unquoted", "quot.*'en'", "SOURCE=en"),
    train("targets-unquoted", "quot|TARGETS", "TARGETS=(en, sw)"),
    train("target-unknown", "xx", "TARGETS=('en', 'xx')"),
    train("path-unquoted", "quot|MODEL_DIR", "MODEL_DIR=out/run"),
    train("vocabulary-missing", "nope.model", "VOCAB_FILE='nope.model'"),
    train("checkpoint-missing", "nope", "INITIAL_CHECKPOINT_PATH='nope'"),
    train("data-missing", "nope", "TASK='xfer_panx'", "DATA_DIR='nope'"),
    train("no-steps", "TRAIN_STEPS", "TRAIN_STEPS=None"),
    train("beyond-int64", "BATCH_SIZE", f"BATCH_SIZE={10**30}"),
    train("thousands-of-digits", "digits|BATCH_SIZE", f"BATCH_SIZE={'9' * 5000}"),
    train("rate-nan", "LEARNING_RATE", "LEARNING_RATE=nan"),
]


def of(name: str, folder: str, macro: str, *given: str, also: tuple[str, ...] = ()) -> list[Case]:
    return [
        command(
            name,
            folder,
            f"{macro}={v[:24]}",
            rf"\b{macro}\b" + ("|output folder" if macro == folder else ""),
            f"{macro}={v}",
            *also,
        )
        for v in given
    ]


INFERENCE = [
    *of("eval", "EVAL_OUTPUT_DIR", "EVAL_OUTPUT_DIR", "3", "''", "None", "('a',)", r"'a\0b'"),
    *of("eval", "EVAL_OUTPUT_DIR", "CHECKPOINT_PATH", "3", "None", "('a',)", "{}", r"'a\0b'"),
    *of("eval", "EVAL_OUTPUT_DIR", "TARGETS", "()", "'en'", "3"),
    *of("eval", "EVAL_OUTPUT_DIR", "EVAL_BATCH_SIZE", "0", "1.5", "True", str(HUGE)),
    *of("eval", "EVAL_OUTPUT_DIR", "EVALUATOR_NUM_EXAMPLES", "0", "1.5", "'x'"),
    *of("eval", "EVAL_OUTPUT_DIR", "NUM_PARTITIONS", "0", "'x'", "1.5", "None"),
    *of("infer", "INFER_OUTPUT_DIR", "INFER_MODE", "3", "None", "''", "'scores'", "{}"),
    *of("infer", "INFER_OUTPUT_DIR", "INFER_OUTPUT_DIR", "3", "''", "{}"),
    *of("probe", "PROBE_OUTPUT_DIR", "PROBE_OUTPUT_DIR", "3", "''", "None", r"'a\0b'"),
    *of("probe", "PROBE_OUTPUT_DIR", "PROBE_FEATURE_LENGTHS", "64", "{}", "None",
        "{'inputs': 64}", "{'inputs': 0, 'targets': 8}", "{'inputs': 64, 'targets': 2}"),
    *of("probe", "PROBE_OUTPUT_DIR", "MASK_SEED", "1.5", "'x'", "None", "True"),
    *of("probe", "PROBE_OUTPUT_DIR", "TARGETS", "()", "3", "'en'"),
    *of("probe", "PROBE_OUTPUT_DIR", "EVAL_BATCH_SIZE", "0", "'x'"),
    *of("probe", "PROBE_OUTPUT_DIR", "EVALUATOR_NUM_EXAMPLES", "0", "-1", "1.5"),
    *(case for macro, given in {
        "RETRIEVAL_OUTPUT_DIR": ("3", "''", "None"),
        "RETRIEVAL_LENGTH": ("0", "1", "-1", "1.5", "'x'", "True", str(HUGE)),
        "LAYER": ("-1", "99", "1.5", "'x'", "True"),
        "SIMILARITY": ("'euclid'", "3", "None", "{}"),
        "EVAL_BATCH_SIZE": ("0", "True"),
        "EVAL_SPLIT": ("'dev'", "3"),
        "TARGETS": ("3", "'en'", "(3,)"),
    }.items() for case in of("retrieve", "RETRIEVAL_OUTPUT_DIR", macro, *given,
                             also=("TASK='tatoeba'", *(() if macro == "TARGETS" else ("TARGETS=()",))))),
    command("retrieve", "RETRIEVAL_OUTPUT_DIR", "TARGETS-unknown", "xx", "TASK='tatoeba'",
            "TARGETS=('xx',)"),
    *of("retrieve", "RETRIEVAL_OUTPUT_DIR", "TASK", "'tatoebba'", "3", "None", "('a',)"),
]  # fmt: skip

BINDINGS = [
    train("misspelt", "BATCHSIZE.*BATCH_SIZE", "BATCHSIZE=3"),
    train("no-name", "gin", "=3"),
    train("no-value", "BATCH_SIZE", "BATCH_SIZE="),
    train("no-equals", "BATCH_SIZE", "BATCH_SIZE"),
    train("unknown-field", "nope", "train.Run.nope=1"),
    train("unknown-configurable", "nope", "nope.Nope.x=1"),
    train("field-of-a-class", "batch_size", "selection.TrainingData.batch_size=0"),
    train("reference-to-nothing", "nope", "SOURCE=@nope()"),
    train("macro-of-nothing", "NOPE", "SOURCE=%NOPE"),
    train("macro-of-itself", "BATCH_SIZE", "BATCH_SIZE=%BATCH_SIZE"),
    train("macros-in-a-circle", "SOURCE|SUBSET", "SOURCE=%SUBSET", "SUBSET=%SOURCE"),
    train("class-for-a-number", "BATCH_SIZE", "BATCH_SIZE=@model.Config"),
    train("call-for-a-number", "BATCH_SIZE", "BATCH_SIZE=@model.Config()"),
    train("unbalanced", "gin|bracket|paren", "TARGETS=('en',"),
    train("expression", "gin|BATCH_SIZE|expression", "BATCH_SIZE=2+2"),
    train("a-call-of-python", "gin|import", "BATCH_SIZE=__import__('os').getpid()"),
    train("deep", "gin|deep|nested", "TARGETS=" + "(" * 3000 + ")" * 3000),
    train("an-import", "import", "import subprocess"),
]


@pytest.mark.parametrize("case", [*MACROS, *NAMES, *INFERENCE, *BINDINGS], ids=str)
def test_a_wrong_setting_is_refused(refused, case):
    refused(case)


def study(id: str, words: str, lines: str, action: str = "plan", **more) -> Case:
    argv = ["study", action, "mine.gin", *(["--out", "out"] if action != "plan" else [])]
    files = {"mine.gin": f"include '$WORLD/study.gin'\n{lines}\n"}
    return Case(f"study-{action}-{id}", argv, words, files, **more)


def field(
    name: str, *given: str, also: str = "", action: str = "plan", words: str = ""
) -> list[Case]:
    """Wrong values of a field of a study or a stage; the sentence names it."""
    words = words or rf"\b{name.removesuffix('s')}"
    owner = "study.Study" if name in STUDY_FIELDS else "source/study.Stage"
    return [
        study(f"{name}={v[:28]}", words, f"{owner}.{name} = {v}\n{also}", action=action)
        for v in given
    ]


STUDY_FIELDS = (
    "model", "stages", "initial_checkpoint", "targets", "seeds", "files", "settings", "assumed",
    "engine",
)  # fmt: skip
NAME_LIST = ("3", "()", "{}", "(None,)", r"('a\0b',)")
FIELDS = [
    *field("model", "3", "None", "''", "'nope'", "('pocket',)", r"'a\0b'", "'../models/pocket'"),
    *field("tasks", *NAME_LIST, "'pocket_nli'", "('pocket_nli')", "('pocket_nli', 'pocket_nli')",
           "('nope',)", "('../tasks/pocket_nli',)", "('/etc/passwd',)", "('',)"),
    *field("train_on", "3", "()", "(None,)", "('en')", "('en', 'en')", "{}", "('../en',)"),
    *field("train_on", "('xx',)", words=r"\bxx\b|\.xx"),
    *field("train_on", "'same'", "'other_targets'", words="start_from"),
    *field("score_on", "3", "(None,)", "'all'", "{}", "None", "('en', 'en')"),
    *field("score_on", "('xx',)", words=r"\bxx\b|\.xx"),
    *field("action", "3", "None", "''", "'guess'", "('train',)"),
    *field("action", "'probe'", words="trains on nothing"),
    *field("start_from", "3", "('nope',)", "'source'", "('source',)", "{}"),
    *field("variants", "3", "{}", "()", "{'half': ()}", "{'n0': ()}", "{'': 3}", "{'': 'A = 1'}"),
    *field("name", "3", "''", "'a/b'", "'train'", "'checkpoint_1'", "'..'"),
    *field("keep", "3", "'x'", "None", "{}"),
    *field("stages", "3", "()", "(3,)", "('source',)", "@source/study.Stage()",
           "(@source/study.Stage(), @source/study.Stage())"),
    *field("targets", "3", "()", "(3,)", "('en')", "('en', 'en')"),
    *field("targets", "('xx',)", words=r"\bxx\b|\.xx"),
    *field("initial_checkpoint", "3", "('a',)", "{}", r"'a\0b'", "True"),
    *field("seeds", "3", "()", "(-1,)", "(1.5,)", "('x',)", "(True,)", "(0, 0)", "None",
           f"({2**32},)", f"({HUGE},)", "{}", words="seed"),
    *field("files", "3", "None", "'gin/runs/from_scratch.gin'", "('nope.gin',)", "(3,)", "{}",
           r"('a\0b',)"),
    *field("settings", "3", "None", "'TRAIN_STEPS = 3'", "(3,)", "{}", "('TRAIN_STEPS = 3')"),
    *field("assumed", "3", "'x'", "()", "{'pocket_nli': 3}", "{'pocket_nli': (1, 2)}",
           "{'pocket_nli': (1, 2, 'x')}", "{'pocket_nli': (-1, 2, 3)}", "{'pocket_nli': (1.5, 2)}",
           "{3: (1, 2, 3)}"),
    *field("engine", "3", "None", "''", "'tpu'", "('native',)", "{}"),
]  # fmt: skip

OF_RUNS = [
    study("setting-misspelt", "TRAIN_STEP\\b", "study.Study.settings = ('TRAIN_STEP = 3',)"),
    study("setting-no-value", "BATCH_SIZE", "study.Study.settings = ('BATCH_SIZE',)"),
    study("setting-wrong", "BATCH_SIZE", "study.Study.settings = ('BATCH_SIZE = 0',"
          " \"VOCAB_FILE = '$WORLD/tiny.model'\")"),
    study("setting-import", "import", "study.Study.settings = ('import subprocess',)"),
    study("setting-newline", "gin|setting", "study.Study.settings = ('BATCH_SIZE = 3\\nX',)"),
    study("stage-setting-wrong", "LEARNING_RATE",
          "source/study.Stage.settings = ('LEARNING_RATE = \"x\"',)"),
    study("stage-field-unknown", "nope", "source/study.Stage.nope = 3"),
    study("field-unknown", "nope", "study.Study.nope = 3"),
    study("macro-unknown", "NOPE", "NOPE = 3"),
    study("checkpoint-missing", "nope", "study.Study.initial_checkpoint = 'nope'", "run"),
    study("data-missing", "xfer_panx", "source/study.Stage.tasks = ('panx',)", "run",
          env={"XFER_DATA_DIR": "$HERE"}),
    study("vocabulary-missing", "nope.model",
          "study.Study.settings = (\"VOCAB_FILE = 'nope.model'\",)", "run"),
    study("no-t5x", "t5x", "study.Study.engine = 't5x'", "run"),
    *(case for action in ("run", "emit", "status") for case in (
        *field("seeds", "(1.5,)", action=action), *field("tasks", "'panx'", action=action),
        *field("tasks", "('../tasks/pocket_nli',)", action=action))),
]  # fmt: skip


@pytest.mark.parametrize("case", [*FIELDS, *OF_RUNS], ids=str)
def test_a_wrong_study_is_refused(refused, case):
    refused(case)
