"""Folders that another program, a kill or a stranger has left: outputs, checkpoints, analyses."""

import json

import pytest

from benchmarks.bad_input import FOLDER, GONE, Case, Link


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


def changed(**changes):
    """Changes fields of a JSON file; ... removes one."""

    def change(content: bytes) -> bytes:
        old = json.loads(content) | changes
        return json.dumps({k: v for k, v in old.items() if v is not ...}).encode()

    return change


BINARY = bytes(range(256)) * 4
DEEP = "[" * 100_000
DIGITS = '{"a": ' + "9" * 5000 + "}"
NOT_JSON = {
    "empty": "", "not-json": "{", "null": "null", "list": "[]", "number": "3", "binary": BINARY,
    "deep": DEEP, "digits": DIGITS, "folder": FOLDER, "utf-16": "[1]".encode("utf-16"),
}  # fmt: skip

FILE = "runs/en/inference_eval/xfer_panx.sw-000004.jsonl"
GOOD = {"input": {"inputs_pretokenized": "tag: Rick", "inputs": [5, 1]}, "target": "PER: Rick",
        "output": "PER: Rick", "prediction": "PER: Rick"}  # fmt: skip


def run(id: str, words: str, files: dict, **more) -> Case:
    argv = "analyze --scores runs --out out --permutations=10"
    return Case(f"run-{id}", argv, words, files, ready=("runs",), **more)


def answer(id: str, **changes) -> Case:
    record = {k: v for k, v in (GOOD | changes).items() if v is not ...}
    content = f"{json.dumps(GOOD)}\n{json.dumps(record)}\n"
    return run(f"answers-{id}", r"xfer_panx\.sw-000004\.jsonl", {FILE: content})


RUNS = [
    *(run(f"answers-{id}", r"xfer_panx\.sw-000004\.jsonl", {FILE: of})
      for id, of in NOT_JSON.items()),
    run("answers-cut", r"xfer_panx\.sw-000004\.jsonl", {FILE: cut}),
    run("answers-nul", r"xfer_panx\.sw-000004\.jsonl", {FILE: json.dumps(GOOD) + "\n\0\n"}),
    answer("no-output", output=...),
    answer("output-null", output=None),
    answer("output-a-number", output=3),
    answer("output-a-list", output=["a"]),
    answer("no-target", target=...),
    answer("target-null", target=None),
    answer("target-a-number", target=3),
    answer("target-a-dictionary", target={"a": 1}),
    answer("no-input", input=...),
    answer("input-a-text", input="tag: Rick"),
    answer("text-a-number", input={"inputs_pretokenized": 3}),
    answer("text-null", input={"inputs_pretokenized": None}),
    answer("tokens-a-text", input={"inputs_pretokenized": "a", "inputs": "ab"}),
    answer("tokens-a-number", input={"inputs_pretokenized": "a", "inputs": 3}),
    answer("tokens-null", input={"inputs_pretokenized": "a", "inputs": [None]}),
    *(run(f"config-{id}", r"config\.gin", {"runs/en/config.gin": of}) for id, of in {
        "empty": "", "binary": BINARY, "folder": FOLDER, "no-source": "TASK = 'xfer_panx'\n",
        "source-unknown": "TASK = 'xfer_panx'\nSOURCE = 'xx'\n",
        "task-a-number": "TASK = 3\nSOURCE = 'en'\n", "nul": "TASK = 'x\0'\nSOURCE = 'en'\n",
        "expression": "TASK = 'xfer' + '_panx'\nSOURCE = 'en'\n",
        "deep": f"MIXTURE_OR_TASK_NAME = {'(' * 5000}\n",
        "unclosed": "MIXTURE_OR_TASK_NAME = 'xfer_panx.en\n",
        "mixture": "MIXTURE_OR_TASK_NAME = 'xfer_panx.all_langs'\n", "dangling": Link("nope"),
    }.items()),
    run("seed-endless", r"config\.gin|seed",
        {"runs/en/config.gin": f"TASK = 'xfer_panx'\nSOURCE = 'en'\nRANDOM_SEED = {'9' * 30}\n"}),
    run("step-endless", "step|000|xfer_panx",
        {f"runs/en/inference_eval/xfer_panx.sw-{'9' * 200}.jsonl": "x"}),
    Case("run-nothing", "analyze --scores runs --out out", "runs", {"runs": FOLDER}),
    Case("run-outputs-a-file", "analyze --scores runs --out out", "runs",
         {"runs/inference_eval": "x"}),
    Case("run-of-others", "analyze --scores runs --out out", "other_task",
         {"runs/config.gin": "SOURCE = 'en'\nTASK = 'xfer_panx'\n",
          "runs/inference_eval/other_task-000004.jsonl": json.dumps(GOOD) + "\n"}),
    *(Case(f"run-xtreme-{id}", "xtreme-r runs/en", r"xfer_panx\.sw-000004\.jsonl", {FILE: of},
           ready=("runs",)) for id, of in NOT_JSON.items() if id != "folder"),
    Case("run-xtreme-twice", "xtreme-r runs", "panx", ready=("runs",)),
]  # fmt: skip

