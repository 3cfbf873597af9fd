"""Retrieval: vectors beside the network's own states, search beside brute force, the command."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from seqio_tasks import retrieval_data as tasks
from seqio_tasks import sentencepiece_model
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError, RunError
from tests.support.files import read_rows
from xfer_jax.checkpoints import store
from xfer_jax.cli import main as cli
from xfer_jax.data import streams
from xfer_jax.engine import retrieval
from xfer_jax.engine.checkpoint_spec import CheckpointSpec
from xfer_jax.mt5 import layers, model, partitioning


@pytest.fixture(scope="module")
def tokens(t5x) -> np.ndarray:
    return t5x.batch("unpacked")["encoder_input_tokens"]


def states(t5x_module, params: dict, tokens: np.ndarray, layer: int | None) -> np.ndarray:
    """Returns what the encoder's own modules give, as its ordinary pass calls them."""
    if layer is None:
        return model.call(t5x_module, params, "encode", tokens)
    if layer == 0:
        return params["token_embedder"]["embedding"][tokens]
    _, kept = t5x_module.apply(
        {"params": params}, tokens, method="encode", capture_intermediates=True
    )
    return kept["intermediates"]["encoder"][f"layers_{layer - 1}"]["__call__"][0]


@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_vectors_are_means_of_the_states(t5x, t5x_module, tokens, layer):
    all_states = np.asarray(states(t5x_module, t5x.params, tokens, layer), np.float64)
    expected = [row[use].mean(axis=0) for row, use in zip(all_states, tokens > 0, strict=True)]
    found = retrieval.mean_states(t5x_module, t5x.params, tokens, layer)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_states_after_the_last_layer_are_those_under_the_norm(t5x, t5x_module, t5x_config):
    x = np.asarray([[5, 6, 7, 1]])
    last = model.call(t5x_module, t5x.params, "encode", x, layers=t5x_config.num_encoder_layers)
    norm = layers.RMSNorm(t5x_config.jax_dtype)
    scale = {"params": t5x.params["encoder"]["encoder_norm"]}
    ordinary = model.call(t5x_module, t5x.params, "encode", x)
    np.testing.assert_allclose(norm.apply(scale, last), ordinary, atol=1e-5)


@pytest.mark.parametrize("layer", [None, 1])
def test_padding_has_no_influence(t5x, t5x_module, tokens, layer):
    wide = np.pad(tokens, ((0, 3), (0, 16)))
    found = retrieval.mean_states(t5x_module, t5x.params, wide, layer)
    expected = retrieval.mean_states(t5x_module, t5x.params, tokens, layer)
    np.testing.assert_allclose(found[: len(tokens)], expected, atol=2e-5)
    assert not np.any(found[len(tokens) :])


@pytest.fixture(scope="module")
def tiny() -> tuple[model.Config, dict]:
    """The model of the tiny world, as it is drawn."""
    config = model.Config(512, 32, 2, 16, 48, 1, 1, dtype="float32", dropout_rate=0.0)
    return config, model.initialise(config, 0)


@pytest.fixture
def encoder(tiny_world, tiny):
    config, params = tiny
    assert config.vocab_size == sentencepiece_model.rows(tiny_world)
    mesh = partitioning.make_mesh()
    return retrieval.Encoder(model.Transformer(config), params, mesh, tiny_world, 24, 4)


def test_texts_keep_their_order_and_are_cut_to_their_length(encoder, tiny_world):
    texts = ["a", "b c d e f " * 20, "", "a", "b c", "c d e f a b"]
    done: list[int] = []
    vectors, cut = encoder.encode(texts, done.append)
    assert (cut, sum(done), vectors.shape) == (1, 6, (6, 32))
    for text, vector in zip(texts, vectors, strict=True):
        row = streams.ended(np.asarray(tiny_world.encode(text), np.int32), 24)[None]
        alone = retrieval.mean_states(encoder.module, encoder.params, row, None)[0]
        np.testing.assert_allclose(vector, alone, atol=2e-5)


def test_states_that_are_no_numbers_are_an_error(encoder):
    params = jax.tree.map(lambda x: x * np.nan, encoder.params)
    broken = retrieval.Encoder(encoder.module, params, encoder.mesh, encoder.vocabulary, 24, 4)
    with pytest.raises(RunError, match="states are not finite"):
        broken.encode(["a"])


