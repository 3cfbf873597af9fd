"""Expresses meanings in words, in the formats of the real tasks."""

from collections.abc import Collection, Sequence

from seqio_tasks.miniature.concepts import TENSES, VERBS
from seqio_tasks.miniature.grammar import Grammar
from seqio_tasks.miniature.meaning import Clause, Draft, Phrase, Sentence

# -------------------------------------------------------------------------------------- speech

_Tagged = list[tuple[str, str]]  # words with their role: S, V, O, L (name of a place) or ''
_ENTITY_OF_ROLE = {"S": "PER", "O": "ORG", "L": "LOC"}
# The first part of the id of a TyDi QA example is its language.
TYDI_LANGUAGES = {
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


class Speaker:
    """Expresses meanings in one language."""

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

    def phrase(self, phrase: Phrase, role: str) -> _Tagged:
        noun = (self.words[phrase.head], role)
        if phrase.adjective is None:
            return [noun]
        adjective = (self.words[phrase.adjective], role)
        return [adjective, noun] if self.grammar.adjective == "before" else [noun, adjective]

    def clause(self, clause: Clause) -> _Tagged:
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

    def sentence(self, sentence: Sentence) -> _Tagged:
        spoken = self.clause(sentence.clauses[0])
        for clause in sentence.clauses[1:]:
            spoken += [(self.words["and"], ""), *self.clause(clause)]
        return [*spoken, (sentence.mark, "")]

    def text(self, sentences: Sequence[Sentence]) -> str:
        return " ".join(word for sentence in sentences for word, _ in self.sentence(sentence))


def ner_example(draft: Draft, speaker: Speaker, language: str, names: Collection[str]) -> dict:
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


def nli_example(draft: Draft, speaker: Speaker) -> dict:
    premise, hypothesis = draft.sentences
    return {
        "premise": speaker.text([premise]),
        "hypothesis": speaker.text([hypothesis]),
        "label": draft.label,
    }


def qa_example(draft: Draft, speaker: Speaker, name: str) -> dict:
    *context, question = draft.sentences
    answer_sentence, role = draft.answer
    before = [
        word for sentence in context[:answer_sentence] for word, _ in speaker.sentence(sentence)
    ]
    answer: list[str] = []
    for word, word_role in speaker.sentence(context[answer_sentence]):
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
