"""SentencePiece's models: T5's special ids, SeqIO's encoding and decoding, training, refusals."""

import os
import random
import re

import pytest
import sentencepiece
import seqio
from sentencepiece import sentencepiece_model_pb2

from seqio_tasks import sentencepiece_model, vocabulary
from seqio_tasks.errors import RequestError

SIZE = 420


MULTILINGUAL = (
    "",
    " ",
    "a",
    "  two  spaces \t and\na line ",
    "Fran\u00e7ois and Franc\u0327ois",
    "ﬁne ｗｉｄｅ ½ ™",
    "و\u064fل\u0650د\u064e في القاهرة",
    "\u200fمرحبا\u200c ،",
    "हिन्दी में \u0958\u0941तुब \u0915\u093cिला।",
    "বাংলা ভাষা কী?",
    "Русский язык",
    "漢字とかな",
    "😀 \ud7a3 \U0001f1e9\U0001f1ea",
    "<pad> </s> <unk> ▁ <extra_id_0>",
    "start <extra_id_0> middle<extra_id_1>, <extra_id_99> <extra_id_100>",
)


def training_texts() -> list[str]:
    rng = random.Random(0)
    alphabets = ("abcdefghij", "абвгдежз", "ابتثجحخد", "कखगघङचछज", "কখগঘঙচছজ")
    words = [
        "".join(rng.choices(alphabet, k=rng.randint(2, 5)))
        for alphabet in alphabets
        for _ in range(90)
    ]
    return [" ".join(rng.choices(words, k=8)) for _ in range(700)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return sentencepiece_model.train(
        training_texts(), SIZE, tmp_path_factory.mktemp("v") / "small.model"
    )


@pytest.fixture(scope="module")
def ours(path):
    return vocabulary.load(str(path))


@pytest.fixture(scope="module")
def seqios(path):
    return seqio.SentencePieceVocabulary(str(path))


def test_special_ids_are_those_of_t5(path):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert processor.GetPieceSize() == SIZE
    assert [processor.IdToPiece(i) for i in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert (processor.pad_id(), processor.eos_id(), processor.unk_id()) == (0, 1, 2)
    assert processor.bos_id() == -1


def test_sentinels_are_the_top_hundred_counted_down(ours, path):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for i in range(100):
        assert ours.sentinel(i) == SIZE - 1 - i
        assert processor.IdToPiece(ours.sentinel(i)) == f"▁<extra_id_{i}>"
        assert ours.encode(f"<extra_id_{i}>") == [SIZE - 1 - i]
    assert "extra_id" not in processor.IdToPiece(SIZE - 101)
    assert ours.encode("a <extra_id_0> b") == [*ours.encode("a"), SIZE - 1, *ours.encode("b")]


def test_rows_are_the_size_rounded_up(ours, tmp_path):
    assert ours.size == SIZE
    assert sentencepiece_model.rows(ours) == 512
    exact = sentencepiece_model.train(training_texts(), 384, tmp_path / "384.model")
    assert sentencepiece_model.rows(vocabulary.load(str(exact))) == 384


def test_mt5_has_250112_rows():
    class MT5:
        size = 250_100

    assert sentencepiece_model.rows(MT5()) == 250_112


def random_texts() -> list[str]:
    rng = random.Random(1)
    letters = "abcdefghij абвгд ابتث कखगघ\u093f\u094d কখগ\u09be \u0301\u200d\u00a0xyz😀"
    return ["".join(rng.choices(letters, k=rng.randint(0, 30))) for _ in range(300)]


def test_encodes_as_seqio(ours, seqios):
    for text in (*MULTILINGUAL, *random_texts()):
        assert ours.encode(text) == list(seqios.encode(text)), text


def test_encodes_as_seqio_in_tensorflow(ours, seqios):
    for text in MULTILINGUAL:
        assert ours.encode(text) == seqios.encode_tf(text).numpy().tolist(), text


def test_decodes_as_seqio(ours, seqios):
    rng = random.Random(2)
    lists = [ours.encode(text) for text in (*MULTILINGUAL, *random_texts())]
    lists += [[rng.randrange(SIZE + 100) for _ in range(rng.randint(0, 12))] for _ in range(500)]
    lists += [
        [],
        [1],
        [0, 0],
        [5, 6, 1, 7, 8],
        [1, 5],
        [5, SIZE, 6],
        [250_111],
        [SIZE - 1, 5, 0, 0],
    ]
    for ids in lists:
        assert ours.decode(ids) == seqios.decode(ids), ids


def test_decoding_ends_at_the_end_of_sequence(ours):
    ids = ours.encode("abc bcd")
    assert ours.decode([*ids, sentencepiece_model.EOS_ID, *ids]) == ours.decode(ids) == "abc bcd"
    assert ours.decode(iter(ids)) == "abc bcd"
    assert ours.decode([SIZE + 5]) == ours.decode([sentencepiece_model.UNK_ID])


def sentence(caught: pytest.ExceptionInfo) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300
    return text


@pytest.mark.parametrize("size", [True, 500.0, "500", 10**12])
def test_a_size_that_is_none_is_refused(size, tmp_path):
    with pytest.raises(RequestError, match="must be an integer of at most 4194304, not"):
        sentencepiece_model.train(training_texts(), size, tmp_path / "v")


@pytest.mark.parametrize("size", [-1, 0, 100, 103])
def test_a_size_without_room_beside_the_sentinels_is_refused(size, tmp_path):
    with pytest.raises(RequestError) as caught:
        sentencepiece_model.train(training_texts(), size, tmp_path / "v")
    assert (
        sentence(caught)
        == f"a vocabulary of {size} pieces is too small for its 100 sentinels; choose at least 104"
    )


@pytest.mark.parametrize(
    ("size", "why"), [(110, "check that it is not empty"), (9000, "it yields at most")]
)
def test_a_size_that_does_not_fit_the_text_is_refused(size, why, tmp_path):
    with pytest.raises(RequestError) as caught:
        sentencepiece_model.train(training_texts(), size, tmp_path / "v")
    message = sentence(caught)
    assert message.startswith(f"a vocabulary of {size} pieces cannot be trained on this text: ")
    assert why in message
    assert list(tmp_path.iterdir()) == []  # whole or not at all


def test_a_size_that_is_not_exact_is_the_most(tmp_path, ours):
    most = sentencepiece_model.train(training_texts(), 9000, tmp_path / "most", exact=False)
    assert SIZE < vocabulary.load(str(most)).size < 9000
    enough = sentencepiece_model.train(training_texts(), SIZE, tmp_path / "enough", exact=False)
    assert vocabulary.load(str(enough)).size == SIZE


def test_the_folder_is_made_and_nothing_else_left_in_it(tmp_path):
    path = tmp_path / "new" / "folder" / "v.model"
    assert sentencepiece_model.train(training_texts(), SIZE, path) == path
    assert list(path.parent.iterdir()) == [path]


def test_the_same_text_gives_the_same_bytes(path, tmp_path):
    again = sentencepiece_model.train(iter(training_texts()), SIZE, tmp_path / "again.model")
    assert again.read_bytes() == path.read_bytes()
    assert vocabulary.load(str(again)).digest == vocabulary.load(str(path)).digest


def test_the_same_text_gives_the_same_bytes_on_any_number_of_cores(tmp_path, monkeypatch):
    files = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        files.append(
            sentencepiece_model.train(training_texts(), SIZE, tmp_path / str(cores)).read_bytes()
        )
    assert files[0] == files[1]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError) as caught:
        vocabulary.load(str(tmp_path / "none.model"))
    message = sentence(caught)
    assert message.startswith(
        f"the vocabulary {tmp_path / 'none.model'} cannot be read (No such file"
    )
    assert "XFER_VOCAB" in message


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(RequestError, match=re.escape(f"the vocabulary {tmp_path} cannot be read")):
        vocabulary.load(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x0a\x05\x0a\x03abc"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "wrong.model"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        vocabulary.load(str(path))
    assert sentence(caught).startswith(f"{path} is not a SentencePiece model")


def test_a_model_with_other_special_ids_is_refused(tmp_path):
    sentencepiece.SentencePieceTrainer.Train(  # BERT-like: unknown 0, start 1, end 2
        sentence_iterator=iter(training_texts()),
        model_prefix=str(tmp_path / "other"),
        vocab_size=300,
        minloglevel=2,
    )
    with pytest.raises(RequestError) as caught:
        vocabulary.load(str(tmp_path / "other.model"))
    assert sentence(caught).endswith(
        "a T5 vocabulary has padding 0, end 1 and unknown 2; this one has -1, 2, 0"
    )


def model_with(path, pieces: list[str], tmp_path) -> str:
    """Writes the model with other names in place of its sentinels, from the lowest id."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    del proto.pieces[SIZE - 100 :]
    for piece in pieces:
        proto.pieces.add(piece=piece, type=4)
    file = tmp_path / "other.model"
    file.write_bytes(proto.SerializeToString())
    return str(file)


@pytest.mark.parametrize("spelling", ["▁<extra_id_{}>", "<extra_id_{}>"])
def test_sentinels_are_found_by_name(path, ours, tmp_path, spelling):
    order = random.Random(0).sample(range(100), 100)
    pieces = ["▁one_more", *map(spelling.format, order), "▁<extra_id_100>"]
    loaded = vocabulary.load(model_with(path, pieces, tmp_path))
    assert loaded.size == ours.size + 2
    for place, index in enumerate(order):
        assert loaded.sentinel(index) == SIZE - 100 + 1 + place
    assert ours.sentinels == tuple(range(SIZE - 1, SIZE - 101, -1))


@pytest.mark.parametrize("missing", [0, 57, 99])
def test_a_vocabulary_that_lacks_a_sentinel_is_refused(path, tmp_path, missing):
    pieces = [f"▁<extra_id_{i}>" if i != missing else "▁another" for i in range(100)]
    with pytest.raises(RequestError) as caught:
        vocabulary.load(model_with(path, pieces, tmp_path))
    message = str(caught.value)
    assert message.startswith(
        f"the vocabulary {tmp_path / 'other.model'} lacks <extra_id_{missing}>: span corruption"
    )
    assert "\n" not in message


def test_a_vocabulary_without_sentinels_is_refused(tmp_path):
    """As T5's English one, whose sentinels SeqIO adds outside of the file."""
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(training_texts()),
        model_prefix=str(tmp_path / "none"),
        vocab_size=300,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        minloglevel=2,
    )  # fmt: skip
    with pytest.raises(RequestError, match=r"lacks <extra_id_0>: .*with extra_ids do not count"):
        vocabulary.load(str(tmp_path / "none.model"))
