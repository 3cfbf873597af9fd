"""What `study emit` writes is run, by stand-ins for Slurm's programs, and read."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from xfer_jax.cli import main as cli

STUDY = """
study.Study:
  model = 'pocket'
  stages = (@pretrained/study.Stage(), @nli/study.Stage(), @few_shot/study.Stage())
  targets = ('en', 'hi')
pretrained/study.Stage.tasks = ('pocket_text',)
nli/study.Stage:
  start_from = ('pretrained',)
  tasks = ('pocket_nli',)
  train_on = ('en', 'sw')
  score_on = 'targets'
few_shot/study.Stage:
  start_from = ('nli',)
  train_on = 'other_targets'
  variants = {'n8': ('TRAIN_STEPS_RELATIVE = 2',)}
  score_on = 'same'
  keep = False
"""
PRETRAINED = "pretrained/pocket_text.s0"
ENGLISH, SWAHILI = (f"{PRETRAINED}/nli/pocket_nli.{source}.s0" for source in ("en", "sw"))
JOBS = [
    [PRETRAINED],
    [ENGLISH, SWAHILI],
    [
        f"{ENGLISH}/few_shot/pocket_nli.hi.n8.s0",
        f"{SWAHILI}/few_shot/pocket_nli.en.n8.s0",
        f"{SWAHILI}/few_shot/pocket_nli.hi.n8.s0",
    ],
]
# Stand-ins: `sbatch` runs the tasks of an array at once, and notes its options.
PROGRAMS = {
    "python": 'printf "%s\\n" "$*" >> "$CALLS"; exit "${FAILS_WITH:-0}"',
    "scontrol": 'echo "scontrol $*" >> "$CALLS"',
    "scancel": 'echo "scancel $*" >> "$CALLS"',
    "sbatch": """
[ -z "${REFUSES:-}" ] || [ "$(grep -c ^sbatch "$CALLS")" -lt "$REFUSES" ] || exit 1
last=0
echo "sbatch $*" >> "$CALLS"
while case "$1" in --*) true;; *) false;; esac; do
  case "$1" in --array=1-*) last=${1#--array=1-};; esac
  shift
done
script=$1; shift
for i in $(seq "$last"); do
  SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i bash "$script" "$@" >/dev/null || true
done
[ "$last" -gt 0 ] || bash "$script"
echo 7""",
}


@pytest.fixture
def emitted(tmp_path, capsys, monkeypatch):
    """Emits the study: returns the folder, a job's command, and how to run something."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    file, out, calls = (
        tmp_path / "a study.gin",
        tmp_path / "a {} folder" / "out",
        tmp_path / "calls",
    )
    file.write_text(STUDY)
    calls.write_text("")

    def run(*command: str, check: bool = True, **environment: str) -> list[str]:
        path = f"{programs}:{os.environ['PATH']}"
        full = {**os.environ, "PATH": path, "CALLS": str(calls), **environment}
        subprocess.run(command, env=full, check=check, timeout=60, capture_output=True)
        return calls.read_text().splitlines()

    def emit(to: str, *options: str):
        bindings = ["--gin.study.Study.seeds=(0,)"]
        arguments = ["study", "emit", str(file), "--out", str(out), "--to", to, *bindings]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(programs / "python"))
            assert cli.main([*arguments, *options]) == 0
        assert str(out / to) in capsys.readouterr().out
        return out / to, f"{file} --out {out} {bindings[0]}", run

    return emit


def jobs(calls: list[str], base: str) -> list[str]:
    begin = f"-m xfer_jax.cli study run {base} --expect="
    return [call.rpartition(" --job ")[2] for call in calls if call.startswith(begin)]


def test_slurm_runs_every_job_after_what_it_starts_from(emitted):
    folder, base, run = emitted("slurm", "--gpus", "1", "--partition", "long")
    calls = run(str(folder / "submit.sh"))
    assert jobs(calls, base) == [name for stage in JOBS for name in stage]
    submitted = [shlex.split(call) for call in calls if call.startswith("sbatch")]
    assert len(submitted) == 4
    assert not any(option.startswith("--dependency") for option in submitted[0])
    for options in submitted[1:]:
        assert "--dependency=afterany:7" in options
    for options in submitted[:3]:
        assert {"--gpus=1", "--partition=long", "--requeue", "--signal=B:TERM@120"} <= set(options)
    assert "--gpus=1" not in submitted[3]  # the table of scores
    assert calls[-1].startswith(f"-m xfer_jax.cli study collect {base}")


