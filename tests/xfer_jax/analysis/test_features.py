"""Features of pairs of languages, against loops and what is known of the languages."""

import unicodedata

import numpy as np
import pytest

from seqio_tasks import uriel
from seqio_tasks.errors import RequestError
from xfer_jax.analysis import features
from xfer_jax.analysis.features import Options
from xfer_jax.cli import main as cli

CODES = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")


@pytest.fixture(scope="module")
def typology():
    return features.typology(CODES, Options())


def of(feature: features.Feature, one: str, other: str) -> float:
    return feature.values[CODES.index(one), CODES.index(other)]


@pytest.mark.parametrize("measure", features.MEASURES)
def test_similarity_equals_a_loop_over_values_known_for_both(measure):
    rng = np.random.default_rng(0)
    values = (rng.random((5, 40)) < 0.4).astype(float)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[4, 4:] = np.nan  # of whom too little is known
    found = features.compare(values, measure)
    for i in range(5):
        for j in range(5):
            both = np.isfinite(values[i]) & np.isfinite(values[j])
            a, b = values[i, both], values[j, both]
            assert found.coverage[i, j] == both.sum() / 40
            if both.sum() < features.FEWEST_VALUES:
                assert np.isnan(found.values[i, j])
            elif measure == "cosine":
                expected = a @ b / np.sqrt((a @ a) * (b @ b))
                assert found.values[i, j] == pytest.approx(expected, 1e-12)
            else:
                assert found.values[i, j] == pytest.approx(np.mean(a == b), 1e-12)


def test_languages_resemble_their_relatives_and_neighbours(typology):
    assert of(typology["genetic"], "en", "de") > of(typology["genetic"], "en", "hi") > 0
    assert of(typology["genetic"], "en", "fi") == 0
    assert of(typology["syntax"], "hi", "bn") > of(typology["syntax"], "hi", "ar")
    # London to Berlin is 930 km, to Jakarta 11,700 km, of 20,015 km halfway around; URIEL places a
    # language where it came from
    assert (1 - of(typology["geography"], "en", "de")) * 20015 == pytest.approx(930, abs=300)
    assert (1 - of(typology["geography"], "en", "id")) * 20015 == pytest.approx(11_700, rel=0.1)
    for feature in typology.values():
        np.testing.assert_allclose(feature.values, feature.values.T, atol=1e-12)
        np.testing.assert_allclose(np.diag(feature.values), 1.0, atol=1e-6)


def test_syntax_and_morphology_share_the_columns_of_wals(typology):
    both = typology["syntax"].coverage * 61 + typology["morphology"].coverage * 42
    arabic, bengali = CODES.index("ar"), CODES.index("bn")
    assert round(both[arabic, arabic]) == 93
    assert round(both[bengali, bengali]) == 35


def test_gaps_can_be_filled():
    filled = features.typology(CODES, Options(imputed=True))
    for name in ("syntax", "morphology", "phonology"):
        assert (filled[name].coverage == 1).all()


def test_words_are_langranks_overlap():
    texts = {"en": ["The cat sat.", "the dog"], "de": ["der Hund sat", "THE"], "fi": []}
    found = features.lexical(texts, ("en", "de", "fi", "sw"))
    # the cat sat dog; der hund sat the
    assert found["words"].values[0, 1] == 2 / 8
    assert found["words"].values[0, 0] == 0.5
    assert np.isnan(found["words"].values[2:]).all()
    assert 0 < found["trigrams"].values[0, 1] < found["trigrams"].values[0, 0] == pytest.approx(1)


def test_languages_that_share_no_word_share_no_trigram():
    """Hindi and Marathi: what they share are vowel signs."""
    texts = {"hi": ["मुझे पानी चाहिए"], "mr": ["मला पाणी पाहिजे"], "vi": ["Tiếng Việt"]}
    texts["nfd"] = [unicodedata.normalize("NFD", "tiếng việt")]
    found = features.lexical(texts, list(texts))
    for name in ("words", "trigrams"):
        assert found[name].values[0, 1] == 0
        assert found[name].values[2, 3] == pytest.approx(found[name].values[2, 2])


def test_trigrams_are_counted_by_character():
    texts = {"hi": ["पानी"], "mr": ["नीरज"]}  # the first has the neighbours of two characters
    counts = [{" पानी", "पानी "}, {" नीर", "नीरज", "रज "}]
    shared = counts[0] & counts[1]
    expected = len(shared) / np.sqrt(len(counts[0]) * len(counts[1]))
    assert features.lexical(texts, ["hi", "mr"])["trigrams"].values[0, 1] == expected == 0
    assert features._trigrams("पानी") == [" पानी", "पानी "]


def test_a_users_features_are_read_by_column_or_by_task(tmp_path):
    wide, tidy = tmp_path / "wide.csv", tmp_path / "tidy.csv"
    wide.write_text("source,target,near,near_coverage\neng,swa,1,0.5\nsw,en,2,0.5\nen,xx,9,1\n")
    found, notes = features.read(wide, ("en", "sw"))
    assert notes == [f"{wide}: rows of unknown languages are ignored: 'xx'"]
    assert found.keys() == {"near"}
    np.testing.assert_array_equal(found["near"].values, [[np.nan, 1], [2, np.nan]])
    tidy.write_text("source,target,task,score\nen,sw,ldnd,80\nsw,en,ldnd,80\nen,sw,far,3\n")
    found, _ = features.read(tidy, ("en", "sw"))
    np.testing.assert_array_equal(found["ldnd"].values, [[np.nan, 80], [80, np.nan]])
    np.testing.assert_array_equal(found["far"].values, [[np.nan, 3], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("source,target\nen,sw\n", "has no feature column"),
        ("source,target,x\nen,sw,1\neng,swa,2\n", "gives x for en and sw twice"),
        ("source,target,x\nen,sw,one\n", "x 'one' is not a number"),
    ],
)
def test_a_table_of_no_features_is_refused(tmp_path, text, why):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(RequestError, match=why):
        features.read(tmp_path / "f.csv", ("en", "sw"))


def test_the_command_writes_a_row_a_pair(tmp_path, capsys):
    path = tmp_path / "made" / "features.csv"
    assert cli.main(["features", "--languages", "en,Swahili,hin", "--out", str(path)]) == 0
    assert "6 features of 6 pairs" in capsys.readouterr().out
    lines = path.read_text().splitlines()
    assert lines[0].startswith("source,target,syntax,syntax_coverage,morphology")
    assert [line.split(",")[:2] for line in lines[1:4]] == [
        ["en", "sw"],
        ["en", "hi"],
        ["sw", "en"],
    ]
    assert cli.main(["features", "--languages", "sv,da,no", "--out", str(path)]) == 0
    table = [row.split(",") for row in path.read_text().splitlines()]
    assert [row[:2] for row in table[1:3]] == [["sv", "da"], ["sv", "no"]]
    rows = uriel.values(("swe", "dan"), "syntax_wals")
    chosen = [i for i, name in enumerate(rows[0]) if features.TYPOLOGY["syntax"][1](name)]
    one, other = rows[1][:, chosen]
    both = np.isfinite(one) & np.isfinite(other)
    expected = one[both] @ other[both] / np.sqrt((one[both] ** 2).sum() * (other[both] ** 2).sum())
    assert float(table[1][2]) == pytest.approx(expected, rel=1e-5)
    assert cli.main(["features", "--languages", "en,eng", "--out", str(path)]) == 2
    assert "two different languages" in capsys.readouterr().err
