"""The columns of every CSV that the commands write: the one place that says what each means.

The code has no list of them, as tables are put together from records. `tests/docs/test_tables.py`
compares what stands here with tables that were written.
"""

import dataclasses
import re
from collections.abc import Mapping

from docgen.markdown import code, prose, table
from xfer_jax.analysis import gains, outcomes

_INTERVAL = {
    "low": "lower end of the 95% interval",
    "high": "upper end of the 95% interval",
}
_CELL = {
    "task": "name of the task without its language: `xfer_panx`",
    "source": "language that the model was fine-tuned in",
    "target": "language that it was evaluated on",
}
_AXIS = "number of examples that scores grow with: `n_shots` (of the target) or `n_train` (of the source)"


@dataclasses.dataclass(frozen=True)
class Table:
    """A CSV file: who writes it, what a row is, and what its columns mean."""

    writer: str  # command, and where the file is
    row: str
    columns: Mapping[str, str]
    optional: frozenset[str] = frozenset()  # columns that not every such table has
    # further columns, whose names depend on the data: by pattern, what they mean
    patterns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""

    def describes(self, column: str) -> bool:
        """Returns whether it says what a column means."""
        of_pattern = any(re.fullmatch(pattern, column) for pattern in self.patterns)
        return column in self.columns or of_pattern


_SCORES = {
    **_CELL,
    "intermediate": "task that the source model was trained on before, `more` for as many steps more"
    " on the source; empty for none, and in a run's table",
    "arm": "part of the source's training data: empty for all, `matched` for equal sizes",
    "n_shots": "examples in the target that the model was trained on after the source; 0: zero-shot",
    "n_train": "training examples in the source; empty where it is not known, and for few-shot rows",
    "seed": "`RANDOM_SEED` of the run",
    "metric": "name of the task's score, such as `span_f1`",
    "split": "of the data that was evaluated",
    "step": "of the checkpoint that was evaluated",
    "selected_by": "`SELECT_BY` of the run: how that checkpoint was chosen; empty in a run's table for"
    " the last",
    "score": "the score, in percent",
    "baseline": "score of the better of two answers that read no input: always the most frequent"
    " target, and always nothing; in percent",
    "n_examples": "examples that were evaluated",
    "model": "name of the file of `gin/models`; empty in a run's table",
    "engine": "`native` or `t5x`",
    "run": "folder of the job, in the study's folder, with the outputs that the score is computed"
    " from; empty in a run's table",
}
_MODEL = "in a study's table: folder of the model; empty for the initial checkpoint"
_FEATURE_COLUMNS = {
    "source": "language",
    "target": "another language",
    "syntax": "similarity of WALS's features of word order and clauses",
    "morphology": "similarity of WALS's features of what is marked on words",
    "phonology": "similarity of WALS's features of sounds",
    "inventory": "similarity of the sound inventories",
    "genetic": "similarity of the paths in the family tree",
    "geography": "1 - distance, in the units of URIEL",
}
_COVERAGE = {
    r"\w+_coverage": "share of the values of that feature that are known of both languages"
}
_PROBE = {
    "lm_loss": "LM_L: loss in nats per target token",
    "bits_per_byte": "loss in bits per byte of the masked text",
    "bits_per_character": "loss in bits per character of the masked text",
    "lm_em": "LM_EM: share of the masked spans that are reproduced exactly, from 0 to 1",
    "lm_em_examples": "mean of a piece's share of such spans",
}
_KINDS = ", ".join(f"`{kind}`" for kind in (*outcomes.ENTITIES, *outcomes.PREDICTED))

