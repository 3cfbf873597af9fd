"""Strict metrics for NER, QA, labels and tags, without the quirks of the mT5 release."""

import unicodedata
from collections.abc import Sequence

import regex

from seqio_tasks import metrics
from seqio_tasks.metrics import NO_SPANS, SPAN_DELIMITER, XNLI_LABELS, Answers, Span
from seqio_tasks.words import characters

# -------------------------------------------------------------------------------------- strict: NER


def span_f1(
    inputs: Sequence[str], targets: Sequence[str], predictions: Sequence[str], language: str
) -> dict[str, float]:
    """Scores entities by type and position in the sentence, as seqeval does (micro average).

    Differences from `metrics.span_f1`: positions count; a span is split at its first ': ', so that
    entities with colons count; a predicted span that is malformed or not in the sentence is a false
    positive. Targets do not contain positions, so `align` finds the positions of targets and
    predictions; if the words of an entity also occur earlier in the sentence, its position is a
    guess. In WikiANN's dev sets of 13 languages, the guess differs from the tags for 2 of 122,355
    entities; if an output omits one entity, 0% (hi) to 4.7% (bn) of its other entities get a wrong
    position.

    Args:
      inputs: `tag: rick is in paris`.
      targets: `PER: rick $$ LOC: paris`; an empty string or `None` if there is no entity.
      predictions: decoded outputs of that form.
      language: language of the sentences; it makes no difference.

    Returns:
      `strict_span_f1`, `strict_span_precision`, `strict_span_recall`, fractions in [0, 1]; 0 where
      undefined.

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    del language
    metrics.check_lengths(inputs=inputs, targets=targets, predictions=predictions)
    matched = n_gold = n_predicted = 0
    for sentence, target, prediction in zip(inputs, targets, predictions, strict=True):
        tokens = words(sentence.removeprefix(metrics.TAG_PROMPT))
        gold = align(tokens, parse_spans(target))
        predicted = align(tokens, parse_spans(prediction))
        # aligned spans do not overlap, so each occurs once
        matched += len(set(gold) & set(predicted) - {None})
        n_gold += len(gold)
        n_predicted += len(predicted)
    precision = matched / n_predicted if n_predicted else 0.0
    recall = matched / n_gold if n_gold else 0.0
    f1 = 2 * matched / (n_gold + n_predicted) if n_gold + n_predicted else 0.0
    return {
        "strict_span_f1": f1,
        "strict_span_precision": precision,
        "strict_span_recall": recall,
    }


def words(text: str) -> list[str]:
    """Splits a sentence or an entity at white space, so that decoded text matches its source.

    SentencePiece applies NFKC to decoded text and may replace invisible characters (joiners,
    directional marks) with spaces; this function does the same to both sides.
    """
    return _visible(text).split()


def _visible(text: str) -> str:
    """Returns a text in NFKC, with invisible characters replaced by spaces."""
    text = unicodedata.normalize("NFKC", text)
    return "".join(" " if unicodedata.category(c) in ("Cf", "Cc") else c for c in text)


def parse_spans(text: str) -> list[tuple[str, list[str]]]:
    """Parses `PER: rick $$ LOC: paris`.

    Args:
      text: a target or a decoded output.

    Returns:
      Type and words of each span, in order; a malformed span has its text as type and no words. The
      empty string and `None` contain no spans.
    """
    spans = []
    for piece in text.split(SPAN_DELIMITER):
        piece = piece.strip()
        kind, _, surface = piece.partition(": ")
        if piece not in ("", NO_SPANS):
            spans.append((kind.strip(), words(surface)))
    return spans


def align(tokens: Sequence[str], spans: Sequence[tuple[str, Sequence[str]]]) -> list[Span | None]:
    """Finds the positions of spans in a sentence.

    Spans are aligned in order. Each gets the first free occurrence of its words after the previous
    span, or else the first free occurrence anywhere: targets list entities in order of occurrence,
    but outputs may not.

    Args:
      tokens: words of the sentence.
      spans: type and words of each span.

    Returns:
      Type, start and end (exclusive, in tokens) of each span; None if it is not in the sentence.
    """
    free = [True] * len(tokens)
    end = 0
    aligned: list[Span | None] = []
    for kind, wanted in spans:
        start = _first_free(tokens, wanted, free, end)
        if start is None:
            start = _first_free(tokens, wanted, free, 0)
        if start is None:
            aligned.append(None)
            continue
        end = start + len(wanted)
        free[start:end] = [False] * len(wanted)
        aligned.append((kind, start, end))
    return aligned


def _first_free(
    tokens: Sequence[str], wanted: Sequence[str], free: Sequence[bool], begin: int
) -> int | None:
    size = len(wanted)
    if not size:
        return None
    for start in range(begin, len(tokens) - size + 1):
        stop = start + size
        if list(tokens[start:stop]) == list(wanted) and all(free[start:stop]):
            return start
    return None


# --------------------------------------------------------------------------------------- strict: QA

# Articles as whole words. en, es, de: MLQA's evaluation script. vi: only those words of its list
# that occur in the position of an article; của 'of' and là 'to be' are left out. Other languages:
# all forms of the definite and indefinite article. Languages that are not here have no articles, or
# write them as suffixes or one-letter prefixes that cannot be separated from a stem (bg, eu, he,
# ro).
ARTICLES: dict[str, frozenset[str]] = {
    language: frozenset(forms.split())
    for language, forms in {
        "af": "die n",  # 'n, once the apostrophe is gone
        "de": "der die das den dem des ein eine einen einem eines einer",
        "el": "ο η το οι τα του της των τον την τη τους τις ένας μια μία ένα έναν ενός μιας μίας",
        "en": "a an the",
        "es": "el la los las un una unos unas",
        "fr": "le la les un une des",
        "hu": "a az egy",
        "it": "il lo la i gli le un uno una",
        "nl": "de het een",
        "pt": "o a os as um uma uns umas",
        "vi": "cái chiếc những",
    }.items()
}
# Articles that lose their vowel before a vowel: l'eau, un'amica; also with spaces, l ' eau.
_ELIDED = {
    "fr": regex.compile(r"(?<![\p{L}\p{M}\p{N}])l\s*['’]"),
    "it": regex.compile(r"(?<![\p{L}\p{M}\p{N}])(?:l|un)\s*['’]"),
}
# The Arabic article and its noun are one word. The noun has at least two letters; any letter may
# have vowel signs.
_ARABIC_ARTICLE = regex.compile(r"^ا\p{M}*ل\p{M}*(?=\p{L}\p{M}*\p{L})")
_ASCII_WORD = regex.compile(r"((?:[!-~]\p{M}*)+)")
# Languages written without spaces between words.
UNSPACED = frozenset({"ja", "my", "th", "zh"})


def squad(
    inputs: Sequence[str], targets: Answers, predictions: Sequence[str], language: str
) -> dict[str, float]:
    """Computes exact match and token F1 of answers, with normalisation for their language.

    Differences from `metrics.squad`: NFKC first; punctuation of all scripts (Unicode categories P*)
    is removed, and symbols ($, +) are kept; articles of the language (`ARTICLES`) are removed,
    except from an answer that consists only of articles; languages written without spaces are
    compared by character; two empty answers match in both scores.

    Args:
      inputs: the questions; not used.
      targets: accepted answers of each question.
      predictions: one decoded output per question.
      language: language of the answers.

    Returns:
      `strict_em` and `strict_f1`, percent, the best over the accepted answers.

    Raises:
      ValueError: lengths differ, there are no examples, or a target is not a list of answers.
    """
    metrics.check_lengths(inputs=inputs, targets=targets, predictions=predictions)
    metrics.check_answers(targets)
    exact, overlap = [], []
    for answers, prediction in zip(targets, predictions, strict=True):
        golds = [answer_tokens(answer, language) for answer in answers]
        guess = answer_tokens(prediction, language)
        exact.append(guess in golds)
        overlap.append(
            max(1.0 if gold == guess else metrics.token_f1(gold, guess) for gold in golds)
        )
    return {"strict_em": metrics.percent(exact), "strict_f1": metrics.percent(overlap)}


def answer_tokens(text: str, language: str) -> list[str]:
    """Normalises an answer for comparison.

    Args:
      text: an answer, punctuation padded with spaces or not.
      language: language of the answer.

    Returns:
      Its tokens in order: NFKC, lower case, without punctuation and articles; also split at
      invisible characters, which may be spaces in decoded text, see `words`.
    """
    text = _visible(text).lower()
    if language in _ELIDED:
        text = _ELIDED[language].sub(" ", text)
    text = "".join(c for c in text if not metrics.is_punctuation(c))
    tokens = _characters(text) if language in UNSPACED else text.split()
    if language == "ar":
        return [_ARABIC_ARTICLE.sub("", token) for token in tokens]
    articles = ARTICLES.get(language, frozenset())
    return [token for token in tokens if token not in articles] or tokens


def _characters(text: str) -> list[str]:
    """Splits text into characters with their marks; ASCII words and numbers are not split."""
    return [
        token
        for run in _ASCII_WORD.split(text)
        for token in ([run] if _ASCII_WORD.fullmatch(run) else characters(run))
        if not token.isspace()
    ]


# ----------------------------------------------------------------------------------- strict: labels


def accuracy(
    inputs: Sequence[str],
    targets: Sequence[str],
    predictions: Sequence[str],
    language: str,
    labels: Sequence[str] = XNLI_LABELS,
) -> dict[str, float]:
    """Computes accuracy, ignoring white space around labels, and the share of invalid outputs.

    Args:
      inputs: not used.
      targets: one label per example.
      predictions: one decoded output per example.
      language: language of the inputs; it makes no difference.
      labels: the closed set of labels.

    Returns:
      `strict_accuracy`, percent; `invalid`, percent of the outputs that are not a label.

    Raises:
      ValueError: lengths differ, there are no examples, or a target is not a label.
    """
    del language
    metrics.check_lengths(inputs=inputs, targets=targets, predictions=predictions)
    known = frozenset(labels)
    golds = [target.strip() for target in targets]
    guesses = [prediction.strip() for prediction in predictions]
    unknown = sorted(set(golds) - known)
    if unknown:
        raise ValueError(f"targets must be labels of {sorted(known)}, found {unknown[:3]}")
    return {
        "strict_accuracy": metrics.percent([t == p for t, p in zip(golds, guesses, strict=True)]),
        "invalid": metrics.percent([guess not in known for guess in guesses]),
    }


# ------------------------------------------------------------------------------------- strict: tags


def tags(
    inputs: Sequence[str], targets: Sequence[str], predictions: Sequence[str], language: str
) -> dict[str, float]:
    """Computes the share of correct tags, and of outputs with a wrong number of tags.

    Difference from `metrics.tag_f1`: every token counts, whatever the first letter of its tag is.

    Args:
      inputs: not used.
      targets: one tag per token, one string per sentence.
      predictions: decoded outputs of that form.
      language: language of the inputs; it makes no difference.

    Returns:
      `strict_token_accuracy`, percent of tokens; `other_length`, percent of outputs.

    Raises:
      ValueError: lengths differ, or there are no tags.
    """
    del language
    metrics.check_lengths(inputs=inputs, targets=targets, predictions=predictions)
    other = [len(t.split()) != len(p.split()) for t, p in zip(targets, predictions, strict=True)]
    accuracy = metrics.token_accuracy(targets, predictions)["token_accuracy"]
    return {"strict_token_accuracy": accuracy, "other_length": metrics.percent(other)}
