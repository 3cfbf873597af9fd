"""Studies of the tiny world: what they lay out, run, resume, share and collect."""

import csv
import dataclasses
import hashlib
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
from xfer_jax import configuration
from xfer_jax.checkpoints import locations, store
from xfer_jax.cli import main as cli
from xfer_jax.engine import train
from xfer_jax.runtime import host_memory
from xfer_jax.study import (
    cost,
    definition,
    execution,
    folder_lock,
    job_graph,
    job_record,
    plan,
    scores,
    status,
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
SKIPPED = ("scores.csv", status.STATE, execution.LOGS)  # are the whole study's


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


def process(
    *arguments: str, code: str = "from xfer_jax.cli import main as cli"
) -> subprocess.Popen:
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


def begun(finished, out: Path, *kept: str) -> Path:
    """Copies the finished study with some of its jobs alone done; returns where to."""
    shutil.copytree(finished[0], out, ignore=shutil.ignore_patterns(job_record.DONE_FILE, *SKIPPED))
    for job in JOBS:
        if job in kept:
            shutil.copy2(finished[0] / job / job_record.DONE_FILE, out / job)
        elif (out / job).is_dir():
            shutil.rmtree(out / job)
    return out


def table(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(encoding="utf-8", newline="") as content:
        return list(csv.DictReader(content))


def parameters(out: Path, job: str) -> dict[str, np.ndarray]:
    contents = store.read(locations.locate(out / job))
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
        record = job_record.read(out, row["run"])
        assert record is not None
        assert record.cores == len(os.sched_getaffinity(0))
        assert record.device == "1 x cpu"
        for name, digest in record.wrote.items():
            content = (out / row["run"] / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest
        assert set(record.read) == {"initial checkpoint", "vocabulary"}


def test_scores_are_those_of_the_outputs_not_of_metric_files(finished, file, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(finished[0], out)
    before = (out / "scores.csv").read_bytes()
    for path in (out / "pocket_nli").rglob("scores.csv"):
        path.write_text("nonsense")
    configuration.load("study", [str(file)], [])
    rows, complaints = scores.collect(configuration.build(definition.Study), out)
    assert complaints == []
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
from xfer_jax.cli import main as cli
from xfer_jax.mt5 import partitioning
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


HELD = """
import time
from xfer_jax.cli import main as cli
from xfer_jax.engine import train
train.train = lambda *run: time.sleep(60)
"""


def wait_for(there, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not there():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_second_owner_is_refused_and_a_killed_one_is_seen(file, tmp_path, capsys):
    out = tmp_path / "study"
    arguments = ("study", "run", str(file), "--out", str(out))
    first = process(*arguments, code=HELD)
    wait_for((out / status.STATE).is_file, first)
    line = refusal(capsys, file, "--out", str(out))
    assert f"the study in {out} is being run by process {first.pid} on " in line
    assert " since 20" in line
    assert "it does all its jobs" in refusal(capsys, file, "--out", str(out), "--job", "pretrained")
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "running pretrained\n" in shown
    assert f"run by process {first.pid}" in shown
    first.send_signal(signal.SIGSTOP)  # a process that is suspended still owns its study
    assert "is being run by" in refusal(capsys, file, "--out", str(out))
    first.kill()
    first.wait()
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "not running: the last run was killed during pretrained; 7 jobs to go" in shown


def test_workers_end_with_their_owner(file, tmp_path):
    out = tmp_path / "study"
    owner = process("study", "run", str(file), "--out", str(out), "--workers", "2")
    log = out / "workers" / "0.log"
    wait_for(lambda: log.is_file() and "training on" in log.read_text(), owner)
    owner.kill()
    owner.wait()
    with folder_lock.owned(out, "the study"):  # waits until they are gone
        pass


FAILS = """
from xfer_jax.cli import main as cli
from xfer_jax.engine import train
from seqio_tasks.errors import RunError
real = train.train
def fails(run, text):
    if run.folder.name == "en.s0":
        raise RunError("it broke")
    return real(run, text)
train.train = fails
"""


def test_a_job_that_fails_is_tried_once_and_those_after_it_are_not_run(
    finished, file, tmp_path, capsys
):
    out = begun(finished, tmp_path / "study", "pretrained", "pocket_nli/sw.s0", FEW_SHOT[2])
    worker = process("study", "run", str(file), "--out", str(out), code=FAILS)
    printed, errors = worker.communicate(timeout=300)
    assert worker.returncode == 1
    assert printed.count("pocket_nli/en.s0 failed: it broke") == 1
    assert errors == (
        "xfer-jax: 1 of 7 jobs failed, and 2 that start from them were not run:"
        " pocket_nli/en.s0: it broke\n"
    )
    done = {str(path.parent.relative_to(out)) for path in out.rglob(job_record.DONE_FILE)}
    assert done == {"pretrained", "pocket_nli/sw.s0", *FEW_SHOT[2:]}
    assert {row["source"] for row in table(out)} == {"sw"}
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "failed  pocket_nli/en.s0: it broke" in shown
    assert "failed  pocket_nli/en.s0/sw.n8: not run: pocket_nli/en.s0 failed" in shown


def test_workers_of_one_command_do_every_job_once(finished, file, tmp_path, capsys):
    out = begun(finished, tmp_path / "study", "pretrained")
    assert cli.main(["study", "run", str(file), "--out", str(out), "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    ended = re.findall(r"^\[\d+/7\] (\S+) done$", printed, re.M)
    assert sorted(ended) == sorted(JOBS[1:])
    assert f"scores: {out / 'scores.csv'}" in printed
    logs = [(out / "workers" / f"{i}.log").read_text() for i in range(2)]
    assert sum(log.count("training on") for log in logs) == len(JOBS) - 1
    # A worker has fewer cores, and XLA's sums another order: the last bits may differ.
    for row, expected in zip(table(out), table(finished[0]), strict=True):
        names = ("source", "target", "n_shots", "n_examples", "run")
        assert [row[name] for name in names] == [expected[name] for name in names]


def test_sigterm_ends_the_workers_and_leaves_what_is_done(file, tmp_path):
    out = tmp_path / "study"
    parent = process("study", "run", str(file), "--out", str(out), "--workers", "2")
    deadline = time.monotonic() + 120
    while not (out / "pretrained" / job_record.DONE_FILE).is_file():
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 143, errors
    assert errors == "xfer-jax: ended by SIGTERM; the same command goes on\n"
    assert folder_lock.owner(out) is None  # its workers, who would hold the lock, have ended
    assert not list(out.rglob("*.new"))


def test_a_worker_that_dies_is_told_of(file, tmp_path, capsys, monkeypatch):
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$GLIBC_TUNABLES"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(host_memory, "large_pages", lambda: {"GLIBC_TUNABLES": "large pages"})
    out = tmp_path / "study"
    assert cli.main(["study", "run", str(file), "--out", str(out), "--workers", "2"]) == 1
    err = capsys.readouterr().err
    assert "1 of 7 jobs failed, and 6 that start from them were not run: pretrained: its w" in err
    assert f"its worker ended with 1; the end of {out / 'workers' / '0.log'}: large pages" in err
    for count in ("0", "-1", "1000000000"):
        line = refusal(capsys, file, "--out", str(out), "--workers", count)
        assert "--workers must be from 1 to 256" in line


def test_a_finished_study_has_nothing_to_do(finished, file, capsys):
    out, _ = finished
    assert cli.main(["study", "run", str(file), "--out", str(out)]) == 0
    assert "training on" not in capsys.readouterr().out
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["task", "job", "done", "running", "failed", "to", "do"],
        ["pocket_text", "before", "all", "1", "0", "0", "0"],
        ["pocket_nli", "source", "model", "2", "0", "0", "0"],
        ["pocket_nli", "8", "shots", "4", "0", "0", "0"],
    ]


def test_one_job_is_run_once_what_it_starts_from_is_done(finished, file, tmp_path, capsys):
    out, job = tmp_path / "study", "pocket_nli/en.s0/hi.n8"
    arguments = ["study", "run", str(file), "--out", str(out), "--job"]
    assert cli.main([*arguments, job]) == 3
    assert capsys.readouterr().err == (
        f"xfer-jax: {job} starts from pocket_nli/en.s0, which is not done: do that first\n"
    )
    assert not out.exists()
    shutil.copytree(finished[0], out)
    before = (out / job / job_record.DONE_FILE).read_bytes()
    assert cli.main([*arguments, job]) == 0
    assert capsys.readouterr().out == f"{job} is done\n"
    shutil.rmtree(out / job)
    assert cli.main([*arguments, job]) == 0
    assert "steps 8 to 10" in capsys.readouterr().out
    assert job_record.Done.model_validate_json(before).wrote == job_record.read(out, job).wrote
    assert cli.main([*arguments, "pocket_nli/en"]) == 2
    assert "did you mean pocket_nli/en.s0" in capsys.readouterr().err
    assert "leave out --workers" in refusal(
        capsys, file, "--out", str(out), "--job", job, "--workers", "2"
    )


def test_a_study_that_was_moved_goes_on(finished, file, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished[0], tmp_path / "a" / "study")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "study" / FEW_SHOT[0])
    monkeypatch.chdir(tmp_path / "a")
    for out in ("study", "../link/study/", "../a/../a/study"):
        assert cli.main(["study", "run", str(file), "--out", out]) == 0
    assert capsys.readouterr().out.count("training on") == 1
    assert_same_results(tmp_path / "a" / "study", finished[0])


def test_damaged_results_are_left_out_of_the_table_and_named(finished, file, tmp_path, capsys):
    out = tmp_path / "study"
    shutil.copytree(finished[0], out)
    (predictions,) = (out / FEW_SHOT[0] / "inference_eval").glob("*-0*.jsonl")
    predictions.write_text(predictions.read_text()[:-20])
    (out / FEW_SHOT[1] / job_record.DONE_FILE).write_text("{")
    record = job_record.read(out, FEW_SHOT[2]).model_copy(update={"cores": 97})
    (out / FEW_SHOT[2] / job_record.DONE_FILE).write_text(record.model_dump_json())
    assert cli.main(["study", "collect", str(file), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"warning: {FEW_SHOT[0]} is left out: {predictions} is not as it was written" in printed
    assert "unlike machines" in printed
    assert f"{FEW_SHOT[2]} with 97 cores and 1 x cpu" in printed
    assert len(table(out)) == len(table(finished[0])) - 2
    assert cli.main(["study", "run", str(file), "--out", str(out)]) == 0  # does the undone one
    assert f"training on xfer_pocket_nli.{FEW_SHOT[1][-5:-3]}.n8" in capsys.readouterr().out


def test_thousands_of_jobs_are_handed_out_in_linear_time():
    every = [job_graph.Job("root", "t", None, ())]
    every += [job_graph.Job(f"s{i}", "t", "root", ()) for i in range(200)]
    every += [job_graph.Job(f"s{i}/{j}", "t", f"s{i}", ()) for i in range(200) for j in range(40)]
    graph = execution._Graph(every, set())
    began, taken = time.process_time(), []
    while graph.ready:
        job = graph.take()
        taken.append(job.name)
        graph.end(job, execution.Outcome(execution.DONE))
    assert sorted(taken) == sorted(job.name for job in every)
    assert time.process_time() - began < 5


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
        kept = (out / "pretrained" / job_record.DONE_FILE).exists()
        return usage(path)._replace(free=100_000 if kept else 1 << 30)

    monkeypatch.setattr(shutil, "disk_usage", full)
    assert cli.main(arguments) == 1
    err = capsys.readouterr().err
    assert f"the disk of {out} is full" in err
    assert err.count("\n") == 1
    assert {str(p.parent.relative_to(out)) for p in out.rglob("checkpoint_*")} == {"pretrained"}
    assert {str(p.parent.relative_to(out)) for p in out.rglob(job_record.DONE_FILE)} == {
        "pretrained"
    }
    assert not list(out.rglob("*.new"))
    monkeypatch.undo()
    assert cli.main([*arguments, "--job", "pocket_nli/en.s0"]) == 0
    assert "steps 4 to 8" in capsys.readouterr().out


def test_an_error_that_only_says_that_the_disk_is_full_is_understood(file, tmp_path, monkeypatch):
    configuration.load("study", [str(file)], [])
    grid = configuration.build(definition.Study)

    def fails(run, text):
        raise ValueError("RESOURCE_EXHAUSTED: Failed writing: No space left on device")

    monkeypatch.setattr(train, "train", fails)
    with pytest.raises(RunError, match=f"the disk of {tmp_path} is full"):
        execution.run(grid, tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(file, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    line = refusal(capsys, file, "--out", str(tmp_path / "taken" / "study"))
    assert f"{tmp_path / 'taken'} is no folder" in line


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
    "model": (
        "model='pockt'",
        r"no gin file gin/models/pockt\.gin \(did you mean",
    ),
    "task": ("tasks=('pocket_nil',)", r"no gin file gin/tasks/pocket_nil\.gin \(did you mean"),
    "shots": ("n_shots=(0, 5)", r"few_shot says nothing of 5 shots"),
    "seed": ("seeds=(-1,)", r"seeds\[0\] must be at least 0, not -1"),
    "repeat": ("seeds=(1, 1)", r"seeds must be a list without repeats"),
    "arm": ("arms=('half',)", r"arms\[0\] must be '' or 'matched', not 'half'"),
    "engine": ("engine='t5'", r"engine must be 'native' or 't5x', not 't5'"),
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
    assert "not running; 7 jobs to go" in capsys.readouterr().out


def pflop(shown: str) -> float:
    """Returns what a plan says of XNLI's source models."""
    xnli = next(line.split() for line in shown.splitlines() if re.match(r"xnli +source", line))
    return float(xnli[-3].replace(",", ""))


def test_the_published_grid_has_its_174_pairs_and_24_models(capsys):
    configuration.load("study", ["gin/studies/muller2022.gin"], [])
    grid = configuration.build(definition.Study)
    every = job_graph.lay_out(grid)
    first = [job for job in every if job.seed == 0 and not job.n_shots]
    assert len(first) == 24
    pairs = [(job.task, job.source, t) for job in first for t in job.targets if t != job.source]
    assert len(set(pairs)) == len(pairs) == 174
    names = [job.name for job in every]
    assert len(set(names)) == len(names)
    for job in every:
        assert job.parent is None or names.index(job.parent) < names.index(job.name)
    with pytest.raises(RequestError, match="unknown device"):
        plan.render(grid, None, "abacus")
    assert "of 16 on two CPU cores: too much for one" in plan.render(grid, None, "cpu")
    shown = plan.render(grid, None, "h100")
    assert "too much" not in shown
    assert "1638 jobs, 0 done; 24 source models, 2160 cells" in shown
    # 24 models x 3 seeds, and 3 x 174 pairs x 3 sizes; XNLI alone: 7 x 3 x 8,000 x 1,024 examples
    examples = 21 * 8000 * 1024
    base, _ = job_graph.load(grid, every[0], Path("out"))
    # of 50 and 2 tokens, in rows four times as long of which a fifth is padding;
    row = cost.training_flops(base.model, 200, 8)
    assert pflop(shown) == pytest.approx(examples / 4 / 0.8 * row / 1e15, rel=1e-3)
    # T5X pads each to 1,024 and 128 tokens: 0.965 TFLOP.
    padded = plan.render(dataclasses.replace(grid, engine="t5x"), None, "h100")
    assert pflop(padded) == pytest.approx(examples * 0.965 / 1e3, rel=1e-3)


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


def grid_of(path: Path) -> definition.Study:
    configuration.load("study", [str(path)], [])
    return configuration.build(definition.Study)


def test_intermediate_tasks_are_shared_and_the_baseline_trains_as_long(file, tmp_path):
    path = tmp_path / "between.gin"
    path.write_text(file.read_text() + BETWEEN)
    every = {job.name: job for job in job_graph.lay_out(grid_of(path))}
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
        assert every[more].language == source
    grid = grid_of(path)
    run, _ = job_graph.load(grid, every[between], tmp_path)
    assert run.training_data.task == "xfer_pocket_ner.indic.n6.s0"
    assert (run.optimisation.train_steps, run.optimisation.train_steps_relative) == (None, 3)
    first, then = (
        job_graph.load(grid, every[name], tmp_path)[0]
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
        name: int(Path(locations.locate(out / name)).name.rpartition("_")[2])
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
        ("study.Study.intermediates = ('', None)", "intermediates[1] must be text"),
        ("study.Study.intermediate_steps = 0", "intermediate_steps must be at least 1"),
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
