"""Words and characters of texts in any language: the one tokeniser of this project.

A character is what readers take for one (Unicode's extended grapheme cluster): a letter with its
vowel signs and other marks. Neither words nor characters are ever cut before a mark, and one that
is written in parts (NFD) equals the one that is written whole.
"""

import unicodedata

import regex

_JOINERS = "\u200c\u200d"  # invisible, inside words of Persian and of Indic scripts
# Letters, marks and numbers; marks that stand alone are no word.
_WORD = regex.compile(rf"(?:[\p{{L}}\p{{N}}]\p{{M}}*[{_JOINERS}]*)+")
# A cluster of Unicode's leaves out some vowel signs, of Burmese for example.
_CHARACTER = regex.compile(rf"\X[\p{{M}}{_JOINERS}]*")


def words(text: str) -> list[str]:
    """Returns the words of a text in order: lower case, NFC, without joiners and punctuation.

    Where no spaces stand between words, as in Chinese and Thai, a word is all between two spaces or
    punctuation marks.
    """
    normal = unicodedata.normalize("NFC", text.lower())
    return [
        word.replace(_JOINERS[0], "").replace(_JOINERS[1], "") for word in _WORD.findall(normal)
    ]


def characters(text: str) -> list[str]:
    """Returns the characters of a text in order, each with its marks."""
    return _CHARACTER.findall(text)
