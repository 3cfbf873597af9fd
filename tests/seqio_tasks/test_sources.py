"""Sources: files are found in order of preference, and every bad input is named to the line."""

import json
from pathlib import Path

import pytest

from seqio_tasks import catalogue, data_config, registry, sources
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
    return list(registry.raw_examples(catalogue.task(name), split, data_config.configured()))


def complaint(name: str, split: str) -> str:
    """Returns what a task says of its data; one sentence, in one line."""
    with pytest.raises(RequestError) as caught:
        read(name, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ----------------------------------------------------------------------------------------- folders


def test_no_folder_means_tfds(monkeypatch):
    monkeypatch.delenv("XFER_DATA_DIR", raising=False)
    assert data_config.configured().data_dir is None
    monkeypatch.setenv("XFER_DATA_DIR", "")
    assert data_config.configured().data_dir is None


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", "/nowhere")
    assert data_config.configured(str(tmp_path)).data_dir == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_config.configured("~").data_dir == tmp_path


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
    for name in ("b", "c"):
        write(folder / name, name)
    assert sources.find(folder, ("a", "b", "c"), "t", "train", None) == folder / "b"
    with pytest.raises(RequestError) as caught:
        sources.find(folder, ("a", "d"), "t", "train", None)
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
        sources.file_digest(path)


def test_a_writable_cache_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "x" / ".." / "mine"))
    assert sources.writable_cache("tokens", "a") == tmp_path / "mine" / "tokens" / "a"
    assert sources.writable_cache("tokens", "a").is_dir()


def test_a_cache_that_cannot_be_written_is_answered_with_the_remedy(tmp_path, monkeypatch):
    write(tmp_path / "file", "")
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(RequestError) as caught:
        sources.writable_cache("tokens")
    assert str(caught.value) == (
        f"the cache folder {tmp_path}/file/cache/tokens cannot be written, set"
        " XFER_CACHE_DIR to another one: Not a directory"
    )
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everything
    with pytest.raises(
        RequestError, match="XFER_CACHE_DIR to another one: Permission denied, or a read-only"
    ):
        sources.writable_cache()


def test_a_home_that_nobody_knows_is_answered_with_the_remedy(monkeypatch):
    monkeypatch.delenv("XFER_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(
        Path, "expanduser", lambda _: (_ for _ in ()).throw(RuntimeError("no home"))
    )
    with pytest.raises(RequestError, match="set XFER_CACHE_DIR to a cache folder: "):
        sources.cache_dir()


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
        list(registry.texts(catalogue.task("xfer_panx.en"), "train", data_config.configured()))


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
    kind = {"rick B-PER": "spaces instead of a tab: ", "rick\tB-PER\tO": "3 columns: "}
    assert message.endswith(f"found {kind.get(line, '')}{line!r}")


RAW = "en:Ada\tB-PER\nen:Byron\tI-PER\nen:at\tO\nen:12:30\tO\nen::\tO\n\nen:b:c\tB-LOC\n"


def test_wikianns_own_files_have_the_language_before_every_token(folder):
    write(folder / "panx/dev-en.tsv", RAW)
    first, second = read("xfer_panx.en", "validation")
    assert first["tokens"] == ["Ada", "Byron", "at", "12:30", ":"]
    assert (first["spans"], second["spans"]) == (["PER: Ada Byron"], ["LOC: b:c"])
    metric = catalogue.task("xfer_panx.en").metric
    targets = [" $$ ".join(example["spans"]) for example in (first, second)]
    assert metric(targets, targets)["span_f1"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("token", ["12:30", "a:b", "en:Ada", "en:"])
def test_tokens_with_a_colon_are_what_they_are(folder, token):
    write(folder / "panx/dev-en.tsv", f"{token}\tB-PER\nAda\tO\n")
    assert read("xfer_panx.en", "validation")[0]["tokens"] == [token, "Ada"]
    write(folder / "panx/dev-en.tsv", "a:b\tO\n\na:c\tB-PER\n")  # of no language's name
    assert read("xfer_panx.en", "validation")[1]["tokens"] == ["a:c"]


def test_wikianns_own_file_of_another_language_is_refused(folder):
    path = write(folder / "panx/dev-en.tsv", "de:Ada\tB-PER\nde:12:30\tO\n")
    assert complaint("xfer_panx.en", "validation") == (
        f"{path}: its tokens begin with de: and are in that language, not in en"
    )
    write(path, "en:Ada\tO\n\nen:\tO\n")
    assert complaint("xfer_panx.en", "validation") == (
        f"{path}, sentence 2: a token that is empty after en:"
    )


@pytest.mark.parametrize("task", ["panx", "udpos"])
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Ada B-PER", "spaces instead of a tab"),
        ("Ada    O", "spaces instead of a tab"),
        ("# sent_id = x", "a comment, remove such lines"),
        ("-DOCSTART- -X- O O", "a -DOCSTART- line of CoNLL, remove such lines"),
        ("1\tA\ta\tDET", "4 columns"),
        (
            "1\tA\ta\tDET\tDT\t_\t2\tdet\t_\t_",
            "a line of CoNLL-U, keep its columns FORM and UPOS",
        ),
    ],
)
def test_what_is_no_token_and_tag_is_said(folder, line, kind, split, task):
    part = "dev" if split == "validation" else split
    tag = {"panx": "O", "udpos": "X"}[task]
    path = write(folder / f"{task}/{part}-en.tsv", f"a\t{tag}\n{line}\n")
    said = complaint(f"xfer_{task}.en", split)
    assert said.startswith(f"{path}, line 2: expected token<TAB>tag with a tag of ")
    assert said.endswith(f", found {kind}: {line!r}")


