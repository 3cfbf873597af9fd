"""Reads, trains and applies SentencePiece models with the ids of T5 and 100 sentinels."""

import functools
import hashlib
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from seqio_tasks import data_files, digests, files
from seqio_tasks.errors import RequestError

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
NUM_SENTINELS = 100
_FETCH_SECONDS = 60  # to wait for a remote vocabulary
_MOST_PIECES = 1 << 22  # sixteen times as many as in mT5
_TRAINING_THREADS = 4  # constant, because it changes the last digits of the pieces' scores


def kept(path: Path, make: Callable[[Path], None]) -> Path:
    """Returns a vocabulary from the cache folder, or trains it.

    A second file contains its SHA-256, in the format of the program sha256sum. A damaged vocabulary
    is trained again.

    Args:
      path: its file in the cache folder.
      make: trains the vocabulary and writes the file.

    Raises:
      RequestError: the cache folder cannot be written; or see `make`.
    """
    sums = path.with_name(path.name + ".sha256")
    if path.is_file() and sums.is_file():
        if files.read_bytes(sums) == _checksum_line(path):
            return path
        print(f"the vocabulary {path} is damaged; training it again", flush=True)
    data_files.writable_cache(*path.parent.relative_to(data_files.cache_dir()).parts)
    make(path)
    files.write(sums, _checksum_line(path))
    return path


def _checksum_line(path: Path) -> bytes:
    return f"{digests.sha256(path)}  {path.name}\n".encode()


class Vocabulary:
    """A loaded SentencePiece model; encodes and decodes exactly like SeqIO."""

    def __init__(self, model: bytes, name: str):
        self.name = name
        self.digest = hashlib.sha256(model).hexdigest()
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise RequestError(f"{name} is not a SentencePiece model") from error
        ids = (self._processor.pad_id(), self._processor.eos_id(), self._processor.unk_id())
        if ids != (PAD_ID, EOS_ID, UNK_ID):
            raise RequestError(
                f"{name}: a T5 vocabulary has padding 0, end 1 and unknown 2; this one has"
                f" {', '.join(map(str, ids))}"
            )
        self.sentinels = tuple(map(self._sentinel, range(NUM_SENTINELS)))  # ids of <extra_id_0> …

    def _sentinel(self, index: int) -> int:
        name = f"<extra_id_{index}>"
        for piece in (f"▁{name}", name):  # mT5's spelling first
            token = self._processor.PieceToId(piece)
            if self._processor.IdToPiece(token) == piece:  # otherwise the piece is unknown
                return token
        raise RequestError(
            f"the vocabulary {self.name} lacks {name}: span corruption and mT5 need the 100"
            " sentinels <extra_id_0> to <extra_id_99> as pieces of the model itself (those that"
            " SeqIO adds with extra_ids do not count); use the vocabulary of mT5, or make one with"
            " `xfer-jax vocab`"
        )

    @property
    def size(self) -> int:
        """Number of pieces, including sentinels."""
        return self._processor.GetPieceSize()

    def sentinel(self, index: int) -> int:
        """Returns the id of `<extra_id_{index}>`."""
        return self.sentinels[index]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without end of sequence."""
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to the first end of sequence; too large ids are unknown."""
        kept: list[int] = []
        for token in ids:
            if token == EOS_ID:
                break
            kept.append(int(token) if token < self.size else UNK_ID)
        return self._processor.DecodeIds(kept)


@functools.lru_cache(maxsize=8)
def read(path: str) -> Vocabulary:
    if path.startswith("gs://"):
        return Vocabulary(_read_remote(path), path)
    try:
        return Vocabulary(Path(path).read_bytes(), path)
    except OSError as error:
        raise RequestError(
            f"the vocabulary {path} cannot be read ({error.strerror}); set VOCAB_FILE or"
            " XFER_VOCAB to a SentencePiece model"
        ) from None


def _read_remote(path: str) -> bytes:
    import tensorstore as ts

    folder, _, name = path.rpartition("/")
    try:
        store = ts.KvStore.open(f"{folder}/").result(timeout=_FETCH_SECONDS)
        result = store.read(name).result(timeout=_FETCH_SECONDS)
    except Exception as error:  # tensorstore raises any error of its drivers
        reason = (str(error).splitlines() or [f"no answer in {_FETCH_SECONDS} s"])[0][:200]
        raise RequestError(
            f"the vocabulary {path} cannot be downloaded ({reason}); set VOCAB_FILE or XFER_VOCAB"
            " to a local copy, such as Hugging Face's spiece.model"
        ) from None
    if result.state != "value":
        raise RequestError(
            f"the vocabulary {path} does not exist; set VOCAB_FILE or XFER_VOCAB to another one"
        )
    return result.value


def train(texts: Iterable[str], size: int, destination: Path, *, exact: bool = True) -> Path:
    """Trains a unigram SentencePiece model with sentinels, for models from scratch.

    Args:
      texts: the training texts.
      size: number of pieces, including the 100 sentinels.
      destination: file to write, atomically.
      exact: whether to refuse text that yields fewer than `size` pieces; otherwise accept fewer.

    Returns:
      `destination`.

    Raises:
      RequestError: the size does not fit the text.
    """
    from sentencepiece import sentencepiece_model_pb2

    check_size(size)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size - NUM_SENTINELS,
            hard_vocab_limit=exact,
            character_coverage=0.9999,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=-1,
            num_threads=_TRAINING_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        most = re.search(r"value <= (\d+)", str(error))
        remedy = (
            f"it yields at most {int(most[1]) + NUM_SENTINELS}"
            if most
            else "check that it is not empty"
        )
        raise RequestError(
            f"a vocabulary of {size} pieces cannot be trained on this text: {remedy}"
        ) from error
    model_proto: Any = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined]
    proto = model_proto.FromString(model.getvalue())
    for index in reversed(range(NUM_SENTINELS)):
        piece = proto.pieces.add()
        piece.piece = f"▁<extra_id_{index}>"
        piece.type = model_proto.SentencePiece.USER_DEFINED
    proto.trainer_spec.vocab_size = len(proto.pieces)
    return files.write(destination, proto.SerializeToString(deterministic=True))


def check_size(size: int) -> None:
    """Raises RequestError unless a vocabulary can have this number of pieces."""
    if type(size) is not int or size > _MOST_PIECES:
        raise RequestError(
            f"the size of a vocabulary must be an integer of at most {_MOST_PIECES}, not {size!r}"
        )
    if size <= NUM_SENTINELS + 3:
        raise RequestError(
            f"a vocabulary of {size} pieces is too small for its {NUM_SENTINELS} sentinels; choose"
            f" at least {NUM_SENTINELS + 4}"
        )


ROW_MULTIPLE = 128  # T5 rounds the rows of embeddings up to it, for speed on accelerators


def rows(of: Vocabulary) -> int:
    """Returns the embedding rows for a vocabulary: its size, rounded up to a multiple of 128."""
    return -(-of.size // ROW_MULTIPLE) * ROW_MULTIPLE
