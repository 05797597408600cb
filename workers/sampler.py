"""Draws of tag ids from q(t) ~ count(t) ** alpha.

Tags with equal counts have equal probability, and there are few different counts: at most sqrt(2 x their sum), some
thousands for a million tags of text or images. So a draw picks one of G groups of tags with equal counts by an alias
table, then one of the group's tags uniformly. The table stays in the nearest cache however many tags there are, where
a table of all tags costs a miss in memory for every draw.

A group is (threshold, alias, first, size), all uint32: pick a group uniformly, keep it if 32 more random bits are below
the threshold, else take the alias. Its tags are `members[first : first + size]`; where tags are numbered by falling
count, as those of the data sets here are, `members` is empty, and they are first, first + 1, ...

Source: Walker's alias method in the construction of Vose, "A linear algorithm for generating random numbers" (1991).
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.counters import below, below_32, random_bits
from workers.jit import kernel
from workers.prefetch import prefetch_read
from workers.stack import stacked_uint32, stacked_uint64
from workers.vectors import values_from

THRESHOLD, ALIAS, FIRST, SIZE = range(4)
"""Columns of a group."""
_COLUMNS, _LINE_GROUPS = 4, 4

MOST_TAGS = 2**31 - 1
"""Ids are int32."""
_BLOCK = 64  # draws made together
_TWO_32 = 4294967296.0
_LOW_32 = np.uint64(0xFFFFFFFF)
_TWO, _ONE = np.uint64(2), np.uint64(1)


def sampling_probabilities(counts_N: np.ndarray, alpha: float) -> np.ndarray:
    """q, float64 [N]: proportional to count ** alpha on tags that were seen, 0 on the others (also if alpha is 0).

    Raises:
        ValueError: no tag has a count above 0.
    """
    weights_N = np.maximum(counts_N, 1.0)  # from here on in place: with very many tags each such array is gigabytes
    np.power(weights_N, alpha, out=weights_N)
    weights_N[np.asarray(counts_N) <= 0] = 0.0
    total = weights_N.sum()
    if not (total > 0 and np.isfinite(total)):
        raise ValueError(
            f"counts of {len(counts_N)} tags have the weight {total}; at least one tag needs a count above 0"
        )
    weights_N /= total
    return weights_N


def build_groups(counts_N: np.ndarray, q_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The groups, uint32 [G, 4], and their members, int32 [tags seen] or empty, from which `draw_ids` draws with q.

    Args:
        counts_N: int, at most `MOST_TAGS`, at least one above 0.
        q_N: float64, of `sampling_probabilities`: equal where counts are, 0 where they are 0.
    """
    members = np.zeros(0, np.int32)
    if (counts_N[1:] > counts_N[:-1]).any():
        members = np.argsort(-counts_N, kind="stable")[: np.count_nonzero(counts_N)].astype(np.int32)
        counts_N, q_N = counts_N[members], q_N[members]
    seen = np.count_nonzero(counts_N)
    first_G = np.flatnonzero(np.concatenate([[True], counts_N[1:seen] != counts_N[: seen - 1]]))
    size_G = np.diff(np.append(first_G, seen))
    groups_G4 = np.empty((len(first_G), 4), np.uint32)
    groups_G4[:, FIRST], groups_G4[:, SIZE] = first_G, size_G
    mass_G = q_N[first_G] * size_G
    mass_G *= len(mass_G) / mass_G.sum()  # what a cell holds; every cell ends with exactly 1, its own and its alias's
    _fill_aliases(mass_G, np.empty(len(mass_G), np.int64), groups_G4)
    return groups_G4, members


@kernel
def _fill_aliases(mass_G, stack_G, groups_G4):
    G = len(mass_G)
    left, right = 0, G  # of the stack: under-full cells from the left, over-full ones from the right
    for g in range(G):
        if mass_G[g] < 1.0:
            stack_G[left] = g
            left += 1
        else:
            right -= 1
            stack_G[right] = g
    while left > 0 and right < G:
        small, large = stack_G[left - 1], stack_G[right]
        left -= 1
        groups_G4[small, THRESHOLD] = np.uint32(min(mass_G[small] * _TWO_32, _TWO_32 - 1.0))
        groups_G4[small, ALIAS] = np.uint32(large)
        mass_G[large] -= 1.0 - mass_G[small]
        if mass_G[large] < 1.0:
            right += 1
            stack_G[left] = large
            left += 1
    for i in range(G):
        if i < left or i >= right:  # exactly full, but for rounding
            groups_G4[stack_G[i], THRESHOLD] = np.uint32(0xFFFFFFFF)
            groups_G4[stack_G[i], ALIAS] = np.uint32(stack_G[i])


@kernel
def draw_ids(groups_G4, members_X, key, ids_K):
    """Fill ids_K (int32) with independent draws; equal keys (uint64) give equal draws."""
    K, G = len(ids_K), np.uint64(len(groups_G4))
    groups, ids = values_from(groups_G4.reshape(-1), 0), values_from(ids_K, 0)
    places, chances, others = stacked_uint32(_BLOCK), stacked_uint32(_BLOCK), stacked_uint64(_BLOCK)
    if len(groups_G4) < K * _LINE_GROUPS:  # fetched in a row, lines come faster than one by one as draws ask for them
        for g in range(0, len(groups_G4), _LINE_GROUPS):
            prefetch_read(groups, g * _COLUMNS)
    for start in range(0, K, _BLOCK):
        for i in range(_BLOCK):  # apart from what follows, for LLVM makes vectors of it
            counter = np.uint64(start + i) * _TWO
            bits = random_bits(key, counter)
            places[i], chances[i] = np.uint32(below_32(bits, G)), np.uint32(bits & _LOW_32)
            others[i] = random_bits(key, counter + _ONE)
        stop = min(start + _BLOCK, K)
        for k in range(start, stop):
            i = k - start
            at = np.int64(places[i]) * _COLUMNS
            alias = np.int64(groups[at + ALIAS]) * _COLUMNS  # read in any case: which it will be cannot be guessed
            at = at if chances[i] < groups[at + THRESHOLD] else alias
            ids[k] = np.int32(np.uint64(groups[at + FIRST]) + below(others[i], np.uint64(groups[at + SIZE])))
        if len(members_X) > 0:
            for k in range(start, stop):  # members of one block are fetched together, not one after the other
                prefetch_read(members_X, ids[k])
            for k in range(start, stop):
                ids[k] = members_X[ids[k]]
