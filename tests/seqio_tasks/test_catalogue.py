"""The catalogue: names, mixtures, and subsets that are nested and the same for all readers."""

import subprocess
import sys

import pytest

from seqio_tasks import (
    catalogue,
    languages,
    quiet_registry,
    records,
)
from seqio_tasks.errors import RequestError

LANGUAGES = {  # how many each family has, in the order in which they are listed
    "xnli": 15,
    "panx": 48,
    "tydiqa": 9,
    "squad": 1,
    "squad2": 1,
    "xquad": 12,
    "mlqa": 7,
    "udpos": 38,
    "ccg": 1,
    "pawsx": 7,
    "qqp": 1,
    "mnli": 1,
    "anli": 1,
    "xcopa": 12,
    "siqa": 1,
    "hellaswag": 1,
    "cosmosqa": 1,
    "commonsenseqa": 1,
    "text": 50,
    "pocket_nli": 10,
    "pocket_ner": 10,
    "pocket_qa": 10,
    "pocket_text": 10,
}
GROUPS = {
    "intermediate": "squad squad2 ccg qqp mnli anli hellaswag cosmosqa commonsenseqa",
    "xtreme_r": "xnli panx tydiqa xquad mlqa udpos xcopa",
}
STUDY = ("ar", "bn", "en", "fi", "id", "ru", "sw", "es", "de", "hi")