def test_slurm_queues_again_what_was_preempted_and_nothing_else(emitted):
    folder, _, run = emitted("slurm")
    calls = run(str(folder / "submit.sh"), FAILS_WITH="143", check=False)
    assert sum(call.startswith("scontrol requeue 7_") for call in calls) == 6
    (folder.parents[2] / "calls").write_text("")
    calls = run(str(folder / "submit.sh"), FAILS_WITH="3", check=False)
    assert not [call for call in calls if call.startswith("scontrol")]


def test_a_submission_that_fails_cancels_those_before_it(emitted):
    folder, _, run = emitted("slurm")
    calls = run(str(folder / "submit.sh"), REFUSES="2", check=False)
    assert calls[-1] == "scancel 7 7"


def test_large_stages_are_several_arrays(emitted, monkeypatch):
    monkeypatch.setattr("xfer_jax.study.workflows._MOST_TASKS", 2)
    folder, base, run = emitted("slurm")
    calls = run(str(folder / "submit.sh"))
    assert sorted(jobs(calls, base)) == sorted(name for stage in JOBS for name in stage)
    assert "--dependency=afterany:7:7" in calls[-2]


def test_resources_are_in_one_place_and_are_kept(emitted):
    folder, _, _ = emitted("slurm", "--cpus", "3", "--mem", "5")
    first = json.loads((folder / "resources.json").read_text())
    assert {(stage["cpus"], stage["mem_gib"], stage["gpus"]) for stage in first.values()} == {
        (3, 5, 0)
    }
    first["few_shot_n8_pocket_nli"]["minutes"] = 77
    (folder / "resources.json").write_text(json.dumps(first))
    folder, _, _ = emitted("slurm", "--account", "me")
    again = json.loads((folder / "resources.json").read_text())
    assert again == {name: stage | {"account": "me"} for name, stage in first.items()}
    assert "--time=77 " in (folder / "submit.sh").read_text()


WRONG = {
    ("--cpus", "0"): "cpus",
    ("--mem", "-1"): "mem_gib",
    ("--time", "99999999"): "minutes",
    ("--device", "abacus"): "unknown device 'abacus'",
}


@pytest.mark.parametrize("options", WRONG)
def test_wrong_resources_are_refused(tmp_path, capsys, options):
    (tmp_path / "s.gin").write_text(STUDY)
    arguments = ["study", "emit", str(tmp_path / "s.gin"), "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--to", "slurm", *options]) == 2
    err = capsys.readouterr().err
    assert WRONG[options] in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_fewer_minutes_than_the_plan_says_are_refused(tmp_path, capsys):
    arguments = ["study", "emit", "gin/studies/muller2022.gin", "--out", str(tmp_path / "out")]
    options = ["--to", "slurm", "--device", "h100", "--time", "3"]
    assert cli.main([*arguments, *options]) == 2
    assert "minutes on NVIDIA H100 SXM: 3 are too few" in capsys.readouterr().err


def test_a_study_file_that_has_changed_since_is_refused(tmp_path, capsys):
    file, out = tmp_path / "s.gin", tmp_path / "out"
    file.write_text(STUDY)
    emit = ["study", "emit", str(file), "--out", str(out), "--to", "slurm"]
    assert cli.main(emit) == 0
    task = (out / "slurm" / "task.sh").read_text()
    (expected,) = [word for word in task.split() if word.startswith("--expect=")]
    file.write_text(STUDY + "study.Study.seeds = (1,)\n")
    capsys.readouterr()
    run = ["study", "run", str(file), "--out", str(out), "--job", PRETRAINED, expected]
    assert cli.main(run) == 2
    assert "has changed since the study was emitted: emit it again" in capsys.readouterr().err


def test_snakemake_s_files_tell_the_graph(emitted):
    folder, base, _ = emitted("snakemake", "--partition", "long", "--account", "me")
    study = json.loads((folder / "study.json").read_text())
    parents = {job: parent for stage in study["stages"].values() for job, parent in stage.items()}
    assert sorted(parents) == sorted(name for stage in JOBS for name in stage)
    for job, parent in parents.items():
        expected = "/".join(job.split("/")[:-2])  # without the stage and its own part
        assert parent == (expected or None)
    assert shlex.split(study["run"])[1:5] == ["-m", "xfer_jax.cli", "study", "run"]
    assert " ".join(shlex.split(study["run"])).partition(" run ")[2].startswith(base)
    for name in ("local", "slurm"):
        profile = yaml.safe_load((folder / name / "config.yaml").read_text())
        assert profile["keep-going"] is True
    assert profile["default-resources"] == ["slurm_partition=long", "slurm_account=me"]
    rules = (folder / "Snakefile").read_text()
    assert Path(folder).name == "snakemake"
    assert [f"rule {name}:" in rules for name in ("scores", *study["stages"])] == [True] * 4
