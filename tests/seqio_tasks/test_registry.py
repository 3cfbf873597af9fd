"""The SeqIO registry: every task and mixture is there and delivers what T5X would ask of it."""

import hashlib
import re

import gin
import numpy as np
import pytest
import seqio

from seqio_tasks import (
    catalogue,
    data_config,
    metrics,
    miniature,
    registry,
    sentencepiece_model,
    span_corruption,
    subsets,
    vocabulary,
)
from seqio_tasks.errors import RequestError
from seqio_tasks.families import pocket

LENGTHS = {"inputs": 12, "targets": 6}
SENTENCES = [f"jina{i} Asha Juma alikwenda Nairobi jana" for i in range(20)]
TAGS = ("O", "B-PER", "I-PER", "O", "B-LOC", "O")


@pytest.fixture
def panx(tmp_path, monkeypatch, vocabulary_file):
    """A data folder with Swahili and Arabic PAN-X."""
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XFER_VOCAB", vocabulary_file)
    (tmp_path / "panx").mkdir()
    lines = ["".join(map("{}\t{}\n".format, s.split(), TAGS)) for s in SENTENCES]
    for file in ("train-sw", "dev-sw", "train-ar"):
        (tmp_path / "panx" / f"{file}.tsv").write_text("\n".join(lines))
    return tmp_path


def dataset(name: str, split: str = "train", **options) -> list[dict]:
    options = {"shuffle": False, "use_cached": False, **options}
    task = seqio.get_mixture_or_task(name)
    return list(task.get_dataset(LENGTHS, split, **options).as_numpy_iterator())


def tokenised(name: str, split: str, vocabulary_file: str) -> list[dict]:
    config = data_config.configured(vocabulary_file=vocabulary_file)
    return list(registry.tokenised(catalogue.task(name), split, config))


def texts_of(name: str, split: str, examples: int = -1) -> list[str]:
    config = data_config.configured()
    return list(registry.texts(catalogue.task(name), split, config, examples))


def test_every_task_and_mixture_is_registered():
    for family in catalogue.families().values():
        tasks = {f"xfer_{family.name}.{code}" for code in family.languages}
        assert tasks <= set(seqio.TaskRegistry.names())
        mixture = seqio.MixtureRegistry.get(f"xfer_{family.name}.all_langs")
        assert {task.name for task in mixture.tasks} == tasks
        assert {mixture.get_rate(task) for task in mixture.tasks} == {1.0}


def test_tasks_have_metrics_and_features():
    expected = {"panx": metrics.span_f1, "xnli": metrics.accuracy, "tydiqa": metrics.squad}
    expected |= {"pocket_ner": metrics.span_f1, "pocket_nli": metrics.accuracy}
    expected |= {"pocket_qa": metrics.squad}
    for family, metric in expected.items():
        task = seqio.TaskRegistry.get(f"xfer_{family}.sw")
        assert task.metric_fns == [metric]
        assert set(task.output_features) == {"inputs", "targets"}
    text = seqio.TaskRegistry.get("xfer_pocket_text.sw")
    assert text.metric_fns == []
    assert set(text.output_features) == {"inputs", "targets"}  # of the corrupted text
    for task in (text, seqio.TaskRegistry.get("xfer_panx.sw")):
        assert all(feature.add_eos for feature in task.output_features.values())
        assert list(task.splits) == ["train", "validation", "test"]
    assert list(seqio.TaskRegistry.get("xfer_tydiqa.sw").splits) == ["train", "validation"]


def test_language_families_are_mixtures_in_equal_parts():
    for name in ("xfer_panx.uralic.n30.s0", "xfer_intermediate.ner_and_text.koreanic"):
        mixture = registry.get(name)
        assert isinstance(mixture, seqio.Mixture)
        assert [task.name for task in mixture.tasks] == [t.name for t in catalogue.tasks(name)]
        assert {mixture.get_rate(task) for task in mixture.tasks} == {1.0}
    assert set(catalogue.intermediates()) <= set(seqio.MixtureRegistry.names())


