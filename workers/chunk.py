"""A chunk of a micro-batch: what a worker is asked, what it answers, when it refuses.

Legend: B examples, D dim, P_b positives of example b, T_b its true tags, I items of the data set.
"""

from dataclasses import dataclass
from numbers import Real
from typing import NoReturn

import numpy as np

from workers.config import MAX_DRAWS, MAX_FACTOR, MAX_ROW_LR
from workers.errors import ChunkError

NO_F4, NO_I4, NO_I8 = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.int64)
"""What stands for an array that a chunk does not have, where compiled code wants one."""
INTEGERS = ("step", "chunk", "seed", "num_negatives")


@dataclass(slots=True, kw_only=True, eq=False)  # not frozen: that would take three times as long to make
class Chunk:
    """Examples whose loss and feature gradient are wanted, and whose rows may be updated."""

    step: int
    """Of the trunk; with `chunk` and `seed` the key of the negatives."""
    chunk: int
    """Number within the step."""
    seed: int
    features_BD: np.ndarray
    """float32, finite."""
    pos_ids: np.ndarray
    """int32, positives of all examples."""
    pos_offsets: np.ndarray
    """int32 [B + 1], where each example's positives start."""
    pos_weights: np.ndarray | None
    """float32 like `pos_ids`, factor of each positive's term of the loss; None: 1."""
    example_weights: np.ndarray | None = None
    """float32 [B], factor of each example's loss; None: 1. Rows do not learn from an example of weight 0."""
    items_B: np.ndarray | None
    """int64, items whose true tags lie in the matrix; None: the next two are given instead."""
    true_ids: np.ndarray | None
    """int32, true tags, ascending within an example; negatives among them are masked."""
    true_offsets: np.ndarray | None
    """int32 [B + 1]."""
    num_negatives: int
    """K: shared by the chunk, or for each example with private negatives."""
    row_lr: float
    update: bool
    """False: nothing is written, bit for bit."""


@dataclass(slots=True, kw_only=True, eq=False)
class Reply:
    """What came of a chunk. The arrays are the engine's own, overwritten by its next chunk: copy what must stay."""

    loss_B: np.ndarray
    """float32, the loss of each example, times its weight."""
    feature_grad_BD: np.ndarray
    """float32, gradient of that by the example's features."""
    rows_written: int
    """Distinct rows with shared negatives; row writes with private ones."""
    accidental_hits: int
    """Pairs of an example and a draw that is one of its true tags: masked. There may be more than `num_negatives`, as a
    shared draw may be true for many examples."""
    staleness_chunks: int
    """Chunks that other workers applied to the rows between this one's first read and last write."""
    draw_ns: int
    """To check the chunk and to draw its negatives."""
    kernel_ns: int


def check_chunk(chunk: Chunk, *, num_tags: int, dim: int, num_items: int, private_negatives: bool) -> None:
    """Name what a kernel could not compute safely. `workers.admission` finds whether there is any, in less time.

    Args:
        chunk: to look at.
        num_tags: of the matrix.
        dim: of the matrix.
        num_items: whose true tags lie in the matrix.
        private_negatives: what `num_negatives` counts.

    Raises:
        ChunkError: names the field, what it holds and its rule.
    """
    check_arrays(chunk, dim, num_tags, num_items)
    for name in INTEGERS:
        value = getattr(chunk, name)
        if not (isinstance(value, int) and 0 <= value < 2**63):
            _refuse(name, value, "an integer in [0, 2**63)")
    draws = chunk.num_negatives * (len(chunk.features_BD) if private_negatives else 1)
    if not 1 <= draws <= MAX_DRAWS:
        _refuse("num_negatives", chunk.num_negatives, f"1 to {MAX_DRAWS} draws per chunk")
    if not (isinstance(chunk.row_lr, Real) and 0 <= chunk.row_lr <= MAX_ROW_LR):  # false for NaN
        _refuse("row_lr", chunk.row_lr, f"between 0 and {MAX_ROW_LR:g}")


