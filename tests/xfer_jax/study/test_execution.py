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
from xfer_jax.mt5 import cost
from xfer_jax.runtime import host_memory
from xfer_jax.study import (
    collect,
    definition,
    execution,
    folder_lock,
    job_graph,
    job_record,
    job_settings,
    plan,
    status,
)
from xfer_jax.study.job import Job

STUDY = """
study.Study:
  model = 'pocket'
  stages = (@pretrained/study.Stage(), @nli/study.Stage(), @few_shot/study.Stage())
  targets = ('en', 'sw', 'hi')
  files = ({tiny!r},)

pretrained/study.Stage.tasks = ('pocket_text',)

nli/study.Stage:
  start_from = ('pretrained',)
  tasks = ('pocket_nli',)
  train_on = ('en', 'sw')
  score_on = 'targets'

few_shot/study.Stage:
  start_from = ('nli',)
  train_on = 'other_targets'
  variants = {{'n8': ('TRAIN_STEPS_RELATIVE = 2', 'LEARNING_RATE = 0.01')}}
  score_on = 'same'
  keep = False
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
PRETRAINED = "pretrained/pocket_text.s0"
ENGLISH, SWAHILI = SOURCE_MODELS = [f"{PRETRAINED}/nli/pocket_nli.{s}.s0" for s in ("en", "sw")]
FEW_SHOT = [
    f"{ENGLISH}/few_shot/pocket_nli.sw.n8.s0",
    f"{ENGLISH}/few_shot/pocket_nli.hi.n8.s0",
    f"{SWAHILI}/few_shot/pocket_nli.en.n8.s0",
    f"{SWAHILI}/few_shot/pocket_nli.hi.n8.s0",
]
JOBS = [PRETRAINED, *SOURCE_MODELS, *FEW_SHOT]
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
    for job in (PRETRAINED, *SOURCE_MODELS):
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
    for path in out.glob("*/**/scores.csv"):
        path.write_text("nonsense")
    configuration.load("study", [str(file)], [])
    study = configuration.build(definition.Study)
    assert "warning" not in collect.collect(study, out)
    rows, problems = collect.scores(study, out, job_graph.lay_out(study))
    assert problems == []
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
        ("xfer_pocket_nli.sw", "4", "8"),
        ("xfer_pocket_nli.sw.n8.s0", "8", "10"),
        ("xfer_pocket_nli.hi.n8.s0", "8", "10"),
        ("xfer_pocket_nli.en.n8.s0", "8", "10"),
        ("xfer_pocket_nli.hi.n8.s0", "8", "10"),
    ]
    kept = {str(path.parent.relative_to(out)) for path in out.rglob("checkpoint_*")}
    assert kept == {PRETRAINED, *SOURCE_MODELS}


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
    assert "it does all its jobs" in refusal(capsys, file, "--out", str(out), "--job", PRETRAINED)
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"running {PRETRAINED}\n" in shown
    assert f"run by process {first.pid}" in shown
    first.send_signal(signal.SIGSTOP)  # a process that is suspended still owns its study
    assert "is being run by" in refusal(capsys, file, "--out", str(out))
    first.kill()
    first.wait()
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"the last run was killed during {PRETRAINED}; 7 jobs to go" in shown


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
    if run.folder.name == "pocket_nli.en.s0":
        raise RunError("it broke")
    return real(run, text)
train.train = fails
"""


