"""Working memory of the kernel with shared negatives, all but its plan.

Legend: B examples, D dim, A positives of all examples, K slots of distinct negatives, S slots of all
(`workers.shared_plan`), X columns of scores (`workers.shared_products`).
"""

# mypy: allow-untyped-defs

from typing import NamedTuple

import numpy as np

from workers.jit import inlined_kernel
from workers.scratch import Scratch
from workers.slots import FILTER_WORDS
from workers.widths import BLOCK

DEPTH, COLUMNS = 128, 2 * BLOCK
"""Rows that the feature gradient takes at a time, and columns of a tile: both together are half of the first level of
the cache."""


class SharedWork(NamedTuple):
    """Arrays, float32 if nothing else is said, of a chunk, or memory from which `cut_work` cuts them."""

    rows_KD: np.ndarray
    """Copies of the rows of negatives, the front of memory for whole tiles, as are the scores."""
    scores_KX: np.ndarray
    """`[K, X]` of a chunk. As memory it is flat: 4,096 x 32 values also serve a chunk of 8,192 x 16."""
    packed: np.ndarray
    """Features as products take them, see `workers.shared_products`."""
    stripe: np.ndarray
    """Columns of a tile of `DEPTH` rows."""
    bias_K: np.ndarray
    weight_K: np.ndarray
    filter_words: np.ndarray
    """uint64, see `slots.mask_hits`."""
    loss_X: np.ndarray
    log_a_X: np.ndarray
    scale_X: np.ndarray
    """These three, see `workers.shared_losses`."""
    pos_grads_A: np.ndarray
    """Scores of positives, then dLoss/dscore."""
    pos_losses_A: np.ndarray
    squares_B: np.ndarray
    """Mean squares of the features."""
    row_grads_SD: np.ndarray
    bias_grads_S: np.ndarray
    squares_S: np.ndarray
    """Mean squares of the rows' gradients."""


class WorkSize(NamedTuple):
    """What a chunk needs."""

    columns: int
    """X, at least B."""
    positives: int
    copies: int
    """K, rounded up to whole tiles."""
    scores: int
    """`copies` for each column."""


def shared_work(size: WorkSize, dim: int, scratch: Scratch) -> SharedWork:
    """Memory, with arbitrary contents, for chunks up to that size."""

    def floats(*shape: int) -> np.ndarray:
        return scratch.empty(shape, np.float32)

    slots = size.copies + size.positives
    return SharedWork(
        rows_KD=floats(size.copies, dim),
        scores_KX=floats(size.scores + BLOCK),  # tiles of the feature gradient read a little behind the last column
        packed=floats(size.columns * dim),
        stripe=floats(DEPTH * COLUMNS),
        bias_K=floats(size.copies),
        weight_K=floats(size.copies),
        filter_words=scratch.empty(FILTER_WORDS, np.uint64),
        loss_X=floats(size.columns),
        log_a_X=floats(size.columns),
        scale_X=floats(size.columns),
        pos_grads_A=floats(size.positives),
        pos_losses_A=floats(size.positives),
        squares_B=floats(size.columns),
        row_grads_SD=floats(slots, dim),
        bias_grads_S=floats(slots),
        squares_S=floats(slots),
    )


@inlined_kernel
def cut_work(work, B, A, K, S, X):
    """The front of this memory that a chunk of this size has to do with."""
    return SharedWork(
        work.rows_KD[:K], work.scores_KX[: K * X].reshape(K, X), work.packed, work.stripe, work.bias_K[:K],
        work.weight_K[:K], work.filter_words, work.loss_X[:X], work.log_a_X[:X], work.scale_X[:X], work.pos_grads_A[:A],
        work.pos_losses_A[:A], work.squares_B[:B], work.row_grads_SD[:S], work.bias_grads_S[:S], work.squares_S[:S],
    )  # fmt: skip
