"""Data files of every task that are broken in every way that its reader can meet."""

import json

import pytest

from benchmarks.bad_input import FOLDER, Case, Link
from seqio_tasks import quiet_registry


@pytest.fixture(scope="module", autouse=True)
def _tensorflow():
    """Imports TensorFlow before any case's time is taken."""
    quiet_registry.load()


# By task: its training file in XTREME's layout (or what is scored on), and one good line or text.
SQUAD = {"data": [{"paragraphs": [{"context": "Rick is here.", "qas": [
    {"id": "a", "question": "Who?", "answers": [{"text": "Rick", "answer_start": 0}]}]}]}]}  # fmt: skip
NLI = {"gold_label": "neutral", "sentence1": "a b", "sentence2": "c"}
XCOPA = {"premise": "p", "question": "cause", "choice1": "a", "choice2": "b", "label": 1}
SIQA = {"context": "c", "question": "q", "answerA": "a", "answerB": "b", "answerC": "c",
        "correct": "A"}  # fmt: skip
HELLASWAG = {"ctx": "c", "endings": ["a", "b", "c", "d"], "label": 1}
COSMOS = {"context": "c", "question": "q", "answer0": "a", "answer1": "b", "answer2": "c",
          "answer3": "d", "label": "1"}  # fmt: skip
CSQA = {"answerKey": "A", "question": {"stem": "q", "choices": [
    {"label": letter, "text": letter} for letter in "ABCDE"]}}  # fmt: skip
FILES = {
    "panx.sw": ("panx/train-sw.tsv", "Rick\tB-PER\n"),
    "xnli.sw": ("xnli/train-sw.tsv", "a b\tc\tneutral\n"),
    "pawsx.de": ("pawsx/train-de.tsv", "a b\tc\t1\n"),
    "qqp.en": ("qqp/train.tsv", "question1\tquestion2\tis_duplicate\na\tb\t1\n"),
    "mnli.en": ("mnli/multinli_1.0_train.jsonl", json.dumps(NLI) + "\n"),
    "squad.en": ("squad/train-v1.1.json", json.dumps(SQUAD)),
    "squad2.en": ("squad2/train-v2.0.json", json.dumps(SQUAD)),
    "tydiqa.sw": ("tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.sw.train.json", json.dumps(SQUAD)),
    "xcopa.en": ("xcopa/train-en.jsonl", json.dumps(XCOPA) + "\n"),
    "siqa.en": ("siqa/socialIQa_v1.4_trn.jsonl", json.dumps(SIQA) + "\n"),
    "hellaswag.en": ("hellaswag/hellaswag_train.jsonl", json.dumps(HELLASWAG) + "\n"),
    "cosmosqa.en": ("cosmosqa/train.jsonl", json.dumps(COSMOS) + "\n"),
    "commonsenseqa.en": ("commonsenseqa/train_rand_split.jsonl", json.dumps(CSQA) + "\n"),
    "udpos.en": ("udpos/train-en.tsv", "the\tDET\n"),
    "ccg.en": ("ccg/train.tsv", "the\tNP/N\n"),
    "text.sw": ("text/train-sw.txt", "Habari ya leo\n"),
}
VOCAB = "vocab --tasks=xfer_{} --size=130 --out=v.model"
DATA = {"XFER_DATA_DIR": "$HERE/data"}


def data(task: str, id: str, words: str, content, file: str | None = None, split="train") -> Case:
    """What `vocab` says of a task's file: of all commands that read it, the quickest."""
    name = f"data/{file or FILES[task][0]}"
    argv = VOCAB.format(task) + ("" if split == "train" else f" --split={split}")
    return Case(f"{task}-{id}", argv, words, {"data": FOLDER, name: content}, env=DATA)


def named(file: str) -> str:
    return file.rpartition("/")[2].replace(".", r"\.")


UNREADABLE = [
    case
    for task, (file, good) in FILES.items()
    for case in (
        data(task, "empty", named(file) + f"|{task}.*no example", ""),
        data(task, "folder", named(file), FOLDER),
        data(
            task, "nul", named(file), good.replace("a", "\0").replace("c", "\0").replace("t", "\0")
        ),
        data(task, "utf-16", named(file), good.encode("utf-16")),
        data(task, "latin-1", named(file), good.encode() + "Zürich\t\n".encode("latin-1")),
        data(task, "binary", named(file), bytes(range(256)) * 4),
    )
]


def lines(task: str, rows: dict[str, str], **more) -> list[Case]:
    """Files of a good line and then a bad one, which the sentence gives by its number."""
    good = FILES[task][1]
    line = good.count("\n") + 1
    return [data(task, id, f"line {line}", f"{good}{row}\n", **more) for id, row in rows.items()]


