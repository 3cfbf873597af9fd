"""Sources: files are found in order of preference, and every bad input is named to the line."""

from pathlib import Path

import pytest

from seqio_tasks import catalogue, data_config, data_files, registry
from seqio_tasks.errors import RequestError
from tests.support.files import write
from tests.support.tasks import complaint, read


def test_no_folder_means_tfds(monkeypatch):
    monkeypatch.delenv("XFER_DATA_DIR", raising=False)
    assert data_config.configured().data_dir is None
    monkeypatch.setenv("XFER_DATA_DIR", "")
    assert data_config.configured().data_dir is None


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", "/nowhere")
    assert data_config.configured(data_dir=str(tmp_path)).data_dir == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_config.configured(data_dir="~").data_dir == tmp_path


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_missing_data_folder_is_named(tmp_path, monkeypatch, kind):
    path = tmp_path / kind
    if kind == "file":
        path.write_text("")
    monkeypatch.setenv("XFER_DATA_DIR", str(path))
    with pytest.raises(RequestError) as caught:
        read("xfer_panx.sw", "train")
    message = str(caught.value)
    assert message.startswith(f"the data folder {path} (XFER_DATA_DIR) does not exist")
    assert "XTREME" in message
    assert "unset it to read from TFDS" in message


def test_what_gin_adds_to_a_refusal_stands_below_its_sentence(monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", "/nowhere")
    with pytest.raises(RequestError) as caught:
        read("xfer_panx.sw", "train")
    first_line, *gins_own = str(caught.value).splitlines()
    assert first_line.endswith("unset it to read from TFDS")
    assert gins_own[0].startswith("  In call to configurable")


def test_the_cache_is_where_the_first_that_is_set_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "mine"))
    assert data_files.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("XFER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_files.cache_dir() == tmp_path / "xfer-jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_files.cache_dir() == tmp_path / ".cache" / "xfer-jax"


@pytest.mark.parametrize(
    ("name", "split", "files", "tfds"),
    [
        ("xfer_panx.sw", "train", ["panx/train-sw.tsv"], "wikiann/sw:1.0.0 (train)"),
        ("xfer_panx.sw", "validation", ["panx/dev-sw.tsv"], "wikiann/sw:1.0.0 (validation)"),
        (
            "xfer_xnli.hi",
            "validation",
            ["xnli/xnli.dev.tsv", "xnli/dev-hi.tsv"],
            "xnli:1.1.0 (validation)",
        ),
        ("xfer_xnli.hi", "test", ["xnli/xnli.test.tsv"], "xnli:1.1.0 (test)"),
        (
            "xfer_xnli.hi",
            "train",
            ["xnli/train-hi.tsv", "xnli/multinli.train.hi.tsv"],
            "xtreme_xnli:1.1.0 (train)",
        ),
        ("xfer_xnli.en", "train", ["xnli/train-en.tsv"], "multi_nli:1.1.0 (train)"),
        (
            "xfer_tydiqa.fi",
            "train",
            ["tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.fi.train.json"],
            "tydi_qa/goldp:",
        ),
        (
            "xfer_tydiqa.fi",
            "validation",
            [
                "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.fi.dev.json",
                "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-finnish.json",
            ],
            "(validation-fi)",
        ),
    ],
)
def test_a_missing_file_is_named_with_both_ways_to_get_it(folder, name, split, files, tfds):
    message = complaint(name, split)
    assert message.startswith(f"{name} ({split}) needs {files[0]}")
    for part in (*files, str(folder), tfds, "XTREME's download scripts", "unset XFER_DATA_DIR"):
        assert part in message


def test_a_missing_file_of_a_subset_is_missed_in_its_name(folder):
    assert complaint("xfer_panx.sw.n10.s0", "train").startswith("xfer_panx.sw.n10.s0 (train) needs")


def test_the_first_choice_is_taken(folder):
    for name in ("b", "c"):
        write(folder / name, name)
    assert data_files.find(folder, ("a", "b", "c"), "t", "train", None) == folder / "b"
    with pytest.raises(RequestError) as caught:
        data_files.find(folder, ("a", "d"), "t", "train", None)
    assert "t (train) needs a or d in" in str(caught.value)
    assert "TFDS" not in str(caught.value)  # which has nothing to offer


def test_lines_are_numbered_and_end_at_line_feeds_alone(tmp_path):
    path = write(tmp_path / "f", "ein\r\n\n zwei \t\ndr\u2028ei\x85")
    assert list(data_files.lines(path)) == [
        (1, "ein"),
        (2, ""),
        (3, " zwei \t"),
        (4, "dr\u2028ei\x85"),
    ]
    assert list(data_files.lines(write(tmp_path / "empty", ""))) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\tO\n".encode("utf-16"), " is UTF-16; save it as UTF-8"),
        (b"a\tO\nb\0\tO\n", ", line 2: a NUL character; this is not a text file"),
        (b"a\tO\rb\tO\r", ": its lines end in carriage returns only; save it with line feeds"),
        (b"\x80\x04\x95", ", line 1: not UTF-8; save the file as UTF-8"),
    ],
)
def test_what_is_no_text_is_named(folder, content, said):
    path = write(folder / "panx/dev-en.tsv", content)
    assert complaint("xfer_panx.en", "validation") == f"{path}{said}"


