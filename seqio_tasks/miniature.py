"""Miniature languages: a test bench where the cause of cross-lingual transfer is planted.

Ten invented languages stand for ar bn en fi id ru sw es de hi. Two causes of transfer can be set:

* **Syntax.** Each language takes its clause order, adposition side, adjective side and affix side
  from the WALS values of its namesake (see `World.grammar`); `World.syntax_signal` says how much.
* **Lexicon.** Any two languages have the same word for a share of concepts. `World.lexical_overlap`
  chooses it for all pairs alike; as far as `World.lexical_contrast` says, it differs from pair to
  pair instead: languages live around a ring, and neighbours share most (see `World.lexicon`).

Everything else is equal: one world of names, nouns, adjectives and verbs, one way to write clauses.
Because the causes are known, an analysis of transfer can be checked. Nothing made here says
anything about the real languages.

A clause is an optional time word, then subject, verb and object in the language's order. A place
(adposition and name) follows the object at once, which is the order of object and oblique that
WALS gives, or URIEL imputes, for all ten (S_OBLIQUE_AFTER_OBJECT). The verb carries its tense as an
affix, and the negation stands right before the verb. A negated clause has no modifiers, so that
dropping a modifier always keeps a clause true.

Names are shared by all languages and have no type: what a name is follows from its role alone.
Validation and test say the same things in every language, as XNLI does, so that differences between
languages are not differences between test sets; training data is drawn for each language apart.
No sentence of validation or test occurs, in any language, in the train split of its task.

Meanings depend on `seed` alone, not on the planted causes: worlds that differ in overlap or signal
say the same things in other words or orders, and can be compared item by item.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

import gin
import numpy as np

from seqio_tasks import uriel
from seqio_tasks.errors import RequestError, did_you_mean

FORMAT = 1
"""Raised whenever the same knobs begin to yield other data."""

LANGUAGES = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")
TASKS = ("nli", "ner", "qa")
SPLITS = ("train", "validation", "test")
ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2

# What the world is made of. Concepts are named by an English gloss; `World.lexicon` words them.
NOUNS = (
    *("dog", "cat", "horse", "bird", "fish"),
    *("teacher", "doctor", "farmer", "king", "child"),
    *("river", "mountain", "tree", "star", "stone", "garden"),
    *("house", "market", "bridge", "ship", "book", "bread", "song", "letter"),
)
ADJECTIVES = (
    *("big", "small", "old", "new", "red", "blue"),
    *("quiet", "loud", "strong", "weak", "fast", "slow"),
)
OPPOSITE_VERBS = (
    ("love", "hate"),
    ("help", "hinder"),
    ("praise", "blame"),
    ("find", "lose"),
    ("buy", "sell"),
    ("build", "destroy"),
    ("trust", "suspect"),
    ("choose", "reject"),
)
VERBS = tuple(verb for pair in OPPOSITE_VERBS for verb in pair)
TIMES = {"past": ("yesterday", "long_ago"), "future": ("tomorrow", "soon")}
TENSES = tuple(TIMES)
ADPOSITIONS = ("in", "near", "behind")
FUNCTION_WORDS = (*ADPOSITIONS, "not", "and", "who", "what", "where")
STRATA = {
    "noun": NOUNS,
    "adjective": ADJECTIVES,
    "verb": VERBS,
    "time": tuple(word for words in TIMES.values() for word in words),
    "function": FUNCTION_WORDS,
    "affix": TENSES,
}
CONTENT_CONCEPTS = STRATA["noun"] + STRATA["adjective"] + STRATA["verb"] + STRATA["time"]
N_NAMES = 60

_NOUNS = frozenset(NOUNS)
_OPPOSITE = {a: b for pair in OPPOSITE_VERBS for a, b in (pair, pair[::-1])}
_T = TypeVar("_T")


# ------------------------------------------------------------------------------------ grammars


@dataclasses.dataclass(frozen=True)
class Grammar:
    """How a miniature language orders its words.

    Two grammars are equal when they order words alike, however their values became known.
    """

    order: str  # of subject, verb and object: 'SVO', 'SOV', 'VSO', 'VOS', 'OVS' or 'OSV'
    adposition: str  # 'before' or 'after' its name
    adjective: str  # 'before' or 'after' its noun
    affix: str  # the tense affix of the verb: 'prefix' or 'suffix'
    imputed: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Fields whose value WALS does not know and URIEL's nearest neighbours supplied."""


DEFAULT_GRAMMAR = Grammar("SVO", "before", "before", "suffix")
"""What a language speaks as far as it does not follow WALS."""

