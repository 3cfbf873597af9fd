"""Studies of the tiny world: what they lay out, run, resume, share and collect."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from seqio_tasks import metrics
from seqio_tasks.errors import RequestError, RunError
from xfer_jax import (
    checkpoints,
    cli,
    configuration,
    cost,
    execution,
    ledger,
    planning,
    scores,
    study,
    train,
)

STUDY = """
study.Study:
  model = 'pocket'
  pretrain = 'pocket_text'
  tasks = ('pocket_nli',)
  sources = ('en', 'sw')
  targets = ('en', 'sw', 'hi')
  n_shots = (0, 8)
  few_shot = {{8: ('TRAIN_STEPS_RELATIVE = 2', 'LEARNING_RATE = 0.01')}}
  files = ({tiny!r},)
"""
# after the task's file, so that everything is tiny
TINY = """
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 12}
BATCH_SIZE = 4
EVAL_BATCH_SIZE = 16
TRAIN_STEPS_RELATIVE = 4
DROPOUT_RATE = 0.1
LEARNING_RATE = 0.02
"""
SOURCE_MODELS = ["pocket_nli/en.s0", "pocket_nli/sw.s0"]
FEW_SHOT = [
    "pocket_nli/en.s0/sw.n8",
    "pocket_nli/en.s0/hi.n8",
    "pocket_nli/sw.s0/en.n8",
    "pocket_nli/sw.s0/hi.n8",
]
JOBS = ["pretrained", *SOURCE_MODELS, *FEW_SHOT]


@pytest.fixture(scope="module")
def file(tiny_gin, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    world = [
        line
        for line in tiny_gin.read_text().splitlines()
        if not re.match(r"(TASK|SOURCE|TARGETS|BATCH_SIZE|EVAL_BATCH_SIZE|DROPOUT_RATE)\b", line)
    ]
    (folder / "tiny.gin").write_text("\n".join(world) + TINY)
    path = folder / "study.gin"
    path.write_text(STUDY.format(tiny=str(folder / "tiny.gin")))
    return path


def process(*arguments: str, code: str = "from xfer_jax import cli") -> subprocess.Popen:
    script = f"{code}\nimport sys\nsys.exit(cli.main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def finished(file, tmp_path_factory):
    """The folder of a study that ran undisturbed, and what it printed."""
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    worker = process("study", "run", str(file), "--out", str(out))
    printed, errors = worker.communicate(timeout=600)
    assert worker.returncode == 0, errors
    return out, printed


def table(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(encoding="utf-8", newline="") as content:
        return list(csv.DictReader(content))


def parameters(out: Path, job: str) -> dict[str, np.ndarray]:
    contents = checkpoints.read(checkpoints.locate(out / job))
    return {name: array.read(()) for name, array in contents.arrays.items()}


def assert_same_results(out: Path, expected: Path):
    assert (out / "scores.csv").read_bytes() == (expected / "scores.csv").read_bytes()
    for job in ("pretrained", *SOURCE_MODELS):
        found = parameters(out, job)
        for name, array in parameters(expected, job).items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{job} {name}")
    for job in (*SOURCE_MODELS, *FEW_SHOT):
        for path in (expected / job / "inference_eval").glob("*.jsonl"):
            other = out / job / "inference_eval" / path.name
            assert other.read_bytes() == path.read_bytes(), other


def test_every_cell_has_its_row(finished):
    out, _ = finished
    rows = table(out)
    cells = [(row["source"], row["target"], row["n_shots"]) for row in rows]
    assert sorted(cells) == sorted(
        [(s, t, "0") for s in ("en", "sw") for t in ("en", "sw", "hi")]
        + [(s, t, "8") for s in ("en", "sw") for t in ("en", "sw", "hi") if s != t]
    )
    for row in rows:
        assert row["task"] == "xfer_pocket_nli"
        assert (row["metric"], row["n_examples"], row["model"]) == ("accuracy", "20", "pocket")
        assert (row["seed"], row["intermediate"], row["engine"]) == ("0", "", "native")
        assert row["arm"] == ""
        assert (out / row["run"] / study.DONE_FILE).is_file()


def test_scores_are_those_of_the_outputs_not_of_metric_files(finished, file, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(finished[0], out)
    before = (out / "scores.csv").read_bytes()
    for path in [*out.rglob("*-metrics.jsonl"), *(out / "pocket_nli").rglob("scores.csv")]:
        path.write_text("nonsense")
    configuration.load("study", [str(file)], [])
    rows = scores.collect(configuration.build(study.Study), out)
    assert (out / "scores.csv").read_bytes() == before
    for row in rows:
        name = f"xfer_pocket_nli.{row['target']}"
        (predictions,) = (out / row["run"] / "inference_eval").glob(f"{name}-0*.jsonl")
        lines = [json.loads(line) for line in predictions.read_text("utf-8").splitlines()]
        hits = [line["output"] == line["target"] for line in lines]
        assert row["score"] == pytest.approx(100 * np.mean(hits))
        references, outputs = ([line[key] for line in lines] for key in ("target", "output"))
        assert row["score"] == metrics.accuracy(references, outputs)["accuracy"]


def test_models_start_where_they_should_and_few_shot_models_are_not_kept(finished):
    out, printed = finished
    starts = re.findall(r"training on (\S+): \d+ examples, steps (\d+) to (\d+)", printed)
    assert starts == [
        ("xfer_pocket_text.all_langs", "0", "4"),
        ("xfer_pocket_nli.en", "4", "8"),
        ("xfer_pocket_nli.sw.n8.s0", "8", "10"),
        ("xfer_pocket_nli.hi.n8.s0", "8", "10"),
        ("xfer_pocket_nli.sw", "4", "8"),
        ("xfer_pocket_nli.en.n8.s0", "8", "10"),
        ("xfer_pocket_nli.hi.n8.s0", "8", "10"),
    ]
    kept = {str(path.parent.relative_to(out)) for path in out.rglob("checkpoint_*")}
    assert kept == {"pretrained", *SOURCE_MODELS}


def test_the_matrix_is_printed_with_the_mean_of_the_others(finished):
    out, printed = finished
    shown = printed[printed.index("xfer_pocket_nli accuracy in percent, zero-shot") :].splitlines()
    cells = {
        (r["source"], r["target"]): float(r["score"]) for r in table(out) if r["n_shots"] == "0"
    }
    assert shown[1].split()[:3] == ["en", "sw", "hi"]
    for line, source in zip(shown[2:4], ("en", "sw"), strict=True):
        values = [cells[source, target] for target in ("en", "sw", "hi")]
        others = [cells[source, target] for target in ("en", "sw", "hi") if target != source]
        assert line.split() == [source, *(f"{v:.1f}" for v in values), f"{np.mean(others):.1f}"]


KILLED = """
import os, signal
from xfer_jax import cli, partitioning
place, calls = partitioning.place, []
def counted(*args):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return place(*args)
partitioning.place = counted
"""


def test_a_study_that_is_killed_again_and_again_ends_with_the_same_bytes(finished, file, tmp_path):
    out = tmp_path / "study"
    arguments = ("study", "run", str(file), "--out", str(out))
    for call in (3, 9, 14):  # steps and evaluations of this process: amid several kinds of job
        worker = process(*arguments, code=KILLED.format(call=call))
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == -signal.SIGKILL, errors
    worker = process(*arguments)
    _, errors = worker.communicate(timeout=300)
    assert worker.returncode == 0, errors
    assert_same_results(out, finished[0])


def test_two_workers_share_a_study(finished, file, tmp_path):
    out = tmp_path / "study"
    workers = [process("study", "run", str(file), "--out", str(out)) for _ in range(2)]
    begun = []
    for worker in workers:
        printed, errors = worker.communicate(timeout=600)
        assert worker.returncode == 0, errors
        begun += re.findall(r"^\[\d+/7\] (\S+)$", printed, re.M)
    assert sorted(begun) == sorted(JOBS)  # none twice, none lost
    assert_same_results(out, finished[0])


def test_workers_of_one_command_do_every_job_once(finished, file, tmp_path, capsys):
    out = tmp_path / "study"
    assert cli.main(["study", "run", str(file), "--out", str(out), "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    ended = re.findall(r"^\[\d+/7\] (\S+) done in \d+ s$", printed, re.M)
    assert sorted(ended) == sorted(JOBS)
    assert f"scores: {out / 'scores.csv'}" in printed
    logs = [(out / "workers" / f"{i}.log").read_text() for i in range(2)]
    begun = [name for log in logs for name in re.findall(r"^\[\d+/7\] (\S+)$", log, re.M)]
    assert sorted(begun) == sorted(JOBS)
    # A worker has fewer cores, and XLA's sums another order: the last bits may differ.
    for row, expected in zip(table(out), table(finished[0]), strict=True):
        names = ("source", "target", "n_shots", "n_examples", "run")
        assert [row[name] for name in names] == [expected[name] for name in names]


def test_sigterm_ends_the_workers_and_leaves_what_is_done(file, tmp_path):
    out = tmp_path / "study"
    parent = process("study", "run", str(file), "--out", str(out), "--workers", "2")
    deadline = time.monotonic() + 120
    while not (out / "pretrained" / study.DONE_FILE).is_file():
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 143, errors
    assert errors == "xfer-jax: ended by SIGTERM; the same command goes on\n"
    workers = {entry.worker for entry in ledger.Ledger(out).entries() if entry.worker}
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker.rpartition(":")[2]), 0)
    assert not list(out.rglob("*.new"))


def test_a_worker_that_dies_is_told_of(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    out = tmp_path / "study"
    assert cli.main(["study", "run", str(file), "--out", str(out), "--workers", "2"]) == 1
    err = capsys.readouterr().err
    assert f"2 of 2 workers failed; the end of {out / 'workers' / '0.log'}: nothing" in err
    assert refusal(capsys, file, "--out", str(out), "--workers", "0").startswith("xfer-jax: --wor")


def test_a_finished_study_has_nothing_to_do(finished, file, capsys):
    out, _ = finished
    assert cli.main(["study", "run", str(file), "--out", str(out)]) == 0
    assert "training on" not in capsys.readouterr().out
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["task", "job", "done", "running", "failed", "todo"],
        ["pocket_text", "before", "all", "1", "0", "0", "0"],
        ["pocket_nli", "source", "model", "2", "0", "0", "0"],
        ["pocket_nli", "8", "shots", "4", "0", "0", "0"],
    ]


def test_a_cell_is_run_with_what_it_starts_from(file, tmp_path, capsys):
    out, cell = tmp_path / "study", "pocket_nli/en.s0/hi.n8"
    assert cli.main(["study", "run", str(file), "--out", str(out), "--cell", cell]) == 0
    done = {str(path.parent.relative_to(out)) for path in out.rglob(study.DONE_FILE)}
    assert done == {"pretrained", "pocket_nli/en.s0", cell}
    capsys.readouterr()
    assert cli.main(["study", "run", str(file), "--out", str(out), "--cell", "pocket_nli/en"]) == 2
    assert "did you mean pocket_nli/en.s0" in capsys.readouterr().err


def refusal(capsys, file: Path, *arguments: str, action: str = "run") -> str:
    assert cli.main(["study", action, str(file), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_a_full_disk_stops_the_study_and_keeps_what_is_done(file, tmp_path, capsys, monkeypatch):
    out = tmp_path / "study"
    arguments = ["study", "run", str(file), "--out", str(out)]
    usage = shutil.disk_usage

    def full(path):
        kept = (out / "pretrained" / study.DONE_FILE).exists()
        return usage(path)._replace(free=100_000 if kept else 1 << 30)

    monkeypatch.setattr(shutil, "disk_usage", full)
    assert cli.main(arguments) == 1
    err = capsys.readouterr().err
    assert f"the disk of {out} is full" in err
    assert err.count("\n") == 1
    assert {str(p.parent.relative_to(out)) for p in out.rglob("checkpoint_*")} == {"pretrained"}
    assert {entry.state for entry in ledger.Ledger(out).entries()} == {ledger.DONE, ledger.TODO}
    assert not list(out.rglob("*.new"))
    monkeypatch.undo()
    cell = "pocket_nli/en.s0"
    assert cli.main([*arguments, "--cell", cell]) == 0
    assert "[2/7] pocket_nli/en.s0" in capsys.readouterr().out


def test_an_error_that_only_says_that_the_disk_is_full_is_understood(file, tmp_path, monkeypatch):
    configuration.load("study", [str(file)], [])
    grid = configuration.build(study.Study)

    def fails(run, text):
        raise ValueError("RESOURCE_EXHAUSTED: Failed writing: No space left on device")

    monkeypatch.setattr(train, "train", fails)
    with pytest.raises(RunError, match=f"the disk of {tmp_path} is full"):
        execution.run(grid, tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(file, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    line = refusal(capsys, file, "--out", str(tmp_path / "taken" / "study"))
    assert f"the study's folder {tmp_path / 'taken' / 'study'}" in line


def test_a_study_that_was_changed_after_its_jobs_ran_is_refused(finished, file, capsys):
    out, _ = finished
    changed = "--gin.study.Study.settings=('LEARNING_RATE = 0.5',)"
    line = refusal(capsys, file, "--out", str(out), changed)
    assert "was LEARNING_RATE = 0.02; now LEARNING_RATE = 0.5" in line


def test_a_study_may_grow(finished, file, capsys):
    out, _ = finished
    more = "--gin.study.Study.sources=('en', 'sw', 'fi')"
    assert cli.main(["study", "plan", str(file), "--out", str(out), more]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^pocket_nli +source model +3 +2 ", shown, re.M), shown


BAD = {
    "language": ("sources=('en', 'swa')", r"unknown task 'xfer_pocket_nli\.swa'.*\.sw"),
    "model": ("model='pockt'", r"gin/models/pockt\.gin cannot be read"),
    "task": ("tasks=('pocket_nil',)", r"gin/tasks/pocket_nil\.gin cannot be read"),
    "shots": ("n_shots=(0, 5)", r"few_shot says nothing of 5 shots"),
    "seed": ("seeds=(-1,)", r"seeds and n_shots must be integers from 0, not -1"),
    "repeat": ("seeds=(1, 1)", r"seeds must be a list without repeats"),
    "arm": ("arms=('half',)", r"unknown arm 'half'"),
    "engine": ("engine='t5'", r"unknown engine 't5'"),
    "two starts": ("initial_checkpoint='x'", r"pretrain or initial_checkpoint, not both"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_study_is_refused_before_anything_runs(file, tmp_path, capsys, case):
    binding, pattern = BAD[case]
    out = tmp_path / "out"
    line = refusal(capsys, file, "--out", str(out), f"--gin.study.Study.{binding}")
    assert re.search(pattern, line), line
    assert not out.exists()


def test_languages_without_data_are_named_before_anything_runs(tmp_path, capsys, monkeypatch):
    (tmp_path / "panx").mkdir()
    for split, language in (("train", "en"), ("dev", "en"), ("dev", "sw")):
        (tmp_path / "panx" / f"{split}-{language}.tsv").write_text("Ada\tB-PER\n\n")
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    path = tmp_path / "study.gin"
    path.write_text(
        "study.Study:\n  model = 'pocket'\n  tasks = ('panx',)\n  targets = ('en', 'sw')\n"
        "  settings = ('VOCAB_SIZE = 512',)\n"
    )
    line = refusal(capsys, path, "--out", str(tmp_path / "out"))
    assert "there is no data for xfer_panx.sw (train);" in line
    assert "panx/train-sw.tsv" in line
    assert not (tmp_path / "out").exists()


def test_t5x_s_engine_needs_t5x(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refusal(capsys, file, "--out", str(tmp_path / "out"), "--engine", "t5x")
    assert "needs T5X" in line
    assert not (tmp_path / "out").exists()


def test_running_and_following_need_a_folder(file, capsys):
    for action in ("run", "status"):
        assert "needs --out" in refusal(capsys, file, action=action)


def test_a_study_that_has_not_begun_says_so(file, tmp_path, capsys):
    assert cli.main(["study", "status", str(file), "--out", str(tmp_path / "none")]) == 0
    assert "nothing has been run; 7 jobs to do" in capsys.readouterr().out


def pflop(shown: str) -> float:
    """Returns what a plan says of XNLI's source models."""
    xnli = next(line.split() for line in shown.splitlines() if re.match(r"xnli +source", line))
    return float(xnli[-3].replace(",", ""))


