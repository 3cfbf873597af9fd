"""Tasks in the miniature languages: NLI, NER and QA in the formats of the real tasks, and text.

`xfer_pocket_nli.sw`, `xfer_pocket_ner.sw` and `xfer_pocket_qa.sw` are for fine-tuning;
`xfer_pocket_text.sw` is unlabelled text for span corruption. `miniature.World`, whose parameters
gin can bind, generates all data; nothing is downloaded. They are a test bench, and say nothing
about real languages.
"""

from collections.abc import Iterator
from pathlib import Path

from seqio_tasks import data_files, metrics, miniature, sentencepiece_model
from seqio_tasks.data_config import DataConfig
from seqio_tasks.families import panx, tydiqa, xnli
from seqio_tasks.records import Example, Family, Format, Scoring, Source


def vocabulary_file(world: miniature.World, size: int) -> Path:
    """Returns the vocabulary of the miniature languages, trained on first use.

    Args:
      world: which languages.
      size: most pieces, including sentinels; a small world may yield fewer.

    Raises:
      RequestError: the size does not fit, or the cache folder cannot be written.
    """
    sentencepiece_model.check_size(size)
    path = data_files.cache_dir() / "miniature" / world.fingerprint() / f"{size}.model"

    def make(path: Path) -> None:
        sentencepiece_model.train(_all_text(world), size, path, exact=False)

    return sentencepiece_model.kept(path, make)


def _all_text(world: miniature.World) -> Iterator[str]:
    """Yields the plain text of the languages, and examples with the words of the text formats."""
    for language in miniature.LANGUAGES:
        yield from world.text(language)
        for example in world.examples("ner", language, "validation"):
            yield metrics.TAG_PROMPT + " ".join(example["tokens"])
            yield panx.SEPARATOR.join(example["spans"])
        for example in world.examples("nli", language, "validation"):
            yield f"xnli: premise: {example['premise']} hypothesis: {example['hypothesis']}"
            yield str(example["label"])
        for example in world.examples("qa", language, "validation"):
            yield f"question: {example['question']} context: {example['context']}"


def _make(task: str):
    def make(language: str, split: str, config: DataConfig) -> Iterator[Example]:
        if task == "text":
            return ({"targets": text} for text in config.world.text(language, split))
        return iter(config.world.examples(task, language, split))

    return make


def _family(task: str, format: Format, scoring: Scoring) -> Family:
    return Family(
        name=f"pocket_{task}",
        title=f"{task.upper()} in miniature languages",
        languages=miniature.LANGUAGES,
        source=Source(make=_make(task), digest=lambda config: config.world.fingerprint()),
        format=format,
        scoring=scoring,
    )


FAMILIES = (
    _family("nli", xnli.FORMAT, xnli.SCORING),
    _family("ner", panx.FAMILY.format, panx.FAMILY.scoring),
    _family("qa", tydiqa.FAMILY.format, tydiqa.FAMILY.scoring),
    _family("text", Format(lambda dataset, _: dataset, objective="span_corruption"), Scoring()),
)