# Each field's values and the URIEL flag that stands for the value. Flags of one field are not
# exclusive: a language with two dominant orders has both set.
_WALS_FLAGS = {
    "order": {order: f"S_{order}" for order in ("SVO", "SOV", "VSO", "VOS", "OVS", "OSV")},
    "adposition": {
        "before": "S_ADPOSITION_BEFORE_NOUN",
        "after": "S_ADPOSITION_AFTER_NOUN",
    },
    "adjective": {"before": "S_ADJECTIVE_BEFORE_NOUN", "after": "S_ADJECTIVE_AFTER_NOUN"},
    "affix": {"prefix": "S_TEND_PREFIX", "suffix": "S_TEND_SUFFIX"},
}
# Each language's code in URIEL. Arabic is `ara`, the row that knows most of WALS's features.
_URIEL_CODES = {
    "ar": "ara",
    "bn": "ben",
    "en": "eng",
    "fi": "fin",
    "id": "ind",
    "ru": "rus",
    "sw": "swa",
    "es": "spa",
    "de": "deu",
    "hi": "hin",
}


@functools.cache
def _uriel_flags(feature_set: str) -> dict[str, dict[str, bool | None]]:
    """Returns the flags of a URIEL set by language and flag name; None where unknown."""
    try:
        flags, rows = uriel.values(list(_URIEL_CODES.values()), feature_set)
    except RequestError as error:
        raise RequestError(f"{error}, or set World.syntax_signal = 0") from error
    return {
        language: {
            flag: None if math.isnan(value) else value > 0.5
            for flag, value in zip(flags, row.tolist(), strict=True)
        }
        for language, row in zip(_URIEL_CODES, rows, strict=True)
    }


def choose_value(field: str, flags: dict[str, bool | None]) -> str | None:
    """Turns the WALS flags of one field into one value.

    One flag set: its value. Several set: the first of them that is not the default's, so that a
    language which shares the default order *and* has another is not taken for a plain follower of
    the default (Arabic, SVO and VSO, becomes VSO; German, SVO and SOV, becomes SOV). None set:
    the default's.

    Args:
        field: A field of `Grammar` that holds a word order.
        flags: By flag name, whether it is set; None where unknown.

    Returns:
        The value, or None where no flag of the field is known.
    """
    known = {value: flags[flag] for value, flag in _WALS_FLAGS[field].items()}
    if all(is_set is None for is_set in known.values()):
        return None
    default = getattr(DEFAULT_GRAMMAR, field)
    chosen = [value for value, is_set in known.items() if is_set]
    return next((value for value in chosen if value != default), default)


@functools.cache
def _wals_grammar(language: str) -> Grammar:
    """Returns the grammar that a language's namesake has in WALS, gaps filled by imputation."""
    values, imputed = {}, []
    for field in _WALS_FLAGS:
        value = choose_value(field, _uriel_flags("syntax_wals")[language])
        if value is None:
            value = choose_value(field, _uriel_flags("syntax_knn")[language])
            imputed.append(field)
        values[field] = value or getattr(DEFAULT_GRAMMAR, field)
    return Grammar(**values, imputed=tuple(imputed))


# -------------------------------------------------------------------------------------- chance


class _Draws:
    """Random draws that depend on a key only.

    Everything is derived from the generator's uniform doubles, the one stream that NumPy is least
    likely to change between releases, and taken from it in blocks, since single draws are slow.
    """

    def __init__(self, *key: object):
        text = "|".join(map(str, (FORMAT, *key)))
        digest = hashlib.sha256(text.encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        blocks = (rng.random(512).tolist() for _ in itertools.repeat(None))
        self.unit: Callable[[], float] = itertools.chain.from_iterable(blocks).__next__

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, options: Sequence[_T]) -> _T:
        return options[int(self.unit() * len(options))]

    def shuffled(self, options: Sequence[_T]) -> list[_T]:
        keys = [self.unit() for _ in options]
        return [options[i] for i in sorted(range(len(options)), key=keys.__getitem__)]

    def share(self, options: Sequence[_T], share: float) -> set[_T]:
        """Takes that share of the options: exactly in expectation, and as evenly as can be.

        A larger share of the same options under the same key holds the smaller one.
        """
        count = int(len(options) * share + self.unit())
        return set(self.shuffled(options)[:count])


# --------------------------------------------------------------------------------------- words