def test_the_published_grid_has_its_174_pairs_and_24_models(capsys):
    configuration.load("study", ["gin/studies/muller2022.gin"], [])
    grid = configuration.build(study.Study)
    every = study.jobs(grid)
    first = [job for job in every if job.seed == 0 and not job.n_shots]
    assert len(first) == 24
    pairs = [(job.task, job.source, t) for job in first for t in job.targets if t != job.source]
    assert len(set(pairs)) == len(pairs) == 174
    names = [job.name for job in every]
    assert len(set(names)) == len(names)
    for job in every:
        assert job.parent is None or names.index(job.parent) < names.index(job.name)
    with pytest.raises(RequestError, match="unknown device"):
        planning.plan(grid, None, "abacus")
    assert "of 16 on two CPU cores: too much for one" in planning.plan(grid, None, "cpu")
    shown = planning.plan(grid, None, "h100")
    assert "too much" not in shown
    assert "1638 jobs, 0 done; 24 source models, 2160 cells" in shown
    # 24 models x 3 seeds, and 3 x 174 pairs x 3 sizes; XNLI alone: 7 x 3 x 8,000 x 1,024 examples
    examples = 21 * 8000 * 1024
    base, _ = study.load(grid, every[0], Path("out"))
    # of 50 and 2 tokens, in rows four times as long of which a fifth is padding;
    row = cost.training_flops(base.model, 200, 8)
    assert pflop(shown) == pytest.approx(examples / 4 / 0.8 * row / 1e15, rel=1e-3)
    # T5X pads each to 1,024 and 128 tokens: 0.965 TFLOP.
    padded = planning.plan(dataclasses.replace(grid, engine="t5x"), None, "h100")
    assert pflop(padded) == pytest.approx(examples * 0.965 / 1e3, rel=1e-3)