TABLES: Mapping[str, Table] = {
    "scores.csv": Table(
        "`study run` and `study collect`, in the study's folder; `train` and `eval`, in the run's",
        "a cell: task, source, target, intermediate task, shots, seed; for a run, a target",
        _SCORES,
        note="In the table of a run, `n_shots` are the examples of its subset, empty where it was"
        " trained on all; `source`, `n_shots`, `n_train` and `seed` are empty where the checkpoint does"
        " not say what it was trained on.",
    ),
    "checkpoints.csv": Table(
        "a study whose runs choose among checkpoints, by `SELECT_BY`",
        "a cell and a rule: what it would have chosen",
        {
            **_CELL,
            "n_shots": _SCORES["n_shots"],
            "seed": _SCORES["seed"],
            "rule": "`last`; `source`: the best on the source language; `mean`: over all targets;"
            " `each_target`: on the target itself",
            "step": "of the checkpoint",
            "score": "of it on validation, in percent",
            "run": _SCORES["run"],
        },
    ),
    "probe.csv": Table(
        "`probe`, in `PROBE_OUTPUT_DIR`; `probe --outputs DIR`; and a study with a stage that probes",
        "a task and language; in a study, of a model",
        {
            "task": "the task whose text was masked",
            "language": "of the text",
            "run": _MODEL,
            "n_examples": "pieces of text",
            "n_spans": "masked spans",
            "n_tokens": "target tokens, with sentinels and the end of the sequence",
            "n_bytes": "bytes of the masked text in UTF-8",
            **_PROBE,
            **{
                f"{name}_{end}": f"{'lower' if end == 'low' else 'upper'} end of the 95% interval of"
                f" `{name}`"
                for name in _PROBE
                for end in ("low", "high")
            },
        },
        optional=frozenset({"run"}),
    ),
    "retrieval.csv": Table(
        "`retrieve`, in `RETRIEVAL_OUTPUT_DIR`; and a study with a stage that retrieves",
        "a language of the queries",
        {
            "run": _MODEL,
            "task": "`TASK` of the run: `tatoeba`, `tatoeba_to_en`, `mewslix` or `lareqa`",
            "language": "of the queries",
            "n_queries": "queries",
            "n_candidates": "candidates",
            "metric": "`accuracy` or `map@20`",
            "score": "the score, in percent",
            "layer": "layer whose states were used; `output` for the encoder's output",
        },
        optional=frozenset({"run"}),
    ),
    "features.csv": Table(
        "`features`, in the file that `--out` names",
        "a pair of two different languages",
        _FEATURE_COLUMNS,
        patterns=_COVERAGE,
        note="Values lie between 0 and 1. An empty value is not known.",
    ),
    "analysis/scores.csv": Table(
        "`analyze`",
        "a cell of the table that was analysed",
        _SCORES | {
            "baseline": "score of answers that read no input, in percent",
        },
        optional=frozenset({
            "metric", "n_examples", "engine", "run", "baseline", "split", "step", "selected_by",
        }),
        patterns={r".*": "any other column of the table that was read"},
        note="Languages are brought to one form of code, scores to percent, and defaults are filled in.",
    ),
    "analysis/features.csv": Table(
        "`analyze`",
        "a pair of two different languages",
        _FEATURE_COLUMNS | {
            "mc4_source": "log10 of the tokens that mC4 has of the source",
            "mc4_target": "log10 of the tokens that mC4 has of the target",
            "words": "words that both languages share: |A∩B| / (|A|+|B|), from the evaluated texts",
            "trigrams": "cosine of the counts of character trigrams in their words",
            "pieces": "pieces of the vocabulary that both share: |A∩B| / (|A|+|B|)",
        },
        optional=frozenset({"mc4_source", "mc4_target", "words", "trigrams", "pieces"}),
        patterns=_COVERAGE | {r".+": "a feature of your own, by `--features`"},
        note="Miniature languages have no `mc4`. `words`, `trigrams` and `pieces` need the decoded"
        " outputs.",
    ),
    "analysis/languages.csv": Table(
        "`analyze`",
        "a task and language",
        {
            "task": _CELL["task"],
            "language": "its code",
            "as_source": "mean score of the other targets, with this language as the source",
            "as_target": "mean score in this target, over the other sources",
            "as_source_baseline": "mean `baseline` of the targets that this source was evaluated on",
            "baseline": "score of answers that read no input in this target, in percent",
            "donor": "points above the mean that the language gives as a source",
            "donor_error": "standard error of `donor`",
            "recipient": "points above the mean that the language has as a target",
            "recipient_error": "standard error of `recipient`",
            "in_language": "score where source and target are this language",
            "n_train": "log10 of the training examples",
            **{name: _PROBE[name] for name in ("lm_loss", "bits_per_byte", "lm_em")},
            "name": "English name",
            "family": "family of languages",
            "genus": "genus of WALS, where it is known",
        },
        optional=frozenset({
            "as_source_baseline", "baseline", "donor", "donor_error", "recipient",
            "recipient_error", "n_train", "lm_loss", "bits_per_byte", "lm_em",
        }),
    ),
    "analysis/shares.csv": Table(
        "`analyze`",
        "a task",
        {
            "task": _CELL["task"],
            "of_source": "share of the variance of scores that only the source explains",
            "of_target": "share that only the target explains",
            "of_both": "share that either explains, where not all pairs have scores",
            "of_pair": "the rest: of the two languages together, and noise",
            "reciprocity": "correlation of the rest of a pair with the rest of the reverse pair",
        },
    ),
    "analysis/alignment.csv": Table(
        "`analyze`",
        "a zero-shot cell and seed",
        {
            **_CELL,
            "seed": "of the run",
            "score": "in the table that was analysed, in percent",
            "recomputed": "score computed from the outputs, in percent",
            "examples": "outputs",
            "step": "training step of the outputs",
            "baseline": "score of answers that read no input, in percent",
        },
        optional=frozenset({"recomputed", "examples", "step", "baseline"}),
        patterns={
            r"[SP]_[A-Z_]+": "a feature of WALS: 1 where the two languages agree, 0 where they differ",
            r"[a-z ]+": "a kind of outcome, as in `outcomes.csv`: its share",
        },
    ),
    "analysis/outcomes.csv": Table(
        "`analyze`, where there are decoded outputs",
        "a cell, seed and kind of outcome",
        {
            **_CELL,
            "seed": "of the run",
            "outcome": f"kind of outcome; of entities: {_KINDS}; of texts also"
            f" `{outcomes.OTHER_LANGUAGE}`",
            "count": "how many there are",
            "of": "out of how many: examples, expected entities or tokens",
            "share": "`count` divided by `of`",
        },
    ),
    "analysis/correlations.csv": Table(
        "`analyze`",
        "a task and feature",
        {
            "task": _CELL["task"],
            "feature": "name of the feature",
            "of": "`pair`, `source` or `target`: what the feature is of",
            "pairs": "pairs of two languages",
            "languages": "languages in them",
            "pearson": "Pearson's correlation of the feature with the zero-shot score",
            "spearman": "Spearman's",
            "naive_p": "p-value of `pearson` as if pairs were independent: too small, a warning only",
            "qap_p": "p-value of `pearson`, two-sided, by permuting languages (QAP)",
            "qap_p_spearman": "the same of `spearman`",
            "low": "lower end of the 95% interval of `pearson`, by resampling languages",
            "high": "upper end",
            "within": "partial correlation, controlling for source and target language; of pairs only",
            "within_p": "its p-value by permuting languages",
            "coverage": "mean share of the feature's values that are known of both languages",
            "fdr": "`qap_p` adjusted by Benjamini and Hochberg, among features of the same kind",
            "within_fdr": "`within_p` adjusted in the same way",
        },
    ),
    "analysis/regression.csv": Table(
        "`analyze`",
        "a task and feature of the regression",
        {
            "task": _CELL["task"],
            "feature": "name of the feature",
            "beta": "standardised coefficient",
            "partial": "correlation with the score, the other features held constant",
            "qap_p": "p-value, two-sided, by double semi-partialing (MRQAP)",
            "vif": "variance inflation factor",
            "mixed": "points of the score for one standard deviation, in the mixed model",
            "mixed_low": "lower end of its 95% interval (Wald)",
            "mixed_high": "upper end",
        },
    ),
    "analysis/models.csv": Table(
        "`analyze`",
        "a task",
        {
            "task": _CELL["task"],
            "pairs": "pairs of the regression",
            "languages": "languages in them",
            "r2": "R² of the regression",
            "unseen_r2": "R² of pairs with a language that was left out of the fit",
            "source_sd": "standard deviation of the source's random effect, in points",
            "target_sd": "of the target's",
            "rest_sd": "of the rest",
            "collinear": "features left out, as others say the same; separated by tabs",
        },
    ),
    "analysis/wals.csv": Table(
        "`analyze`",
        "a task and feature of WALS",
        {
            "task": _CELL["task"],
            "feature": "name in URIEL",
            "agree": "pairs whose languages agree",
            "differ": "pairs whose languages differ",
            "score_agree": "mean score of the first",
            "score_differ": "mean score of the second",
            "points": "what agreeing adds, in points, controlling for source and target language",
            "same": "features that divide the pairs in the same way, separated by spaces",
            "qap_p": "p-value by permuting languages",
            "fdr": "`qap_p` adjusted by Benjamini and Hochberg",
        },
    ),
    "analysis/sensitivity.csv": Table(
        "`analyze`",
        "a task, feature and choice of the method",
        {
            "task": _CELL["task"],
            "feature": "`syntax`, `morphology`, `phonology` or `inventory`",
            "measure": "`cosine` or `agreement`",
            "imputed": "whether gaps of WALS are filled",
            "scores": "scores as they are, relative to the target's own, or without each language's"
            " level",
            "pairs": "pairs of two languages",
            "pearson": "Pearson's correlation",
            "spearman": "Spearman's",
            "qap_p": "p-value by permuting languages",
        },
    ),
    "analysis/laws.csv": Table(
        "`analyze`, where there are three numbers of examples or more",
        "a task and law of growth",
        {
            "task": _CELL["task"],
            "axis": _AXIS,
            "law": "`log`: a + b ln n, `linear`: a + b n, `power`: a n^b",
            "curves": "curves that were fitted",
            "r2": "median R² of the fits",
            "inside": "mean absolute error, in points, at a number of examples left out between others",
            "beyond": "mean absolute error at the largest number, fitted to the smaller ones",
            "best": "share of the curves for which this law is nearest at the largest number",
        },
    ),
    "analysis/needed.csv": Table(
        "`analyze`, as `laws`",
        "a task and target",
        {
            "task": _CELL["task"],
            "target": _CELL["target"],
            "axis": _AXIS,
            "reach": "score to reach: 90% of the in-language score, or `--reach`",
            "each_doubling": "points for every doubling of the examples",
            "a": "of a + b ln n",
            "b": "of a + b ln n",
            "examples": "examples that reach the score; `inf` where more examples do not help",
            **_INTERVAL,
        },
    ),
    "analysis/curves.csv": Table(
        "`analyze`, as `laws`",
        "a task, target and number of examples",
        {
            "task": _CELL["task"],
            "target": _CELL["target"],
            "axis": _AXIS,
            "n": "number of examples",
            "score": "mean score over sources, in percent",
        },
    ),
    "analysis/gains.csv": Table(
        "`analyze`, where there are intermediate tasks",
        "a zero-shot cell with an intermediate task, and seed",
        {
            **_CELL,
            "seed": "of the run",
            "intermediate": "intermediate task",
            "score": "with it, in percent",
            "baseline_score": "without it, in percent",
            "gain": "`score` minus `baseline_score`",
            "baseline": "what the baseline is: `more`, as many steps more in the source, or `none`",
            "subset": "subsets that the cell is in, separated by spaces",
        },
    ),
    "analysis/checkpoints.csv": Table(
        "`analyze`, of a study that chose among checkpoints",
        "a task and rule",
        {
            "task": _CELL["task"],
            "rule": "how the checkpoint is chosen: `last`, `source`, `mean`, `each_target`",
            "pairs": "pairs of two languages",
            "own": "mean score on the source language, on validation, in percent",
            "transfer": "mean score on the other targets, likewise",
            "minus_last": "`transfer` minus that of the last checkpoint, in points",
        },
    ),
    "analysis/gain_means.csv": Table(
        "`analyze`, where there are intermediate tasks",
        "a task, intermediate task and subset of the cells",
        {
            "task": _CELL["task"],
            "intermediate": "intermediate task",
            "subset": "; ".join(f"`{name}`: {what}" for name, what in gains.SUBSETS.items()),
            "gain": "mean gain, in points",
            **_INTERVAL,
            "pairs": "pairs of source and target",
            "targets": "targets in them",
        },
    ),
    "analysis/gain_features.csv": Table(
        "`analyze`, where there are intermediate tasks in two languages or more",
        "a task, feature and side",
        {
            "task": _CELL["task"],
            "of": "whose similarity to the intermediate task's language: `target` or `source`",
            "feature": "name of the feature",
            "pairs": "pairs of intermediate task and language",
            "within": "partial correlation of the gain with the similarity, controlling for both",
            "p": "p-value, two-sided, by permuting the targets (or the sources)",
            "contrast": "mean gain of the most similar third minus that of the least similar, in"
            " points",
            **_INTERVAL,
            "fdr": "`p` adjusted by Benjamini and Hochberg",
        },
    ),
}  # fmt: skip

