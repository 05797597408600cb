"""A chunk in the form that kernels take: arrays of one type and layout each, numbers instead of names.

Legend: B examples, D dim, K negatives drawn, A positives of all examples, P_b of example b, with the factor c_p each.
"""

# mypy: allow-untyped-defs

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from workers.chunk import INTEGERS, NO_F4, NO_I4, NO_I8, Chunk
from workers.config import MAX_ROW_LR, OBJECTIVES, HeadConfig
from workers.jit import inlined_kernel
from workers.row_optimizers import RowUpdate, row_update
from workers.scratch import Scratch

Rules = tuple[int, np.float32, int, int, np.float32, np.float32, np.float32, bool]
"""The fields of `Loss` and `RowUpdate`."""
NUM_ADMITTED = 12
"""Of the fields of a `PreparedChunk`, so many are what `workers.admission` looks at."""
_ARRAYS = (
    "features_BD",
    "pos_ids",
    "pos_offsets",
    "pos_weights",
    "example_weights",
    "items_B",
    "true_ids",
    "true_offsets",
)
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
    """One chunk in the order in which compiled code takes it: spread out, since arguments lie flat (`workers.jit`)."""

    features_BD: np.ndarray
    neg_ids: np.ndarray
    """int32, [K] shared or [B * K] private."""
    pos_ids_A: np.ndarray
    pos_offsets_B1: np.ndarray
    pos_factors_A: np.ndarray
    """These three make `Positives`."""
    example_weights_B: np.ndarray
    """float32; empty: 1."""
    items_B: np.ndarray
    true_offsets_B1: np.ndarray
    true_tags: np.ndarray
    """These three make `Truth`, with `item_offsets`."""
    step: int
    chunk: int
    seed: int
    """These three: the key of its random numbers."""
    item_offsets: np.ndarray
    objective: int
    negative_weight: np.float32
    num_drawn: int
    """These three make `Loss`."""
    optimizer: int
    lr: np.float32
    keep: np.float32
    max_norm: np.float32
    decays: bool
    """These five make `RowUpdate`."""
    writes: bool

    @property
    def positives(self) -> Positives:
        """Its positives."""
        return Positives(self.pos_ids_A, self.pos_offsets_B1, self.pos_factors_A)

    @property
    def truth(self) -> Truth:
        """Its true tags."""
        return Truth(self.items_B, self.item_offsets, self.true_offsets_B1, self.true_tags)

    @property
    def loss(self) -> Loss:
        """Its loss."""
        return Loss(self.objective, self.negative_weight, self.num_drawn)

    @property
    def update(self) -> RowUpdate:
        """How it writes rows."""
        return RowUpdate(self.optimizer, self.lr, self.keep, self.max_norm, self.decays)


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


def plain_chunk(chunk: Chunk, scratch: Scratch) -> Chunk:
    """A checked chunk as compiled code takes it: arrays that it does not take are copied, numbers are Python's."""
    arrays = {name: getattr(chunk, name) for name in _ARRAYS}
    plain: dict[str, Any] = {
        name: array if array is None else scratch.plain(name, array) for name, array in arrays.items()
    }
    plain |= {name: int(getattr(chunk, name)) for name in INTEGERS}
    return replace(chunk, **plain, row_lr=float(chunk.row_lr), update=bool(chunk.update))


def rules_of(config: HeadConfig, num_drawn: int, row_lr: float) -> Rules:
    """What is equal for all chunks that draw so many negatives at this learning rate.

    Raises:
        ValueError: the rate is none.
        ChunkError: see `row_optimizers.row_update`.
    """
    if not 0 <= row_lr <= MAX_ROW_LR:  # false for NaN
        raise ValueError(f"a learning rate of {row_lr}")
    loss = Loss(OBJECTIVES.index(config.objective), np.float32(config.negative_weight), num_drawn)
    return (*loss, *row_update(config, row_lr))


def prepare_chunk(
    chunk: Chunk, neg_ids: np.ndarray, item_offsets: np.ndarray, item_tags: np.ndarray, rules: Rules
) -> PreparedChunk:
    """Put a chunk, laid out as kernels want it, into the form that they take. Arrays are not looked into.

    Args:
        chunk: what to compute.
        neg_ids: int32, its negatives, or memory for them; see `PreparedChunk`.
        item_offsets: int64 `[items + 1]`, where the tags of each item of the matrix start.
        item_tags: int32, those tags.
        rules: those of its number of negatives and its learning rate.

    Raises:
        ValueError: the chunk breaks a rule; `check_chunk` says which.
    """
    weights, items_B, true_ids, true_offsets = chunk.pos_weights, chunk.items_B, chunk.true_ids, chunk.true_offsets
    if (items_B is None) == (true_ids is None) or (true_ids is None) != (true_offsets is None):
        raise ValueError("the true tags of a chunk are given twice, in part, or not at all")
    if weights is not None and len(weights) != len(chunk.pos_ids):
        raise ValueError("not every positive has a weight")
    if chunk.example_weights is not None and len(chunk.example_weights) != len(chunk.features_BD):
        raise ValueError("not every example has a weight")
    return PreparedChunk(
        chunk.features_BD,
        neg_ids,
        chunk.pos_ids,
        chunk.pos_offsets,
        NO_F4 if weights is None else weights,
        NO_F4 if chunk.example_weights is None else chunk.example_weights,
        NO_I8 if items_B is None else items_B,
        NO_I4 if true_offsets is None else true_offsets,
        item_tags if true_ids is None else true_ids,
        chunk.step,
        chunk.chunk,
        chunk.seed,
        item_offsets,
        *rules,
        chunk.update,
    )


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
