"""Dots and updates of rows, four rows at a time: features and feature gradient are then loaded once for four rows.

All take float32 features `f` and feature gradient `g` of length D, rows of either form (`workers.rows`), and `likes`,
two vectors of the widths to compute with (`widths.vector_widths`): a wide one as far as it goes, and a narrow one for
what is left. D and the widths are constants where these functions are inlined: a loop without a turn leaves no code.

    dot         s = bias + row . f
    add         g <- g + grad row
    update      g <- g + grad row;  row <- keep row + move f        (both with the row as it was)
    write       row <- keep row + move v
    bound       row <- row min(1, max_norm / |row|)

`keep` is 1 less the decay. A row written with move 0 and keep 1 keeps its values, but what another worker wrote
meanwhile is lost; so callers leave out rows that are not to move, but for the rare ones that it would cost time to look
for (`workers.kernel_private`).

Concurrency: a row may be written by others meanwhile (Hogwild). Values are loaded and stored by vectors, so that a row
may mix two writers' values, but each value is one that some writer made.
"""

# mypy: allow-untyped-defs

import math

import numpy as np

from workers.jit import inlined_kernel
from workers.vectors import alone, fma, high, length, load, low, put, put_totals, scaled, store, total, whole_of

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined_kernel
def dot(row, f, half, likes, bias):
    """s = bias + row . f"""
    whole = whole_of(half, likes)
    sums = _sums(row, f, 0, whole, half, alone(bias, likes[0]))
    return total(sums) + total(_sums(row, f, whole, half, half, scaled(_ZERO, likes[1])))


@inlined_kernel
def _sums(row, f, start, stop, half, sums):
    """Sums of the products of some columns, by lanes, added to others."""
    for j in range(start, stop, length(sums)):
        sums = fma(low(row, j, sums), load(f, j, sums), sums)
        sums = fma(high(row, j, half, sums), load(f, j + half, sums), sums)
    return sums


@inlined_kernel
def dot_four(rows, f, half, likes, biases, scores, first):
    """The same for four rows, each plus a bias, into scores[first:]."""
    row_0, row_1, row_2, row_3 = rows
    like, none, whole = likes[0], scaled(_ZERO, likes[1]), whole_of(half, likes)
    sums_0 = alone(biases[0] + total(_sums(row_0, f, whole, half, half, none)), like)
    sums_1 = alone(biases[1] + total(_sums(row_1, f, whole, half, half, none)), like)
    sums_2 = alone(biases[2] + total(_sums(row_2, f, whole, half, half, none)), like)
    sums_3 = alone(biases[3] + total(_sums(row_3, f, whole, half, half, none)), like)
    more_0 = more_1 = more_2 = more_3 = scaled(_ZERO, like)  # eight sums: four would wait for each other
    for j in range(0, whole, length(like)):
        f_low, f_high = load(f, j, like), load(f, j + half, like)
        sums_0, more_0 = fma(low(row_0, j, like), f_low, sums_0), fma(high(row_0, j, half, like), f_high, more_0)
        sums_1, more_1 = fma(low(row_1, j, like), f_low, sums_1), fma(high(row_1, j, half, like), f_high, more_1)
        sums_2, more_2 = fma(low(row_2, j, like), f_low, sums_2), fma(high(row_2, j, half, like), f_high, more_2)
        sums_3, more_3 = fma(low(row_3, j, like), f_low, sums_3), fma(high(row_3, j, half, like), f_high, more_3)
    sums_0, sums_1 = fma(_ONE, more_0, sums_0), fma(_ONE, more_1, sums_1)
    sums_2, sums_3 = fma(_ONE, more_2, sums_2), fma(_ONE, more_3, sums_3)
    put_totals(scores, first, sums_0, sums_1, sums_2, sums_3)


@inlined_kernel
def copy(row, v, half, likes):
    """v <- row"""
    whole = whole_of(half, likes)
    _copy(row, v, 0, whole, half, likes[0])
    _copy(row, v, whole, half, half, likes[1])


@inlined_kernel
def _copy(row, v, start, stop, half, like):
    for j in range(start, stop, length(like)):
        store(v, j, low(row, j, like))
        store(v, j + half, high(row, j, half, like))


@inlined_kernel
def add(row, g, half, likes, grad):
    """g <- g + grad row"""
    whole = whole_of(half, likes)
    _add(row, g, 0, whole, half, likes[0], grad)
    _add(row, g, whole, half, half, likes[1], grad)


@inlined_kernel
def _add(row, g, start, stop, half, like, grad):
    for j in range(start, stop, length(like)):
        store(g, j, fma(grad, low(row, j, like), load(g, j, like)))
        store(g, j + half, fma(grad, high(row, j, half, like), load(g, j + half, like)))


@inlined_kernel
def add_four(rows, g, half, likes, grads, first):
    """The same for four rows, whose factors are grads[first:]."""
    whole = whole_of(half, likes)
    _add_four(rows, g, 0, whole, half, likes[0], grads, first)
    _add_four(rows, g, whole, half, half, likes[1], grads, first)


@inlined_kernel
def _add_four(rows, g, start, stop, half, like, grads, first):
    row_0, row_1, row_2, row_3 = rows
    grad_0, grad_1, grad_2, grad_3 = grads[first], grads[first + 1], grads[first + 2], grads[first + 3]
    for j in range(start, stop, length(like)):
        g_low, g_high = load(g, j, like), load(g, j + half, like)
        g_low = fma(grad_1, low(row_1, j, like), fma(grad_0, low(row_0, j, like), g_low))
        g_high = fma(grad_1, high(row_1, j, half, like), fma(grad_0, high(row_0, j, half, like), g_high))
        store(g, j, fma(grad_3, low(row_3, j, like), fma(grad_2, low(row_2, j, like), g_low)))
        store(g, j + half, fma(grad_3, high(row_3, j, half, like), fma(grad_2, high(row_2, j, half, like), g_high)))


