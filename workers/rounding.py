"""Noise for rounding at random: a table of it, and where in it the rounding of a row starts.

See `workers.rows` for why, `vectors.put` for how.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.counters import random_bits
from workers.jit import inlined_kernel

NOISE_WORDS = 1024
"""Places in the table; a power of two."""

_MASK, _BITS = np.uint64(NOISE_WORDS - 1), np.uint64(NOISE_WORDS.bit_length() - 1)
_SIXTEEN, _TWO, _THREE = np.uint32(16), np.uint64(2), np.uint64(3)


def rounding_noise(dim: int, seed: int = 0) -> np.ndarray:
    """Random words for `vectors.put`: two numbers of 16 bits each, from any of `NOISE_WORDS` places on.

    Both are evenly spread over [0, 2**16), so that over all places their mean is exactly a half: rounding has no drift.
    They stand 64 apart, a 1024th of a value's last bit: an update of less than half of that is lost. It is 4e-6 of the
    value or less, where float32 itself loses what is below 6e-8.

    Returns:
        uint32 `[NOISE_WORDS + D/2]`; the end repeats the start, so that a row may begin at every place.
    """
    rng = np.random.default_rng(seed)
    step = (1 << 16) // NOISE_WORDS
    levels = np.arange(NOISE_WORDS, dtype=np.uint32) * np.uint32(step) + np.uint32(step // 2)
    words = rng.permutation(levels) | (rng.permutation(levels) << _SIXTEEN)
    return np.resize(words, NOISE_WORDS + dim // 2)


@inlined_kernel
def noise_start(key, counter):
    """A random place in the table."""
    return np.int64(random_bits(key, np.uint64(counter)) & _MASK)


@inlined_kernel
def noise_starts(key, counter):
    """Four random places, the first of which is `noise_start`'s."""
    bits = random_bits(key, np.uint64(counter))
    return (
        np.int64(bits & _MASK),
        np.int64((bits >> _BITS) & _MASK),
        np.int64((bits >> (_BITS * _TWO)) & _MASK),
        np.int64((bits >> (_BITS * _THREE)) & _MASK),
    )
