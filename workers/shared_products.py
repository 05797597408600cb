"""The three matrix products of the kernel with shared negatives.

    scores = R F^T                  while the rows R come from memory
    feature gradient = C^T R
    row gradient = C F

Each goes by tiles (`workers.tiles`), whose sums stay in registers. No BLAS is called: the order of a product's terms
depends on its shape alone, and equal chunks give equal bits on every machine.

Copies of rows, scores and their gradients must be the front of memory for `whole_tiles(K)` rows: tiles read all of it,
whatever it holds. Of scores they also read behind the last row, less than a block of columns.

`D`, the `words` of a stored row and the widths of `likes` are constants where these functions are inlined.

Legend: N tags, W words of a stored row, B examples, D dim, K slots of distinct negatives, X columns of scores:
`whole_blocks(B)`.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.jit import inlined_kernel
from workers.objectives import negative_weight, times
from workers.prefetch import AHEAD_ROWS, LINE_FLOATS, prefetch_read
from workers.row_blocks import copy
from workers.shared_work import COLUMNS, DEPTH
from workers.slots import MASKED
from workers.tags import BIAS, LOG_Q
from workers.tiles import TILE_ROWS, add_tile, add_tile_fetching, put_transposed
from workers.vectors import length, load, store, values_from, zeros
from workers.widths import BLOCK

_HALF_BLOCK = BLOCK // 2
_NEAR_BYTES = 256 << 20
"""Rows are prefetched line by line among the steps of a tile, which costs next to nothing. Those of a larger matrix
mostly miss the TLB, even with huge pages, and each page walk would hold up the steps behind it. So many of them are
touched at once before: then their page walks overlap."""
_TOUCHED_TOGETHER = 128 // TILE_ROWS * TILE_ROWS
"""Such rows: a third of the first level of the cache, with a line of each and one of its state."""
_MANY = 64
"""From so many examples on it pays to copy what tiles read from rows far apart: one line of each of 128 rows that are
a power of two long all belong into the same few places of the first level."""
_ROWS_TOGETHER = 64 // TILE_ROWS * TILE_ROWS  # that go through a stripe of the features before the next stripe comes


def whole_tiles(num_rows: int) -> int:
    """`num_rows`, rounded up to what tiles read."""
    return -(-num_rows // TILE_ROWS) * TILE_ROWS


def whole_blocks(num_examples: int) -> int:
    """`num_examples`, rounded up to the columns of scores."""
    return -(-num_examples // BLOCK) * BLOCK


@inlined_kernel
def _pack(features_BD, packed, D, X):
    """Write features by blocks of `COLUMNS` examples, the last perhaps of half as many, each block transposed."""
    B, features, whole = len(features_BD), features_BD.reshape(-1), D // BLOCK * BLOCK
    for b in range(0, X, BLOCK):
        first = b // COLUMNS * COLUMNS
        stride, start = min(COLUMNS, X - first), first * D + b - first
        for d in range(0, whole, BLOCK):
            source, target = values_from(features, b * D + d), values_from(packed, start + d * stride)
            put_transposed(source, D, B - b, target, stride)
            for i in range(BLOCK, 2 * BLOCK):  # of the next block; beyond the last example in vain
                prefetch_read(source, i * D)
        for d in range(whole, D):
            for i in range(BLOCK):
                packed[start + d * stride + i] = features[min(b + i, B - 1) * D + d]


@inlined_kernel
def _fetch_states(tag_state_N4, ids, first, stop):
    for k in range(first, stop):
        prefetch_read(values_from(tag_state_N4, ids[k]), 0)


@inlined_kernel
def _fetch_rows(rows_NW, ids, first, stop, words):
    for k in range(first, stop):
        for j in range(0, words, LINE_FLOATS):
            prefetch_read(values_from(rows_NW, ids[k]), j)


@inlined_kernel
def _touch_rows(rows_NW, tag_state_N4, ids, first, stop):
    """Ask for the first line of rows and for their states, so that their pages are known when the rest is asked for."""
    for k in range(first, stop):
        prefetch_read(values_from(rows_NW, ids[k]), 0)
        prefetch_read(values_from(tag_state_N4, ids[k]), 0)


@inlined_kernel
def _score_tile(scores, X, rows, D, num_rows, features, stride, like, rows_NW, words, ids, num_lines):
    """Scores of a tile's rows with a block of examples, while lines are fetched; if there are none, in other code."""
    if num_lines > 0:
        add_tile_fetching(
            scores, X, rows, D, 1, features, stride, D, False, num_rows, like, rows_NW, words, ids, num_lines
        )  # fmt: skip
    else:
        add_tile(scores, X, rows, D, 1, features, stride, D, False, num_rows, like)