# Consonants and vowels of the private words, after the look of each namesake in Latin letters.
# Words alternate consonants and vowels: that they begin with a consonant and end in a vowel is what
# keeps them apart from every verb that carries an affix.
_SOUNDS = {
    "shared": ("b d g k l m n p r s t", "a e i o u"),
    "ar": ("b d h j k kh l m n q r s sh t z", "a i u"),
    "bn": ("b bh ch d dh g j k m n r sh t", "a e i o"),
    "en": ("b ch d f g l m n r s sh th w", "a e i o"),
    "fi": ("h j k l m n p r s t v", "a e i o u y"),
    "id": ("b d g h j k l m ng ny p r s t", "a e i u"),
    "ru": ("b d g k l m n p r s sk st v z zh", "a e i o y"),
    "sw": ("b ch d f k l m mb mw nd ng ny w", "a e i o u"),
    "es": ("b c d f g ll m n p r rr s t v", "a e o"),
    "de": ("b d f g k l n pf r s sch st w z", "a e i u"),
    "hi": ("b bh d dh g gh h j k kh m n p r", "a e i o u"),
}
_NAME_SYLLABLES = "za ro vi xu li ne qa to my fe dro ba ki zhu lo ra ve sa ti no"


class _Words(NamedTuple):
    names: tuple[str, ...]
    shared: dict[str, str]  # concept -> the root that languages may have in common
    private: dict[str, dict[str, str]]  # language -> concept -> its own word


@functools.lru_cache(maxsize=8)
def _words(seed: int) -> _Words:
    """Invents all names and words of a world; no two of them are the same."""
    taken = set(CONTENT_CONCEPTS + FUNCTION_WORDS)  # a gloss that is a word would mislead readers

    def invent(draw: Callable[[], str]) -> str:
        word = draw()
        while word in taken:
            word = draw()
        taken.add(word)
        return word

    def vocabulary(inventory: str) -> dict[str, str]:
        draws = _Draws(seed, "words", inventory)
        consonants, vowels = (sounds.split() for sounds in _SOUNDS[inventory])
        endings = [consonant for consonant in consonants if len(consonant) == 1]

        def root() -> str:
            syllables = 2 + draws.chance(0.3)
            return "".join(draws.pick(consonants) + draws.pick(vowels) for _ in range(syllables))

        def affix() -> str:  # begins with a vowel and ends in a consonant, as no root does
            return draws.pick(vowels) + draws.pick(endings)

        return {
            concept: invent(affix if stratum == "affix" else root)
            for stratum, concepts in STRATA.items()
            for concept in concepts
        }

    name_draws, name_syllables = _Draws(seed, "names"), _NAME_SYLLABLES.split()

    def name() -> str:
        syllables = 2 + name_draws.chance(0.3)
        return "".join(name_draws.pick(name_syllables) for _ in range(syllables))

    names = tuple(invent(name) for _ in range(N_NAMES))
    shared = vocabulary("shared")
    return _Words(names, shared, {language: vocabulary(language) for language in LANGUAGES})


# ------------------------------------------------------------------------------------ meanings


class _Phrase(NamedTuple):
    """A name, a question word, or a noun with perhaps an adjective."""

    head: str
    adjective: str | None = None


class _Clause(NamedTuple):
    """What is said, before any language orders it."""

    subject: _Phrase
    verb: str
    object: _Phrase
    tense: str
    negated: bool = False
    place: tuple[str, str] | None = None  # adposition and name
    time: str | None = None

    def bare(self) -> "_Clause":
        """Returns the clause without modifiers."""
        subject, object_ = _Phrase(self.subject.head), _Phrase(self.object.head)
        return self._replace(subject=subject, object=object_, place=None, time=None)


class _Sentence(NamedTuple):
    clauses: tuple[_Clause, ...]
    mark: str = "."


class _Draft(NamedTuple):
    """The meaning of one example."""

    sentences: tuple[_Sentence, ...]  # nli: premise, hypothesis; qa: the context's, then question
    label: int = 0  # nli
    answer: tuple[int, str] = (0, "")  # qa: number of the sentence, role in it


class _Rates(NamedTuple):
    """How often a clause has what."""

    name: float  # that a subject or an object is a name and not a noun
    adjective: float  # that a noun has an adjective
    place: float
    time: float
    negated: float


_NER_RATES = _Rates(name=0.55, adjective=0.3, place=0.5, time=0.25, negated=0.08)
_NAMELESS_RATES = _Rates(name=0.0, adjective=0.5, place=0.0, time=0.5, negated=0.1)
_NLI_RATES = _Rates(name=0.6, adjective=0.5, place=0.4, time=0.25, negated=0.2)
_QA_RATES = _Rates(name=0.75, adjective=0.25, place=0.35, time=0.15, negated=0.0)
_TEXT_RATES = _Rates(name=0.55, adjective=0.35, place=0.4, time=0.25, negated=0.15)
_NER_TOKENS = range(5, 11)
_NER_NAMES = range(1, 4)
_NER_NAMELESS = 0.05  # share of sentences without a name
_NLI_ASIDE = 0.7  # share of premises with a second clause: high, as entailments often need one
_QA_MIRROR = 0.6  # share of contexts that the order of words alone can resolve


