"""Tags of tokens: texts to the byte, and malformed files."""

import pytest

from tests.support.files import fill, write
from tests.support.tasks import complaint, texts


def test_parts_of_speech_are_written_out_to_the_byte(folder):
    # white space within a token, and the joiners of Persian, are left out as XTREME does
    content = "10\u00a0000\tNUM\na fin de\tADP\n\nمی\u200cشود\tVERB\r\n.\tPUNCT\n"
    fill(folder, {"udpos/test-fa.tsv": content, "udpos/dev-fa.tsv": "#\tSYM"})
    assert texts("xfer_udpos.fa", "test") == [
        ("pos: 10000 afinde", "NUM ADP"),
        ("pos: میشود .", "VERB PUNCT"),
    ]
    assert texts("xfer_udpos.fa", "validation") == [("pos: #", "SYM")]


def test_supertags_are_written_out_to_the_byte(folder):
    fill(folder, {"ccg/train.tsv": "He\tNP\nsaid\t(S[dcl]\\NP)/NP\n\n\nso\tNP\n"})
    assert texts("xfer_ccg.en", "train") == [
        ("ccg: He said", "NP (S[dcl]\\NP)/NP"),
        ("ccg: so", "NP"),
    ]


@pytest.mark.parametrize(
    "line",
    ["the DET", "the", "\tDET", "the\t", "the\tdet", "the\tDT", "the\tDET\tDET", "\u200b\tX"],
)
def test_malformed_parts_of_speech_are_named(folder, line):
    fill(folder, {"udpos/train-en.tsv": f"a\tX\n\n{line}\n"})
    path = folder / "udpos/train-en.tsv"
    message = complaint("xfer_udpos.en", "train")
    assert message.startswith(f"{path}, line 3: expected token<TAB>tag with a tag of ADJ, ADP, ")
    kind = {"the DET": "spaces instead of a tab: ", "the\tDET\tDET": "3 columns: "}
    assert message.endswith(f"found {kind.get(line, '')}{line!r}")


def test_malformed_supertags_are_named(folder):
    fill(folder, {"ccg/dev.tsv": "a\tNP\nb\tN P\n"})
    assert complaint("xfer_ccg.en", "validation") == (
        f"{folder / 'ccg/dev.tsv'}, line 2: expected token<TAB>tag with a tag without spaces,"
        " found 'b\\tN P'"
    )


def test_parts_of_speech_without_test_labels_are_refused(folder):
    fill(folder, {"udpos/test-en.tsv": "the\ncat\n"})
    assert complaint("xfer_udpos.en", "test").startswith(
        f"{folder / 'udpos/test-en.tsv'}, line 1: no tag; XTREME removes the test labels"
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
