"""The languages of the study and of XTREME-R: codes, names, families and scripts.

Sources:
  Codes in data sets: `XTREME_R_TASK2LANGS` in google-research/xtreme, `evaluate.py`; they include
    all languages of XTREME, XNLI, PAN-X in XTREME's splits, TyDiQA, XCOPA, XQuAD and MLQA.
  ISO 639-3 and 15924: the tables of the registries.
  Family and genus: WALS Online v2020.4 (Dryer & Haspelmath 2013, cldf-datasets/wals), unchanged:
    Turkic is under 'Altaic', Haitian Creole under 'other'.
  URIEL rows: chosen by the number of known values in lang2vec 1.1.2, see `URIEL_ALTERNATIVES`.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from seqio_tasks.errors import RequestError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Language:
    """One language, with its names in data sets and typological tables."""

    code: str  # as in the data sets' file names: ISO 639-1
    iso639_3: str  # the individual standard language; 'que', a macrolanguage, has none
    uriel: str  # the row in lang2vec: 'ara', not 'arb'
    name: str  # in English
    family: str  # WALS family
    genus: str  # WALS genus
    script: str  # ISO 15924 code of the script in the data sets


_TABLE = (
    Language("af", "afr", "afr", "Afrikaans", "Indo-European", "Germanic", "Latn"),
    Language("ar", "arb", "ara", "Arabic", "Afro-Asiatic", "Semitic", "Arab"),
    Language("az", "azj", "aze", "Azerbaijani", "Altaic", "Turkic", "Latn"),
    Language("bg", "bul", "bul", "Bulgarian", "Indo-European", "Slavic", "Cyrl"),
    Language("bn", "ben", "ben", "Bengali", "Indo-European", "Indic", "Beng"),
    Language("de", "deu", "deu", "German", "Indo-European", "Germanic", "Latn"),
    Language("el", "ell", "ell", "Greek", "Indo-European", "Greek", "Grek"),
    Language("en", "eng", "eng", "English", "Indo-European", "Germanic", "Latn"),
    Language("es", "spa", "spa", "Spanish", "Indo-European", "Romance", "Latn"),
    Language("et", "ekk", "est", "Estonian", "Uralic", "Finnic", "Latn"),
    Language("eu", "eus", "eus", "Basque", "Basque", "Basque", "Latn"),
    Language("fa", "pes", "pes", "Persian", "Indo-European", "Iranian", "Arab"),
    Language("fi", "fin", "fin", "Finnish", "Uralic", "Finnic", "Latn"),
    Language("fr", "fra", "fra", "French", "Indo-European", "Romance", "Latn"),
    Language("gu", "guj", "guj", "Gujarati", "Indo-European", "Indic", "Gujr"),
    Language("he", "heb", "heb", "Hebrew", "Afro-Asiatic", "Semitic", "Hebr"),
    Language("hi", "hin", "hin", "Hindi", "Indo-European", "Indic", "Deva"),
    Language("ht", "hat", "hat", "Haitian Creole", "other", "Creoles and Pidgins", "Latn"),
    Language("hu", "hun", "hun", "Hungarian", "Uralic", "Ugric", "Latn"),
    Language("id", "ind", "ind", "Indonesian", "Austronesian", "Malayo-Sumbawan", "Latn"),
    Language("it", "ita", "ita", "Italian", "Indo-European", "Romance", "Latn"),
    Language("ja", "jpn", "jpn", "Japanese", "Japanese", "Japanese", "Jpan"),
    Language("jv", "jav", "jav", "Javanese", "Austronesian", "Javanese", "Latn"),
    Language("ka", "kat", "kat", "Georgian", "Kartvelian", "Kartvelian", "Geor"),
    Language("kk", "kaz", "kaz", "Kazakh", "Altaic", "Turkic", "Cyrl"),
    Language("ko", "kor", "kor", "Korean", "Korean", "Korean", "Kore"),
    Language("lt", "lit", "lit", "Lithuanian", "Indo-European", "Baltic", "Latn"),
    Language("ml", "mal", "mal", "Malayalam", "Dravidian", "Dravidian", "Mlym"),
    Language("mr", "mar", "mar", "Marathi", "Indo-European", "Indic", "Deva"),
    Language("ms", "zsm", "msa", "Malay", "Austronesian", "Malayo-Sumbawan", "Latn"),
    Language("my", "mya", "mya", "Burmese", "Sino-Tibetan", "Burmese-Lolo", "Mymr"),
    Language("nl", "nld", "nld", "Dutch", "Indo-European", "Germanic", "Latn"),
    Language("pa", "pan", "pan", "Punjabi", "Indo-European", "Indic", "Guru"),
    Language("pl", "pol", "pol", "Polish", "Indo-European", "Slavic", "Latn"),
    Language("pt", "por", "por", "Portuguese", "Indo-European", "Romance", "Latn"),
    Language("qu", "que", "que", "Quechua", "Quechuan", "Quechuan", "Latn"),
    Language("ro", "ron", "ron", "Romanian", "Indo-European", "Romance", "Latn"),
    Language("ru", "rus", "rus", "Russian", "Indo-European", "Slavic", "Cyrl"),
    Language("sw", "swh", "swh", "Swahili", "Niger-Congo", "Bantu", "Latn"),
    Language("ta", "tam", "tam", "Tamil", "Dravidian", "Dravidian", "Taml"),
    Language("te", "tel", "tel", "Telugu", "Dravidian", "Dravidian", "Telu"),
    Language("th", "tha", "tha", "Thai", "Tai-Kadai", "Kam-Tai", "Thai"),
    Language("tl", "tgl", "tgl", "Tagalog", "Austronesian", "Greater Central Philippine", "Latn"),
    Language("tr", "tur", "tur", "Turkish", "Altaic", "Turkic", "Latn"),
    Language("uk", "ukr", "ukr", "Ukrainian", "Indo-European", "Slavic", "Cyrl"),
    Language("ur", "urd", "urd", "Urdu", "Indo-European", "Indic", "Arab"),
    Language("vi", "vie", "vie", "Vietnamese", "Austro-Asiatic", "Vietic", "Latn"),
    Language("wo", "wol", "wol", "Wolof", "Niger-Congo", "Wolof", "Latn"),
    Language("yo", "yor", "yor", "Yoruba", "Niger-Congo", "Defoid", "Latn"),
    # WikiANN's Chinese mixes both scripts; XNLI, XQuAD, MLQA and XCOPA are simplified.
    Language("zh", "cmn", "zho", "Chinese", "Sino-Tibetan", "Chinese", "Hans"),
)

LANGUAGES: Mapping[str, Language] = MappingProxyType({lang.code: lang for lang in _TABLE})

# Names of groups that differ from the name of the family. Indo-European and what WALS calls
# 'Altaic' are grouped by genus, because they are large or disputed.
_BY_GENUS = ("Indo-European", "Altaic")
_OTHERWISE = {"Japanese": "japonic", "Korean": "koreanic", "other": "creole"}


def group_of(language: Language) -> str:
    """Returns the group of a language: 'uralic', 'niger_congo', 'romance', 'turkic'."""
    if language.family in _OTHERWISE:
        return _OTHERWISE[language.family]
    name = language.genus if language.family in _BY_GENUS else language.family
    return name.lower().replace("-", "_")


# Groups of languages for intermediate tasks: families, or genera of large families.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        group: tuple(lang.code for lang in _TABLE if group_of(lang) == group)
        for group in sorted(set(map(group_of, _TABLE)))
    }
)

# The ten languages of "Languages You Know Influence Those You Learn" (arXiv 2212.01757).
STUDY = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")

# The fifty languages of XTREME-R (Ruder et al. 2021): the forty of XTREME, and
# az gu ht lt pa pl qu ro uk wo.
XTREME_R: tuple[str, ...] = tuple(lang.code for lang in _TABLE)

# Other rows of a language in lang2vec; none has more known syntax_wals and phonology_wals values
# than the chosen row. URIEL merges the members of a macrolanguage in its row, so 'ara', 'msa',
# 'que' and 'zho' have values of several varieties: 'que' merges Imbabura and Cochabamba Quechua,
# and 'msa' merges Malay and Indonesian, so that it hardly differs from Indonesian. Where two rows
# are equal ('fas' and 'pes', 'swa' and 'swh'), the individual language is chosen.
URIEL_ALTERNATIVES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ar": ("arb", "arz"),
        "az": ("azj", "azb"),
        "et": ("ekk",),
        "fa": ("fas", "prs"),
        "ms": ("zsm", "zlm"),
        "pa": ("pnb",),
        "qu": ("quz", "quy", "quh", "qvc", "qvi", "qwh"),
        "sw": ("swa",),
        "tl": ("fil",),
        "zh": ("cmn",),
    }
)

# Codes of macrolanguages: the data sets use them for the standard language.
_MACRO = {"ar": "ara", "az": "aze", "et": "est", "fa": "fas", "ms": "msa", "sw": "swa", "zh": "zho"}
# Codes of ISO 639-2/B, which libraries use.
_BIBLIOGRAPHIC = {
    "de": "ger", "el": "gre", "eu": "baq", "fa": "per", "fr": "fre", "ka": "geo", "ms": "may",
    "my": "bur", "nl": "dut", "ro": "rum", "zh": "chi",
}  # fmt: skip

# Languages of the table by each of their codes and names, in lower case.
BY_NAME: Mapping[str, Language] = {
    name.lower(): lang
    for lang in _TABLE
    for name in (
        lang.code,
        lang.iso639_3,
        lang.uriel,
        lang.name,
        _MACRO.get(lang.code, lang.code),
        _BIBLIOGRAPHIC.get(lang.code, lang.code),
    )
}
EXPECTED = (
    "expected a code such as 'sw', an ISO 639-3 code such as 'swh', or an English name such as"
    " 'Swahili'"
)


def get(query: str) -> Language:
    """Finds a language.

    Args:
      query: its code in data sets, ISO 639-2 or 639-3 code, or English name; upper and lower case
        are the same.

    Returns:
      The language.

    Raises:
      RequestError: the language is unknown; names the most similar ones.
    """
    lower = query.strip().lower()
    found = BY_NAME.get(lower)
    if found is None:
        # Two-letter codes that differ in one letter are not similar.
        same = [
            name for name in BY_NAME if len(name) == len(lower) or min(len(name), len(lower)) > 3
        ]
        hint = did_you_mean(lower, same) if len(lower) > 2 else ""
        raise RequestError(f"unknown language {query!r:.80}{hint}; {EXPECTED}")
    return found
