"""The concepts of the miniature languages, and their words."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

FORMAT = 1

LANGUAGES = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")
TASKS = ("nli", "ner", "qa")
SPLITS = ("train", "validation", "test")

# The concepts, each with an English gloss as its name; `World.lexicon` gives their words.
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

NOUN_SET = frozenset(NOUNS)
OPPOSITE = {a: b for pair in OPPOSITE_VERBS for a, b in (pair, pair[::-1])}
T = TypeVar("T")


# -------------------------------------------------------------------------------------- chance


class Draws:
    """Random draws that depend only on a key.

    All draws use the generator's uniform doubles, the stream that NumPy is least likely to change
    between releases. They are drawn in blocks, because single draws are slow.
    """

    def __init__(self, *key: object):
        text = "|".join(map(str, (FORMAT, *key)))
        digest = hashlib.sha256(text.encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        blocks = (rng.random(512).tolist() for _ in itertools.repeat(None))
        self.unit: Callable[[], float] = itertools.chain.from_iterable(blocks).__next__

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.unit() * len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        keys = [self.unit() for _ in options]
        return [options[i] for i in sorted(range(len(options)), key=keys.__getitem__)]

    def share(self, options: Sequence[T], share: float) -> set[T]:
        """Draws a share of the options; the number is exact in expectation, up to rounding.

        A larger share of the same options with the same key contains the smaller share.
        """
        count = int(len(options) * share + self.unit())
        return set(self.shuffled(options)[:count])


# --------------------------------------------------------------------------------------- words

# Consonants and vowels of the private words, similar to the real language in Latin letters. Words
# alternate consonants and vowels; they begin with a consonant and end in a vowel, so they differ
# from every verb with an affix.
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


class Words(NamedTuple):
    names: tuple[str, ...]
    shared: dict[str, str]  # concept -> the root that languages can share
    private: dict[str, dict[str, str]]  # language -> concept -> its private word


@functools.lru_cache(maxsize=8)
def words_of(seed: int) -> Words:
    """Generates all names and words of a world; all are different."""
    taken = set(CONTENT_CONCEPTS + FUNCTION_WORDS)  # a word that is a gloss would mislead readers

    def invent(draw: Callable[[], str]) -> str:
        word = draw()
        while word in taken:
            word = draw()
        taken.add(word)
        return word

    def vocabulary(inventory: str) -> dict[str, str]:
        draws = Draws(seed, "words", inventory)
        consonants, vowels = (sounds.split() for sounds in _SOUNDS[inventory])
        endings = [consonant for consonant in consonants if len(consonant) == 1]

        def root() -> str:
            syllables = 2 + draws.chance(0.3)
            return "".join(draws.pick(consonants) + draws.pick(vowels) for _ in range(syllables))

        def affix() -> str:  # begins with a vowel and ends in a consonant, unlike any root
            return draws.pick(vowels) + draws.pick(endings)

        return {
            concept: invent(affix if stratum == "affix" else root)
            for stratum, concepts in STRATA.items()
            for concept in concepts
        }

    name_draws, name_syllables = Draws(seed, "names"), _NAME_SYLLABLES.split()

    def name() -> str:
        syllables = 2 + name_draws.chance(0.3)
        return "".join(name_draws.pick(name_syllables) for _ in range(syllables))

    names = tuple(invent(name) for _ in range(N_NAMES))
    shared = vocabulary("shared")
    return Words(names, shared, {language: vocabulary(language) for language in LANGUAGES})
