"""Evaluates the encoder on the retrieval tasks of XTREME-R: `xfer-jax retrieve`.

The vector of a text is the mean of the encoder's states over its tokens. Candidates are ranked by
cosine similarity or dot product, with exact search. Names of arrays contain their shapes: Q
queries, C candidates, E embedding, P parts of the candidates, W candidates per part.
"""

import dataclasses
import functools
import json
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import gin
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from pydantic import Field

from seqio_tasks import retrieval_data
from seqio_tasks.data_config import DataConfig
from seqio_tasks.errors import RequestError, RunError
from seqio_tasks.sentencepiece_model import Vocabulary
from seqio_tasks.settings import BatchSize, CountFromZero, Folder, Line, Lines, settings
from xfer_jax.data import loader, streams
from xfer_jax.engine import run_folder
from xfer_jax.engine.checkpoint_spec import Checkpoint, CheckpointSpec
from xfer_jax.engine.prediction import Progress
from xfer_jax.mt5 import model, partitioning
from xfer_jax.mt5.model import Transformer
from xfer_jax.runtime import progress

FILE = "retrieval.csv"
COSINE, DOT = "cosine", "dot"
RANKED = 20  # number of candidates kept for each query, as in XTREME-R
_QUERIES, _CANDIDATES = 1024, 131072  # at a time: 512 MiB of scores
_FLOATS = 1 << 27  # maximum number of floats of candidates at a time: 512 MiB
_PART = 64  # W


