"""Files: absolute paths in one way, UTF-8 and JSON read or refused, whole files written or none."""

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqio_tasks import files
from seqio_tasks.errors import RequestError, RunError


def test_a_path_is_absolute_whatever_way_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / "a" / "b"
    for written in ("b", "./b", "b/", "../a/b", "~/a/b", "~/a/../a/b/", str(expected), Path("b")):
        assert files.absolute(written) == expected


def test_links_are_kept_but_where_two_dots_go_through_one(tmp_path):
    (tmp_path / "real" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "inside")
    assert files.absolute(tmp_path / "link") == tmp_path / "link"
    # as the operating system has it: the parent of what the link points to
    assert files.absolute(tmp_path / "link" / ".." / "out") == tmp_path / "real" / "out"


@pytest.mark.parametrize("path", ["", "  ", "a\0b", 3, None, "~no_such_user_here/x"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(RequestError):
        files.absolute(path)


BROKEN = {
    b"\xff\xfea\x00": "UTF-16",
    b"fine\nb\xe9d\n": "line 2: not UTF-8",
    b"one\ntwo\x00\n": "line 2: a NUL character",
}


@pytest.mark.parametrize("content", BROKEN)
def test_what_is_no_text_is_refused_with_its_line(tmp_path, content):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=BROKEN[content]):
        files.read_text(path)


def test_text_is_utf_8_with_or_without_its_mark_and_keeps_its_line_ends(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfh\xc3\xa9\r\nb\rc\n")
    assert files.read_text(path) == "hé\r\nb\rc\n"


@given(st.binary(max_size=200))
@settings(derandomize=True, max_examples=60)
def test_any_bytes_are_json_or_refused(content):
    with contextlib.suppress(RequestError):  # and nothing else
        assert repr(files.parse_json(content, "here")) == repr(json.loads(content))


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 10_000, '{"a": }', ""])
def test_odd_json_is_refused(text):
    with pytest.raises(RequestError, match="JSON"):
        files.parse_json(text, "here")


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "folder" / "x"
    assert files.write(path, "é") == path
    assert path.read_bytes() == "é".encode()
    files.write(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert [p.name for p in path.parent.iterdir()] == ["x"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_lone_surrogate_is_written_as_its_escape(tmp_path):
    assert files.write(tmp_path / "x", "a\ud800").read_bytes() == b"a\\ud800"


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file" / "x", tmp_path / ("n" * 300)):
        with pytest.raises(RequestError, match="cannot be written"):
            files.write(path, "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_is_a_failure_and_no_wrong_request(tmp_path, monkeypatch):
    files.write_all(tmp_path, {"a": "old", "last": "old"}, "last")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device; make room"):
        files.write(tmp_path / "a", "new")
    with pytest.raises(RunError, match="No space left"):
        files.write_all(tmp_path, {"a": "new", "last": "new"}, "last")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old", "last": "old"}


def test_files_that_belong_together_are_all_new_or_the_last_is_not_there(tmp_path, monkeypatch):
    files.write_all(tmp_path, {"a": "1", "b": "1", "last": "1"}, "last")
    replace, calls = Path.replace, []

    def killed(self, target):
        calls.append(target.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write_all(tmp_path, {"a": "2", "last": "2", "b": "2"}, "last")
    assert calls == ["a", "b"]
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "2", "b": "1"}


def test_writers_at_the_same_time_each_leave_a_whole_file(tmp_path):
    code = (
        "import sys; from pathlib import Path; from seqio_tasks import files\n"
        "for i in range(50): files.write(Path(sys.argv[1]), sys.argv[2] * 10000)"
    )
    path = tmp_path / "x"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "abc"
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert path.read_text() in {letter * 10000 for letter in "abc"}
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".x.0123.new").write_text("")
    (tmp_path / "x.new").write_text("")
    (tmp_path / ".folder.new").mkdir()
    files.tidy(tmp_path)
    files.tidy(tmp_path / "none")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".folder.new", "x.new"]
