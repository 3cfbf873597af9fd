"""The report: whole, escaped, readable by a browser without a network."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.xfer_jax.test_outputs import RIGHT, WRONG, write_run
from xfer_jax import cli, features

CODES = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")
EVIL = '<script>alert("$x$ & y")</script>'
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


def write_scores(path: Path, task: str) -> Path:
    """Zero- and few-shot scores of which syntax explains most, a seed a row."""
    syntax = features.typology(CODES, features.Options())["syntax"].values
    rng = np.random.default_rng(0)
    rows = []
    for i, source in enumerate(CODES):
        for j, target in enumerate(CODES):
            zero = 90 if i == j else 60 * syntax[i, j] + 3 * rng.normal()
            rows.append((task, source, target, 0, zero))
            for n in (10, 100, 1000):
                if i != j:
                    grown = zero + 4 * np.log10(n) + rng.normal()
                    rows.append((task, source, target, n, min(grown, 99.0)))
    columns = ["task", "source", "target", "n_shots", "score"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def write_probe(path: Path, task: str) -> Path:
    rows = [(task, code, 2.0 + i / 10, 1.5, 0.1 + i / 100) for i, code in enumerate(CODES)]
    columns = ["task", "language", "lm_loss", "bits_per_byte", "lm_em"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def run(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def analysed(tmp_path_factory) -> Path:
    """Every section is in it, and every string that a user may choose is hostile."""
    folder = tmp_path_factory.mktemp("report")
    scores = write_scores(folder / "<b>scores&.csv", EVIL)
    own = folder / "own.csv"
    pairs = [(s, t, abs(i - j)) for i, s in enumerate(CODES) for j, t in enumerate(CODES) if i != j]
    pd.DataFrame(pairs, columns=["source", "target", EVIL]).to_csv(own, index=False)
    out = folder / "out"
    run(
        "analyze", "--scores", scores, "--out", out, "--features", own, "--permutations", 99,
        "--probe", write_probe(folder / "probe.csv", EVIL),
    )  # fmt: skip
    run("report", out)
    return out


class _Reader(html.parser.HTMLParser):
    """Collects tags, links and text; sees to it that what is opened is closed."""

    void = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            value or "" for name, value in attrs if name.split(":")[-1] in ("href", "src")
        ]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h3":
            self.headings.append(data)


def test_the_page_is_whole_and_refers_to_nothing_else(analysed):
    text = (analysed / "report.html").read_text("utf-8")
    page = _Reader(text)
    assert page.tags.count("figure") == page.tags.count("svg") >= 9
    for link in page.links:
        if not link.startswith(("#", "data:")):
            assert (analysed / link).is_file(), link
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))  # also between figures
    assert page.headings == [
        "Who learns from whom",
        "What goes with transfer",
        "Features together",
        "Feature by feature of WALS",
        "Languages",
        "What the model knew of each language",
        "How many examples",
        "Does it depend on the method?",
    ]


def test_what_came_from_data_is_escaped(analysed):
    text = (analysed / "report.html").read_text("utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(" in text
    assert "<b>scores" not in text
    assert "scores&amp;.csv" in text
    assert "$x$ &amp; y" in text  # in a figure, as text: no formula


def test_every_figure_stands_in_a_file_with_its_numbers(analysed):
    figures = sorted((analysed / "figures").glob("*.svg"))
    assert len(figures) >= 9
    for path in figures:
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        assert len(pd.read_csv(path.with_suffix(".csv"))) > 1
    assert len(list((analysed / "figures").iterdir())) == 2 * len(figures)


def test_the_numbers_on_the_page_are_those_of_the_tables(analysed):
    text = (analysed / "report.html").read_text("utf-8")
    rows = pd.read_csv(analysed / "correlations.csv").set_index("feature")
    first = rows[rows["of"] == "pair"]["pearson"].abs().idxmax()
    assert first == "syntax"
    assert (
        f"<b>syntax</b> goes with the score most: r = {rows.loc['syntax', 'pearson']:+.2f}" in text
    )
    laws = pd.read_csv(analysed / "laws.csv").set_index("law")
    assert laws["beyond"].idxmin() == "log"
    assert "foreseen best by the <b>log</b> law" in text
    models = pd.read_csv(analysed / "models.csv").iloc[0]
    assert f"explain {models['r2']:.0%} of the variance" in text


def test_the_same_tables_give_the_same_bytes(analysed):
    kept = {path: path.read_bytes() for path in analysed.rglob("*") if path.is_file()}
    run("report", analysed)
    assert {path: path.read_bytes() for path in analysed.rglob("*") if path.is_file()} == kept


def test_folders_of_runs_have_their_errors_drawn(tmp_path):
    """Two languages, as one run of T5X has them: no correlations, but a page."""
    answers = {"xfer_panx.sw": [RIGHT, WRONG], "xfer_panx.en": [RIGHT]}
    write_run(tmp_path / "run", "xfer_panx.en", answers)
    out = tmp_path / "out"
    run("analyze", "--scores", tmp_path / "run", "--out", out)
    run("report", out)
    page = _Reader((out / "report.html").read_text("utf-8"))
    assert page.headings == ["Who learns from whom", "What became of the answers"]
    assert "of fewer than 4 no correlations" in (out / "report.html").read_text("utf-8")


def test_pocket_languages_are_called_made_up(tmp_path):
    for task, expected in (("xfer_pocket_ner", True), ("xfer_panx", False)):
        scores = write_scores(tmp_path / "scores.csv", task)
        run("analyze", "--scores", scores, "--out", tmp_path / task, "--permutations", 9)
        run("report", tmp_path / task)
        text = (tmp_path / task / "report.html").read_text("utf-8")
        assert ("These languages are made up" in text) == expected
        known = pd.read_csv(tmp_path / task / "features.csv").columns
        assert ("mc4_source" in known) != expected
        assert ("not verified" in text) != expected


def test_odd_tables_have_a_page_too(tmp_path):
    """One source, tasks that look like numbers or are long, languages that nobody knows."""
    rng = np.random.default_rng(0)
    unknown = ("xqa", "xqb", "xqc", "xqd", "xqe")
    for name, rows in {
        "one": [("1", "en", code, rng.random() * 50) for code in CODES],
        "tasks": [(t, s, c, rng.random() * 50) for t in ("1", "01", "x/é" * 99)
                  for s in CODES for c in CODES],
        "unknown": [("t", s, c, rng.random() * 50) for s in unknown for c in unknown],
    }.items():  # fmt: skip
        scores = tmp_path / f"{name}.csv"
        pd.DataFrame(rows, columns=["task", "source", "target", "score"]).to_csv(
            scores, index=False
        )
        out = tmp_path / name
        run("analyze", "--scores", scores, "--out", out, "--permutations", 9)
        run("report", out)
        text = (out / "report.html").read_text("utf-8")
        assert len(_Reader(text).headings) > 1
        assert ", ," not in text
        if name == "one":
            assert "level taken away," not in text  # of one source there is nothing to say
        if name == "tasks":
            assert text.count("<h2 id=") == 4  # three tasks, and the methods


def test_what_is_no_analysis_is_refused(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "holds no analysis: run `xfer-jax analyze" in capsys.readouterr().err
    (tmp_path / "analysis.json").write_text("{")
    (tmp_path / "languages.csv").write_text("a\n1\n")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_the_report_does_not_import_the_engine():
    code = (
        "import sys; from xfer_jax import report; "
        "print([m for m in sys.modules if m in ('jax', 'flax', 'tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------- a browser

# Opens the page at two widths, and says how wide it then is and what is cut off on the right.
_FRAMES = """<!doctype html><body><pre id="said"></pre><script>
const said = {};
let left = 2;
for (const width of [400, 1280]) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 2000; frame.src = "report.html";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    said[width] = {
      scroll: root.scrollWidth, client: root.clientWidth,
      figures: [...page.querySelectorAll("figure svg")].map(x => x.getBoundingClientRect().width),
      ink: getComputedStyle(page.querySelector("figure svg text")).fill,
      body: getComputedStyle(page.body).color,
    };
    if (--left === 0) document.getElementById("said").textContent = JSON.stringify(said);
  };
  document.body.append(frame);
}
</script></body>"""


def browse(page: Path, folder: Path, *options: str) -> tuple[str, str, list[str]]:
    """Returns the page's document after its scripts, the console, and what the page asked for."""
    log = folder / "net.json"
    done = subprocess.run(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update",
            "--allow-file-access-from-files", "--virtual-time-budget=5000",
            f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}",
            "--enable-logging=stderr", "--dump-dom", *options, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    text = log.read_text("utf-8").rstrip().rstrip(",")
    try:
        events = json.loads(text)["events"]
    except ValueError:  # the browser ended before its log did
        events = json.loads(text + "]}")["events"]
    asked = [event.get("params", {}) for event in events]
    # what the browser asks for by itself has no origin
    addresses = {
        params["url"]
        for params in asked
        if "url" in params and params.get("initiator", "not an origin") != "not an origin"
    }
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return done.stdout, console, sorted(addresses)