@inlined_kernel
def score_rows(tags, loss, features_BD, plan, work, D, words, likes):
    """Copy the rows of negatives, of either form, with their biases; find their weights and scores without biases.

    Columns of scores beyond B are masked.
    """
    rows_NW, tag_state_N4, half, row_lines = tags.rows_NS, tags.tag_state_N4, D // 2, -(-words // LINE_FLOATS)
    (K, X), B = work.scores_KX.shape, len(features_BD)
    block, half_block, neg_ids = zeros(BLOCK), zeros(_HALF_BLOCK), plan.ids_S[:K]
    rows, scores, packed = work.rows_KD.reshape(-1), work.scores_KX.reshape(-1), work.packed
    is_far = rows_NW.size * np.int64(4) > _NEAR_BYTES
    _fetch_states(tag_state_N4, neg_ids, 0, min(AHEAD_ROWS, K))
    if is_far:
        _touch_rows(rows_NW, tag_state_N4, neg_ids, min(AHEAD_ROWS, K), min(AHEAD_ROWS + TILE_ROWS, K))
    _fetch_rows(rows_NW, neg_ids, 0, min(AHEAD_ROWS, K), words)
    _pack(features_BD, packed, D, X)
    for first in range(0, K, TILE_ROWS):
        stop, ahead = min(first + TILE_ROWS, K), min(first + AHEAD_ROWS, K)
        ahead_stop = min(stop + AHEAD_ROWS, K)
        if not is_far:
            _fetch_states(tag_state_N4, neg_ids, ahead, ahead_stop)
        elif first % _TOUCHED_TOGETHER == 0:
            _touch_rows(rows_NW, tag_state_N4, neg_ids, ahead_stop, min(ahead_stop + _TOUCHED_TOGETHER, K))
        num_lines = (ahead_stop - ahead) * row_lines
        for k in range(first, stop):
            copy(values_from(rows_NW, neg_ids[k]), values_from(work.rows_KD, k), half, likes)
            state = values_from(tag_state_N4, neg_ids[k])
            weight = negative_weight(loss.objective, loss.negative_weight, loss.num_drawn, state[LOG_Q])
            work.bias_K[k] = state[BIAS]
            work.weight_K[k] = times(loss.objective, weight, plan.multiplicity_K[k])
        tile, ids, num = values_from(rows, first * D), values_from(neg_ids, ahead), stop - first
        for b in range(0, X, COLUMNS):
            out, features = values_from(scores, first * X + b), values_from(packed, b * D)
            lines = num_lines if b == 0 else np.int64(0)
            if X - b >= COLUMNS:
                _score_tile(out, X, tile, D, num, features, COLUMNS, block, rows_NW, words, ids, lines)
            else:
                _score_tile(out, X, tile, D, num, features, BLOCK, half_block, rows_NW, words, ids, lines)
    if X > B:
        work.scores_KX[:, B:] = MASKED


@inlined_kernel
def _gather_stripe(rows, D, first, depth, d, stripe):
    """Columns of a tile, from d on, of the rows from `first` on, one after the other."""
    like = zeros(BLOCK)
    for n in range(depth):
        source, target = values_from(rows, (first + n) * D + d), values_from(stripe, n * COLUMNS)
        store(target, 0, load(source, 0, like))
        store(target, BLOCK, load(source, BLOCK, like))


@inlined_kernel
def _feature_stripe(grads, X, columns, stride, D, first, depth, out, B, d, like):
    """Columns from d on of the feature gradient, two vectors of them, plus the part of rows from `first` on."""
    for b in range(0, B, TILE_ROWS):
        tile, factors = values_from(out, b * D + d), values_from(grads, first * X + b)
        add_tile(tile, D, factors, 1, X, columns, stride, depth, first > 0, B - b, like)


