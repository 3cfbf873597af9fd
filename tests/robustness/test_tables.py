"""Tables that are none, contradict themselves, or hold what is no number, language or percentage."""

import pytest

from benchmarks.bad_input import FOLDER, Case, Link

CODES = ("ar", "bn", "en", "fi", "sw")
GRID = {(a, b): 90 if a == b else 40 + (7 * i + 3 * j) % 31
        for i, a in enumerate(CODES) for j, b in enumerate(CODES)}  # fmt: skip


def table(*extra: str, header: str = "source,target,score", more: str = "", grid=GRID) -> str:
    """A whole table of five languages, then further lines; `more` is added to every line."""
    lines = [f"{a},{b},{score}{more}" for (a, b), score in grid.items()]
    return "\n".join([header, *lines, *extra, ""])


def scores(id: str, words: str, content, options: str = "") -> Case:
    argv = f"analyze --scores t.csv --out out --permutations=10 {options}"
    return Case(f"scores-{id}", argv, words, {"t.csv": content})


SCORES = [
    scores("empty", r"t\.csv", ""),
    scores("blank", r"t\.csv", "\n\n\n"),
    scores("only-a-mark", r"t\.csv", b"\xef\xbb\xbf"),
    scores("only-a-header", "row", "source,target,score\n"),
    scores("no-header", "column", "en,sw,40\nsw,en,50\n"),
    scores("json", r"t\.csv", '[{"source": "en"}]'),
    scores("html", r"t\.csv", "<html><body>404</body></html>\n"),
    scores("binary", r"t\.csv", bytes(range(256)) * 8),
    scores("nul", r"NUL|s\\x00", table().replace("sw", "s\0", 1)),
    scores("utf-16", "UTF-16", table().encode("utf-16")),
    scores("utf-16-without-mark", r"t\.csv", table().encode("utf-16-le")),
    scores("latin-1", "UTF-8", table("Türkçe,en,4").encode("latin-1")),
    scores("zip", r"t\.csv", b"PK\x03\x04" + b"\0\xff" * 99),
    scores("folder-of-nothing", r"t\.csv", FOLDER),
    scores("dangling", r"t\.csv", Link("nope.csv")),
    scores("link-to-itself", r"t\.csv", Link("t.csv")),
    scores("unclosed-quote", r"t\.csv", table('"en,sw,5')),
    scores("quoted-newline", "en|language", table('"en\nsw",fi,5')),
    scores("large-cell", r"t\.csv|language", table("x" * 140_000 + ",en,5")),
    scores("many-columns", "line 2|values", "source,target,score\nen,sw,5" + ",1" * 9000 + "\n"),
    scores("long-line", "line 4|values", "source,target,score\nen,sw,5\nsw,en,6\nen,fi,5,7,8\n"),
    scores("short-line", "line 27|score|target", table("en")),
    scores("no-score", "score", table(header="source,target,accuracy")),
    scores("no-source", "source", table(header="from,target,score")),
    scores("no-target", "target", table(header="source,to,score")),
    scores("two-scores", "score", table(header="source,target,score,score", more=",7")),
    scores("two-scores-by-capitals", "score", table(header="source,target,score,Score", more=",7")),
    scores("two-sources", "source", table(header="source,target,score,source", more=",en")),
    scores("score-twice-by-blank", "score", table(header="source,target,score, score", more=",7")),
    scores("three-languages", "3 languages", "source,target,score\nen,sw,5\nsw,fi,6\nfi,en,7\n"),
    # --- numbers
    scores("word", "line 27.*high", table("en,de,high")),
    scores("percent-sign", "line 27.*5%", table("en,de,5%")),
    scores("decimal-comma", r"line 27", table().replace(",", ";") + "en;de;12,5,3\n"),
    scores("thousands", "line 27|1,000", table('en,de,"1,000"')),
    scores("infinite", "line 27.*infinite", table("en,de,inf")),
    scores("endless", "line 27", table("en,de,1e999")),
    scores("negative", "-3", table("en,de,-3")),
    scores("above-100", "101", table("en,de,101")),
    scores("fractions", "fractions", table(grid={k: v / 100 for k, v in GRID.items()})),
    scores("hexadecimal", "line 27", table("en,de,0x1f")),
    scores("arabic-digits-word", "line 27", table("en,de,٣x")),
    scores("boolean", "line 27.*True", table("en,de,True")),
    scores("no-scores-at-all", "score", table(grid=dict.fromkeys(GRID, ""))),
    scores("all-alike", "same score", table(grid=dict.fromkeys(GRID, 50))),
    scores("only-in-language", "pair", table(grid={(c, c): 50 + i for i, c in enumerate(CODES)})),
    # --- whole numbers
    *(scores(f"{name}={value}", rf"\b{name}\b",
             table(f"en,de,5,{value}", header=f"source,target,score,{name}", more=",1"))
      for name in ("n_shots", "n_train", "seed")
      for value in ("1e30", "-1", "1.5", "x", "inf", "9" * 30, "True")
      if (name, value) != ("seed", "-1")),
    # --- languages
    *(scores(f"language={word}", word, table(f"{word},en,5"))
      for word in ("sum", "mean", "all", "avg", "average", "total", "Klingonish", "12", "en-",
                   "zz-ZZ", "null")),
    scores("language-empty", "source|language|line 27", table(",en,5")),
    scores("target-empty", "target|language|line 27", table("en,,5")),
    scores("language-nul-escape", "language", table("\x1b[31m,en,5")),
    scores("contradiction", "90 and 41", table("ar,ar,41")),
    scores("two-models", "model", table("en,de,5,b", header="source,target,score,model",
                                        more=",a") .replace("en,de,5,b", "ar,bn,5,b")),
    scores("two-metrics", "metric", table("ar,bn,5,em", header="source,target,score,metric",
                                          more=",f1")),
]  # fmt: skip