class _Writer:
    """Draws clauses for one example, none of whose names and nouns meet twice by accident."""

    def __init__(self, draws: _Draws, names: Sequence[str], rates: _Rates):
        self.draws, self.names, self.rates = draws, names, rates
        self._used: set[str] = set()

    def fresh(self, pool: Sequence[str]) -> str:
        """Draws from the pool what the example does not mention yet."""
        word = self.draws.pick(pool)
        while word in self._used:
            word = self.draws.pick(pool)
        self._used.add(word)
        return word

    def participant(self) -> _Phrase:
        is_name = self.draws.chance(self.rates.name)
        return _Phrase(self.fresh(self.names if is_name else NOUNS))

    def adorned(self, phrase: _Phrase) -> _Phrase:
        """Gives a noun that has no adjective one, sometimes."""
        plain_noun = phrase.adjective is None and phrase.head in _NOUNS
        if plain_noun and self.draws.chance(self.rates.adjective):
            return _Phrase(phrase.head, self.draws.pick(ADJECTIVES))
        return phrase

    def place(self) -> tuple[str, str]:
        return self.draws.pick(ADPOSITIONS), self.fresh(self.names)

    def enriched(self, clause: _Clause) -> _Clause:
        """Adds modifiers where there are none, sometimes; the result entails the clause."""
        draws, rates = self.draws, self.rates
        place, time = clause.place, clause.time
        if place is None and draws.chance(rates.place):
            place = self.place()
        if time is None and draws.chance(rates.time):
            time = draws.pick(TIMES[clause.tense])
        subject, object_ = self.adorned(clause.subject), self.adorned(clause.object)
        return _Clause(subject, clause.verb, object_, clause.tense, clause.negated, place, time)

    def clause(
        self,
        subject: _Phrase | None = None,
        object_: _Phrase | None = None,
        but_verb: str | None = None,
    ) -> _Clause:
        """Draws a clause, about given participants if any, with any verb but one."""
        draws = self.draws
        verbs = [verb for verb in VERBS if verb != but_verb] if but_verb else VERBS
        clause = _Clause(
            subject or self.participant(),
            draws.pick(verbs),
            object_ or self.participant(),
            draws.pick(TENSES),
        )
        if draws.chance(self.rates.negated):
            return clause.bare()._replace(negated=True)
        return self.enriched(clause)

    def aside(self, about: _Clause, but_verb: str | None = None) -> _Clause:
        """Draws a clause that neither follows from another nor denies it.

        Half of those that can share one name with it. Nouns are not shared, since an adjective that
        they have here would be known of them there.
        """
        shared = [phrase for phrase in (about.subject, about.object) if phrase.head not in _NOUNS]
        if not shared or self.draws.chance(0.5):
            return self.clause(but_verb=but_verb)
        participant = self.draws.pick(shared)
        if self.draws.chance(0.5):
            return self.clause(subject=participant, but_verb=but_verb)
        return self.clause(object_=participant, but_verb=but_verb)


def _count_tokens(clauses: Sequence[_Clause]) -> int:
    """Returns the length of a sentence, the same in every language."""
    words = 0
    for c in clauses:
        words += 3 + c.negated + 2 * (c.place is not None) + (c.time is not None)
        words += (c.subject.adjective is not None) + (c.object.adjective is not None)
    return words + len(clauses)  # a conjunction between two clauses, a mark at the end


def _count_names(clauses: Sequence[_Clause]) -> int:
    heads = [phrase.head for c in clauses for phrase in (c.subject, c.object)]
    return sum(head not in _NOUNS for head in heads) + sum(c.place is not None for c in clauses)


def _draft_ner(draws: _Draws, names: Sequence[str], number: int) -> _Draft:
    del number
    nameless = draws.chance(_NER_NAMELESS)
    n_names: Collection[int] = (0,) if nameless else _NER_NAMES
    while True:
        writer = _Writer(draws, names, _NAMELESS_RATES if nameless else _NER_RATES)
        clauses = tuple(writer.clause() for _ in range(1 + draws.chance(0.35)))
        if _count_tokens(clauses) in _NER_TOKENS and _count_names(clauses) in n_names:
            return _Draft((_Sentence(clauses),))


def _entailing(writer: _Writer, hypothesis: _Clause) -> _Clause:
    """Returns a clause that the hypothesis follows from: it may say more, unless it is negated."""
    return hypothesis if hypothesis.negated else writer.enriched(hypothesis)


