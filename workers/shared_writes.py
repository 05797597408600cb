"""How the kernel with shared negatives writes rows: each touched one once, after all gradients were found sound.

Rows that have a slot come first, then lone ones (`workers.shared_plan`), each asked for some rows ahead of its turn.

`D`, the `words` of a stored row and the widths of `likes` are constants where these functions are inlined.

Legend: N tags, W words of a stored row, B examples, D dim, S slots, A positives of all examples, L lone ones.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.feature_blocks import mean_square_of
from workers.jit import inlined_kernel
from workers.prefetch import AHEAD_ROWS, LINE_FLOATS, prefetch_read, prefetch_write
from workers.rounding import NOISE_WORDS, noise_start
from workers.row_blocks import bound, write
from workers.row_optimizers import accumulate, is_safe, step_size
from workers.tags import BIAS, BIAS_ACC, ROW_ACC
from workers.vectors import values_from

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined_kernel
def _fetch(rows_NW, tag_state_N4, ids, i, words):
    """Ask for the row of the tag ids[i] and its state, to write them, if there is such a tag."""
    if i < len(ids):
        tag = np.int64(ids[i])
        prefetch_write(values_from(tag_state_N4, tag), 0)
        for j in range(0, words, LINE_FLOATS):
            prefetch_write(values_from(rows_NW, tag), j)


@inlined_kernel
def _is_safe(update, mean_square, bias_grad, D):
    return is_safe(update, mean_square, D) and is_safe(update, bias_grad * bias_grad, 1)


@inlined_kernel
def _are_safe(update, pos_grads_A, first, stop, mean_square, D):
    """Whether all lone positives of an example may move, along features of that mean square."""
    sound = True
    for p in range(first, stop):
        grad = pos_grads_A[p]
        sound &= grad == _ZERO or _is_safe(update, grad * grad * mean_square, grad, D)
    return sound


@inlined_kernel
def _move(rows_NW, tag_state_N4, noise, update, tag, direction_D, scale, mean_square, bias_grad, at, half, likes):
    """Move a row and its state along a gradient of that mean square: `scale` times the direction."""
    row, state = values_from(rows_NW, tag), values_from(tag_state_N4, tag)
    state[ROW_ACC] = accumulate(update.optimizer, state[ROW_ACC], mean_square)
    state[BIAS_ACC] = accumulate(update.optimizer, state[BIAS_ACC], bias_grad * bias_grad)
    state[BIAS] -= step_size(update, state[BIAS_ACC]) * bias_grad
    write(row, direction_D, half, likes, -scale * step_size(update, state[ROW_ACC]), update.keep, noise, at)
    if update.max_norm > _ZERO:
        bound(row, half, likes, update.max_norm, noise, (at + NOISE_WORDS // 2) & (NOISE_WORDS - 1))


@inlined_kernel
def write_rows(tags, update, key, features_BD, offsets_B1, plan, work, D, words, likes):
    """Write the rows; returns how many, or -1 if a gradient is not finite and nothing was written."""
    rows_NW, tag_state_N4, noise, half, rounds = tags.rows_NS, tags.tag_state_N4, tags.noise, D // 2, words < D
    ids_S, pos_ids_A, num_lone_B, lone_ids_L = plan.ids_S, plan.pos_ids_A, plan.num_lone_B, plan.lone_ids_L
    grads_SD, bias_grads_S, squares_S = work.row_grads_SD, work.bias_grads_S, work.squares_S
    pos_grads_A, squares_B = work.pos_grads_A, work.squares_B
    B, S = len(squares_B), len(ids_S)
    for s in range(S):
        squares_S[s] = mean_square_of(values_from(grads_SD, s), D, likes)
        if not _is_safe(update, squares_S[s], bias_grads_S[s], D):
            return -1
    for b in range(B):
        first = np.int64(offsets_B1[b])
        if not _are_safe(update, pos_grads_A, first, first + num_lone_B[b], squares_B[b], D):
            return -1
    written = 0
    for s in range(S):
        _fetch(rows_NW, tag_state_N4, ids_S, s + AHEAD_ROWS, words)
        if squares_S[s] == _ZERO and bias_grads_S[s] == _ZERO:
            continue  # masked everywhere: not a write at all
        at, grad_D = noise_start(key, s) if rounds else 0, values_from(grads_SD, s)
        _move(
            rows_NW, tag_state_N4, noise, update, ids_S[s], grad_D, _ONE, squares_S[s], bias_grads_S[s], at, half, likes
        )
        written += 1
    for i in range(AHEAD_ROWS):
        _fetch(rows_NW, tag_state_N4, lone_ids_L, i, words)
    ahead = np.int64(AHEAD_ROWS)
    for b in range(B):
        f, first = values_from(features_BD, b), np.int64(offsets_B1[b])
        for j in range(D, 2 * D, LINE_FLOATS):
            prefetch_read(f, j)
        for p in range(first, first + num_lone_B[b]):
            _fetch(rows_NW, tag_state_N4, lone_ids_L, ahead, words)
            ahead += 1
            grad = pos_grads_A[p]
            if grad == _ZERO:
                continue
            at, mean_square = noise_start(key, S + p) if rounds else 0, grad * grad * squares_B[b]
            _move(rows_NW, tag_state_N4, noise, update, pos_ids_A[p], f, grad, mean_square, grad, at, half, likes)
            written += 1
    return written
