"""Words and characters are those that readers see, in every script."""

import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from seqio_tasks import words as tokens

WORDS = {
    "English": ("The cat's 2 hats.", ["the", "cat", "s", "2", "hats"]),
    "Hindi": ("मुझे पानी चाहिए।", ["मुझे", "पानी", "चाहिए"]),
    "Marathi": ("मला पाणी पाहिजे", ["मला", "पाणी", "पाहिजे"]),
    "Bengali": ("আমার জল চাই", ["আমার", "জল", "চাই"]),
    "Tamil": ("எனக்கு தண்ணீர் வேண்டும்", ["எனக்கு", "தண்ணீர்", "வேண்டும்"]),
    "vocalised Arabic": ("كَتَبَ الوَلَدُ الدَّرْسَ.", ["كَتَبَ", "الوَلَدُ", "الدَّرْسَ"]),
    "decomposed Vietnamese": (unicodedata.normalize("NFD", "Tiếng Việt"), ["tiếng", "việt"]),
    "Thai": ("น้ำดื่ม ที่นี่", ["น้ำดื่ม", "ที่นี่"]),
    "Persian joiner": ("می\u200cخواهم", ["میخواهم"]),
    "Sinhala joiner": ("ශ්\u200dරී ලංකා", ["ශ්රී", "ලංකා"]),
    "marks alone": ("a \u0301 \u0301b ❤\ufe0f", ["a", "b"]),
}


@pytest.mark.parametrize("case", WORDS)
def test_words_are_not_cut_at_marks(case):
    text, expected = WORDS[case]
    assert tokens.words(text) == [unicodedata.normalize("NFC", word) for word in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("पानी", ["पा", "नी"]),
        ("জল", ["জ", "ল"]),
        ("வேண்", ["வே", "ண்"]),
        ("كَتَبَ", ["كَ", "تَ", "بَ"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("e\u0301t", ["e\u0301", "t"]),
    ],
)
def test_characters_keep_their_marks(text, expected):
    assert tokens.characters(text) == expected


@pytest.mark.slow
@given(st.text())
def test_nothing_is_lost_and_no_character_begins_with_a_mark(text):
    found = tokens.characters(text)
    assert "".join(found) == text
    assert not any(regex.match(r"\p{M}", character) for character in found[1:])
    for word in tokens.words(text):
        assert regex.search(r"[\p{L}\p{N}]", word)
        assert not regex.search(r"[\s\p{P}]", word)


@given(st.text(st.characters(categories=["L", "M", "N", "Z"])))
def test_how_a_character_is_encoded_does_not_matter(text):
    assert tokens.words(unicodedata.normalize("NFD", text)) == tokens.words(
        unicodedata.normalize("NFC", text)
    )
