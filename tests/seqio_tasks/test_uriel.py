"""URIEL's tables as lang2vec's own function gives them."""

import numpy as np
import pytest

from seqio_tasks import uriel

CODES = ("ara", "ben", "eng")


@pytest.mark.parametrize("feature_set", ["syntax_wals", "phonology_wals", "syntax_knn", "geo"])
def test_values_are_lang2vecs(feature_set):
    names, values = uriel.values(CODES, feature_set)
    table = uriel.lang2vec().get_features(list(CODES), feature_set, header=True)
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


def test_which_languages_there_are():
    assert uriel.known("eng")
    assert uriel.known("ara")  # that lang2vec's list of languages lacks
    assert not uriel.known("hyw")


def test_what_is_returned_may_be_changed():
    _, values = uriel.values(("eng",), "syntax_wals")
    values[:] = 7
    assert not (uriel.values(("eng",), "syntax_wals")[1] == 7).any()
