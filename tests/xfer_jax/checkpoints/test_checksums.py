"""The hashes of a checkpoint's files: every change is seen, and a note is none."""

import hashlib

import numpy as np

from tests.support.checkpoints import flip_any
from xfer_jax.checkpoints import checksums


def test_the_hashes_are_those_that_sha256sum_computes(saved):
    path, _ = saved
    lines = (path / "SHA256SUMS").read_text().splitlines()
    found = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "SHA256SUMS"]
    assert path / "run.json" in files
    assert found == {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }
    assert checksums.damage(path) is None


def test_damage_is_seen_wherever_it_is(saved):
    path, _ = saved
    for file in sorted((path / "state").rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            name = file.relative_to(path)
            assert checksums.damage(path) == f"{name} is not as it was written"
            file.unlink()
            assert checksums.damage(path) == f"{name} is missing"
            file.write_bytes(content)
    assert checksums.damage(path) is None


def test_any_change_of_the_hashes_themselves_is_seen(saved):
    path, _ = saved
    sums, rng = path / "SHA256SUMS", np.random.default_rng(3)
    content = sums.read_bytes()
    for _ in range(40):
        flip_any(sums, rng)
        assert checksums.damage(path)
        sums.write_bytes(content)
    lines = content.splitlines(keepends=True)
    for wrong in (b"", content[:-1], content + b"\n", b"".join(lines[:-1]), content + lines[0]):
        sums.write_bytes(wrong)
        assert checksums.damage(path)
    sums.write_bytes(content + b"0" * 64 + b"  ../../etc/passwd\n")
    assert checksums.damage(path) == "SHA256SUMS is not as it was written"
    sums.unlink()
    sums.mkdir()
    assert checksums.damage(path) == "SHA256SUMS is not a file"


def test_a_file_of_arrays_without_a_hash_is_refused_and_a_note_is_not(saved):
    path, _ = saved
    for name in ("notes.txt", "state/.nfs0001"):
        (path / name).write_text("mine")
    assert checksums.damage(path) is None
    (path / "state" / "d" / "more").write_text("?")
    assert checksums.damage(path) == "state/d/more has no hash in SHA256SUMS"


def test_a_checkpoint_s_identity_is_of_its_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "x").write_bytes(bytes(3 << 20))
    assert checksums.identity(tmp_path / "a") == checksums.identity(tmp_path / "b")
    for place in (0, 3 << 20):  # the first and the last part are looked at
        with (tmp_path / "b" / "part" / "x").open("r+b") as file:
            file.seek(max(0, place - 1))
            file.write(b"1")
        assert checksums.identity(tmp_path / "a") != checksums.identity(tmp_path / "b")
        (tmp_path / "b" / "part" / "x").write_bytes(bytes(3 << 20))
    (tmp_path / "b" / "SHA256SUMS").write_text("of another")
    assert checksums.identity(tmp_path / "a") != checksums.identity(tmp_path / "b")
