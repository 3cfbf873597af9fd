"""The report: whole, escaped, readable by a browser without a network."""

import concurrent.futures
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

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from tests.support.runs import RIGHT, WRONG, write_run
from xfer_jax.analysis import analysis_folder, features
from xfer_jax.cli import main as cli
from xfer_jax.report import figures, page, reading, report

pytestmark = pytest.mark.slow

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
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
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
        if self.open and self.open[-1] != "style":
            self.text += data
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
        "Scores by source and target language",
        "Features that correlate with the score",
        "All features in one regression",
        "Single features of WALS",
        "Languages as source and as target",
        "What the model knew about each language before fine-tuning",
        "How many examples are needed",
        "Sensitivity to the method",
    ]


def test_text_from_data_is_escaped(analysed):
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
        "<b><bdi>syntax</bdi></b> correlates most strongly with the zero-shot score:"
        f" r = {rows.loc['syntax', 'pearson']:+.2f}" in text
    )
    laws = pd.read_csv(analysed / "laws.csv").set_index("law")
    assert laws["beyond"].idxmin() == "log"
    assert "the <b><bdi>log</bdi></b> law extrapolates best to the largest number" in text
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
    assert page.headings == [
        "Scores by source and target language",
        "Correct answers and types of error",
    ]
    assert "with fewer than 4" in (out / "report.html").read_text("utf-8")


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
    """One source, tasks that look like numbers, languages that no table of ours has."""
    rng = np.random.default_rng(0)
    unknown = ("xqa", "aaq", "xzp", "gnh", "xpi")
    for name, rows in {
        "one": [("1", "en", code, rng.random() * 50) for code in CODES],
        "tasks": [(t, s, c, rng.random() * 50) for t in ("1", "01")
                  for s in CODES[:5] for c in CODES[:5]],
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
            assert "; partial correlation" not in text  # of one source there is nothing to say
        if name == "tasks":
            assert text.count("<h2 id=") == 3  # two tasks, and the methods


def test_a_folder_without_an_analysis_is_refused(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "contains no analysis: run `xfer-jax analyze" in capsys.readouterr().err
    (tmp_path / "analysis.json").write_text("{")
    (tmp_path / "languages.csv").write_text("a\n1\n")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "run `xfer-jax analyze` again" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


HOSTILE = (
    "</text></svg></td></table></title></style><script>console.error('ran')</script>",
    "\" onload=\"console.error('ran')\" onmouseover=console.error('ran') x='",
    "]]><!--<img src=http://192.0.2.1/x onerror=console.error('ran')>",
    "&#60;script&#62;console.error('ran')&#60;/script&#62;",
    "javascript:console.error('ran')",
    "*{background:url(http://192.0.2.1/x)}</style><style>@import 'http://192.0.2.1/x';",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "../../../etc/passwd\0",
    "\u202eبالعربية עברית हिन्दी " + "e\u0301" * 5000,
    '#1f2933 id="x" _underscore',
    "\r\n\x1b[31m\ufffe",
    "_" + "長" * 10_000,
)


def hostile(i: int) -> str:
    """A name unlike the others, without the character that no CSV can hold."""
    return HOSTILE[i % len(HOSTILE)].replace("\0", "") + f" {i}"


def keep(folder: Path, about: dict, found: dict[str, pd.DataFrame]) -> Path:
    """Writes an analysis whose digests are right."""
    analysis_folder.write(folder, {k: v for k, v in about.items() if k != "tables"}, found)
    return folder


@pytest.fixture(scope="module")
def strange(analysed, tmp_path_factory) -> Path:
    """All that an analysis can say, with every name in it hostile and every digest right."""
    about, found = analysis_folder.read(analysed)
    found["outcomes"] = pd.DataFrame(
        [("task", s, t, o, 1 + i, 10) for s in ("en", "sw") for t in ("en", "sw", "fi")
         for i, o in enumerate(("correct", "missing", "spurious", "_odd"))],
        columns=["task", "source", "target", "outcome", "count", "of"],
    )  # fmt: skip
    found["gains"] = pd.DataFrame(
        [("task", i, s, t, "more", 1.0) for i in ("a", "b") for s in ("en", "sw") for t in ("fi",)],
        columns=["task", "intermediate", "source", "target", "baseline", "gain"],
    )
    found["gain_means"] = pd.DataFrame(
        [("task", i, s, 1.0, 0.5, 1.5) for i in ("a", "b") for s in ("all", "seen")],
        columns=["task", "intermediate", "subset", "gain", "low", "high"],
    )
    found["gain_features"] = pd.DataFrame(
        [("task", f, "target", 9, 0.5, 0.01, 0.02, 3.0, 1.0, 5.0) for f in ("syntax", "own")],
        columns=["task", "feature", "of", "pairs", "within", "p", "fdr", "contrast", "low", "high"],
    )
    found["checkpoints"] = pd.DataFrame(
        [("task", rule, 4, 70.0, 50.0, 1.5) for rule in ("last", "each_target")],
        columns=["task", "rule", "pairs", "own", "transfer", "minus_last"],
    )
    names: dict[str, str] = {}
    kept = {"pair", "target", "source", "syntax", "all", "correct", "missing", "spurious", "more"}
    for name, frame in found.items():
        columns = reading._TABLES[name].text if name in reading._TABLES else ()
        for column in columns:
            texts = [
                str(text) if str(text) in kept else names.setdefault(str(text), hostile(len(names)))
                for text in frame[column]
            ]
            frame[column] = pd.Series(hostile(0) if column == "task" else texts, frame.index)
    known = found["features"]
    found["features"] = known.rename(columns={c: names[c] for c in known if c in names})
    about["notes"] = [*HOSTILE, "\ud800"]
    about["where"] = {hostile(i): hostile(i + 1) for i in range(12)}
    about["scores"] = [*HOSTILE]
    about["options"]["measure"] = HOSTILE[0]
    out = keep(tmp_path_factory.mktemp("strange") / "out", about, found)
    run("report", out)
    return out


def test_names_of_a_stranger_stay_text(strange):
    text = (strange / "report.html").read_text("utf-8")
    found = _Reader(text)
    assert len(found.headings) == 11
    assert not {"script", "img", "iframe", "object", "a:href"} & set(found.tags)
    assert not [name for name in found.attributes if name.lower().startswith("on")]
    for link in found.links:
        local = link.startswith(("#task-", "#methods", "data:,", "data:image/png;base64,"))
        assert local or (strange / link).is_file() or re.fullmatch(r"#[A-Za-z]\w+", link), link
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\';' in text
    assert "{{ 7 * 7 }}{% raw %}${7*7}" in text  # a template in a name is none
    assert max(map(len, re.findall(r"<bdi>([^<]*)</bdi>", text))) < 500
    tags = {"svg", "metadata", "defs", "style", "g", "path", "text", "use", "clipPath", "rect"}
    for path in (strange / "figures").glob("*.svg"):
        root = ElementTree.parse(path).getroot()  # well-formed
        here = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert here <= tags | {"image", "RDF", "Work"}, here
    for path in (strange / "figures").iterdir():
        assert re.fullmatch(r"\d\d-[a-z0-9-]{0,80}\.(svg|csv)", path.name)


@pytest.mark.parametrize("name", reading._TABLES)
def test_every_column_that_the_page_uses_is_checked(strange, name):
    _, found = analysis_folder.read(strange)
    columns, path = reading._TABLES[name], strange / f"{name}.csv"
    numbers = (*columns.numbers, *columns.unbounded)
    for column in (*columns.text, *numbers):
        with pytest.raises(RequestError, match=rf"{name}\.csv has no column '{column}'"):
            reading._checked(path, name, found[name].drop(columns=column))
    for column in numbers:
        for odd in ("<b>", "1,5"):
            wrong = found[name].astype({column: object})
            wrong.loc[wrong.index[0], column] = odd
            where = rf"{name}\.csv, column '{column}': expected a number, found '{odd}'"
            with pytest.raises(RequestError, match=where) as refused:
                reading._checked(path, name, wrong)
            assert "\n" not in str(refused.value)
        wrong = found[name].assign(**{column: np.inf})
        read = reading._checked(path, name, wrong)[column]
        assert np.isinf(read).all() if column in columns.unbounded else read.isna().all()
    for column in columns.numbers:
        with pytest.raises(RequestError, match=f"column '{column}': 1e.13 is too large"):
            reading._checked(path, name, found[name].assign(**{column: 1e13}))
    if columns.key:
        with pytest.raises(RequestError, match="two rows of"):
            reading._checked(path, name, pd.concat([found[name]] * 2, ignore_index=True))


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_page_of_unknown_or_equal_numbers_is_drawn(strange, tmp_path, value):
    about, found = analysis_folder.read(strange)
    for name, columns in reading._TABLES.items():
        numbers = [*columns.numbers, *columns.unbounded, "donor", "recipient", "baseline", "lm_em"]
        if name == "features":
            numbers = list(found[name].columns[2:])
        found[name] = found[name].copy().assign(**dict.fromkeys(numbers, value))
    run("report", keep(tmp_path, about, found))
    text = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"[^a-z](nan|inf|None)[^a-z]", _Reader(text).text)


def test_two_hundred_languages_and_one(tmp_path):
    about = {
        "scores": ["s.csv"], "where": {}, "features": [], "made_up": False, "notes": [], "seed": 0,
        "options": {"measure": "cosine", "imputed": False}, "permutations": 9, "kinds": {},
    }  # fmt: skip
    for n in (200, 1):
        codes = [f"l{i:03d}" for i in range(n)]
        languages = pd.DataFrame({"task": "t", "language": codes, "name": codes, "family": "",
                                  "genus": "", "as_source": 1.0, "as_target": 2.0})  # fmt: skip
        cells = pd.MultiIndex.from_product([codes, codes]).to_frame(False, ["source", "target"])
        found = {"languages": languages, "alignment": cells.assign(task="t", score=50.0)}
        run("report", keep(tmp_path / str(n), about, found))
        size = (tmp_path / str(n) / "report.html").stat().st_size
        assert size < (200_000 if n > 1 else 40_000)


def test_the_baseline_stands_beside_the_scores(analysed, tmp_path):
    about, found = analysis_folder.read(analysed)
    languages = found["languages"]
    best = languages.sort_values("as_source", ascending=False)
    second = best["as_source"].iloc[1]
    # The same for all, so that of the sources' means only the best exceeds it.
    found["languages"] = languages.assign(baseline=second, as_source_baseline=second)
    run("report", keep(tmp_path, about, found))
    text = (tmp_path / "report.html").read_text("utf-8")
    assert f"always giving the most frequent target, scores {second:.1f}.</li>" in text
    assert text.count("(does not exceed the baseline)") == 2
    assert f"always giving the most frequent target and scores {second:.1f} percent" in text
    cells = found["alignment"].groupby(["source", "target"])["score"].mean()
    drawn = next((tmp_path / "figures").glob("01-*.svg")).read_text("utf-8")
    assert drawn.count(f"fill: {figures._NOT_BETTER}") == (cells <= second).sum() > 0
    assert "exceed the baseline" not in (analysed / "report.html").read_text("utf-8")


@pytest.mark.parametrize("linked", ["figures", "report.html"])
def test_links_are_not_followed_for_writing(strange, tmp_path, linked):
    out, aim = tmp_path / "out", tmp_path / "aim"
    shutil.copytree(strange, out)
    shutil.rmtree(out / "figures", ignore_errors=True)
    (out / "report.html").unlink(missing_ok=True)
    aim.mkdir()
    (aim / "01-old.svg").write_text("mine")
    (out / linked).symlink_to(aim if linked == "figures" else aim / "01-old.svg")
    with pytest.raises(RequestError, match=f"{linked} is a symbolic link"):
        report(out)
    assert (aim / "01-old.svg").read_text() == "mine"
    assert [path.name for path in aim.iterdir()] == ["01-old.svg"]


def test_only_files_of_a_report_are_removed(tmp_path, monkeypatch):
    mine, others = tmp_path / "figures", tmp_path / "others.csv"
    mine.mkdir()
    others.write_text("others")
    gone = ["07-old.svg", "07-old.csv", "123-older.svg", ".01-new.svg.0123.new"]
    kept = ["7-notes.svg", "07-notes.txt", "notes.csv", "07-OLD.svg"]
    for name in (*gone, *kept):
        (mine / name).write_text("")
    (mine / "08-link.csv").symlink_to(others)
    (mine / "09-folder.csv").mkdir()
    (tmp_path / ".report.html.0123.new").write_text("")
    (tmp_path / ".scores.csv.0123.new").write_text("")
    (tmp_path / ".report.html.new").symlink_to(others)  # the name that was predictable
    with page._writing(tmp_path):
        page._write(tmp_path, "page", {"01-new.svg": "svg", "01-new.csv": "csv"})
    left = {path.name for path in mine.iterdir()}
    assert left == {"01-new.svg", "01-new.csv", *kept, "08-link.csv", "09-folder.csv"}
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == {
        ".scores.csv.0123.new", ".report.html.new",
    }  # fmt: skip
    assert others.read_text() == "others"


def test_many_reports_at_once_and_one_that_ends_midway_leave_a_whole_page(tmp_path, monkeypatch):
    contents = {f"{i:02d}-x.svg": str(i) * 10_000 for i in range(8)}
    whole = "page " * 50_000

    def write(k: int) -> None:
        with page._writing(tmp_path):
            page._write(tmp_path, whole, contents)
        assert (tmp_path / "report.html").read_text() == whole

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(60)))
    assert {p.name: p.read_text() for p in (tmp_path / "figures").iterdir()} == contents
    before = (tmp_path / "report.html").read_bytes()

    class Killed(BaseException):
        pass

    for last in range(len(contents) + 1):
        written = iter([files.write] * last)

        def die(path: Path, content: str, written=written) -> Path:
            real = next(written, None)
            if real is None:
                raise Killed
            return real(path, content)

        monkeypatch.setattr(page.files, "write", die)
        with pytest.raises(Killed):
            page._write(tmp_path, "new", contents)
        monkeypatch.undo()
        assert (tmp_path / "report.html").read_bytes() == before


def test_the_report_does_not_import_the_engine():
    code = (
        "import sys; from xfer_jax import report; "
        "print([m for m in sys.modules if m in ('jax', 'flax', 'tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
def test_nothing_of_a_stranger_runs_in_a_browser(strange, tmp_path):
    document, console, addresses = browse(strange / "report.html", tmp_path)
    assert "Methods and caveats" in document
    assert console == ""  # nothing ran, and nothing was there for the policy to refuse
    assert addresses == []
    for path in sorted((strange / "figures").glob("*.svg"))[:2]:
        _, console, addresses = browse(path, tmp_path)
        assert (console, addresses) == ("", [])


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