def test_plain_text_is_read_a_line_a_text(tmp_path, monkeypatch, vocabulary_file):
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XFER_VOCAB", vocabulary_file)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train-sw.txt").write_text("\n".join([*SENTENCES, "", "  "]) + "\n")
    texts = texts_of("xfer_text.sw", "train")
    assert texts == SENTENCES
    assert dataset("xfer_text.sw")[0].keys() == {"inputs", "targets"}


def test_a_task_that_is_asked_for_again_is_the_same():
    assert registry.get("xfer_panx.sw") is registry.get("xfer_panx.sw")
    assert registry.get("xfer_panx.all_langs") is seqio.MixtureRegistry.get("xfer_panx.all_langs")
    with pytest.raises(RequestError, match=r"did you mean .*xfer_panx\.sw"):
        registry.get("xfer_panx.swa")


def test_a_task_delivers_trimmed_tokens_with_their_end(panx, vocabulary_file):
    loaded = vocabulary.load(vocabulary_file)
    examples = dataset("xfer_panx.sw")
    assert len(examples) == 20
    for sentence, example in zip(SENTENCES, examples, strict=True):
        texts = {"inputs": f"tag: {sentence}", "targets": "PER: Asha Juma $$ LOC: Nairobi"}
        for feature, text in texts.items():
            ids = loaded.encode(text)
            assert len(ids) > LENGTHS[feature], "else nothing is trimmed"
            assert example[feature].tolist() == [*ids[: LENGTHS[feature] - 1], 1]
            assert example[f"{feature}_pretokenized"].decode() == text


def test_what_fits_is_ended_and_not_trimmed(panx, vocabulary_file):
    loaded = vocabulary.load(vocabulary_file)
    (panx / "panx" / "dev-sw.tsv").write_text("Asha\tO\n")
    (example,) = dataset("xfer_panx.sw", "validation")
    assert example["inputs"].tolist() == [*loaded.encode("tag: Asha"), 1]


@pytest.mark.slow
def test_the_training_set_can_be_shuffled_repeated_and_sharded(panx):
    texts = [f"tag: {sentence}" for sentence in SENTENCES]

    def inputs(**options) -> list[str]:
        return [e["inputs_pretokenized"].decode() for e in dataset("xfer_panx.sw", **options)]

    assert inputs() == texts
    shuffled = inputs(shuffle=True, seed=1)
    assert shuffled != texts
    assert sorted(shuffled) == sorted(texts)
    assert inputs(shuffle=True, seed=1) == shuffled
    assert sorted(inputs(num_epochs=2)) == sorted(texts * 2)
    shards = [inputs(shard_info=seqio.ShardInfo(index=i, num_shards=3)) for i in range(3)]
    assert sorted(text for shard in shards for text in shard) == sorted(texts)
    assert {len(shard) for shard in shards} == {6, 7}


def test_the_vocabulary_is_chosen_when_the_data_is_opened(panx, tmp_path, monkeypatch):
    feature = seqio.get_mixture_or_task("xfer_panx.sw").output_features["inputs"]
    before = dataset("xfer_panx.sw")[0]["inputs"].tolist()
    size = feature.vocabulary.vocab_size
    other = sentencepiece_model.train(
        ["tag: Asha Juma " * 5] * 9, 125, tmp_path / "other", exact=False
    )
    monkeypatch.setenv("XFER_VOCAB", str(other))
    assert feature.vocabulary.vocab_size == vocabulary.load(str(other)).size != size
    assert dataset("xfer_panx.sw")[0]["inputs"].tolist() != before


