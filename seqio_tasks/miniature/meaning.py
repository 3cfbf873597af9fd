"""Draws the meanings of examples in the miniature languages, before they become words."""

import functools
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from seqio_tasks.miniature import concepts
from seqio_tasks.miniature.concepts import (
    ADJECTIVES,
    ADPOSITIONS,
    NOUN_SET,
    NOUNS,
    OPPOSITE,
    TENSES,
    TIMES,
    VERBS,
    Draws,
)

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2


# ------------------------------------------------------------------------------------ meanings


class Phrase(NamedTuple):
    """A name, a question word, or a noun with an optional adjective."""

    head: str
    adjective: str | None = None


class Clause(NamedTuple):
    """The meaning of a clause, without word order."""

    subject: Phrase
    verb: str
    object: Phrase
    tense: str
    negated: bool = False
    place: tuple[str, str] | None = None  # adposition and name
    time: str | None = None

    def bare(self) -> "Clause":
        """Returns the clause without modifiers."""
        subject, object_ = Phrase(self.subject.head), Phrase(self.object.head)
        return self._replace(subject=subject, object=object_, place=None, time=None)


class Sentence(NamedTuple):
    clauses: tuple[Clause, ...]
    mark: str = "."


class Draft(NamedTuple):
    """The meaning of one example."""

    sentences: tuple[Sentence, ...]  # nli: premise, hypothesis; qa: context, then question
    label: int = 0  # nli
    answer: tuple[int, str] = (0, "")  # qa: index of the sentence, role in it


class _Rates(NamedTuple):
    """Probabilities of the optional parts of a clause."""

    name: float  # a subject or an object is a name, not a noun
    adjective: float  # a noun has an adjective
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
_NLI_ASIDE = 0.7  # share of premises with a second clause; high, because entailments often need one
_QA_MIRROR = 0.6  # share of contexts in which only word order gives the answer


class _Writer:
    """Draws clauses for one example; no name or noun occurs twice by chance."""

    def __init__(self, draws: Draws, names: Sequence[str], rates: _Rates):
        self.draws, self.names, self.rates = draws, names, rates
        self._used: set[str] = set()

    def fresh(self, pool: Sequence[str]) -> str:
        """Draws a word from the pool that is not in the example yet."""
        word = self.draws.pick(pool)
        while word in self._used:
            word = self.draws.pick(pool)
        self._used.add(word)
        return word

    def participant(self) -> Phrase:
        is_name = self.draws.chance(self.rates.name)
        return Phrase(self.fresh(self.names if is_name else NOUNS))

    def adorned(self, phrase: Phrase) -> Phrase:
        """Adds an adjective to a noun without one, with a probability."""
        plain_noun = phrase.adjective is None and phrase.head in NOUN_SET
        if plain_noun and self.draws.chance(self.rates.adjective):
            return Phrase(phrase.head, self.draws.pick(ADJECTIVES))
        return phrase

    def place(self) -> tuple[str, str]:
        return self.draws.pick(ADPOSITIONS), self.fresh(self.names)

    def enriched(self, clause: Clause) -> Clause:
        """Adds missing modifiers, with a probability; the result entails the clause."""
        draws, rates = self.draws, self.rates
        place, time = clause.place, clause.time
        if place is None and draws.chance(rates.place):
            place = self.place()
        if time is None and draws.chance(rates.time):
            time = draws.pick(TIMES[clause.tense])
        subject, object_ = self.adorned(clause.subject), self.adorned(clause.object)
        return Clause(subject, clause.verb, object_, clause.tense, clause.negated, place, time)

    def clause(
        self,
        subject: Phrase | None = None,
        object_: Phrase | None = None,
        but_verb: str | None = None,
    ) -> Clause:
        """Draws a clause, with given participants if any, and any verb except `but_verb`."""
        draws = self.draws
        verbs = [verb for verb in VERBS if verb != but_verb] if but_verb else VERBS
        clause = Clause(
            subject or self.participant(),
            draws.pick(verbs),
            object_ or self.participant(),
            draws.pick(TENSES),
        )
        if draws.chance(self.rates.negated):
            return clause.bare()._replace(negated=True)
        return self.enriched(clause)

    def aside(self, about: Clause, but_verb: str | None = None) -> Clause:
        """Draws a clause that is neither entailed by another clause nor contradicts it.

        Half of the clauses share a name with the other clause, if it has one. They share no nouns,
        because an adjective in one clause would also describe the noun in the other.
        """
        shared = [phrase for phrase in (about.subject, about.object) if phrase.head not in NOUN_SET]
        if not shared or self.draws.chance(0.5):
            return self.clause(but_verb=but_verb)
        participant = self.draws.pick(shared)
        if self.draws.chance(0.5):
            return self.clause(subject=participant, but_verb=but_verb)
        return self.clause(object_=participant, but_verb=but_verb)


