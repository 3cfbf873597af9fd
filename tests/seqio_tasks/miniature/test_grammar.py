"""Grammars: those of WALS, as far as the signal says."""

import collections
import itertools

import pytest

from seqio_tasks.miniature import LANGUAGES, World, grammar
from seqio_tasks.miniature.grammar import Grammar, choose_value

# From the chapters of WALS (81A order, 85A adpositions, 87A adjectives, 26A affixes); Bengali has
# the order alone there. Arabic and German have two dominant orders, Arabic both affix sides.
EXPECTED_GRAMMARS = {
    "ar": ("VSO", "before", "after", "prefix"),
    "bn": ("SOV", "after", "before", "suffix"),
    "en": ("SVO", "before", "before", "suffix"),
    "fi": ("SVO", "after", "before", "suffix"),
    "id": ("SVO", "before", "after", "suffix"),
    "ru": ("SVO", "before", "before", "suffix"),
    "sw": ("SVO", "before", "after", "prefix"),
    "es": ("SVO", "before", "after", "suffix"),
    "de": ("SOV", "before", "before", "suffix"),
    "hi": ("SOV", "after", "before", "suffix"),
}


def values(grammar: Grammar) -> tuple[str, ...]:
    return grammar.order, grammar.adposition, grammar.adjective, grammar.affix


def test_grammars_are_those_of_wals():
    world = World()
    grammars = {language: world.grammar(language) for language in LANGUAGES}
    assert {language: values(g) for language, g in grammars.items()} == EXPECTED_GRAMMARS
    imputed = {language: g.imputed for language, g in grammars.items() if g.imputed}
    assert imputed == {"bn": ("adposition", "adjective", "affix")}


def test_without_signal_all_speak_alike_and_wals_is_not_read(monkeypatch):
    monkeypatch.setattr(grammar, "wals_grammar", None)
    grammars = [World(syntax_signal=0).grammar(language) for language in LANGUAGES]
    assert {(g, g.imputed) for g in grammars} == {(grammar.DEFAULT_GRAMMAR, ())}


def test_signal_is_the_share_of_features_that_follow_wals_and_is_nested(monkeypatch):
    opposite = Grammar("OVS", "after", "after", "prefix", imputed=("affix", "order"))
    monkeypatch.setattr(grammar, "wals_grammar", lambda language: opposite)
    default = values(grammar.DEFAULT_GRAMMAR)
    counts = collections.Counter()
    for seed, language in itertools.product(range(40), LANGUAGES):
        before: set[str] = set()
        for signal in (0, 0.1, 0.3, 0.5, 0.9, 1):
            found = World(seed=seed, syntax_signal=signal).grammar(language)
            followed = {v for v in values(found) if v not in default}
            followed |= {"after 2"} if found.adposition == found.adjective == "after" else set()
            assert before <= followed
            assert ("order" in found.imputed) == (found.order == "OVS")
            counts[signal] += len(followed)
            before = followed
    for signal, count in counts.items():
        assert count / (4 * 40 * len(LANGUAGES)) == pytest.approx(signal, abs=0.03)


@pytest.mark.parametrize(
    ("field", "known", "expected"),
    [
        ("order", {"S_SOV": True}, "SOV"),
        ("order", {"S_SVO": True, "S_VSO": True}, "VSO"),
        ("order", {}, "SVO"),
        ("affix", {"S_TEND_PREFIX": True, "S_TEND_SUFFIX": True}, "prefix"),
        ("affix", {"S_TEND_PREFIX": False, "S_TEND_SUFFIX": True}, "suffix"),
        ("adposition", {"S_ADPOSITION_BEFORE_NOUN": None, "S_ADPOSITION_AFTER_NOUN": None}, None),
        (
            "adposition",
            {"S_ADPOSITION_BEFORE_NOUN": None, "S_ADPOSITION_AFTER_NOUN": True},
            "after",
        ),
    ],
)
def test_flags_become_one_value(field, known, expected):
    flags = {flag: False for flags in grammar.WALS_FLAGS.values() for flag in flags.values()}
    assert choose_value(field, {**flags, **known}) == expected
