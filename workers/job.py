"""A checked chunk in the form that kernels take: arrays of one type and layout each, numbers instead of names.

Legend: B examples, D dim, K negatives drawn, N tags.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workers.chunk import NO_I4, NO_I8, Chunk
from workers.config import OBJECTIVES, HeadConfig
from workers.counters import ROUNDING, stream_key
from workers.jit import kernel
from workers.row_optimizers import RowUpdate, row_update
from workers.scratch import Scratch

if TYPE_CHECKING:
    from workers.matrix import TagMatrix


_NO_KEY = np.uint64(0)
_ARRAYS = ("features_BD", "pos_ids", "pos_offsets", "pos_weights", "items_B", "true_ids", "true_offsets")
"""Fields of a chunk."""


class Positives(NamedTuple):
    """The positives of all examples."""

    ids: np.ndarray
    offsets_B1: np.ndarray
    weights: np.ndarray
    """float32, c_p / P_b."""
    most: int
    """Positives of the example that has most."""


class Truth(NamedTuple):
    """Where each example's true tags lie."""

    starts_B: np.ndarray
    stops_B: np.ndarray
    tags: np.ndarray


class Loss(NamedTuple):
    """What is computed."""

    objective: int
    negative_weight: np.float32
    num_drawn: int
    """K."""


class Job(NamedTuple):
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


def prepare_job(chunk: Chunk, neg_ids: np.ndarray, matrix: TagMatrix, config: HeadConfig, scratch: Scratch) -> Job:
    """Put a checked chunk, laid out as kernels want it, into the form that they take."""
    B = len(chunk.features_BD)
    weights = scratch.array("weights", len(chunk.pos_ids), np.float32)
    starts_B, stops_B = scratch.array("true_starts", B, np.int64), scratch.array("true_stops", B, np.int64)
    items_B = NO_I8 if chunk.items_B is None else chunk.items_B
    true_offsets = NO_I4 if chunk.true_offsets is None else chunk.true_offsets
    most = _spread(chunk.pos_offsets, weights, items_B, matrix.item_offsets, true_offsets, starts_B, stops_B)
    if chunk.pos_weights is not None:
        weights *= chunk.pos_weights
    return Job(
        features_BD=chunk.features_BD,
        neg_ids=neg_ids,
        positives=Positives(chunk.pos_ids, chunk.pos_offsets, weights, int(most)),
        truth=Truth(starts_B, stops_B, matrix.item_tags if chunk.true_ids is None else chunk.true_ids),
        loss=Loss(OBJECTIVES.index(config.objective), np.float32(config.negative_weight), chunk.num_negatives),
        update=scratch.kept("row update", chunk.row_lr, lambda: row_update(config, chunk.row_lr)),
        writes=chunk.update,
        rounding_key=_rounding_key(chunk) if config.row_dtype == "bfloat16" else _NO_KEY,
    )


def _rounding_key(chunk: Chunk) -> np.uint64:
    return stream_key(chunk.seed, chunk.step, chunk.chunk, ROUNDING)


@kernel
def _spread(offsets_B1, weights, items_B, item_offsets, true_offsets, starts_B, stops_B):
    """Give each positive the weight 1 / P_b, and each example the place of its true tags; returns the largest P_b."""
    most = np.int64(0)
    for b in range(len(starts_B)):
        start, stop = np.int64(offsets_B1[b]), np.int64(offsets_B1[b + 1])
        most = max(most, stop - start)
        if stop > start:
            weights[start:stop] = np.float32(1) / np.float32(stop - start)
        if len(true_offsets) > 0:
            starts_B[b], stops_B[b] = true_offsets[b], true_offsets[b + 1]
        else:
            starts_B[b], stops_B[b] = item_offsets[items_B[b]], item_offsets[items_B[b] + 1]
    return most
