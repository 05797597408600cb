"""Dots and updates of rows, four rows at a time: features and feature gradient are then loaded once for four rows.

All take float32 features `f` and feature gradient `g` of length D, rows of either form (`workers.rows`), and `like`, a
vector of the width to compute with. D and the width are constants where these functions are inlined.

    dot         s = bias + row . f
    add         g <- g + grad row
    update      g <- g + grad row;  row <- keep row + move f        (both with the row as it was)
    write       row <- keep row + move v
    bound       row <- row min(1, max_norm / |row|)

`keep` is 1 less the decay. A row written with move 0 and keep 1 keeps its values, but what another worker wrote
meanwhile is lost; so callers leave out rows that are not to move.

Concurrency: a row may be written by others meanwhile (Hogwild). Values are loaded and stored by vectors, so that a row
may mix two writers' values, but each value is one that some writer made.
"""

# mypy: allow-untyped-defs

import math

import numpy as np

from workers.jit import inlined_kernel
from workers.vectors import alone, fma, high, length, load, low, put, put_totals, scaled, store, total

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined_kernel
def dot(row, f, half, like, bias):
    """s = bias + row . f"""
    sums = alone(bias, like)
    for j in range(0, half, length(like)):
        sums = fma(low(row, j, like), load(f, j, like), sums)
        sums = fma(high(row, j, half, like), load(f, j + half, like), sums)
    return total(sums)


@inlined_kernel
def dot_four(rows, f, half, like, biases, scores, first):
    """The same for four rows, each plus a bias, into scores[first:]."""
    row_0, row_1, row_2, row_3 = rows
    sums_0, sums_1 = alone(biases[0], like), alone(biases[1], like)
    sums_2, sums_3 = alone(biases[2], like), alone(biases[3], like)
    more_0 = more_1 = more_2 = more_3 = scaled(_ZERO, like)  # eight sums: four would wait for each other
    for j in range(0, half, length(like)):
        f_low, f_high = load(f, j, like), load(f, j + half, like)
        sums_0, more_0 = fma(low(row_0, j, like), f_low, sums_0), fma(high(row_0, j, half, like), f_high, more_0)
        sums_1, more_1 = fma(low(row_1, j, like), f_low, sums_1), fma(high(row_1, j, half, like), f_high, more_1)
        sums_2, more_2 = fma(low(row_2, j, like), f_low, sums_2), fma(high(row_2, j, half, like), f_high, more_2)
        sums_3, more_3 = fma(low(row_3, j, like), f_low, sums_3), fma(high(row_3, j, half, like), f_high, more_3)
    sums_0, sums_1 = fma(_ONE, more_0, sums_0), fma(_ONE, more_1, sums_1)
    sums_2, sums_3 = fma(_ONE, more_2, sums_2), fma(_ONE, more_3, sums_3)
    put_totals(scores, first, sums_0, sums_1, sums_2, sums_3)


@inlined_kernel
def clear(f, g, dim, like):
    """g <- 0; returns |f| ** 2."""
    squares = scaled(_ZERO, like)
    for j in range(0, dim, length(like)):
        squares = fma(load(f, j, like), load(f, j, like), squares)
        store(g, j, scaled(_ZERO, like))
    return total(squares)


@inlined_kernel
def mean_square_of(v, dim, like):
    """|v| ** 2 / dim"""
    squares = like
    for j in range(0, dim, length(like)):
        squares = fma(load(v, j, like), load(v, j, like), squares)
    return total(squares) / np.float32(dim)


@inlined_kernel
def scale(v, factor, dim, like):
    """v <- factor v"""
    for j in range(0, dim, length(like)):
        store(v, j, scaled(factor, load(v, j, like)))


@inlined_kernel
def add(row, g, half, like, grad):
    """g <- g + grad row"""
    for j in range(0, half, length(like)):
        store(g, j, fma(grad, low(row, j, like), load(g, j, like)))
        store(g, j + half, fma(grad, high(row, j, half, like), load(g, j + half, like)))


@inlined_kernel
def add_four(rows, g, half, like, grads, first):
    """The same for four rows, whose factors are grads[first:]."""
    row_0, row_1, row_2, row_3 = rows
    grad_0, grad_1, grad_2, grad_3 = grads[first], grads[first + 1], grads[first + 2], grads[first + 3]
    for j in range(0, half, length(like)):
        g_low, g_high = load(g, j, like), load(g, j + half, like)
        g_low = fma(grad_1, low(row_1, j, like), fma(grad_0, low(row_0, j, like), g_low))
        g_high = fma(grad_1, high(row_1, j, half, like), fma(grad_0, high(row_0, j, half, like), g_high))
        store(g, j, fma(grad_3, low(row_3, j, like), fma(grad_2, low(row_2, j, like), g_low)))
        store(g, j + half, fma(grad_3, high(row_3, j, half, like), fma(grad_2, high(row_2, j, half, like), g_high)))


@inlined_kernel
def update(row, f, g, half, like, grad, move, keep, noise, noise_start):
    """g <- g + grad row;  row <- keep row + move f"""
    for j in range(0, half, length(like)):
        row_low, row_high = low(row, j, like), high(row, j, half, like)
        store(g, j, fma(grad, row_low, load(g, j, like)))
        store(g, j + half, fma(grad, row_high, load(g, j + half, like)))
        row_low, row_high = scaled(keep, row_low), scaled(keep, row_high)
        new_low, new_high = fma(move, load(f, j, like), row_low), fma(move, load(f, j + half, like), row_high)
        put(row, j, half, new_low, new_high, noise, noise_start + j)


@inlined_kernel
def update_four(rows, f, g, half, like, grads, moves, first, keep, noise, noise_starts):
    """The same for four different rows."""
    row_0, row_1, row_2, row_3 = rows
    grad_0, grad_1, grad_2, grad_3 = grads[first], grads[first + 1], grads[first + 2], grads[first + 3]
    move_0, move_1, move_2, move_3 = moves[first], moves[first + 1], moves[first + 2], moves[first + 3]
    noise_0, noise_1, noise_2, noise_3 = noise_starts
    for j in range(0, half, length(like)):
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
def write(row, v, half, like, move, keep, noise, noise_start):
    """row <- keep row + move v"""
    for j in range(0, half, length(like)):
        new_low = fma(move, load(v, j, like), scaled(keep, low(row, j, like)))
        new_high = fma(move, load(v, j + half, like), scaled(keep, high(row, j, half, like)))
        put(row, j, half, new_low, new_high, noise, noise_start + j)


@inlined_kernel
def bound(row, half, like, max_norm, noise, noise_start):
    """row <- row min(1, max_norm / |row|)"""
    squares = scaled(_ZERO, like)
    for j in range(0, half, length(like)):
        row_low, row_high = low(row, j, like), high(row, j, half, like)
        squares = fma(row_high, row_high, fma(row_low, row_low, squares))
    square = total(squares)
    if square > max_norm * max_norm:
        scale = np.float32(max_norm / math.sqrt(square))
        for j in range(0, half, length(like)):
            row_low, row_high = low(row, j, like), high(row, j, half, like)
            put(row, j, half, scaled(scale, row_low), scaled(scale, row_high), noise, noise_start + j)