def _contradicting(writer: _Writer, hypothesis: _Clause) -> _Clause:
    """Returns a clause that denies the hypothesis.

    No verb of this world is mutual, and none goes together with its opposite.
    """
    if hypothesis.negated:
        return writer.enriched(hypothesis._replace(negated=False))
    way = writer.draws.pick(("negate", "swap", "opposite"))
    if way == "negate":
        return hypothesis.bare()._replace(negated=True)
    if way == "swap":
        denial = hypothesis._replace(subject=hypothesis.object, object=hypothesis.subject)
    else:
        denial = hypothesis._replace(verb=_OPPOSITE[hypothesis.verb])
    return writer.enriched(denial)


def _neutral(writer: _Writer, hypothesis: _Clause) -> _Clause:
    """Returns a clause that leaves the hypothesis open."""
    draws = writer.draws
    modified = [field for field in ("subject", "object") if getattr(hypothesis, field).adjective]
    modified += [field for field in ("place", "time") if getattr(hypothesis, field)]
    if modified and draws.chance(0.5):  # the hypothesis adds a modifier
        field = draws.pick(modified)
        clause = writer.enriched(hypothesis)
        bare: dict[str, Any] = {field: getattr(clause.bare(), field)}
        return clause._replace(**bare)
    changed = draws.pick(("subject", "object", "verb", "tense"))
    if changed == "verb":
        others = [v for v in VERBS if v not in (hypothesis.verb, _OPPOSITE[hypothesis.verb])]
        clause = hypothesis._replace(verb=draws.pick(others))
    elif changed == "tense":
        other = next(tense for tense in TENSES if tense != hypothesis.tense)
        clause = hypothesis._replace(tense=other, time=None)
    elif changed == "subject":
        clause = hypothesis._replace(subject=writer.participant())
    else:
        clause = hypothesis._replace(object=writer.participant())
    if draws.chance(writer.rates.negated):  # as often as under the other labels
        return clause.bare()._replace(negated=True)
    return writer.enriched(clause._replace(negated=False))


def _draft_nli(draws: _Draws, names: Sequence[str], number: int) -> _Draft:
    """Draws the hypothesis first and writes a premise to suit the label.

    So the hypothesis alone cannot tell the label: it was drawn before the label mattered.
    """
    label = number % 3  # so that any subset from the front is balanced
    writer = _Writer(draws, names, _NLI_RATES)
    hypothesis = writer.clause()
    ways = {ENTAILMENT: _entailing, NEUTRAL: _neutral, CONTRADICTION: _contradicting}
    told = ways[label](writer, hypothesis)
    clauses = [told]
    if told == hypothesis or draws.chance(_NLI_ASIDE):  # a premise says more or something else
        clauses = draws.shuffled([told, writer.aside(hypothesis)])
    return _Draft((_Sentence(tuple(clauses)), _Sentence((hypothesis,))), label=label)


def _question(clause: _Clause, role: str, names: Collection[str]) -> _Clause:
    """Asks for the subject (S), object (O) or place (L) of a clause, question word in situ."""
    asked = clause._replace(time=None)
    if role == "L":
        assert clause.place is not None
        return asked._replace(place=(clause.place[0], "where"))
    head = (clause.subject if role == "S" else clause.object).head
    word = _Phrase("who" if head in names else "what")
    if role == "S":
        return asked._replace(subject=word, place=None)
    return asked._replace(object=word, place=None)


def _mirror(writer: _Writer, clause: _Clause, role: str) -> _Clause:
    """Returns a clause with the same verb that only the order of words tells from the asked one.

    What the question mentions stands there in the opposite role; for a place, which has no opposite
    role, with another object somewhere else.
    """
    if role == "S":
        mirror = _Clause(clause.object, clause.verb, writer.participant(), clause.tense)
    elif role == "O":
        mirror = _Clause(writer.participant(), clause.verb, clause.subject, clause.tense)
    else:
        mirror = _Clause(clause.subject, clause.verb, writer.participant(), clause.tense)
        mirror = mirror._replace(place=writer.place())
    return writer.enriched(mirror)


def _draft_qa(draws: _Draws, names: Sequence[str], number: int) -> _Draft:
    del number
    writer = _Writer(draws, names, _QA_RATES)
    role = draws.pick("SOL")
    told = writer.clause()
    if role == "L" and told.place is None:
        told = told._replace(place=writer.place())
    context = [told]
    if draws.chance(_QA_MIRROR):
        context.append(_mirror(writer, told, role))
    size = 2 + draws.chance(0.5)
    while len(context) < size:  # another verb, so that the question has one answer
        context.append(writer.aside(told, but_verb=told.verb))
    context = draws.shuffled(context)
    question = _Sentence((_question(told, role, names),), "?")
    sentences = tuple(_Sentence((clause,)) for clause in context)
    return _Draft((*sentences, question), answer=(context.index(told), role))