def records(task: str, good: dict, rows: dict[str, dict]) -> list[Case]:
    """The same of JSON lines: fields that replace those of a good record; None removes one."""
    found = []
    for id, changes in rows.items():
        record = {key: value for key, value in (good | changes).items() if value is not ...}
        found.append(data(task, id, "line 2", f"{json.dumps(good)}\n{json.dumps(record)}\n"))
    broken = {
        "not-json": "{", "list": "[1]", "number": "3", "null": "null", "text": '"a"',
        "deep": "[" * 100_000, "digits": '{"label": ' + "9" * 5000 + "}", "two": "{} {}",
        "nothing": "{}",
    }  # fmt: skip
    return found + lines(task, broken)


def whole(task: str, rows: dict[str, object]) -> list[Case]:
    """JSON files that are not SQuAD's."""
    file = named(FILES[task][0])
    return [
        data(task, id, file, of if isinstance(of, str) else json.dumps(of))
        for id, of in rows.items()
    ]


def squad(**changes) -> dict:
    """A file of one question, some of whose parts are replaced."""
    qa = {"id": "a", "question": "Who?", "answers": [{"text": "Rick", "answer_start": 0}]}
    paragraph = {"context": "Rick is here.", "qas": [qa]}
    for name, value in changes.items():
        place = qa if name in qa or name == "is_impossible" else paragraph
        place[name] = value
        if value is ...:
            del place[name]
    return {"data": [{"paragraphs": [paragraph]}]}


SQUADS = {
    "not-json": '{"data": [', "list": [], "number": 3, "null": None, "nothing": {},
    "data-a-number": {"data": 3}, "data-a-text": {"data": "ab"}, "data-null": {"data": None},
    "article-a-text": {"data": ["a"]}, "no-paragraphs": {"data": [{}]},
    "paragraphs-a-number": {"data": [{"paragraphs": 3}]}, "no-question": squad(question=...),
    "question-a-number": squad(question=3), "context-null": squad(context=None),
    "no-context": squad(context=...), "no-answers": squad(answers=...),
    "answers-null": squad(answers=None), "answers-a-text": squad(answers="Rick"),
    "answer-a-text": squad(answers=["Rick"]), "answer-a-number": squad(answers=[{"text": 3}]),
    "no-answer": squad(answers=[]), "empty-answer": squad(answers=[{"text": ""}]),
    "no-id": squad(id=...), "deep": "[" * 100_000, "digits": '{"data": ' + "9" * 5000 + "}",
    "no-qas": squad(qas=...), "qas-a-text": squad(qas="ab"),
}  # fmt: skip

