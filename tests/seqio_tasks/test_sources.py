"""Sources: files are found in order of preference, and every bad input is named to the line."""

import json
from pathlib import Path

import pytest

from seqio_tasks import catalogue, registry, sources
from seqio_tasks.errors import RequestError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    return tmp_path


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(name: str, split: str) -> list[dict]:
    return list(registry.raw_examples(catalogue.task(name), split))


def complaint(name: str, split: str) -> str:
    """Returns what a task says of its data; one sentence, in one line."""
    with pytest.raises(RequestError) as caught:
        read(name, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ----------------------------------------------------------------------------------------- folders


def test_no_folder_means_tfds(monkeypatch):
    monkeypatch.delenv("XFER_DATA_DIR", raising=False)
    assert sources.data_dir() is None
    monkeypatch.setenv("XFER_DATA_DIR", "")
    assert sources.data_dir() is None


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", "/nowhere")
    assert sources.data_dir(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.data_dir("~") == tmp_path


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


def test_a_missing_data_folder_is_complained_of_in_one_sentence(monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", "/nowhere")
    with pytest.raises(RequestError) as caught:
        read("xfer_panx.sw", "train")
    first_line, *gins_own = str(caught.value).splitlines()
    assert first_line.endswith("unset it to read from TFDS")
    assert gins_own[0].startswith("  In call to configurable")


def test_cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "mine"))
    assert sources.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("XFER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sources.cache_dir() == tmp_path / "xfer-jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.cache_dir() == tmp_path / ".cache" / "xfer-jax"


# ------------------------------------------------------------------------------------------- files


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
    assert folder  # set
    for name in ("b", "c"):
        write(folder / name, name)
    assert sources.find(("a", "b", "c"), "t", "train", None) == folder / "b"
    with pytest.raises(RequestError) as caught:
        sources.find(("a", "d"), "t", "train", None)
    assert "t (train) needs a or d in" in str(caught.value)
    assert "TFDS" not in str(caught.value)  # which has nothing to offer


def test_lines(tmp_path):
    path = write(tmp_path / "f", "ein\r\n\n zwei \t\ndr\u2028ei\x85")
    assert list(sources.lines(path)) == [
        (1, "ein"),
        (2, ""),
        (3, " zwei \t"),
        (4, "dr\u2028ei\x85"),
    ]
    assert list(sources.lines(write(tmp_path / "empty", ""))) == []


def test_file_digest(tmp_path):
    path = write(tmp_path / "f", "abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert sources.file_digest(path) == expected


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
        list(registry.texts(catalogue.task("xfer_panx.en"), "train"))


# ------------------------------------------------------------------------------------------- PAN-X


@pytest.mark.parametrize(
    "line",
    [
        "rick B-PER",
        "rick",
        "\tO",
        "rick\t",
        "rick\tB-per",
        "rick\tB-MISC",
        "rick\tPER",
        "rick\tB-PER\tO",
        "rick\t B-PER",
    ],
)
def test_panx_malformed_line(folder, line):
    path = write(folder / "panx/dev-en.tsv", f"ok\tO\n\n{line}\nok\tO\n")
    message = complaint("xfer_panx.en", "validation")
    assert message.startswith(f"{path}, line 3: expected token<TAB>tag with a tag of O, B-PER, ")
    kind = {"rick B-PER": "spaces in place of the tab: ", "rick\tB-PER\tO": "3 columns: "}
    assert message.endswith(f"found {kind.get(line, '')}{line!r}")


def test_panx_without_test_labels(folder):
    path = write(folder / "panx/test-en.tsv", "rick\nsaid\n")
    assert complaint("xfer_panx.en", "test") == (
        f"{path}, line 1: no tag; XTREME strips the test labels, use validation"
    )


def test_a_long_line_is_quoted_in_part(folder):
    write(folder / "panx/dev-en.tsv", "x" * 10_000)
    assert len(complaint("xfer_panx.en", "validation")) < 300 + len(str(folder))


# -------------------------------------------------------------------------------------------- XNLI


@pytest.mark.parametrize("label", ["neutrale", "", "-", "Neutral", "0", "x" * 1000])
def test_xnli_bad_label(folder, label):
    path = write(folder / "xnli/train-en.tsv", f"a\tb\tneutral\na\tb\t{label}\n")
    assert complaint("xfer_xnli.en", "train") == (
        f"{path}, line 2: label {label[:40]!r} is not one of entailment, neutral, contradiction"
    )


@pytest.mark.parametrize(
    ("line", "found"), [("a\tb", 2), ("a", 1), ("", 0), ("a\tb\tc\tneutral", 4), ("a b neutral", 1)]
)
def test_xnli_wrong_columns(folder, line, found):
    path = write(folder / "xnli/dev-en.tsv", f"a\tb\tneutral\n{line}\n")
    assert complaint("xfer_xnli.en", "validation") == (
        f"{path}, line 2: expected premise<TAB>hypothesis<TAB>label, found {found} columns"
    )


HEADER = "language\tgold_label\tsentence1\tsentence2\tpairID\n"


def test_xnli_wrong_columns_under_a_header(folder):
    # the last column may be missing, since nobody reads it
    content = f"{HEADER}en\tneutral\ta\tb\nde\tneutral\ta\n"
    path = write(folder / "xnli/xnli.dev.tsv", content)
    assert complaint("xfer_xnli.en", "validation") == (
        f"{path}, line 3: expected 5 columns, found 3"
    )


def test_xnli_bad_label_under_a_header(folder):
    path = write(folder / "xnli/xnli.test.tsv", f"{HEADER}de\t?\ta\tb\t1\nen\t-\ta\tb\t1\n")
    assert complaint("xfer_xnli.en", "test").startswith(f"{path}, line 3: label '-' is not one of")


def test_xnli_language_not_in_the_file(folder):
    path = write(folder / "xnli/xnli.dev.tsv", f"{HEADER}en\tneutral\ta\tb\t1\n")
    assert complaint("xfer_xnli.th", "validation") == f"{path} has no line of language 'th'"
    write(path, HEADER)
    assert complaint("xfer_xnli.en", "validation") == f"{path} has no line of language 'en'"


def test_xnli_line_with_a_return_in_its_midst(folder):
    path = write(folder / "xnli/train-en.tsv", "a\rb\tc\tneutral\n")
    assert complaint("xfer_xnli.en", "train").startswith(f"{path}, line 1")


# ------------------------------------------------------------------------------------------ TyDiQA

TYDIQA = "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.en.dev.json"


def squad(question: object) -> str:
    return json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [question]}]}]})


