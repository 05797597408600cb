"""Vector code for features and feature gradients; `workers.row_blocks` is its like for rows.

`likes` are two vectors of the widths to compute with, see there. Widths and lengths are constants where these functions
are inlined.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.jit import inlined_kernel
from workers.vectors import fma, length, load, scaled, store, total, whole_of

_ZERO = np.float32(0)


@inlined_kernel
def clear(f, g, dim, likes):
    """g <- 0; returns |f| ** 2."""
    whole = whole_of(dim, likes)
    return _clear(f, g, 0, whole, likes[0]) + _clear(f, g, whole, dim, likes[1])


@inlined_kernel
def _clear(f, g, start, stop, like):
    squares = scaled(_ZERO, like)
    for j in range(start, stop, length(like)):
        squares = fma(load(f, j, like), load(f, j, like), squares)
        store(g, j, scaled(_ZERO, like))
    return total(squares)


@inlined_kernel
def mean_square_of(v, dim, likes):
    """|v| ** 2 / dim"""
    whole = whole_of(dim, likes)
    squares = _square_of(v, 0, whole, likes[0]) + _square_of(v, whole, dim, likes[1])
    return squares / np.float32(dim)


@inlined_kernel
def _square_of(v, start, stop, like):
    squares = scaled(_ZERO, like)
    for j in range(start, stop, length(like)):
        squares = fma(load(v, j, like), load(v, j, like), squares)
    return total(squares)


@inlined_kernel
def nothing_in(v, dim, likes):
    """0, or NaN if one of the values is NaN or infinite: 0 x is 0 but for these."""
    whole = whole_of(dim, likes)
    return _nothing_in(v, 0, whole, likes[0]) + _nothing_in(v, whole, dim, likes[1])


@inlined_kernel
def _nothing_in(v, start, stop, like):
    nothing = scaled(_ZERO, like)
    for j in range(start, stop, length(like)):
        nothing = fma(_ZERO, load(v, j, like), nothing)
    return total(nothing)


@inlined_kernel
def scale(v, factor, dim, likes):
    """v <- factor v"""
    whole = whole_of(dim, likes)
    _scale(v, factor, 0, whole, likes[0])
    _scale(v, factor, whole, dim, likes[1])


@inlined_kernel
def _scale(v, factor, start, stop, like):
    for j in range(start, stop, length(like)):
        store(v, j, scaled(factor, load(v, j, like)))
