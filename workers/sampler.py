"""Draws of tag ids from q(t) ~ count(t) ** alpha by an alias table.

Cell i of the table is (threshold, alias), both uint32: pick a cell uniformly, keep i if 32 more random bits are below
the threshold, else take the alias. Walker's method in the construction of Vose, "A linear algorithm for generating
random numbers" (1991).
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.counters import below, random_bits
from workers.jit import kernel
from workers.prefetch import prefetch_read

THRESHOLD, ALIAS = 0, 1  # columns of a cell
_BLOCK = 32  # cells fetched ahead of their use
_TWO_32 = 4294967296.0
_LOW_32 = np.uint64(0xFFFFFFFF)


def sampling_probabilities(counts_N: np.ndarray, alpha: float) -> np.ndarray:
    """q, float64 [N]: proportional to count ** alpha on tags that were seen, 0 on the others (also if alpha is 0)."""
    counts_N = np.asarray(counts_N, np.float64)
    weights_N = np.where(counts_N > 0, np.power(np.maximum(counts_N, 1.0), alpha), 0.0)
    total = weights_N.sum()
    if not (total > 0 and np.isfinite(total)):
        raise ValueError(
            f"counts of {len(counts_N)} tags have the weight {total}; at least one tag needs a count above 0"
        )
    return weights_N / total


def build_table(q_N: np.ndarray, cells_N2: np.ndarray) -> None:
    """Fill the cells (uint32 [N, 2]) so that `draw_ids` draws tag t with probability q_N[t] (float64, sums to 1)."""
    if len(q_N) >= 2**31:
        raise ValueError(f"{len(q_N)} tags are more than the table's 2**31 - 1")
    _build_table(np.ascontiguousarray(q_N, np.float64), cells_N2)


def draw_ids(cells_N2: np.ndarray, key: np.uint64, ids_K: np.ndarray) -> None:
    """Fill ids_K (int32) with independent draws; equal keys give equal draws."""
    with np.errstate(over="ignore"):  # matters when kernels run as plain Python: unsigned numbers are meant to wrap
        _draw_ids(cells_N2, key, ids_K)


@kernel
def _build_table(q_N, cells_N2):
    N = len(q_N)
    mass_N = q_N * N  # what a cell holds; every cell ends with exactly 1, its own and its alias's
    stack_N = np.empty(N, np.int64)  # under-full cells from the left, over-full ones from the right
    left, right = 0, N
    for t in range(N):
        if mass_N[t] < 1.0:
            stack_N[left] = t
            left += 1
        else:
            right -= 1
            stack_N[right] = t
    while left > 0 and right < N:
        small, large = stack_N[left - 1], stack_N[right]
        left -= 1
        cells_N2[small, 0] = np.uint32(min(mass_N[small] * _TWO_32, _TWO_32 - 1.0))
        cells_N2[small, 1] = np.uint32(large)
        mass_N[large] -= 1.0 - mass_N[small]
        if mass_N[large] < 1.0:
            right += 1
            stack_N[left] = large
            left += 1
    for i in range(N):
        if i < left or i >= right:  # exactly full, but for rounding
            cells_N2[stack_N[i], 0] = np.uint32(0xFFFFFFFF)
            cells_N2[stack_N[i], 1] = np.uint32(stack_N[i])


@kernel
def _draw_ids(cells_N2, key, ids_K):
    K, N = len(ids_K), np.uint64(len(cells_N2))
    for start in range(0, K, _BLOCK):
        stop = min(start + _BLOCK, K)
        for k in range(start, stop):  # cells of one block are fetched together, not one after the other
            cell = below(random_bits(key, np.uint64(k)), N)
            prefetch_read(cells_N2, cell, 0)
            ids_K[k] = np.int32(cell)
        for k in range(start, stop):
            cell = ids_K[k]
            kept = (random_bits(key, np.uint64(k)) & _LOW_32) < np.uint64(cells_N2[cell, 0])
            if not kept:
                ids_K[k] = np.int32(cells_N2[cell, 1])