SCORE = "probe/xfer_probe.panx.en-score.jsonl-00000-of-00001"
PREDICT = SCORE.replace("score", "predict")


def probe(id: str, files: dict) -> Case:
    words = r"xfer_probe\.panx\.en"
    return Case(f"probe-{id}", "probe --outputs probe", words, files, ready=("probe",))


def line(**changes) -> str:
    record = {
        "inputs": {"targets": [279, 5, 278, 7, 1], "targets_pretokenized": "a"},
        "score": -3.0,
    }
    return json.dumps({k: v for k, v in (record | changes).items() if v is not ...}) + "\n"


PROBES = [
    *(probe(f"score-{id}", {SCORE: of}) for id, of in NOT_JSON.items() if id != "folder"),
    *(probe(f"predict-{id}", {PREDICT: of}) for id, of in NOT_JSON.items() if id != "folder"),
    probe("no-predictions", {PREDICT: Link("nope")}),
    probe("fewer-predictions", {PREDICT: cut}),
    *(probe(id, {SCORE: line(**of) * 4}) for id, of in {
        "no-score": {"score": ...}, "score-null": {"score": None}, "score-a-text": {"score": "x"},
        "score-a-list": {"score": [1]}, "score-nan": {"score": float("nan")},
        "score-endless": {"score": float("-inf")}, "no-inputs": {"inputs": ...},
        "inputs-a-text": {"inputs": "x"}, "no-targets": {"inputs": {"targets_pretokenized": "a"}},
        "targets-a-number": {"inputs": {"targets": 3, "targets_pretokenized": "a"}},
        "targets-of-texts": {"inputs": {"targets": ["a"], "targets_pretokenized": "a"}},
        "text-a-number": {"inputs": {"targets": [279, 5, 278, 7, 1], "targets_pretokenized": 3}},
        "others": {"inputs": {"targets": [279, 9, 278, 9, 1], "targets_pretokenized": "a"}},
    }.items()),
    Case("probe-of-a-mixture", "probe --outputs probe", "mixture",
         {"probe/xfer_probe.panx.all_langs-score.jsonl-00000-of-00001": "x"}),
    Case("probe-unknown", "probe --outputs probe", "xfer_nope",
         {"probe/xfer_nope.en-score.jsonl-00000-of-00001": "x"}),
    Case("probe-nothing", "probe --outputs probe", "probe", {"probe": FOLDER}),
]  # fmt: skip

NATIVE = "native/checkpoint_3"


SUMS = {"hf": "hf/SHA256SUMS", "native": f"{NATIVE}/SHA256SUMS",
        "t5x-legacy": "t5x-legacy/checkpoint_3/SHA256SUMS"}  # fmt: skip


def checkpoint(id: str, kind: str, words: str, files: dict, argv: str = "") -> Case:
    """A checkpoint of any kind, without the sums by which any change would be seen."""
    files = {SUMS[kind]: GONE} | files
    return Case(f"checkpoint-{kind}-{id}", argv or f"convert {kind}", words, files, ready=(kind,))


