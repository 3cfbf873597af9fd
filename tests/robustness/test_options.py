"""Options that are wrong by themselves, of every command."""

import pytest

from benchmarks.bad_input import FOLDER, Case

ANALYZE = "analyze --scores scores.csv --out out --permutations=10"
VOCAB = "vocab --tasks=xfer_pocket_nli.en --examples=50 --size=150 --out=v.model"
GIN = "train --gin_file=$WORLD/tiny.gin --gin.MODEL_DIR=\"'out'\""


def cases(*rows: tuple) -> list[Case]:
    return [Case(*row[:3], ready=("scores.csv", "study.gin")) for row in rows]


CASES = cases(
    # --- any command
    ("no-command", "", "COMMAND"),
    ("unknown-command", "trian", "trian"),
    ("unknown-option", "tasks --nope", "--nope"),
    ("abbreviated-option", "study plan study.gin --dev h100", "--dev"),
    ("empty-command", "''", "invalid|choose|COMMAND"),
    ("too-many-arguments", "tasks a b", "b"),
    ("option-of-another-command", "report out --scores x", "--scores"),
    # --- tasks
    ("tasks-unknown", "tasks klingon", "klingon"),
    ("tasks-empty-group", "tasks qqp --filter xtreme_r", "qqp"),
    ("tasks-filter-unknown", "tasks --filter nope", "nope"),
    ("tasks-nul", ["tasks", "a\0b"], "task"),
    ("tasks-newline", ["tasks", "a\nb"], "task"),
    ("tasks-escape", ["tasks", "a\x1b[31mb"], "task"),
    # --- vocab
    ("vocab-nothing", "vocab", "--tasks"),
    ("vocab-no-task", "vocab --tasks= --size=200 --out=v.model", "task"),
    ("vocab-task-unknown", "vocab --tasks=xfer_nope --size=200 --out=v.model", "xfer_nope"),
    ("vocab-tasks-trailing-comma", f"{VOCAB} --tasks=xfer_pocket_nli.en,", "task"),
    ("vocab-size-word", f"{VOCAB} --size=many", "many"),
    ("vocab-size-fraction", f"{VOCAB} --size=200.5", "200.5"),
    ("vocab-size-0", f"{VOCAB} --size=0", r"\b0\b"),
    ("vocab-size-negative", f"{VOCAB} --size=-7", "-7"),
    ("vocab-size-sentinels-only", f"{VOCAB} --size=100", "100"),
    ("vocab-size-too-large", f"{VOCAB} --size=100000", "100000"),
    ("vocab-size-huge", f"{VOCAB} --size=1000000000000", "1000000000000"),
    ("vocab-size-beyond-int64", f"{VOCAB} --size={10**30}", "10{30}|--size"),
    ("vocab-examples-0", f"{VOCAB} --examples=0", "--examples"),
    ("vocab-examples-negative", f"{VOCAB} --examples=-1", "--examples"),
    ("vocab-examples-word", f"{VOCAB} --examples=x", "--examples"),
    ("vocab-language-unknown", f"{VOCAB} --languages=xx", "xx"),
    ("vocab-language-not-of-the-task", f"{VOCAB} --languages=sw", "sw"),
    ("vocab-split-unknown", f"{VOCAB} --split=dev", "dev"),
    ("vocab-split-empty", f"{VOCAB} --split=", "split"),
    ("vocab-out-empty", f"{VOCAB} --out=", "--out|path|empty"),
    ("vocab-no-text", "vocab --tasks=xfer_panx.en --size=200 --out=v.model --split=nope", "nope"),
    # --- features
    ("features-nothing", "features", "--languages"),
    ("features-one-language", "features --languages en --out f.csv", "two"),
    ("features-no-language", "features --languages , --out f.csv", "two"),
    ("features-twice-the-same", "features --languages en,English --out f.csv", "en"),
    ("features-unknown", "features --languages en,Klingonish --out f.csv", "Klingonish"),
    ("features-number", "features --languages en,12 --out f.csv", "12"),
    ("features-nul", ["features", "--languages", "en,a\0b", "--out", "f.csv"], "a"),
    ("features-long", ["features", "--languages", "en," + "x" * 5000, "--out", "f.csv"], "x"),
    ("features-measure", "features --languages en,sw --out f.csv --measure dot", "dot"),
    ("features-out-empty", "features --languages en,sw --out=", "--out|path|empty"),
    # --- analyze
    ("analyze-nothing", "analyze", "--scores"),
    ("analyze-scores-missing", "analyze --scores nope.csv --out out", "nope.csv"),
    ("analyze-scores-empty", "analyze --scores '' --out out", "--scores|path|empty"),
    ("analyze-two-tables", f"{ANALYZE} --scores scores.csv scores.csv", "one table"),
    ("analyze-where-without-value", f"{ANALYZE} --where task", "task"),
    ("analyze-where-unknown", f"{ANALYZE} --where nope=1", "nope"),
    ("analyze-where-nothing", f"{ANALYZE} --where source=xx", "xx"),
    ("analyze-where-empty", f"{ANALYZE} --where =", "--where|column"),
    ("analyze-where-twice", f"{ANALYZE} --where source=en --where source=sw", "source"),
    ("analyze-permutations-0", f"{ANALYZE} --permutations=0", "--permutations"),
    ("analyze-permutations-negative", f"{ANALYZE} --permutations=-5", "--permutations"),
    ("analyze-permutations-word", f"{ANALYZE} --permutations=x", "--permutations"),
    ("analyze-permutations-huge", f"{ANALYZE} --permutations=1000000000000", "--permutations"),
    ("analyze-seed-negative", f"{ANALYZE} --seed=-1", "--seed"),
    ("analyze-seed-word", f"{ANALYZE} --seed=x", "--seed"),
    ("analyze-reach-nan", f"{ANALYZE} --reach nan", "--reach"),
    ("analyze-reach-inf", f"{ANALYZE} --reach inf", "--reach"),
    ("analyze-reach-negative", f"{ANALYZE} --reach=-3", "--reach"),
    ("analyze-reach-above-100", f"{ANALYZE} --reach 1000", "--reach"),
    ("analyze-reach-word", f"{ANALYZE} --reach high", "--reach"),
    ("analyze-predictor-unknown", f"{ANALYZE} --predictors nope", "nope"),
    ("analyze-features-missing", f"{ANALYZE} --features nope.csv", "nope.csv"),
    ("analyze-features-are-the-scores", f"{ANALYZE} --features scores.csv", "scores.csv"),
    ("analyze-probe-missing", f"{ANALYZE} --probe nope.csv", "nope.csv"),
    ("analyze-probe-is-the-scores", f"{ANALYZE} --probe scores.csv", "scores.csv"),
    ("analyze-fractions-of-percent", f"{ANALYZE} --fractions", "fraction"),
    ("analyze-out-empty", "analyze --scores scores.csv --out=", "--out|path|empty"),
    ("analyze-out-is-a-file", "analyze --scores scores.csv --out scores.csv", "scores.csv"),
    ("analyze-measure", f"{ANALYZE} --measure dot", "dot"),
    # --- xtreme-r, report, probe --outputs
    ("xtreme-r-nothing", "xtreme-r", "DIR"),
    ("xtreme-r-missing", "xtreme-r nope", "nope"),
    ("xtreme-r-file", "xtreme-r scores.csv", "scores.csv"),
    ("xtreme-r-empty", "xtreme-r ''", "DIR|path|empty"),
    ("report-nothing", "report", "DIR"),
    ("report-missing", "report nope", "nope"),
    ("report-file", "report scores.csv", "scores.csv"),
    ("report-empty", "report ''", "DIR|path|empty"),
    ("probe-outputs-missing", "probe --outputs nope", "nope"),
    ("probe-outputs-file", "probe --outputs scores.csv", "scores.csv"),
    ("probe-outputs-empty", "probe --outputs=", "--outputs|path|CHECKPOINT_PATH"),
    # --- convert
    ("convert-nothing", "convert", "SRC"),
    ("convert-missing", "convert nope", "nope"),
    ("convert-file", "convert scores.csv", "scores.csv"),
    ("convert-empty", "convert ''", "SRC|path|empty"),
    ("convert-only-to", "convert $WORLD/native --to hf", "DST"),
    ("convert-only-dst", "convert $WORLD/native x", "--to"),
    ("convert-to-unknown", "convert $WORLD/native x --to onnx", "onnx"),
    ("convert-from-unknown", "convert $WORLD/native --from onnx", "onnx"),
    ("convert-from-another", "convert $WORLD/native --from hf", "hf"),
    ("convert-step-of-hf", "convert $WORLD/native x --to hf --step 3", "--step"),
    ("convert-step-without-dst", "convert $WORLD/native --step 3", "--step"),
    ("convert-step-negative", "convert $WORLD/native x --to t5x --step=-1", "--step"),
    ("convert-step-huge", "convert $WORLD/native x --to t5x --step 4294967296", "--step"),
    ("convert-step-word", "convert $WORLD/native x --to t5x --step x", "--step"),
    ("convert-name-of-another-step", "convert $WORLD/native checkpoint_9 --to t5x", "checkpoint_9"),
    ("convert-to-gs", "convert $WORLD/native gs://nope/x --to t5x", "gs://nope"),
    ("convert-onto-a-file", "convert $WORLD/native scores.csv --to hf", "scores.csv"),
    # --- study
    ("study-nothing", "study", "FILE.gin|action"),
    ("study-action", "study walk study.gin", "walk"),
    ("study-file-missing", "study plan nope.gin", "nope.gin"),
    ("study-file-empty", "study plan ''", "FILE|path|empty|gin"),
    ("study-run-without-out", "study run study.gin", "--out"),
    ("study-status-without-out", "study status study.gin", "--out"),
    ("study-emit-without-to", "study emit study.gin --out out", "--to"),
    ("study-emit-to-unknown", "study emit study.gin --out out --to pbs", "pbs"),
    ("study-out-empty", "study run study.gin --out=", "--out"),
    ("study-device", "study plan study.gin --device h900", "h900"),
    ("study-device-empty", "study plan study.gin --device=", "device"),
    ("study-workers-0", "study run study.gin --out out --workers 0", "--workers"),
    ("study-workers-negative", "study run study.gin --out out --workers=-1", "--workers"),
    ("study-workers-word", "study run study.gin --out out --workers x", "--workers"),
    ("study-workers-huge", "study run study.gin --out out --workers 100000", "--workers"),
    ("study-job-unknown", "study run study.gin --out out --job nope", "nope"),
    ("study-job-empty", "study run study.gin --out out --job=", "job"),
    ("study-job-up", "study run study.gin --out out --job ../x", r"\.\./x"),
    ("study-job-of-workers", "study run study.gin --out out --job x --workers 2", "--job"),
    ("study-engine", "study run study.gin --out out --engine torch", "torch"),
    ("study-binding", "study plan study.gin --gin.study.Study.nope=3", "nope"),
    ("study-binding-empty", "study plan study.gin --gin.study.Study.seeds=", "seeds"),
    # --- several processes
    ("count-without-address", f"{GIN} --process_count=2", "--coordinator_address"),
    ("index-without-count", f"{GIN} --process_index=1", "--process_count|--coordinator_address"),
    ("address-alone", f"{GIN} --coordinator_address=localhost:1", "--process_count"),
    ("address-without-port",
     f"{GIN} --coordinator_address=localhost --process_count=2 --process_index=0",
     "coordinator_address"),
    ("index-beyond-count",
     f"{GIN} --coordinator_address=localhost:1 --process_count=2 --process_index=2",
     "--process_index"),
    ("count-0", f"{GIN} --coordinator_address=localhost:1 --process_count=0 --process_index=0",
     "--process_count"),
    ("count-negative",
     f"{GIN} --coordinator_address=localhost:1 --process_count=-1 --process_index=0",
     "--process_count"),
    ("count-word", f"{GIN} --process_count=two", "--process_count"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wrong_option_is_refused(refused, case):
    refused(case)


def test_there_are_enough_cases():
    assert len(CASES) > 100
    assert FOLDER is not None