def test_names_cost_no_tensorflow():
    code = (
        "import sys; from seqio_tasks import catalogue; catalogue.tasks('xfer_panx.sw');"
        "print([m for m in ('tensorflow', 'seqio', 'jax') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_families_have_their_languages_and_splits():
    counts = [(name, len(family.languages)) for name, family in catalogue.families().items()]
    assert counts == list(LANGUAGES.items())
    for family in catalogue.families().values():
        assert len(set(family.languages)) == len(family.languages)
        assert set(family.languages) <= set(languages.LANGUAGES)
        assert set(family.source.splits) <= set(records.SPLITS)
        assert set(family.source.sizes) <= set(family.source.splits)
        assert set(family.groups) <= set(records.TASK_GROUPS)
    # the paper's grid: NER in all ten languages, NLI and QA in seven each
    assert set(STUDY) <= set(catalogue.families()["panx"].languages)
    for name in ("xnli", "tydiqa"):
        assert len(set(STUDY) & set(catalogue.families()[name].languages)) == 7


@pytest.mark.parametrize("group", records.TASK_GROUPS)
def test_groups_hold_their_families(group):
    families = catalogue.families().values()
    assert [f.name for f in families if group in f.groups] == GROUPS[group].split()


def test_a_name_names_one_task():
    task = catalogue.task("xfer_panx.sw")
    assert (task.family.name, task.language, task.subset, task.seed) == ("panx", "sw", None, 0)
    assert task.name == task.full_name == "xfer_panx.sw"


def test_a_subset_has_a_size_and_a_seed():
    task = catalogue.task("xfer_pocket_qa.hi.n100.s3")
    assert (task.family.name, task.language, task.subset, task.seed) == ("pocket_qa", "hi", 100, 3)
    assert (task.name, task.full_name) == ("xfer_pocket_qa.hi.n100.s3", "xfer_pocket_qa.hi")


@pytest.mark.parametrize(("family", "size"), [("panx", 1000), ("tydiqa", 2390), ("xnli", 392_702)])
def test_matched_is_the_size_of_the_smallest_language(family, size):
    task = catalogue.task(f"xfer_{family}.en.matched.s2")
    assert (task.subset, task.seed, task.matched) == (size, 2, True)
    assert task.name == f"xfer_{family}.en.matched.s2"
    assert task.full_name == f"xfer_{family}.en"


def test_miniature_languages_have_no_matched_arm():
    with pytest.raises(RequestError, match="xfer_pocket_ner has no size-matched arm"):
        catalogue.task("xfer_pocket_ner.sw.matched.s0")


@pytest.mark.parametrize("suffix", ["", ".n10.s0", ".n999999.s12", ".matched.s0"])
def test_a_task_is_found_by_its_name(suffix):
    for family in ("xnli", "panx", "tydiqa"):
        for code in catalogue.families()[family].languages:
            name = f"xfer_{family}.{code}{suffix}"
            assert catalogue.task(name).name == name


@pytest.mark.parametrize("suffix", ["", ".n10.s1"])
def test_a_mixture_is_all_languages(suffix):
    names = [task.name for task in catalogue.tasks(f"xfer_tydiqa.all_langs{suffix}")]
    codes = ("ar", "bn", "en", "fi", "id", "ko", "ru", "sw", "te")
    assert names == [f"xfer_tydiqa.{code}{suffix}" for code in codes]
    with pytest.raises(RequestError, match="is a mixture of 9 tasks; name a single task"):
        catalogue.task(f"xfer_tydiqa.all_langs{suffix}")


def names_of(mixture: str) -> list[str]:
    return [task.name for task in catalogue.tasks(mixture)]


def test_a_language_family_is_a_mixture_of_its_languages():
    assert names_of("xfer_panx.uralic") == ["xfer_panx.et", "xfer_panx.fi", "xfer_panx.hu"]
    assert names_of("xfer_xnli.germanic") == ["xfer_xnli.de", "xfer_xnli.en"]  # those it has
    assert names_of("xfer_tydiqa.koreanic") == ["xfer_tydiqa.ko"]
    assert names_of("xfer_panx.uralic.matched.s1") == [
        f"xfer_panx.{code}.matched.s1" for code in ("et", "fi", "hu")
    ]
    with pytest.raises(RequestError, match=r"unknown task .xfer_xnli\.uralic. .did you mean"):
        catalogue.tasks("xfer_xnli.uralic")  # XNLI has no Uralic language


@pytest.mark.parametrize("total", [3, 4, 1000, 1001])
def test_families_are_matched_in_their_number_of_examples(total):
    sizes = [task.subset for task in catalogue.tasks(f"xfer_panx.uralic.n{total}.s5")]
    assert sum(sizes) == total
    assert max(sizes) - min(sizes) <= 1
    assert {task.seed for task in catalogue.tasks(f"xfer_panx.uralic.n{total}.s5")} == {5}


def test_small_languages_give_what_they_have_and_others_the_rest():
    def sizes(name: str) -> dict[str, int]:
        return {task.language: task.subset for task in catalogue.tasks(name)}

    assert sizes("xfer_panx.niger_congo.n1100.s0") == {"sw": 1000, "yo": 100}
    assert sizes("xfer_panx.niger_congo.n150.s0") == {"sw": 75, "yo": 75}
    indic = sizes("xfer_panx.indic.n1100.s0")
    assert (indic["gu"], indic["pa"], sum(indic.values())) == (100, 100, 1100)
    assert {indic[code] for code in ("bn", "hi", "mr", "ur")} == {225}


def test_a_family_gives_as_many_examples_as_its_name_says():
    with pytest.raises(RequestError, match=r"needs 5000 .* its languages have 1100"):
        catalogue.tasks("xfer_panx.niger_congo.n5000.s0")


def test_a_family_cannot_have_fewer_examples_than_languages():
    with pytest.raises(
        RequestError, match="2 examples are too few for 3 languages; choose at least 3"
    ):
        catalogue.tasks("xfer_panx.uralic.n2.s0")


def test_intermediate_tasks_go_by_their_kind():
    assert names_of("xfer_intermediate.ner.uralic") == names_of("xfer_panx.uralic")
    assert names_of("xfer_intermediate.nli.bantu.n9.s0".replace("bantu", "niger_congo")) == [
        "xfer_xnli.sw.n9.s0"
    ]
    assert names_of("xfer_intermediate.text.koreanic") == ["xfer_text.ko"]
    assert names_of("xfer_intermediate.ner_and_text.indic.n10.s0")[-2:] == [
        "xfer_text.pa",
        "xfer_text.ur",
    ]
    assert names_of("xfer_intermediate.pocket_ner_and_text.indic.n7.s0") == [
        "xfer_pocket_ner.bn.n3.s0",
        "xfer_pocket_ner.hi.n4.s0",
        "xfer_pocket_text.bn",
        "xfer_pocket_text.hi",
    ]
    for name in catalogue.intermediates():
        assert catalogue.tasks(name)
    assert names_of("xfer_intermediate.ner_and_text.sw") == ["xfer_panx.sw", "xfer_text.sw"]
    # text is of the languages that are labelled: else it would be more than half
    assert len(names_of("xfer_intermediate.ner_and_text.niger_congo")) == 4
    for wrong in ("xfer_intermediate.ner.all_langs", "xfer_intermediate.nre.uralic"):
        with pytest.raises(RequestError, match="unknown task"):
            catalogue.tasks(wrong)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("xfer_panx.swa", "xfer_panx.sw"),
        ("xfer_pnx.sw", "xfer_panx.sw"),
        ("panx.sw", "xfer_panx.sw"),
        ("xfer_xnli.all_lang", "xfer_xnli.all_langs"),
        ("xfer_tidyqa.bn", "xfer_tydiqa.bn"),
        ("xfer_pocket_ner", "xfer_pocket_ner."),
        ("xfer_xnli.bn", "xfer_xnli.en"),  # XNLI has no Bengali
        ("xfer_panx.sw.n100", "xfer_panx.sw"),  # no seed
        ("xfer_panx.sw.s0", "xfer_panx.sw"),
        ("xfer_panx.sw.n0.s0", "xfer_panx.sw"),
        ("xfer_panx.sw.n010.s0", "xfer_panx.sw"),
        ("xfer_panx.sw.n100.s-1", "xfer_panx.sw"),
        ("xfer_panx.sw.n100.s0 ", "xfer_panx.sw"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(RequestError) as caught:
        catalogue.tasks(name)
    message = str(caught.value)
    assert message.startswith(f"unknown task {name!r} (did you mean ")
    assert nearest in message


@pytest.mark.parametrize("name", ["", "nonsense", "XFER_PANX.SW"])
def test_a_name_like_no_other_is_answered_with_the_command_that_lists_them(name):
    with pytest.raises(RequestError, match=r"unknown task '.*'; `xfer-jax tasks` lists them"):
        catalogue.tasks(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../tasks/xfer_panx.sw", "unknown task '../tasks/xfer_panx.sw'"),
        ("xfer_panx.sw/../x", "unknown task 'xfer_panx.sw/../x'"),
        ("xfer_panx.sw\n", r"unknown task 'xfer_panx.sw\n'"),
        ("xfer_panx.\0sw", r"unknown task 'xfer_panx.\x00sw'"),
        ("xfer panx.sw", "unknown task 'xfer panx.sw'"),
        ("x" * 100_000, f"unknown task '{'x' * 80}'; `xfer-jax tasks` lists them"),
        ("xfer_panx.sw.n10000000000000.s0", "'xfer_panx.sw.n10000000000000.s0': 100000000… is too"),
        (f"xfer_panx.sw.n1.s{'9' * 5000}", "999999999… is too large for a subset or a seed"),
        (5, "a task name must be text, such as 'xfer_panx.sw', not 5"),
        (("xfer_panx.sw",), "a task name must be text, such as 'xfer_panx.sw', not ("),
    ],
)
def test_what_cannot_be_a_name_is_refused_in_a_line(name, said):
    with pytest.raises(RequestError) as caught:
        catalogue.tasks(name)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["xfer_panx.sw.n10.s007", "xfer_panx.sw.n1\u0660.s0"])