CHECKPOINTS = [
    # Hugging Face's
    *(checkpoint(f"config-{id}", "hf", r"config\.json", {"hf/config.json": of})
      for id, of in NOT_JSON.items() if id != "folder"),
    *(checkpoint(f"config-{name}", "hf", r"config\.json", {"hf/config.json": changed(**{name: of})})
      for name, of in {"vocab_size": 999, "feed_forward_proj": "relu", "layer_norm_epsilon": "x",
                       "relative_attention_num_buckets": None, "num_layers": 10**12,
                       "num_heads": -1, "d_kv": "x"}.items()),
    *(checkpoint(f"weights-{id}", "hf", r"model\.safetensors|\bhf\b", {"hf/model.safetensors": of})
      for id, of in {
          "empty": b"", "cut": cut, "short": b"\1\2\3", "binary": BINARY, "folder": FOLDER,
          "header-endless": b"\xff" * 16, "header-not-json": b"\5\0\0\0\0\0\0\0{abc}",
          "header-a-list": b"\2\0\0\0\0\0\0\0[]", "header-null": b"\4\0\0\0\0\0\0\0null",
          "header-deep": (99_999).to_bytes(8, "little") + b"[" * 99_999,
          "header-of-text": b"\x0b\0\0\0\0\0\0\0" + b'{"a": "b"} ',
          "header-negative": (66).to_bytes(8, "little")
          + b'{"a": {"dtype": "F32", "shape": [-1, 2], "data_offsets": [0, 8]}}'.ljust(66)
          + b"\0" * 8,
          "header-of-dtype": (66).to_bytes(8, "little")
          + b'{"a": {"dtype": "I99", "shape": [1, 2], "data_offsets": [0, 8]}}'.ljust(66) + b"\0" * 8,
          "dangling": Link("nope")}.items()),
    checkpoint("index-outside", "hf", r"\.\./|index", {
        "hf/model.safetensors": Link("nope"),
        "hf/model.safetensors.index.json": json.dumps(
            {"weight_map": {"shared.weight": "../native/x.safetensors"}})}),
    checkpoint("index-lost", "hf", r"other\.safetensors", {
        "hf/model.safetensors": Link("nope"),
        "hf/model.safetensors.index.json": json.dumps(
            {"weight_map": {"shared.weight": "other.safetensors"}})}),
    checkpoint("index-a-list", "hf", "index", {
        "hf/model.safetensors": Link("nope"), "hf/model.safetensors.index.json": "[]"}),
    Case("checkpoint-bin-text", "convert bin", r"pytorch_model\.bin",
         {"bin/pytorch_model.bin": "no pickle"}),
    Case("checkpoint-bin-empty", "convert bin", r"pytorch_model\.bin", {"bin/pytorch_model.bin": ""}),
    Case("checkpoint-bin-pickle", "convert bin", r"pytorch_model\.bin",
         {"bin/pytorch_model.bin": b"cos\nsystem\n(S'touch ran'\ntR."}),
    # this tool's
    *(checkpoint(f"run.json-{id}", "native", r"run\.json", {f"{NATIVE}/run.json": of},
                 f"eval --gin_file=$WORLD/tiny.gin --gin.CHECKPOINT_PATH=\"'{NATIVE}'\""
                 " --gin.EVAL_OUTPUT_DIR=\"'out'\"")
      for id, of in NOT_JSON.items()),
    *(checkpoint(f"tree-{id}", "native", "native", {f"{NATIVE}/state/_METADATA": of})
      for id, of in NOT_JSON.items() if id != "folder"),
    checkpoint("tree-lost", "native", "native", {f"{NATIVE}/state": FOLDER}),
    checkpoint("tree-of-text", "native", "native",
               {f"{NATIVE}/state/_METADATA": '{"tree_metadata": "ab"}'}),
    checkpoint("sums-binary", "native", "SHA256SUMS", {f"{NATIVE}/SHA256SUMS": BINARY}),
    checkpoint("sums-others", "native", "native", {f"{NATIVE}/SHA256SUMS": "0" * 64 + "  x\n"}),
    checkpoint("sums-outside", "native", "native",
               {f"{NATIVE}/SHA256SUMS": "0" * 64 + "  ../../x\n"}),
    checkpoint("sums-a-folder", "native", "native", {f"{NATIVE}/SHA256SUMS": FOLDER}),
    checkpoint("a-file", "native", "native", {"native": "x"}),
    checkpoint("an-empty-folder", "native", "native", {NATIVE: FOLDER}),
    # T5X's older one
    *(checkpoint(f"list-{id}", "t5x-legacy", "t5x-legacy", {"t5x-legacy/checkpoint_3/checkpoint": of})
      for id, of in {"empty": b"", "cut": cut, "binary": BINARY, "folder": FOLDER,
                     "text": b"x", "map-of-maps": b"\x81\xa1a" * 500}.items()),
]  # fmt: skip

