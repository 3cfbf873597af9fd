"""Words on the page: names are cut where readers see characters end."""

from xfer_jax.report import wording


def test_names_are_cut_between_characters_as_readers_see_them():
    assert wording.short("ab", 2) == "ab"
    assert wording.short("abc", 2) == "a…"
    assert wording.short("abe\u0301f", 4) == "ab…"  # an accent stays with its letter, or goes too
    assert wording.short("हिन्दी भाषा", 7) == "हिन्दी…"
    assert len(wording.short("e" + "\u0301" * 10_000)) == 80  # one letter of ten thousand marks
