"""The page that says what an analysis found: `xfer-jax report DIR` writes DIR/report.html.

Knows nothing but the tables that `analyze` left. The page needs no other file and no network; every
figure also stands in DIR/figures, as SVG and as the numbers it was drawn from. All that comes from
data or from a model is escaped.
"""

import dataclasses
import html
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqio_tasks.errors import RequestError
from xfer_jax import gains, outcomes, plots, tables

FILE = "report.html"
_LEVEL = 0.05  # adjusted to the false discovery rate: below it a feature is called significant
_FEATURES_SHOWN = 15  # of WALS, by task
_TREE_LANGUAGES = 80  # more make no readable tree
_AS_TEXT = (
    "task", "source", "target", "language", "feature", "name", "same", "collinear", "intermediate",
    "subset", "baseline",
)  # fmt: skip
_ENDLESS = 1e9  # examples: nobody has as many
_NEEDED_SHOWN = 12  # languages, before the reader asks for all
_IN_WORDS = ("alike", "verdict", "of intermediate and")  # columns of tables that hold text

_WORDS = {  # of the tables' columns
    "in_language_source": "in-language score of source",
    "in_language_target": "in-language score of target",
    "mc4_source": "mC4 size of source (log)",
    "mc4_target": "mC4 size of target (log)",
    "n_train_source": "training size of source (log)",
    "lm_loss_source": "LM_L of source",
    "lm_loss_target": "LM_L of target",
    "lm_em_source": "LM_EM of source",
    "lm_em_target": "LM_EM of target",
    "bits_per_byte_source": "bits/byte of source",
    "bits_per_byte_target": "bits/byte of target",
    "words": "shared words",
    "pieces": "shared pieces of the vocabulary",
    "trigrams": "shared trigrams of letters",
    "inventory": "sound inventory",
    "genetic": "family",
    "geography": "nearness",
}


@dataclasses.dataclass
class _Page:
    """What is collected while the page is written."""

    folder: Path
    tables: dict[str, pd.DataFrame]
    about: dict[str, Any]
    figures: int = 0

    def of(self, name: str, task: str) -> pd.DataFrame:
        frame = self.tables.get(name, pd.DataFrame())
        return frame if frame.empty else frame[frame["task"].astype(str) == task]

    def figure(self, name: str, drawn: Figure, caption: str, numbers: pd.DataFrame) -> str:
        """Keeps a figure and its numbers as files, and returns it for the page."""
        self.figures += 1
        name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        name = f"{self.figures:02d}-{name[:80]}"
        path = self.folder / "figures" / f"{name}.svg"
        width = drawn.get_size_inches()[0] * 72
        plots.save(drawn, path)
        tables.write(path.with_suffix(".csv"), numbers)
        links = " · ".join(
            f'<a href="figures/{name}.{kind}">{kind.upper()}</a>' for kind in ("svg", "csv")
        )
        return (
            f'<figure><div class="wide" style="--own: {width:.0f}px">'
            f"{_inline(path.read_text('utf-8'))}</div>"
            f"<figcaption>{caption} {links}</figcaption></figure>"
        )


def report(folder: Path) -> Path:
    """Writes the page of an analysis.

    Args:
      folder: that `analyze` wrote.

    Returns:
      The page's path.

    Raises:
      RequestError: there is no analysis.
    """
    about = folder / tables.ABOUT
    if not about.is_file():
        raise RequestError(
            f"{folder} holds no analysis: run `xfer-jax analyze --scores … --out {folder}` first"
        )
    try:
        words = dict.fromkeys(_AS_TEXT, str)
        read = {path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=words)
                for path in sorted(folder.glob("*.csv"))}  # fmt: skip
        page = _Page(folder, read, json.loads(about.read_text("utf-8")))
        if "languages" not in read:
            raise ValueError("languages.csv is not there")
    except ValueError as error:
        raise RequestError(f"{folder} is damaged ({error}); run `xfer-jax analyze` again") from None
    for old in (folder / "figures").glob("[0-9][0-9]-*"):
        old.unlink()
    text = _document(page)
    temporary = folder / f".{FILE}.new"
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(folder / FILE)


# --- The page -------------------------------------------------------------------------------------


