"""Splits text in any language into words and characters; the only tokeniser of this project.

A character is what readers see as one (Unicode's extended grapheme cluster): a letter with its
vowel signs and other marks. Words and characters are never split before a mark, and decomposed
(NFD) text gives the same words as composed (NFC) text.
"""

import unicodedata

import regex

_JOINERS = "\u200c\u200d"  # invisible, inside words of Persian and of Indic scripts
# Letters, marks and numbers; marks alone are not a word.
_WORD = regex.compile(rf"(?:[\p{{L}}\p{{N}}]\p{{M}}*[{_JOINERS}]*)+")
# Unicode's clusters omit some vowel signs, for example in Burmese.
_CHARACTER = regex.compile(rf"\X[\p{{M}}{_JOINERS}]*")


def words(text: str) -> list[str]:
    """Returns the words of a text in order: lower case, NFC, without joiners and punctuation.

    In languages without spaces between words, such as Chinese and Thai, a word is all text between
    two spaces or punctuation marks.
    """
    normal = unicodedata.normalize("NFC", text.lower())
    return [
        word.replace(_JOINERS[0], "").replace(_JOINERS[1], "") for word in _WORD.findall(normal)
    ]


def characters(text: str) -> list[str]:
    """Returns the characters of a text in order, each with its marks."""
    return _CHARACTER.findall(text)
