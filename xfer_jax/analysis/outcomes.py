"""Classifies outputs: correct answers, types of error, and outputs in another language.

The kinds of outcome depend on the task:

- Classification: `correct`, and each confusion of labels, such as `entailment as neutral`.
- Entities in the references: `correct`, `wrong type` (right words, other type), `wrong boundary`
  (overlapping words), `missing`. Predicted entities: `spurious` (words of the sentence that
  overlap no entity), `hallucinated` (words that are not in the sentence), `malformed`.
- Question answering: `correct`, `partial` (shares a word with a reference), `wrong` (words of the
  context), `hallucinated` (other words), `empty`.
- Tagging, per token: `correct`, `wrong tag`, `no tag`, and `too many` (tags without a token).
- Generated text also has `other language`: outputs whose new words are in the source language or
  in another script ("accidental translation").
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Set

from seqio_tasks import languages, metrics, strict_metrics
from seqio_tasks.families import xnli
from seqio_tasks.words import words
from xfer_jax.results.predictions import Outputs

OTHER_LANGUAGE = "other language"
CORRECT = "correct"
ENTITIES = (CORRECT, "wrong type", "wrong boundary", "missing")
PREDICTED = ("spurious", "hallucinated", "malformed")  # predicted entities, not in the references
ANSWERS = (CORRECT, "partial", "wrong", "hallucinated", "empty")
TAGS = (CORRECT, "wrong tag", "no tag", "too many")
NO_LABEL = "no label"


def kinds(outputs: Outputs) -> tuple[str, ...]:
    """Returns the kinds of outcome of a task, in display order."""
    text_format = outputs.task.family.format
    if text_format.labels:
        names = label_names(text_format.labels)
        wrong = [f"{a} as {b}" for a in names for b in (*names, NO_LABEL) if a != b]
        return (CORRECT, *wrong)
    if text_format.tags:
        return TAGS
    return ANSWERS if text_format.answers_field else (*ENTITIES, *PREDICTED)


def label_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Returns readable names of labels (the labels of XNLI are numbers)."""
    return xnli.LABELS if labels == metrics.XNLI_LABELS else labels


def count(outputs: Outputs) -> tuple[Counter[str], int]:
    """Counts the outcomes of a model's answers to a task.

    Returns:
      The count of each kind, and the total: the number of examples, of entities in the references,
      or of tokens (tagging).
    """
    text_format = outputs.task.family.format
    if text_format.labels:
        return _labels(outputs), len(outputs.answers)
    if text_format.answers_field:
        return _answers(outputs), len(outputs.answers)
    if text_format.tags:
        return _tags(outputs)
    return _entities(outputs)


def _labels(outputs: Outputs) -> Counter[str]:
    labels = outputs.task.family.format.labels
    named = dict(zip(labels, label_names(labels), strict=True))
    found: Counter[str] = Counter()
    for reference, answer in zip(outputs.references, outputs.answers, strict=True):
        gold, guess = named[reference.strip()], named.get(answer.strip(), NO_LABEL)
        found[CORRECT if gold == guess else f"{gold} as {guess}"] += 1
    return found


def _entities(outputs: Outputs) -> tuple[Counter[str], int]:
    found: Counter[str] = Counter()
    total = 0
    for sentence, reference, answer in zip(
        outputs.inputs, outputs.references, outputs.answers, strict=True
    ):
        tokens = strict_metrics.words(sentence.removeprefix(metrics.TAG_PROMPT))
        gold = [
            span
            for span in strict_metrics.align(tokens, strict_metrics.parse_spans(reference))
            if span
        ]
        parsed = strict_metrics.parse_spans(answer)
        aligned = strict_metrics.align(tokens, parsed)
        guessed = [span for span in aligned if span]
        total += len(gold)
        for kind, start, end in gold:
            overlapping = [g for g in guessed if g[1] < end and start < g[2]]
            if (kind, start, end) in overlapping:
                found[CORRECT] += 1
            elif any(g[1:] == (start, end) for g in overlapping):
                found["wrong type"] += 1
            else:
                found["wrong boundary" if overlapping else "missing"] += 1
        for _, start, end in guessed:
            if not any(start < e and s < end for _, s, e in gold):
                found["spurious"] += 1
        for (_, surface), span in zip(parsed, aligned, strict=True):
            if span is None:
                found["hallucinated" if surface else "malformed"] += 1
    return found, total