INSIDE = [
    *lines("panx.sw", {"spaces": "Rick B-PER", "no-tag": "Rick", "no-token": "\tO", "tag": "a\tB-X",
                       "two-tags": "a\tO\tO", "comment": "# id = 1", "tag-case": "a\tb-per",
                       "empty-tag": "a\t"}),
    data("panx.sw", "blank", r"train-sw\.tsv|no example", "\n \n\n"),
    data("panx.sw", "dangling", r"train-sw\.tsv", Link("nope")),
    data("panx.sw", "test-spaces", "line 1.*(space|tab)", "Rick B-PER\n",
         "panx/test-sw.tsv", "test"),
    *lines("xnli.sw", {"two": "a\tb", "four": "a\tb\tneutral\tx", "label": "a\tb\tmaybe",
                       "no-label": "a\tb\t", "one": "a"}),
    data("xnli.sw", "language-absent", "sw",
         "language\tgold_label\tsentence1\tsentence2\nen\tneutral\ta\tb\n", "xnli/xnli.dev.tsv",
         "validation"),
    data("xnli.sw", "short-row", "line 2",
         "language\tgold_label\tsentence1\tsentence2\nsw\tneutral\n", "xnli/xnli.dev.tsv",
         "validation"),
    *lines("pawsx.de", {"two": "a\tb", "label": "a\tb\t2", "words": "a\tb\tparaphrase",
                        "four": "a\tb\t1\t1"}),
    *lines("qqp.en", {"label": "a\tb\t2", "word": "a\tb\tyes"}),
    data("qqp.en", "no-header", "line 1", "a\tb\t1\n"),
    data("qqp.en", "header-of-another", "line 1.*is_duplicate", "question1\tquestion2\tlabel\n"),
    *records("mnli.en", NLI, {"no-sentence": {"sentence1": ...}, "null": {"sentence2": None},
                              "number": {"sentence1": 3}, "label": {"gold_label": "maybe"},
                              "no-label": {"gold_label": ...}, "label-a-list": {"gold_label": []}}),
    *whole("squad.en", SQUADS),
    *whole("squad2.en", {k: SQUADS[k] for k in ("no-answers", "answers-null", "no-answer")}),
    *whole("squad2.en", {"impossible-a-text": squad(is_impossible="maybe", answers=[])}),
    *whole("tydiqa.sw", {k: SQUADS[k] for k in ("not-json", "nothing", "no-answer", "deep")}),
    *records("xcopa.en", XCOPA, {"label-2": {"label": 2}, "label-text": {"label": "0"},
                                 "label-true": {"label": True}, "no-label": {"label": ...},
                                 "no-premise": {"premise": ...}, "premise-null": {"premise": None},
                                 "choice-a-list": {"choice1": ["a"]}}),
    *records("siqa.en", SIQA, {"correct-D": {"correct": "D"}, "no-correct": {"correct": ...},
                               "correct-a-list": {"correct": ["A"]}, "no-answer": {"answerC": ...}}),
    *records("hellaswag.en", HELLASWAG, {
        "three": {"endings": ["a"] * 3}, "numbers": {"endings": [1, 2, 3, 4]},
        "a-text": {"endings": "abcd"}, "label-4": {"label": 4}, "no-label": {"label": ...},
        "label-a-dictionary": {"label": {}}, "no-ctx": {"ctx": ...}}),
    *records("cosmosqa.en", COSMOS, {"label-4": {"label": "4"}, "no-label": {"label": ...},
                                     "no-answer": {"answer3": ...}, "number": {"context": 3}}),
    data("cosmosqa.en", "csv-no-column", "line 1.*answer0", "context,question,label\na,b,1\n",
         "cosmosqa/train.csv"),
    data("cosmosqa.en", "csv-large-cell", r"train\.csv",
         "context,question,answer0,answer1,answer2,answer3,label\n" + "x" * 140_000
         + ",b,a,b,c,d,9\n", "cosmosqa/train.csv"),
    data("cosmosqa.en", "csv-unclosed", r"train\.csv",
         'context,question,answer0,answer1,answer2,answer3,label\n"a,b,a,b,c,d,1\n',
         "cosmosqa/train.csv"),
    *records("commonsenseqa.en", CSQA, {
        "no-question": {"question": ...}, "question-a-text": {"question": "q"},
        "no-choices": {"question": {"stem": "q"}}, "answer-F": {"answerKey": "F"},
        "no-answer": {"answerKey": ...}, "answer-a-list": {"answerKey": []},
        "choices-of-texts": {"question": {"stem": "q", "choices": list("ABCDE")}},
        "four": {"question": {"stem": "q", "choices": CSQA["question"]["choices"][:4]}}}),
    *lines("udpos.en", {"tag": "a\tNN", "spaces": "a NOUN", "no-token": "\tNOUN", "two": "a\tX\tX",
                        "conll-u": "1\tthe\tthe\tDET\t_\t_\t0\troot\t_\t_"}),
    data("udpos.en", "test-comment", "line 1", "# sent_id = 1\nthe\tDET\n", "udpos/test-en.tsv",
         "test"),
    *lines("ccg.en", {"no-tag": "the", "spaces": "the NP/N", "two": "the\tNP N"}),
    Case("no-folder", VOCAB.format("panx.sw"), "nope", env={"XFER_DATA_DIR": "nope"}),
    Case("folder-a-file", VOCAB.format("panx.sw"), r"scores\.csv", ready=("scores.csv",),
         env={"XFER_DATA_DIR": "scores.csv"}),
    Case("no-file", VOCAB.format("panx.sw"), r"train-sw\.tsv", {"data": FOLDER}, env=DATA),
    Case("cache-nothing-left", "train --gin_file=$WORLD/tiny.gin --gin.TASK=\"'xfer_panx'\""
         " --gin.MODEL_DIR=\"'out'\"", r"train-en\.tsv.*line 2",
         {"data/panx/train-en.tsv": "Rick\tB-PER\nMorty B-PER\n",
          "data/panx/dev-en.tsv": "Rick\tB-PER\n", "data/panx/dev-sw.tsv": "Rick\tB-PER\n"},
         env=DATA),
    Case("target-not-there", "train --gin_file=$WORLD/tiny.gin --gin.TASK=\"'xfer_panx'\""
         " --gin.MODEL_DIR=\"'out'\"", r"dev-sw\.tsv",
         {"data/panx/train-en.tsv": "Rick\tB-PER\n", "data/panx/dev-en.tsv": "Rick\tB-PER\n"},
         env=DATA),
    Case("subset-of-less", "train --gin_file=$WORLD/tiny.gin --gin.TASK=\"'xfer_panx'\""
         " --gin.SUBSET=\"'n9.s0'\" --gin.MODEL_DIR=\"'out'\" --gin.TARGETS='()'", "9",
         {"data/panx/train-en.tsv": "Rick\tB-PER\n"}, env=DATA),
]  # fmt: skip


