"""Miniature languages: a test bench in which the causes of cross-lingual transfer are planted.

Ten invented languages have the codes ar bn en fi id ru sw es de hi. Two causes of transfer can be
set:

* **Syntax.** Each language takes its clause order, adposition side, adjective side and affix side
  from the WALS values of the real language with the same code (its namesake, see
  `World.grammar`); `World.syntax_signal` is the share of features for which this holds.
* **Lexicon.** Any two languages have the same word for a share of concepts. `World.lexical_overlap`
  is this share, the same for all pairs. `World.lexical_contrast` is the share of concepts for which
  it differs between pairs: languages are on a ring, and neighbours share most words (see
  `World.lexicon`).

Everything else is the same in all languages: names, nouns, adjectives, verbs, and the form of
clauses. Because the causes are known, an analysis of transfer can be checked. The data says nothing
about the real languages.

A clause is an optional time word, then subject, verb and object in the language's order. A place
(adposition and name) directly follows the object; this is the order of object and oblique in WALS,
or imputed by URIEL, for all ten languages (S_OBLIQUE_AFTER_OBJECT). The tense is an affix of the
verb, and the negation is directly before the verb. A negated clause has no modifiers, so that a
clause stays true when a modifier is removed.

All languages share the same names, which have no type: the entity type of a name depends only on
its role. Validation and test have the same meanings in every language, as in XNLI, so that
differences between languages are not differences between test sets; training data is drawn
separately for each language. No sentence of validation or test occurs, in any language, in the
train split of its task.

Meanings depend only on `seed`, not on the planted causes: worlds that differ in overlap or signal
express the same meanings with other words or orders, and can be compared item by item.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import gin

from seqio_tasks.errors import RequestError, did_you_mean
from seqio_tasks.miniature import concepts, grammar, meaning, speech
from seqio_tasks.miniature.concepts import FORMAT, LANGUAGES, SPLITS, STRATA, TASKS, Draws
from seqio_tasks.miniature.grammar import DEFAULT_GRAMMAR, WALS_FLAGS, Grammar
from seqio_tasks.miniature.speech import TYDI_LANGUAGES, Speaker

# --------------------------------------------------------------------------------------- world


_SHARES = ("lexical_overlap", "lexical_contrast", "syntax_signal")  # parameters from 0 to 1
_MOST_SEED = 2**63 - 1
_MOST_EXAMPLES = 100_000  # per split; all must differ, and finding more would take minutes
_ISOGLOSSES = 3  # borders on the ring between the words for a concept


def _check_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise RequestError(
            f"the miniature languages have no {what} {name!r}{did_you_mean(str(name), known)}; "
            f"choose from {', '.join(known)}"
        )


@functools.lru_cache(maxsize=4096)
def _areas(seed: int, concept: str) -> dict[str, str]:
    """Returns for each language the first language on the ring with the same word for a concept."""
    ring = Draws(seed, "ring").shuffled(LANGUAGES)
    draws = Draws(seed, "isoglosses", concept)
    borders = [draws.unit() for _ in range(_ISOGLOSSES)]
    first: dict[int, str] = {}
    found = {}
    for place, language in enumerate(ring):
        # The first and the last part of the ring are the same area.
        area = sum(border < place / len(ring) for border in borders) % _ISOGLOSSES
        found[language] = first.setdefault(area, language)
    return found


@gin.configurable(module="seqio_tasks.miniature")
@dataclasses.dataclass(frozen=True)
class World:
    """One world and its ten languages; all data is a function of these parameters.

    Raises:
        RequestError: A parameter is out of range.
    """

    seed: int = 0
    """Seed of names, words, and meanings."""
    lexical_overlap: float = 0.5
    """Expected share of content concepts for which two languages have the same word, 0 to 1."""
    lexical_contrast: float = 0.0
    """Share of concepts whose words are shared more often by neighbours on the ring, 0 to 1."""
    syntax_signal: float = 1.0
    """Share of a language's four order features that follow its WALS values, 0 to 1."""
    train_examples: int = 2000
    """Training examples per task and language."""
    eval_examples: int = 200
    """Examples in validation, and the same number in test; also the number of texts there."""
    text_sentences: int = 4000
    """Training texts: sentences, questions and paragraphs of two or three sentences."""

    def __post_init__(self) -> None:
        """Checks the ranges of the parameters."""
        for name in _SHARES:
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                raise RequestError(f"World.{name} must be a share from 0 to 1, not {value!r:.80}")
        sizes = ("train_examples", "eval_examples", "text_sentences")
        ranges = {"seed": (0, _MOST_SEED)} | dict.fromkeys(sizes, (1, _MOST_EXAMPLES))
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            number = isinstance(value, int) and not isinstance(value, bool)
            if not number or not least <= value <= most:
                raise RequestError(
                    f"World.{name} must be a whole number from {least} to {most}, not {value!r:.80}"
                )

    def fingerprint(self) -> str:
        """Returns a hex digest of the parameters and `FORMAT`; it names folders of cached data."""
        knobs = dataclasses.asdict(self)
        for name in _SHARES:
            knobs[name] = float(knobs[name])  # 1 and 1.0 are the same world
        text = json.dumps({"format": FORMAT, **knobs}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def names(self) -> tuple[str, ...]:
        """Returns the names of the world, which are the same in every language."""
        return concepts.words_of(self.seed).names

    def grammar(self, language: str) -> Grammar:
        """Returns a language's word order.

        A feature that follows WALS has the value that `choose_value` finds for the namesake in
        URIEL's `syntax_wals`, or in `syntax_knn` if WALS does not have it; the others have the
        value of `DEFAULT_GRAMMAR`. `seed` decides for each language which of the four features
        follow WALS; a larger `syntax_signal` only adds features.

        Args:
            language: One of `LANGUAGES`.

        Raises:
            RequestError: The language is unknown, or lang2vec is needed but not installed.
        """
        _check_known("language", language, LANGUAGES)
        draws = Draws(self.seed, "syntax", language)
        followed = draws.share(list(WALS_FLAGS), self.syntax_signal)
        if not followed:
            return DEFAULT_GRAMMAR
        wals = grammar.wals_grammar(language)
        return dataclasses.replace(
            DEFAULT_GRAMMAR,
            **{field: getattr(wals, field) for field in followed},
            imputed=tuple(field for field in wals.imputed if field in followed),
        )

    def lexicon(self, language: str) -> dict[str, str]:
        """Returns the word of each concept; 'past' and 'future' are the affixes of the verb.

        Each concept has one shared root and, in each language, one private word. A language uses
        the root for a share sqrt(`lexical_overlap`) of the concepts, drawn independently of the
        other languages. Both languages of a pair therefore use the root, and have the same word,
        for an expected share `lexical_overlap`. The draw is stratified (nouns, adjectives, verbs,
        time words, function words, affixes): each language gets its share of every stratum, up to
        rounding, so that all pairs are close to the expected share. A larger `lexical_overlap` only
        adds shared words.

        `lexical_contrast` is the share of concepts for which this does not hold. The ten languages
        are on a ring, at equal distances, in an order drawn from `seed`. For each of these
        concepts, three random borders (isoglosses) divide the ring into three areas; the languages
        in an area have the same word. Two languages at a distance of d, as a fraction of the ring,
        share an expected (1-d)³ + d³ of these words: 0.73 for neighbours, 0.25 for opposite
        languages; the mean over all other languages is 0.45.

        Args:
            language: One of `LANGUAGES`.

        Raises:
            RequestError: The language is unknown.
        """
        _check_known("language", language, LANGUAGES)
        words = concepts.words_of(self.seed)
        lexicon = dict(words.private[language])
        for stratum, members in STRATA.items():
            draws = Draws(self.seed, "lexicon", language, stratum)
            for concept in draws.share(members, math.sqrt(self.lexical_overlap)):
                lexicon[concept] = words.shared[concept]
            regional = Draws(self.seed, "regional", stratum).share(members, self.lexical_contrast)
            for concept in regional:
                lexicon[concept] = words.private[_areas(self.seed, concept)[language]][concept]
        return lexicon

    def syntactic_similarity(self, one: str, other: str) -> float:
        """Returns the share of the four features of `grammar` in which two languages agree."""
        grammars = [dataclasses.asdict(self.grammar(language)) for language in (one, other)]
        return sum(grammars[0][field] == grammars[1][field] for field in WALS_FLAGS) / 4

    def lexical_similarity(self, one: str, other: str) -> float:
        """Returns the share of all concepts for which two languages have the same word."""
        lexicons = [self.lexicon(language) for language in (one, other)]
        return sum(lexicons[0][c] == lexicons[1][c] for c in lexicons[0]) / len(lexicons[0])

    def examples(self, task: str, language: str, split: str) -> list[dict[str, Any]]:
        """Returns labelled examples with the same fields as the real data set of the task.

        * nli: `premise`, `hypothesis`, `label` (0 entailment, 1 neutral, 2 contradiction).
        * ner: `tokens`, `tags` (BIO), `langs`, `spans`. A name is PER as subject, ORG as object,
          LOC after or before an adposition.
        * qa: `id`, `question`, `context`, `answers` with `text` and `answer_start`.

        Args:
            task: One of `TASKS`.
            language: One of `LANGUAGES`.
            split: 'train', 'validation' or 'test'.

        Raises:
            RequestError: The task, language or split is unknown.
        """
        _check_known("task", task, TASKS)
        _check_known("split", split, SPLITS)
        speaker = self._speaker(language)
        sizes = (self.train_examples, self.eval_examples)
        drafts = meaning.drafts(task, language, split, self.seed, *sizes)
        if task == "nli":
            return [speech.nli_example(draft, speaker) for draft in drafts]
        if task == "ner":
            names = frozenset(self.names())
            return [speech.ner_example(draft, speaker, language, names) for draft in drafts]
        prefix = f"{TYDI_LANGUAGES[language]}--{split}"
        return [
            speech.qa_example(draft, speaker, f"{prefix}-{i}") for i, draft in enumerate(drafts)
        ]

    def text(self, language: str, split: str = "train") -> list[str]:
        """Returns unlabelled texts: sentences, questions and short paragraphs.

        Args:
            language: One of `LANGUAGES`.
            split: 'train', 'validation' or 'test'.

        Raises:
            RequestError: The language or split is unknown.
        """
        _check_known("split", split, SPLITS)
        speaker = self._speaker(language)
        sizes = (self.text_sentences, self.eval_examples)
        drafts = meaning.drafts("text", language, split, self.seed, *sizes)
        return [speaker.text(draft.sentences) for draft in drafts]

    def _speaker(self, language: str) -> Speaker:
        return Speaker(self.grammar(language), self.lexicon(language), self.names())