def test_panx_without_test_labels(folder):
    path = write(folder / "panx/test-en.tsv", "rick\nsaid\n")
    assert complaint("xfer_panx.en", "test") == (
        f"{path}, line 1: no tag; XTREME removes the test labels, use validation"
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
    assert complaint("xfer_xnli.th", "validation") == f"{path} has no line in language 'th'"
    write(path, HEADER)
    assert complaint("xfer_xnli.en", "validation") == f"{path} has no line in language 'en'"


def test_xnli_line_with_a_return_in_its_midst(folder):
    path = write(folder / "xnli/train-en.tsv", "a\rb\tc\tneutral\n")
    assert complaint("xfer_xnli.en", "train").startswith(f"{path}, line 1")


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
    assert message.startswith(f"{path}: question english-1 has no answer; XTREME removes the dev")


@pytest.mark.parametrize(
    "said",
    [
        {"is_impossible": True, "answers": [{"text": "", "answer_start": -1}]},
        {"is_impossible": True, "answers": [{"text": " "}, {"text": ""}]},
        {"is_impossible": True, "answers": []},
        {"is_impossible": True},
    ],
)
def test_a_question_without_an_answer_is_one_however_it_is_said(folder, said):
    write(folder / "squad2/dev-v2.0.json", squad({"id": 7, "question": "q"} | said))
    (example,) = read("xfer_squad2.en", "validation")
    assert (example["id"], example["answers"]) == ("7", {"text": []})
    source = registry.StudySource(catalogue.task("xfer_squad2.en"))
    (row,) = source.get_dataset("validation", shuffle=False).as_numpy_iterator()
    assert (row["targets"], row["answers"].tolist()) == (b"unanswerable", [b"unanswerable"])


def test_an_answer_without_text_is_none(folder):
    answers = [{"text": "", "answer_start": 0}, {"text": "London", "answer_start": 19}]
    write(folder / "squad2/dev-v2.0.json", squad({"id": "4", "question": "q", "answers": answers}))
    assert read("xfer_squad2.en", "validation")[0]["answers"] == {"text": ["London"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_impossible": "false"}, "'is_impossible' should be a valid boolean, found 'false'"),
        ({"is_impossible": None}, "'is_impossible' should be a valid boolean, found None"),
        ({"answers": None}, "'answers' should be a valid list, found None"),
        ({"answers": [{"text": 3}]}, "'answers.0.text' should be a valid string, found 3"),
        ({"question": ["q"]}, "'question' should be a valid string, found a list"),
        (
            {"question": "\ud800"},
            "'question' has a lone surrogate \\ud800, which is not valid text",
        ),
    ],
)
def test_squad_of_wrong_types(folder, change, said):
    question = {"id": "q-1", "question": "q", "answers": [{"text": "a"}]}
    path = write(folder / "squad2/dev-v2.0.json", squad(question | change))
    assert complaint("xfer_squad2.en", "validation") == (
        f"{path}, question q-1: not of SQuAD's form ({said})"
    )


def test_an_impossible_question_with_an_answer_is_refused(folder):
    question = {"id": "q-1", "question": "q", "answers": [{"text": "a"}], "is_impossible": True}
    path = write(folder / "squad2/dev-v2.0.json", squad(question))
    assert complaint("xfer_squad2.en", "validation") == (
        f"{path}: question q-1 is marked impossible but has the answer 'a'; remove one of the two"
    )


# -------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"label": 1, "label": 0}', "not JSON (the key 'label' occurs twice in one object)"),
        ("[" * 5000, "this JSON is nested too deeply"),
        ('{"label": ' + "1" * 5000 + "}", "not JSON ("),
        ('{"label": NaN}', "label 'nan' is not one of 0, 1"),
        ('{"label": 1.0}', "label '1.0' is not one of 0, 1"),
        ('{"label": [1]}', "label a list is not one of 0, 1"),
        ('{"label": 1, "premise": {}}', "expected text in the field 'premise', found an object"),
        (
            '{"label": 1, "premise": "\\udc00"}',
            "the field 'premise' has a lone surrogate \\udc00, which is not valid text",
        ),
    ],
)
def test_json_lines_of_wrong_values(folder, line, said):
    path = write(folder / "xcopa/val-sw.jsonl", f"\n{line}\n")
    assert complaint("xfer_xcopa.sw", "validation").startswith(f"{path}, line 2: {said}")
