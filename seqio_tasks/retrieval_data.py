"""Reads the retrieval tasks of XTREME-R: queries, candidates and relevant candidates.

Files are in the layout of XTREME's download scripts; formats, candidates and relevance are those of
XTREME-R (Ruder et al. 2021): Tatoeba of Artetxe and Schwenk 2019, Mewsli-X, and XQuAD-R of LAReQA
(Roy et al. 2020).
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import pydantic

from seqio_tasks import data_files, files
from seqio_tasks.errors import RequestError, did_you_mean

ACCURACY, MAP = "accuracy", "map@20"
_SORTED_BY_CHANCE = 9  # lines; so few may be in alphabetical order by chance


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The texts to search; the sets of several languages may share them."""

    texts: tuple[str, ...]
    ids: tuple[str, ...]  # from the data set, all different


@dataclasses.dataclass(frozen=True)
class Set:
    """The queries of one language, and the relevant candidates of each query."""

    language: str
    queries: tuple[str, ...]
    candidates: Candidates
    gold: tuple[frozenset[int], ...]  # for each query, the indices of its relevant candidates


@dataclasses.dataclass(frozen=True)
class Family:
    """One retrieval task in several languages."""

    name: str  # 'tatoeba'
    languages: tuple[str, ...]
    splits: tuple[str, ...]  # splits with relevance labels; the first is the one to report
    metric: str
    # (data folder, languages, split) -> the sets of these languages, in the same order
    read: Callable[[Path, Sequence[str], str], Iterator[Set]]


def family(name: str) -> Family:
    """Returns a family by its name.

    Raises:
      RequestError: there is no such family; names the most similar ones.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        short = str(name)[:80]
        hint = did_you_mean(short, FAMILIES) or f"; choose one of {', '.join(FAMILIES)}"
        raise RequestError(f"unknown retrieval task {short!r}{hint}")
    return FAMILIES[name]


def read(
    name: str, data_dir: Path | None, languages: Sequence[str] = (), split: str | None = None
) -> Iterator[Set]:
    """Yields the sets of a family in some languages, or in all languages.

    Args:
      name: name of the family.
      data_dir: the data folder; None: there is none, which is an error.
      languages: languages of the queries; all by default.
      split: a split of the family; its first by default.

    Raises:
      RequestError: the family, a language or the split is unknown, or data is missing or malformed.
    """
    found = family(name)
    if isinstance(languages, str):
        raise RequestError(f"languages must be a list or tuple, not the text {languages!r}")
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
    if data_dir is None:
        raise RequestError(
            f"{name} is read from files: set DATA_DIR or XFER_DATA_DIR to a folder in the layout of"
            " XTREME's download scripts"
        )
    yield from found.read(data_dir, tuple(languages) or found.languages, split or found.splits[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- Tatoeba --------------------------------------------------------------------------------------

TATOEBA = (
    "ar", "he", "vi", "id", "jv", "tl", "eu", "ml", "ta", "te", "af", "nl", "de", "el",
    "bn", "hi", "mr", "ur", "fa", "fr", "it", "pt", "es", "bg", "ru", "ja", "ka", "ko",
    "th", "sw", "zh", "kk", "tr", "et", "fi", "hu", "az", "lt", "pl", "uk", "ro",
)  # fmt: skip


def _tatoeba_pairs(folder: Path, language: str) -> tuple[list[str], list[str], list[int]]:
    """Returns the sentences, the English sentences, and for each of the latter its pair's number.

    In LASER's files, line n is the translation of line n. XTREME's script sorts the English side;
    `test-{language}.tsv` then contains the pairs, one number from 0 for each English line.
    """

    def lines(name: str) -> list[str]:
        path = data_files.find(folder, (f"tatoeba/{name}",), f"tatoeba.{language}", "test", None)
        return [text.strip() for _, text in data_files.lines(path)]

    texts, english = lines(f"{language}-en.{language}"), lines(f"{language}-en.en")
    if len(texts) != len(english) or not texts:
        raise RequestError(
            f"{folder / 'tatoeba'}: {language}-en.{language} has {len(texts)} lines and"
            f" {language}-en.en {len(english)}; both must have the same number, not 0"
        )
    pairs = folder / "tatoeba" / f"test-{language}.tsv"
    if pairs.is_file():
        numbers = [text.strip() for _, text in data_files.lines(pairs)]
        if sorted(numbers) != sorted(map(str, range(len(texts)))):
            raise RequestError(
                f"{pairs}: must contain each number from 0 to {len(texts) - 1} once: for each line"
                f" of {language}-en.en, its translation's line in {language}-en.{language}"
            )
        return texts, english, [int(number) for number in numbers]
    if len(english) > _SORTED_BY_CHANCE and english == sorted(english):
        raise RequestError(
            f"{folder / 'tatoeba' / f'{language}-en.en'} is sorted, so its lines no longer"
            f" correspond to those of {language}-en.{language}: put the pairs into {pairs.name} in"
            " the same folder, or use LASER's original files under the same names"
        )
    return texts, english, list(range(len(texts)))


def _equal_texts(texts: Sequence[str]) -> list[frozenset[int]]:
    """Returns for every text the indices of all equal texts, which are all relevant."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        places[text].append(i)
    return [frozenset(places[text]) for text in texts]


