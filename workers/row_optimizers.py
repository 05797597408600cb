"""The optimizers of rows: how far a row goes along its gradient.

    sgd       row <- keep row - lr g
    adagrad   a <- a + mean_j g_j^2;  row <- keep row - lr g / sqrt(a + eps)      (row-wise: one accumulator a per row)

The bias of a row is a row of length 1 with an accumulator of its own and without decay. Which gradient g is, single or
merged over a chunk, is said by each kernel; the accumulator sees the same one.

`keep` = 1 - lr * decay is decoupled weight decay, applied whenever a row is written: a row that is not touched does not
decay, and one that is touched more often decays more often. What it does to a rarely drawn tag is therefore less than
what a dense optimizer would do to it.

Source: Duchi, Hazan and Singer (2011), equation 1, with the row's mean square in place of each coordinate's square
(as in FBGEMM). Decay: Loshchilov and Hutter (2019), algorithm 1, line 12, on touched rows only.
"""

# mypy: allow-untyped-defs

import math
from typing import NamedTuple

import numpy as np

from workers.config import ADAGRAD, ROW_OPTIMIZERS, SGD, HeadConfig
from workers.errors import ChunkError
from workers.jit import inlined_kernel

MAX_MOVE = np.float32(1e18)
"""A write that would move a row further than this is refused: the square of a row must stay finite."""

MAX_ACCUMULATOR = np.float32(1e36)
"""Where an accumulator stays: what 256 workers add to it at the same time must not end float32."""

_EPSILON = np.float32(1e-10)
_ONE = np.float32(1)


class RowUpdate(NamedTuple):
    """How rows are written; plain numbers, so that kernels can take it as one argument."""

    optimizer: int
    lr: np.float32
    keep: np.float32
    """What decay leaves of a row when it is written."""
    max_norm: np.float32
    """Bound on a written row's L2 norm; 0 means none."""
    decays: bool
    """Whether there is any decay: `keep` is 1 without, but also at a learning rate of 0."""

    @property
    def shrinks(self) -> bool:
        """Whether a write may take something off a row that no gradient asked for."""
        return self.decays or bool(self.max_norm > 0)


def row_update(config: HeadConfig, lr: float) -> RowUpdate:
    """The update that a configuration and a learning rate describe.

    Raises:
        ChunkError: decay at that rate would turn rows over, and in time make them infinite.
    """
    keep = 1.0 - lr * config.weight_decay
    if keep <= 0:
        raise ChunkError(
            f"row_lr = {lr:g} with weight_decay = {config.weight_decay:g} leaves {keep:g} of a row that is written; "
            f"row_lr must be below {1 / config.weight_decay:g}."
        )
    return RowUpdate(
        optimizer=ROW_OPTIMIZERS.index(config.row_optimizer),
        lr=np.float32(lr),
        keep=np.float32(keep),
        max_norm=np.float32(config.max_norm),
        decays=config.weight_decay > 0,
    )


@inlined_kernel
def accumulate(optimizer, accumulator, mean_square):
    """The accumulator after a gradient of that mean square."""
    return min(accumulator + mean_square, MAX_ACCUMULATOR) if optimizer == ADAGRAD else accumulator


@inlined_kernel
def step_size(update, accumulator):
    """What multiplies the gradient, given the accumulator that has already seen it."""
    if update.optimizer == ADAGRAD:
        return np.float32(update.lr / math.sqrt(accumulator + _EPSILON))
    return update.lr


@inlined_kernel
def is_safe(update, mean_square, dim):
    """Whether a gradient of that mean square is finite, and moves a row by a sane distance: false for NaN."""
    step = update.lr if update.optimizer == SGD else _ONE
    return step * math.sqrt(mean_square * np.float32(dim)) <= MAX_MOVE
