"""XTREME-R's retrieval tasks: texts that look for the right ones among many, by family.

Files lie as XTREME's download scripts leave them; formats, candidates and right answers are those
of XTREME-R (Ruder et al. 2021): Tatoeba of Artetxe and Schwenk 2019, Mewsli-X, and XQuAD-R of
LAReQA (Roy et al. 2020).
"""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from seqio_tasks import sources
from seqio_tasks.errors import RequestError, did_you_mean

ACCURACY, MAP = "accuracy", "map@20"
_SORTED_BY_CHANCE = 9  # so few lines may be in order of the alphabet and still be pairs


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """What is searched; several languages' sets may share one."""

    texts: tuple[str, ...]
    ids: tuple[str, ...]  # as the data set names them, no two alike


@dataclasses.dataclass(frozen=True)
class Set:
    """The queries of one language, and which candidates answer each."""

    language: str
    queries: tuple[str, ...]
    candidates: Candidates
    gold: tuple[frozenset[int], ...]  # of each query, the indices of its right candidates


@dataclasses.dataclass(frozen=True)
class Family:
    """One retrieval task in several languages."""

    name: str  # 'tatoeba'
    languages: tuple[str, ...]
    splits: tuple[str, ...]  # that have right answers; the first is the one to report
    metric: str
    # (languages, split) -> their sets, in that order
    read: Callable[[Sequence[str], str], Iterator[Set]]


def family(name: str) -> Family:
    """Returns a family by its name.

    Raises:
      RequestError: no such family; names the nearest.
    """
    if name not in FAMILIES:
        hint = did_you_mean(str(name), FAMILIES) or f"; there are {', '.join(FAMILIES)}"
        raise RequestError(f"unknown retrieval task {name!r}{hint}")
    return FAMILIES[name]


def read(name: str, languages: Sequence[str] = (), split: str | None = None) -> Iterator[Set]:
    """Yields the sets of a family in some languages, or in all, one after the other.

    Args:
      name: of the family.
      languages: of the queries; all by default.
      split: of the family's; its first by default.

    Raises:
      RequestError: an unknown family, language or split, or data that is missing or malformed.
    """
    found = family(name)
    unknown = [code for code in languages if code not in found.languages]
    if unknown:
        raise RequestError(
            f"{name} has no language {', '.join(map(str, unknown))}; it has"
            f" {', '.join(found.languages)}"
        )
    if split is not None and split not in found.splits:
        raise RequestError(
            f"{name} has no split {split!r}; EVAL_SPLIT may be {' or '.join(found.splits)}"
        )
    if sources.data_dir() is None:
        raise RequestError(
            f"{name} is read from files: name a folder in the layout of XTREME's download scripts"
            " by DATA_DIR or XFER_DATA_DIR"
        )
    yield from found.read(tuple(languages) or found.languages, split or found.splits[0])


