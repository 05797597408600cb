"""What the kernel with shared negatives does for positives, between its three matrix products: all but to write rows.

Their rows are read where they are in the matrix; only those of negatives are copied, for the products. Rows are asked
for some positives ahead of their turn, over the ends of examples; features and their gradients, an example ahead.

`D`, the `words` of a stored row and the widths of `likes` are constants where these functions are inlined.

Legend: N tags, W words of a stored row, B examples, D dim, S slots, A positives of all examples
(`workers.shared_plan`); K slots of distinct negatives; X examples, up to whole blocks (`workers.shared_losses`).
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.config import NEGATIVE_SAMPLING
from workers.feature_blocks import mean_square_of, nothing_in, scale
from workers.jit import inlined_kernel
from workers.objectives import positive_terms
from workers.prefetch import AHEAD_ROWS, LINE_FLOATS, prefetch_read, prefetch_write
from workers.row_blocks import add, add_four, dot, dot_four
from workers.tags import BIAS
from workers.vectors import values_from

_ZERO = np.float32(0)


@inlined_kernel
def _fetch(rows_NW, tag_state_N4, tag, words):
    """Ask for a row and its state."""
    prefetch_read(values_from(tag_state_N4, tag), 0)
    for j in range(0, words, LINE_FLOATS):
        prefetch_read(values_from(rows_NW, tag), j)


@inlined_kernel
def _tag_at(ids, i):
    """ids[i], or the last one."""
    return np.int64(ids[np.uint64(min(i, len(ids) - 1))])


@inlined_kernel
def _four_rows(rows_NW, ids, i):
    return (
        values_from(rows_NW, ids[i]),
        values_from(rows_NW, ids[i + 1]),
        values_from(rows_NW, ids[i + 2]),
        values_from(rows_NW, ids[i + 3]),
    )


@inlined_kernel
def _bias(tag_state_N4, tag):
    return values_from(tag_state_N4, tag)[BIAS]


@inlined_kernel
def _four_biases(tag_state_N4, ids, i):
    return (
        _bias(tag_state_N4, ids[i]),
        _bias(tag_state_N4, ids[i + 1]),
        _bias(tag_state_N4, ids[i + 2]),
        _bias(tag_state_N4, ids[i + 3]),
    )


@inlined_kernel
def add_positives(tags, objective, features_BD, offsets_B1, plan, work, answer, D, words, likes):
    """Add positives to loss_X, for loss_B, and to the feature gradients of negatives; whether both are finite.

    pos_grads_A becomes dLoss/dscore of positives, squares_B the mean square of the features. Sampled softmax: the
    feature gradients are scaled first, by scale_X times what positives lose, which takes its place; 0 beyond B.
    """
    half, losses_finite, nothing = D // 2, True, _ZERO
    rows_NW, tag_state_N4, (loss_B, feature_grad_BD) = tags.rows_NS, tags.tag_state_N4, answer
    pos_ids_A, pos_weights_A, pos_grads_A = plan.pos_ids_A, plan.pos_weights_A, work.pos_grads_A
    log_a_X, scale_X, squares_B = work.log_a_X, work.scale_X, work.squares_B
    scale_X[len(loss_B) :] = _ZERO
    ids, grads = values_from(pos_ids_A, 0), values_from(pos_grads_A, 0)
    for p in range(min(AHEAD_ROWS, len(pos_ids_A))):
        _fetch(rows_NW, tag_state_N4, np.int64(pos_ids_A[np.uint64(p)]), words)
    for b in range(len(loss_B)):
        f, g = values_from(features_BD, b), values_from(feature_grad_BD, b)
        for j in range(D, 2 * D, LINE_FLOATS):
            prefetch_read(f, j)
            prefetch_write(g, j)
        squares_B[b] = mean_square_of(f, D, likes)
        start, stop = np.int64(offsets_B1[b]), np.int64(offsets_B1[b + 1])
        whole = start + ((stop - start) & ~3)
        for p in range(start, whole, 4):
            for i in range(4):
                _fetch(rows_NW, tag_state_N4, _tag_at(pos_ids_A, p + i + AHEAD_ROWS), words)
            biases = _four_biases(tag_state_N4, ids, p)
            dot_four(_four_rows(rows_NW, ids, p), f, half, likes, biases, grads, p)
        for p in range(whole, stop):
            _fetch(rows_NW, tag_state_N4, _tag_at(pos_ids_A, p + AHEAD_ROWS), words)
            grads[p] = dot(values_from(rows_NW, ids[p]), f, half, likes, _bias(tag_state_N4, ids[p]))
        loss, lost = positive_terms(pos_grads_A[start:stop], pos_weights_A[start:stop], log_a_X[b])
        loss_B[b] = work.loss_X[b] + loss
        losses_finite &= loss_B[b] < np.inf and squares_B[b] >= _ZERO  # false for NaN
        if objective != NEGATIVE_SAMPLING:
            scale_X[b] *= lost
            scale(g, scale_X[b], D, likes)
        for p in range(start, whole, 4):
            add_four(_four_rows(rows_NW, ids, p), g, half, likes, grads, p)
        for p in range(whole, stop):
            add(values_from(rows_NW, ids[p]), g, half, likes, grads[p])
        nothing += nothing_in(g, D, likes)
    return losses_finite, nothing == _ZERO


@inlined_kernel
def add_features(features_BD, offsets_B1, plan, work, D, likes):
    """Complete the gradients of slots and of their biases; those of negatives are there already."""
    grads_SD, bias_grads_S, num_negatives = work.row_grads_SD, work.bias_grads_S, len(plan.multiplicity_K)
    grads_SD[num_negatives:] = _ZERO
    bias_grads_S[num_negatives:] = _ZERO
    for b in range(len(features_BD)):
        f = values_from(features_BD, b)
        for p in range(offsets_B1[b] + plan.num_lone_B[b], offsets_B1[b + 1]):
            slot = np.uint64(plan.pos_slots_A[p])
            add(f, values_from(grads_SD, slot), D // 2, likes, work.pos_grads_A[p])
            bias_grads_S[slot] += work.pos_grads_A[p]