@pytest.mark.parametrize(
    ("content", "line"),
    [("", 1), ("{", 1), ('{"data":\n\n[}', 3), ('{"data": []} x', 1), ('{\n"data": [],\n}', 3)],
)
def test_tydiqa_bad_json(folder, content, line):
    path = write(folder / TYDIQA, content)
    where = f"{path}, line {line}" if line > 1 else path
    assert complaint("xfer_tydiqa.en", "validation").startswith(f"{where}: not JSON (")


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ('{"dada": []}', "'data'"),
        ('{"data": [{}]}', "'data.0.paragraphs'"),
        ('{"data": [{"paragraphs": [{"context": "c"}]}]}', "'data.0.paragraphs.0.qas'"),
        ('{"data": [{"paragraphs": [{"qas": [{"answers": [1], "id": 1, "question": "q"}]}]}]}', ""),
        (squad({"id": "1", "answers": [{"text": "a"}]}), "'question'"),
        (squad({"question": "q", "answers": [{"text": "a"}]}), "'id'"),
        (squad({"id": "1", "question": "q", "answers": [{"answer_start": 1}]}), ".text'"),
        ("[]", ""),
        ('{"data": null}', ""),
        (squad("q"), ""),
    ],
)
def test_tydiqa_of_another_form(folder, content, missing):
    path = write(folder / TYDIQA, content)
    message = complaint("xfer_tydiqa.en", "validation")
    assert message.startswith(str(path))
    assert ": not of SQuAD's form (" in message
    assert missing in message


def test_tydiqa_without_answers(folder):
    path = write(folder / TYDIQA, squad({"id": "english-1", "question": "q", "answers": []}))
    message = complaint("xfer_tydiqa.en", "validation")
    assert message.startswith(f"{path}: question english-1 has no answer; XTREME strips the dev")
