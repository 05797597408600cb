"""What a chunk has to pass before kernels see it: one call into compiled code, which then draws its negatives.

`workers.chunk` has the rules one by one, and names the one that is broken; here is only said whether all are kept.

Legend: B examples, D dim, A positives of all examples.
"""

# mypy: allow-untyped-defs

import numba
import numpy as np

from workers.counters import NEGATIVES, stream_key_of
from workers.jit import ExactEntry, kernel
from workers.sampler import draw_ids
from workers.soundness import are_weights, is_aligned, is_sound

REFUSED = -1
_F4, _I4, _I8 = numba.float32[::1], numba.int32[::1], numba.int64[::1]
_NUMBER = numba.int64
_CHUNK = (numba.float32[:, ::1], _I4, _I4, _I4, _F4, _F4, _I8, _I4, _I4, _NUMBER, _NUMBER, _NUMBER)
_MATRIX = (_NUMBER, _NUMBER, _NUMBER, _I8, numba.uint32[:, ::1], _I4)


@kernel
def _admit(
    features_BD, neg_ids, ids_A, pos_offsets_B1, factors_A, example_weights_B, items_B, true_offsets_B1, true_tags,
    step, chunk, seed, num_tags, dim, num_items, applied_W, groups_G4, members_X,
):  # fmt: skip
    B, by_item = len(features_BD), len(items_B) > 0
    if B < 1 or features_BD.shape[1] != dim or len(pos_offsets_B1) != B + 1 or min(step, chunk, seed) < 0:
        return np.int64(REFUSED)
    if len(factors_A) > 0 and len(factors_A) != len(ids_A):
        return np.int64(REFUSED)
    if len(example_weights_B) > 0 and len(example_weights_B) != B:
        return np.int64(REFUSED)
    if (by_item and len(items_B) != B) or len(true_offsets_B1) != (0 if by_item else B + 1):
        return np.int64(REFUSED)
    if not (is_aligned(features_BD) and is_aligned(ids_A) and is_aligned(pos_offsets_B1) and is_aligned(factors_A)):
        return np.int64(REFUSED)
    if not (
        is_aligned(example_weights_B) and is_aligned(items_B) and is_aligned(true_offsets_B1) and is_aligned(true_tags)
    ):
        return np.int64(REFUSED)
    if not (are_weights(factors_A) and are_weights(example_weights_B)):
        return np.int64(REFUSED)
    if not is_sound(ids_A, pos_offsets_B1, true_tags, true_offsets_B1, items_B, num_tags, num_items):
        return np.int64(REFUSED)
    draw_ids(groups_G4, members_X, stream_key_of(seed, step, chunk, NEGATIVES), neg_ids)
    return chunks_applied(applied_W)


@kernel
def chunks_applied(applied_W):
    """Chunks that all workers together have applied."""
    total = np.int64(0)
    for w in range(len(applied_W)):
        total += applied_W[w]
    return total


admission = ExactEntry(_admit, *_CHUNK, *_MATRIX)
"""Check a chunk, all but whether its features are finite, and fill its neg_ids.

Args, by position:
    the first `NUM_ADMITTED` fields of a `PreparedChunk`;
    num_tags, dim, num_items, applied_W, sampler_groups_G4, sampler_members: of the matrix.

Returns:
    How many chunks had been applied when it began to be, or REFUSED.

Raises:
    TypeError, ValueError, OverflowError: see `jit.ExactEntry`.
"""
