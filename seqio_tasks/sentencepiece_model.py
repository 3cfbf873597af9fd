"""A SentencePiece model with T5's ids and 100 sentinels: read, trained, applied."""

import functools
import hashlib
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from seqio_tasks import digests, files, sources
from seqio_tasks.errors import RequestError

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
NUM_SENTINELS = 100
_FETCH_SECONDS = 60  # to wait for a remote vocabulary
_MOST_PIECES = 1 << 22  # sixteen times mT5's
_TRAINING_THREADS = 4  # a constant: the number decides the pieces, in their last digits


def kept(path: Path, make: Callable[[Path], None]) -> Path:
    """Returns a vocabulary that was trained before, or trains it.

    Beside it stands its SHA-256, as the program sha256sum writes it. A vocabulary that is damaged
    is trained again.

    Args:
      path: its file in the cache folder.
      make: trains it and writes the file.

    Raises:
      RequestError: the cache folder cannot be written; or see `make`.
    """
    sums = path.with_name(path.name + ".sha256")
    if path.is_file() and sums.is_file():
        if files.read_bytes(sums) == _checksum_line(path):
            return path
        print(f"the vocabulary {path} is damaged and trained again", flush=True)
    sources.writable_cache(*path.parent.relative_to(sources.cache_dir()).parts)
    make(path)
    files.write(sums, _checksum_line(path))
    return path


def _checksum_line(path: Path) -> bytes:
    return f"{digests.sha256(path)}  {path.name}\n".encode()


class Vocabulary:
    """A loaded SentencePiece model; encodes and decodes exactly as SeqIO's does."""

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
                f"{name}: a T5 vocabulary has padding 0, end 1 and unknown 2, this one has"
                f" {', '.join(map(str, ids))}"
            )
        self.sentinels = tuple(map(self._sentinel, range(NUM_SENTINELS)))  # ids of <extra_id_0> …

    def _sentinel(self, index: int) -> int:
        name = f"<extra_id_{index}>"
        for piece in (f"▁{name}", name):  # mT5's spelling first
            token = self._processor.PieceToId(piece)
            if self._processor.IdToPiece(token) == piece:  # else it is unknown
                return token
        raise RequestError(
            f"the vocabulary {self.name} lacks {name}: span corruption and mT5 need the 100"
            " sentinels <extra_id_0> to <extra_id_99> as pieces of the model itself (such as SeqIO"
            " adds by extra_ids do not count); name mT5's own, or one of `xfer-jax vocab`"
        )

    @property
    def size(self) -> int:
        """Number of pieces, sentinels included."""
        return self._processor.GetPieceSize()

    def sentinel(self, index: int) -> int:
        """Returns the id of `<extra_id_{index}>`."""
        return self.sentinels[index]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without an end of sequence."""
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to the first end of sequence; ids past the top are unknown."""
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
            f"the vocabulary {path} cannot be read ({error.strerror}); name a SentencePiece model"
            " by VOCAB_FILE or XFER_VOCAB"
        ) from None


def _read_remote(path: str) -> bytes:
    import tensorstore as ts

    folder, _, name = path.rpartition("/")
    try:
        store = ts.KvStore.open(f"{folder}/").result(timeout=_FETCH_SECONDS)
        result = store.read(name).result(timeout=_FETCH_SECONDS)
    except Exception as error:  # tensorstore raises what its drivers raise
        reason = (str(error).splitlines() or [f"no answer in {_FETCH_SECONDS} s"])[0][:200]
        raise RequestError(
            f"the vocabulary {path} cannot be fetched ({reason}); name a"
            " local copy, such as Hugging Face's spiece.model, by VOCAB_FILE or XFER_VOCAB"
        ) from None
    if result.state != "value":
        raise RequestError(f"there is no vocabulary {path}")
    return result.value


def train(texts: Iterable[str], size: int, destination: Path, *, exact: bool = True) -> Path:
    """Trains a unigram SentencePiece model with sentinels, for models from scratch.

    Args:
      texts: what to train it on.
      size: number of pieces, the 100 sentinels included.
      destination: file to write, whole or not at all.
      exact: refuse text that does not yield `size` pieces; else take as many as it yields.

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
        remedy = f"it yields at most {int(most[1]) + NUM_SENTINELS}" if most else "is there text?"
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
    """Raises RequestError unless a vocabulary can have so many pieces."""
    if type(size) is not int or size > _MOST_PIECES:
        raise RequestError(
            f"the size of a vocabulary must be an integer of at most {_MOST_PIECES}, not {size!r}"
        )
    if size <= NUM_SENTINELS + 3:
        raise RequestError(
            f"a vocabulary of {size} pieces has no room beside its {NUM_SENTINELS} sentinels"
        )


ROW_MULTIPLE = 128  # T5 rounds embeddings up to it, for the accelerators' sake


def rows(of: Vocabulary) -> int:
    """Returns the rows of an embedding for a vocabulary: its size, rounded up to 128s."""
    return -(-of.size // ROW_MULTIPLE) * ROW_MULTIPLE