@pytest.fixture
def two_languages(panx):
    """A mixture of the two languages that the data folder has."""
    del panx  # for its folder
    tasks = [seqio.TaskRegistry.get(f"xfer_panx.{code}") for code in ("sw", "ar")]
    seqio.MixtureRegistry.add("two_languages", [task.name for task in tasks], default_rate=1.0)
    yield tasks
    seqio.MixtureRegistry.remove("two_languages")


def vocabularies(task: seqio.Task) -> list[seqio.Vocabulary]:
    return [feature.vocabulary for feature in task.output_features.values()]


def test_a_mixture_delivers_its_tasks(two_languages):
    assert len({v.vocab_size for task in two_languages for v in vocabularies(task)}) == 1
    found = dataset("two_languages", num_epochs=1)
    assert 20 <= len(found) <= 40  # SeqIO stops when one of them has no more
    assert all(example["inputs"][-1] == 1 for example in found)


@pytest.mark.slow
def test_a_mixture_does_not_mind_which_of_its_vocabularies_were_read(
    two_languages, tmp_path, monkeypatch
):
    new = sentencepiece_model.train(
        ["tag: PER: LOC: Asha Juma"] * 9, 125, tmp_path / "new", exact=False
    )
    monkeypatch.setenv("XFER_VOCAB", str(new))
    (first, _), *_ = map(vocabularies, two_languages)
    assert first.vocab_size > 100  # as a trainer asks before it opens the data
    assert len(dataset("two_languages", num_epochs=1)) >= 20


def test_a_vocabulary_may_be_in_the_home_folder(panx, vocabulary_file, monkeypatch):
    folder, _, file = vocabulary_file.rpartition("/")
    monkeypatch.setenv("HOME", folder)
    assert len(tokenised("xfer_panx.sw", "train", f"~/{file}")) == 20


@pytest.mark.slow
def test_a_subset_is_registered_when_it_is_asked_for(panx):
    name = "xfer_panx.sw.n7.s5"
    assert name not in seqio.TaskRegistry.names()
    try:
        assert registry.get(name).name == name
        chosen = [e["inputs_pretokenized"].decode() for e in dataset(name)]
        every = [f"tag: {s}\tPER: Asha Juma $$ LOC: Nairobi" for s in SENTENCES]
        expected = sorted(subsets.subset_order(every, 5)[:7])
        assert chosen == [f"tag: {SENTENCES[i]}" for i in expected]
        assert len(dataset(name, "validation")) == 20
    finally:
        seqio.TaskRegistry.remove(name)


def test_a_mixture_may_be_of_subsets():
    mixture = registry.get("xfer_tydiqa.all_langs.n10.s0")
    names = {f"xfer_tydiqa.{code}.n10.s0" for code in catalogue.families()["tydiqa"].languages}
    assert {task.name for task in mixture.tasks} == names


@pytest.fixture
def small_world():
    try:
        gin.parse_config(
            "seqio_tasks.miniature.World.train_examples = 12\n"
            "seqio_tasks.miniature.World.eval_examples = 6\n"
            "seqio_tasks.miniature.World.text_sentences = 40\n"
        )
        yield miniature.World()
    finally:
        gin.clear_config()