def test_the_ledger_is_rebuilt_from_the_folders(finished, file, capsys):
    out, _ = finished
    (out / ledger.FILE).unlink()
    assert cli.main(["study", "run", str(file), "--out", str(out)]) == 0
    assert "training on" not in capsys.readouterr().out
    assert {entry.state for entry in ledger.Ledger(out).entries()} == {ledger.DONE}


def test_following_ends_with_the_study_and_says_how_it_stands(finished, file, capsys):
    out, _ = finished
    configuration.load("study", [str(file)], [])
    planning.follow(configuration.build(study.Study), out)
    assert capsys.readouterr().out == ""  # nothing ended while it looked


def test_a_running_job_tells_how_far_it_is(file, tmp_path):
    configuration.load("study", [str(file)], [])
    grid = configuration.build(study.Study)
    book = ledger.Ledger(tmp_path)
    book.enter(dict.fromkeys(JOBS, False))
    book.claim(lambda done: ["pretrained"])
    book.finish("pretrained")
    book.claim(lambda done: ["pocket_nli/en.s0"])
    with book.beating("pocket_nli/en.s0", lambda: "train 3/4"):
        book.beat("pocket_nli/en.s0", "train 3/4")
        shown = planning.status(grid, tmp_path)
    assert re.search(r"running pocket_nli/en\.s0 for \d+ s by \S+: train 3/4", shown), shown
    assert re.search(r"6 to go, about \d+ minutes of one worker", shown), shown