def test_a_byte_order_mark_is_no_text(folder):
    write(folder / "panx/dev-en.tsv", b"\xef\xbb\xbfrick\tO\n")
    assert read("xfer_panx.en", "validation")[0]["tokens"] == ["rick"]


def test_characters_that_unicode_calls_line_ends_are_text(folder):
    write(folder / "panx/dev-en.tsv", "a\u2028b\tO\nc\x85d\tO\ne\x0bf\tO\n")
    (example,) = read("xfer_panx.en", "validation")
    assert example["tokens"] == ["a\u2028b", "c\x85d", "e\x0bf"]


def test_a_folder_in_a_files_place_is_named(folder):
    (folder / "panx/dev-en.tsv").mkdir(parents=True)
    said = complaint("xfer_panx.en", "validation")
    assert f"needs the file {folder / 'panx/dev-en.tsv'}, which is a folder" in said


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    path = write(folder / "panx/dev-en.tsv", "a\tO\n")

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    said = f"{path} cannot be read: Permission denied"
    assert complaint("xfer_panx.en", "validation") == said
    with pytest.raises(RequestError, match="cannot be read: Permission denied"):
        data_files.file_digest(path)


def test_a_writable_cache_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "x" / ".." / "mine"))
    assert data_files.writable_cache("tokens", "a") == tmp_path / "mine" / "tokens" / "a"
    assert data_files.writable_cache("tokens", "a").is_dir()


def test_a_cache_that_cannot_be_written_is_answered_with_the_remedy(tmp_path, monkeypatch):
    write(tmp_path / "file", "")
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(RequestError) as caught:
        data_files.writable_cache("tokens")
    assert str(caught.value) == (
        f"the cache folder {tmp_path}/file/cache/tokens cannot be written, set"
        " XFER_CACHE_DIR to another one: Not a directory"
    )
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everything
    with pytest.raises(
        RequestError, match="XFER_CACHE_DIR to another one: Permission denied, or a read-only"
    ):
        data_files.writable_cache()


def test_a_home_that_nobody_knows_is_answered_with_the_remedy(monkeypatch):
    monkeypatch.delenv("XFER_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(
        Path, "expanduser", lambda _: (_ for _ in ()).throw(RuntimeError("no home"))
    )
    with pytest.raises(RequestError, match="set XFER_CACHE_DIR to a cache folder: "):
        data_files.cache_dir()


def test_a_file_s_digest_is_its_sha256(tmp_path):
    path = write(tmp_path / "f", "abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert data_files.file_digest(path) == expected


@pytest.mark.parametrize(
    ("name", "split", "file"),
    [
        ("xfer_panx.en", "train", "panx/train-en.tsv"),
        ("xfer_xnli.en", "train", "xnli/train-en.tsv"),
        pytest.param(
            "xfer_tydiqa.en",
            "train",
            "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json",
        ),
    ],
)
def test_what_is_not_utf8_is_named(folder, name, split, file):
    path = write(
        folder / file, b'a\tb\tneutral\n\xff"\n' if "xnli" in file else b"a\tO\nb\xff\tO\n"
    )
    assert complaint(name, split).startswith(f"{path}, line 2: not UTF-8")


def test_an_empty_file_is_refused(folder):
    write(folder / "panx/train-en.tsv", "\n\n")
    with pytest.raises(RequestError, match=r"xfer_panx\.en"):
        list(registry.texts(catalogue.task("xfer_panx.en"), "train", data_config.configured()))


QUOTE = 'quote it as in CSV, with quotation marks inside doubled: "He said ""no"""'


@pytest.mark.parametrize(
    ("name", "file", "label"),
    [
        ("xfer_xnli.en", "xnli/train-en.tsv", "entailment"),
        ("xfer_pawsx.en", "pawsx/train-en.tsv", "1"),
    ],
)
def test_a_quotation_mark_is_that_of_csv_or_named(folder, name, file, label):
    path = write(folder / file, f'"a ""x""\nb"\tc "d" e\t{label}\n"f"\t""\t{label}\n')
    first, second = ([*example.values()][:2] for example in read(name, "train"))
    assert (first, second) == (['a "x"\nb', 'c "d" e'], ["f", ""])
    write(path, f'a\tb\t{label}\n"A quote" b\tC\t{label}\n')
    assert complaint(name, "train") == (
        f"{path}, line 2: a cell begins with a quotation mark and has text after its closing"
        f" one; {QUOTE}"
    )
    write(path, f'a\tb\t{label}\n"Only start\tD\t{label}\nc\td\t{label}\n')
    assert complaint(name, "train") == (
        f"{path}, line 2: a cell begins with a quotation mark that is never closed; {QUOTE}"
    )


def test_a_row_after_a_cell_of_several_lines_has_its_own_number(folder):
    path = write(folder / "xnli/train-en.tsv", '"a\n\nb"\tc\tneutral\nx\ty\tno\n')
    assert complaint("xfer_xnli.en", "train").startswith(f"{path}, line 4: label 'no'")


def test_a_cell_may_be_as_long_as_it_is(folder):
    long = "x" * 200_000
    write(folder / "xnli/train-en.tsv", f'{long}\t"{long}"\tneutral\n')
    (example,) = read("xfer_xnli.en", "train")
    assert example["premise"] == example["hypothesis"] == long
