"""URIEL's tables as lang2vec's own function gives them."""

import numpy as np
import pytest

from seqio_tasks import uriel
from seqio_tasks.errors import RequestError

CODES = ("ara", "ben", "eng")


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")
@pytest.mark.parametrize("feature_set", sorted({*uriel._TABLES} - {"fam"}))
def test_values_are_lang2vecs(feature_set):
    from lang2vec import lang2vec

    names, values = uriel.values(CODES, feature_set)
    table = lang2vec.get_features(list(CODES), feature_set, header=True)
    assert names == list(table["CODE"])
    for row, code in zip(values, CODES, strict=True):
        expected = [np.nan if value == "--" else float(value) for value in table[code]]
        np.testing.assert_array_equal(row, np.asarray(expected))


def test_counts_of_known_values_are_those_that_were_counted_elsewhere():
    _, values = uriel.values(("ara", "arb", "ben", "eng"), "syntax_wals")
    assert np.isfinite(values).sum(axis=1).tolist() == [93, 66, 35, 98]
    _, values = uriel.values(("ara", "arb"), "phonology_wals")
    assert np.isfinite(values).sum(axis=1).tolist() == [25, 0]


def test_languages_share_their_branches_of_the_family_tree():
    names, (german, english, finnish) = uriel.values(("deu", "eng", "fin"), "fam")
    shared = {name for name, a, b in zip(names, german, english, strict=True) if a and b}
    assert "F_West Germanic" in shared
    assert not (german * finnish).any()


def test_it_says_which_languages_there_are():
    assert uriel.known("eng")
    assert uriel.known("ara")  # that lang2vec's list of languages lacks
    assert not uriel.known("hyw")


def test_what_is_returned_may_be_changed():
    _, values = uriel.values(("eng",), "syntax_wals")
    values[:] = 7
    assert not (uriel.values(("eng",), "syntax_wals")[1] == 7).any()


def test_the_script_of_lang2vec_s_wheel_is_not_taken_for_the_library(monkeypatch, tmp_path):
    (tmp_path / "lang2vec.py").write_text("raise AssertionError('the script')")
    monkeypatch.syspath_prepend(str(tmp_path))
    uriel._layer.cache_clear()
    assert uriel.known("eng")


def test_missing_lang2vec_is_a_request_that_can_be_mended(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    uriel._layer.cache_clear()
    with pytest.raises(
        RequestError, match="the package lang2vec, which contains URIEL's tables, is not installed"
    ):
        uriel.known("eng")