def rows_of(cells: dict[tuple[str, str, str], float]) -> list[dict]:
    common = {"task": "xfer_x", "metric": "f1", "n_shots": 0, "intermediate": ""}
    return [
        common | {"source": s, "target": t, "arm": arm, "score": score}
        for (s, t, arm), score in cells.items()
    ]


BETWEEN = (
    "study.Study.n_shots = (0,)\n"
    "study.Study.intermediates = ('', 'more', 'pocket_ner.indic.n6.s0')\n"
    "study.Study.intermediate_steps = 3\n"
    """study.Study.settings = ("LONG_TARGETS = 'trim'",)\n"""
)


def grid_of(path: Path) -> study.Study:
    configuration.load("study", [str(path)], [])
    return configuration.build(study.Study)


def test_intermediate_tasks_are_shared_and_the_baseline_trains_as_long(file, tmp_path):
    path = tmp_path / "between.gin"
    path.write_text(file.read_text() + BETWEEN)
    every = {job.name: job for job in study.jobs(grid_of(path))}
    task = "pocket_nli"
    between = "intermediate/pocket_ner.indic.n6.s0"
    assert every[between].parent == "pretrained"
    for source in ("en", "sw"):
        more = f"intermediate/more/{task}/{source}.s0"
        assert every[more].parent == "pretrained"
        assert every[f"{task}/{source}.s0"].parent == "pretrained"
        assert every[f"{task}+more/{source}.s0"].parent == more
        assert every[f"{task}+pocket_ner.indic.n6.s0/{source}.s0"].parent == between
        # as many steps, of the same task and source; then all train alike
        steps = "TRAIN_STEPS_RELATIVE = 3"
        assert steps in every[more].bindings
        assert steps in every[between].bindings
        assert f"SOURCE = {source!r}" in every[more].bindings
    grid = grid_of(path)
    run, _ = study.load(grid, every[between], tmp_path)
    assert run.task == "xfer_pocket_ner.indic.n6.s0"
    assert (run.train_steps, run.train_steps_relative) == (None, 3)
    first, then = (
        study.load(grid, every[name], tmp_path)[0]
        for name in (f"intermediate/more/{task}/en.s0", f"{task}+more/en.s0")
    )
    assert first.task == then.task
    assert first.seed != then.seed  # another order of the same data