TRAIN = "train --gin_file=$WORLD/tiny.gin --gin.MODEL_DIR=\"'out'\" --gin.VOCAB_FILE=\"'{}'\""
VOCABULARIES = [
    *(Case(f"vocabulary-{id}", TRAIN.format("v.model"), r"v\.model", {"v.model": of})
      for id, of in {"empty": "", "text": "no model", "binary": BINARY, "folder": FOLDER,
                     "dangling": Link("nope"), "json": "{}", "utf-16": "x".encode("utf-16")}.items()),
    Case("vocabulary-cut", TRAIN.format("tiny.model"), r"tiny\.model", {"tiny.model": cut},
         ready=("tiny.model",)),
    Case("vocabulary-ids", TRAIN.format("$WORLD/ids.model"), r"ids\.model"),
    Case("vocabulary-no-sentinels", TRAIN.format("$WORLD/no_sentinels.model"), "<extra_id_0>"),
    Case("vocabulary-size", TRAIN.format("$WORLD/tiny.model") + " --gin.VOCAB_SIZE=512", "VOCAB_SIZE"),
]  # fmt: skip


def analysis(id: str, words: str, files: dict) -> Case:
    return Case(f"analysis-{id}", "report analysis", words, files, ready=("analysis",))


TABLES = ("languages", "correlations", "scores", "alignment")
ANALYSES = [
    *(analysis(f"about-{id}", "analysis", {"analysis/analysis.json": of})
      for id, of in NOT_JSON.items()),
    *(analysis(f"about-{name}-{i}", "analysis", {"analysis/analysis.json": changed(**{name: of})})
      for name, given in {"scores": (..., 3, "x", [3]), "where": (..., [], "x"),
                          "options": (..., 3), "notes": (..., 3, [3]), "made_up": (...,)}.items()
      for i, of in enumerate(given)),
    *(analysis(f"{name}-{id}", name, {f"analysis/{name}.csv": of}) for name in TABLES
      for id, of in {"empty": "", "binary": BINARY, "columns": "a,b\n1,2\n", "folder": FOLDER,
                     "nul": b"task,source\n\0,1\n", "half": cut}.items()),
    analysis("languages-lost", "languages", {"analysis/languages.csv": Link("nope")}),
    analysis("correlations-of-words", "correlations", {
        "analysis/correlations.csv": lambda c: c.replace(b"pair,", b"pair,x", 1)}),
    analysis("page-a-folder", r"report\.html", {"analysis/report.html": FOLDER}),
    analysis("figures-a-file", "figures", {"analysis/figures": "x"}),
    Case("analysis-nothing", "report analysis", "analysis", {"analysis": FOLDER}),
]  # fmt: skip

JOB = "out/source/pocket_nli.en.s0"
OTHERS = (  # configurations of what lies where a run is to go
    ("another", "BATCH_SIZE", "BATCH_SIZE = 77\n"),
    ("config-binary", "config|out", BINARY),
    ("config-folder", "config|out", FOLDER),
)
STUDIES = [
    Case("study-of-a-file", "study run study.gin --out out", "out", {"out": "x"},
         ready=("study.gin",)),
    Case("study-job-a-file", "study run study.gin --out out", "source", {"out/source": "x"},
         ready=("study.gin",)),
    *(Case(f"study-{id}", "study run study.gin --out out", words, {f"{JOB}/config.gin": of},
           ready=("study.gin", f"native:{JOB}")) for id, words, of in OTHERS),
    Case("study-emit-newline", ["study", "emit", "study.gin", "--out", "a\nb", "--to", "slurm"],
         "--out|newline|line", ready=("study.gin",)),
    Case("study-emit-folder-a-file", "study emit study.gin --out out --to slurm", "slurm",
         {"out/slurm": "x"}, ready=("study.gin",)),
    *(Case(f"run-over-{id}", "train --gin_file=$WORLD/tiny.gin --gin.MODEL_DIR=\"'out'\"", words,
           {"out/config.gin": of}, ready=("native:out",)) for id, words, of in OTHERS),
    Case("run-over-checkpoints", "train --gin_file=$WORLD/tiny.gin --gin.MODEL_DIR=\"'native'\"",
         r"config\.gin", ready=("native",)),
]  # fmt: skip


@pytest.mark.parametrize("case", [*RUNS, *PROBES], ids=str)
def test_damaged_outputs_are_refused(refused, case):
    refused(case)


@pytest.mark.parametrize("case", [*CHECKPOINTS, *VOCABULARIES], ids=str)
def test_a_damaged_model_is_refused(refused, case):
    refused(case)


@pytest.mark.parametrize("case", [*ANALYSES, *STUDIES], ids=str)
def test_a_damaged_folder_is_refused(refused, case):
    refused(case)
