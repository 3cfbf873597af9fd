"""XNLI: natural language inference, as text `xnli: premise: … hypothesis: …` -> `0`, `1` or `2`.

Format and metric of the mT5 release (multilingual_t5 `process_mnli`, `process_xnli`); data of
Conneau et al. 2018. English trains on MultiNLI, the other languages on its machine translations.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seqio_tasks import data_files, metrics
from seqio_tasks.errors import RequestError
from seqio_tasks.families import classification
from seqio_tasks.records import XTREME_R, Example, Family, Source

LANGUAGES = (
    "ar",
    "bg",
    "de",
    "el",
    "en",
    "es",
    "fr",
    "hi",
    "ru",
    "sw",
    "th",
    "tr",
    "ur",
    "vi",
    "zh",
)
LABELS = ("entailment", "neutral", "contradiction")  # the targets are their indices
_COLUMNS = ("language", "gold_label", "sentence1", "sentence2")  # of XNLI's own files


def files(language: str, split: str) -> tuple[str, ...]:
    """Returns the file of XNLI-1.0, and the per-language file that XTREME makes from it."""
    if split == "train":
        return (f"xnli/train-{language}.tsv", f"xnli/multinli.train.{language}.tsv")
    if split == "validation":
        return ("xnli/xnli.dev.tsv", f"xnli/dev-{language}.tsv")
    return ("xnli/xnli.test.tsv",)  # XTREME's test-*.tsv have no labels


def label_of(text: str, where: str) -> int:
    """Returns the index of a label.

    Raises:
      RequestError: the text is not a label.
    """
    text = (
        "contradiction" if text == "contradictory" else text
    )  # the word in the translations of MultiNLI
    if text not in LABELS:
        raise RequestError(f"{where}: label {text[:40]!r} is not one of {', '.join(LABELS)}")
    return LABELS.index(text)


def read(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads one language of XNLI-1.0's tables, or premise, hypothesis, label in three columns.

    Tables with a header are the original XNLI files, without quoting; tables without a header are
    those of XTREME's scripts, written by Python's csv module.

    Raises:
      RequestError: a line is malformed (names file and line), or no line is in the language.
    """
    del split
    header = next(data_files.lines(path), (1, ""))[1].split("\t")
    if set(_COLUMNS) <= set(header):
        rows = _of_language(path, language)
    elif header[-1] == "label":  # XNLI's translations of MultiNLI
        rows = _three_columns(itertools.islice(_unquoted(path), 1, None))
    else:
        rows = _three_columns(data_files.table(path))
    found = False
    for where, premise, hypothesis, label in rows:
        found = True
        yield {"premise": premise, "hypothesis": hypothesis, "label": label_of(label, where)}
    if not found:
        raise RequestError(f"{path} has no line in language {language!r}")


def _unquoted(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in data_files.lines(path):
        yield f"{path}, line {number}", line.split("\t")


def _of_language(path: Path, language: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields (file and line, premise, hypothesis, label) from the table of XNLI-1.0."""
    for where, row in data_files.named_rows(_unquoted(path), _COLUMNS):
        if row["language"] == language:
            yield where, row["sentence1"], row["sentence2"], row["gold_label"]


def _three_columns(
    rows: Iterable[tuple[str, list[str]]],
) -> Iterator[tuple[str, str, str, str]]:
    for where, cells in rows:
        if len(cells) != 3:
            raise RequestError(
                f"{where}: expected premise<TAB>hypothesis<TAB>label, found {len(cells)} columns"
            )
        premise, hypothesis, label = cells
        yield where, premise, hypothesis, label


def tfds(language: str, split: str) -> tuple[str, str]:
    """Returns TFDS's name and split."""
    if split != "train":
        return ("xnli:1.1.0", split)
    return ("multi_nli:1.1.0", "train") if language == "en" else ("xtreme_xnli:1.1.0", "train")


_TEXT = classification.text_format(
    "xnli:", {"premise": "premise", "hypothesis": "hypothesis"}, metrics.XNLI_LABELS
)


def preprocess(dataset: Any, language: str) -> Any:
    """Makes `inputs` and `targets` from premise, hypothesis and label.

    In TFDS, an example of XNLI contains all languages (premises by language, hypotheses in a list
    of translations); this selects those in `language`.
    """
    import tensorflow as tf

    def in_language(example):
        hypothesis = example["hypothesis"]
        mine = tf.equal(hypothesis["language"], language)
        return {
            "premise": example["premise"][language],
            "hypothesis": tf.boolean_mask(hypothesis["translation"], mine)[0],
            "label": example["label"],
        }

    if isinstance(dataset.element_spec["premise"], dict):
        dataset = dataset.map(in_language)
    return _TEXT.preprocess(dataset, language)


FORMAT = dataclasses.replace(_TEXT, preprocess=preprocess)
SCORING = classification.scoring(metrics.XNLI_LABELS)
FAMILY = Family(
    name="xnli",
    title="XNLI natural language inference",
    languages=LANGUAGES,
    source=Source(
        files=files,
        read=read,
        tfds=tfds,
        sizes={"train": 392_702, "validation": 2490, "test": 5010},  # XNLI's files as read
        matched_size=392_702,  # every language has MultiNLI or its translation
    ),
    format=FORMAT,
    scoring=SCORING,
    groups=(XTREME_R,),
)