@inlined_kernel
def update(row, f, g, half, likes, grad, move, keep, noise, noise_start):
    """g <- g + grad row;  row <- keep row + move f"""
    whole = whole_of(half, likes)
    _update(row, f, g, 0, whole, half, likes[0], grad, move, keep, noise, noise_start)
    _update(row, f, g, whole, half, half, likes[1], grad, move, keep, noise, noise_start)


@inlined_kernel
def _update(row, f, g, start, stop, half, like, grad, move, keep, noise, noise_start):
    for j in range(start, stop, length(like)):
        row_low, row_high = low(row, j, like), high(row, j, half, like)
        store(g, j, fma(grad, row_low, load(g, j, like)))
        store(g, j + half, fma(grad, row_high, load(g, j + half, like)))
        row_low, row_high = scaled(keep, row_low), scaled(keep, row_high)
        new_low, new_high = fma(move, load(f, j, like), row_low), fma(move, load(f, j + half, like), row_high)
        put(row, j, half, new_low, new_high, noise, noise_start + j)


@inlined_kernel
def update_four(rows, f, g, half, likes, grads, moves, first, keep, noise, noise_starts):
    """The same for four different rows."""
    whole = whole_of(half, likes)
    _update_four(rows, f, g, 0, whole, half, likes[0], grads, moves, first, keep, noise, noise_starts)
    _update_four(rows, f, g, whole, half, half, likes[1], grads, moves, first, keep, noise, noise_starts)


@inlined_kernel
def _update_four(rows, f, g, start, stop, half, like, grads, moves, first, keep, noise, noise_starts):
    row_0, row_1, row_2, row_3 = rows
    grad_0, grad_1, grad_2, grad_3 = grads[first], grads[first + 1], grads[first + 2], grads[first + 3]
    move_0, move_1, move_2, move_3 = moves[first], moves[first + 1], moves[first + 2], moves[first + 3]
    noise_0, noise_1, noise_2, noise_3 = noise_starts
    for j in range(start, stop, length(like)):
        f_low, f_high = load(f, j, like), load(f, j + half, like)
        g_low, g_high = load(g, j, like), load(g, j + half, like)
        g_low, g_high = _step(row_0, j, half, f_low, f_high, g_low, g_high, grad_0, move_0, keep, noise, noise_0)
        g_low, g_high = _step(row_1, j, half, f_low, f_high, g_low, g_high, grad_1, move_1, keep, noise, noise_1)
        g_low, g_high = _step(row_2, j, half, f_low, f_high, g_low, g_high, grad_2, move_2, keep, noise, noise_2)
        g_low, g_high = _step(row_3, j, half, f_low, f_high, g_low, g_high, grad_3, move_3, keep, noise, noise_3)
        store(g, j, g_low)
        store(g, j + half, g_high)


@inlined_kernel
def _step(row, j, half, f_low, f_high, g_low, g_high, grad, move, keep, noise, noise_start):
    """One row's part of two vectors of columns; returns the feature gradient of these columns."""
    row_low, row_high = low(row, j, f_low), high(row, j, half, f_low)
    g_low, g_high = fma(grad, row_low, g_low), fma(grad, row_high, g_high)
    row_low, row_high = scaled(keep, row_low), scaled(keep, row_high)
    put(row, j, half, fma(move, f_low, row_low), fma(move, f_high, row_high), noise, noise_start + j)
    return g_low, g_high


@inlined_kernel
def write(row, v, half, likes, move, keep, noise, noise_start):
    """row <- keep row + move v"""
    whole = whole_of(half, likes)
    _write(row, v, 0, whole, half, likes[0], move, keep, noise, noise_start)
    _write(row, v, whole, half, half, likes[1], move, keep, noise, noise_start)


@inlined_kernel
def _write(row, v, start, stop, half, like, move, keep, noise, noise_start):
    for j in range(start, stop, length(like)):
        new_low = fma(move, load(v, j, like), scaled(keep, low(row, j, like)))
        new_high = fma(move, load(v, j + half, like), scaled(keep, high(row, j, half, like)))
        put(row, j, half, new_low, new_high, noise, noise_start + j)


@inlined_kernel
def bound(row, half, likes, max_norm, noise, noise_start):
    """row <- row min(1, max_norm / |row|)"""
    whole = whole_of(half, likes)
    square = _square_of_row(row, 0, whole, half, likes[0]) + _square_of_row(row, whole, half, half, likes[1])
    if square > max_norm * max_norm:
        shrink = np.float32(max_norm / math.sqrt(square))
        _shrink(row, 0, whole, half, likes[0], shrink, noise, noise_start)
        _shrink(row, whole, half, half, likes[1], shrink, noise, noise_start)


@inlined_kernel
def _square_of_row(row, start, stop, half, like):
    squares = scaled(_ZERO, like)
    for j in range(start, stop, length(like)):
        row_low, row_high = low(row, j, like), high(row, j, half, like)
        squares = fma(row_high, row_high, fma(row_low, row_low, squares))
    return total(squares)


@inlined_kernel
def _shrink(row, start, stop, half, like, factor, noise, noise_start):
    for j in range(start, stop, length(like)):
        row_low, row_high = scaled(factor, low(row, j, like)), scaled(factor, high(row, j, half, like))
        put(row, j, half, row_low, row_high, noise, noise_start + j)