@inlined_kernel
def feature_gradients(grads_KX, rows_KD, feature_grad_BD, stripe, D):
    """feature_grad_BD <- C^T R, where C are the first B columns. `stripe`: see `shared_work.SharedWork`."""
    (K, X), B, whole = grads_KX.shape, len(feature_grad_BD), D // COLUMNS * COLUMNS
    grads, rows, out = grads_KX.reshape(-1), rows_KD.reshape(-1), feature_grad_BD.reshape(-1)
    for k in range(0, K, DEPTH):
        depth, start = min(DEPTH, K - k), k * D
        for d in range(0, whole, COLUMNS):
            columns, stride = values_from(rows, start + d), D
            if B >= _MANY:
                _gather_stripe(rows, D, k, depth, d, stripe)
                columns, stride = values_from(stripe, 0), COLUMNS
            _feature_stripe(grads, X, columns, stride, D, k, depth, out, B, d, zeros(BLOCK))
        if D & 16:
            columns = values_from(rows, start + whole)
            _feature_stripe(grads, X, columns, D, D, k, depth, out, B, whole, zeros(_HALF_BLOCK))
        if D & 8:
            columns = values_from(rows, start + whole + (D & 16))
            _feature_stripe(grads, X, columns, D, D, k, depth, out, B, whole + (D & 16), zeros(4))
        if D & 4:
            columns = values_from(rows, start + whole + (D & 24))
            _feature_stripe(grads, X, columns, D, D, k, depth, out, B, whole + (D & 24), zeros(2))


@inlined_kernel
def _pack_stripe(features_BD, packed, d, like):
    """Two vectors of columns from d on of all examples, one after the other; stripe d starts at d times B."""
    (B, D), width = features_BD.shape, length(like)
    for b in range(B):
        source, target = values_from(features_BD, b), values_from(packed, d * B + b * 2 * width)
        prefetch_read(source, AHEAD_ROWS * D + d)
        prefetch_read(source, AHEAD_ROWS * D + d + width)
        store(target, 0, load(source, d, like))
        store(target, width, load(source, d + width, like))


@inlined_kernel
def _row_stripe(grads, X, packed, B, D, out, first, stop, d, like):
    """Columns from d on of the gradients of some rows, two vectors of them."""
    for k in range(first, stop, TILE_ROWS):
        tile, factors, columns = values_from(out, k * D + d), values_from(grads, k * X), values_from(packed, d * B)
        add_tile(tile, D, factors, X, 1, columns, 2 * length(like), B, False, stop - k, like)


@inlined_kernel
def row_gradients(grads_KX, features_BD, packed, row_grads_KD, D):
    """row_grads_KD <- C F, where C are the first B columns. `packed` is memory for the features."""
    (K, X), B, whole = grads_KX.shape, len(features_BD), D // COLUMNS * COLUMNS
    grads, out = grads_KX.reshape(-1), row_grads_KD.reshape(-1)
    for d in range(0, whole, COLUMNS):
        _pack_stripe(features_BD, packed, d, zeros(BLOCK))
    if D & 16:
        _pack_stripe(features_BD, packed, whole, zeros(_HALF_BLOCK))
    if D & 8:
        _pack_stripe(features_BD, packed, whole + (D & 16), zeros(4))
    if D & 4:
        _pack_stripe(features_BD, packed, whole + (D & 24), zeros(2))
    for k in range(0, K, _ROWS_TOGETHER):
        stop = min(k + _ROWS_TOGETHER, K)
        for d in range(0, whole, COLUMNS):
            _row_stripe(grads, X, packed, B, D, out, k, stop, d, zeros(BLOCK))
        if D & 16:
            _row_stripe(grads, X, packed, B, D, out, k, stop, whole, zeros(_HALF_BLOCK))
        if D & 8:
            _row_stripe(grads, X, packed, B, D, out, k, stop, whole + (D & 16), zeros(4))
        if D & 4:
            _row_stripe(grads, X, packed, B, D, out, k, stop, whole + (D & 24), zeros(2))
