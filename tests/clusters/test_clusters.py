"""A tiny study under a real Slurm and a real Snakemake on this machine equals one that ran locally.

    XFER_SLURM=1 XFER_SNAKEMAKE=/path/to/snakemake pytest tests/clusters

Slurm is Debian's (`apt-get install slurm-wlm munge`), started here on the loopback interface, by
root. Snakemake is in an environment of its own.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDY = """
study.Study:
  model = 'pocket'
  stages = (@pretrained/study.Stage(), @source/study.Stage(), @few_shot/study.Stage())
  targets = ('en', 'hi')
  settings = (
      'World.train_examples = 64', 'World.eval_examples = 20', 'World.text_sentences = 200',
      'TRAIN_STEPS = 4', 'TRAIN_STEPS_RELATIVE = 4', 'SAVE_PERIOD = 2', 'BATCH_SIZE = 4',
  )

pretrained/study.Stage.tasks = ('pocket_text',)

source/study.Stage:
  start_from = ('pretrained',)
  tasks = ('pocket_nli',)
  train_on = ('en',)
  score_on = 'targets'

few_shot/study.Stage:
  start_from = ('source',)
  train_on = 'other_targets'
  variants = {'n8': ('TRAIN_STEPS_RELATIVE = 2',)}
  score_on = 'same'
  keep = False
"""
PRETRAINED = "pretrained/pocket_text.s0"
ENGLISH = f"{PRETRAINED}/source/pocket_nli.en.s0"
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CryptoType=crypto/munge
SlurmctldPort=17200
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
MpiDefault=none
NodeName=n[1-2] NodeAddr=127.0.0.1 NodeHostname={host} Port=[17201-17202] CPUs=2 RealMemory=9000
PartitionName=debug Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""
INSTALLED_CONF = Path("/etc/slurm/slurm.conf")


def study(file: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "xfer_jax.cli", "study", arguments[0], str(file)]
    subprocess.run([*command, *arguments[1:]], check=True, timeout=600)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clusters") / "study.gin"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def local(file) -> Path:
    """The folder of the study as one process runs it."""
    out = file.parent / "local"
    study(file, "run", "--out", str(out))
    return out


def assert_equal(out: Path, expected: Path) -> None:
    assert (out / "scores.csv").read_bytes() == (expected / "scores.csv").read_bytes()
    predictions = sorted(expected.rglob("inference_eval/*.jsonl"))
    assert predictions
    for path in predictions:
        assert (out / path.relative_to(expected)).read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Two nodes of Slurm on this machine."""
    if os.environ.get("XFER_SLURM") != "1" or not shutil.which("slurmctld"):
        pytest.skip("XFER_SLURM=1 starts Slurm here, where slurm-wlm and munge are installed")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "slurm.conf").write_text(SLURM_CONF.format(host=socket.gethostname(), folder=folder))
    at = {name: f"--{name}={folder / name}" for name in ("key-file", "pid-file", "seed-file")}
    at["key-file"] = f"--key-file={folder / 'munge.key'}"
    munged = [f"--socket={folder / 'munge.sock'}", f"--log-file={folder / 'munged.log'}"]
    daemons = [
        ["munged", "--force", "--foreground", *at.values(), *munged],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        if not INSTALLED_CONF.exists():  # Snakemake's executor drops the variables of Slurm
            INSTALLED_CONF.parent.mkdir(exist_ok=True)
            INSTALLED_CONF.symlink_to(folder / "slurm.conf")
            stack.callback(INSTALLED_CONF.unlink)
        for command in daemons:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(1)
        wait_until(lambda: "idle" in said("sinfo", "-h", "-o", "%T"), 60)
        yield folder


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_until(true, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, said("squeue")
        time.sleep(0.5)


def test_slurm_ends_with_the_same_bytes_after_a_requeue_and_a_kill(slurm, file, local):
    out = file.parent / "a folder" / "slurm"
    study(file, "emit", "--out", str(out), "--to", "slurm", "--mem", "4")
    submit = str(out / "slurm" / "submit.sh")
    first = said(submit).splitlines()[0].rpartition(" ")[2]
    config = out / PRETRAINED / "config.gin"
    wait_until(config.is_file, 240)
    said("scontrol", "requeue", f"{first}_1")
    wait_until((out / PRETRAINED / "done.json").is_file, 600)
    wait_until((out / ENGLISH / "config.gin").is_file, 240)
    said("pkill", "-KILL", "-f", f"study run {file} --out {out} .*--job {ENGLISH}$")
    wait_until(lambda: not said("squeue", "-h"), 600)
    assert not (out / ENGLISH / "done.json").is_file()
    said(submit)  # what is done is not done again
    wait_until(lambda: not said("squeue", "-h"), 900)
    assert_equal(out, local)


@pytest.fixture(scope="module")
def snakemake() -> str:
    """The program."""
    program = os.environ.get("XFER_SNAKEMAKE")
    if not program:
        pytest.skip("XFER_SNAKEMAKE names no snakemake")
    return program


def test_snakemake_ends_with_the_same_bytes_after_a_kill(snakemake, file, local):
    out = file.parent / "a folder" / "snakemake"
    study(file, "emit", "--out", str(out), "--to", "snakemake")
    folder = out / "snakemake"
    command = [snakemake, "-s", str(folder / "Snakefile"), "--profile", str(folder / "local")]
    process = subprocess.Popen(command, start_new_session=True, cwd=folder)  # its own files
    deadline = time.monotonic() + 300
    while not (out / ENGLISH / "config.gin").is_file():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "--unlock"], check=True, timeout=60, cwd=folder)
    subprocess.run([*command, "--rerun-incomplete"], check=True, timeout=900, cwd=folder)
    assert_equal(out, local)


def test_snakemake_submits_to_slurm_and_tries_a_killed_job_again(slurm, snakemake, file, local):
    options = said(snakemake, "--help")
    if "--slurm-status-command" not in options:
        pytest.skip("snakemake-executor-plugin-slurm is not installed beside snakemake")
    out = file.parent / "a folder" / "snakemake on slurm"
    study(file, "emit", "--out", str(out), "--to", "snakemake", "--mem", "4")
    folder = out / "snakemake"
    command = [snakemake, "-s", str(folder / "Snakefile"), "--profile", str(folder / "slurm")]
    # This cluster has no accounting database.
    command += ["--slurm-status-command", "squeue", "--slurm-no-account"]
    process = subprocess.Popen(command, cwd=folder)
    wait_until((out / ENGLISH / "config.gin").is_file, 600)
    said("pkill", "-KILL", "-f", f"study run {file} --out {out} .*--job {ENGLISH}$")
    assert process.wait(timeout=1200) == 0
    assert_equal(out, local)
