"""Writes a study as work for a scheduler: Slurm arrays, a Kubernetes job, a shell script.

Every task of it is `xfer-jax study run FILE --out DIR --cell JOB`. Tasks claim their jobs in the
study's ledger, so that one which is started twice, or early, does no harm: it waits for what its
job starts from, or does that itself. A task that was preempted ends with 143 and is started again.
"""

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from xfer_jax import output, study
from xfer_jax.study import Job, Study

_MOST_TASKS = 1000  # of a Slurm array: MaxArraySize is 1,001 unless the site has raised it


def emit(grid: Study, out: Path, arguments: Sequence[str], to: str) -> list[Path]:
    """Writes the files into a folder of the study's folder.

    Args:
      grid: the study.
      out: its folder, which all machines see under this path.
      arguments: of `xfer-jax`, what runs the study: `study run FILE --out DIR`.
      to: one of `TO`.

    Returns:
      The files; the first is the one to start.
    """
    folder = out / to
    files = _WRITERS[to](study.jobs(grid), shlex.join(["xfer-jax", *arguments]), folder)
    for name, text in files.items():
        output.write(folder / name, text)
        if name.endswith(".sh"):
            (folder / name).chmod(0o755)
    return [folder / name for name in files]


def _stages(jobs: Sequence[Job]) -> list[list[str]]:
    """Returns the jobs' names by how many others they start from, one after the other."""
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.name] = depth[job.parent] + 1 if job.parent else 0
    stages: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name, level in depth.items():
        stages[level].append(name)
    return stages


def _lines(names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)


# --- Shell ----------------------------------------------------------------------------------------


def _shell(jobs: Sequence[Job], command: str, folder: Path) -> dict[str, str]:
    stages = {f"stage-{i}.txt": _lines(names) for i, names in enumerate(_stages(jobs), 1)}
    calls = "".join(
        f'xargs -P "$WORKERS" -I{{}} {command} --cell {{}} < {shlex.quote(str(folder / name))}\n'
        for name in stages
    )
    script = f"""\
#!/bin/sh
# The study's jobs one after the other, WORKERS at a time: those that others start from come first.
#   WORKERS=4 {shlex.quote(str(folder / "run.sh"))}
set -u
WORKERS=${{WORKERS:-1}}
{calls}{command}   # what failed is tried once more; then the scores are collected
"""
    return {"run.sh": script, **stages}


# --- Slurm ----------------------------------------------------------------------------------------


def _slurm(jobs: Sequence[Job], command: str, folder: Path) -> dict[str, str]:
    where = shlex.quote(str(folder))
    lists: dict[str, str] = {}
    submissions = ['after=""']
    for i, names in enumerate(_stages(jobs), 1):
        submissions.append('ids=""')
        for part, start in enumerate(range(0, len(names), _MOST_TASKS), 1):
            chunk = names[start : start + _MOST_TASKS]
            lists[f"stage-{i}-{part}.txt"] = _lines(chunk)
            submissions.append(
                f'ids="$ids:$(sbatch --parsable $after --array=1-{len(chunk)}'
                f' "$here/task.sh" "$here/stage-{i}-{part}.txt")"'
            )
        # A stage whose tasks failed does not hold up the next: there they are tried again.
        submissions.append('after="--dependency=afterany$ids"')
    submissions.append('sbatch --parsable $after "$here/collect.sh"')
    submit = f"""\
#!/bin/sh
# Submits the study: one array a stage, each after the one that it starts from.
# What a task needs of the machine (GPU, memory, hours, partition) stands in task.sh.
set -eu
here={where}
{chr(10).join(submissions)}
"""
    head = f"""\
#!/bin/bash
#SBATCH --job-name=xfer-jax
#SBATCH --output={folder}/%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
"""
    task = f"""\
{head}#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=48G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@300
set -u
job=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" "$1")
srun {command} --cell "$job"
code=$?
if [ "$code" -eq 143 ]; then   # its time is up, all is saved: it goes on
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""
    collect = f"""\
{head.replace("%A_%a", "collect-%j")}#SBATCH --gres=gpu:1
#SBATCH --time=12:00:00
srun {command}   # what failed is tried once more; then the scores are collected
"""
    return {"submit.sh": submit, "task.sh": task, "collect.sh": collect, **lists}


# --- Kubernetes -----------------------------------------------------------------------------------


def _kubernetes(jobs: Sequence[Job], command: str, folder: Path) -> dict[str, str]:
    names = [name for stage in _stages(jobs) for name in stage]
    manifest = f"""\
# kubectl apply -f {folder / "study.yaml"}
#
# Edit what is marked: the image with xfer-jax in it, the volume that holds the study's folder, and
# what a task needs of the machine. When all have ended,
#   {command}
# collects the scores.
apiVersion: v1
kind: ConfigMap
metadata:
  name: xfer-jax-study
data:
  jobs: |
{textwrap.indent(_lines(names), "    ")}\
---
apiVersion: batch/v1
kind: Job
metadata:
  name: xfer-jax-study
spec:
  completionMode: Indexed
  completions: {len(names)}
  parallelism: 4  # edit: tasks at a time
  backoffLimitPerIndex: 3
  maxFailedIndexes: {len(names)}
  podFailurePolicy:
    rules:
    - action: Ignore  # preempted, with all work saved: started again, and not counted
      onExitCodes: {{containerName: xfer-jax, operator: In, values: [143]}}
    - action: Ignore
      onPodConditions: [{{type: DisruptionTarget}}]
    - action: FailJob  # the request is wrong: every other task would be refused too
      onExitCodes: {{containerName: xfer-jax, operator: In, values: [2]}}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
      - name: xfer-jax
        image: xfer-jax:latest  # edit
        command:
        - /bin/sh
        - -c
        - |
          job=$(sed -n "$((JOB_COMPLETION_INDEX + 1))p" /study/jobs)
          exec {command} --cell "$job"
        resources:
          limits: {{nvidia.com/gpu: 1, memory: 48Gi}}  # edit
        volumeMounts:
        - {{name: jobs, mountPath: /study}}
        - {{name: data, mountPath: {folder.parent.parent}}}  # edit: where the volume is seen
      volumes:
      - name: jobs
        configMap: {{name: xfer-jax-study}}
      - name: data
        persistentVolumeClaim: {{claimName: xfer-jax}}  # edit
"""
    return {"study.yaml": manifest}


_WRITERS = {"slurm": _slurm, "kubernetes": _kubernetes, "shell": _shell}
TO = tuple(_WRITERS)
