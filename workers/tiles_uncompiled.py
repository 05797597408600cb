"""The words of `workers.tiles` in plain NumPy: what they mean, and what runs when nothing is compiled."""

# mypy: allow-untyped-defs

import numpy as np

from workers.widths import BLOCK

TILE_ROWS = 8
"""Rows of a tile; compiled, `workers.tiles` says how many. Factors are read for all of them, also where the product has
fewer."""


def add_tile(out, out_stride, factors, row_stride, step, columns, column_stride, depth, adds, num_rows, like):
    """out[r, c] <- sum over n < depth of factors[r, n] columns[n, c], plus out[r, c] if `adds`.

    Args:
        out: float32, values from the tile's first on; [r, c] is its value r * out_stride + c, and so on.
        out_stride: see `out`.
        factors: [r, n] is value r * row_stride + n * step.
        row_stride: see `factors`.
        step: see `factors`.
        columns: [n, c] is value n * column_stride + c.
        column_stride: see `columns`.
        depth: of the product.
        adds: whether to add to what is there.
        num_rows: r is below it, and below TILE_ROWS.
        like: c is below twice the width of this vector.
    """
    width = 2 * len(like)
    columns_nc = np.array([columns[n * column_stride :][:width] for n in range(depth)])
    for r in range(min(num_rows, TILE_ROWS)):
        factors_n = factors[r * row_stride :][::step][:depth]
        out_c = out[r * out_stride :][:width]
        out_c[:] = factors_n @ columns_nc + (out_c if adds else np.float32(0))


def add_tile_fetching(
    out, out_stride, factors, row_stride, step, columns, column_stride, depth, adds, num_rows, like,
    rows_NW, words, ids, num_lines,
):  # fmt: skip
    """The same, while the first `num_lines` cache lines of rows_NW[ids[0]], rows_NW[ids[1]], ... come nearer.

    At most one line a step is asked for; compiled, ids are read up to that of the last line asked for.
    """
    add_tile(out, out_stride, factors, row_stride, step, columns, column_stride, depth, adds, num_rows, like)


def put_transposed(source, stride, num_rows, target, target_stride):
    """target[c, r] <- source[r, c] of `BLOCK` rows and columns; beyond `num_rows` the last row stands for all."""
    for r in range(BLOCK):
        row = source[min(r, num_rows - 1) * stride :]
        for c in range(BLOCK):
            target[c * target_stride + r] = row[c]