@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
def test_a_browser_finds_nothing_wrong_and_asks_for_nothing_else(analysed, tmp_path):
    evil = analysed / "wrong.html"
    evil.write_text('<img src="http://192.0.2.1/x.png"><script>console.error("seen")</script>')
    _, console, addresses = browse(evil, tmp_path)
    evil.unlink()
    assert "seen" in console  # errors and requests would be noticed
    assert addresses == ["http://192.0.2.1/x.png"]
    document, console, addresses = browse(analysed / "report.html", tmp_path)
    assert "Methods and caveats" in document
    assert console == ""
    assert addresses == []


@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_a_desk_by_day_and_by_night(analysed, tmp_path, scheme):
    frames = analysed / "frames.html"
    frames.write_text(_FRAMES)
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    document, console, _ = browse(frames, tmp_path, *dark)
    frames.unlink()
    assert console == ""
    said = json.loads(html.unescape(re.search(r'<pre id="said">(.*?)</pre>', document)[1]))
    for width in ("400", "1280"):
        found = said[width]
        assert found["scroll"] <= found["client"] <= int(width)  # nothing sticks out of the page
        assert min(found["figures"]) > 300  # and no figure is shrunk until it cannot be read
        assert found["ink"] == found["body"]  # figures are in the page's own ink
    light = sum(map(int, re.findall(r"\d+", said["400"]["body"])[:3])) > 3 * 128
    assert light == (scheme == "dark")