# What the report draws in DIR/figures: by the words after the task in its name, its numbers.
FIGURES: Mapping[str, str] = {
    "scores": "a row a pair: `source`, `target`, `score`",
    "gains": "a row an intermediate task, a column a target",
    "correlations": "rows of `correlations.csv`",
    "{name}": "the scatter of a feature: `source`, `target`, the feature, `score`",
    "regression": "rows of `regression.csv`",
    "wals": "rows of `wals.csv`",
    "donors": "rows of `languages.csv`",
    "languages": "the matrix that languages are grouped by: a row and a column a language",
    "{column}": "a probe: `language`, `name`, and `lm_loss` or `lm_em`",
    "outcomes": "a row a target, a column a kind of outcome",
    "growth": "rows of `curves.csv`",
}


def page() -> str:
    """Renders the page of all tables."""
    parts = [
        "# Tables",
        "Every table is a CSV file in UTF-8 with commas and a header. Scores are in percent unless"
        " a unit is named. An empty value is not known. `analyze` writes its tables into the folder"
        " that `--out` names, each where there is something to say; `analysis.json` beside them"
        " says what was asked, and holds the digest of each table.",
    ]
    for name, found in TABLES.items():
        rows = [(code(column), prose(what)) for column, what in found.columns.items()]
        rows += [(f"others ({code(p)})", prose(what)) for p, what in found.patterns.items()]
        parts += [
            f"## {_heading(name)}",
            f"Written by {found.writer}. A row is {found.row}.",
            *([found.note] if found.note else []),
            table(("column", "meaning"), rows),
        ]
    parts += [
        "## Numbers of the figures",
        "`report` writes every figure into `DIR/figures` twice: `NN-TASK-WHAT.svg`, and the numbers"
        " that it was drawn from, `NN-TASK-WHAT.csv`.",
        table(
            ("`WHAT`", "columns"),
            ((_figure(what), prose(columns)) for what, columns in FIGURES.items()),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _heading(name: str) -> str:
    if name.startswith("analysis/"):
        name = f"{name.removeprefix('analysis/')} of an analysis"
    file, _, rest = name.partition(" ")
    return f"{code(file)} {rest}".rstrip()


def _figure(what: str) -> str:
    return (
        "name of a feature"
        if what == "{name}"
        else ("`lm-loss`, `lm-em`" if what == "{column}" else code(what))
    )
