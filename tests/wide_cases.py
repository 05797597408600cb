"""Small matrices and chunks on them, with the naive twin of each."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import naive
import numpy as np

from workers.chunk import NO_I4, NO_I8, Chunk, Reply
from workers.config import HeadConfig
from workers.counters import NEGATIVES, stream_key
from workers.engine import WideEngine
from workers.matrix import TagMatrix
from workers.prepared_chunk import Lookup, PreparedChunk, look_up, lookup_memory, prepare_chunk, rules_of
from workers.scratch import Scratch

N, D, B = 60, 8, 5


def make_config(**changes: object) -> HeadConfig:
    """A head whose numbers are large enough to be seen."""
    return HeadConfig(**{"negatives": 24, "negative_weight": 3.0, "init_scale": 1.0, **changes})  # type: ignore[arg-type]


def make_matrix(
    config: HeadConfig, *, num_tags: int = N, dim: int = D, num_items: int = 12, seed: int = 0
) -> TagMatrix:
    """A matrix with a data set of random true tags; accumulators that are not zero."""
    rng = np.random.default_rng(seed)
    tags = [
        np.sort(rng.choice(num_tags, rng.integers(1, min(num_tags, 12) + 1), replace=False)) for _ in range(num_items)
    ]
    matrix = TagMatrix.create(
        num_tags,
        dim,
        config=config,
        counts=rng.integers(1, 200, num_tags),
        item_offsets=np.concatenate([[0], np.cumsum([len(t) for t in tags])]).astype(np.int64),
        item_tags=np.concatenate(tags).astype(np.int32),
        seed=seed,
    )
    matrix.bias_N[:] = rng.normal(size=num_tags)
    matrix.tag_state_N4[:, 1:3] = rng.random((num_tags, 2)) * 0.1
    return matrix


def ragged(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(ids, offsets) of lists of ids."""
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])]).astype(np.int32)
    return np.array([i for ids in lists for i in ids], np.int32), offsets


def make_chunk(
    features_BD: np.ndarray,
    positives: list[list[int]],
    truth: list[list[int]] | np.ndarray,
    *,
    num_negatives: int = 24,
    **changes: object,
) -> Chunk:
    """A chunk; `truth` is a list of true ids for each example, or the examples' item numbers."""
    pos_ids, pos_offsets = ragged(positives)
    items_B, true_ids, true_offsets = (truth, None, None) if isinstance(truth, np.ndarray) else (None, *ragged(truth))
    chunk = Chunk(
        step=3,
        chunk=1,
        seed=7,
        features_BD=np.asarray(features_BD, np.float32),
        pos_ids=pos_ids,
        pos_offsets=pos_offsets,
        pos_weights=None,
        items_B=items_B,
        true_ids=true_ids,
        true_offsets=true_offsets,
        num_negatives=num_negatives,
        row_lr=0.1,
        update=True,
    )
    return dataclasses.replace(chunk, **changes)  # type: ignore[arg-type]


def random_features(num_examples: int = B, dim: int = D, seed: int = 1) -> np.ndarray:
    """Features of about unit length per coordinate."""
    return np.random.default_rng(seed).normal(size=(num_examples, dim)).astype(np.float32)