def brute(queries: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of queries and of candidates, the last ones not full."""
    monkeypatch.setattr(retrieval, "_QUERIES", 64)
    monkeypatch.setattr(retrieval, "_CANDIDATES", 256)


# Small whole numbers: dot products are exact, whatever the order of summing, and many are equal.
CASES = {
    "ties": lambda rng: (rng.integers(-2, 3, (150, 4)), rng.integers(-2, 3, (1000, 4))),
    "all equal": lambda rng: (np.ones((3, 5)), np.ones((700, 5))),
    "repeats": lambda rng: (
        rng.integers(-9, 9, (70, 8)), np.tile(rng.integers(-9, 9, (90, 8)), (9, 1))
    ),
    "one candidate": lambda rng: (rng.integers(-9, 9, (5, 3)), rng.integers(-9, 9, (1, 3))),
    "one query": lambda rng: (rng.integers(-9, 9, (1, 3)), rng.integers(-9, 9, (257, 3))),
    "negative": lambda rng: (np.ones((65, 2)), -rng.integers(1, 5, (300, 2))),
    "rising": lambda rng: (np.ones((2, 1)), np.arange(999)[:, None]),
    "falling": lambda rng: (np.ones((2, 1)), -np.arange(999)[:, None]),
    "exactly full": lambda rng: (rng.integers(-3, 3, (64, 4)), rng.integers(-3, 3, (512, 4))),
}  # fmt: skip


@pytest.mark.parametrize("blocks", ["small", "large"])
@pytest.mark.parametrize("case", CASES)
def test_search_is_brute_force(case, blocks, request):
    if blocks == "small":
        request.getfixturevalue("small_blocks")
    queries, candidates = (x.astype(np.float32) for x in CASES[case](np.random.default_rng(0)))
    for k in (1, 20, 100):
        scores, found = retrieval.search(queries, candidates, k, "dot")
        expected_scores, expected = brute(queries, candidates, min(k, len(candidates)))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.usefixtures("small_blocks")
def test_cosine_finds_the_nearest_of_random_vectors():
    rng = np.random.default_rng(1)
    queries, candidates = rng.normal(size=(130, 24)), rng.normal(size=(900, 24))
    scales = np.exp(rng.normal(size=(900, 1)) * 5)  # a cosine does not depend on them

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    scores, found = retrieval.search(
        queries.astype(np.float32), (candidates * scales).astype(np.float32)
    )
    expected_scores, expected = brute(unit(queries), unit(candidates), retrieval.RANKED)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_a_vector_of_zeros_has_cosine_zero_with_all():
    scores, found = retrieval.search(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32))
    assert (scores.tolist(), found.tolist()) == ([[0, 0, 0]], [[0, 1, 2]])


def test_scores_are_those_of_xtreme():
    path = Path(__file__).parents[2] / "fixtures" / "xtreme" / "retrieval.json"
    for case in json.loads(path.read_text())["cases"]:
        ranked, gold, k = case["ranked"], case["gold"], case["k"]
        assert retrieval.mean_average_precision(ranked, gold, k) == pytest.approx(
            case["lareqa"], abs=1e-12
        )
        if case["mewslix"] is not None:
            single = retrieval.mean_average_precision(ranked, gold, k)
            assert single == pytest.approx(case["mewslix"], abs=1e-12)
        if case["tatoeba"] is not None:
            assert 100 * retrieval.accuracy(ranked, gold) == pytest.approx(case["tatoeba"])


def test_scores_are_those_worked_out_by_hand():
    ranked, gold = [["a", "b", "c"], ["x", "y"], []], [{"b", "c", "z"}, {"x"}, {"q"}]
    assert retrieval.accuracy(ranked, gold) == pytest.approx(1 / 3)
    first = (1 / 2 + 2 / 3) / 3
    assert retrieval.mean_average_precision(ranked, gold) == pytest.approx((first + 1) / 3)
    assert retrieval.mean_average_precision(ranked, gold, 1) == pytest.approx(1 / 3)
    assert retrieval.mean_average_precision([["a"]], [set()]) == 0


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    tree = {"target": tiny[1], "state": {"step": np.int32(0)}}
    return store.save(tmp_path_factory.mktemp("drawn"), tree, {})


@pytest.fixture
def retrieve(command, checkpoint, tmp_path):
    """Runs the command on a folder where Swahili says what English does, and German is mixed up."""
    folder = tmp_path / "data" / "tatoeba"
    folder.mkdir(parents=True)
    words = ("zo", "ka", "mi", "ru", "te", "la", "vo", "ne", "pi", "su")
    english = [f"{a} {b} {a}" for a in words for b in words[::-1]][:40]
    for language, texts in (("sw", english), ("de", english[1:] + english[:1])):
        (folder / f"{language}-en.{language}").write_text("\n".join([*texts, ""]))
        (folder / f"{language}-en.en").write_text("\n".join([*english, ""]))

    def run(**macros) -> int:
        settings = {
            "TASK": "tatoeba",
            "TARGETS": ("sw", "de"),
            "DATA_DIR": str(tmp_path / "data"),
            "CHECKPOINT_PATH": str(checkpoint),
            "RETRIEVAL_OUTPUT_DIR": str(tmp_path / "out"),
        }
        return cli.main(command("retrieve", **settings | macros))

    return run


def scores(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder / "retrieval.csv")


@pytest.mark.slow
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_the_command_finds_what_reads_the_same(retrieve, tmp_path, capsys, layer):
    similarity = "dot" if layer is None else "cosine"
    chosen = {"SIMILARITY": similarity} if layer is None else {"LAYER": layer}
    assert retrieve(**chosen) == 0
    printed = capsys.readouterr().out
    same, mixed = scores(tmp_path / "out")
    assert same["language"] == "sw"
    assert (same["n_queries"], same["n_candidates"], same["metric"]) == ("40", "40", "accuracy")
    assert same["layer"] == mixed["layer"] == ("output" if layer is None else str(layer))
    if similarity == "cosine":  # the product of a vector with another may exceed that with itself
        assert same["score"] == "100"
        assert mixed["score"] == "0"
    lines = (tmp_path / "out" / "tatoeba.sw.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["gold"] for record in records] == [[str(i)] for i in range(40)]
    assert all(len(set(record["ranked"])) == retrieval.RANKED for record in records)
    assert all(record["scores"] == sorted(record["scores"])[::-1] for record in records)
    assert f"{float(same['score']):.1f}" in printed


def test_nothing_is_done_twice(retrieve, tmp_path, monkeypatch):
    assert retrieve(TASK="tatoeba_to_en") == 0
    kept = scores(tmp_path / "out")
    (tmp_path / "out" / "tatoeba_to_en.de.jsonl").unlink()
    (tmp_path / "out" / "retrieval.csv").unlink()
    ranked = []
    rank = retrieval._rank
    monkeypatch.setattr(retrieval, "_rank", lambda *args: (ranked.extend(args[1]), rank(*args))[1])
    assert retrieve(TASK="tatoeba_to_en") == 0
    assert scores(tmp_path / "out") == kept
    assert [of.language for of, _ in ranked] == ["de"]
    monkeypatch.setattr(retrieval.Retrieval, "encoder", None)
    assert retrieve(TASK="tatoeba_to_en") == 0


@pytest.mark.parametrize(
    ("macros", "sentence"),
    [
        ({"TASK": "tatoebe"}, "unknown retrieval task 'tatoebe' (did you mean tatoeba"),
        ({"TASK": "lareqa", "TARGETS": ()}, "needs lareqa/xquad-r/ar.json"),
        ({"TARGETS": ("xx",)}, "tatoeba has no language xx"),
        ({"LAYER": 2}, "LAYER must be an integer from 0 to 1"),
        ({"LAYER": True}, "LAYER must be a whole number, not True"),
        ({"EVAL_BATCH_SIZE": 10**12}, "EVAL_BATCH_SIZE must be at most"),
        ({"SIMILARITY": "l2"}, "SIMILARITY must be 'cosine' or 'dot', not 'l2'"),
        ({"RETRIEVAL_LENGTH": 1}, "RETRIEVAL_LENGTH must be"),
        ({"EVAL_BATCH_SIZE": 0}, "EVAL_BATCH_SIZE must be"),
        ({"EVAL_SPLIT": "train"}, "tatoeba has no split 'train'"),
        ({"DATA_DIR": None}, "tatoeba is read from files"),
        ({"CHECKPOINT_PATH": "/nowhere"}, "/nowhere"),
    ],
)
def test_wrong_requests_are_refused(retrieve, capsys, macros, sentence):
    assert retrieve(**macros) == 2
    assert sentence in capsys.readouterr().err


def test_another_models_results_are_not_mixed_in(retrieve, capsys):
    assert retrieve(TARGETS=("sw",)) == 0
    assert retrieve(TARGETS=("sw",), LAYER=0) == 2
    assert "contains the results of a run with other settings" in capsys.readouterr().err


def test_candidates_that_languages_share_are_encoded_once(encoder, tmp_path):
    shared = tasks.Candidates(("a", "b c", "d"), ("x", "y", "z"))
    sets = [
        tasks.Set(code, ("a", "d"), shared, (frozenset({0}), frozenset({2})))
        for code in ("en", "sw")
    ]
    asked: list[tuple[str, ...]] = []

    class Counting(retrieval.Encoder):
        def encode(self, texts, advance=lambda n: None):
            asked.append(tuple(texts))
            return super().encode(texts, advance)

    counting = Counting(encoder.module, encoder.params, encoder.mesh, encoder.vocabulary, 24, 4)
    retrieval._rank(counting, [(of, tmp_path / f"{of.language}.jsonl") for of in sets], "cosine")
    assert asked == [shared.texts, ("a", "d"), ("a", "d")]
    first = json.loads((tmp_path / "en.jsonl").read_text().splitlines()[0])
    assert (first["query"], first["gold"], first["ranked"][0]) == ("a", ["x"], "x")


def test_an_unknown_layer_type_is_refused():
    config = model.Config(vocab_size=128, num_encoder_layers=3)
    with pytest.raises(RequestError, match="from 0 to 3"):
        retrieval.Retrieval(CheckpointSpec("c", config), "f", DataConfig(), "tatoeba", layer=4)