def features(id: str, words: str, content) -> Case:
    argv = "analyze --scores scores.csv --out out --permutations=10 --features f.csv"
    return Case(f"features-{id}", argv, words, {"f.csv": content}, ready=("scores.csv",))


def probe(id: str, words: str, content) -> Case:
    argv = "analyze --scores scores.csv --out out --permutations=10 --probe p.csv"
    return Case(f"probe-{id}", argv, words, {"p.csv": content}, ready=("scores.csv",))


EACH = "language,size\n" + "".join(f"{code},{i}\n" for i, code in enumerate(CODES))
OTHERS = [
    features("empty", r"f\.csv", ""),
    features("binary", r"f\.csv", bytes(range(256)) * 8),
    features("folder", r"f\.csv", FOLDER),
    features("no-language", r"f\.csv|language|source", "size,x\n1,2\n"),
    features("nothing-but-languages", r"f\.csv|feature|column", "language\nen\nsw\n"),
    features("taken", "syntax", "source,target,syntax\nen,sw,1\nsw,en,2\n"),
    features("twice", "size", EACH.replace("size", "size,size")),
    features("contradiction", "en", EACH + "en,99\n"),
    features("pair-contradiction", "en", "source,target,d\nen,sw,1\nen,sw,2\n"),
    features("infinite", "size", EACH + "de,inf\n"),
    features("half-a-number", "line|size", EACH.replace("en,2", "en,2x")),
    features("long-line", "line 7|values", EACH + "de,1,2,3\n"),
    features("nul", "NUL", EACH.replace("sw", "s\0")),
    features("no-name", r"f\.csv|name", EACH.replace("size", "")),
    probe("empty", r"p\.csv", ""),
    probe("no-columns", "lm_loss|task", "language,size\nen,3\n"),
    probe("no-numbers", r"line 2|lm_loss", "task,language,lm_loss,lm_em\ntask,en,low,0\n"),
    probe("infinite", r"line 2|lm_loss", "task,language,lm_loss,lm_em\ntask,en,inf,0\n"),
    probe("language-unknown", "Klingonish", "task,language,lm_loss,lm_em\nt,Klingonish,1,0\n"),
    probe("language-empty", r"language|line 2", "task,language,lm_loss,lm_em\nt,,1,0\n"),
    probe("folder", r"p\.csv", FOLDER),
    probe("binary", r"p\.csv", bytes(range(256)) * 8),
    *(Case(f"retrieval-{id}", "xtreme-r found", words, {"found/retrieval.csv": content})
      for id, words, content in (
          ("empty", r"retrieval\.csv", ""),
          ("no-columns", r"retrieval\.csv", "a,b\n1,2\n"),
          ("no-number", "line 2", "task,language,metric,score\ntatoeba,ar,accuracy,high\n"),
          ("no-score", "score|line 2", "task,language,metric,score\ntatoeba,ar,accuracy,\n"),
          ("task-unknown", "XTREME-R", "task,language,metric,score\nnope,ar,accuracy,3\n"),
          ("language-unknown", "xx", "task,language,metric,score\ntatoeba,xx,accuracy,3\n"),
          ("metric-unknown", "blue|metric", "task,language,metric,score\ntatoeba,ar,blue,3\n"),
          ("twice", "ar", "task,language,metric,score\n" + "tatoeba,ar,accuracy,3\n"
           "tatoeba,ar,accuracy,4\n"),
          ("above-100", "300", "task,language,metric,score\ntatoeba,ar,accuracy,300\n"),
          ("folder", r"retrieval\.csv", FOLDER),
          ("binary", r"retrieval\.csv", bytes(range(256)) * 8))),
    Case("study-scores-broken", "analyze --scores study --out out --permutations=10",
         r"scores\.csv", {"study/scores.csv": "source,target\nen,sw\n"}),
    Case("study-scores-a-folder", "analyze --scores study --out out --permutations=10",
         r"scores\.csv", {"study/scores.csv": FOLDER}),
    Case("study-of-nothing", "analyze --scores study --out out --permutations=10",
         "study", {"study": FOLDER}),
    Case("out-over-scores", "analyze --scores out/scores.csv --out out --permutations=10",
         r"scores\.csv", {"out/scores.csv": table()}),
    Case("out-over-its-link", "analyze --scores out/scores.csv --out other --permutations=10",
         r"scores\.csv", {"out/scores.csv": table(), "other": Link("out")}),
    Case("out-over-features",
         "analyze --scores scores.csv --features out/features.csv --out out --permutations=10",
         r"features\.csv", {"out/features.csv": EACH}, ready=("scores.csv",)),
]  # fmt: skip


@pytest.mark.parametrize("case", [*SCORES, *OTHERS], ids=str)
def test_a_wrong_table_is_refused(refused, case):
    refused(case)
