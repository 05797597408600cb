"""What the kernel with shared negatives does for positives, between its three matrix products: all but to write rows.

Their rows are read where they are in the matrix; only those of negatives are copied, for the products. An example has
few positives, and its losses wait for its scores, its gradients for its losses. So some examples are taken together:
all their scores, in whole vectors all their losses, then all their gradients. Rows are asked for some positives ahead
of their turn, over the ends of examples; features and their gradients, an example ahead.

`D`, the `words` of a stored row and the widths of `likes` are constants where these functions are inlined.

Legend: N tags, W words of a stored row, B examples, D dim, S slots, A positives of all examples
(`workers.shared_plan`); K slots of distinct negatives; X examples, up to whole blocks (`workers.shared_losses`).
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.config import NEGATIVE_SAMPLING
from workers.feature_blocks import mean_square_of, nothing_in, scale
from workers.jit import inlined_kernel
from workers.objectives import positive_losses
from workers.prefetch import LINE_FLOATS, prefetch_read, prefetch_write
from workers.row_blocks import add, add_four, dot, dot_four
from workers.tags import BIAS
from workers.vectors import values_from

_TOGETHER = 96
"""Positives whose scores, then losses, then gradients are computed together; their rows stay in the second level of the
cache meanwhile. Also how far ahead of its turn a row is asked for: half of it at each of two turns."""
_ZERO = np.float32(0)


@inlined_kernel
def _fetch_early(tags, words, tag):
    """Ask for the state of a row and for its first half."""
    prefetch_read(values_from(tags.tag_state_N4, tag), 0)
    _fetch_lines(tags, 0, words // 2, tag)


@inlined_kernel
def _fetch_late(tags, words, tag):
    """Ask for the rest of the row."""
    _fetch_lines(tags, words // 2, words, tag)


@inlined_kernel
def _fetch_lines(tags, start_word, stop_word, tag):
    row = values_from(tags.rows_NS, tag)
    for j in range(start_word, stop_word, LINE_FLOATS):
        prefetch_read(row, j)


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
    B, losses_finite, nothing, ids_A = len(features_BD), True, _ZERO, plan.pos_ids_A
    work.scale_X[B:] = _ZERO
    for p in range(min(_TOGETHER, len(ids_A))):
        _fetch_early(tags, words, _tag_at(ids_A, p))
        _fetch_late(tags, words, _tag_at(ids_A, p))
    first = 0
    while first < B:
        last = first + 1
        while last < B and offsets_B1[last + 1] - offsets_B1[first] <= _TOGETHER:
            last += 1
        _score(tags, features_BD, offsets_B1, ids_A, work, first, last, D, words, likes)
        losses_finite &= _differentiate(objective, offsets_B1, plan.pos_weights_A, work, answer.loss_B, first, last)
        grads_BD = answer.feature_grad_BD
        nothing += _add_gradients(tags, objective, offsets_B1, ids_A, work, grads_BD, first, last, D, words, likes)
        first = last
    return losses_finite, nothing == _ZERO


@inlined_kernel
def _score(tags, features_BD, offsets_B1, ids_A, work, first, last, D, words, likes):
    """Scores of the positives of some examples, and the mean squares of their features."""
    half, ids, scores = D // 2, values_from(ids_A, 0), values_from(work.pos_grads_A, 0)
    for b in range(first, last):
        f = values_from(features_BD, b)
        for j in range(D, 2 * D, LINE_FLOATS):
            prefetch_read(f, j)
        work.squares_B[b] = mean_square_of(f, D, likes)
        start, stop = np.int64(offsets_B1[b]), np.int64(offsets_B1[b + 1])
        whole = start + ((stop - start) & ~3)
        for p in range(start, whole, 4):
            for i in range(4):
                _fetch_early(tags, words, _tag_at(ids_A, p + i + _TOGETHER))
            biases = _four_biases(tags.tag_state_N4, ids, p)
            dot_four(_four_rows(tags.rows_NS, ids, p), f, half, likes, biases, scores, p)
        for p in range(whole, stop):
            _fetch_early(tags, words, _tag_at(ids_A, p + _TOGETHER))
            scores[p] = dot(values_from(tags.rows_NS, ids[p]), f, half, likes, _bias(tags.tag_state_N4, ids[p]))


@inlined_kernel
def _differentiate(objective, offsets_B1, weights_A, work, loss_B, first, last):
    """Losses of some examples; their positives' scores become gradients. Whether all losses are finite."""
    start, stop, finite = np.int64(offsets_B1[first]), np.int64(offsets_B1[last]), True
    scores, losses = values_from(work.pos_grads_A, 0), values_from(work.pos_losses_A, 0)
    if objective != NEGATIVE_SAMPLING:
        for b in range(first, last):
            for p in range(offsets_B1[b], offsets_B1[b + 1]):
                scores[p] -= work.log_a_X[b]
    positive_losses(scores, values_from(weights_A, 0), losses, start, stop)
    for b in range(first, last):
        loss, lost = work.loss_X[b], _ZERO
        for p in range(offsets_B1[b], offsets_B1[b + 1]):
            loss += losses[p]
            lost -= scores[p]
        loss_B[b] = loss
        if objective != NEGATIVE_SAMPLING:
            work.scale_X[b] *= lost
        finite &= loss < np.inf and work.squares_B[b] >= _ZERO  # false for NaN
    return finite


@inlined_kernel
def _add_gradients(tags, objective, offsets_B1, ids_A, work, feature_grad_BD, first, last, D, words, likes):
    """Add the positives of some examples to their feature gradients; 0, or NaN if one of these is not finite."""
    half, nothing, ids, grads = D // 2, _ZERO, values_from(ids_A, 0), values_from(work.pos_grads_A, 0)
    for b in range(first, last):
        g = values_from(feature_grad_BD, b)
        for j in range(D, 2 * D, LINE_FLOATS):
            prefetch_write(g, j)
        if objective != NEGATIVE_SAMPLING:
            scale(g, work.scale_X[b], D, likes)
        start, stop = np.int64(offsets_B1[b]), np.int64(offsets_B1[b + 1])
        whole = start + ((stop - start) & ~3)
        for p in range(start, whole, 4):
            for i in range(4):
                _fetch_late(tags, words, _tag_at(ids_A, p + i + _TOGETHER))
            add_four(_four_rows(tags.rows_NS, ids, p), g, half, likes, grads, p)
        for p in range(whole, stop):
            _fetch_late(tags, words, _tag_at(ids_A, p + _TOGETHER))
            add(values_from(tags.rows_NS, ids[p]), g, half, likes, grads[p])
        nothing += nothing_in(g, D, likes)
    return nothing


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
