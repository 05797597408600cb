"""The update of rows as everybody writes it first: one pass, one id after the other, in Numba.

It says what the kernels are worth, and does less than they: no draws, no masks, no merging of duplicates, no bias.

Legend: B examples, D dim, T ids per example (positives first), N tags.
"""

# mypy: allow-untyped-defs

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.id_streams import POSITIVES
from workers.jit import kernel

_LR = np.float32(0.01)
_ZERO, _ONE = np.float32(0), np.float32(1)


class OnePass:
    """Updates the rows of batches of ids in turn; a step is one batch.

    Args:
        rows_ND: float32.
        batches: int32 [B, T] each.
    """

    def __init__(self, rows_ND: NDArray[np.float32], batches: Sequence[NDArray[np.int32]]) -> None:
        self._rows_ND, self._batches, self._next = rows_ND, batches, 0
        shape = len(batches[0]), rows_ND.shape[1]
        self._features_BD = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        self._grad_BD = np.empty(shape, np.float32)

    def step(self) -> float:
        """Update the rows of the next batch; returns how many pairs of example and tag it has."""
        ids_BT = self._batches[self._next]
        self._next = (self._next + 1) % len(self._batches)
        _update(self._rows_ND, self._features_BD, self._grad_BD, ids_BT, POSITIVES, _LR)
        return float(ids_BT.size)


@kernel
def _update(rows_ND, features_BD, grad_BD, ids_BT, P, lr):
    B, T = ids_BT.shape
    D = rows_ND.shape[1]
    for b in range(B):
        for j in range(D):
            grad_BD[b, j] = _ZERO
        for t in range(T):
            row = ids_BT[b, t]
            score = _ZERO
            for j in range(D):
                score += rows_ND[row, j] * features_BD[b, j]
            error = _ONE / (_ONE + math.exp(-score)) - (_ONE if t < P else _ZERO)
            for j in range(D):
                old = rows_ND[row, j]
                grad_BD[b, j] += error * old
                rows_ND[row, j] = old - lr * error * features_BD[b, j]
