"""Any language by any of its codes; different languages stay different."""

import subprocess
import sys

import pytest

from seqio_tasks import language_codes, languages, uriel
from seqio_tasks.errors import RequestError
from seqio_tasks.language_codes import SUMMARIES

SAME = {  # every way to write a language, by what it is called here
    "en": ["eng", "English", "en-US", "eng_Latn", "stan1293", " EN "],
    "de": ["ger", "deu", "German", "deu_Latn"],
    "el": ["gre", "ell", "el-GR", "ell_Grek", "Greek"],
    "sq": ["alb", "sqi", "Albanian"],
    "fr": ["fre", "fra"],
    "fa": ["per", "fas", "pes", "pes_Arab", "Persian"],
    "ar": ["ara", "arb", "arb_Arab", "stan1318"],
    "zh": ["chi", "zho", "cmn", "zh-Hans", "zho_Hans"],
    "sw": ["swa", "swh", "swh_Latn"],
    "ms": ["may", "msa", "zsm", "zsm_Latn"],
    "et": ["est", "ekk"],
    "pt": ["por", "pt-BR", "pt_BR", "por_Latn"],
    "sv": ["swe", "Swedish", "swe_Latn", "swed1254"],
    "no": ["nor", "Norwegian"],
    "nb": ["nob", "nob_Latn"],
    "he": ["iw", "heb"],
    "yue": ["zh-yue", "yue_Hant"],
    "min": ["min_Latn", "Minangkabau"],
    "all-Latn": ["all_Latn", "Allar"],
}
APART = [
    ("arz", "ar"), ("prs", "fa"), ("pnb", "pa"), ("zlm", "ms"), ("quy", "qu"), ("quz", "quy"),
    ("fil", "tl"), ("azb", "az"), ("zh-Hant", "zh"), ("zh-TW", "zh-Hant"), ("pt-PT", "pt"),
    ("arb_Latn", "ar"), ("nn", "nb"), ("nb", "no"), ("lvs", "lv"), ("als", "sq"), ("sr-Latn", "sr"),
    ("en-GB", "en"),
]  # fmt: skip


@pytest.mark.parametrize("code", SAME)
def test_a_language_has_one_code_however_it_is_written(code):
    assert {language_codes.code_of(name) for name in (code, *SAME[code])} == {code}


@pytest.mark.parametrize(("one", "other"), APART)
def test_varieties_stay_apart(one, other):
    assert language_codes.code_of(one) != language_codes.code_of(other)


def test_codes_are_their_own_names():
    for code in (*SAME, *languages.LANGUAGES, *(one for one, _ in APART)):
        code = language_codes.code_of(code)
        assert language_codes.code_of(code) == code


def test_every_code_of_uriel_is_a_language_of_its_own_or_a_synonym():
    """None is refused but Allar's, which is a word for sums too; few share a code."""
    codes = [language_codes.code_of(code) for code in uriel.codes() if code not in SUMMARIES]
    assert len(codes) - len(set(codes)) <= 12  # arb and ara, cmn and zho, swh and swa …


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((word, "not a language, but a name") for word in ("sum", "mean", "ALL", "avg", "total")),
        *((word, "not a language, but a name") for word in ("average", "macro", "mul", "und")),
        ("swahilli", r"unknown language 'swahilli' \(did you mean swahili"),
        ("sx", r"unknown language 'sx'; expected an ISO 639 code"),
        ("xx", r"unknown language 'xx'; expected"),
        ("swz", r"unknown language 'swz' \(did you mean sw"),
        ("", "unknown language ''; expected"),
        ("pt-Xyzw", "there is no script or region Xyzw"),
        ("zh-Hans-Latn", "not a language tag"),
        ("en-x-mine", "unknown language"),
        ("abcd1234", "Glottocode 'abcd1234': give the ISO 639-3 code"),
    ],
)
def test_what_is_no_language_is_refused(name, why):
    with pytest.raises(RequestError, match=why) as refused:
        language_codes.code_of(name)
    assert "\n" not in str(refused.value)


def test_two_letters_have_no_likeness():
    for code in ("sv", "da", "no"):
        with pytest.raises(RequestError) as refused:
            languages.get(code)  # of no data set
        assert "did you mean" not in str(refused.value)


def test_typology_is_borrowed_where_uriel_knows_too_little():
    assert [language_codes.uriel_row(code) for code in ("sv", "da", "no")] == ["swe", "dan", "nor"]
    rows = {"prs": "pes", "quy": "que", "zlm": "msa", "fil": "tgl", "npi": "nep", "sr": "hbs"}
    for code, row in rows.items():
        assert language_codes.uriel_row(code) == row
        assert language_codes.borrowed(code)["syntax_wals"] == row
        assert uriel.count(row, "syntax_wals") > uriel.count(
            language_codes.alpha3(code), "syntax_wals"
        )
    for code in ("arz", "azb", "sv", *languages.LANGUAGES):
        assert language_codes.borrowed(code) == {}
    # What the language's own row knows stays its own.
    assert language_codes.uriel_row("quy", "fam") == "quy"
    assert language_codes.uriel_row("quy", "inventory_average") == "quy"
    assert set(language_codes.borrowed("pt-PT").values()) == {"por"}


def test_a_code_has_a_name_and_a_family():
    assert language_codes.name_of("sv") == "Swedish"
    assert language_codes.name_of("pt-PT") == "Portuguese (PT)"
    assert language_codes.name_of("ne") == "Nepali"
    assert language_codes.name_of("qaa") == "qaa"
    families = {
        "sv": "Indo-European",
        "zu": "Niger-Congo",
        "tk": "Altaic",
        "zh-Hant": "Sino-Tibetan",
    }
    assert {code: language_codes.family_of(code) for code in families} == families
    assert language_codes.family_of("kl") == "Eskimo-Aleut"  # none of ours is in it
    assert language_codes.family_of("qaa") == ""


def test_the_libraries_are_imported_when_they_are_needed():
    code = (
        "import sys; from seqio_tasks import language_codes, languages; languages.get('swa');"
        "language_codes.code_of('deu');"
        "print([m for m in ('pycountry', 'langcodes', 'urielplus') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_uriel_plus_a_glottocode_is_refused(monkeypatch):
    language_codes._glottocodes.cache_clear()
    monkeypatch.setattr(language_codes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match="urielplus, which is not installed"):
        language_codes.code_of("stan1293")
