"""The default source: TFDS as it is installed, up to its download, and a folder in its format."""

import json
import socket
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from seqio_tasks import catalogue, data_config, raw_data, records, registry
from seqio_tasks.errors import RequestError


class DownloadError(Exception):
    """What TFDS meets in place of the network."""


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """TFDS's data lies in an empty folder, and nothing is resolved: retries would take minutes."""

    def refuse(host, *_, **__):
        raise DownloadError(f"{host} is out of reach")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("XFER_DATA_DIR", raising=False)


def sources() -> dict[tuple[str, str], tuple[records.Task, str]]:
    """Returns (TFDS's name, its split) of all tasks: a task and its split that are read there."""
    found = {}
    for family in catalogue.families().values():
        for language in family.languages:
            for split in family.source.splits:
                for part in raw_data.parts(records.Task(family, language), split):
                    place = part.family.source.tfds(language, split)
                    if place is not None:
                        found.setdefault(place, (part, split))
    return found


BUILDERS = {  # one of each: its configurations differ in what they keep of the same download
    name.partition(":")[0].partition("/")[0]: place
    for (name, _), place in reversed(sources().items())
}
MADE_WITH_BEAM = ("wikipedia",)


def test_all_names_are_those_of_the_installed_release(tmp_path):
    for name in {name for name, _ in sources()}:
        builder, _, version = name.partition(":")
        builder, _, config = builder.partition("/")
        kind = tfds.builder_cls(builder)
        configs = {known.name: known for known in kind.BUILDER_CONFIGS}
        assert not config or config in configs, name
        own = configs[config].version if config else None
        assert version in map(str, (own, kind.VERSION, *kind.SUPPORTED_VERSIONS)), name


@pytest.mark.parametrize("builder", [name for name in BUILDERS if name not in MADE_WITH_BEAM])
def test_every_data_set_gets_as_far_as_the_download(builder, no_network):
    """With nothing installed but what setup.py names: TFDS declares not all that it imports."""
    task, split = BUILDERS[builder]
    with pytest.raises(RequestError) as caught:
        registry._preprocessed(task, split, data_config.configured())
    assert isinstance(caught.value.__cause__, DownloadError)
    files = " or ".join(task.family.source.files(task.language, split))
    said = str(caught.value)
    assert said.startswith(f"{task.name} ({split}) cannot be read from TFDS {builder}")
    assert said.endswith(f"to a folder in XTREME's layout that contains {files}")
    assert "TFDS_DATA_DIR" in said
    assert "\n" not in said


def test_wikipedia_is_refused_before_gigabytes_are_downloaded(no_network):
    with pytest.raises(
        RequestError, match=r"TFDS needs the packages apache_beam, .*, which are not installed"
    ):
        registry._preprocessed(*BUILDERS["wikipedia"], data_config.configured())


def test_no_connection_is_said_in_a_few_words():
    import requests

    request = requests.Request("GET", "https://example.org/a?b=1").prepare()
    error = requests.exceptions.ConnectionError("Max retries exceeded\nwith url", request=request)
    assert registry._reason(error) == "no connection to example.org"
    assert registry._reason(ValueError()) == "ValueError"
    assert registry._reason(ValueError("a\nb")) == "a"


def prepare(folder: Path, task: records.Task, split: str, examples: list[dict]) -> None:
    """Writes examples where TFDS's builder of a task looks for what it has prepared."""
    place = task.family.source.tfds(task.language, split)
    assert place is not None
    builder = tfds.builder(place[0], data_dir=folder)
    features = builder.info.features
    target = Path(builder.data_dir)
    target.mkdir(parents=True)
    info = tfds.core.SplitInfo(
        name=place[1],
        shard_lengths=[len(examples)],
        num_bytes=0,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=target, dataset_name=builder.name, filetype_suffix="tfrecord"
        ),
    )
    with tf.io.TFRecordWriter(str(target / info.filenames.pop())) as file:
        for example in examples:
            file.write(features.serialize_example(example))
    tfds.folder_dataset.write_metadata(
        data_dir=target, features=features, split_infos=[info], version=str(builder.version)
    )


def rows(name: str, split: str) -> list[dict]:
    dataset = registry.StudySource(catalogue.task(name)).get_dataset(split, shuffle=False)
    return [
        {key: value.tolist() if hasattr(value, "tolist") else value for key, value in row.items()}
        for row in dataset.as_numpy_iterator()
    ]


PANX = "Ada\tB-PER\nByron\tI-PER\nin\tO\nLondon\tB-LOC\n\nnobody\tO\n"
XNLI = 'language\tgold_label\tsentence1\tsentence2\nsw\tneutral\tA "b".\tc\nsw\tentailment\td\te\n'
QUESTIONS = [
    {"id": "swahili-1", "question": "Q?", "answers": [{"text": "a.", "answer_start": 0}]},
    {"id": "swahili-2", "question": "R?", "answers": [{"text": "b", "answer_start": 0}] * 2},
]
TYDIQA = {"data": [{"paragraphs": [{"context": "C, d.", "qas": QUESTIONS}]}]}
FILES = {
    "xfer_panx.sw": ("train", "panx/train-sw.tsv", PANX),
    "xfer_xnli.sw": ("validation", "xnli/xnli.dev.tsv", XNLI),
    "xfer_tydiqa.sw": (
        *("validation", "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.sw.dev.json"),
        json.dumps(TYDIQA),
    ),
}


def as_tfds(task: records.Task, split: str) -> list[dict]:
    """Returns a task's examples from its file with the fields that TFDS has besides."""
    examples = list(raw_data.read(task, split, data_config.configured().data_dir))
    if task.family.name == "xnli":
        for example in examples:
            for field in ("premise", "hypothesis"):
                example[field] = dict.fromkeys(task.family.languages, example[field])
    if task.family.name == "tydiqa":
        for example in examples:
            answers = [{"text": text, "answer_start": 0} for text in example["answers"]["text"]]
            example |= {"title": "", "answers": answers}
    if task.family.name == "panx":
        for example in examples:
            example["spans"] = example["spans"] or ["None"]
    return examples


@pytest.mark.parametrize("name", FILES)
def test_a_prepared_folder_gives_the_examples_of_the_file(name, tmp_path, monkeypatch, no_network):
    split, file, content = FILES[name]
    task = catalogue.task(name)
    path = tmp_path / "files" / file
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path / "files"))
    expected = rows(name, split)
    assert len(expected) == 2
    prepare(tmp_path / "tfds", task, split, as_tfds(task, split))
    monkeypatch.delenv("XFER_DATA_DIR")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "x" / ".." / "tfds"))
    assert rows(name, split) == expected