def test_a_study_with_intermediate_tasks_runs(file, tmp_path, capsys):
    path, out = tmp_path / "between.gin", tmp_path / "out"
    path.write_text(file.read_text() + BETWEEN + "study.Study.sources = ('en',)\n")
    assert cli.main(["study", "run", str(path), "--out", str(out)]) == 0
    rows = table(out)
    assert [row["intermediate"] for row in rows[::3]] == ["", "more", "pocket_ner.indic.n6.s0"]
    assert len(rows) == 9
    steps = {
        name: int(Path(checkpoints.locate(out / name)).name.rpartition("_")[2])
        for name in (
            "pretrained",
            "pocket_nli/en.s0",
            "pocket_nli+more/en.s0",
            "pocket_nli+pocket_ner.indic.n6.s0/en.s0",
        )
    }
    assert list(steps.values()) == [4, 8, 11, 11]
    printed = capsys.readouterr().out
    assert "after more steps in the source" in printed
    assert "after pocket_ner.indic.n6.s0" in printed


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("study.Study.intermediates = ('', 'more')", "set study.Study.intermediate_steps"),
        ("study.Study.intermediates = ('pocket_ner',)", "names no language"),
        ("study.Study.intermediates = ('pocket_ner.uralik',)", "unknown task"),
        (
            "study.Study.intermediates = ('pocket_text.hi',)\nstudy.Study.files = ()",
            "steps there are in all",
        ),
        (
            "study.Study.intermediates = ('', 'pocket_ner.hi')\n"
            "study.Study.settings = ('TRAIN_STEPS = 9', 'TRAIN_STEPS_RELATIVE = None')\n"
            "study.Study.intermediate_steps = 2",
            "set TRAIN_STEPS_RELATIVE",
        ),
        ("study.Study.intermediates = ('', None)", "intermediates must be names"),
        ("study.Study.intermediate_steps = 0", "intermediate_steps must be an integer"),
    ],
)
def test_a_wrong_intermediate_is_refused(file, tmp_path, capsys, lines, sentence):
    path = tmp_path / "wrong.gin"
    path.write_text(file.read_text() + lines + "\n")
    assert cli.main(["study", "run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_arms_and_seeds_are_not_mixed_up():
    rows = rows_of({("en", "sw", ""): 10.0, ("en", "sw", "matched"): 20.0})
    rows += rows_of({("en", "sw", ""): 14.0})  # another seed
    plain, matched = scores.matrices(rows).split("\n\n")
    assert "zero-shot: sources" in plain
    assert plain.splitlines()[2].split() == ["en", "12.0", "12.0"]
    assert "zero-shot, matched: sources" in matched
    assert matched.splitlines()[2].split() == ["en", "20.0", "20.0"]


def test_thirds_level_pairs_that_are_equally_alike():
    alike = {
        ("a", "b"): 3,
        ("b", "a"): 3,
        ("a", "c"): 2,
        ("c", "a"): 1,
        ("b", "c"): 1,
        ("c", "b"): 1,
    }
    cells = dict(zip(alike, (90.0, 80.0, 50.0, 30.0, 20.0, 10.0), strict=True))
    cells["a", "a"] = 100.0  # no pair of two languages
    top, bottom = scores.thirds(cells, lambda *pair: alike[pair])
    assert (top, bottom) == (85.0, 20.0)
