"""Scores of decoded outputs: the mT5 release's own ("compat") and stricter ones beside them.

Compat metrics equal multilingual_t5's `evaluation/metrics.py` and t5's `evaluation/metrics.py` and
`qa_utils.py` number for number, quirks included, so that scores can be set beside published ones.
Strict metrics take strings only (inputs, targets, predictions), so that they can be recomputed from
the output folder of any engine; each says what it mends. Language codes are those of the data sets
('sw').
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import regex

from seqio_tasks.words import characters

SPAN_DELIMITER = " $$ "
NO_TAG = "O"  # stands for no tag: in outputs that are too short, and in seqeval
NO_SPANS = "None"  # what TFDS's wikiann writes for a sentence without entities
XNLI_LABELS = ("0", "1", "2")
Answers = Sequence[Sequence[str]]  # the accepted answers of each question
Span = tuple[str, int, int]  # type, first token, token after the last

# ------------------------------------------------------------------------------------ shared checks


def _check(**columns: Sequence) -> None:
    """Sees to it that all columns are equally long and not empty."""
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"a metric needs columns of one length, got {sizes}")
    if 0 in sizes.values():
        raise ValueError("a metric needs at least one example, got none")


def _check_answers(targets: Answers) -> None:
    """Sees to it that each target is a list of answers; a string would be read as its letters."""
    for row, answers in enumerate(targets):
        if isinstance(answers, str) or not answers:
            raise ValueError(
                f"targets[{row}] must be a list of at least one answer, got {answers!r}"
            )


# ---------------------------------------------------------------------------- as in the mT5 release


def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes how often prediction and target are the same string.

    Args:
      targets: one label an example.
      predictions: one decoded output an example.

    Returns:
      `accuracy`, percent.

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    _check(targets=targets, predictions=predictions)
    return {"accuracy": _percent([t == p for t, p in zip(targets, predictions, strict=True)])}


def span_f1(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes micro-averaged F1 of (type, surface) pairs, without positions.

    Quirks: a span with no ':' or more than one is dropped, from targets and predictions alike; so
    an entity that holds a colon never counts. Denominators carry 1e-13.

    Args:
      targets: `PER: rick $$ LOC: paris`, one string a sentence.
      predictions: decoded outputs of that form.

    Returns:
      `span_f1`, a fraction in [0, 1].

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    _check(targets=targets, predictions=predictions)
    matched = n_gold = n_predicted = 0
    for target, prediction in zip(targets, predictions, strict=True):
        gold, predicted = _surfaces(target), _surfaces(prediction)
        matched += (gold & predicted).total()
        n_gold += gold.total()
        n_predicted += predicted.total()
    precision = matched / (n_predicted + 1e-13)
    recall = matched / (n_gold + 1e-13)
    return {"span_f1": 2.0 * (precision * recall / (precision + recall + 1e-13))}


def squad(targets: Answers, predictions: Sequence[str]) -> dict[str, float]:
    """Computes SQuAD v1.1 exact match and token F1, the best over the accepted answers.

    Quirks: English articles are stripped in every language and only ASCII punctuation is removed.
    An answer of which nothing is left has F1 0 even where it matches exactly.

    Args:
      targets: accepted answers of each question.
      predictions: one decoded output a question.

    Returns:
      `em` and `f1`, percent.

    Raises:
      ValueError: lengths differ, there are no examples, or a question has no list of answers.
    """
    return _answer_scores(targets, predictions, _normalize_squad)


def mlqa(targets: Answers, predictions: Sequence[str], language: str) -> dict[str, float]:
    """Computes MLQA's exact match and token F1, with its table of articles.

    Quirks: Arabic 'ال' is removed wherever it stands, inside words too; the Vietnamese words are
    not all articles; all else is as in `squad`, with Unicode punctuation.

    Args:
      targets: accepted answers of each question.
      predictions: one decoded output a question.
      language: of the answers: ar, de, en, es, hi, vi or zh.

    Returns:
      `em` and `f1`, percent.

    Raises:
      ValueError: lengths differ, there are no examples, a question has no list of answers, or MLQA
        does not have the language.
    """
    if language not in _MLQA_ARTICLES:
        raise ValueError(f"MLQA has {', '.join(_MLQA_ARTICLES)}, not {language!r}; use squad")
    return _answer_scores(targets, predictions, lambda text: _normalize_mlqa(text, language))


def tag_f1(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes the F1 of tags as XTREME does: seqeval's, micro-averaged, on tags without prefixes.

    Output is split at white space, and cut or filled up with `O` to as many tags as the target has.

    Quirks: seqeval takes a tag's first letter for a prefix: B, I, E and S as in chunking, O for no
    entity; the others tell nothing, so that neighbours that agree but for their first letters (two
    NOUN, or DET and PET) are one entity.

    Args:
      targets: `DET NOUN VERB`, one string a sentence.
      predictions: decoded outputs of that form.

    Returns:
      `tag_f1`, `tag_precision` and `tag_recall`, percent; 0 where undefined.

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    _check(targets=targets, predictions=predictions)
    pairs = list(_tag_pairs(targets, predictions))
    gold = _entities(tag for tags, _ in pairs for tag in (*tags, NO_TAG))
    predicted = _entities(tag for _, tags in pairs for tag in (*tags, NO_TAG))
    matched = len(gold & predicted)
    precision = matched / len(predicted) if predicted else 0.0
    recall = matched / len(gold) if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if matched else 0.0
    return {"tag_f1": 100 * f1, "tag_precision": 100 * precision, "tag_recall": 100 * recall}


def token_accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Computes how many of the tokens have their tag; an output's missing tags are wrong.

    Args:
      targets: one tag a token, one string a sentence.
      predictions: decoded outputs of that form.

    Returns:
      `token_accuracy`, percent.

    Raises:
      ValueError: lengths differ, or there are no tags.
    """
    _check(targets=targets, predictions=predictions)
    right = [
        tag == guess
        for tags, answered in _tag_pairs(targets, predictions)
        for tag, guess in zip(tags, answered, strict=True)
    ]
    if not right:
        raise ValueError("a metric needs at least one tag, got none")
    return {"token_accuracy": _percent(right)}