def texts(name: str, split: str, vocabulary_file: str) -> list[tuple[str, str]]:
    return [
        tuple(e.get(f"{f}_pretokenized", b"").decode() for f in ("inputs", "targets"))
        for e in tokenised(name, split, vocabulary_file)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_pocket_tasks_have_the_formats_of_the_real_ones(small_world, vocabulary_file, split):
    size = 12 if split == "train" else 6

    ner = small_world.examples("ner", "hi", split)
    assert texts("xfer_pocket_ner.hi", split, vocabulary_file) == [
        ("tag: " + " ".join(e["tokens"]), " $$ ".join(e["spans"])) for e in ner
    ]
    nli = small_world.examples("nli", "sw", split)
    assert texts("xfer_pocket_nli.sw", split, vocabulary_file) == [
        (f"xnli: premise: {e['premise']} hypothesis: {e['hypothesis']}", str(e["label"]))
        for e in nli
    ]
    # Spanish and German are not among TyDiQA's languages: none of theirs may be left out
    for language in ("en", "de"):
        qa = small_world.examples("qa", language, split)
        found = texts(f"xfer_pocket_qa.{language}", split, vocabulary_file)
        assert len(found) == len(qa) == size
        for example, (inputs, targets) in zip(qa, found, strict=True):
            expected = f"question: {example['question']} context: {example['context']}"
            assert inputs.split() == expected.split()  # punctuation stands apart already
            assert targets.split() == example["answers"]["text"][0].split()
    text = texts("xfer_pocket_text.bn", split, vocabulary_file)
    assert text == [("", sentence) for sentence in small_world.text("bn", split)]


def test_pocket_vocabulary_is_made_once(small_world, tmp_path, monkeypatch):
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path))
    path = pocket.vocabulary_file(small_world, 300)
    assert path.is_relative_to(tmp_path)
    assert small_world.fingerprint() in str(path)
    made = path.stat().st_mtime_ns
    assert pocket.vocabulary_file(small_world, 300).stat().st_mtime_ns == made
    loaded = vocabulary.load(str(path))
    assert loaded.size <= 300
    sentence = small_world.text("fi")[0]
    assert loaded.decode(loaded.encode(sentence)) == sentence
    assert sentencepiece_model.UNK_ID not in loaded.encode(
        "tag: xnli: premise: 0 1 2 $$ PER: question: ?"
    )


def test_pocket_text_can_be_read_without_a_vocabulary(small_world):
    task = catalogue.task("xfer_pocket_text.ar")
    assert texts_of(task.name, "train") == small_world.text("ar", "train")
    nli = texts_of("xfer_pocket_nli.ar", "validation")
    assert len(nli) == 12
    assert set(nli[1::2]) <= {"0", "1", "2"}
    assert np.all([text.startswith("xnli: premise: ") for text in nli[::2]])


@pytest.fixture
def bind():
    """Binds gin's knobs for one test."""
    yield gin.parse_config
    gin.clear_config()


def sampled() -> list[str]:
    return [example["inputs_pretokenized"].decode() for example in dataset("xfer_panx.sw")]


def rank(sentence: str) -> bytes:
    """Where a sentence that comes once stands in the order of samples."""
    text = f"evaluation|0|tag: {sentence}\tPER: Asha Juma $$ LOC: Nairobi"
    return hashlib.sha256(text.encode()).digest()


@pytest.mark.slow
def test_a_sample_is_drawn_by_the_texts_and_not_by_their_order(panx, bind):
    file = panx / "panx" / "train-sw.tsv"
    sentences = file.read_text().split("\n\n")
    for count in (3, 7):
        bind(f"seqio_tasks.catalogue.evaluation_examples.count = {count}")
        chosen = set(sorted(SENTENCES, key=rank)[:count])
        expected = [f"tag: {sentence}" for sentence in SENTENCES if sentence in chosen]
        assert sampled() == expected != [f"tag: {s}" for s in SENTENCES[:count]]
        file.write_text("\n\n".join(sentences[::-1]))
        assert sampled() == expected[::-1]
        file.write_text("\n\n".join(sentences))
    bind("seqio_tasks.catalogue.evaluation_examples.count = 1000")
    assert len(sampled()) == 20
    for wrong in (0, -5, True, 2.5, "'x'"):
        bind(f"seqio_tasks.catalogue.evaluation_examples.count = {wrong}")
        with pytest.raises(
            RequestError, match=r"EVALUATOR_NUM_EXAMPLES must be (at least 1|a whole number), not"
        ):
            sampled()