def test_a_task_has_one_name(name):
    try:
        found = catalogue.task(name).name
    except RequestError:
        return
    assert found == name


def test_names_are_put_together_for_gin():
    assert catalogue.name("xfer_panx", "sw") == "xfer_panx.sw"
    assert catalogue.name("xfer_panx", "sw", subset="n100.s0") == "xfer_panx.sw.n100.s0"
    assert catalogue.names("xfer_xnli", ["ar", "hi"]) == ("xfer_xnli.ar", "xfer_xnli.hi")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: catalogue.name(5, "sw"),
            "TASK must be text in quotation marks, such as 'en', not 5",
        ),
        (lambda: catalogue.name("xfer_panx", None), "SOURCE must be text in quotation marks"),
        (
            lambda: catalogue.names("xfer_panx", "en"),
            "TARGETS must be a list, such as ('en',) with its comma, not 'en'",
        ),
        (lambda: catalogue.names("xfer_panx", ("en", 5)), "TARGETS[1] must be text"),
        (lambda: catalogue.probe(None), "TASK must be text"),
        (
            lambda: catalogue.evaluation_examples(-1),
            "EVALUATOR_NUM_EXAMPLES must be at least 1, not -1",
        ),
        (
            lambda: catalogue.longest_target("x"),
            "the length of a target must be a whole number, not 'x'",
        ),
        (lambda: catalogue.of_languages("xfer_panx.sw"), "tasks must be a list or tuple of names"),
        (lambda: catalogue.of_languages(["xfer_panx.sw"], [["en"]]), "no language ['en']"),
    ],
)
def test_parts_of_names_of_wrong_types_are_refused(call, said):
    with pytest.raises(RequestError) as caught:
        call()
    assert said in str(caught.value)


def test_the_registry_is_imported_without_a_place_for_its_chatter(monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", nowhere)
    assert quiet_registry.load().__name__ == "seqio_tasks.registry"