@pytest.mark.parametrize("case", [*UNREADABLE, *INSIDE], ids=str)
def test_a_broken_data_file_is_refused(refused, case):
    refused(case)


ENTITY = {"entity_id": "Q1", "description": "Smith is a judge.",
          "sentence_spans": [{"start": 0, "end": 17}]}  # fmt: skip
MENTION = {"example_id": "m1", "entity_id": "Q1", "mention_span": {"start": 0, "end": 5}}
DOCUMENT = {"context": {"text": "Smith came. He left.", "sentence_spans": [
    {"start": 0, "end": 11}, {"start": 12, "end": 20}]}, "mentions": [MENTION]}  # fmt: skip
XQUAD_R = {"data": [{"paragraphs": [{"context": "Rick is here. He left.",
    "sentence_breaks": [[0, 13], [14, 22]], "qas": [
        {"id": "a", "question": "Who?", "answers": [{"text": "Rick", "answer_start": 0}]}]}]}]}  # fmt: skip
LAREQA = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")


def retrieve(task: str, id: str, words: str, files: dict) -> Case:
    argv = ["retrieve", "--gin_file=$WORLD/tiny.gin", "--gin.RETRIEVAL_OUTPUT_DIR='out'",
            "--gin.CHECKPOINT_PATH='$WORLD/native'", f"--gin.TASK='{task}'", "--gin.TARGETS=('ar',)"]  # fmt: skip
    made = {
        f"data/{name}": of if isinstance(of, (str, bytes, Link)) or of is FOLDER
        else json.dumps(of) + "\n" for name, of in files.items()
    }  # fmt: skip
    return Case(f"{task}-{id}", argv, words, {"data": FOLDER, **made}, env=DATA)


def tatoeba(id: str, words: str, ar, en, **more) -> Case:
    files = {"tatoeba/ar-en.ar": ar, "tatoeba/ar-en.en": en}
    return retrieve("tatoeba", id, words, files | {f"tatoeba/{k}": v for k, v in more.items()})


def mewslix(id: str, words: str, entity=None, document=None) -> Case:
    files = {
        "mewslix/candidate_set_entities.jsonl": ENTITY if entity is None else entity,
        "mewslix/wikinews_mentions/dev-ar.jsonl": DOCUMENT if document is None else document,
    }
    return retrieve("mewslix", id, words, files)


def mention(**changes) -> dict:
    return DOCUMENT | {"mentions": [MENTION | changes]}


def lareqa(id: str, content) -> Case:
    files = {f"lareqa/xquad-r/{code}.json": XQUAD_R for code in LAREQA}
    return retrieve("lareqa", id, r"de\.json", files | {"lareqa/xquad-r/de.json": content})


def xquad_r(**changes) -> dict:
    paragraph = XQUAD_R["data"][0]["paragraphs"][0] | changes
    return {"data": [{"paragraphs": [paragraph]}]}