def _tatoeba_to_english(folder: Path, languages: Sequence[str], split: str) -> Iterator[Set]:
    """Queries are sentences, and candidates are English translations."""
    del split
    for language in languages:
        texts, english, pairs = _tatoeba_pairs(folder, language)
        line_of = {number: line for line, number in enumerate(pairs)}
        equal = _equal_texts(english)
        gold = tuple(equal[line_of[i]] for i in range(len(texts)))
        yield Set(language, tuple(texts), _numbered(english), gold)


def _tatoeba(folder: Path, languages: Sequence[str], split: str) -> Iterator[Set]:
    """Queries are English sentences, and candidates are translations, as in XTREME's script."""
    del split
    for language in languages:
        texts, english, pairs = _tatoeba_pairs(folder, language)
        equal = _equal_texts(texts)
        yield Set(language, tuple(english), _numbered(texts), tuple(equal[i] for i in pairs))


def _numbered(texts: Sequence[str]) -> Candidates:
    return Candidates(tuple(texts), tuple(map(str, range(len(texts)))))


# --- Mewsli-X -------------------------------------------------------------------------------------

MEWSLIX = ("ar", "de", "en", "es", "fa", "ja", "pl", "ro", "ta", "tr", "uk")
_BRACES = re.compile(r"\{(.*?)\}")


class _Span(data_files.Form):
    start: pydantic.NonNegativeInt
    end: pydantic.NonNegativeInt


class _Entity(data_files.Form):
    entity_id: data_files.Name
    description: data_files.Text
    sentence_spans: list[_Span]


class _Mention(data_files.Form):
    example_id: data_files.Name
    mention_span: _Span
    entity_id: data_files.Name


class _Context(data_files.Form):
    text: data_files.Text
    sentence_spans: list[_Span]


class _Document(data_files.Form):
    context: _Context
    mentions: list[_Mention]


def _mewslix(folder: Path, languages: Sequence[str], split: str) -> Iterator[Set]:
    """Queries are mentions of entities in news, and candidates are entity descriptions."""
    path = data_files.find(
        folder, ("mewslix/candidate_set_entities.jsonl",), "mewslix", split, None
    )
    descriptions: dict[str, str] = {}  # by entity; there are a million
    for where, record in data_files.records(path):
        entity = data_files.formed(_Entity, record, f"{where}: not of Mewsli-X's form")
        if entity.entity_id in descriptions:
            name = data_files.one_line(entity.entity_id)
            raise RequestError(f"{where}: the entity {name} occurs a second time; keep one line")
        descriptions[entity.entity_id] = _description(entity, where)
    if not descriptions:
        raise RequestError(f"{path} contains no candidate")
    candidates = Candidates(tuple(descriptions.values()), tuple(descriptions))
    index = {entity: i for i, entity in enumerate(candidates.ids)}
    for language in languages:
        name = f"mewslix/wikinews_mentions/{data_files.XTREME_SPLITS[split]}-{language}.jsonl"
        path = data_files.find(folder, (name,), f"mewslix.{language}", split, None)
        queries, gold = [], []
        for where, record in data_files.records(path):
            document = data_files.formed(_Document, record, f"{where}: not of Mewsli-X's form")
            for mention in document.mentions:
                if not mention.entity_id:
                    raise RequestError(
                        f"{path} has no labels, because XTREME's script removes those of the test"
                        " split: set EVAL_SPLIT to 'validation'"
                    )
                queries.append(_query(document.context, mention, where))
                found = index.get(mention.entity_id)
                gold.append(frozenset(() if found is None else (found,)))
        if not queries:
            raise RequestError(f"{path} contains no query")
        yield Set(language, tuple(queries), candidates, tuple(gold))