def written_down(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel as the Python function that it was written as: compiled, it cannot return arrays to Python."""
    return getattr(function, "py_func", function)


def prepared_chunk(
    chunk: Chunk,
    neg_ids: np.ndarray,
    config: HeadConfig,
    item_offsets: np.ndarray = NO_I8,
    item_tags: np.ndarray = NO_I4,
) -> PreparedChunk:
    """A chunk in the form that kernels take, with these negatives."""
    rules = rules_of(config, chunk.num_negatives, chunk.row_lr)
    return prepare_chunk(chunk, neg_ids, item_offsets, item_tags, rules)


def looked_up(prepared: PreparedChunk) -> Lookup:
    """The weights of a prepared's positives, and the places of its true tags."""
    B, A = len(prepared.features_BD), len(prepared.pos_ids_A)
    lookup = lookup_memory(B, A, Scratch())
    look_up(prepared.positives, prepared.truth, lookup)
    return lookup


def drawn_negatives(matrix: TagMatrix, chunk: Chunk, num_draws: int) -> list[int]:
    """What the engine draws for a chunk, by the naive twin."""
    key = stream_key(chunk.seed, chunk.step, chunk.chunk, NEGATIVES)
    return naive.draw_ids(matrix.sampler_groups_G4, matrix.sampler_members, int(key), num_draws)


def naive_examples(matrix: TagMatrix, chunk: Chunk, config: HeadConfig) -> list[naive.Example]:
    """The examples of a chunk with their negatives, for the naive twin."""
    num_examples, K = len(chunk.features_BD), chunk.num_negatives
    drawn = drawn_negatives(matrix, chunk, K * (num_examples if config.private_negatives else 1))
    weights = np.ones(len(chunk.pos_ids)) if chunk.pos_weights is None else chunk.pos_weights.astype(np.float64)
    examples = []
    for b in range(num_examples):
        if chunk.items_B is not None:
            item = chunk.items_B[b]
            truth = matrix.item_tags[matrix.item_offsets[item] : matrix.item_offsets[item + 1]]
        else:
            truth = chunk.true_ids[chunk.true_offsets[b] : chunk.true_offsets[b + 1]]
        where = slice(chunk.pos_offsets[b], chunk.pos_offsets[b + 1])
        examples.append(
            naive.Example(
                features_D=chunk.features_BD[b].astype(np.float64),
                pos_ids=chunk.pos_ids[where].tolist(),
                pos_weights=weights[where].tolist(),
                neg_ids=drawn[b * K : (b + 1) * K] if config.private_negatives else drawn,
                true_ids=set(truth.tolist()),
                weight=1.0 if chunk.example_weights is None else float(chunk.example_weights[b]),
            )
        )
    return examples


@dataclass
class Both:
    """What engine and naive twin made of the same chunk."""

    reply: Reply
    result: naive.Result
    matrix: TagMatrix
    parameters: naive.Parameters


def run_both(matrix: TagMatrix, config: HeadConfig, *chunks: Chunk) -> Both:
    """Apply chunks one after the other on both sides; the results are those of the last."""
    parameters, engine = naive.Parameters.of(matrix), WideEngine(matrix, config)
    for chunk in chunks:
        reply = engine.apply(chunk)
        examples = naive_examples(matrix, chunk, config)
        result = naive.run_chunk(config, parameters, examples, chunk.row_lr, chunk.update)
    return Both(reply, result, matrix, parameters)


def assert_equal(both: Both, *, tolerance: float = 1e-5, same_writes: bool = True, left_over: float = 1e-12) -> None:
    """Engine and twin agree to 1e-5 of the largest value of each array, and exactly in what they count.

    Gradients that float32 rounds to 0 are no writes; where such occur, `same_writes=False` leaves that count alone.
    Where large terms cancel, `left_over` is what float32 may leave of them.
    """
    state = both.matrix.tag_state_N4
    pairs = {
        "loss": (both.reply.loss_B, both.result.loss_B),
        "feature gradient": (both.reply.feature_grad_BD, both.result.feature_grad_BD),
        "rows": (both.matrix.rows_ND, both.parameters.rows_ND),
        "bias": (state[:, 0], both.parameters.bias_N),
        "row accumulator": (state[:, 1], both.parameters.row_acc_N),
        "bias accumulator": (state[:, 2], both.parameters.bias_acc_N),
    }
    for name, (got, expected) in pairs.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale + left_over, err_msg=name)
    assert both.reply.accidental_hits == both.result.hits
    assert both.reply.rows_written == both.result.rows_written or not same_writes
