"""Resolves codes and names of any language, and looks up its name, family and URIEL row.

Codes are ISO 639-1, 639-2 (bibliographic and terminological), 639-3, BCP 47 tags (`pt-PT`), FLORES
codes (`arb_Arab`) and Glottocodes (`stan1293`). Different languages stay different, even if they
are closely related: Egyptian Arabic `arz` is not `ar`, and Dari `prs` is not Persian. If URIEL has
too few values for a language, its typology is borrowed from its macrolanguage; see `borrowed`.

Sources: ISO 639 from pycountry; BCP 47's registry (for macrolanguages) and CLDR's likely scripts
and regions from langcodes; Glottocodes from URIEL+ (urielplus). Each is imported on first use.
"""

import csv
import functools
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from seqio_tasks import files, languages, uriel
from seqio_tasks.errors import RequestError, did_you_mean

_CODE = re.compile(r"[a-z]{2,3}")
_TAG = re.compile(r"([a-z]{2,3})([-_][a-z0-9]{2,8})+", re.IGNORECASE)
_GLOTTOCODE = re.compile(r"[a-z0-9]{4}[0-9]{4}")
_PRIVATE = re.compile(r"q[a-t][a-z]")  # ISO 639-3 leaves these to its users
# Names of summary rows in tables of languages, and ISO codes for several languages or for none. One
# of the words, `all`, is also the code of a language: Allar is `all-Latn` here.
SUMMARIES = frozenset(
    (
        "all", "avg", "average", "macro", "mean", "median", "micro", "overall", "std", "stdev",
        "sum", "total", "mis", "mul", "und", "zxx",
    )
)  # fmt: skip
_ALLAR = "all-Latn"
_FEW = 10  # a language with fewer known values in a WALS table borrows its typology
_EXPECTED = (
    "expected an ISO 639 code such as 'sw' or 'swh', a tag such as 'pt-BR', or an English name such"
    " as 'Swahili'"
)
# What ISO 639 has no macrolanguage for: Filipino is the standard form of Tagalog.
_STANDS_IN = {"fil": "tgl"}


def code_of(name: str) -> str:
    """Returns the code that this project uses for a language.

    It is the code in `languages.LANGUAGES`, or else the ISO 639-1 code, or else the ISO 639-3 code.
    A script or region that is not the default follows (`zh-Hant`, `pt-PT`).

    Args:
      name: a code or English name, see the module; upper and lower case are the same.

    Raises:
      RequestError: the language is unknown; names the most similar ones.
    """
    query = name.strip()
    lower = query.lower()
    if lower in SUMMARIES:
        raise RequestError(f"{query!r:.80} is not a language, but a name for several or for none")
    if lower in languages.BY_NAME:
        return languages.BY_NAME[lower].code
    if _GLOTTOCODE.fullmatch(lower):
        return code_of(_iso_of_glottocode(lower))
    found = _iso().get(lower)
    if found is not None:
        return _short(found)
    if _TAG.fullmatch(query):
        return _code_of_tag(query)
    if _PRIVATE.fullmatch(lower) or (len(lower) == 3 and uriel.known(lower)):
        return lower  # URIEL has codes that ISO has retired
    if len(lower) == 2 and _CODE.fullmatch(lower):
        import langcodes

        current = langcodes.standardize_tag(lower)  # 'iw' is 'he' today
        if current != lower and current.partition("-")[0] in _iso():
            return code_of(current)
    raise RequestError(f"unknown language {query!r:.80}{_nearest(lower)}; {_EXPECTED}")


def _nearest(query: str) -> str:
    """Returns a hint with the most similar names (for a name) or codes (for a code).

    Only languages with a two-letter code are compared, because among all 7,900 languages some are
    similar to any word. Two-letter codes get no hint.
    """
    if len(query) < 3:
        return ""
    length = (3, 3) if _CODE.fullmatch(query) else (4, 40)
    return did_you_mean(
        query[: length[1]], [w for w in _common() if length[0] <= len(w) <= length[1]]
    )


