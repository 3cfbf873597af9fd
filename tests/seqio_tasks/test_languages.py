"""Languages: the tables agree with lang2vec, and every name finds its language."""

import functools
import re

import pytest

from seqio_tasks import languages
from seqio_tasks.errors import RequestError
from seqio_tasks.languages import LANGUAGES, STUDY, URIEL_ALTERNATIVES, XTREME_R

# Known values of 103 syntax_wals and 28 phonology_wals features, counted in lang2vec 1.1.2.
STUDY_COVERAGE = {
    "ar": (93, 25),
    "bn": (35, 22),
    "en": (98, 25),
    "fi": (95, 26),
    "id": (95, 25),
    "ru": (87, 25),
    "sw": (80, 27),
    "es": (96, 26),
    "de": (84, 25),
    "hi": (79, 25),
}


@functools.cache
def coverage() -> dict[str, tuple[int, int]]:
    """Returns how many syntax_wals and phonology_wals values lang2vec knows, by URIEL code.

    lang2vec reads its tables anew at each call and raises where it lacks a row: one call a table.
    """
    lang2vec = pytest.importorskip("lang2vec.lang2vec")
    rows = {language.uriel for language in LANGUAGES.values()}
    rows |= {language.iso639_3 for language in LANGUAGES.values()}
    rows |= {other for others in URIEL_ALTERNATIVES.values() for other in others}
    syntax, phonology = (
        lang2vec.get_features(sorted(rows), features)
        for features in ("syntax_wals", "phonology_wals")
    )

    def known(row) -> int:
        return sum(value != "--" for value in row)

    return {code: (known(syntax[code]), known(phonology[code])) for code in rows}


def test_table_is_well_formed():
    assert len(LANGUAGES) == len(XTREME_R) == 50
    assert set(XTREME_R) == set(LANGUAGES)
    assert len(STUDY) == 10
    assert set(STUDY) <= set(LANGUAGES)
    assert set(URIEL_ALTERNATIVES) <= set(LANGUAGES)
    for code, language in LANGUAGES.items():
        assert language.code == code
        assert re.fullmatch("[a-z]{2}", code)
        assert re.fullmatch("[a-z]{3}", language.iso639_3)
        assert re.fullmatch("[a-z]{3}", language.uriel)
        assert re.fullmatch("[A-Z][a-z]{3}", language.script)
        assert language.name
        assert language.family
        assert language.genus


@pytest.mark.parametrize("field", ["iso639_3", "uriel", "name"])
def test_names_are_distinct(field):
    assert len({getattr(language, field) for language in LANGUAGES.values()}) == len(LANGUAGES)


def test_a_genus_lies_in_one_family():
    families: dict[str, set[str]] = {}
    for language in LANGUAGES.values():
        families.setdefault(language.genus, set()).add(language.family)
    assert [genus for genus, of in families.items() if len(of) > 1] == []


def test_languages_of_the_data_sets_are_there():
    xnli = "ar bg de el en es fr hi ru sw th tr ur vi zh"
    xcopa = "et ht id it qu sw ta th tr vi zh"
    tydiqa = "ar bn en fi id ja ko ru sw te th"
    panx = (
        "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko"
        " th sw yo my zh kk tr et fi hu qu pl uk az lt pa gu ro"
    )
    assert set(f"{xnli} {xcopa} {tydiqa} {panx} wo".split()) == set(LANGUAGES)


@pytest.mark.parametrize("code", XTREME_R)
def test_uriel_row_loads_and_no_alternative_knows_more(code):
    chosen = sum(coverage()[LANGUAGES[code].uriel])
    # the row of the individual standard language is an alternative, named or not
    for other in {*URIEL_ALTERNATIVES.get(code, ()), LANGUAGES[code].iso639_3}:
        assert sum(coverage()[other]) <= chosen, other


@pytest.mark.parametrize(("code", "known"), STUDY_COVERAGE.items())
def test_coverage_of_the_study_languages(code, known):
    assert coverage()[LANGUAGES[code].uriel] == known


@pytest.mark.parametrize("query", ["ar", "AR", "arb", "ara", "Arabic", " arabic "])
def test_a_language_is_found_however_it_is_written(query):
    assert languages.get(query) is LANGUAGES["ar"]


@pytest.mark.parametrize("code", XTREME_R)
def test_get_finds_every_language_by_every_name(code):
    language = LANGUAGES[code]
    for query in (code, language.iso639_3, language.uriel, language.name):
        assert languages.get(query) is language


def test_get_names_the_nearest():
    with pytest.raises(RequestError, match=r"'Swahilli' \(did you mean swahili"):
        languages.get("Swahilli")
    with pytest.raises(RequestError, match="expected a code"):
        languages.get("")


def test_groups_are_families_or_genera_of_large_ones_and_hold_every_language_once():
    groups = languages.GROUPS
    assert groups["uralic"] == ("et", "fi", "hu")
    assert groups["turkic"] == ("az", "kk", "tr")
    assert groups["japonic"] == ("ja",)
    assert set(groups["niger_congo"]) == {"sw", "wo", "yo"}
    assert "indo_european" not in groups
    assert {"germanic", "romance", "slavic", "indic", "iranian", "baltic", "greek"} <= set(groups)
    assert sorted(code for codes in groups.values() for code in codes) == sorted(
        languages.LANGUAGES
    )
    assert not set(groups) & set(languages.LANGUAGES)
