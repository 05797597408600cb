"""A checked chunk in the form that kernels take: arrays of one type and layout each, numbers instead of names.

Legend: B examples, D dim, K negatives drawn, N tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workers import objectives
from workers.chunk import Chunk
from workers.config import HeadConfig
from workers.counters import ROUNDING, stream_key
from workers.row_optimizers import RowUpdate, row_update
from workers.scratch import Scratch

if TYPE_CHECKING:
    from workers.matrix import TagMatrix


class Positives(NamedTuple):
    """The positives of all examples."""

    ids: np.ndarray
    offsets_B1: np.ndarray
    weights: np.ndarray
    """float32, c_p / P_b."""


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


class Outcome(NamedTuple):
    """What a kernel computed, in scratch memory."""

    loss_B: np.ndarray
    feature_grad_BD: np.ndarray
    rows_written: int
    accidental_hits: int


def prepare_job(chunk: Chunk, neg_ids: np.ndarray, matrix: TagMatrix, config: HeadConfig, scratch: Scratch) -> Job:
    """Copy what came over the wire into scratch memory: it may be read-only or unaligned there."""
    offsets_B1 = scratch.copy("pos_offsets", chunk.pos_offsets, np.int32)
    weights = scratch.array("pos_weights", len(chunk.pos_ids), np.float32)
    lengths_B = np.diff(offsets_B1)
    weights[:] = np.repeat(np.float32(1) / np.maximum(lengths_B, 1).astype(np.float32), lengths_B)
    if chunk.pos_weights is not None:
        weights *= chunk.pos_weights
    return Job(
        features_BD=scratch.copy("features", chunk.features_BD, np.float32),
        neg_ids=neg_ids,
        positives=Positives(scratch.copy("pos_ids", chunk.pos_ids, np.int32), offsets_B1, weights),
        truth=_truth(chunk, matrix, scratch),
        loss=Loss(objectives.CODES[config.objective], np.float32(config.negative_weight), chunk.num_negatives),
        update=row_update(config, chunk.row_lr),
        writes=chunk.update,
        rounding_key=stream_key(chunk.seed, chunk.step, chunk.chunk, ROUNDING),
    )


def _truth(chunk: Chunk, matrix: TagMatrix, scratch: Scratch) -> Truth:
    if chunk.items_B is not None:
        offsets, tags = matrix.item_offsets, matrix.item_tags
        starts_B, stops_B = offsets[chunk.items_B], offsets[chunk.items_B + 1]
    else:
        assert chunk.true_ids is not None and chunk.true_offsets is not None  # checked with the chunk
        tags = scratch.copy("true_ids", chunk.true_ids, np.int32)
        starts_B, stops_B = chunk.true_offsets[:-1], chunk.true_offsets[1:]
    return Truth(scratch.copy("true_starts", starts_B, np.int64), scratch.copy("true_stops", stops_B, np.int64), tags)