@functools.cache
def _common() -> list[str]:
    """Returns the codes and names of languages with a code of two letters."""
    found = {word for word, record in _iso().items() if hasattr(record, "alpha_2")}
    return sorted({*found, *languages.BY_NAME})


@functools.cache
def _iso() -> dict[str, Any]:
    """Returns pycountry's records of languages by lower-case code and English name."""
    import pycountry

    found: dict[str, Any] = {}
    # Codes come before names, and names of languages with a two-letter code before others.
    records = [record for record in pycountry.languages if record.scope != "S"]
    records.sort(key=lambda record: not hasattr(record, "alpha_2"))
    for fields in (
        ("alpha_2", "alpha_3", "bibliographic"),
        ("name", "common_name", "inverted_name"),
    ):
        for record in records:
            for field in fields:
                if text := getattr(record, field, None):
                    found.setdefault(text.lower(), record)
                    found.setdefault(_plain(text).lower(), record)
    return found


def _plain(name: str) -> str:
    """Returns a name of ISO 639 without the part in brackets: 'Greek, Modern (1453-)'."""
    return re.sub(r" \(.*\)$", "", name)


def _short(record: Any) -> str:
    code = getattr(record, "alpha_2", record.alpha_3)
    if code == "all":
        return _ALLAR
    known = languages.BY_NAME.get(code) or languages.BY_NAME.get(record.alpha_3)
    return known.code if known else code


def _code_of_tag(tag: str) -> str:
    """Returns the code of a BCP 47 tag, or of a FLORES code such as `arb_Arab`."""
    import langcodes

    if tag.lower().replace("_", "-") == _ALLAR.lower():
        return _ALLAR
    wrong = (
        f"{tag!r:.80} is not a language tag: expected one such as 'pt-BR', 'zh-Hans' or 'arb_Arab'"
    )
    try:
        parsed = langcodes.get(tag.replace("_", "-"), normalize=False)
    except langcodes.tag_parser.LanguageTagError:
        raise RequestError(wrong) from None
    if not parsed.language:
        raise RequestError(wrong)
    # zh-yue is Cantonese
    base = code_of(parsed.extlangs[0] if parsed.extlangs else parsed.language)
    rest = [part for part in (parsed.script, parsed.territory, *(parsed.variants or ())) if part]
    if parsed.private or parsed.extensions or not (rest or parsed.extlangs):
        raise RequestError(wrong)
    if not rest:
        return base
    if not langcodes.get("-".join(["und", *rest])).is_valid():
        raise RequestError(f"{tag!r:.80}: there is no script or region {'-'.join(rest)}")
    whole = langcodes.get("-".join([base, *rest]), normalize=False)
    usual = langcodes.get(base, normalize=False).maximize()
    return base if whole.maximize() == usual else str(whole)


@functools.cache
def _glottocodes() -> dict[str, str]:
    """Returns ISO 639-3 codes by Glottocode.

    Raises:
      RequestError: URIEL+, which has them, is not installed.
    """
    package = importlib.util.find_spec("urielplus")
    if package is None or not package.submodule_search_locations:
        raise RequestError(
            "Glottocodes need the package urielplus, which is not installed: install it, or give"
            " ISO 639-3 codes"
        )
    table = Path("database", "urielplus_csvs", "uriel_glottocode_map.csv")
    text = files.read_text(Path(next(iter(package.submodule_search_locations)), table))
    rows = csv.DictReader(io.StringIO(text))
    return {row["glottocode"]: row["iso_code"] for row in rows if row["glottocode"]}


def _iso_of_glottocode(glottocode: str) -> str:
    found = _glottocodes().get(glottocode)
    if found is None:
        raise RequestError(
            f"no ISO 639-3 code is known for the Glottocode {glottocode!r:.80}:"
            " give the ISO 639-3 code"
        )
    return found


# --- Properties of a language ---------------------------------------------------------------------