def _count_tokens(clauses: Sequence[Clause]) -> int:
    """Returns the length of a sentence, the same in every language."""
    words = 0
    for c in clauses:
        words += 3 + c.negated + 2 * (c.place is not None) + (c.time is not None)
        words += (c.subject.adjective is not None) + (c.object.adjective is not None)
    return words + len(clauses)  # conjunctions between clauses, and a mark at the end


def _count_names(clauses: Sequence[Clause]) -> int:
    heads = [phrase.head for c in clauses for phrase in (c.subject, c.object)]
    return sum(head not in NOUN_SET for head in heads) + sum(c.place is not None for c in clauses)


def _draft_ner(draws: Draws, names: Sequence[str], number: int) -> Draft:
    del number
    nameless = draws.chance(_NER_NAMELESS)
    n_names: Collection[int] = (0,) if nameless else _NER_NAMES
    while True:
        writer = _Writer(draws, names, _NAMELESS_RATES if nameless else _NER_RATES)
        clauses = tuple(writer.clause() for _ in range(1 + draws.chance(0.35)))
        if _count_tokens(clauses) in _NER_TOKENS and _count_names(clauses) in n_names:
            return Draft((Sentence(clauses),))


def _entailing(writer: _Writer, hypothesis: Clause) -> Clause:
    """Returns a clause that entails the hypothesis; it may add modifiers, unless it is negated."""
    return hypothesis if hypothesis.negated else writer.enriched(hypothesis)


def _contradicting(writer: _Writer, hypothesis: Clause) -> Clause:
    """Returns a clause that contradicts the hypothesis.

    In this world, no verb is symmetric, and a verb and its opposite are never both true.
    """
    if hypothesis.negated:
        return writer.enriched(hypothesis._replace(negated=False))
    way = writer.draws.pick(("negate", "swap", "opposite"))
    if way == "negate":
        return hypothesis.bare()._replace(negated=True)
    if way == "swap":
        denial = hypothesis._replace(subject=hypothesis.object, object=hypothesis.subject)
    else:
        denial = hypothesis._replace(verb=OPPOSITE[hypothesis.verb])
    return writer.enriched(denial)


def _neutral(writer: _Writer, hypothesis: Clause) -> Clause:
    """Returns a clause that neither entails nor contradicts the hypothesis."""
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
        others = [v for v in VERBS if v not in (hypothesis.verb, OPPOSITE[hypothesis.verb])]
        clause = hypothesis._replace(verb=draws.pick(others))
    elif changed == "tense":
        other = next(tense for tense in TENSES if tense != hypothesis.tense)
        clause = hypothesis._replace(tense=other, time=None)
    elif changed == "subject":
        clause = hypothesis._replace(subject=writer.participant())
    else:
        clause = hypothesis._replace(object=writer.participant())
    if draws.chance(writer.rates.negated):  # as often as for the other labels
        return clause.bare()._replace(negated=True)
    return writer.enriched(clause._replace(negated=False))


def _draft_nli(draws: Draws, names: Sequence[str], number: int) -> Draft:
    """Draws the hypothesis first, and then a premise for the label.

    The hypothesis alone therefore does not reveal the label: it is drawn independently of it.
    """
    label = number % 3  # so that the first n examples are balanced
    writer = _Writer(draws, names, _NLI_RATES)
    hypothesis = writer.clause()
    ways = {ENTAILMENT: _entailing, NEUTRAL: _neutral, CONTRADICTION: _contradicting}
    stated = ways[label](writer, hypothesis)
    clauses = [stated]
    if stated == hypothesis or draws.chance(_NLI_ASIDE):  # or the premise is equal
        clauses = draws.shuffled([stated, writer.aside(hypothesis)])
    return Draft((Sentence(tuple(clauses)), Sentence((hypothesis,))), label=label)


