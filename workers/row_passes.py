"""The two passes of the private kernel over an example's rows, each of which fetches its share of the next example's.

`places` and `next_places` are pointers to where rows are (`workers.hot_rows`), of this example and of the next. Words
of a row up to `early` are fetched in the first pass, the others in the second. `key` and `first` choose the random
numbers that round bfloat16 rows, which have half as many words as columns.

Legend: S slots of an example, A of them that have a gradient.
"""

# mypy: allow-untyped-defs

from workers.fetching import fetch_four, fetch_rows, fetch_state
from workers.jit import inlined_kernel
from workers.rounding import noise_start, noise_starts
from workers.row_blocks import bound, dot, dot_four, update, update_four
from workers.row_optimizers import accumulate, step_size
from workers.tags import BIAS, BIAS_ACC, ROW_ACC
from workers.vectors import row_of

_NO_STARTS = (0, 0, 0, 0)


@inlined_kernel
def _four_rows(tags, hot, places, i, words):
    return (
        row_of(tags.rows_NS, hot.rows_HS, places[i], words),
        row_of(tags.rows_NS, hot.rows_HS, places[i + 1], words),
        row_of(tags.rows_NS, hot.rows_HS, places[i + 2], words),
        row_of(tags.rows_NS, hot.rows_HS, places[i + 3], words),
    )


@inlined_kernel
def _bias(tags, hot, place):
    return row_of(tags.tag_state_N4, hot.state_H4, place, 4)[BIAS]


@inlined_kernel
def _four_biases(tags, hot, places, i):
    return (
        _bias(tags, hot, places[i]),
        _bias(tags, hot, places[i + 1]),
        _bias(tags, hot, places[i + 2]),
        _bias(tags, hot, places[i + 3]),
    )


@inlined_kernel
def score_rows(tags, hot, words, places, S, next_places, num_next, early, f, half, likes, scores):
    """The first pass: scores of S rows, while words up to `early` of the next example's rows are fetched."""
    whole = S & ~3
    for i in range(0, whole, 4):
        fetch_four(tags, hot, words, next_places, i, 0, early)
        fetch_state(tags, hot, next_places, i, i + 4)
        biases = _four_biases(tags, hot, places, i)
        dot_four(_four_rows(tags, hot, places, i, words), f, half, likes, biases, scores, i)
    fetch_rows(tags, hot, words, next_places, whole, num_next, 0, early)
    fetch_state(tags, hot, next_places, whole, num_next)
    for i in range(whole, S):
        row = row_of(tags.rows_NS, hot.rows_HS, places[i], words)
        scores[i] = dot(row, f, half, likes, _bias(tags, hot, places[i]))


@inlined_kernel
def move_state(tags, hot, rule, places, grads, square, first, stop, moves):
    """Move biases and accumulators of some slots; find how far their rows go along the features.

    Args:
        square: mean square of the features.
    """
    for i in range(first, stop):
        grad, state = grads[i], row_of(tags.tag_state_N4, hot.state_H4, places[i], 4)
        state[ROW_ACC] = accumulate(rule.optimizer, state[ROW_ACC], grad * grad * square)
        state[BIAS_ACC] = accumulate(rule.optimizer, state[BIAS_ACC], grad * grad)
        state[BIAS] -= step_size(rule, state[BIAS_ACC]) * grad
        moves[i] = -grad * step_size(rule, state[ROW_ACC])


@inlined_kernel
def move_four(tags, hot, words, places, grads, moves, i, keep, key, first, next_places, early, f, g, half, likes):
    """Part of the second pass: four rows and the feature gradient, while the rest of four next rows is fetched."""
    fetch_four(tags, hot, words, next_places, i, early, words)
    rows = _four_rows(tags, hot, places, i, words)
    starts = noise_starts(key, first + i) if words == half else _NO_STARTS
    update_four(rows, f, g, half, likes, grads, moves, i, keep, tags.noise, starts)


@inlined_kernel
def move_rest(tags, hot, words, places, grads, moves, whole, A, keep, key, first, f, g, half, likes):
    """The end of the second pass: rows that are too few for four."""
    for i in range(whole, A):
        row = row_of(tags.rows_NS, hot.rows_HS, places[i], words)
        at = noise_start(key, first + i) if words == half else 0
        update(row, f, g, half, likes, grads[i], moves[i], keep, tags.noise, at)


@inlined_kernel
def bound_rows(tags, hot, words, places, A, max_norm, key, first, half, likes):
    """Shorten the A rows that are longer than `max_norm`."""
    for i in range(A):
        row = row_of(tags.rows_NS, hot.rows_HS, places[i], words)
        at = noise_start(key, -1 - first - i) if words == half else 0
        bound(row, half, likes, max_norm, tags.noise, at)