@pytest.mark.slow
def test_what_trains_is_not_sampled(panx, bind, vocabulary_file):
    """T5X's own evaluation is; and what the engine keeps, or learns a vocabulary from, is not."""
    bind("seqio_tasks.catalogue.evaluation_examples.count = 3")
    bind("train/seqio_tasks.catalogue.evaluation_examples.count = None")
    with gin.config_scope("train"):
        assert len(sampled()) == 20
    assert len(tokenised("xfer_panx.sw", "train", vocabulary_file)) == 20
    task = catalogue.task("xfer_panx.sw")
    assert len(texts_of(task.name, "train")) == 2 * 20
    evaluator = seqio.Evaluator(
        "xfer_panx.sw",
        feature_converter=seqio.EncDecFeatureConverter(pack=False),
        eval_split="validation",
        use_cached=False,
        sequence_length=LENGTHS,
        logger_cls=(),
    )
    assert len(list(evaluator.cached_task_datasets["xfer_panx.sw"])) == 3
    evaluator.close()


@pytest.mark.slow
def test_a_vocabulary_learns_from_the_same_sample(panx, bind):
    bind("seqio_tasks.catalogue.evaluation_examples.count = 5")
    few = texts_of("xfer_panx.sw", "train", 5)
    assert few[::2] == sampled()
    assert set(few[1::2]) == {"PER: Asha Juma $$ LOC: Nairobi"}


@pytest.mark.slow
def test_long_targets_are_cut_or_left_out(panx, vocabulary_file, bind):
    """As the engine does it for LONG_TARGETS 'trim' and 'drop'."""
    short = "Asha\tB-PER\n"
    (panx / "panx" / "dev-sw.tsv").write_text(f"{short}\n" + f"{SENTENCES[0].split()[1]}\tO\n" * 9)
    long_one = vocabulary.load(vocabulary_file).encode("PER: Asha")
    for most, left in ((len(long_one) + 1, 2), (len(long_one), 1)):
        lengths = {"inputs": 40, "targets": most}
        task = seqio.get_mixture_or_task("xfer_panx.sw")
        bind(f"catalogue.longest_target.tokens = {most}")
        kept = list(task.get_dataset(lengths, "validation", shuffle=False).as_numpy_iterator())
        assert len(kept) == left
        assert all(len(example["targets"]) <= most for example in kept)
        gin.clear_config()
        assert len(list(task.get_dataset(lengths, "validation", shuffle=False))) == 2


def test_seqio_finds_the_lengths_of_an_evaluation_by_itself(panx, vocabulary_file):
    """T5X's own configurations leave the lengths to it."""
    evaluator = seqio.Evaluator(
        "xfer_panx.sw",
        feature_converter=seqio.EncDecFeatureConverter(pack=False),
        eval_split="validation",
        use_cached=False,
        sequence_length=None,
        logger_cls=(),
    )
    loaded = vocabulary.load(vocabulary_file)
    longest = max(len(loaded.encode(f"tag: {sentence}")) for sentence in SENTENCES) + 1
    assert evaluator.model_feature_shapes["encoder_input_tokens"] == (longest,)
    evaluator.close()


def test_a_name_for_several_tasks(panx):
    names = ("xfer_panx.sw", "xfer_panx.ar.n7.s5")
    together = registry.mixture(names)
    try:
        assert re.fullmatch(r"xfer_panx\.sw_and_1_more_[0-9a-f]{8}", together)
        assert registry.mixture(names) == together != registry.mixture(names[::-1])
        assert {task.name for task in seqio.MixtureRegistry.get(together).tasks} == set(names)
        assert registry.mixture(names[:1]) == names[0]
    finally:
        seqio.MixtureRegistry.remove(together)
        seqio.MixtureRegistry.remove(registry.mixture(names[::-1]))
        seqio.TaskRegistry.remove(names[1])
    with pytest.raises(RequestError, match="set TARGETS"):
        registry.mixture(())


MASKED = {"inputs": 32, "targets": 10}


