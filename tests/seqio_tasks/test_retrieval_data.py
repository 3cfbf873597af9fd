"""Retrieval sets: small files in the documented formats, and the real Tatoeba where it is."""

import json
import os
from pathlib import Path

import pytest

from seqio_tasks import data_config, languages, retrieval_data
from seqio_tasks.errors import RequestError

DATA_DIR = os.environ.get("XFER_DATA_DIR")  # at import: tests change the environment
# of LASER's release, in the languages of TyDiQA and the study
PAIRS = dict.fromkeys(("ar", "bn", "de", "es", "fi", "hi", "id", "ru"), 1000) | {
    "sw": 390,
    "te": 234,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    return tmp_path


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def data_dir() -> Path | None:
    return data_config.configured().data_dir


def only(name: str, language: str, split: str | None = None) -> retrieval_data.Set:
    (found,) = retrieval_data.read(name, data_dir(), (language,), split)
    return found


def right(found: retrieval_data.Set) -> list[list[str]]:
    """Returns the ids of every query's right candidates, in order."""
    return [[found.candidates.ids[i] for i in sorted(gold)] for gold in found.gold]


def test_the_languages_are_known():
    counts = {name: len(of.languages) for name, of in retrieval_data.FAMILIES.items()}
    assert counts == {"tatoeba": 41, "tatoeba_to_en": 41, "mewslix": 11, "lareqa": 11}
    for of in retrieval_data.FAMILIES.values():
        assert len(set(of.languages)) == len(of.languages)
        assert set(of.languages) <= set(languages.LANGUAGES)


def tatoeba(folder: Path, texts: list[str], english: list[str]) -> None:
    write(folder / "tatoeba" / "sw-en.sw", *texts)
    write(folder / "tatoeba" / "sw-en.en", *english)


def test_line_goes_with_line(folder):
    tatoeba(folder, ["moja ", "mbili", "tatu"], ["one", " two", "three"])
    found = only("tatoeba_to_en", "sw")
    assert (found.language, found.queries) == ("sw", ("moja", "mbili", "tatu"))
    assert found.candidates.texts == ("one", "two", "three")
    assert right(found) == [["0"], ["1"], ["2"]]
    back = only("tatoeba", "sw")
    assert (back.queries, back.candidates.texts) == (found.candidates.texts, found.queries)


def test_translations_that_read_the_same_are_all_right(folder):
    tatoeba(folder, ["habari", "jambo", "jambo", "simba"], ["hello", "hello", "hi", "lion"])
    assert right(only("tatoeba_to_en", "sw")) == [["0", "1"], ["0", "1"], ["2"], ["3"]]
    assert right(only("tatoeba", "sw")) == [["0"], ["1", "2"], ["1", "2"], ["3"]]


def test_a_file_of_pairs_says_what_is_right(folder):
    tatoeba(folder, ["tatu", "mbili", "moja"], ["one", "three", "two"])
    write(folder / "tatoeba" / "test-sw.tsv", "2", "0", "1")
    assert right(only("tatoeba_to_en", "sw")) == [
        ["1"],
        ["2"],
        ["0"],
    ]  # tatu: three, the second line
    assert right(only("tatoeba", "sw")) == [["2"], ["0"], ["1"]]
    for wrong in (("2", "0"), ("2", "0", "0"), ("2", "0", "x"), ("1", "2", "3")):
        write(folder / "tatoeba" / "test-sw.tsv", *wrong)
        with pytest.raises(
            RequestError, match=r"test-sw\.tsv: must contain each number from 0 to 2"
        ):
            only("tatoeba_to_en", "sw")


def test_a_sorted_english_side_needs_its_pairs(folder):
    english = [f"sentence {i}" for i in range(10)]
    tatoeba(folder, [f"sentensi {i}" for i in range(10)], english)
    with pytest.raises(RequestError, match=r"sw-en\.en is sorted.*put the pairs into test-sw\.tsv"):
        only("tatoeba_to_en", "sw")
    tatoeba(folder, [f"sentensi {i}" for i in range(10)], english[::-1])
    assert right(only("tatoeba_to_en", "sw"))[0] == ["0"]


def test_sides_of_unequal_length_and_missing_files(folder):
    with pytest.raises(RequestError, match=r"needs tatoeba/sw-en\.sw"):
        only("tatoeba_to_en", "sw")
    for texts, english in ((["a"], ["b", "c"]), ([], [])):
        tatoeba(folder, texts, english)
        with pytest.raises(RequestError, match="both must have the same number, not 0"):
            only("tatoeba_to_en", "sw")


ENTITIES = (
    {
        "entity_id": "Q1",
        "title": "Nile",
        "description": "The Nile is a river.\n It is long. ",
        "sentence_spans": [{"start": 0, "end": 20}, {"start": 22, "end": 33}],
        "description_language": "en",
        "description_url": "",
    },
    {
        "entity_id": "Q2",
        "title": "Нил",
        "description": "Имя.",
        "sentence_spans": [{"start": 0, "end": 4}],
        "description_language": "ru",
        "description_url": "",
    },
)
TEXT = "Ein Satz. Der {lange} Nil  fließt."


def document(*mentions: tuple[str, int, int, str]) -> str:
    """Returns a line of mentions (id, start, end, entity) in TEXT."""
    spans = [{"start": 0, "end": 9}, {"start": 10, "end": len(TEXT)}]
    context = {"document_title": "T", "language": "de", "text": TEXT, "sentence_spans": spans}
    context |= {"document_url": "", "document_id": "D"}
    listed = [
        {
            "example_id": name,
            "mention_span": {"start": start, "end": end, "text": TEXT[start:end]},
            "entity_id": entity,
        }
        for name, start, end, entity in mentions
    ]
    return json.dumps({"context": context, "mentions": listed})


def mewslix(folder: Path, *documents: str, split: str = "dev") -> None:
    write(folder / "mewslix/candidate_set_entities.jsonl", *map(json.dumps, ENTITIES))
    write(folder / f"mewslix/wikinews_mentions/{split}-de.jsonl", *documents)


def test_mentions_look_for_entities(folder):
    mewslix(
        folder,
        document(("a", 22, 25, "Q1"), ("b", 0, 3, "Q2")),
        document(("c", 22, 25, "Q99")),
    )
    found = only("mewslix", "de")
    assert found.queries == (
        "Nil: Der (lange) { Nil } fließt.",
        "Ein: { Ein } Satz.",
        "Nil: Der (lange) { Nil } fließt.",
    )
    assert found.candidates.texts == ("The Nile is a river. It is long.", "Имя.")
    assert right(found) == [["Q1"], ["Q2"], []]  # an entity that is no candidate is never found


def test_mentions_without_answers_or_sentence_are_refused(folder):
    mewslix(folder, document(("a", 22, 25, "")), split="test")
    with pytest.raises(RequestError, match="set EVAL_SPLIT to 'validation'"):
        only("mewslix", "de", "test")
    mewslix(folder, document(("a", 5, 25, "Q1")))
    with pytest.raises(RequestError, match="mention a is not inside a sentence"):
        only("mewslix", "de")
    mewslix(folder, document(("a", 22, 25, "Q1")), "{")
    with pytest.raises(RequestError, match=r"dev-de\.jsonl, line 2: not JSON"):
        only("mewslix", "de")
    mewslix(folder, "{}")
    with pytest.raises(RequestError, match="not of Mewsli-X's form"):
        only("mewslix", "de")
    twice = "".join(json.dumps(ENTITIES[0]) + "\n" for _ in range(2))
    write(folder / "mewslix/candidate_set_entities.jsonl", twice)
    with pytest.raises(RequestError, match="line 2: the entity Q1 occurs a second time"):
        only("mewslix", "de")
    write(folder / "mewslix/candidate_set_entities.jsonl", '{"entity_id": "Q1"}')
    with pytest.raises(RequestError, match=r"entities\.jsonl, line 1: not of Mewsli-X's form"):
        only("mewslix", "de")


def xquad_r(folder: Path, language: str, *paragraphs: tuple[list[str], list[tuple]]) -> None:
    """Writes paragraphs of (sentences, questions); a question is (id, text, answer's start)."""
    written = []
    for sentences, questions in paragraphs:
        breaks, start = [], 0
        for sentence in sentences:
            breaks.append([start, start + len(sentence)])
            start += len(sentence) + 1
        qas = [
            {"id": i, "question": text, "answers": [{"text": "?", "answer_start": at}]}
            for i, text, at in questions
        ]
        written.append({"context": " ".join(sentences), "sentence_breaks": breaks, "qas": qas})
    content = {"data": [{"title": "t", "paragraphs": written[:1]}, {"paragraphs": written[1:]}]}
    write(folder / f"lareqa/xquad-r/{language}.json", json.dumps(content))


def test_answers_are_the_sentences_of_every_language(folder):
    for language in retrieval_data.LAREQA:
        xquad_r(
            folder,
            language,
            (["One.", "Two.", "One."], [("q1", f"first {language}", 5), ("q2", "twice", 0)]),
            # the answer of q3 begins between two sentences: only in German
            (["Aa.", "Bb."], [("q3", "third", 3 if language == "de" else 5)]),
        )
    found = list(retrieval_data.read("lareqa", data_dir(), ("de", "en")))
    de, en = found
    assert (de.language, en.language) == ("de", "en")
    assert de.candidates is en.candidates
    assert (de.queries, en.queries) == (("first de", "twice"), ("first en", "twice", "third"))
    # a paragraph without a question has no candidates
    assert len(en.candidates.ids) == 5 * 11 - 2
    assert len(set(en.candidates.ids)) == len(en.candidates.ids)
    first, twice, third = right(en)
    assert first == [f"{language}_1_1" for language in retrieval_data.LAREQA]
    assert twice == [f"{language}_1_{i}" for language in retrieval_data.LAREQA for i in (0, 2)]
    assert third == [f"{language}_2_1" for language in retrieval_data.LAREQA if language != "de"]
    assert right(de) == [first, twice]
    texts = dict(zip(en.candidates.ids, en.candidates.texts, strict=True))
    assert (texts["en_1_1"], texts["en_2_1"]) == ("Two.", "Bb.")


def test_files_that_are_not_xquad_r_are_refused(folder):
    write(folder / "lareqa/xquad-r/ar.json", '{"data": [', "}")
    with pytest.raises(RequestError, match=r"ar\.json, line 2: not JSON"):
        only("lareqa", "ar")
    write(folder / "lareqa/xquad-r/ar.json", '{"data": [{"paragraphs": [{"context": "a"}]}]}')
    with pytest.raises(RequestError, match="not of XQuAD-R's form"):
        only("lareqa", "ar")
    xquad_r(folder, "ar")
    with pytest.raises(RequestError, match=r"needs lareqa/xquad-r/de\.json"):
        only("lareqa", "ar")


def test_wrong_names_are_refused(monkeypatch, folder):
    with pytest.raises(RequestError, match=r"unknown retrieval task 'mewsli'.*mewslix"):
        only("mewsli", "de")
    with pytest.raises(RequestError, match="mewslix has no language sw"):
        only("mewslix", "sw")
    with pytest.raises(RequestError, match="may be validation or test"):
        only("mewslix", "de", "dev")
    monkeypatch.delenv("XFER_DATA_DIR")
    with pytest.raises(RequestError, match="set DATA_DIR or XFER_DATA_DIR"):
        only("mewslix", "de")


@pytest.mark.skipif(not DATA_DIR, reason="XFER_DATA_DIR names no folder of XTREME-layout files")
def test_the_real_tatoeba_has_its_pairs(monkeypatch):
    monkeypatch.setenv("XFER_DATA_DIR", str(DATA_DIR))
    folder = Path(str(DATA_DIR)) / "tatoeba"
    here = [code for code in PAIRS if (folder / f"{code}-en.en").is_file()]
    if not here:
        pytest.skip("there is no Tatoeba")
    for found in retrieval_data.read("tatoeba_to_en", data_dir(), here):
        assert len(found.queries) == PAIRS[found.language]
        assert all(found.queries)
        assert all(found.candidates.texts)
        assert [sorted(gold) for gold in found.gold] == [[i] for i in range(len(found.queries))]
