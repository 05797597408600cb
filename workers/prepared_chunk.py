"""A checked chunk in the form that kernels take: arrays of one type and layout each, numbers instead of names.

Legend: B examples, D dim, K negatives drawn, A positives of all examples, P_b of example b, with the factor c_p each.
"""

# mypy: allow-untyped-defs

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from workers.chunk import NO_F4, NO_I4, NO_I8, Chunk
from workers.config import OBJECTIVES, HeadConfig
from workers.counters import ROUNDING, stream_key
from workers.jit import inlined_kernel
from workers.row_optimizers import RowUpdate, row_update
from workers.rows import BFLOAT16
from workers.scratch import Scratch

_NO_KEY = np.uint64(0)
_ARRAYS = ("features_BD", "pos_ids", "pos_offsets", "pos_weights", "items_B", "true_ids", "true_offsets")
"""Fields of a chunk."""


class Positives(NamedTuple):
    """The positives of all examples, as the chunk has them."""

    ids_A: np.ndarray
    offsets_B1: np.ndarray
    factors_A: np.ndarray
    """float32, c_p; empty: 1."""


class Truth(NamedTuple):
    """Where each example's true tags lie: those of an item, or the chunk's own."""

    items_B: np.ndarray
    """int64; empty: offsets are by examples."""
    item_offsets: np.ndarray
    offsets_B1: np.ndarray
    """int32; empty if there are items."""
    tags: np.ndarray


class Loss(NamedTuple):
    """The objective, with the two numbers that its negatives need."""

    objective: int
    negative_weight: np.float32
    num_drawn: int
    """K."""


class PreparedChunk(NamedTuple):
    """One chunk, ready for a kernel."""

    features_BD: np.ndarray
    neg_ids: np.ndarray
    """int32, [K] shared or [B * K] private."""
    positives: Positives
    truth: Truth
    loss: Loss
    update: RowUpdate
    writes: bool
    rounding_key: np.uint64
    """Of the random numbers that round bfloat16 rows."""


class Lookup(NamedTuple):
    """Memory for what is looked up of all examples first, at least as long as a chunk needs."""

    weights_A: np.ndarray
    """float32, c_p / P_b of each positive."""
    starts_B: np.ndarray
    """int64, where each example's true tags start."""
    stops_B: np.ndarray


class Answer(NamedTuple):
    """Where a kernel puts what the trunk wants back; overwritten whatever becomes of the chunk."""

    loss_B: np.ndarray
    feature_grad_BD: np.ndarray


class Outcome(NamedTuple):
    """What a kernel computed."""

    loss_B: np.ndarray
    feature_grad_BD: np.ndarray
    rows_written: int
    accidental_hits: int


def plain_chunk(chunk: Chunk, scratch: Scratch) -> Chunk:
    """A checked chunk whose arrays are laid out as kernels want them: copied where they are not."""
    arrays = {name: getattr(chunk, name) for name in _ARRAYS}
    plain: dict[str, Any] = {
        name: array if array is None else scratch.plain(name, array) for name, array in arrays.items()
    }
    return replace(chunk, **plain)


def prepare_chunk(
    chunk: Chunk,
    neg_ids: np.ndarray,
    item_offsets: np.ndarray,
    item_tags: np.ndarray,
    config: HeadConfig,
    scratch: Scratch,
) -> PreparedChunk:
    """Put a checked chunk, laid out as kernels want it, into the form that they take.

    Args:
        chunk: what to compute.
        neg_ids: int32, its negatives, see `PreparedChunk`.
        item_offsets: int64 `[items + 1]`, where the tags of each item of the matrix start.
        item_tags: int32, those tags.
        config: of the matrix.
        scratch: memory that keeps what does not change from chunk to chunk.
    """
    weights, items_B, true_ids, true_offsets = chunk.pos_weights, chunk.items_B, chunk.true_ids, chunk.true_offsets
    return PreparedChunk(
        chunk.features_BD,
        neg_ids,
        Positives(chunk.pos_ids, chunk.pos_offsets, NO_F4 if weights is None else weights),
        Truth(
            NO_I8 if items_B is None else items_B,
            item_offsets,
            NO_I4 if true_offsets is None else true_offsets,
            item_tags if true_ids is None else true_ids,
        ),
        scratch.kept("loss", chunk.num_negatives, lambda: _loss(config, chunk.num_negatives)),
        scratch.kept("row update", chunk.row_lr, lambda: row_update(config, chunk.row_lr)),
        chunk.update,
        _rounding_key(chunk) if config.row_dtype == BFLOAT16 else _NO_KEY,
    )


def _loss(config: HeadConfig, num_drawn: int) -> Loss:
    return Loss(OBJECTIVES.index(config.objective), np.float32(config.negative_weight), num_drawn)


def _rounding_key(chunk: Chunk) -> np.uint64:
    return stream_key(chunk.seed, chunk.step, chunk.chunk, ROUNDING)


def lookup_memory(num_examples: int, num_positives: int, scratch: Scratch) -> Lookup:
    """Memory, with arbitrary contents, for chunks up to that size."""
    starts_B, stops_B = (scratch.empty(num_examples, np.int64) for _ in range(2))
    return Lookup(scratch.empty(num_positives, np.float32), starts_B, stops_B)


@inlined_kernel
def true_range(truth, b):
    """Where the true tags of example b start and stop."""
    if len(truth.items_B) > 0:
        item = np.uint64(truth.items_B[b])
        return truth.item_offsets[item], truth.item_offsets[item + np.uint64(1)]
    return np.int64(truth.offsets_B1[b]), np.int64(truth.offsets_B1[b + 1])


@inlined_kernel
def look_up(positives, truth, out):
    """The weight of each positive, and the place of each example's true tags."""
    for b in range(len(positives.offsets_B1) - 1):
        start, stop = np.int64(positives.offsets_B1[b]), np.int64(positives.offsets_B1[b + 1])
        if stop > start:
            out.weights_A[start:stop] = np.float32(1) / np.float32(stop - start)
        out.starts_B[b], out.stops_B[b] = true_range(truth, b)
    for p in range(len(positives.factors_A)):
        out.weights_A[p] *= positives.factors_A[p]
