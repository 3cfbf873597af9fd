"""Tables of scores: what is understood, and what is refused in one sentence."""

import re

import numpy as np
import pytest

from seqio_tasks.errors import RequestError
from xfer_jax.results import score_table

ROWS = [("en", "sw", 50.0), ("sw", "en", 40.0), ("hi", "fi", 30.0), ("fi", "hi", 20.5)]
PLAIN = "source,target,score\n" + "".join(f"{s},{t},{v}\n" for s, t, v in ROWS)


@pytest.fixture
def read(tmp_path):
    def from_text(text: str | bytes, **options) -> score_table.ScoreTable:
        path = tmp_path / "scores.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return score_table.read(path, **options)

    return from_text


def cells(scores: score_table.ScoreTable) -> list[tuple]:
    return list(scores.table[["source", "target", "score"]].itertuples(index=False, name=None))


VARIANTS = {
    "FLORES": PLAIN.replace("sw,", "swh_Latn,")
    .replace("hi,", "hin_Deva,")
    .replace("en,", "en-US,"),
    "Glottocodes": PLAIN.replace("sw,", "swah1253,").replace("hi,", "hind1269,"),
    "plain": PLAIN,
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "names": PLAIN.replace("sw,", "Swahili,").replace("fi,", "finnish,"),
    "three letters": PLAIN.replace("sw,", "swa,").replace("hi,", "hin,").replace("en,", "eng,"),
    "spaces": PLAIN.replace(",", " , "),
    "capital headings": PLAIN.replace("source,target,score", "Source,TARGET,Score"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_table_is_read_however_it_is_written(read, variant):
    assert cells(read(VARIANTS[variant])) == ROWS


def test_three_columns_suffice_and_others_are_kept(read):
    scores = read(PLAIN)
    assert set(scores.table["task"]) == {"task"}
    assert set(scores.table["n_shots"]) == {0}
    text = PLAIN.replace("score\n", "score,note\n").replace(".0\n", ".0,x\n")
    more = read(text.replace(".5\n", ".5,\n"))
    assert more.table["note"].tolist() == ["x", "x", "x", ""]


def test_rows_are_chosen_by_their_columns(read):
    text = "source,target,score,n_train\n" + "".join(
        f"{s},{t},{v + n / 1000},{n}\n" for s, t, v in ROWS for n in (630, 1250)
    )
    chosen = read(text, where={"n_train": "1250"})
    assert set(chosen.table["n_train"]) == {1250}
    assert [row[2] for row in cells(chosen)] == [v + 1.25 for _, _, v in ROWS]
    with pytest.raises(RequestError, match=r"no row has n_train 7; choose one of 1250, 630"):
        read(text, where={"n_train": "7"})
    with pytest.raises(RequestError, match=r"no column 'ntrain'.*n_train"):
        read(text, where={"ntrain": "7"})


def test_fractions_are_multiplied_if_the_user_says_so(read):
    text = re.sub(r"(\d+\.\d)\n", lambda m: f"{float(m[1]) / 100}\n", PLAIN)
    assert [row[2] for row in cells(read(text, fractions=True))] == pytest.approx(
        [v for _, _, v in ROWS]
    )
    with pytest.raises(RequestError, match="--fractions"):
        read(text)
    with pytest.raises(RequestError, match="a score of 50 is not a fraction"):
        read(PLAIN, fractions=True)


def test_empty_cells_and_repeats_are_counted(read):
    scores = read(PLAIN + "en,fi,\nen,hi,NaN\nen,sw,50.0\n")
    assert cells(scores) == ROWS
    assert "2 rows have no score and are left out" in scores.notes
    assert "1 rows are exact duplicates of another row and count once" in scores.notes
    assert "task: 12 of 16 cells have no score" in scores.notes


def test_line_ends_and_long_cells_do_not_matter(read):
    assert cells(read(PLAIN.replace("\n", "\r"))) == ROWS
    long = PLAIN.replace("score\n", "score,note\n").replace(".0\n", ".0,\n")
    assert cells(read(long.replace(".5\n", f".5,{'x' * 200_000}\n"))) == ROWS
    quoted = PLAIN.replace("en,sw", '"en","sw"').replace("\nhi", "\n\n,,\nhi")
    assert cells(read(quoted)) == ROWS


@pytest.mark.parametrize("separator", ";\t")
def test_decimal_commas_are_read_where_something_else_separates(read, separator):
    text = PLAIN.replace(",", separator).replace(".", ",")
    assert cells(read(text)) == ROWS
    thousandths = text.replace("50,0", "50,125").replace("0,0\n", "0,000\n").replace("0,5", "0,500")
    assert cells(read(thousandths))[0] == ("en", "sw", 50.125)
    with pytest.raises(RequestError, match=r"line 2: score '50,0' is not a number: decimal commas"):
        read(PLAIN.replace("50.0", '"50,0"'))


def test_columns_that_are_not_used_are_named(read):
    scores = read(
        PLAIN.replace("score\n", "score,note,seed\n")
        .replace("0\n", "0,x,1\n")
        .replace("5\n", "5,,1\n")
    )
    assert any(note.endswith("columns that are ignored: note") for note in scores.notes)


def test_varieties_are_languages_of_their_own(read):
    """Egyptian and Standard Arabic, of which only one was once known."""
    text = PLAIN + "arz,en,50\nen,arz,51\nara,en,60\nen,ara,61\nprs,en,1\nen,fas,2\n"
    scores = read(text)
    found = {(s, t): v for s, t, v in cells(scores)}
    assert (found["arz", "en"], found["ar", "en"]) == (50, 60)
    assert (found["prs", "en"], found["en", "fa"]) == (1, 2)
    (note,) = [note for note in scores.notes if "borrowed" in note]
    assert (
        note
        == "typology is borrowed from another row of URIEL: syntax and phonology of prs from pes"
    )
    with pytest.raises(
        RequestError, match=r"60 and 62 for the same cell .*source ar.* lines 8 and 12"
    ):
        read(text + "arb,en,62\n")


def test_units_are_judged_task_by_task(read):
    rows = [f"{s},{t},{v}" for s, t, v in ROWS]
    small = [f"{s},{t},{v / 100}" for s, t, v in ROWS]
    mixed = [
        "task,source,target,score",
        *(f"a,{row}" for row in rows),
        *(f"b,{row}" for row in small),
    ]
    with pytest.raises(RequestError, match=r"all scores of b are at most 1.*--fractions"):
        read("\n".join(mixed))
    with pytest.raises(
        RequestError, match=r"line 2: a score of 50 is not a fraction of 1 \(task a\)"
    ):
        read("\n".join(mixed), fractions=True)
    ours = [f"{mixed[0]},engine,run", *(f"{row},native,x" for row in mixed[1:])]
    assert len(read("\n".join(ours)).table) == 8  # a study's own table is in percent
    nothing = [mixed[0], *(f"a,{row}" for row in rows), *(f"b,{s},{t},0" for s, t, _ in ROWS)]
    assert len(read("\n".join(nothing)).table) == 8


def test_a_baseline_is_read_in_the_scores_unit(read):
    lines = [f"{s},{t},{v},{25 if v != 20.5 else ''}" for s, t, v in ROWS]
    text = "\n".join(["source,target,score,baseline", *lines])
    table = read(text).table
    assert table["baseline"].tolist() == pytest.approx([25, 25, 25, np.nan], nan_ok=True)
    with pytest.raises(RequestError, match="a baseline of 400 is not a percentage"):
        read(text.replace(",25", ",400"))


BAD = {
    "two scores": (PLAIN.replace("score\n", "score,score\n"), r"two columns 'score'"),
    "two scores but for a space": (PLAIN.replace("score\n", "score, Score\n"), r"columns 'score'"),
    "a sum": (PLAIN + "en,sum,1\n", r"line 6: target 'sum': 'sum' is not a language"),
    "all": (PLAIN + "all,en,1\n", r"line 6: source 'all': 'all' is not a language"),
    "average": (PLAIN + "en,Average,1\n", r"line 6: target 'Average'"),
    "no language": (
        PLAIN + ",en,1\n",
        r"line 6: source is empty; expected a code or name of a language",
    ),
    "an open quote": (
        PLAIN + '"en,sw,1\n',
        r"line 6: this is not a valid table \(a quotation mark is not closed",
    ),
    "a short row": (PLAIN + "en,fi\n", r"line 6: 2 values, but the header has 3 names"),
    "a nameless column": ("source,target,,score\nen,sw,x,1\n", r"column 3 has no name"),
    "NUL": (PLAIN + "en,f\0i,1\n", r"line 6: a NUL"),
    "Latin-1": (
        "source,target,score\nen,sw,1\nspañol,en,2\n".encode("latin-1"),
        r"line 3: not UTF-8",
    ),
    "a percent sign": (PLAIN + "en,fi,15%\n", r"'15%' is not a number: remove the percent sign"),
    "a complex number": (PLAIN + "en,fi,1+2j\n", r"line 6: score '1\+2j' is not a number"),
    "a boolean": (PLAIN + "en,fi,True\n", r"line 6: score 'True' is not a number"),
    "hexadecimal": (PLAIN + "en,fi,0x1F\n", r"line 6: score '0x1F' is not a number"),
    "an underscore": (PLAIN + "en,fi,1_0\n", r"line 6: score '1_0' is not a number"),
    "infinity": (PLAIN + "en,fi,inf\n", r"line 6: score is infinite"),
    "a huge exponent": (PLAIN + "en,fi,1e400\n", r"line 6: score is infinite"),
    "a huge integer": (PLAIN + f"en,fi,{'9' * 5000}\n", r"line 6: score is infinite"),
    "huge n_train": (
        "source,target,score,n_train\nen,sw,1,1e30\n",
        r"line 2: n_train must be a whole number, not '1e30'; expected 0 to 1,000,000,000,000,000",
    ),
    "half a seed": (
        "source,target,score,seed\nen,sw,1,1.5\n",
        r"seed must be a whole number, not '1.5'",
    ),
    "a negative n_shots": ("source,target,score,n_shots\nen,sw,1,-1\n", r"n_shots must be a whole"),
    "thousands": ("source;target;score;n_train\nen;sw;1;10,000\n", r"n_train must be .*'10,000'"),
    "a line break in a name": (
        'source,target,score,task\nen,sw,1,"a\nb"\n',
        r"line 2: task 'a\\nb' contains a control character",
    ),
    "no score at all": ("source,target,score\nen,sw,\n", r"no row has a score"),
    "a cell with two scores": (
        PLAIN + "en,sw,51\n",
        r"gives 50 and 51 for the same cell .*source en",
    ),
    "an unknown language": (PLAIN + "swahilli,en,1\n", r"unknown language 'swahilli'.*swahili"),
    "no number": (PLAIN + "en,fi,high\n", r"line 6: score 'high' is not a number"),
    "no percentage": (PLAIN + "en,fi,103\n", r"a score of 103 is not a percentage"),
    "negative": (PLAIN + "en,fi,-3\n", r"a score of -3 is not a percentage"),
    "no such column": (
        "source,goal,score\nen,sw,1\n",
        r"no column target; it has the columns source, goal",
    ),
    "no rows": ("source,target,score\n", r"has no rows"),
    "nothing": ("", r"is not a table"),
    "not text": (b"\xff\xfe\x00", r"is UTF-16; save it as UTF-8"),
    "few languages": ("source,target,score\nen,sw,1\nsw,hi,2\n", r"has 3 languages \(en, hi, sw\)"),
    "shots": (
        "source,target,score,n_shots\nen,sw,1,many\n",
        r"n_shots must be a whole number, not 'many'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_tables_are_refused(read, case):
    text, pattern = BAD[case]
    with pytest.raises(RequestError, match=pattern) as refused:
        read(text)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"none\.csv cannot be read: No such file"):
        score_table.read(tmp_path / "none.csv")


def test_a_note_names_a_language_that_uriel_does_not_contain(read):
    scores = read(PLAIN + "hyw,en,12\n")
    assert "URIEL does not contain hyw: their typology is unknown" in scores.notes


def test_a_note_names_a_code_of_the_users_own(read):
    scores = read(PLAIN + "qzz,en,12\n")
    assert "no list of languages contains qzz: check their spelling" in scores.notes
    assert not any("check for slips" in note for note in read(PLAIN + "hyw,en,1\n").notes)


def test_a_matrix_averages_seeds(read):
    text = "source,target,score,seed\n" + "".join(
        f"{s},{t},{v + seed},{seed}\n" for s, t, v in ROWS for seed in (0, 2)
    )
    found = score_table.matrix(read(text).table, ["en", "fi"], ["hi", "sw", "en"])
    np.testing.assert_array_equal(found, [[np.nan, 51.0, np.nan], [21.5, np.nan, np.nan]])


def test_zero_shot_rows_are_those_of_the_fewest_shots_and_the_most_training_data(read):
    lines = ["source,target,n_shots,n_train,arm,score"]
    for s, t, v in ROWS:
        lines += [f"{s},{t},0,{n},,{v + n / 1000}" for n in (630, 1250)]
        lines += [f"{s},{t},100,1250,,{v + 5}", f"{s},{t},0,1250,matched,{v - 5}"]
    chosen, notes = score_table.zero_shot(read("\n".join(lines)).table)
    assert chosen["score"].tolist() == pytest.approx([v + 1.25 for *_, v in ROWS])
    assert notes == (
        "task: each source has several numbers of training examples; the largest is compared:"
        " 1,250",
    )


def test_a_note_says_that_there_are_no_zero_shot_scores(read):
    lines = ["source,target,n_shots,arm,score"]
    for s, t, v in ROWS:
        lines += [f"{s},{t},{n},matched,{v + n / 1000}" for n in (10, 100)]
    chosen, notes = score_table.zero_shot(read("\n".join(lines)).table)
    assert set(chosen["n_shots"]) == {10}
    assert notes == (
        "task: only rows with arm matched are compared",
        "task has no zero-shot scores: scores with 10 training examples in the target language are"
        " compared",
    )


def test_scores_of_two_models_or_metrics_are_not_mixed(read):
    for column in ("model", "metric"):
        text = f"source,target,score,{column}\n" + "".join(
            f"{s},{t},{v},{name}\n" for s, t, v in ROWS for name in ("f1", "em")
        )
        with pytest.raises(RequestError, match=f"choose one with --where {column}=em"):
            read(text)
        assert cells(read(text, where={column: "em"})) == ROWS
