"""Odd requests that are right: they are done, and nothing is said on standard error."""

import pytest

from benchmarks.bad_input import FOLDER, Case, Link
from tests.support.files import read_rows

pytestmark = pytest.mark.slow

SCORES = ("scores.csv",)
ANALYZE = ["analyze", "--permutations=10", "--scores"]
FEATURES = ["features", "--languages", "en,sw,fi", "--out"]
PLACES = {  # an output, and where it then lies, from the folder in which the command runs
    "above": ("../m/out", "../m/out"),
    "up-and-down": ("a/../b/out", "b/out"),
    "trailing-slash": ("out/", "out"),
    "two-slashes": ("a//out", "a/out"),
    "dotted": ("./out", "out"),
    "home": ("~/out", "../home/out"),
    "non-ascii": ("größe/अनुवाद/出力", "größe/अनुवाद/出力"),
    "blank": ("my results/out 1", "my results/out 1"),
    "quotes": ("a'b\"c", "a'b\"c"),
    "braces": ("a{b}c", "a{b}c"),
    "percent": ("a%sb", "a%sb"),
    "a-dash": ("./-out", "-out"),
    "linked": ("link/out", "real/out"),
    "linked-itself": ("link", "real"),
    "an-empty-folder": ("empty", "empty"),
    "wildcards": ("a*[b]?", "a*[b]?"),
}
ANALYSED = ("above", "trailing-slash", "home", "non-ascii", "quotes", "linked-itself")
DRAWN = ("above", "quotes")  # what takes longer is not tried everywhere
GIVEN = {"real": FOLDER, "link": Link("real"), "empty": FOLDER, "a": FOLDER}


@pytest.mark.parametrize("name", PLACES)
def test_outputs_go_where_they_are_asked_for(accepted, tmp_path, name):
    given, place = PLACES[name]
    (tmp_path / "home").mkdir()
    accepted(Case(name, [*FEATURES, f"{given.rstrip('/')}/f.csv"], "", GIVEN))
    folder = tmp_path / "here" / place
    assert (folder / "f.csv").is_file()
    if name in ANALYSED:
        accepted(Case(name, [*ANALYZE, "scores.csv", "--out", given], ready=SCORES))
        assert (folder / "analysis.json").is_file()
    if name in DRAWN:
        accepted(Case(name, ["report", given]))
        assert (folder / "report.html").is_file()


def test_a_study_is_emitted_into_an_odd_place(accepted, world, tmp_path):
    emit = ["study", "emit", "study.gin", "--to", "slurm", "--out", "größe/a b'c"]
    accepted(Case("emit", emit, ready=("study.gin",)))
    assert list((tmp_path / "here" / "größe" / "a b'c").rglob("*.sh"))


CODES = ("ar", "bn", "en", "fi", "sw")
ROWS = [(a, b, 90 if a == b else 40 + (7 * i + 3 * j) % 31)
        for i, a in enumerate(CODES) for j, b in enumerate(CODES)]  # fmt: skip


def text(separator=",", end="\n", header="source,target,score", rows=ROWS) -> str:
    lines = [header.replace(",", separator), *(separator.join(map(str, row)) for row in rows)]
    return end.join([*lines, ""])


