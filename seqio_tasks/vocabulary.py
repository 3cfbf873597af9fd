"""The SentencePiece vocabulary: mT5's by default, a file, or one trained on the text of tasks.

Ids are those of every T5: 0 padding, 1 end of sequence, 2 unknown. The 100 sentinels
`<extra_id_0>` … are pieces of the model itself, found by name. In mT5's `mc4.250000.100extra` they
are the last pieces, in decreasing order of id.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import gin

from seqio_tasks import (
    catalogue,
    data_config,
    data_files,
    files,
    quiet_registry,
    raw_data,
    sentencepiece_model,
)
from seqio_tasks.data_config import MT5_FILE, POCKET, DataConfig
from seqio_tasks.errors import RequestError
from seqio_tasks.families import pocket
from seqio_tasks.sentencepiece_model import ROW_MULTIPLE, Vocabulary
from seqio_tasks.settings import Count, Lines, arguments

_TRAINING_FORMAT = 2  # increase it when `train` makes different pieces from the same text


@gin.configurable(module="seqio_tasks.vocabulary")
@arguments("vocabulary.trained.{}")
def trained(tasks: Lines, size: Any, languages: Lines = (), examples: Count = 2000) -> str:
    """Returns a vocabulary trained on the text of tasks; trains it on first use, and caches it.

    For gin, to train models from scratch: `VOCAB_FILE = @vocabulary.trained()`.

    Args:
      tasks: names of tasks or mixtures; their training text is used.
      size: number of pieces, including the 100 sentinels.
      languages: languages of mixtures to use; all by default.
      examples: number of examples of each task, drawn by `subsets.sample_indices`.

    Raises:
      RequestError: a task or language is unknown, data is missing, or the size does not fit.
    """
    sentencepiece_model.check_size(size)
    chosen = catalogue.of_languages(tasks, languages)
    # By position: gin evaluates its own value even if a keyword overrides it, which calls this.
    config = data_config.configured(MT5_FILE)
    origins = [(task.full_name, raw_data.origin(task, "train", config)) for task in chosen]
    key = json.dumps([_TRAINING_FORMAT, size, examples, origins])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]

    def make(path: Path) -> None:
        print(f"training a vocabulary of {size} pieces on {len(chosen)} tasks, once", flush=True)
        registry = quiet_registry.load()
        sentencepiece_model.train(
            (t for task in chosen for t in registry.texts(task, "train", config, examples)),
            size,
            path,
        )

    return str(
        sentencepiece_model.kept(data_files.cache_dir() / "vocabularies" / f"{digest}.model", make)
    )


def load(path: str) -> Vocabulary:
    """Loads a vocabulary from a local path or gs:// address, once per process.

    Raises:
      RequestError: the file cannot be read, or is not a T5 vocabulary.
    """
    remote = isinstance(path, str) and path.startswith("gs://")
    return sentencepiece_model.read(path if remote else str(files.absolute(path)))


def of(config: DataConfig) -> Vocabulary:
    """Loads the vocabulary of a configuration, see `load`; `pocket` is trained on first use."""
    if config.vocabulary_file == POCKET:
        return load(str(pocket.vocabulary_file(config.world, config.pocket_pieces)))
    return load(config.vocabulary_file)


@gin.configurable(module="seqio_tasks.vocabulary")
def vocab_size() -> int:
    """Returns the embedding rows for the vocabulary, for gin: `VOCAB_SIZE = @vocab_size()`."""
    return sentencepiece_model.rows(of(data_config.configured()))


def load_for(config: DataConfig, model_rows: int) -> Vocabulary:
    """Loads the vocabulary of a configuration, for a model with `model_rows` rows in its embedding.

    Raises:
      RequestError: there are fewer rows than pieces, or at least 128 unused rows.
    """
    loaded = of(config)
    if not 0 <= model_rows - loaded.size < ROW_MULTIPLE:
        raise RequestError(
            f"the vocabulary {loaded.name} has {loaded.size} pieces and needs VOCAB_SIZE"
            f" {sentencepiece_model.rows(loaded)}; the model has {model_rows} rows"
        )
    return loaded
