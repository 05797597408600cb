"""The words of `workers.vectors` in plain NumPy: what they mean, and what runs when nothing is compiled."""

# mypy: allow-untyped-defs

import numpy as np

LOW_BITS, HIGH_BITS = np.uint32(0x0000FFFF), np.uint32(0xFFFF0000)
"""The two columns in a word of a bfloat16 row, see `workers.rows`."""
_SIXTEEN = np.uint32(16)


def zeros(width):
    """A vector of zeros; the `like` of other words."""
    return np.zeros(width, np.float32)


def row_of(shared, copies, place, words):
    """shared[place], or copies[-1 - place] if the place is negative; `words` is the length of a row.

    Compiled it is a pointer: a choice between two arrays would count references, at an atomic operation each.
    """
    return copies[-1 - place] if place < 0 else shared[place]


def values_from(array, place):
    """array[place:] of one dimension, array[place] of two.

    Compiled it is a pointer, whose indexes are not negative: to allow for that costs three operations at every use.
    """
    return array[place:] if array.ndim == 1 else array[place]


def load(array, start, like):
    """The float32 values array[start:], as many as `like` has."""
    return array[start : start + len(like)].copy()


def store(array, start, vector):
    """Write a vector to array[start:]."""
    array[start : start + len(vector)] = vector


def load_front(array, start, count, like):
    """The first `count` of the values that `load` reads, then zeros; memory after them is not touched."""
    count = max(0, min(count, len(like)))
    vector = np.zeros(len(like), np.float32)
    vector[:count] = array[start : start + count]
    return vector


def store_front(array, start, count, vector):
    """Write the first `count` values of a vector to array[start:]."""
    count = max(0, min(count, len(vector)))
    array[start : start + count] = vector[:count]


def low(row, start, like):
    """Columns from `start`, below D/2, of a row of either form."""
    values = row[start : start + len(like)]
    return (values << _SIXTEEN).view(np.float32) if row.dtype == np.uint32 else values.copy()


def high(row, start, half, like):
    """Columns from `start + half` of a row of either form; `half` is D/2."""
    if row.dtype == np.uint32:
        return (row[start : start + len(like)] & HIGH_BITS).view(np.float32)
    return row[start + half : start + half + len(like)].copy()


def put(row, start, half, low, high, noise, noise_start):
    """Write both halves of a row of either form; bfloat16 is rounded by 16 random bits a value, of noise[noise_start:].

    The random bits are added below the last bit that is kept, and what then is below it is cut off: a value goes up
    with a probability that is its distance from the lower neighbour, so that its mean stays what it is.
    """
    if row.dtype == np.uint32:
        random = noise[noise_start : noise_start + len(low)]
        low_bits = low.view(np.uint32) + (random & LOW_BITS)
        high_bits = high.view(np.uint32) + (random >> _SIXTEEN)
        row[start : start + len(low)] = (low_bits >> _SIXTEEN) | (high_bits & HIGH_BITS)
    else:
        row[start : start + len(low)] = low
        row[start + half : start + half + len(high)] = high


def alone(value, like):
    """A vector of the value, then zeros."""
    vector = np.zeros(len(like), np.float32)
    vector[0] = value
    return vector


def put_totals(array, start, a, b, c, d):
    """Write the totals of four vectors to array[start:]."""
    array[start : start + 4] = total(a), total(b), total(c), total(d)


def fma(factor, vector, addend):
    """factor * vector + addend, the factor a scalar or a vector. Compiled it is rounded once, here twice."""
    return factor * vector + addend


def scaled(factor, vector):
    """The scalar times the vector."""
    return factor * vector


def total(vector):
    """The sum of a vector's values."""
    return vector.sum(dtype=np.float32)
