"""Metrics of decoded outputs, as in the mT5 release ("compat"); see also `strict_metrics`.

Compat metrics give the same numbers as multilingual_t5's `evaluation/metrics.py` and t5's
`evaluation/metrics.py` and `qa_utils.py`, including their quirks, so that scores are comparable
with published ones. Strict metrics need only strings (inputs, targets, predictions), so that they
can be computed from the output folder of any engine. Language codes are those of the data sets
('sw').
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

TAG_PROMPT = "tag: "  # before the tokens of an input
SPAN_DELIMITER = " $$ "
NO_TAG = "O"  # means no tag: for outputs that are too short, and in seqeval
NO_SPANS = "None"  # what TFDS's wikiann writes for a sentence without entities
XNLI_LABELS = ("0", "1", "2")
Answers = Sequence[Sequence[str]]  # the accepted answers of each question
Span = tuple[str, int, int]  # type, first token, token after the last

# ------------------------------------------------------------------------------------ shared checks


def check_lengths(**columns: Sequence) -> None:
    """Raises ValueError unless all columns have the same length and are not empty."""
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"a metric needs columns of the same length, got {sizes}")
    if 0 in sizes.values():
        raise ValueError("a metric needs at least one example, got none")


def check_answers(targets: Answers) -> None:
    """Raises ValueError unless each target is a list of answers (a string would be its letters)."""
    for row, answers in enumerate(targets):
        if isinstance(answers, str) or not answers:
            raise ValueError(
                f"targets[{row}] must be a list of at least one answer, got {answers!r}"
            )


# ---------------------------------------------------------------------------- as in the mT5 release


def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes the share of predictions that are equal to the target string.

    Args:
      targets: one label per example.
      predictions: one decoded output per example.

    Returns:
      `accuracy`, percent.

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    check_lengths(targets=targets, predictions=predictions)
    return {"accuracy": percent([t == p for t, p in zip(targets, predictions, strict=True)])}


def span_f1(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes micro-averaged F1 of (type, surface) pairs, without positions.

    Quirks: a span without ':' or with more than one is dropped, both in targets and in predictions,
    so an entity with a colon never counts. Denominators contain 1e-13.

    Args:
      targets: `PER: rick $$ LOC: paris`, one string per sentence.
      predictions: decoded outputs of that form.

    Returns:
      `span_f1`, a fraction in [0, 1].

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    check_lengths(targets=targets, predictions=predictions)
    matched = n_gold = n_predicted = 0
    for target, prediction in zip(targets, predictions, strict=True):
        gold, predicted = surfaces(target), surfaces(prediction)
        matched += (gold & predicted).total()
        n_gold += gold.total()
        n_predicted += predicted.total()
    precision = matched / (n_predicted + 1e-13)
    recall = matched / (n_gold + 1e-13)
    return {"span_f1": 2.0 * (precision * recall / (precision + recall + 1e-13))}


def squad(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Computes SQuAD v1.1 exact match and token F1, the best over the accepted answers.

    Quirks: English articles are removed in every language, and only ASCII punctuation is removed.
    An answer that becomes empty has F1 0 even if it matches exactly.

    Args:
      targets: accepted answers of each question.
      predictions: one decoded output per question.

    Returns:
      `em` and `f1`, percent.

    Raises:
      ValueError: lengths differ, there are no examples, or a target is not a list of answers.
    """
    return answer_scores(targets, predictions, _normalize_squad)


def mlqa(targets: Answers, predictions: Sequence[str], language: str) -> dict[str, float]:
    """Computes MLQA's exact match and token F1, with its table of articles.

    Quirks: Arabic 'ال' is removed everywhere, also inside words; not all Vietnamese words in the
    list are articles; the rest is as in `squad`, with Unicode punctuation.

    Args:
      targets: accepted answers of each question.
      predictions: one decoded output per question.
      language: language of the answers: ar, de, en, es, hi, vi or zh.

    Returns:
      `em` and `f1`, percent.

    Raises:
      ValueError: lengths differ, there are no examples, a target is not a list of answers, or MLQA
        does not have the language.
    """
    if language not in _MLQA_ARTICLES:
        raise ValueError(f"MLQA has {', '.join(_MLQA_ARTICLES)}, not {language!r}; use squad")
    return answer_scores(targets, predictions, lambda text: _normalize_mlqa(text, language))