def _tag_pairs(
    targets: Sequence[str], predictions: Sequence[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yields the tags of each target, and as many of its output."""
    for target, prediction in zip(targets, predictions, strict=True):
        tags = target.split()
        answered = prediction.split()[: len(tags)]
        yield tags, [*answered, *[NO_TAG] * (len(tags) - len(answered))]


def _entities(stream: Iterable[str]) -> set[Span]:
    """Returns what seqeval 1.2.2 takes for entities in all sentences, each with `O` after it.

    Its stream of tags is one: a sentence's first X, whose kind is that of the `O` before it, begins
    nothing.
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


def _percent(scores: Sequence[float]) -> float:
    # numpy's pairwise sum, as in the release: Python's own sum may differ in the last digit
    return float(np.mean(scores) * 100)


def _surfaces(text: str) -> Counter[tuple[str, str]]:
    pieces = (piece.split(":") for piece in text.split(SPAN_DELIMITER))
    return Counter((p[0].strip(), p[1].strip()) for p in pieces if len(p) == 2)


def _answer_scores(
    targets: Answers, predictions: Sequence[str], normalize: Callable[[str], str]
) -> dict[str, float]:
    _check(targets=targets, predictions=predictions)
    _check_answers(targets)
    exact, overlap = [], []
    for answers, prediction in zip(targets, predictions, strict=True):
        golds = [normalize(answer) for answer in answers]
        guess = normalize(prediction)
        exact.append(guess in golds)
        overlap.append(max(_token_f1(gold.split(), guess.split()) for gold in golds))
    return {"em": _percent(exact), "f1": _percent(overlap)}


def _token_f1(gold: Sequence[str], guess: Sequence[str]) -> float:
    """Returns the F1 of two bags of tokens; 0 when they share none."""
    common = (Counter(gold) & Counter(guess)).total()
    if not common:
        return 0.0
    precision, recall = common / len(guess), common / len(gold)
    return 2 * precision * recall / (precision + recall)


_ASCII_PUNCTUATION = frozenset(string.punctuation)
_ENGLISH_ARTICLES = r"\b(?:a|an|the)\b"
# What MLQA's evaluation script replaces by a space in each language; None: nothing.
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
    text = "".join(c for c in text.lower() if c not in _ASCII_PUNCTUATION)
    return " ".join(re.sub(_ENGLISH_ARTICLES, " ", text).split())


def _normalize_mlqa(text: str, language: str) -> str:
    text = "".join(
        c for c in text.lower() if c not in _ASCII_PUNCTUATION and not _is_punctuation(c)
    )
    articles = _MLQA_ARTICLES[language]
    if articles is not None:
        text = re.sub(articles, " ", text)
    if language == "zh":  # each Han character is a token, runs of other scripts are words
        text = _MLQA_CHINESE.sub(r" \1 ", text)
    return " ".join(text.split())


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


# -------------------------------------------------------------------------------------- strict: NER


def strict_span_f1(
    inputs: Sequence[str], targets: Sequence[str], predictions: Sequence[str], language: str
) -> dict[str, float]:
    """Scores entities by type and position in the sentence, as seqeval does (micro average).

    Mends of `span_f1`: positions count; a span is cut at its first ': ', so that entities with
    colons count; a predicted span that is malformed or stands nowhere in the sentence is a false
    positive. The text of a target holds no positions, so both sides are aligned by `align`; where
    an entity's words also stand earlier in the sentence, its position is a guess.
    Counted in WikiANN's dev sets of 13 languages: the guess differs from the tags for 2 of 122,355
    entities; where an output leaves out one entity, 0% (hi) to 4.7% (bn) of its others are
    misplaced by that.

    Args:
      inputs: `tag: rick is in paris`.
      targets: `PER: rick $$ LOC: paris`; nothing or `None` where there is no entity.
      predictions: decoded outputs of that form.
      language: of the sentences; all are scored alike.

    Returns:
      `strict_span_f1`, `strict_span_precision`, `strict_span_recall`, fractions in [0, 1]; 0 where
      undefined.

    Raises:
      ValueError: lengths differ or there are no examples.
    """
    del language
    _check(inputs=inputs, targets=targets, predictions=predictions)
    matched = n_gold = n_predicted = 0
    for sentence, target, prediction in zip(inputs, targets, predictions, strict=True):
        tokens = words(sentence.removeprefix("tag: "))
        gold = align(tokens, parse_spans(target))
        predicted = align(tokens, parse_spans(prediction))
        # aligned spans do not overlap, so that each is there once
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

    Decoded text has gone through SentencePiece, which applies NFKC and may turn invisible
    characters (joiners, directional marks) into spaces; hence the same is done to both sides.
    """
    return _visible(text).split()


def _visible(text: str) -> str:
    """Returns a text in NFKC, with spaces for its invisible characters."""
    text = unicodedata.normalize("NFKC", text)
    return "".join(" " if unicodedata.category(c) in ("Cf", "Cc") else c for c in text)


def parse_spans(text: str) -> list[tuple[str, list[str]]]:
    """Reads `PER: rick $$ LOC: paris`.

    Args:
      text: a target or a decoded output.

    Returns:
      Type and words of each span, in order; a malformed span has its text for a type and no words.
      The empty string and `None` hold no spans.
    """
    spans = []
    for piece in text.split(SPAN_DELIMITER):
        piece = piece.strip()
        kind, _, surface = piece.partition(": ")
        if piece not in ("", NO_SPANS):
            spans.append((kind.strip(), words(surface)))
    return spans


def align(tokens: Sequence[str], spans: Sequence[tuple[str, Sequence[str]]]) -> list[Span | None]:
    """Finds where spans stand in a sentence.

    Spans are taken in order. Each gets the first free occurrence of its words after the end of the
    span before it, or else the first free one anywhere: targets name entities in order of
    occurrence, outputs need not.

    Args:
      tokens: words of the sentence.
      spans: type and words of each span.

    Returns:
      Type, start and end (exclusive, in tokens) of each span; None where it stands nowhere.
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

# Articles as whole words. en, es, de: MLQA's evaluation script. vi: of its list only the words that
# stand where an article would; của 'of' and là 'to be' are left out. The others are closed classes:
# all forms of the definite and indefinite article. Languages that are not here have no articles, or
# write them as suffixes or one-letter prefixes that cannot be told from a stem (bg, eu, he, ro).
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
# Articles that lose their vowel before another: l'eau, un'amica; also with padding, l ' eau.
_ELIDED = {
    "fr": regex.compile(r"(?<![\p{L}\p{M}\p{N}])l\s*['’]"),
    "it": regex.compile(r"(?<![\p{L}\p{M}\p{N}])(?:l|un)\s*['’]"),
}
# The Arabic article is written as one word with its noun, which has two letters at least; any of
# them may carry vowel signs.
_ARABIC_ARTICLE = regex.compile(r"^ا\p{M}*ل\p{M}*(?=\p{L}\p{M}*\p{L})")
_ASCII_WORD = regex.compile(r"((?:[!-~]\p{M}*)+)")
# Languages written without spaces between words.
UNSPACED = frozenset({"ja", "my", "th", "zh"})


def strict_squad(
    inputs: Sequence[str], targets: Answers, predictions: Sequence[str], language: str
) -> dict[str, float]:
    """Computes exact match and token F1 of answers, normalised as their language asks.

    Mends of `squad`: NFKC first; punctuation of all scripts (Unicode categories P*) is removed, and
    symbols ($, +) are kept; articles are those of the language (`ARTICLES`), and an answer that is
    nothing but articles is kept; languages written without spaces are compared by character; two
    empty answers agree in both scores.

    Args:
      inputs: the questions; not looked at.
      targets: accepted answers of each question.
      predictions: one decoded output a question.
      language: of the answers.

    Returns:
      `strict_em` and `strict_f1`, percent, the best over the accepted answers.

    Raises:
      ValueError: lengths differ, there are no examples, or a question has no list of answers.
    """
    _check(inputs=inputs, targets=targets, predictions=predictions)
    _check_answers(targets)
    exact, overlap = [], []
    for answers, prediction in zip(targets, predictions, strict=True):
        golds = [answer_tokens(answer, language) for answer in answers]
        guess = answer_tokens(prediction, language)
        exact.append(guess in golds)
        overlap.append(max(1.0 if gold == guess else _token_f1(gold, guess) for gold in golds))
    return {"strict_em": _percent(exact), "strict_f1": _percent(overlap)}


def answer_tokens(text: str, language: str) -> list[str]:
    """Normalises an answer for comparison.

    Args:
      text: an answer, punctuation padded with spaces or not.
      language: of the answer.

    Returns:
      Its tokens in order: NFKC, lower case, without punctuation and articles; cut at invisible
      characters, for which decoded text may have spaces, see `words`.
    """
    text = _visible(text).lower()
    if language in _ELIDED:
        text = _ELIDED[language].sub(" ", text)
    text = "".join(c for c in text if not _is_punctuation(c))
    tokens = _characters(text) if language in UNSPACED else text.split()
    if language == "ar":
        return [_ARABIC_ARTICLE.sub("", token) for token in tokens]
    articles = ARTICLES.get(language, frozenset())
    return [token for token in tokens if token not in articles] or tokens


def _characters(text: str) -> list[str]:
    """Cuts text into characters with their marks; words and numbers in ASCII stay whole."""
    return [
        token
        for run in _ASCII_WORD.split(text)
        for token in ([run] if _ASCII_WORD.fullmatch(run) else characters(run))
        if not token.isspace()
    ]


# ----------------------------------------------------------------------------------- strict: labels


def strict_accuracy(
    inputs: Sequence[str],
    targets: Sequence[str],
    predictions: Sequence[str],
    language: str,
    labels: Sequence[str] = XNLI_LABELS,
) -> dict[str, float]:
    """Computes accuracy regardless of white space around a label, and the share of non-labels.

    Args:
      inputs: not looked at.
      targets: one label an example.
      predictions: one decoded output an example.
      language: of the inputs; all are scored alike.
      labels: the closed set of labels.

    Returns:
      `strict_accuracy`, percent; `invalid`, percent of the outputs that are none of the labels.

    Raises:
      ValueError: lengths differ, there are no examples, or a target is none of the labels.
    """
    del language
    _check(inputs=inputs, targets=targets, predictions=predictions)
    known = frozenset(labels)
    golds = [target.strip() for target in targets]
    guesses = [prediction.strip() for prediction in predictions]
    strange = sorted(set(golds) - known)
    if strange:
        raise ValueError(f"targets must be of {sorted(known)}, found {strange[:3]}")
    return {
        "strict_accuracy": _percent([t == p for t, p in zip(golds, guesses, strict=True)]),
        "invalid": _percent([guess not in known for guess in guesses]),
    }


# ------------------------------------------------------------------------------------- strict: tags


def strict_tags(
    inputs: Sequence[str], targets: Sequence[str], predictions: Sequence[str], language: str
) -> dict[str, float]:
    """Computes how many tokens have their tag, and how many outputs have another number of tags.

    Mends of `tag_f1`: every token counts by itself, whatever its tag's first letter.

    Args:
      inputs: not looked at.
      targets: one tag a token, one string a sentence.
      predictions: decoded outputs of that form.
      language: of the inputs; all are scored alike.

    Returns:
      `strict_token_accuracy`; `other_length`, of the outputs; percent.

    Raises:
      ValueError: lengths differ, or there are no tags.
    """
    del language
    _check(inputs=inputs, targets=targets, predictions=predictions)
    other = [len(t.split()) != len(p.split()) for t, p in zip(targets, predictions, strict=True)]
    accuracy = token_accuracy(targets, predictions)["token_accuracy"]
    return {"strict_token_accuracy": accuracy, "other_length": _percent(other)}