def _document(page: _Page) -> str:
    tasks = [str(task) for task in page.tables["languages"]["task"].unique()]
    parts = [_head(page, tasks)]
    for task in tasks:
        parts.append(f'<h2 id="{_id(task)}">{_text(task)}</h2>')
        for section in _SECTIONS:
            parts += section(page, task)
    parts += _methods(page)
    css = Path(__file__).with_name("report.css").read_text("utf-8")
    title = _text(", ".join(tasks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Transfer between languages: {title}</title>\n"
        '<link rel="icon" href="data:,">\n'
        f"<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(page: _Page, tasks: Sequence[str]) -> str:
    where = "".join(f", {k} = {v}" for k, v in page.about["where"].items())
    sources = ", ".join(Path(path).name or path for path in page.about["scores"])
    lines = [
        "<h1>How knowledge passes from language to language</h1>",
        f'<p class="lead">{_text(sources + where)}</p>',
    ]
    if page.about["made_up"]:
        lines.append(
            '<p class="note">These languages are made up. They order words and add affixes as WALS'
            " says their namesakes do, their words are invented, and what makes knowledge pass from"
            " one to another was planted. They test the tool and say nothing of real languages.</p>"
        )
    if len(tasks) > 1:
        links = "".join(f'<a href="#{_id(task)}">{_text(task)}</a>' for task in tasks)
        lines.append(f'<nav>{links}<a href="#methods">methods</a></nav>')
    findings = [finding for task in tasks for finding in _findings(page, task)]
    lines.append(f'<ul class="findings">{"".join(f"<li>{f}</li>" for f in findings)}</ul>')
    if len(tasks) > 1:
        lines += _all_tasks(page, tasks)
        lines += _all_gains(page, tasks)
    return "\n".join(lines)


def _all_tasks(page: _Page, tasks: Sequence[str]) -> list[str]:
    """Renders the correlations as the paper's Table 1: a row a feature, a column a task."""
    rows = page.tables.get("correlations", pd.DataFrame())
    if rows.empty:
        return []
    cells = {(str(row.task), row.feature): row for row in rows.itertuples()}
    body = []
    for feature in dict.fromkeys(rows["feature"]):
        line = [_feature(feature)]
        for task in tasks:
            row = cells.get((task, feature))
            shown = ""
            if row is not None:
                star = "*" * (row.fdr <= _LEVEL) + "†" * (row.within_fdr <= _LEVEL)
                low, high = _signed(row.low), _signed(row.high)
                shown = f'{_signed(row.pearson)}{star} <span class="weak">[{low}, {high}]</span>'
            line.append(shown)
        body.append((False, line))
    return [
        "<h3>Correlation of each feature with the zero-shot score</h3>",
        _table(("feature", *(_text(task) for task in tasks)), body),
        "<p>Pearson, with 95% intervals from resampling languages. * significant at a false"
        " discovery rate of 5%, by permuting languages; † the same with each language's own level"
        " taken away.</p>",
    ]


def _all_gains(page: _Page, tasks: Sequence[str]) -> list[str]:
    """Renders the mean gains, a row an intermediate task and a column a task that follows."""
    means = page.tables.get("gain_means", pd.DataFrame())
    if means.empty:
        return []
    means = means[means["subset"] == "all"]
    cells = {(r.intermediate, r.task): f"{_points(r.gain)} {_interval(r)}"
             for r in means.itertuples()}  # fmt: skip
    body = [
        (False, [_text(name), *(cells.get((name, task), "") for task in tasks)])
        for name in means["intermediate"].unique()
    ]
    return [
        "<h3>Points that an intermediate task adds</h3>",
        _table(("intermediate", *(_text(task) for task in tasks)), body),
        f"<p>Mean over {gains.SUBSETS['all']}, with 95% intervals from resampling languages.</p>",
    ]


def _findings(page: _Page, task: str) -> Iterator[str]:
    """Yields what was found in words, numbers and all."""
    name = f"<b>{_text(task)}</b>: "
    rows = page.of("correlations", task)
    pairs = rows[rows["of"] == "pair"] if not rows.empty else rows
    if not pairs.empty:
        pairs = pairs.sort_values("pearson", key=abs, ascending=False)
        first = pairs.iloc[0]
        sure = pairs[(pairs["fdr"] <= _LEVEL) | (pairs["within_fdr"] <= _LEVEL)]
        named = ", ".join(_feature(x) for x in sure["feature"])
        within = ""
        if not np.isnan(first["within"]):
            within = (
                f"; each language's own level taken away, {_signed(first['within'])},"
                f" {_p_is(first['within_p'])}"
            )
        yield (
            f"{name}of what is known of pairs, <b>{_feature(first['feature'])}</b> goes with the"
            f" score most: r = {_signed(first['pearson'])} [{_signed(first['low'])},"
            f" {_signed(first['high'])}], {_p_is(first['qap_p'])}{within}."
            + (
                f" Significant at a false discovery rate of {_LEVEL:.0%}: {named}."
                if len(sure)
                else " Nothing is significant once the false discovery rate is held at"
                f" {_LEVEL:.0%}."
            )
        )
    model = page.of("models", task)
    if not model.empty:
        m = model.iloc[0]
        yield (
            f"{name}together, features of pairs explain {m['r2']:.0%} of the variance, and of pairs"
            f" with a language that was left out {m['unseen_r2']:.0%}"
            + (
                ": less than the mean would, so do not predict new languages by them."
                if m["unseen_r2"] < 0
                else "."
            )
        )
    gained = gains.answer(task, page.tables)
    if gained:
        yield f"{name}{_text(gained)}"
    languages = page.of("languages", task)
    best = languages[languages["as_source"].notna()].sort_values("as_source", ascending=False)
    if len(best) > 1:
        top = ", ".join(f"{_text(r.name_)} {r.as_source:.1f}" for r in _named(best.head(3)))
        place = {code: i + 1 for i, code in enumerate(best["language"])}.get("en")
        english = f"; English is number {place} of {len(best)}" if place and place > 3 else ""
        yield f"{name}the best sources are {top}{english}."
    wrong = _abroad(page, task)
    if not wrong.empty:
        rest = wrong[wrong.index != outcomes.CORRECT].sort_values(ascending=False)
        if len(rest) and rest.iloc[0] > 0:
            yield (
                f"{name}in other languages the commonest error is"
                f" <b>{_text(rest.index[0])}</b>, {rest.iloc[0]:.0%}."
            )
    laws = page.of("laws", task)
    if not laws.empty:
        nearest = laws.sort_values("beyond").iloc[0]
        errors = ", ".join(f"{_text(r.law)} {r.beyond:.1f}" for r in laws.itertuples())
        yield (
            f"{name}scores at the largest number of examples are foreseen best by the"
            f" <b>{_text(nearest['law'])}</b> law (points off, over {nearest['curves']} curves:"
            f" {errors})."
        )


# --- Sections, one a figure or table --------------------------------------------------------------


def _heat_map(page: _Page, task: str) -> list[str]:
    cells = page.of("alignment", task)[["source", "target", "score"]]
    languages = page.of("languages", task).set_index("language")
    codes = _by_family(languages)
    means = cells.groupby(["source", "target"])["score"].mean()
    if means.empty:
        return []
    labels = {code: f"{languages.loc[code, 'name']}  {code}" for code in codes}
    groups = {code: str(languages.loc[code, "family"]) for code in codes}
    drawn = plots.matrix(means.to_dict(), labels, "", "", groups)
    families = [f for f in dict.fromkeys(groups.values()) if f and f != "nan"]
    caption = (
        "Scores in percent: fine-tuned in one language (down), asked in another (across), without a"
        " training example in it. Languages stand by family"
        + (f" ({_text(', '.join(families))})" if len(families) < 12 else "")
        + "; lines divide families."
    )
    return [
        "<h3>Who learns from whom</h3>",
        page.figure(f"{task} scores", drawn, caption, means.reset_index()),
    ]


def _correlation_table(page: _Page, task: str) -> list[str]:
    rows = page.of("correlations", task)
    if rows.empty:
        return []
    rows = rows.sort_values("pearson", key=abs, ascending=False)
    drawn = plots.intervals(
        [_plain(name) for name in rows["feature"]],
        {
            "Pearson, 95% interval": (rows["pearson"], rows["low"], rows["high"]),
            "levels of languages taken away": (rows["within"],) * 3,
        },
        "correlation with the zero-shot score",
    )
    head = (
        "feature", "pairs", "languages", "Pearson", "95% interval", "Spearman", "p (QAP)", "FDR",
        "within", "p (QAP)", "FDR", "known", "naive p",
    )  # fmt: skip
    body = []
    for row in rows.itertuples():
        sure = row.fdr <= _LEVEL or row.within_fdr <= _LEVEL
        body.append(
            (
                sure,
                [
                    _feature(row.feature), f"{row.pairs:,}", row.languages, _signed(row.pearson),
                    f"[{_signed(row.low)}, {_signed(row.high)}]", _signed(row.spearman),
                    _p(row.qap_p), _p(row.fdr), _signed(row.within), _p(row.within_p),
                    _p(row.within_fdr), "" if np.isnan(row.coverage) else f"{row.coverage:.0%}",
                    f'<span class="weak">{row.naive_p:.0e}</span>',
                ],
            )
        )  # fmt: skip
    caption = (
        "Each feature by itself. Intervals are from resampling languages. <i>within</i>: given"
        " source and target, so that a language which is good or bad with all others does not"
        " count; what is known of one language alone has none."
    )
    return [
        "<h3>What goes with transfer</h3>",
        page.figure(f"{task} correlations", drawn, caption, rows),
        _table(head, body),
        "<p>Bold: significant at a false discovery rate of 5%, over features of pairs or over those"
        " of single languages. <i>known</i>: share of the compared table of WALS or URIEL that is"
        " known of both languages. The naive p-value takes pairs for independent and is wrong: it"
        " stands here because papers print it.</p>",
    ]


def _scatters(page: _Page, task: str) -> list[str]:
    rows = page.of("correlations", task)
    known = page.tables.get("features", pd.DataFrame())
    if rows.empty or known.empty:
        return []
    cells = page.of("alignment", task).groupby(["source", "target"])["score"].mean().reset_index()
    joined = known.merge(cells, on=["source", "target"])
    chosen = rows[(rows["of"] == "pair") & rows["feature"].isin(joined.columns)]
    chosen = chosen.sort_values("pearson", key=abs, ascending=False).head(2)
    parts = []
    for row in chosen.itertuples():
        numbers = joined[["source", "target", row.feature, "score"]].dropna()
        drawn = plots.scatter(
            numbers[row.feature].to_numpy(),
            numbers["score"].to_numpy(),
            [f"{s}→{t}" for s, t in zip(numbers["source"], numbers["target"], strict=True)],
            _plain(row.feature),
            "zero-shot score, percent",
        )
        caption = (
            f"Every pair of two languages, source→target; r = {_signed(row.pearson)}. Names stand"
            " where there is room."
        )
        parts.append(page.figure(f"{task} {row.feature}", drawn, caption, numbers))
    return _side_by_side(parts)


def _regression(page: _Page, task: str) -> list[str]:
    rows, model = page.of("regression", task), page.of("models", task)
    if rows.empty or model.empty:
        return []
    m = model.iloc[0]
    rows = rows.sort_values("mixed", key=abs, ascending=False)
    drawn = plots.intervals(
        [_plain(name) for name in rows["feature"]],
        {"": (rows["mixed"], rows["mixed_low"], rows["mixed_high"])},
        "points of the score for one standard deviation of the feature",
    )
    body = [
        (
            row.qap_p <= _LEVEL,
            [_feature(row.feature), _signed(row.beta), _signed(row.partial), _p(row.qap_p),
             f"{row.vif:.1f}", f"{row.mixed:+.1f} [{row.mixed_low:+.1f}, {row.mixed_high:+.1f}]"],
        )
        for row in rows.itertuples()
    ]  # fmt: skip
    left_out = str(m["collinear"]) if isinstance(m["collinear"], str) and m["collinear"] else ""
    said = ", ".join(_feature(name) for name in left_out.split("\t"))
    caption = (
        "Mixed model with a random effect of each source and of each target language; 95% intervals"
        f" by Wald. Standard deviations: sources {m['source_sd']:.1f} points, targets"
        f" {m['target_sd']:.1f}, the rest {m['rest_sd']:.1f}."
    )
    return [
        "<h3>Features together</h3>",
        page.figure(f"{task} regression", drawn, caption, rows),
        _table(("feature", "beta", "partial r", "p (MRQAP)", "VIF", "mixed model, points"), body),
        f"<p>{m['pairs']:,} pairs of {m['languages']} languages of whose pairs all features are"
        f" known. R² is {m['r2']:.2f}; of pairs with a language that was left out"
        f" {m['unseen_r2']:.2f}."
        + (f" Left out because the others tell it: {said}." if said else "")
        + " A variance inflation factor (VIF) above 5 says that features can hardly be told apart:"
        " their p-values mean little one by one.</p>",
    ]


def _wals(page: _Page, task: str) -> list[str]:
    rows = page.of("wals", task).head(_FEATURES_SHOWN)
    if rows.empty:
        return []
    drawn = plots.bars(
        [str(name) for name in rows["feature"]],
        rows["points"],
        "points of the score that agreeing is worth",
    )
    body = [
        (
            row.fdr <= _LEVEL,
            [_text(row.feature), row.agree, row.differ, f"{row.score_agree:.1f}",
             f"{row.score_differ:.1f}", f"{row.points:+.1f}", _p(row.qap_p), _p(row.fdr),
             _text(row.same.replace(" ", ", ") if isinstance(row.same, str) else "")],
        )
        for row in rows.itertuples()
    ]  # fmt: skip
    head = (
        "feature of WALS", "agree", "differ", "score", "score", "points", "p (QAP)", "FDR",
        "alike",
    )  # fmt: skip
    return [
        "<h3>Feature by feature of WALS</h3>",
        page.figure(
            f"{task} wals",
            drawn,
            f"The {len(rows)} surest features, each by itself: pairs of languages that agree in it"
            " against pairs that differ, each language's own level taken away.",
            rows,
        ),
        _table(head, body),
    ]


def _languages(page: _Page, task: str) -> list[str]:
    rows = page.of("languages", task)
    parts = []
    if "donor" in rows and rows[["donor", "recipient"]].notna().all(axis=1).sum() > 2:
        both = rows[rows["donor"].notna() & rows["recipient"].notna()]
        drawn = plots.named_points(
            both["recipient"].to_numpy(), both["donor"].to_numpy(), list(both["name"].astype(str)),
            "recipient: points taken as target beyond the mean",
            "donor: points given as source beyond the mean",
        )  # fmt: skip
        shares = page.of("shares", task)
        said = ""
        if not shares.empty:
            s = shares.iloc[0]
            said = (
                f" Source alone explains {s['of_source']:.0%} of the variance, target alone"
                f" {s['of_target']:.0%}; {s['of_pair']:.0%} is of the two together, and noise. What"
                f" is left of a pair correlates with the pair turned round at"
                f" {_signed(s['reciprocity'])}."
            )
        parts.append(
            page.figure(
                f"{task} donors",
                drawn,
                "What languages give and take, whichever they are paired with: effects of source"
                f" and target by least squares.{said}",
                both,
            )
        )
    parts += _tree(page, task, rows)
    return ["<h3>Languages</h3>", *_side_by_side(parts)] if parts else []


def _tree(page: _Page, task: str, rows: pd.DataFrame) -> list[str]:
    known = page.tables.get("features", pd.DataFrame())
    if "syntax" not in known:
        return []
    rows = rows.set_index("language")
    grid = known.set_index(["source", "target"])["syntax"].unstack()
    codes = [code for code in rows.index if code in grid.index]
    grid = grid.reindex(index=codes, columns=codes)
    values = grid.to_numpy(float, copy=True)
    np.fill_diagonal(values, 1.0)
    while len(codes) and not np.isfinite(values).all():  # those of which least is known go first
        worst = int(np.argmin(np.isfinite(values).sum(axis=1)))
        codes.pop(worst)
        values = np.delete(np.delete(values, worst, 0), worst, 1)
    if not 4 <= len(codes) <= _TREE_LANGUAGES:
        return []
    shown = rows.loc[codes]
    drawn = plots.tree(
        values,
        [str(name) for name in shown["name"]],
        {"as source": shown["as_source"], "as target": shown["as_target"]},
        "mean score, percent",
    )
    numbers = pd.DataFrame(values, codes, codes).rename_axis("language").reset_index()
    return [
        page.figure(
            f"{task} languages",
            drawn,
            "Languages by likeness of syntax (average linkage), and how they do with the others.",
            numbers,
        )
    ]


def _probe(page: _Page, task: str) -> list[str]:
    rows = page.of("languages", task)
    if "lm_loss" not in rows or rows["lm_loss"].notna().sum() < 2:
        return []
    rows = rows[rows["lm_loss"].notna()].sort_values("lm_loss")
    names = list(rows["name"].astype(str))
    parts = []
    for column, label, caption in (
        (
            "lm_loss",
            "LM_L: nats a target token",
            "Loss of span corruption on the task's own training text: lower is better. Tokens"
            " differ between languages; the table of probes also has bits a byte.",
        ),
        (
            "lm_em",
            "LM_EM: share of the masked spans reproduced exactly, percent",
            "Masked spans that greedy decoding reproduces token for token: higher is better.",
        ),
    ):
        scale = 100 if column == "lm_em" else 1
        parts.append(
            page.figure(
                f"{task} {column}",
                plots.bars(names, scale * rows[column], label),
                caption,
                rows[["language", "name", column]],
            )
        )
    return ["<h3>What the model knew of each language</h3>", *_side_by_side(parts)]


def _abroad(page: _Page, task: str) -> pd.Series:
    """Returns the shares of outcomes over pairs of two languages."""
    rows = page.of("outcomes", task)
    if rows.empty:
        return pd.Series(dtype=float)
    rows = rows[rows["source"] != rows["target"]]
    sums = rows.groupby("outcome", sort=False)[["count", "of"]].sum()
    return sums["count"] / sums["of"].replace(0, np.nan)


def _outcomes(page: _Page, task: str) -> list[str]:
    rows = page.of("outcomes", task)
    abroad = rows[rows["source"] != rows["target"]] if not rows.empty else rows
    if abroad.empty:
        return []
    sums = abroad.groupby(["target", "outcome"], sort=False)[["count", "of"]].sum()
    shares = (sums["count"] / sums["of"].replace(0, np.nan)).unstack()
    order = [kind for kind in dict.fromkeys(abroad["outcome"]) if shares[kind].sum() > 0]
    beyond = [kind for kind in order if kind in (*outcomes.ANSWERED, outcomes.OTHER_LANGUAGE)]
    entities = set(order) & set(outcomes.ENTITIES[1:])
    extra = beyond if entities else [k for k in beyond if k == outcomes.OTHER_LANGUAGE]
    whole = [kind for kind in order if kind not in extra]
    shares = shares.sort_values(outcomes.CORRECT, ascending=False)
    names = page.of("languages", task).set_index("language")["name"].astype(str).to_dict()
    labels = [names.get(code, code) for code in shares.index]
    what = "entities that there were to find" if entities else "answers"
    parts = [
        "<h3>What became of the answers</h3>",
        page.figure(
            f"{task} outcomes",
            plots.stacked(labels, {kind: shares[kind] for kind in whole}, f"percent of {what}"),
            f"By target language, over all other source languages: what became of the {what}.",
            shares[whole].reset_index(),
        ),
    ]
    if extra:
        sizes = {kind: f"{100 * shares[kind].mean():.1f}%" for kind in extra}
        said = ", ".join(f"{_text(kind)} {size}" for kind, size in sizes.items())
        parts.append(
            f"<p>Beyond that, on average: {said}"
            + (" (for a hundred entities that there were)" if entities else "")
            + ". Entities are <i>spurious</i> when their words are in the sentence and no entity,"
            " <i>hallucinated</i> when they are not in it; <i>other language</i> counts outputs"
            " whose own words are of the source language or in another script.</p>"
        )
    return parts


def _growth(page: _Page, task: str) -> list[str]:
    points, laws = page.of("curves", task), page.of("laws", task)
    if points.empty or laws.empty:
        return []
    names = page.of("languages", task).set_index("language")["name"].astype(str).to_dict()
    series = {
        names.get(str(target), str(target)): (curve["n"].to_numpy(), curve["score"].to_numpy())
        for target, curve in points.groupby("target")
    }
    axis = {"n_shots": "examples in the target language", "n_train": "training examples"}
    drawn = plots.curves(series, axis[laws.iloc[0]["axis"]], "score, percent")
    body = [
        (False, [_text(r.law), r.curves, f"{r.r2:.2f}", _number(r.inside), _number(r.beyond),
                 f"{r.best:.0%}"])
        for r in laws.itertuples()
    ]  # fmt: skip
    head = ("law", "curves", "median R²", "points off, between", "points off, beyond", "nearest")
    parts = [
        "<h3>How many examples</h3>",
        page.figure(
            f"{task} growth", drawn, "Mean over source languages; the axis is logarithmic.", points
        ),
        _table(head, body),
        "<p><i>between</i>: at a number of examples left out between others; <i>beyond</i>: at the"
        " largest, foreseen from the smaller ones; <i>nearest</i>: share of the curves of which the"
        " law comes nearest there. R² is of what was fitted, and proves nothing.</p>",
    ]
    needs = page.of("needed", task)
    if not needs.empty:
        body = [
            (False, [_text(names.get(str(r.target), str(r.target))), f"{r.reach:.1f}",
                     f"{r.each_doubling:+.1f}", _count(r.examples),
                     f"{_count(r.low)} to {_count(r.high)}"])
            for r in needs.sort_values("examples").itertuples()
        ]  # fmt: skip
        needed = ("target", "score to reach", "points a doubling", "examples", "95% interval")
        parts.append(_table(needed, body[:_NEEDED_SHOWN]))
        if len(body) > _NEEDED_SHOWN:
            rest = _table(needed, body[_NEEDED_SHOWN:])
            parts.append(f"<details><summary>{len(body)} languages</summary>{rest}</details>")
        parts.append(
            "<p>By a + b ln n, fitted to the mean over sources. Intervals are of an extrapolation"
            " from few points, and as wide as that is.</p>"
        )
    return parts


def _sensitivity(page: _Page, task: str) -> list[str]:
    rows = page.of("sensitivity", task)
    if rows.empty:
        return []
    body = []
    for name, of_feature in rows.groupby("feature", sort=False):
        signs = (of_feature["pearson"] > 0).mean()
        sure = (of_feature["qap_p"] <= _LEVEL).mean()
        held = max(signs, 1 - signs) == 1 and sure in (0, 1)
        said = "holds under every choice" if held else "depends on the choice"
        low, high = of_feature["pearson"].min(), of_feature["pearson"].max()
        pairs = f"{of_feature['pairs'].min():,} to {of_feature['pairs'].max():,}"
        body.append(
            (False, [_feature(name), len(of_feature), f"{_signed(low)} to {_signed(high)}",
                     f"{signs:.0%}", f"{sure:.0%}", pairs, said])
        )  # fmt: skip
    head = ("feature", "choices", "Pearson", "positive", "p ≤ 0.05", "pairs", "verdict")
    return [
        "<h3>Does it depend on the method?</h3>",
        _table(head, body),
        "<p>Choices that the literature leaves open: cosine or share of equal values; WALS's gaps"
        " left or filled by URIEL's nearest neighbours; scores as they are, relative to the"
        " target's own model, or with each language's level taken away. All are in"
        " <code>sensitivity.csv</code>. p is not adjusted here.</p>",
    ]


def _gains(page: _Page, task: str) -> list[str]:
    """Renders what intermediate tasks add: to each language, and on average."""
    cells, means = page.of("gains", task), page.of("gain_means", task)
    if cells.empty or means.empty:
        return []
    abroad = cells[cells["source"] != cells["target"]]
    grid = abroad.groupby(["intermediate", "target"], sort=False)["gain"].mean().unstack()
    codes = _by_family(page.of("languages", task).set_index("language"))
    grid = grid.reindex(columns=[code for code in codes if code in grid.columns])
    drawn = plots.gains(grid.to_numpy(float), list(grid.index), list(grid.columns))
    more = cells["baseline"].iloc[0] == gains.MORE
    caption = (
        "Points that an intermediate task (down) adds to the zero-shot score in a language"
        " (across), over all source languages but itself, against the same source models "
        + ("trained in the source for as many steps more." if more else "without it.")
        + " In its own languages a task is no longer zero-shot."
    )
    subsets = [name for name in gains.SUBSETS if name in set(means["subset"])]
    body = []
    for intermediate, rows in means.groupby("intermediate", sort=False):
        shown = {
            r.subset: f"{_points(r.gain)} <span class=weak>{_interval(r)}</span>"
            for r in rows.itertuples()
        }
        body.append((False, [_text(intermediate), *(shown.get(name, "") for name in subsets)]))
    parts = [
        "<h3>What an intermediate task adds</h3>",
        page.figure(f"{task} gains", drawn, caption, grid.reset_index()),
        _table(("intermediate", *subsets), body),
        "<p>"
        + "; ".join(f"<i>{name}</i>: {_text(gains.SUBSETS[name])}" for name in subsets)
        + ". Intervals (95%) are from resampling languages, for these very models: an intermediate"
        " task is trained once, and fewer than four sources are not resampled.</p>",
    ]
    related = page.of("gain_features", task)
    if not related.empty:
        head = (
            "feature", "of intermediate and", "pairs", "within", "p", "FDR",
            "most alike against least, points", "95% interval",
        )  # fmt: skip
        body = [
            (r.fdr <= _LEVEL, [_feature(r.feature), _text(r.of), r.pairs, _signed(r.within),
                               _p(r.p), _p(r.fdr), _points(r.contrast), _interval(r)])
            for r in related.itertuples()
        ]  # fmt: skip
        parts += [
            _table(head, body),
            "<p>Does it add more where languages are alike? <i>within</i>: correlation of the gain"
            " with how alike the intermediate's language is to the target or the source, what each"
            " has for a level of its own taken away; p by permuting targets (or sources). The"
            " contrast is of the thirds of the pairs that are more, and less, alike than their two"
            " languages are on average.</p>",
        ]
    return parts


def _points(value: float) -> str:
    return "" if np.isnan(value) else f"{value:+.1f}".replace("-", "−")


def _interval(row: Any) -> str:
    return "" if np.isnan(row.low) else f"[{_points(row.low)}, {_points(row.high)}]"


_SECTIONS: tuple[Callable[[_Page, str], list[str]], ...] = (
    _heat_map,
    _gains,
    _correlation_table,
    _scatters,
    _regression,
    _wals,
    _languages,
    _probe,
    _outcomes,
    _growth,
    _sensitivity,
)


def _methods(page: _Page) -> list[str]:
    about = page.about
    options = about["options"]
    notes = "".join(f"<li>{_text(note)}</li>" for note in about["notes"])
    similarity = "cosine" if options["measure"] == "cosine" else "share of equal values"
    gaps = "filled by URIEL's nearest neighbours" if options["imputed"] else "left unknown"
    return [
        '<h2 id="methods">Methods and caveats</h2>',
        "<p>A table of source and target languages is no sample of independent pairs: a language"
        " gives a whole row and a whole column. In tables with nothing but differences between"
        " languages, the usual p-value of a correlation over 90 pairs, at a nominal 5%, is"
        " significant 21% of the time; the p-values here, 5% to 6% (2,000 simulated tables)."
        f" They come from {about['permutations']:,} permutations of languages (QAP: Hubert &amp;"
        " Schultz 1976, Krackhardt 1988; of several features by double semi-partialing, MRQAP:"
        " Dekker, Krackhardt &amp; Snijders 2007). Intervals come from resampling languages"
        " (Snijders &amp; Borgatti 1999). The false discovery rate is Benjamini &amp;"
        " Hochberg's.</p>",
        f"<p>Likeness of syntax, morphology and phonology is the {similarity} of WALS's features"
        f" that are known of both languages; gaps are {gaps}. Morphology is those of URIEL's"
        " columns that are of affixes, case, number, gender and marking. Family is the cosine of"
        " the branches that two languages are in, nearness 1 minus their distance as a share of"
        " half the globe. Shared words and pieces are |A∩B| / (|A|+|B|) of the types in what models"
        " were asked (LangRank: Lin et al. 2019).</p>",
        "<p>Correlation is not cause: syntax may stand for family, and family for place. Few"
        " languages are few: an interval from ten of them is wide because that is what is known."
        " Features that go with the score among these languages may not among others, which is what"
        " R² of languages left out tells.</p>",
        f"<ul>{notes}</ul>" if notes else "",
        "<footer>Written by <code>xfer-jax report</code> from the tables beside it; figures and"
        " their numbers are in <code>figures/</code>. seed"
        f" {about['seed']}.</footer>",
    ]


# --- Small things ---------------------------------------------------------------------------------


def _inline(svg: str) -> str:
    """Prepares SVG for the page: without its prologue and needless ids, with the page's inks."""
    svg = svg[svg.index("<svg") :]
    for colour, variable in ((plots.INK, "ink"), (plots.MUTED, "muted"), (plots.RULE, "rule")):
        svg = svg.replace(colour, f"var(--{variable})")
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    return svg.replace("<svg ", '<svg role="img" ', 1)


def _side_by_side(figures: Sequence[str]) -> list[str]:
    return [f'<div class="pair">{"".join(figures)}</div>'] if figures else []


def _text(value: Any) -> str:
    return html.escape(str(value))


def _id(task: str) -> str:
    return f"task-{zlib.crc32(task.encode()):08x}"


def _plain(feature: Any) -> str:
    return _WORDS.get(str(feature), str(feature).replace("_", " "))


def _feature(feature: Any) -> str:
    return _text(_plain(feature))


def _signed(value: float) -> str:
    return "" if value is None or np.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _p(value: float) -> str:
    if value is None or np.isnan(value):
        return ""
    return f"{value:.3f}" if value >= 0.001 else "&lt;0.001"


def _p_is(value: float) -> str:
    return f"p = {_p(value)}" if value >= 0.001 else "p &lt; 0.001"


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.1f}"


def _count(value: float) -> str:
    if np.isnan(value):
        return "?"
    if np.isinf(value) or value > _ENDLESS:
        return "never"
    digits = 2 - len(f"{max(value, 1):.0f}")  # two that count: it is an extrapolation
    return f"{round(max(value, 1), min(digits, 0)):,.0f}"


def _named(rows: pd.DataFrame) -> Iterable[Any]:
    """Iterates rows; their column `name` is `name_`, since a tuple has none of its own."""
    return rows.rename(columns={"name": "name_"}).itertuples()


def _by_family(languages: pd.DataFrame) -> list[str]:
    """Orders languages by family, genus and name; those whose family is not known come last."""
    keys = languages[["family", "genus", "name"]].fillna("").astype(str)
    keys = keys.assign(unknown=keys["family"] == "")
    return [str(c) for c in keys.sort_values(["unknown", "family", "genus", "name"]).index]


def _table(head: Sequence[str], body: Sequence[tuple[bool, Sequence[Any]]]) -> str:
    """Renders rows of cells that are escaped already; a row is bold or not."""
    cells = "".join(f"<th{' class=text' * (name in _IN_WORDS)}>{name}</th>" for name in head)
    lines = []
    for sure, row in body:
        line = "".join(
            f"<td{' class=text' * (name in _IN_WORDS)}>{cell}</td>"
            for name, cell in zip(head, row, strict=True)
        )
        lines.append(f"<tr{' class=sure' * sure}>{line}</tr>")
    rows = "".join(lines)
    return f'<div class="wide"><table><tr>{cells}</tr>{rows}</table></div>'
