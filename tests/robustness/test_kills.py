"""The benchmark of kills and flipped bits in little: its measures see what they are to see."""

import random

import pytest

from benchmarks import kills
from seqio_tasks.errors import RequestError

pytestmark = pytest.mark.slow


def test_a_bit_is_flipped_in_one_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(bytes(100))
    (tmp_path / "sub" / "b").write_bytes(bytes(3))
    (tmp_path / "empty").touch()
    seen = set()
    for seed in range(40):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        seen.add(kills.flip(tmp_path, random.Random(seed)).partition(",")[0])
        after = {path: path.read_bytes() for path in before}
        (changed,) = (path for path in before if before[path] != after[path])
        pairs = zip(before[changed], after[changed], strict=True)
        assert sum((a ^ b).bit_count() for a, b in pairs) == 1
    assert seen == {"a", "sub/b"}


def test_flips_are_counted_by_what_becomes_of_them(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "a").write_bytes(bytes(8))

    def read(folder):
        content = (folder / "a").read_bytes()
        if content[0]:
            raise RequestError("damaged")
        return content[4:]  # the rest has no effect

    found = kills.flips(tmp_path / "whole", tmp_path / "copy", read, 40, seed=1)
    silent = len(found["changed_in_silence"])
    assert found["refused"] + found["without_effect"] + silent == found["flips"] == 40
    assert found["refused"] > 0
    assert 10 < silent < 30
    assert all(line.startswith("a, byte ") for line in found["changed_in_silence"])


def test_flipped_bits_of_a_checkpoint_are_seen(world, tmp_path):
    whole = world / "native" / "checkpoint_3"
    found = kills.flips(whole, tmp_path / "checkpoint_3", kills.read_checkpoint, 12, seed=0)
    assert found["changed_in_silence"] == []
    assert found["refused"] > 6


def test_a_killed_command_ends_as_one_that_was_not(tmp_path):
    subject = kills.Subject(
        "features", lambda out: ["features", "--languages=en,sw,hi", f"--out={out / 'f.csv'}"]
    )
    found = kills.kill(subject, tmp_path, 1, seed=5, warm_up=False)
    assert found["kills"] == 1
    assert found["different"] == []