ALPHABET = "".join(f"{letter}\n" for letter in "abcdefghijkl")
CANDIDATES, MENTIONS = r"candidate_set_entities\.jsonl", r"dev-ar\.jsonl"
QA = XQUAD_R["data"][0]["paragraphs"][0]["qas"][0]
RETRIEVAL = [
    tatoeba("empty", r"ar-en|tatoeba", "", ""),
    tatoeba("unequal", "2 lines.*1|1 lines.*2", "a\nb\n", "a\n"),
    tatoeba("sorted", "sorted", ALPHABET, ALPHABET),
    tatoeba("binary", r"ar-en\.ar", bytes(range(256)) * 4, "a\n"),
    tatoeba("nul", r"ar-en\.ar", b"a\0b\n", "a\n"),
    tatoeba("utf-16", r"ar-en\.ar", "a\n".encode("utf-16"), "a\n"),
    tatoeba("folder", r"ar-en\.ar", FOLDER, "a\n"),
    tatoeba("one-side", r"ar-en\.en", "a\n", Link("nope")),
    tatoeba("pairs-a-word", r"test-ar\.tsv", "a\nb\n", "c\nd\n", **{"test-ar.tsv": "0\nx\n"}),
    tatoeba("pairs-twice", r"test-ar\.tsv", "a\nb\n", "c\nd\n", **{"test-ar.tsv": "0\n0\n"}),
    tatoeba("pairs-beyond", r"test-ar\.tsv", "a\nb\n", "c\nd\n", **{"test-ar.tsv": "0\n5\n"}),
    tatoeba("pairs-digits", r"test-ar\.tsv", "a\nb\n", "c\nd\n", **{"test-ar.tsv": "0\n²\n"}),
    retrieve("tatoeba", "nothing", r"ar-en\.ar", {}),
    mewslix("candidates-not-json", CANDIDATES, entity="{\n"),
    mewslix("candidates-empty", f"{CANDIDATES}|candidate", entity=""),
    mewslix("candidates-a-list", CANDIDATES, entity=[1]),
    mewslix("no-description", CANDIDATES, entity={"entity_id": "Q1"}),
    mewslix("description-a-number", CANDIDATES, entity=ENTITY | {"description": 3}),
    mewslix("spans-a-text", CANDIDATES, entity=ENTITY | {"sentence_spans": "ab"}),
    mewslix("span-a-text", CANDIDATES, entity=ENTITY | {"sentence_spans": [
        {"start": "a", "end": "b"}]}),
    mewslix("span-beyond", CANDIDATES, entity=ENTITY | {"sentence_spans": [
        {"start": 90, "end": 99}]}),
    mewslix("entity-id-a-list", CANDIDATES, entity=ENTITY | {"entity_id": ["Q1"]}),
    mewslix("candidates-twice", CANDIDATES, entity=f"{json.dumps(ENTITY)}\n{json.dumps(ENTITY)}\n"),
    mewslix("deep", CANDIDATES, entity="[" * 100_000),
    mewslix("mentions-not-json", MENTIONS, document="{\n"),
    mewslix("mentions-empty", f"{MENTIONS}|mewslix.ar|quer", document=""),
    mewslix("mentions-a-list", MENTIONS, document=[1]),
    mewslix("mentions-a-text", MENTIONS, document=DOCUMENT | {"mentions": "ab"}),
    mewslix("mentions-null", MENTIONS, document=DOCUMENT | {"mentions": None}),
    mewslix("no-context", MENTIONS, document={"mentions": [MENTION]}),
    mewslix("context-a-text", MENTIONS, document=DOCUMENT | {"context": "ab"}),
    mewslix("text-a-number", MENTIONS, document=DOCUMENT | {"context": {
        "text": 3, "sentence_spans": [{"start": 0, "end": 9}]}}),
    mewslix("entity-a-list", MENTIONS, document=mention(entity_id=["Q1"])),
    mewslix("no-span", MENTIONS, document=mention(mention_span=None)),
    mewslix("span-of-texts", MENTIONS, document=mention(mention_span={"start": "0", "end": "5"})),
    mewslix("span-negative", MENTIONS, document=mention(mention_span={"start": -3, "end": 2})),
    mewslix("span-of-no-sentence", MENTIONS, document=mention(
        mention_span={"start": 90, "end": 95})),
    lareqa("not-json", "{"),
    lareqa("nothing", {}),
    lareqa("empty", ""),
    lareqa("list", []),
    lareqa("data-a-number", {"data": 3}),
    lareqa("data-a-text", {"data": "ab"}),
    lareqa("no-breaks", {"data": [{"paragraphs": [{"context": "a", "qas": []}]}]}),
    lareqa("breaks-of-texts", xquad_r(sentence_breaks=[["a", "b"]])),
    lareqa("breaks-flat", xquad_r(sentence_breaks=[0, 13])),
    lareqa("breaks-of-three", xquad_r(sentence_breaks=[[0, 1, 2]])),
    lareqa("context-a-number", xquad_r(context=3)),
    lareqa("no-answer", xquad_r(qas=[QA | {"answers": []}])),
    lareqa("start-a-text", xquad_r(qas=[QA | {"answers": [{"text": "a", "answer_start": "0"}]}])),
    lareqa("id-a-list", xquad_r(qas=[QA | {"id": ["a"]}])),
    lareqa("question-a-number", xquad_r(qas=[QA | {"question": 3}])),
    lareqa("deep", "[" * 100_000),
    lareqa("nul", b'{"data": "\0"}'),
    lareqa("folder", FOLDER),
]  # fmt: skip


@pytest.mark.parametrize("case", RETRIEVAL, ids=str)
def test_broken_retrieval_data_is_refused(refused, case):
    refused(case)