def _description(entity: _Entity, where: str) -> str:
    if any(span.end > len(entity.description) for span in entity.sentence_spans):
        raise RequestError(f"{where}: a sentence ends after the end of the entity's description")
    spans = (entity.description[span.start : span.end] for span in entity.sentence_spans)
    return _one_line(" ".join(spans))


def _query(context: _Context, mention: _Mention, where: str) -> str:
    """Returns `Smith: The verdict came for { Smith }, who …`: the mention and its sentence."""
    start, end = mention.mention_span.start, mention.mention_span.end
    for sentence in context.sentence_spans:
        if sentence.start <= start < end <= sentence.end:
            before, middle, after = (
                context.text[a:b]
                for a, b in ((sentence.start, start), (start, end), (end, sentence.end))
            )
            before, after = (_BRACES.sub(r"(\1)", part) for part in (before, after))
            return _one_line(f"{middle}: {before} {{ {middle} }} {after}")
    name = data_files.one_line(mention.example_id)
    raise RequestError(f"{where}: mention {name} is not inside a sentence")


# --- LAReQA ---------------------------------------------------------------------------------------

LAREQA = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")


_Break = Annotated[list[pydantic.NonNegativeInt], pydantic.Field(min_length=2, max_length=2)]


class _Answer(data_files.Form):
    answer_start: pydantic.NonNegativeInt


class _Question(data_files.Form):
    id: data_files.Name
    question: data_files.Text
    answers: Annotated[list[_Answer], pydantic.Field(min_length=1)]


class _Paragraph(data_files.Form):
    context: data_files.Text
    sentence_breaks: list[_Break]
    qas: list[_Question]


class _Article(data_files.Form):
    paragraphs: list[_Paragraph]


class _File(data_files.Form):
    data: list[_Article]


def _lareqa(folder: Path, languages: Sequence[str], split: str) -> Iterator[Set]:
    """Queries are questions, and candidates are sentences in all eleven languages."""
    texts: list[str] = []
    ids: list[str] = []
    answers: dict[str, set[int]] = defaultdict(set)  # by question id, which all files share
    questions: dict[str, list[tuple[str, str]]] = {}  # by language: (text, id)
    for language in LAREQA:
        path = data_files.find(
            folder, (f"lareqa/xquad-r/{language}.json",), f"lareqa.{language}", split, None
        )
        content = files.parse_json(files.read_text(path), str(path), unique_keys=True)
        found = data_files.formed(_File, content, f"{path}: not of XQuAD-R's form")
        paragraphs = [paragraph for article in found.data for paragraph in article.paragraphs]
        questions[language] = []
        for number, paragraph in enumerate(paragraphs, start=1):
            spans = paragraph.sentence_breaks
            sentences = [paragraph.context[start:end] for start, end in spans]
            answerable = []
            for qa in paragraph.qas:
                at = qa.answers[0].answer_start
                right = next((i for i, (a, b) in enumerate(spans) if a <= at < b), None)
                if (
                    right is not None
                ):  # otherwise no sentence contains it, and LAReQA drops the question
                    answerable.append((qa, sentences[right]))
            if not answerable:
                continue
            for qa, right_sentence in answerable:
                questions[language].append((qa.question, qa.id))
                equal = (i for i, text in enumerate(sentences) if text == right_sentence)
                answers[qa.id].update(len(texts) + i for i in equal)
            texts += map(_one_line, sentences)
            ids += (f"{language}_{number}_{i}" for i in range(len(sentences)))
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
            Family("mewslix", MEWSLIX, ("validation", "test"), MAP, _mewslix),
            Family("lareqa", LAREQA, ("test",), MAP, _lareqa),
        )
    }
)