def _question(clause: Clause, role: str, names: Collection[str]) -> Clause:
    """Returns a question for the subject (S), object (O) or place (L), question word in situ."""
    question = clause._replace(time=None)
    if role == "L":
        assert clause.place is not None
        return question._replace(place=(clause.place[0], "where"))
    head = (clause.subject if role == "S" else clause.object).head
    word = Phrase("who" if head in names else "what")
    if role == "S":
        return question._replace(subject=word, place=None)
    return question._replace(object=word, place=None)


def _mirror(writer: _Writer, clause: Clause, role: str) -> Clause:
    """Returns a clause with the same verb that differs from the answer clause only in word order.

    The participant in the question has the opposite role; a place has no opposite role, so the
    clause has another object and another place.
    """
    if role == "S":
        mirror = Clause(clause.object, clause.verb, writer.participant(), clause.tense)
    elif role == "O":
        mirror = Clause(writer.participant(), clause.verb, clause.subject, clause.tense)
    else:
        mirror = Clause(clause.subject, clause.verb, writer.participant(), clause.tense)
        mirror = mirror._replace(place=writer.place())
    return writer.enriched(mirror)


def _draft_qa(draws: Draws, names: Sequence[str], number: int) -> Draft:
    del number
    writer = _Writer(draws, names, _QA_RATES)
    role = draws.pick("SOL")
    stated = writer.clause()
    if role == "L" and stated.place is None:
        stated = stated._replace(place=writer.place())
    context = [stated]
    if draws.chance(_QA_MIRROR):
        context.append(_mirror(writer, stated, role))
    size = 2 + draws.chance(0.5)
    while len(context) < size:  # another verb, so that the question has one answer
        context.append(writer.aside(stated, but_verb=stated.verb))
    context = draws.shuffled(context)
    question = Sentence((_question(stated, role, names),), "?")
    sentences = tuple(Sentence((clause,)) for clause in context)
    return Draft((*sentences, question), answer=(context.index(stated), role))


def _draft_text(draws: Draws, names: Sequence[str], number: int) -> Draft:
    del number
    writer = _Writer(draws, names, _TEXT_RATES)
    kind = draws.unit()
    if kind < 0.6:  # a sentence of one or two clauses
        clauses = tuple(writer.clause() for _ in range(1 + draws.chance(0.35)))
        return Draft((Sentence(clauses),))
    if kind < 0.7:  # a question
        clause = writer.clause()._replace(negated=False)
        role = draws.pick("SOL" if clause.place else "SO")
        return Draft((Sentence((_question(clause, role, names),), "?"),))
    paragraph = [writer.clause()]  # a paragraph; about half of its clauses repeat a name
    for _ in range(1 + draws.chance(0.5)):
        paragraph.append(writer.aside(paragraph[-1]))
    return Draft(tuple(Sentence((clause,)) for clause in paragraph))


_DRAFTERS = {"ner": _draft_ner, "nli": _draft_nli, "qa": _draft_qa, "text": _draft_text}


def _distinct_drafts(
    task: str, seed: int, key: Sequence[str], count: int, avoid: Collection[Sentence]
) -> list[Draft]:
    """Draws drafts without repeated sentences, and without sentences in `avoid`."""
    draws, names = Draws(seed, task, *key), concepts.words_of(seed).names
    drafts: list[Draft] = []
    seen = set(avoid)
    while len(drafts) < count:
        draft = _DRAFTERS[task](draws, names, len(drafts))
        if seen.isdisjoint(draft.sentences):
            seen.update(draft.sentences)
            drafts.append(draft)
    return drafts


@functools.lru_cache(maxsize=8)
def _evaluation_drafts(task: str, seed: int, count: int) -> dict[str, list[Draft]]:
    """Returns the drafts of validation and test, which are the same for all languages."""
    validation = _distinct_drafts(task, seed, ["validation"], count, ())
    known = {sentence for draft in validation for sentence in draft.sentences}
    return {
        "validation": validation,
        "test": _distinct_drafts(task, seed, ["test"], count, known),
    }


def drafts(
    task: str, language: str, split: str, seed: int, n_train: int, n_eval: int
) -> list[Draft]:
    evaluation = _evaluation_drafts(task, seed, n_eval)
    if split in evaluation:
        return evaluation[split]
    known = {s for drafts in evaluation.values() for draft in drafts for s in draft.sentences}
    return _distinct_drafts(task, seed, ["train", language], n_train, known)