def is_listed(code: str) -> bool:
    """Returns whether ISO 639 lists a code, or reserves it for private use."""
    base = code.partition("-")[0]
    return base in languages.LANGUAGES or base in _iso() or bool(_PRIVATE.fullmatch(base))


def alpha3(code: str) -> str:
    """Returns the ISO 639-3 code of a language of `code_of`, without script and region."""
    base = code.partition("-")[0]
    known = languages.LANGUAGES.get(base)
    if known is not None:
        return known.iso639_3
    record = _iso().get(base)
    return record.alpha_3 if record is not None else base


def name_of(code: str) -> str:
    """Returns the English name of a language of `code_of`; the code if there is no name."""
    base, _, rest = code.partition("-")
    if base in languages.LANGUAGES:
        name = languages.LANGUAGES[base].name
    elif base in _iso():
        name = re.sub(r" \(macrolanguage\)$", "", _iso()[base].name)
    else:
        return code
    return f"{name} ({rest})" if rest else name


@functools.cache
def family_of(code: str) -> str:
    """Returns the family of a language of `code_of`, if possible under its name in WALS.

    For a language outside `languages.LANGUAGES`, the family comes from the tree in URIEL: it is the
    family of the language in `LANGUAGES` that shares the most nodes with it, or else the name of
    its largest node. Empty if URIEL has no node for it.
    """
    known = languages.LANGUAGES.get(code.partition("-")[0])
    if known is not None:
        return known.family
    row = uriel_row(code, "fam")
    if not uriel.known(row):
        return ""
    ours, theirs = _families()
    names, nodes = uriel.values([row], "fam")
    shared = (theirs * nodes).sum(axis=1)
    if shared.max() > 0:
        return ours[int(shared.argmax())]
    sizes = uriel.group_sizes() * (nodes[0] == 1)
    return names[int(sizes.argmax())].removeprefix("F_") if sizes.any() else ""


@functools.cache
def _families() -> tuple[list[str], np.ndarray]:
    """Returns the families of `languages.LANGUAGES`, and their nodes [N, nodes] in URIEL's tree."""
    ours = [language for language in languages.LANGUAGES.values() if uriel.known(language.uriel)]
    _, nodes = uriel.values([language.uriel for language in ours], "fam")
    return [language.family for language in ours], nodes


@functools.cache
def _macrolanguages() -> dict[str, str]:
    """Returns the macrolanguage of each language that has one, as BCP 47 codes."""
    from langcodes import registry_parser

    entries = registry_parser.parse_registry()
    return {e["Subtag"]: e["Macrolanguage"] for e in entries if "Macrolanguage" in e}


@functools.cache
def uriel_row(code: str, feature_set: str = "syntax_wals") -> str:
    """Returns the row of a URIEL table to use for a language of `code_of`.

    It is the row of the language itself; or that of its macrolanguage, if its own row has too few
    known values in this table and the macrolanguage has more. URIEL may lack the row: see
    `uriel.known`.
    """
    base = code.partition("-")[0]
    known = languages.LANGUAGES.get(base)
    if known is not None:
        return known.uriel
    own = alpha3(base)
    enough = _FEW if feature_set.endswith("_wals") else 1
    if uriel.count(own, feature_set) >= enough:
        return own
    macro = _macrolanguages().get(base) or _macrolanguages().get(own)
    if macro is not None:
        in_table = languages.LANGUAGES.get(macro)
        other = in_table.uriel if in_table is not None else alpha3(macro)
    else:
        other = _STANDS_IN.get(own, own)
    return other if uriel.count(other, feature_set) > uriel.count(own, feature_set) else own


def borrowed(code: str) -> dict[str, str]:
    """Returns the URIEL rows that are used for a language instead of its own, by WALS table.

    Empty if its own rows are used. A tag has the typology of its language.
    """
    base, _, rest = code.partition("-")
    own = alpha3(base)
    rows = {table: uriel_row(code, table) for table in ("syntax_wals", "phonology_wals")}
    if rest:
        return rows
    return {} if base in languages.LANGUAGES else {t: r for t, r in rows.items() if r != own}
