"""What `study emit` writes is run: by a shell, by a stand-in for Slurm, and as Kubernetes would."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from xfer_jax import cli, configuration, study

STUDY = """
study.Study:
  model = 'pocket'
  pretrain = 'pocket_text'
  tasks = ('pocket_nli',)
  sources = ('en', 'sw')
  targets = ('en', 'hi')
  n_shots = (0, 8)
  few_shot = {8: ('TRAIN_STEPS_RELATIVE = 2',)}
"""
JOBS = [
    ["pretrained"],
    ["pocket_nli/en.s0", "pocket_nli/sw.s0"],
    ["pocket_nli/en.s0/hi.n8", "pocket_nli/sw.s0/en.n8", "pocket_nli/sw.s0/hi.n8"],
]
# Stand-ins: `xfer-jax` notes its arguments; `sbatch` runs the tasks of an array at once.
PROGRAMS = {
    "xfer-jax": 'printf "%s\\n" "$*" >> "$CALLS"; exit "${FAILS_WITH:-0}"',
    "srun": 'exec "$@"',
    "scontrol": 'echo "scontrol $*" >> "$CALLS"',
    "sbatch": """
last=1
while case "$1" in --*) true;; *) false;; esac; do
  case "$1" in
    --array=1-*) last=${1#--array=1-};;
    --dependency=*) echo "$1" >> "$CALLS";;
  esac
  shift
done
script=$1; shift
for i in $(seq "$last"); do
  SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i bash "$script" "$@" >/dev/null || true
done
echo 7""",
}


@pytest.fixture
def emitted(tmp_path, capsys):
    """Emits the study: returns the files' folder, a task's command, and how to run something."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    file, out, calls = tmp_path / "study.gin", tmp_path / "a folder" / "out", tmp_path / "calls"
    file.write_text(STUDY)

    def run(*command: str, **environment: str) -> list[str]:
        path = f"{programs}:{os.environ['PATH']}"
        full = {**os.environ, "PATH": path, "CALLS": str(calls), **environment}
        subprocess.run(command, env=full, check=True, timeout=60, capture_output=True)
        return calls.read_text().splitlines()

    def emit(to: str):
        bindings = ["--gin.study.Study.seeds=(0,)"]
        arguments = ["study", "emit", str(file), "--out", str(out), "--to", to, *bindings]
        assert cli.main(arguments) == 0
        assert str(out / to) in capsys.readouterr().out
        base = f"study run {file} --out {out} {bindings[0]}"
        return out / to, base, run

    return emit


def cells(calls: list[str], base: str) -> list[str]:
    return [c.removeprefix(f"{base} --cell ") for c in calls if c.startswith(f"{base} --cell ")]


def in_stages(names: list[str]) -> list[list[str]]:
    ordered = iter(names)
    return [sorted(next(ordered) for _ in stage) for stage in JOBS]


def test_a_shell_runs_all_jobs_and_collects(emitted):
    folder, base, run = emitted("shell")
    calls = run(str(folder / "run.sh"), WORKERS="2")
    assert in_stages(cells(calls, base)) == JOBS
    assert calls[-1] == base


def test_slurm_runs_a_stage_after_the_one_it_starts_from(emitted):
    folder, base, run = emitted("slurm")
    calls = run(str(folder / "submit.sh"))
    assert in_stages(cells(calls, base)) == JOBS
    assert calls[-1] == base
    assert [c for c in calls if c.startswith("--dependency")] == ["--dependency=afterany:7"] * 3


def test_a_preempted_slurm_task_is_queued_again(emitted):
    folder, _, run = emitted("slurm")
    environment = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "FAILS_WITH": "143"}
    task = (
        f"bash {shlex.quote(str(folder / 'task.sh'))} {shlex.quote(str(folder / 'stage-1-1.txt'))}"
    )
    assert run("bash", "-c", f"{task} || true", **environment)[-1] == "scontrol requeue 7_1"


def test_a_large_stage_is_several_arrays(monkeypatch, emitted):
    monkeypatch.setattr("xfer_jax.emission._MOST_TASKS", 2)
    folder, base, run = emitted("slurm")
    assert sorted(path.name for path in folder.glob("stage-3*")) == [
        "stage-3-1.txt",
        "stage-3-2.txt",
    ]
    calls = run(str(folder / "submit.sh"))
    assert in_stages(cells(calls, base)) == JOBS
    assert "--dependency=afterany:7:7" in calls


def test_kubernetes_runs_a_job_an_index(emitted, tmp_path):
    folder, base, run = emitted("kubernetes")
    config, job = yaml.safe_load_all((folder / "study.yaml").read_text())
    assert (
        config["metadata"]["name"]
        == job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
    )
    listed = config["data"]["jobs"].splitlines()
    assert in_stages(listed) == JOBS
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", len(listed))
    rules = spec["podFailurePolicy"]["rules"]
    actions = {v: r["action"] for r in rules for v in r.get("onExitCodes", {}).get("values", ())}
    assert actions == {143: "Ignore", 2: "FailJob"}
    (container,) = spec["template"]["spec"]["containers"]
    shell, flag, script = container["command"]
    (tmp_path / "jobs").write_text(config["data"]["jobs"])
    script = script.replace("/study/jobs", str(tmp_path / "jobs"))
    for index in range(len(listed)):
        calls = run(shell, flag, script, JOB_COMPLETION_INDEX=str(index))
    assert cells(calls, base) == listed


def test_every_cell_that_is_listed_is_a_job_of_the_study(emitted):
    folder, _, _ = emitted("shell")
    configuration.load("study", [str(folder.parents[2] / "study.gin")], [])
    names = {job.name for job in study.jobs(configuration.build(study.Study))}
    listed = [n for path in folder.glob("*.txt") for n in path.read_text().splitlines()]
    assert set(listed) == names
    assert len(listed) == len(names)


def test_emitting_needs_to_know_for_what_and_where(tmp_path, capsys):
    file = tmp_path / "study.gin"
    file.write_text(STUDY)
    assert cli.main(["study", "emit", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "--to" in capsys.readouterr().err
    assert cli.main(["study", "emit", str(file), "--to", "slurm"]) == 2
    assert "--out" in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