def _draft_text(draws: _Draws, names: Sequence[str], number: int) -> _Draft:
    del number
    writer = _Writer(draws, names, _TEXT_RATES)
    kind = draws.unit()
    if kind < 0.6:  # a sentence of one or two clauses
        clauses = tuple(writer.clause() for _ in range(1 + draws.chance(0.35)))
        return _Draft((_Sentence(clauses),))
    if kind < 0.7:  # a question
        clause = writer.clause()._replace(negated=False)
        role = draws.pick("SOL" if clause.place else "SO")
        return _Draft((_Sentence((_question(clause, role, names),), "?"),))
    paragraph = [writer.clause()]  # a paragraph, half of it about what was named before
    for _ in range(1 + draws.chance(0.5)):
        paragraph.append(writer.aside(paragraph[-1]))
    return _Draft(tuple(_Sentence((clause,)) for clause in paragraph))


_DRAFTERS = {"ner": _draft_ner, "nli": _draft_nli, "qa": _draft_qa, "text": _draft_text}


def _distinct_drafts(
    task: str, seed: int, key: Sequence[str], count: int, avoid: Collection[_Sentence]
) -> list[_Draft]:
    """Draws drafts none of whose sentences is in `avoid` or in another of them."""
    draws, names = _Draws(seed, task, *key), _words(seed).names
    drafts: list[_Draft] = []
    seen = set(avoid)
    while len(drafts) < count:
        draft = _DRAFTERS[task](draws, names, len(drafts))
        if seen.isdisjoint(draft.sentences):
            seen.update(draft.sentences)
            drafts.append(draft)
    return drafts


@functools.lru_cache(maxsize=8)
def _evaluation_drafts(task: str, seed: int, count: int) -> dict[str, list[_Draft]]:
    """Returns the drafts of validation and test, which all languages have in common."""
    validation = _distinct_drafts(task, seed, ["validation"], count, ())
    known = {sentence for draft in validation for sentence in draft.sentences}
    return {
        "validation": validation,
        "test": _distinct_drafts(task, seed, ["test"], count, known),
    }


def _drafts(
    task: str, language: str, split: str, seed: int, n_train: int, n_eval: int
) -> list[_Draft]:
    evaluation = _evaluation_drafts(task, seed, n_eval)
    if split in evaluation:
        return evaluation[split]
    known = {s for drafts in evaluation.values() for draft in drafts for s in draft.sentences}
    return _distinct_drafts(task, seed, ["train", language], n_train, known)


# -------------------------------------------------------------------------------------- speech

_Tagged = list[tuple[str, str]]  # words with their role: S, V, O, L (name of a place) or ''
_ENTITY_OF_ROLE = {"S": "PER", "O": "ORG", "L": "LOC"}
# The source language of a TyDi QA example is read off the first part of its id.
_TYDI_LANGUAGES = {
    "ar": "arabic",
    "bn": "bengali",
    "en": "english",
    "fi": "finnish",
    "id": "indonesian",
    "ru": "russian",
    "sw": "swahili",
    "es": "spanish",
    "de": "german",
    "hi": "hindi",
}


class _Speaker:
    """Says meanings in one language."""

    def __init__(self, grammar: Grammar, lexicon: dict[str, str], names: Sequence[str]):
        self.grammar = grammar
        self.words = {**lexicon, **{name: name for name in names}}
        self.verbs = {
            (verb, tense): lexicon[tense] + lexicon[verb]
            if grammar.affix == "prefix"
            else lexicon[verb] + lexicon[tense]
            for verb in VERBS
            for tense in TENSES
        }

    def phrase(self, phrase: _Phrase, role: str) -> _Tagged:
        noun = (self.words[phrase.head], role)
        if phrase.adjective is None:
            return [noun]
        adjective = (self.words[phrase.adjective], role)
        return [adjective, noun] if self.grammar.adjective == "before" else [noun, adjective]

    def clause(self, clause: _Clause) -> _Tagged:
        spoken: _Tagged = [(self.words[clause.time], "")] if clause.time else []
        for slot in self.grammar.order:
            if slot == "S":
                spoken += self.phrase(clause.subject, "S")
            elif slot == "V":
                if clause.negated:
                    spoken.append((self.words["not"], ""))
                spoken.append((self.verbs[clause.verb, clause.tense], "V"))
            else:
                spoken += self.phrase(clause.object, "O")
                if clause.place:
                    place = [(self.words[clause.place[0]], ""), (self.words[clause.place[1]], "L")]
                    spoken += place if self.grammar.adposition == "before" else place[::-1]
        return spoken

    def sentence(self, sentence: _Sentence) -> _Tagged:
        spoken = self.clause(sentence.clauses[0])
        for clause in sentence.clauses[1:]:
            spoken += [(self.words["and"], ""), *self.clause(clause)]
        return [*spoken, (sentence.mark, "")]

    def text(self, sentences: Sequence[_Sentence]) -> str:
        return " ".join(word for sentence in sentences for word, _ in self.sentence(sentence))