TABLES = {
    "crlf": text(end="\r\n").encode(),
    "bom": b"\xef\xbb\xbf" + text().encode(),
    "bom-and-crlf": b"\xef\xbb\xbf" + text(end="\r\n").encode(),
    "old-mac": text(end="\r").encode(),
    "semicolons": text(";").encode(),
    "tabs": text("\t").encode(),
    "decimal-comma": text(";", rows=[(a, b, f"{s},5") for a, b, s in ROWS]).encode(),
    "quoted": text(rows=[(f'"{a}"', b, f'"{s}"') for a, b, s in ROWS]).encode(),
    "capitals": text(header="Source,TARGET,Score").encode(),
    "blanks": text(header=" source , target,score ").encode(),
    "no-last-newline": text().encode().rstrip(),
    "blank-last-lines": text().encode() + b"\n\n\n",
    "index-column": text(header="number,source,target,score",
                         rows=[(i, *row) for i, row in enumerate(ROWS)]).encode(),
    "repeated": text(rows=ROWS * 2).encode(),
    "gaps": text(rows=[(a, b, "" if a == "fi" else s) for a, b, s in ROWS]).encode(),
    "names": text(rows=[({"en": "English", "sw": "swahili"}.get(a, a), b, s)
                        for a, b, s in ROWS]).encode(),
    "notes": text(header="source,target,score,note", rows=[(*row, "ü 日本") for row in ROWS]).encode(),
    "quoted-newlines": text(header="source,target,score,note",
                            rows=[(*row, '"a\nb"') for row in ROWS]).encode(),
    "integers-as-floats": text(header="source,target,score,seed",
                               rows=[(*row, "1.0") for row in ROWS]).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_programs_are_read(accepted, tmp_path, name):
    case = Case(
        name, [*ANALYZE, "t.csv", "--out", "out"], "out/scores.csv", {"t.csv": TABLES[name]}
    )
    accepted(case)
    rows = read_rows(tmp_path / "here" / "out" / "scores.csv")
    found = {(row["source"], row["target"]): float(row["score"]) for row in rows}
    half = 0.5 if name == "decimal-comma" else 0.0
    expected = {(a, b): s + half for a, b, s in ROWS if not (name == "gaps" and a == "fi")}
    assert found == expected


QUIET = [
    Case("tasks", "tasks"),
    Case("tasks-without-home", "tasks panx.sw", env={"HOME": "/nope", "XFER_CACHE_DIR": ""}),
    Case("tasks-without-cache", "tasks panx.sw", env={"XFER_CACHE_DIR": "/dev/null/x"}),
    Case("tasks-sizes-of-a-broken-file", "tasks panx.sw --sizes",
         files={"data/panx/train-sw.tsv": b"\0\xff"}, env={"XFER_DATA_DIR": "data"}),
    Case("tasks-sizes-of-nothing", "tasks panx --sizes", files={"data": FOLDER},
         env={"XFER_DATA_DIR": "data"}),
    Case("tasks-linked-data", "tasks panx.sw --sizes",
         files={"real/panx/train-sw.tsv": "Rick\tB-PER\n", "data": Link("real")},
         env={"XFER_DATA_DIR": "data/"}),
    Case("plan", "study plan study.gin", ready=("study.gin",)),
    Case("plan-by-another-path", "study plan ../here/./study.gin", ready=("study.gin",)),
    Case("plan-linked", "study plan link.gin", files={"link.gin": Link("study.gin")},
         ready=("study.gin",)),
    Case("plan-crlf", "study plan crlf.gin",
         files={"crlf.gin": "include '$WORLD/study.gin'\r\nstudy.Study.seeds = (0, 1)\r\n"}),
    Case("plan-of-nowhere", "study plan study.gin --out nowhere", ready=("study.gin",)),
    Case("status-of-nothing", "study status study.gin --out nowhere --once", ready=("study.gin",)),
    Case("analyze-runs", "analyze --scores runs --out out --permutations=10", ready=("runs",)),
    Case("analyze-runs-by-other-paths",
         "analyze --scores ./runs/en runs/../runs/sw runs/ar/ link --out out --permutations=10",
         files={"link": Link("runs/bn")}, ready=("runs",)),
    Case("probe-outputs", "probe --outputs ./probe/", "probe/probe.csv", ready=("probe",)),
    Case("convert-linked", "convert link", files={"link": Link("$WORLD/native")}),
    Case("convert-roundabout", "convert $WORLD/../world0/native/"),
    Case("convert-to-non-ascii", "convert $WORLD/native größe --to hf", "größe/config.json"),
]  # fmt: skip


@pytest.mark.parametrize("case", QUIET, ids=str)
def test_an_odd_request_that_is_right_is_done(accepted, case):
    accepted(case)