def tag_f1(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes the F1 of tags as XTREME does: micro-averaged F1 of seqeval, without prefixes.

    Outputs are split at white space, and truncated or padded with `O` to the number of tags in the
    target.

    Quirks: seqeval takes the first letter of a tag as a prefix: B, I, E and S as in chunking, and O
    for no entity. It ignores other first letters, so that neighbours that differ only in their
    first letters (two NOUN, or DET and PET) are one entity.

    Args:
      targets: `DET NOUN VERB`, one string per sentence.
      predictions: decoded outputs of that form.

    Returns:
      `tag_f1`, `tag_precision` and `tag_recall`, percent; 0 if undefined.

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    check_lengths(targets=targets, predictions=predictions)
    pairs = list(tag_pairs(targets, predictions))
    gold = entities(tag for tags, _ in pairs for tag in (*tags, NO_TAG))
    predicted = entities(tag for _, tags in pairs for tag in (*tags, NO_TAG))
    matched = len(gold & predicted)
    precision = matched / len(predicted) if predicted else 0.0
    recall = matched / len(gold) if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if matched else 0.0
    return {"tag_f1": 100 * f1, "tag_precision": 100 * precision, "tag_recall": 100 * recall}


def token_accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes the share of tokens with the correct tag; missing tags of an output are wrong.

    Args:
      targets: one tag per token, one string per sentence.
      predictions: decoded outputs of that form.

    Returns:
      `token_accuracy`, percent.

    Raises:
      ValueError: lengths differ, or there are no tags.
    """
    check_lengths(targets=targets, predictions=predictions)
    right = [
        tag == guess
        for tags, answered in tag_pairs(targets, predictions)
        for tag, guess in zip(tags, answered, strict=True)
    ]
    if not right:
        raise ValueError("a metric needs at least one tag, got none")
    return {"token_accuracy": percent(right)}


def tag_pairs(
    targets: Sequence[str], predictions: Sequence[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yields the tags of each target, and the same number of tags of its output."""
    for target, prediction in zip(targets, predictions, strict=True):
        tags = target.split()
        answered = prediction.split()[: len(tags)]
        yield tags, [*answered, *[NO_TAG] * (len(tags) - len(answered))]


def entities(stream: Iterable[str]) -> set[Span]:
    """Returns the entities that seqeval 1.2.2 finds in all sentences, each followed by `O`.

    seqeval reads one stream of tags: an X at the beginning of a sentence has the same kind as the
    `O` before it, and therefore starts no entity.
    """
    found = set()
    previous, previous_kind, start = NO_TAG, "", 0
    for i, tag in enumerate(stream):
        letter, kind = tag[0], tag[1:].split("-", 1)[-1] or "_"
        changed = kind != previous_kind
        if previous in ("E", "S") or (
            previous not in (NO_TAG, ".")
            and (changed or (previous in ("B", "I") and letter in ("B", "S", NO_TAG)))
        ):
            found.add((previous_kind, start, i))
        if letter in ("B", "S") or (
            letter not in (NO_TAG, ".")
            and (changed or (letter in ("E", "I") and previous in ("E", "S", NO_TAG)))
        ):
            start = i
        previous, previous_kind = letter, kind
    return found


def percent(scores: Sequence[float]) -> float:
    # numpy's pairwise sum, as in the release: Python's own sum may differ in the last digit
    return float(np.mean(scores) * 100)


def surfaces(text: str) -> Counter[tuple[str, str]]:
    pieces = (piece.split(":") for piece in text.split(SPAN_DELIMITER))
    return Counter((p[0].strip(), p[1].strip()) for p in pieces if len(p) == 2)


def answer_scores(
    targets: Answers, predictions: Sequence[str], normalize: Callable[[str], str]
) -> dict[str, float]:
    check_lengths(targets=targets, predictions=predictions)
    check_answers(targets)
    exact, overlap = [], []
    for answers, prediction in zip(targets, predictions, strict=True):
        golds = [normalize(answer) for answer in answers]
        guess = normalize(prediction)
        exact.append(guess in golds)
        overlap.append(max(token_f1(gold.split(), guess.split()) for gold in golds))
    return {"em": percent(exact), "f1": percent(overlap)}


def token_f1(gold: Sequence[str], guess: Sequence[str]) -> float:
    """Returns the F1 of two bags of tokens; 0 if they share no token."""
    common = (Counter(gold) & Counter(guess)).total()
    if not common:
        return 0.0
    precision, recall = common / len(guess), common / len(gold)
    return 2 * precision * recall / (precision + recall)


ASCII_PUNCTUATION = frozenset(string.punctuation)
_ENGLISH_ARTICLES = r"\b(?:a|an|the)\b"
# What MLQA's evaluation script replaces with a space in each language; None: nothing.
_MLQA_ARTICLES: dict[str, str | None] = {
    "ar": r"\sال^|ال",  # the first branch can never match
    "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "en": _ENGLISH_ARTICLES,
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
    "zh": None,
}
_MLQA_CHINESE = re.compile("([\u4e00-\u9fa5])")


def _normalize_squad(text: str) -> str:
    text = "".join(c for c in text.lower() if c not in ASCII_PUNCTUATION)
    return " ".join(re.sub(_ENGLISH_ARTICLES, " ", text).split())


def _normalize_mlqa(text: str, language: str) -> str:
    text = "".join(c for c in text.lower() if c not in ASCII_PUNCTUATION and not is_punctuation(c))
    articles = _MLQA_ARTICLES[language]
    if articles is not None:
        text = re.sub(articles, " ", text)
    if language == "zh":  # each Han character is a token, runs of other scripts are words
        text = _MLQA_CHINESE.sub(r" \1 ", text)
    return " ".join(text.split())


def is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
