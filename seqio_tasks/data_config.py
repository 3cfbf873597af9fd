"""Where the examples of the tasks and their tokens come from: a value that functions pass on.

gin and the environment are read by `configured` only: by the commands when they start, and by the
tasks that SeqIO calls without arguments.
"""

import os
from pathlib import Path
from typing import Annotated

import gin
from pydantic import Field

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from seqio_tasks.miniature import World
from seqio_tasks.settings import Line, settings

MT5_FILE = "gs://t5-data/vocabs/mc4.250000.100extra/sentencepiece.model"
POCKET = "pocket"  # instead of a file: the vocabulary of the miniature languages, made on first use


@settings({"vocabulary_file": "VOCAB_FILE"})
class DataConfig:
    """Data folder, vocabulary, and what generates data.

    Raises:
      RequestError: a value is wrong, or the data folder does not exist.
    """

    data_dir: Path | None = None  # files in XTREME's layout; None: TFDS
    vocabulary_file: Line = MT5_FILE  # a SentencePiece model: local path, gs:// address or `pocket`
    world: World = World()  # of the miniature languages
    mask_seed: Annotated[int, Field(ge=0)] = 0  # of the masks of probes
    pocket_pieces: int = 512  # maximum number of pieces of the vocabulary `pocket`

    def __post_init__(self):
        try:
            there = self.data_dir is None or self.data_dir.is_dir()
        except OSError as error:  # a folder without permission, or a name that is too long
            raise RequestError(f"{self.data_dir} cannot be read: {error}") from None
        if not there:
            raise RequestError(
                f"the data folder {self.data_dir} (XFER_DATA_DIR) does not exist; name a folder in"
                " the layout of XTREME's download scripts, or unset it to read from TFDS"
            )


@gin.configurable(module="seqio_tasks.data_config")
def configured(
    vocabulary_file: str | None = None,
    data_dir: str | None = None,
    mask_seed: int = 0,
    pocket_pieces: int = 512,
) -> DataConfig:
    """Returns what gin and the environment set.

    Args:
      vocabulary_file: by default the environment variable `XFER_VOCAB`, or else mT5's vocabulary.
      data_dir: by default the environment variable `XFER_DATA_DIR`; TFDS if it is unset.
      mask_seed: see `DataConfig`.
      pocket_pieces: see `DataConfig`.

    Raises:
      RequestError: see `DataConfig`.
    """
    folder = data_dir or os.environ.get("XFER_DATA_DIR") or None
    vocab = vocabulary_file or os.environ.get("XFER_VOCAB") or MT5_FILE
    if vocab != POCKET and not str(vocab).startswith("gs://"):
        vocab = str(files.absolute(vocab, "VOCAB_FILE"))
    return DataConfig(
        files.absolute(folder, "DATA_DIR or XFER_DATA_DIR") if folder else None,
        vocab,
        World(),
        mask_seed,
        pocket_pieces,
    )