def test_a_job_that_fails_is_tried_once_and_those_after_it_are_not_run(
    finished, file, tmp_path, capsys
):
    out = begun(finished, tmp_path / "study", PRETRAINED, SWAHILI, FEW_SHOT[2])
    worker = process("study", "run", str(file), "--out", str(out), code=FAILS)
    printed, errors = worker.communicate(timeout=300)
    assert worker.returncode == 1
    assert printed.count(f"{ENGLISH} failed: it broke") == 1
    assert errors == (
        "xfer-jax: 1 of 7 jobs failed, and 2 that start from them were not run:"
        f" {ENGLISH}: it broke\n"
    )
    done = {str(path.parent.relative_to(out)) for path in out.rglob(job_record.DONE_FILE)}
    assert done == {PRETRAINED, SWAHILI, *FEW_SHOT[2:]}
    assert {row["source"] for row in table(out)} == {"sw"}
    assert cli.main(["study", "status", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"failed  {ENGLISH}: it broke" in shown
    assert f"failed  {FEW_SHOT[0]}: not run: {ENGLISH} failed" in shown


def test_workers_of_one_command_do_every_job_once(finished, file, tmp_path, capsys):
    out = begun(finished, tmp_path / "study", PRETRAINED)
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
    while not (out / PRETRAINED / job_record.DONE_FILE).is_file():
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
    assert f"1 of 7 jobs failed, and 6 that start from them were not run: {PRETRAINED}: its" in err
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
        ["stage", "task", "done", "running", "failed", "to", "do"],
        ["pretrained", "pocket_text", "1", "0", "0", "0"],
        ["nli", "pocket_nli", "2", "0", "0", "0"],
        ["few_shot", "n8", "pocket_nli", "4", "0", "0", "0"],
    ]


def test_one_job_is_run_once_what_it_starts_from_is_done(finished, file, tmp_path, capsys):
    out, job = tmp_path / "study", FEW_SHOT[1]
    arguments = ["study", "run", str(file), "--out", str(out), "--job"]
    assert cli.main([*arguments, job]) == 3
    assert capsys.readouterr().err == (
        f"xfer-jax: {job} starts from {ENGLISH}, which is not done: do that first\n"
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
    assert cli.main([*arguments, ENGLISH[:-3]]) == 2
    assert f"did you mean {ENGLISH}" in capsys.readouterr().err
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
    assert "training on xfer_pocket_nli.hi.n8" in capsys.readouterr().out


def test_thousands_of_jobs_are_handed_out_in_linear_time():
    first, then = (definition.Stage(name=name, tasks=("t",)) for name in ("first", "then"))
    root = Job(first, None, "t")
    models = [Job(then, root, f"s{i}") for i in range(200)]
    every = [root, *models, *(Job(then, of, f"f{j}") for of in models for j in range(40))]
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
        kept = (out / PRETRAINED / job_record.DONE_FILE).exists()
        return usage(path)._replace(free=100_000 if kept else 1 << 30)

    monkeypatch.setattr(shutil, "disk_usage", full)
    assert cli.main(arguments) == 1
    err = capsys.readouterr().err
    assert f"the disk of {out} is full" in err
    assert err.count("\n") == 1
    assert {str(p.parent.relative_to(out)) for p in out.rglob("checkpoint_*")} == {PRETRAINED}
    assert {str(p.parent.relative_to(out)) for p in out.rglob(job_record.DONE_FILE)} == {PRETRAINED}
    assert not list(out.rglob("*.new"))
    monkeypatch.undo()
    assert cli.main([*arguments, "--job", ENGLISH]) == 0
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
    more = "--gin.nli/study.Stage.train_on=('en', 'sw', 'fi')"
    assert cli.main(["study", "plan", str(file), "--out", str(out), more]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^nli +pocket_nli +3 +2 ", shown, re.M), shown


BAD = {
    "language": (
        "nli/study.Stage.train_on=('en', 'swa')",
        r"unknown task 'xfer_pocket_nli\.swa'.*\.sw",
    ),
    "target": ("study.Study.targets=('en', 'swa')", r"unknown task 'xfer_pocket_nli\.swa'.*\.sw"),
    "model": ("study.Study.model='pockt'", r"no gin file gin/models/pockt\.gin \(did you mean"),
    "task": (
        "nli/study.Stage.tasks=('pocket_nil',)",
        r"no gin file gin/tasks/pocket_nil\.gin \(did",
    ),
    "variant": (
        "nli/study.Stage.variants={'half': ()}",
        r"nli/study\.Stage\.variants.*such as 'n100'",
    ),
    "variants": ("nli/study.Stage.variants={}", r"nli/study\.Stage\.variants must not be empty"),
    "seed": ("study.Study.seeds=(-1,)", r"seeds\[0\] must be at least 0, not -1"),
    "repeat": ("study.Study.seeds=(1, 1)", r"seeds must be a list without repeats"),
    "engine": ("study.Study.engine='t5'", r"engine must be 'native' or 't5x', not 't5'"),
    "action": (
        "nli/study.Stage.action='guess'",
        r"nli/study\.Stage\.action must be 'train', 'probe' or",
    ),
    "later stage": (
        "nli/study.Stage.start_from=('few_shot',)",
        r"names 'few_shot', which is no earlier",
    ),
    "no start": ("few_shot/study.Stage.start_from=()", r"few_shot/study\.Stage\.tasks must be set"),
    "start is not kept": ("nli/study.Stage.keep=False", r"set nli/study\.Stage\.keep = True"),
    "seeds": ("pretrained/study.Stage.seeds=(0, 1)", r"nli has 1 seeds and pretrained.* 2"),
    "no language before": ("nli/study.Stage.train_on=None", r"set nli/study\.Stage\.train_on"),
    "nothing assumed": (
        "study.Study.assumed={'x': (0, 2, 3)}",
        r"assumed\['x'\]\[0\] must be at least 1",
    ),
    "reserved": ("few_shot/study.Stage.name='train'", r"cannot be named 'train'"),
    "same": ("nli/study.Stage.score_on='same'", r"few_shot cannot start from nli"),
    "scored on nothing": ("nli/study.Stage.action='probe'", r"'probe' trains on nothing"),
    "steps in all": (
        "few_shot/study.Stage.variants={'n8': ('TRAIN_STEPS_RELATIVE = None', 'TRAIN_STEPS = 9')}",
        r"few_shot is trained on pocket_nli for TRAIN_STEPS in all",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_study_is_refused_before_anything_runs(file, tmp_path, capsys, case):
    binding, pattern = BAD[case]
    out = tmp_path / "out"
    line = refusal(capsys, file, "--out", str(out), f"--gin.{binding}")
    assert re.search(pattern, line), line
    assert not out.exists()


def test_languages_without_data_are_named_before_anything_runs(tmp_path, capsys, monkeypatch):
    (tmp_path / "panx").mkdir()
    for split, language in (("train", "en"), ("dev", "en"), ("dev", "sw")):
        (tmp_path / "panx" / f"{split}-{language}.tsv").write_text("Ada\tB-PER\n\n")
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    path = tmp_path / "study.gin"
    path.write_text(
        "study.Study:\n  model = 'pocket'\n  stages = (@s/study.Stage(),)\n"
        "  targets = ('en', 'sw')\n  settings = ('VOCAB_SIZE = 512',)\n"
        "s/study.Stage:\n  tasks = ('panx',)\n  train_on = 'targets'\n  score_on = 'targets'\n"
    )
    line = refusal(capsys, path, "--out", str(tmp_path / "out"))
    assert "there is no data for xfer_panx.sw (train);" in line
    assert "panx/train-sw.tsv" in line
    assert not (tmp_path / "out").exists()


def test_each_stage_is_checked_in_its_own_data_folder(tmp_path, capsys):
    for name in ("lacks", "has"):
        (tmp_path / name / "panx").mkdir(parents=True)
    for split in ("train", "dev"):
        (tmp_path / "has" / "panx" / f"{split}-en.tsv").write_text("Ada\tB-PER\n\n")
    path = tmp_path / "study.gin"
    stages = "".join(
        f"{name}/study.Stage:\n  tasks = ('panx',)\n  train_on = 'targets'\n"
        f"  score_on = 'targets'\n  settings = (\"DATA_DIR = '{tmp_path / name}'\",)\n"
        for name in ("lacks", "has")
    )
    path.write_text(
        "study.Study:\n  model = 'pocket'\n  stages = (@lacks/study.Stage(), @has/study.Stage())\n"
        f"  targets = ('en',)\n  settings = ('VOCAB_SIZE = 512',)\n{stages}"
    )
    line = refusal(capsys, path, "--out", str(tmp_path / "out"))
    assert "there is no data for xfer_panx.en (train), xfer_panx.en (validation);" in line
    assert str(tmp_path / "lacks") in line


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
    xnli = next(line.split() for line in shown.splitlines() if re.match(r"source +xnli", line))
    return float(xnli[-3].replace(",", ""))


def test_the_published_grid_has_its_174_pairs_and_24_models(capsys):
    configuration.load("study", ["gin/studies/muller2022.gin"], [])
    grid = configuration.build(definition.Study)
    every = job_graph.lay_out(grid)
    first = [job for job in every if job.seed == 0 and job.stage.name == "source"]
    assert len(first) == 24
    pairs = [(job.task, job.language, t) for job in first for t in job.targets if t != job.language]
    assert len(set(pairs)) == len(pairs) == 174
    names = [job.name for job in every]
    assert len(set(names)) == len(names)
    for job in every:
        assert job.parent is None or names.index(job.parent.name) < names.index(job.name)
    with pytest.raises(RequestError, match="unknown device"):
        plan.render(grid, None, "abacus")
    xl = dataclasses.replace(grid, model="xl")
    assert "of 24 on NVIDIA L4: too much for one" in plan.render(xl, None, "l4")
    assert "too much" not in plan.render(grid, None, "cpu")  # in micro-batches
    shown = plan.render(grid, None, "h100")
    assert "too much" not in shown
    assert "1638 jobs, 0 done; 2160 cells" in shown
    # 24 models x 3 seeds, and 3 x 174 pairs x 3 sizes; XNLI alone: 7 x 3 x 8,000 x 2^20 tokens
    examples = 21 * 8000 * round(2**20 / 50)
    base, _ = job_settings.load(grid, every[0], Path("out"))
    # of 50 and 2 tokens, in rows four times as long of which a fifth is padding;
    row = cost.training_flops(base.model, 200, 8)
    assert pflop(shown) == pytest.approx(examples / 4 / 0.8 * row / 1e15, rel=1e-3)
    # T5X packs them into 1,024 rows of 1,024 and 128 tokens: 0.965 TFLOP each.
    padded = plan.render(dataclasses.replace(grid, engine="t5x"), None, "h100")
    assert pflop(padded) == pytest.approx(21 * 8000 * 1024 * 0.965 / 1e3, rel=1e-3)


def rows_of(cells: dict[tuple[str, str, str], float]) -> list[dict]:
    common = {"task": "xfer_x", "metric": "f1", "n_shots": 0, "intermediate": ""}
    return [
        common | {"source": s, "target": t, "arm": arm, "score": score}
        for (s, t, arm), score in cells.items()
    ]


BETWEEN = """
study.Study.settings = ("LONG_TARGETS = 'trim'",)
study.Study.stages = (
    @pretrained/study.Stage(), @between/study.Stage(), @more/study.Stage(), @nli/study.Stage(),
    @nli_after_more/study.Stage(),
)
STEPS = ('TRAIN_STEPS_RELATIVE = 3', 'TRAIN_STEPS = None')
between/study.Stage:
  start_from = ('pretrained',)
  tasks = ('pocket_ner',)
  train_on = ('indic',)
  variants = {'n6': ()}
  settings = %STEPS
more/study.Stage:
  start_from = ('pretrained',)
  tasks = ('pocket_nli',)
  train_on = ('en', 'sw')
  settings = %STEPS
  seeds = (1000,)
nli/study.Stage.start_from = ('pretrained', 'between')
nli_after_more/study.Stage:
  start_from = ('more',)
  train_on = 'same'
  score_on = 'targets'
"""


def grid_of(path: Path) -> definition.Study:
    configuration.load("study", [str(path)], [])
    return configuration.build(definition.Study)


def test_intermediate_tasks_are_shared_and_the_baseline_trains_as_long(file, tmp_path):
    path = tmp_path / "between.gin"
    path.write_text(file.read_text() + BETWEEN)
    grid = grid_of(path)
    every = {job.name: job for job in job_graph.lay_out(grid)}
    between = f"{PRETRAINED}/between/pocket_ner.indic.n6.s0"
    steps = "TRAIN_STEPS_RELATIVE = 3"
    for source in ("en", "sw"):
        more = f"{PRETRAINED}/more/pocket_nli.{source}.s1000"
        after = f"{more}/nli_after_more/pocket_nli.{source}.s0"
        for name, parent in (
            (more, PRETRAINED),
            (after, more),
            (f"{PRETRAINED}/nli/pocket_nli.{source}.s0", PRETRAINED),
            (f"{between}/nli/pocket_nli.{source}.s0", between),
            (between, PRETRAINED),
        ):
            assert every[name].parent.name == parent
        # as many steps, of the same task and source; then all train alike
        assert steps in job_settings.own_bindings(grid, every[more])
        assert steps in job_settings.own_bindings(grid, every[between])
        first, then = (job_settings.load(grid, every[name], tmp_path)[0] for name in (more, after))
        assert first.training_data.task == then.training_data.task == f"xfer_pocket_nli.{source}"
        assert first.seed != then.seed  # another order of the same data
    assert len(every) == 1 + 1 + 2 + 4 + 2
    run, _ = job_settings.load(grid, every[between], tmp_path)
    assert run.training_data.task == "xfer_pocket_ner.indic.n6.s0"
    assert (run.optimisation.train_steps, run.optimisation.train_steps_relative) == (None, 3)


def test_a_study_with_intermediate_tasks_runs(file, tmp_path, capsys):
    path, out = tmp_path / "between.gin", tmp_path / "out"
    english = "more/study.Stage.train_on = ('en',)\nnli/study.Stage.train_on = ('en',)\n"
    path.write_text(file.read_text() + BETWEEN + english)
    assert cli.main(["study", "run", str(path), "--out", str(out)]) == 0
    rows = table(out)
    assert [row["intermediate"] for row in rows[::3]] == ["", "pocket_ner.indic.n6", "more"]
    assert len(rows) == 9
    steps = {
        row["run"]: int(Path(locations.locate(out / row["run"])).name.rpartition("_")[2])
        for row in rows
    }
    assert list(steps.values()) == [8, 11, 11]
    printed = capsys.readouterr().out
    assert "after more steps in the source" in printed
    assert "after pocket_ner.indic.n6" in printed


PROBED = """
study.Study.stages = (@pretrained/study.Stage(), @probe/study.Stage(), @nli/study.Stage())
probe/study.Stage:
  action = 'probe'
  start_from = ('pretrained', 'nli')
  tasks = ('pocket_nli',)
  score_on = ('en', 'hi')
  settings = ("PROBE_FEATURE_LENGTHS = {'inputs': 24, 'targets': 12}", 'EVALUATOR_NUM_EXAMPLES = 8')
"""


def test_models_are_probed_and_the_tables_say_which(finished, file, tmp_path, capsys):
    path, out = tmp_path / "probed.gin", tmp_path / "out"
    shutil.copytree(finished[0], out)
    stages = PROBED.replace(
        "@probe/study.Stage(), @nli/study.Stage()", "@nli/study.Stage(), @probe/study.Stage()"
    )
    path.write_text(file.read_text() + stages)
    assert cli.main(["study", "run", str(path), "--out", str(out)]) == 0
    assert "training on" not in capsys.readouterr().out  # the models are those of the study before
    with (out / "probe.csv").open(encoding="utf-8", newline="") as content:
        rows = list(csv.DictReader(content))
    assert [(row["run"], row["language"]) for row in rows] == [
        (model, language) for model in (PRETRAINED, *SOURCE_MODELS) for language in ("en", "hi")
    ]
    alone = tmp_path / "alone"
    probed = ["probe", "--gin_file=gin/models/pocket.gin", "--gin_file=gin/tasks/pocket_nli.gin"]
    probed += [f"--gin_file={file.parent / 'tiny.gin'}", "--gin.EVALUATOR_NUM_EXAMPLES=8"]
    probed += ["--gin.PROBE_FEATURE_LENGTHS={'inputs': 24, 'targets': 12}"]
    probed += [f"--gin.CHECKPOINT_PATH={str(out / ENGLISH)!r}", "--gin.TARGETS=('en', 'hi')"]
    assert cli.main([*probed, f"--gin.PROBE_OUTPUT_DIR={str(alone)!r}"]) == 0
    with (alone / "probe.csv").open(encoding="utf-8", newline="") as content:
        expected = list(csv.DictReader(content))
    assert [row | {"run": ENGLISH} for row in expected] == rows[2:4]
    changed = "--gin.probe/study.Stage.settings=('EVALUATOR_NUM_EXAMPLES = 9',)"
    assert "EVALUATOR_NUM_EXAMPLES = 8" in refusal(capsys, path, "--out", str(out), changed)


def test_a_folder_of_an_earlier_version_is_refused(file, tmp_path, capsys):
    old = tmp_path / "out" / "pocket_nli" / "en.s0"
    old.mkdir(parents=True)
    (old / "done.json").write_text('{"seconds": 1, "request": "x", "read": {}, "wrote": {}}')
    for action in ("run", "status", "collect", "plan"):
        line = refusal(capsys, file, "--out", str(tmp_path / "out"), action=action)
        assert f"is a study of an earlier version, whose jobs have other folders ({old})" in line
        assert "choose another --out" in line


def test_arms_and_seeds_are_not_mixed_up():
    rows = rows_of({("en", "sw", ""): 10.0, ("en", "sw", "matched"): 20.0})
    rows += rows_of({("en", "sw", ""): 14.0})  # another seed
    plain, matched = collect.matrices(rows).split("\n\n")
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
    top, bottom = collect.thirds(cells, lambda *pair: alike[pair])
    assert (top, bottom) == (85.0, 20.0)