def _ner_example(draft: _Draft, speaker: _Speaker, language: str, names: Collection[str]) -> dict:
    spoken = speaker.sentence(draft.sentences[0])
    entities = [_ENTITY_OF_ROLE[role] if word in names else "" for word, role in spoken]
    return {
        "tokens": [word for word, _ in spoken],
        "tags": [f"B-{entity}" if entity else "O" for entity in entities],
        "langs": [language] * len(spoken),
        "spans": [
            f"{entity}: {word}"
            for entity, (word, _) in zip(entities, spoken, strict=True)
            if entity
        ],
    }


def _nli_example(draft: _Draft, speaker: _Speaker) -> dict:
    premise, hypothesis = draft.sentences
    return {
        "premise": speaker.text([premise]),
        "hypothesis": speaker.text([hypothesis]),
        "label": draft.label,
    }


def _qa_example(draft: _Draft, speaker: _Speaker, name: str) -> dict:
    *context, question = draft.sentences
    asked, role = draft.answer
    before = [word for sentence in context[:asked] for word, _ in speaker.sentence(sentence)]
    answer: list[str] = []
    for word, word_role in speaker.sentence(context[asked]):
        if word_role == role:
            answer.append(word)
        elif answer:
            break
        else:
            before.append(word)
    return {
        "id": name,
        "question": speaker.text([question]),
        "context": speaker.text(context),
        "answers": {
            "text": [" ".join(answer)],
            "answer_start": [sum(len(word) + 1 for word in before)],
        },
    }


# --------------------------------------------------------------------------------------- world


_SHARES = ("lexical_overlap", "lexical_contrast", "syntax_signal")  # knobs from 0 to 1
_MOST_SEED = 2**63 - 1
_MOST_EXAMPLES = 100_000  # of a split; no two may be the same, and more would take minutes to find
_ISOGLOSSES = 3  # borders of a concept's words around the ring


def _check_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise RequestError(
            f"the miniature languages have no {what} {name!r}{did_you_mean(str(name), known)}; "
            f"choose from {', '.join(known)}"
        )


@functools.lru_cache(maxsize=4096)
def _areas(seed: int, concept: str) -> dict[str, str]:
    """Returns for each language the first on the ring of those that have its word for a concept."""
    ring = _Draws(seed, "ring").shuffled(LANGUAGES)
    draws = _Draws(seed, "isoglosses", concept)
    borders = [draws.unit() for _ in range(_ISOGLOSSES)]
    first: dict[int, str] = {}
    found = {}
    for place, language in enumerate(ring):
        # The first and the last stretch of the ring are one area.
        area = sum(border < place / len(ring) for border in borders) % _ISOGLOSSES
        found[language] = first.setdefault(area, language)
    return found


