"""The SentencePiece vocabulary: mT5's by default, a file, or one trained from tasks' own text.

Ids as in every T5: 0 padding, 1 end of sequence, 2 unknown; the 100 sentinels `<extra_id_0>` …
are pieces of the model itself, found by their names. In mT5's `mc4.250000.100extra` they are the
last, counted down from the top.
"""

import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gin
import sentencepiece

from seqio_tasks import digests, files, sources
from seqio_tasks.errors import RequestError

MT5_FILE = "gs://t5-data/vocabs/mc4.250000.100extra/sentencepiece.model"
POCKET = "pocket"  # in place of a file: the vocabulary of the miniature languages, made on demand
PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
NUM_SENTINELS = 100
_FETCH_SECONDS = 60  # to wait for a remote vocabulary
_MOST_PIECES = 1 << 22  # sixteen times mT5's
_TRAINING_FORMAT = 2  # raised whenever `train` begins to make other pieces of the same text
_TRAINING_THREADS = 4  # a constant: the number decides the pieces, in their last digits


@gin.configurable(module="seqio_tasks.vocabulary")
def file(path: str | None = None) -> str:
    """Returns the vocabulary's file: a local path or gs:// address.

    Args:
      path: the file, such as Hugging Face's `spiece.model`, or `pocket` for the vocabulary of the
        miniature languages. By default the environment's `XFER_VOCAB`, else mT5's public one.
    """
    path = path or os.environ.get("XFER_VOCAB") or MT5_FILE
    if path == POCKET:
        from seqio_tasks import pocket  # it trains its vocabulary with this module

        return str(pocket.vocabulary_file())
    return path if str(path).startswith("gs://") else str(files.absolute(path, "VOCAB_FILE"))


@gin.configurable(module="seqio_tasks.vocabulary")
def trained(
    tasks: Sequence[str], size: int, languages: Sequence[str] = (), examples: int = 2000
) -> str:
    """Returns a vocabulary of tasks' own text, trained on first use and kept in the cache folder.

    For gin, where models are trained from scratch: `VOCAB_FILE = @vocabulary.trained()`.

    Args:
      tasks: names of tasks or mixtures whose training text it learns from.
      size: number of pieces, the 100 sentinels included.
      languages: of mixtures, only these; all by default.
      examples: so many of every task, drawn as `catalogue.sample_indices` does.

    Raises:
      RequestError: an unknown task or language, data that is missing, or a size that does not fit.
    """
    from seqio_tasks import catalogue  # it needs this module

    check_size(size)
    for name, value in (("tasks", tasks), ("languages", languages)):
        if not isinstance(value, (tuple, list)) or not all(isinstance(x, str) for x in value):
            raise RequestError(
                f"vocabulary.trained.{name} must be a tuple of names, ('xfer_panx.sw',) or"
                f" ('en', 'sw'), not {value!r:.100}"
            )
    if type(examples) is not int or examples < 1:
        raise RequestError(
            f"vocabulary.trained.examples must be an integer of at least 1, not {examples!r}"
        )
    chosen = catalogue.of_languages(tasks, languages)
    origins = [(task.full_name, catalogue.origin(task, "train")) for task in chosen]
    key = json.dumps([_TRAINING_FORMAT, size, examples, origins])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]

    def make(path: Path) -> None:
        print(f"training a vocabulary of {size} pieces on {len(chosen)} tasks, once", flush=True)
        registry = catalogue.registry()
        train((t for task in chosen for t in registry.texts(task, "train", examples)), size, path)

    return str(kept(sources.cache_dir() / "vocabularies" / f"{digest}.model", make))


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


def load(path: str | None = None) -> Vocabulary:
    """Loads a vocabulary, once a process.

    Args:
      path: as in `file`.

    Raises:
      RequestError: the file cannot be read, or is no T5 vocabulary.
    """
    if path is None:
        path = file()
    elif path == POCKET:
        path = file(path)
    remote = isinstance(path, str) and path.startswith("gs://")
    return _load(path if remote else str(files.absolute(path)))


@functools.lru_cache(maxsize=8)
def _load(path: str) -> Vocabulary:
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


@gin.configurable(module="seqio_tasks.vocabulary")
def vocab_size() -> int:
    """Returns `rows` of the vocabulary in use, for gin: `VOCAB_SIZE = @vocab_size()`."""
    return rows(load())


def load_for(model_rows: int) -> Vocabulary:
    """Loads the vocabulary in use, for a model whose embedding has so many rows.

    Raises:
      RequestError: these are fewer rows than pieces, or 128 and more to spare.
    """
    loaded = load()
    if not 0 <= model_rows - loaded.size < ROW_MULTIPLE:
        raise RequestError(
            f"the vocabulary {loaded.name} has {loaded.size} pieces and needs VOCAB_SIZE"
            f" {rows(loaded)}; the model has {model_rows} rows"
        )
    return loaded