def _json(path: Path, number: int | None, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = error.lineno if number is None else number
        raise RequestError(f"{path}, line {line}: not JSON ({error.msg})") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- Tatoeba --------------------------------------------------------------------------------------

TATOEBA = (
    "ar", "he", "vi", "id", "jv", "tl", "eu", "ml", "ta", "te", "af", "nl", "de", "el",
    "bn", "hi", "mr", "ur", "fa", "fr", "it", "pt", "es", "bg", "ru", "ja", "ka", "ko",
    "th", "sw", "zh", "kk", "tr", "et", "fi", "hu", "az", "lt", "pl", "uk", "ro",
)  # fmt: skip


def _tatoeba_pairs(language: str) -> tuple[list[str], list[str], list[int]]:
    """Returns the sentences, the English ones, and of each of these the number of its pair.

    Line n goes with line n, as LASER has them. XTREME's script sorts the English side; the pairs
    are then in `test-{language}.tsv`, one number from 0 for each English line.
    """

    def lines(name: str) -> list[str]:
        path = sources.find((f"tatoeba/{name}",), f"tatoeba.{language}", "test", None)
        return [text.strip() for _, text in sources.lines(path)]

    texts, english = lines(f"{language}-en.{language}"), lines(f"{language}-en.en")
    folder = sources.data_dir()
    assert folder is not None
    if len(texts) != len(english) or not texts:
        raise RequestError(
            f"{folder / 'tatoeba'}: {language}-en.{language} has {len(texts)} lines and"
            f" {language}-en.en {len(english)}; they must be as many, and some"
        )
    pairs = folder / "tatoeba" / f"test-{language}.tsv"
    if pairs.is_file():
        numbers = [text.strip() for _, text in sources.lines(pairs)]
        if sorted(numbers) != sorted(map(str, range(len(texts)))):
            raise RequestError(
                f"{pairs}: must hold each number from 0 to {len(texts) - 1} once, the lines of"
                f" {language}-en.{language} that the lines of {language}-en.en translate"
            )
        return texts, english, [int(number) for number in numbers]
    if len(english) > _SORTED_BY_CHANCE and english == sorted(english):
        raise RequestError(
            f"{folder / 'tatoeba' / f'{language}-en.en'} is sorted, so that its lines no longer go"
            f" with those of {language}-en.{language}: put the pairs into {pairs.name} beside it,"
            " or take LASER's own files, under the same names"
        )
    return texts, english, list(range(len(texts)))


def _alike(texts: Sequence[str]) -> list[frozenset[int]]:
    """Returns for every text the indices of all that read the same: which is found is chance."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        places[text].append(i)
    return [frozenset(places[text]) for text in texts]


def _tatoeba_to_english(languages: Sequence[str], split: str) -> Iterator[Set]:
    """Sentences look for their English translations."""
    del split
    for language in languages:
        texts, english, pairs = _tatoeba_pairs(language)
        line_of = {number: line for line, number in enumerate(pairs)}
        alike = _alike(english)
        gold = tuple(alike[line_of[i]] for i in range(len(texts)))
        yield Set(language, tuple(texts), _numbered(english), gold)


def _tatoeba(languages: Sequence[str], split: str) -> Iterator[Set]:
    """English sentences look for their translations, as in XTREME's script."""
    del split
    for language in languages:
        texts, english, pairs = _tatoeba_pairs(language)
        alike = _alike(texts)
        yield Set(language, tuple(english), _numbered(texts), tuple(alike[i] for i in pairs))


def _numbered(texts: Sequence[str]) -> Candidates:
    return Candidates(tuple(texts), tuple(map(str, range(len(texts)))))


# --- Mewsli-X -------------------------------------------------------------------------------------

MEWSLIX = ("ar", "de", "en", "es", "fa", "ja", "pl", "ro", "ta", "tr", "uk")
_BRACES = re.compile(r"\{(.*?)\}")
_MEWSLIX_SPLITS = {"validation": "dev", "test": "test"}


def _mewslix(languages: Sequence[str], split: str) -> Iterator[Set]:
    """Mentions of entities in news look for the entities' descriptions, in whatever language."""
    path = sources.find(("mewslix/candidate_set_entities.jsonl",), "mewslix", split, None)
    try:
        entities = [_json(path, number, text) for number, text in sources.lines(path)]
        candidates = Candidates(
            tuple(map(_description, entities)), tuple(str(e["entity_id"]) for e in entities)
        )
    except (KeyError, TypeError) as error:
        raise RequestError(f"{path}: not of Mewsli-X's form ({error!r})") from None
    index = {entity: i for i, entity in enumerate(candidates.ids)}
    for language in languages:
        name = f"mewslix/wikinews_mentions/{_MEWSLIX_SPLITS[split]}-{language}.jsonl"
        path = sources.find((name,), f"mewslix.{language}", split, None)
        queries, gold = [], []
        try:
            for number, text in sources.lines(path):
                document = _json(path, number, text)
                for mention in document["mentions"]:
                    if not mention["entity_id"]:
                        raise RequestError(
                            f"{path} has no right answers, XTREME's script removes those of the"
                            " test split: set EVAL_SPLIT to 'validation'"
                        )
                    queries.append(_mention(document["context"], mention, path))
                    found = index.get(mention["entity_id"])
                    gold.append(frozenset(() if found is None else (found,)))
        except (KeyError, TypeError) as error:
            raise RequestError(f"{path}: not of Mewsli-X's form ({error!r})") from None
        yield Set(language, tuple(queries), candidates, tuple(gold))


def _description(entity: Mapping[str, Any]) -> str:
    text = entity["description"]
    spans = ((span["start"], span["end"]) for span in entity["sentence_spans"])
    return _one_line(" ".join(text[start:end] for start, end in spans))


def _mention(context: Mapping[str, Any], mention: Mapping[str, Any], path: Path) -> str:
    """Returns `Smith: The verdict came for { Smith }, who …`: the mention and its sentence."""
    start, end = (mention["mention_span"][key] for key in ("start", "end"))
    for sentence in context["sentence_spans"]:
        if sentence["start"] <= start < end <= sentence["end"]:
            before, middle, after = (
                context["text"][a:b]
                for a, b in ((sentence["start"], start), (start, end), (end, sentence["end"]))
            )
            before, after = (_BRACES.sub(r"(\1)", part) for part in (before, after))
            return _one_line(f"{middle}: {before} {{ {middle} }} {after}")
    raise RequestError(f"{path}: mention {mention['example_id']} lies in no sentence")


# --- LAReQA ---------------------------------------------------------------------------------------

LAREQA = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")


def _lareqa(languages: Sequence[str], split: str) -> Iterator[Set]:
    """Questions look for the sentences that hold their answer, in all eleven languages."""
    texts: list[str] = []
    ids: list[str] = []
    answers: dict[str, set[int]] = defaultdict(set)  # by the question's id, the same in all files
    questions: dict[str, list[tuple[str, str]]] = {}  # by language: (text, id)
    for language in LAREQA:
        path = sources.find((f"lareqa/xquad-r/{language}.json",), f"lareqa.{language}", split, None)
        content = _json(path, None, "\n".join(line for _, line in sources.lines(path)))
        try:
            paragraphs = [p for article in content["data"] for p in article["paragraphs"]]
            questions[language] = []
            for number, paragraph in enumerate(paragraphs, start=1):
                spans = [(start, end) for start, end in paragraph["sentence_breaks"]]
                sentences = [paragraph["context"][start:end] for start, end in spans]
                asked = []
                for qa in paragraph["qas"]:
                    answer = qa["answers"][0]["answer_start"]
                    right = next((i for i, (a, b) in enumerate(spans) if a <= answer < b), None)
                    if right is not None:  # else no sentence has it: LAReQA leaves it out
                        asked.append((qa, sentences[right]))
                if not asked:
                    continue
                for qa, right_sentence in asked:
                    questions[language].append((qa["question"], qa["id"]))
                    alike = (i for i, text in enumerate(sentences) if text == right_sentence)
                    answers[qa["id"]].update(len(texts) + i for i in alike)
                texts += map(_one_line, sentences)
                ids += (f"{language}_{number}_{i}" for i in range(len(sentences)))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RequestError(f"{path}: not of XQuAD-R's form ({error!r})") from None
    candidates = Candidates(tuple(texts), tuple(ids))
    for language in languages:
        of_language = questions[language]
        gold = tuple(frozenset(answers[key]) for _, key in of_language)
        yield Set(language, tuple(text for text, _ in of_language), candidates, gold)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family("tatoeba", TATOEBA, ("test",), ACCURACY, _tatoeba),
            Family("tatoeba_to_en", TATOEBA, ("test",), ACCURACY, _tatoeba_to_english),
            Family("mewslix", MEWSLIX, tuple(_MEWSLIX_SPLITS), MAP, _mewslix),
            Family("lareqa", LAREQA, ("test",), MAP, _lareqa),
        )
    }
)