# --- Vectors --------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("module", "layer"))
def mean_states(
    module: Transformer, params: dict, encoder_input_tokens: jax.Array, layer: int | None
) -> jax.Array:
    """Averages the encoder's states over the tokens that are not padding.

    Args:
      module: the network.
      params: its parameters.
      encoder_input_tokens: int32 [B, K].
      layer: states after this number of layers, 0: embeddings; None: the encoder's output.

    Returns:
      float32 [B, E]; 0 for a row of padding.
    """
    states_BxKxE = model.call(module, params, "encode", encoder_input_tokens, layers=layer)
    present_BxKx1 = (encoder_input_tokens > 0)[:, :, None]
    total_BxE = jnp.sum(jnp.where(present_BxKx1, states_BxKxE.astype(jnp.float32), 0.0), axis=1)
    return total_BxE / jnp.maximum(jnp.sum(present_BxKx1, axis=1), 1)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A model, and what it needs to encode texts as vectors."""

    module: Transformer
    params: dict
    mesh: Mesh
    vocabulary: Vocabulary
    length: int  # maximum number of tokens of a text, including the end of sequence
    batch_size: int  # rounded up to a multiple of the number of devices that share the data
    layer: int | None = None  # see `mean_states`

    def encode(
        self, texts: Sequence[str], advance: Progress = lambda n: None
    ) -> tuple[np.ndarray, int]:
        """Returns the vectors, float32 [texts, E], and the number of truncated texts.

        Args:
          texts: in any order; texts of similar length are encoded together.
          advance: called after every batch.

        Raises:
          RunError: the states are not finite.
        """
        share = self.mesh.shape["data"]
        size = -(-self.batch_size // share) * share
        tokens = [np.asarray(self.vocabulary.encode(text), np.int32) for text in texts]
        counts = np.asarray([len(row) + 1 for row in tokens])
        order = np.argsort(-np.minimum(counts, self.length), kind="stable")
        vectors = np.zeros((len(texts), self.module.config.emb_dim), np.float32)
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            rows = [streams.ended(tokens[i], self.length) for i in indices]
            batch = loader.pad_to_ladder(rows, size, self.length)
            here = partitioning.local_rows(self.mesh, size)
            placed = partitioning.place(self.mesh, batch[here])
            means = mean_states(self.module, self.params, placed, self.layer)
            vectors[indices] = partitioning.fetch(means)[: len(indices)]
            advance(len(indices))
        if not np.isfinite(vectors).all():
            raise RunError("the encoder's states are not finite: is the checkpoint complete?")
        return vectors, int((counts > self.length).sum())


# --- Search ---------------------------------------------------------------------------------------


def search(
    queries_QxE: np.ndarray, candidates_CxE: np.ndarray, k: int = RANKED, similarity: str = COSINE
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest candidates of every query by exact search in bounded memory.

    Args:
      queries_QxE: float32.
      candidates_CxE: float32, at least one.
      k: number of candidates to find; all, if there are fewer.
      similarity: `cosine` or `dot`.

    Returns:
      Scores, float32 [Q, k], in falling order; and the indices of the candidates, int32 [Q, k]. Of
      candidates with equal scores, the lower index is first.
    """
    count, width = candidates_CxE.shape
    k = min(k, count)
    most = max(min(_CANDIDATES, _FLOATS // width // _PART * _PART), -(-k // _PART) * _PART)
    size = min(most, _few_sizes(count))
    rows = min(_QUERIES, _few_sizes(len(queries_QxE)))
    scores = np.full((len(queries_QxE), k), -np.inf, np.float32)
    found = np.zeros((len(queries_QxE), k), np.int32)
    for first in range(0, count, size):
        block = _unit(_block(candidates_CxE, first, size), similarity).T
        for start in range(0, len(queries_QxE), rows):
            here = slice(start, start + rows)
            before = (_block(scores, start, rows), _block(found, start, rows))
            query = _unit(_block(queries_QxE, start, rows), similarity)
            best = _merge(query, block, *before, first, min(size, count - first))
            scores[here], found[here] = (np.asarray(x)[: len(scores[here])] for x in best)
    return scores, found


def _few_sizes(count: int) -> int:
    """Rounds up to one of few sizes, because each size needs a compilation."""
    step = max(_PART, (1 << (count - 1).bit_length()) // 64)
    return -(-count // step) * step


def _block(rows: np.ndarray, first: int, size: int) -> jax.Array:
    """Returns `size` rows from `first` on, filled up with copies of the last row."""
    block = rows[first : first + size]
    missing = size - len(block)
    return jnp.asarray(np.pad(block, ((0, missing), (0, 0)), mode="edge") if missing else block)


@functools.partial(jax.jit, static_argnames="similarity")
def _unit(x: jax.Array, similarity: str) -> jax.Array:
    if similarity == DOT:
        return x
    norm = jnp.sqrt(jnp.sum(lax.square(x), axis=1, keepdims=True))
    return x / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny)


@jax.jit
def _merge(
    query_QxE: jax.Array,
    candidate_ExC: jax.Array,
    scores_QxN: jax.Array,
    found_QxN: jax.Array,
    first: int,
    count: int,
) -> tuple[jax.Array, jax.Array]:
    """Merges a block of candidates, numbered from `first`, into the best N of the blocks before it.

    Sorting all scores would take longer than computing them. But the best N candidates are in the N
    parts with the largest maxima: all others rank below these maxima. The candidates from `count`
    on are copies of the last one, and do not count.
    """
    best = scores_QxN.shape[1]
    score_QxC = jnp.matmul(query_QxE, candidate_ExC, precision=lax.Precision.HIGHEST)
    score_QxPxW = score_QxC.reshape(len(query_QxE), -1, _PART)
    part_P = jnp.arange(score_QxPxW.shape[1])
    largest_QxP = jnp.where(part_P * _PART < count, jnp.max(score_QxPxW, axis=2), -jnp.inf)
    part_QxN = jnp.sort(lax.top_k(largest_QxP, min(best, len(part_P)))[1], axis=1)
    inside_QxNxW = jnp.take_along_axis(score_QxPxW, part_QxN[:, :, None], axis=1)
    index_QxNxW = part_QxN[:, :, None] * _PART + jnp.arange(_PART)
    inside_QxNxW = jnp.where(index_QxNxW < count, inside_QxNxW, -jnp.inf)
    flat = len(query_QxE), -1
    all_scores = jnp.concatenate([scores_QxN, inside_QxNxW.reshape(flat)], axis=1)
    all_found = jnp.concatenate([found_QxN, first + index_QxNxW.reshape(flat)], axis=1)
    scores_QxN, place_QxN = lax.top_k(all_scores, best)  # of equal ones the first
    return scores_QxN, jnp.take_along_axis(all_found, place_QxN, axis=1)


# --- Scores ---------------------------------------------------------------------------------------

Ranked = Sequence[Sequence[Hashable]]  # for every query, the candidates found, best first
Gold = Sequence[Collection[Hashable]]  # for every query, the relevant candidates


def accuracy(ranked: Ranked, gold: Gold) -> float:
    """Returns the share of queries whose first candidate is relevant."""
    hits = [bool(found) and found[0] in right for found, right in zip(ranked, gold, strict=True)]
    return sum(hits) / len(hits) if hits else 0.0


def mean_average_precision(ranked: Ranked, gold: Gold, k: int = RANKED) -> float:
    """Returns mAP@k as defined for LAReQA, in [0, 1]; with one relevant candidate, it is MRR@k.

    The average precision of a query is divided by the number of its relevant candidates, at most k.
    It is 0 for a query without any. If a candidate is listed twice, only the first one counts.
    """
    every = [_average_precision(f, set(r), k) for f, r in zip(ranked, gold, strict=True)]
    return sum(every) / len(every) if every else 0.0


def _average_precision(found: Sequence[Hashable], right: set[Hashable], k: int) -> float:
    total, hits, most = 0.0, 0, min(len(right), k)
    for place, candidate in enumerate(found[:k], start=1):
        if candidate in right:
            right.remove(candidate)
            hits += 1
            total += hits / place
    return total / most if most else 0.0


# --- The command ----------------------------------------------------------------------------------


@gin.configurable(module="xfer_jax.engine.retrieval")
@settings(
    {
        "folder": "RETRIEVAL_OUTPUT_DIR", "languages": "TARGETS", "split": "EVAL_SPLIT",
        "length": "RETRIEVAL_LENGTH", "batch_size": "EVAL_BATCH_SIZE",
    }
)  # fmt: skip
class Retrieval:
    """The settings of `xfer-jax retrieve`."""

    checkpoint: CheckpointSpec
    folder: Folder  # for all output
    data_config: DataConfig
    task: Line
    languages: Lines = ()  # of the queries; all by default
    split: Line | None = None  # the task's own by default
    layer: CountFromZero | None = None  # see `mean_states`
    similarity: Literal["cosine", "dot"] = "cosine"
    length: Annotated[int, Field(ge=2, le=1 << 20)] = 128  # maximum number of tokens of a text
    batch_size: BatchSize = 256

    def __post_init__(self):
        retrieval_data.family(self.task)
        layers = self.checkpoint.model.num_encoder_layers
        if self.layer is not None and (
            type(self.layer) is not int or self.layer not in range(layers + 1)
        ):
            raise RequestError(
                f"LAYER must be an integer from 0 to {layers}, the model's number of layers, or"
                f" None for the encoder's output, not {self.layer!r}"
            )

    def encoder(self, checkpoint: Checkpoint) -> Encoder:
        """Loads the model.

        Raises:
          RequestError: see `Checkpoint.restore`.
        """
        params, _, mesh = checkpoint.restore()
        network, words = Transformer(self.checkpoint.model), checkpoint.vocabulary
        return Encoder(network, params, mesh, words, self.length, self.batch_size, self.layer)


def retrieve(request: Retrieval, config_text: str) -> None:
    """Ranks the candidates of every query, one file per language; prints and writes the table.

    A language that has its file already is not ranked again.

    Raises:
      RequestError: the request is wrong, or the folder contains results of another one.
    """
    folder, checkpoint = request.folder, request.checkpoint.find(request.data_config)
    run_folder.check(folder, config_text)
    run_folder.check_inputs(folder, checkpoint.inputs)
    data_dir = request.data_config.data_dir
    sets = list(retrieval_data.read(request.task, data_dir, request.languages, request.split))
    paths = [folder / f"{request.task}.{of.language}.jsonl" for of in sets]
    missing = [(of, file) for of, file in zip(sets, paths, strict=True) if not file.is_file()]
    encoder = request.encoder(checkpoint) if missing else None
    run_folder.claim(folder, config_text, checkpoint.inputs)
    if encoder is not None:
        _rank(encoder, missing, request.similarity)
    metric = retrieval_data.family(request.task).metric
    scores = [100 * _score(file, metric) for file in paths]
    progress.say(_table(request, sets, scores))
    _write_scores(folder / FILE, request, sets, scores)
    progress.say(f"wrote {folder / FILE}")


def _rank(
    encoder: Encoder, missing: Sequence[tuple[retrieval_data.Set, Path]], similarity: str
) -> None:
    """Writes the ranked candidates of each set to its file."""
    searched = {id(of.candidates): of.candidates for of, _ in missing}
    texts = sum(len(of.queries) for of, _ in missing)
    texts += sum(len(candidates.texts) for candidates in searched.values())
    bar = progress.Bar("encode", texts, 0)
    cut, of_last, vectors = 0, None, None
    for of, file in missing:
        if vectors is None or of.candidates is not of_last:
            vectors, truncated = encoder.encode(of.candidates.texts, lambda n: bar.advance(n, n))
            of_last, cut = of.candidates, cut + truncated
        queries, truncated = encoder.encode(of.queries, lambda n: bar.advance(n, n))
        cut += truncated
        scores, found = search(queries, vectors, RANKED, similarity)
        ids = of.candidates.ids
        records = (
            {
                "query": query,
                "gold": [ids[i] for i in sorted(gold)],
                "ranked": [ids[i] for i in row],
                "scores": [round(score, 6) for score in row_scores],
            }
            for query, gold, row, row_scores in zip(
                of.queries, of.gold, found.tolist(), scores.tolist(), strict=True
            )
        )
        run_folder.write_jsonl(file, records)
    bar.close()
    if cut:
        progress.say(f"{cut} of {texts} texts were truncated to {encoder.length} tokens")


def _score(file: Path, metric: str) -> float:
    with file.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    ranked, gold = ([record[key] for record in records] for key in ("ranked", "gold"))
    measure = accuracy if metric == retrieval_data.ACCURACY else mean_average_precision
    return measure(ranked, gold)


def _table(request: Retrieval, sets: Sequence[retrieval_data.Set], scores: Sequence[float]) -> str:
    """Renders the scores, in percent, and their mean."""
    layer = "output" if request.layer is None else f"states after layer {request.layer}"
    metric = retrieval_data.family(request.task).metric
    compared = f"{request.similarity} of the encoder's mean {layer}"
    lines = [f"{request.task}: {metric} in percent, {compared}"]
    rows = [("queries in", metric, "queries", "candidates")]
    rows += [
        (of.language, f"{score:.1f}", str(len(of.queries)), str(len(of.candidates.ids)))
        for of, score in zip(sets, scores, strict=True)
    ]
    rows.append(("mean", f"{sum(scores) / len(scores):.1f}", "", ""))
    lines += [f"  {a:<10}  {b:>8}  {c:>7}  {d:>10}".rstrip() for a, b, c, d in rows]
    return "\n".join(lines)


def _write_scores(
    path: Path, request: Retrieval, sets: Sequence[retrieval_data.Set], scores: Sequence[float]
) -> None:
    metric = retrieval_data.family(request.task).metric
    layer = "output" if request.layer is None else request.layer
    rows = [
        f"{request.task},{of.language},{len(of.queries)},{len(of.candidates.ids)},{metric},"
        f"{score:.6g},{layer}"
        for of, score in zip(sets, scores, strict=True)
    ]
    header = "task,language,n_queries,n_candidates,metric,score,layer"
    run_folder.write(path, "\n".join([header, *rows, ""]))
