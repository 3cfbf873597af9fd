"""Readers hold for any bytes: valid examples, or one sentence that names the file."""

import functools
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqio_tasks import catalogue, records, retrieval_data
from seqio_tasks.errors import RequestError
from tests.support.files import squad as squad_json

# What tears files apart: bytes that are no text, line ends that are none, JSON that is none.
FRAGMENTS = (
    *(b"", b"\xff", b"\0", b"\r", b"\r\n", b"\n", b"\n\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\t"),
    *("\u2028".encode(), "\x85".encode(), "\u200b".encode(), b"\x0b", b" ", b'"', b'""', b"'"),
    *(b"[", b"{", b"}", b"]", b"[" * 5000, b"1" * 5000, b"x" * 140_000, b",", b":", b"\\"),
    *(b"NaN", b"Infinity", b"1e999", b"-1", b"0.5", b"true", b"null", b"[]", b"{}", b'"false"'),
    *(b'"\\ud800"', b"\\ud83d\\ude00", b"en:", b"O", b"B-PER", b"# x", b"-DOCSTART-", b"__"),
)


squad = functools.partial(squad_json, context="a b")
QUESTION = {"id": "1", "question": "q?", "answers": [{"text": "a"}], "is_impossible": False}
COPA = {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": 1}
SIQA = {"context": "c", "question": "q", "answerA": "a", "answerB": "b", "answerC": "c"}
COSMOS = {"context": "c", "question": "q", **{f"answer{i}": "a" for i in range(4)}, "label": "3"}
HELLASWAG = {"ctx": "c", "endings": ["a"] * 4, "label": 2}
CHOICES = [{"label": letter, "text": "t"} for letter in "ABCDE"]
NLI = {"sentence1": "a", "sentence2": "b", "gold_label": "neutral"}
# family: (language, split, name of the file, content that is right)
RIGHT = {
    "panx": ("en", "train", "f.tsv", "en:Ada\tB-PER\nen:ran\tO\n\nen:x\tI-LOC\n"),
    "udpos": ("fa", "test", "f.tsv", "the\tDET\ncat\tNOUN\n\n.\tPUNCT\n"),
    "ccg": ("en", "train", "f.tsv", "He\tNP\nsaid\t(S\\NP)/NP\n"),
    "xnli": ("en", "validation", "f.tsv", 'a "b"\tc\tneutral\n"d\n""e"""\tf\tentailment\n'),
    "xnli of 19 columns": (
        *("en", "validation", "f.tsv"),
        "language\tgold_label\tsentence1\tsentence2\tmatch\nen\tneutral\ta\tb\tTrue\n",
    ),
    "pawsx": ("de", "test", "f.tsv", '"a ""x"""\tb\t0\nc\td\t1\n'),
    "qqp": ("en", "train", "f.tsv", "id\tquestion1\tquestion2\tis_duplicate\n1\ta\tb\t0\n"),
    "mnli": ("en", "train", "f.jsonl", json.dumps(NLI) + "\n" + json.dumps(NLI)),
    "anli": (
        *("en", "train", "f.jsonl"),
        json.dumps({"context": "c", "hypothesis": "h", "label": "e"}),
    ),
    "squad2": (
        *("en", "train", "f.json"),
        squad(QUESTION, {"id": 2, "question": "?", "answers": [], "is_impossible": True}),
    ),
    "tydiqa": ("en", "train", "f.json", squad(QUESTION)),
    "xcopa": ("sw", "validation", "f.jsonl", json.dumps(COPA)),
    "siqa": ("en", "train", "f.jsonl", json.dumps(SIQA | {"correct": "A"})),
    "hellaswag": ("en", "train", "f.jsonl", json.dumps(HELLASWAG)),
    "cosmosqa": ("en", "train", "f.jsonl", json.dumps(COSMOS)),
    "cosmosqa as a table": (
        *("en", "train", "f.csv"),
        ",".join(COSMOS) + "\n" + ",".join(COSMOS.values()) + "\n",
    ),
    "commonsenseqa": (
        *("en", "train", "f.jsonl"),
        json.dumps({"question": {"stem": "s", "choices": CHOICES}, "answerKey": "B"}),
    ),
    "text": ("fi", "train", "f.txt", "yksi\n\nkaksi\n"),
}  # fmt: skip

SPAN = {"start": 0, "end": 3}
ENTITY = {"entity_id": "Q1", "description": "abc", "sentence_spans": [SPAN]}
MENTION = {"example_id": "m", "mention_span": {"start": 0, "end": 2}, "entity_id": "Q1"}
DOCUMENT = {"context": {"text": "abc", "sentence_spans": [SPAN]}, "mentions": [MENTION]}
XQUAD_R = {"context": "ab", "sentence_breaks": [[0, 2]]}
XQUAD_R |= {"qas": [{"id": "1", "question": "q", "answers": [{"answer_start": 0}]}]}
# the file of each that is torn apart, in the folder that `retrieval_folder` makes
RETRIEVAL = {
    "tatoeba": ("sw", "tatoeba/sw-en.en", "one\ntwo\n"),
    "tatoeba_to_en": ("sw", "tatoeba/test-sw.tsv", "1\n0\n"),
    "mewslix": ("de", "mewslix/candidate_set_entities.jsonl", json.dumps(ENTITY)),
    "mewslix queries": ("de", "mewslix/wikinews_mentions/dev-de.jsonl", json.dumps(DOCUMENT)),
    "lareqa": ("de", "lareqa/xquad-r/de.json", json.dumps({"data": [{"paragraphs": [XQUAD_R]}]})),
}  # fmt: skip


@st.composite
def torn(draw: st.DrawFn, right: str) -> bytes:
    """Right content with some places overwritten, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    content = right.encode()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        gone = draw(st.sampled_from((0, 0, 1, 2, 6)))
        content = content[:at] + draw(st.sampled_from(FRAGMENTS)) + content[at + gone :]
    return content


def torn_apart(right: str):
    return lambda test: settings(
        max_examples=50,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )(given(torn(right))(test))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("readers")


def texts(value: object) -> list[str]:
    """Returns all text in an example."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def refusal(call: Callable[[], object]) -> str | None:
    """Returns what a call refuses its request with, or None where it does not."""
    try:
        call()
    except RequestError as error:
        return str(error)
    return None


def check(example: dict, family: records.Family) -> None:
    """An example is what TensorFlow and the metrics can take."""
    assert all(text.encode() is not None and "\0" not in text for text in texts(example))
    if "label" in example:
        assert type(example["label"]) is int
        assert 0 <= example["label"] < len(family.format.labels)
    if "tags" in example:
        assert len(example["tags"]) == len(example["tokens"]) > 0
        assert all(example["tokens"])
    if "answers" in example:
        assert all(text.strip() for text in example["answers"]["text"])


@pytest.mark.parametrize("name", RIGHT)
def test_any_file_is_read_or_refused(name, scratch):
    language, split, file, right = RIGHT[name]
    family = catalogue.families()[name.partition(" ")[0]]
    path = scratch / file

    def read(content: bytes) -> list[dict]:
        path.write_bytes(content)
        return list(family.source.read(path, language, split))

    assert read(right.encode())

    @torn_apart(right)
    def holds(content):
        said = refusal(lambda: [check(example, family) for example in read(content)])
        assert said is None or (str(path) in said and said.isprintable())

    holds()


@pytest.mark.parametrize("name", RETRIEVAL)
def test_any_retrieval_file_is_read_or_refused(name, scratch, monkeypatch):
    language, file, right = RETRIEVAL[name]
    folder = scratch / name
    monkeypatch.setenv("XFER_DATA_DIR", str(folder))
    others = {other: content for _, other, content in RETRIEVAL.values()}
    others |= {"tatoeba/sw-en.sw": "moja\nmbili\n"}
    others |= {
        f"lareqa/xquad-r/{code}.json": others["lareqa/xquad-r/de.json"]
        for code in retrieval_data.LAREQA
    }
    for other, content in others.items():
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_text(content, encoding="utf-8")

    def read(content: bytes) -> retrieval_data.Set:
        (folder / file).write_bytes(content)
        (found,) = retrieval_data.read(name.partition(" ")[0], folder, (language,))
        return found

    assert read(right.encode()).queries

    @torn_apart(right)
    def holds(content):
        said = refusal(lambda: complete(read(content)))
        assert said is None or (str(folder) in said and said.isprintable())

    holds()


def complete(found: retrieval_data.Set) -> None:
    """Every query has its right candidates, which are there."""
    assert len(found.queries) == len(found.gold)
    assert len(found.candidates.texts) == len(set(found.candidates.ids))
    every = [*found.queries, *found.candidates.texts]
    assert all(text.encode() is not None for text in every)
    assert all(0 <= i < len(found.candidates.ids) for gold in found.gold for i in gold)


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(st.one_of(st.text(), st.integers(), st.none(), st.floats(), st.lists(st.text(), max_size=2)))
def test_any_name_is_a_task_or_refused(name):
    said = refusal(lambda: catalogue.tasks(name))
    assert said is not None
    assert said.isprintable()
    said = refusal(lambda: catalogue.tasks(f"xfer_panx.sw.n{name}.s{name}"))
    assert said is None or said.isprintable()