def pieces(seed: int | None = 0, lengths=MASKED, **options) -> list[tuple[list[int], list[int]]]:
    """Returns inputs and targets of the Swahili miniature text as SeqIO delivers them."""
    options = {"shuffle": False, "use_cached": False, "seed": seed, **options}
    task = seqio.get_mixture_or_task("xfer_pocket_text.sw")
    return [
        (example["inputs"].tolist(), example["targets"].tolist())
        for example in task.get_dataset(lengths, "train", **options).as_numpy_iterator()
    ]


@pytest.fixture
def text(small_world, vocabulary_file, monkeypatch) -> list[int]:
    """The tokens of the Swahili miniature text, with nothing between its sentences."""
    monkeypatch.setenv("XFER_VOCAB", vocabulary_file)
    encode = vocabulary.load(vocabulary_file).encode
    return [token for line in small_world.text("sw") for token in encode(line)]


def test_the_text_is_masked_as_one_stream(text, vocabulary_file, restore):
    top = vocabulary.load(vocabulary_file).sentinel(0)
    found = pieces()
    restored: list[int] = []
    for inputs, targets in found:
        assert (inputs[-1], targets[-1]) == (1, 1)
        sentinels = [token for token in targets if token > top - 100]
        assert sentinels == list(range(top, top - len(sentinels), -1))
        restored += restore(inputs[:-1], targets[:-1], top)
    assert restored == text
    assert len(found) > 20
    for inputs, targets in found[:-1]:  # every piece but the last fills its length
        assert (len(inputs), len(targets)) == (32, span_corruption.lengths(32)[1])
    masked = sum(sum(t not in (1, *range(top - 99, top + 1)) for t in ts) for _, ts in found)
    assert masked / len(text) == pytest.approx(0.15, abs=0.01)


@pytest.mark.slow
def test_masks_follow_the_seed_and_change_with_the_epoch(text):
    assert pieces(seed=0) == pieces(seed=0)
    assert pieces(seed=0) != pieces(seed=1)
    once, twice = pieces(), pieces(num_epochs=2)
    assert twice[: len(once) - 1] == once[:-1]  # the stream goes on over the last one's end
    assert not {tuple(ts) for _, ts in once} >= {tuple(ts) for _, ts in twice}


@pytest.mark.slow
@pytest.mark.parametrize("pack", [False, True])
def test_masked_text_as_t5x_converts_it(text, pack):
    # Longer than what the pieces were made for: so that packing has something to do.
    longer = {feature: 2 * length for feature, length in MASKED.items()}
    task = seqio.get_mixture_or_task("xfer_pocket_text.sw")
    converter = seqio.EncDecFeatureConverter(pack=pack)
    examples = task.get_dataset(MASKED, "train", shuffle=False, use_cached=False, seed=0)
    batches = list(converter(examples, longer).as_numpy_iterator())
    assert {x["encoder_input_tokens"].shape for x in batches} == {(64,)}
    assert {x["decoder_target_tokens"].shape for x in batches} == {(20,)}
    found = []
    for x in batches:
        assert (x["decoder_loss_weights"] == (x["decoder_target_tokens"] > 0)).all()
        segments = x["decoder_segment_ids"] if pack else x["decoder_target_tokens"] > 0
        encoder_segments = x["encoder_segment_ids"] if pack else x["encoder_input_tokens"] > 0
        for segment in range(1, segments.max() + 1):
            targets = x["decoder_target_tokens"][segments == segment].tolist()
            assert x["decoder_input_tokens"][segments == segment].tolist() == [0, *targets[:-1]]
            found.append((x["encoder_input_tokens"][encoder_segments == segment].tolist(), targets))
    assert found == pieces()
    assert (len(batches) < len(found)) == pack


def test_masked_text_needs_lengths_that_suit(text):
    with pytest.raises(RequestError, match="32 input tokens needs 8 target tokens"):
        pieces(lengths={"inputs": 32, "targets": 7})
    with pytest.raises(RequestError, match="TASK_FEATURE_LENGTHS"):
        pieces(lengths=None)