def check_arrays(chunk: Chunk, dim: int, num_tags: int, num_items: int) -> None:
    """`check_chunk` for the arrays alone. They may be read-only, unaligned or strided."""
    B = _check_features(chunk.features_BD, dim)
    _check_ragged("pos", chunk.pos_ids, chunk.pos_offsets, B, num_tags)
    if chunk.pos_weights is not None:
        _check_weights("pos_weights", chunk.pos_weights, len(chunk.pos_ids))
    if chunk.example_weights is not None:
        _check_weights("example_weights", chunk.example_weights, B)
    _check_truth(chunk, B, num_tags, num_items)


def _check_features(features_BD: np.ndarray, dim: int) -> int:
    shape = getattr(features_BD, "shape", None)
    good = isinstance(features_BD, np.ndarray) and features_BD.ndim == 2 and len(features_BD) >= 1
    _require(good, "features_BD", f"shape {shape}", f"[B, {dim}] with B at least 1")
    _check_array("features_BD", features_BD, np.float32, (len(features_BD), dim))
    finite_BD = np.isfinite(features_BD)
    if not finite_BD.all():
        first_bad = int(np.argmin(finite_BD.all(axis=1)))
        _require(False, "features_BD", f"NaN or infinity in example {first_bad}", "finite")
    return len(features_BD)


def _check_weights(name: str, weights: np.ndarray, number: int) -> None:
    _check_array(name, weights, np.float32, (number,))
    wrong = weights[~((weights >= 0) & (weights <= MAX_FACTOR))]
    _require(not len(wrong), name, wrong[0] if len(wrong) else None, f"weights between 0 and {MAX_FACTOR:g}")


def _check_truth(chunk: Chunk, B: int, num_tags: int, num_items: int) -> None:
    given = chunk.items_B is not None, chunk.true_ids is not None, chunk.true_offsets is not None
    one_way = given in ((True, False, False), (False, True, True))
    _require(one_way, "items_B", f"items, true_ids, true_offsets given: {given}", "items, or else both of the others")
    if chunk.items_B is not None:
        _check_array("items_B", chunk.items_B, np.int64, (B,))
        _check_range("items_B", chunk.items_B, num_items)
        return
    assert chunk.true_ids is not None and chunk.true_offsets is not None  # from one_way
    _check_ragged("true", chunk.true_ids, chunk.true_offsets, B, num_tags)
    falls = np.flatnonzero(chunk.true_ids[1:] <= chunk.true_ids[:-1]) + 1
    ascending = bool(np.isin(falls, chunk.true_offsets).all())
    _require(ascending, "true_ids", "ids that do not ascend within an example", "ascending, each tag once")


def _check_ragged(name: str, ids: np.ndarray, offsets: np.ndarray, B: int, num_tags: int) -> None:
    _check_array(f"{name}_offsets", offsets, np.int32, (B + 1,))
    _check_array(f"{name}_ids", ids, np.int32, None)
    rises = offsets[0] == 0 and offsets[-1] == len(ids) and bool((offsets[1:] >= offsets[:-1]).all())
    _require(bool(rises), f"{name}_offsets", f"{offsets[0]} to {offsets[-1]}", f"rising from 0 to {len(ids)}")
    _check_range(f"{name}_ids", ids, num_tags)


def _check_range(name: str, ids: np.ndarray, limit: int) -> None:
    if len(ids):
        low, high = int(ids.min()), int(ids.max())
        _require(low >= 0 and high < limit, name, f"values from {low} to {high}", f"in [0, {limit})")


def _check_array(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...] | None) -> None:
    got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    good = isinstance(array, np.ndarray) and array.dtype == dtype
    good = good and (array.ndim == 1 if shape is None else array.shape == shape)
    _require(good, name, got, f"{np.dtype(dtype)} of shape {'(any,)' if shape is None else shape}")


def _require(holds: bool, field: str, got: object, rule: str) -> None:
    if not holds:
        _refuse(field, got, rule)


def _refuse(field: str, got: object, rule: str) -> NoReturn:
    raise ChunkError(f"{field}: got {got}, expected {rule}.")