@gin.configurable(module="seqio_tasks.miniature")
@dataclasses.dataclass(frozen=True)
class World:
    """One world and its ten languages; all that it yields is a function of these knobs.

    Raises:
        RequestError: A knob is out of its range.
    """

    seed: int = 0
    """Names, words, and everything that is said."""
    lexical_overlap: float = 0.5
    """Expected share of content concepts that any two languages call by the same word, 0 to 1."""
    lexical_contrast: float = 0.0
    """Share of concepts whose word is the likelier shared the nearer two languages live, 0 to 1."""
    syntax_signal: float = 1.0
    """Share of a language's four order features that follow its WALS values, 0 to 1."""
    train_examples: int = 2000
    """Examples in train, for each task and language."""
    eval_examples: int = 200
    """Examples in validation and as many in test; texts in those splits too."""
    text_sentences: int = 4000
    """Texts in train: sentences, questions and paragraphs of two or three sentences."""

    def __post_init__(self) -> None:
        """Refuses knobs out of range."""
        for name in _SHARES:
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                raise RequestError(f"World.{name} is a share from 0 to 1, not {value!r:.80}")
        sizes = ("train_examples", "eval_examples", "text_sentences")
        ranges = {"seed": (0, _MOST_SEED)} | dict.fromkeys(sizes, (1, _MOST_EXAMPLES))
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            number = isinstance(value, int) and not isinstance(value, bool)
            if not number or not least <= value <= most:
                raise RequestError(
                    f"World.{name} is a whole number from {least} to {most}, not {value!r:.80}"
                )

    def fingerprint(self) -> str:
        """Returns a hex digest of the knobs and of `FORMAT`; it names folders of cached data."""
        knobs = dataclasses.asdict(self)
        for name in _SHARES:
            knobs[name] = float(knobs[name])  # 1 and 1.0 are the same world
        text = json.dumps({"format": FORMAT, **knobs}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def names(self) -> tuple[str, ...]:
        """Returns the names of the world, the same in every language."""
        return _words(self.seed).names

    def grammar(self, language: str) -> Grammar:
        """Returns a language's word order.

        A feature that follows WALS takes the value that `choose_value` finds for the namesake in
        URIEL's `syntax_wals`, or in `syntax_knn` where WALS does not know it; the others take the
        value of `DEFAULT_GRAMMAR`. Which of the four follow is drawn by `seed` for each language;
        raising `syntax_signal` adds to them and takes none away.

        Args:
            language: One of `LANGUAGES`.

        Raises:
            RequestError: The language is unknown, or lang2vec is needed and not installed.
        """
        _check_known("language", language, LANGUAGES)
        draws = _Draws(self.seed, "syntax", language)
        followed = draws.share(list(_WALS_FLAGS), self.syntax_signal)
        if not followed:
            return DEFAULT_GRAMMAR
        wals = _wals_grammar(language)
        return dataclasses.replace(
            DEFAULT_GRAMMAR,
            **{field: getattr(wals, field) for field in followed},
            imputed=tuple(field for field in wals.imputed if field in followed),
        )

    def lexicon(self, language: str) -> dict[str, str]:
        """Returns the word of each concept; 'past' and 'future' are the affixes of the verb.

        For each concept there is one root that languages may share and, in each language, one word
        of its own. A language takes the root for a share sqrt(`lexical_overlap`) of the concepts,
        drawn independently of the other languages, so that both languages of any pair take it, and
        have the word in common, for an expected share `lexical_overlap`. The draw is stratified
        (nouns, adjectives, verbs, time words, function words, affixes): each language takes as
        close to its share of every stratum as whole words allow, which keeps pairs close to the
        knob. Raising the knob only adds shared words.

        `lexical_contrast` is the share of concepts to which this does not apply. The ten languages
        live at even distances around a ring, in an order drawn by `seed`. Three isoglosses, borders
        drawn anew for every such concept, cut the ring into three areas; the languages of an area
        have one word. Two languages a part d of the ring apart share (1-d)³ + d³ of these words in
        expectation: 0.73 next to each other, 0.25 across; every language 0.45 with the others.

        Args:
            language: One of `LANGUAGES`.

        Raises:
            RequestError: The language is unknown.
        """
        _check_known("language", language, LANGUAGES)
        words = _words(self.seed)
        lexicon = dict(words.private[language])
        for stratum, concepts in STRATA.items():
            draws = _Draws(self.seed, "lexicon", language, stratum)
            for concept in draws.share(concepts, math.sqrt(self.lexical_overlap)):
                lexicon[concept] = words.shared[concept]
            regional = _Draws(self.seed, "regional", stratum).share(concepts, self.lexical_contrast)
            for concept in regional:
                lexicon[concept] = words.private[_areas(self.seed, concept)[language]][concept]
        return lexicon

    def syntactic_similarity(self, one: str, other: str) -> float:
        """Returns the share of the four features of `grammar` in which two languages are alike."""
        grammars = [dataclasses.asdict(self.grammar(language)) for language in (one, other)]
        return sum(grammars[0][field] == grammars[1][field] for field in _WALS_FLAGS) / 4

    def lexical_similarity(self, one: str, other: str) -> float:
        """Returns the share of all concepts for which two languages have the same word."""
        lexicons = [self.lexicon(language) for language in (one, other)]
        return sum(lexicons[0][c] == lexicons[1][c] for c in lexicons[0]) / len(lexicons[0])

    def examples(self, task: str, language: str, split: str) -> list[dict[str, Any]]:
        """Returns labelled examples with the fields of the task's real source.

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
        drafts = _drafts(task, language, split, self.seed, *sizes)
        if task == "nli":
            return [_nli_example(draft, speaker) for draft in drafts]
        if task == "ner":
            names = frozenset(self.names())
            return [_ner_example(draft, speaker, language, names) for draft in drafts]
        prefix = f"{_TYDI_LANGUAGES[language]}--{split}"
        return [_qa_example(draft, speaker, f"{prefix}-{i}") for i, draft in enumerate(drafts)]

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
        drafts = _drafts("text", language, split, self.seed, *sizes)
        return [speaker.text(draft.sentences) for draft in drafts]

    def _speaker(self, language: str) -> _Speaker:
        return _Speaker(self.grammar(language), self.lexicon(language), self.names())