def _tags(outputs: Outputs) -> tuple[Counter[str], int]:
    found: Counter[str] = Counter()
    total = 0
    for reference, answer in zip(outputs.references, outputs.answers, strict=True):
        gold, guess = reference.split(), answer.split()
        total += len(gold)
        right = sum(a == b for a, b in zip(gold, guess, strict=False))
        found[CORRECT] += right
        found["wrong tag"] += min(len(gold), len(guess)) - right
        found["no tag"] += max(0, len(gold) - len(guess))
        found["too many"] += max(0, len(guess) - len(gold))
    return found, total


def _answers(outputs: Outputs) -> Counter[str]:
    language = outputs.task.language
    found: Counter[str] = Counter()
    for text, references, answer in zip(
        outputs.inputs, outputs.references, outputs.answers, strict=True
    ):
        golds = [strict_metrics.answer_tokens(reference, language) for reference in references]
        guess = strict_metrics.answer_tokens(answer, language)
        if not guess:
            found[CORRECT if guess in golds else "empty"] += 1
        elif guess in golds:
            found[CORRECT] += 1
        elif any(set(guess) & set(gold) for gold in golds):
            found["partial"] += 1
        else:
            context = f" {' '.join(strict_metrics.answer_tokens(text, language))} "
            inside = f" {' '.join(guess)} " in context
            found["wrong" if inside else "hallucinated"] += 1
    return found


# --- Languages ------------------------------------------------------------------------------------


def own_words(text: str) -> set[str]:
    """Returns the words of a text that are not numbers, see `words.words`."""
    return {word for word in words(text) if not word.isnumeric()}


def in_other_language(
    outputs: Outputs, source: str, source_words: Set[str], target_words: Set[str]
) -> int:
    """Counts outputs that are not in the target language.

    Words that an output copies from its input and words of the text format do not count. Each other
    word is foreign if its letters are not in the target language's script, or if it occurs in texts
    in the source language but not in texts in the target language. An output is in another language
    if more than half of its words that count are foreign.

    Args:
      outputs: outputs of a model trained on `source`.
      source: the source language.
      source_words: words of texts in the source language.
      target_words: words of texts in the target language.
    """
    target = outputs.task.language
    text_format = outputs.task.family.format
    if source == target or text_format.labels or text_format.tags:
        return 0
    only_source = source_words - target_words
    foreign_script = _foreign_to(target)
    in_other = 0
    for text, answer in zip(outputs.inputs, outputs.answers, strict=True):
        new_words = own_words(_content(outputs, answer)) - own_words(text)
        foreign = sum(1 for word in new_words if word in only_source or foreign_script(word))
        in_other += 2 * foreign > len(new_words)
    return in_other


def _content(outputs: Outputs, answer: str) -> str:
    """Returns an answer without the words of the text format."""
    if outputs.task.family.format.answers_field:
        return answer
    return " ".join(" ".join(surface) for _, surface in strict_metrics.parse_spans(answer))


_SCRIPTS = {  # ISO 15924 -> prefixes of the Unicode names of its letters
    "Arab": ("ARABIC",),
    "Beng": ("BENGALI",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Geor": ("GEORGIAN",),
    "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",),
    "Hans": ("CJK",),
    "Hebr": ("HEBREW",),
    "Jpan": ("CJK", "HIRAGANA", "KATAKANA"),
    "Kore": ("HANGUL", "CJK"),
    "Latn": ("LATIN",),
    "Mlym": ("MALAYALAM",),
    "Mymr": ("MYANMAR",),
    "Taml": ("TAMIL",),
    "Telu": ("TELUGU",),
    "Thai": ("THAI",),
}


def _foreign_to(language: str) -> Callable[[str], bool]:
    """Returns a function that says whether a word is in a script foreign to a language.

    Latin letters are never foreign: texts in other scripts also contain Latin names and
    abbreviations, and all miniature languages are written in Latin letters.
    """
    expected = (*_SCRIPTS[languages.LANGUAGES[language].script], "LATIN")

    def foreign(word: str) -> bool:
        letters = [unicodedata.name(c, "") for c in word if unicodedata.category(c)[0] == "L"]
        return bool(letters) and not any(name.startswith(expected) for name in letters)

    return foreign


def words_of(texts: Iterable[str]) -> set[str]:
    """Returns the words of several texts, see `own_words`."""
    return {word for text in texts for word in own_words(text)}
