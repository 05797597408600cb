"""Random numbers as a function of a key: splitmix64 evaluated at a counter.

The key comes from (seed, step, chunk, stream), so that what a chunk draws does not depend on who computes it, or on
when.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), figure 17.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.jit import kernel

NEGATIVES, POSITIVES, ROUNDING, FRESH_ROWS = 1, 2, 3, 4
"""Streams: numbers of one (seed, step, chunk) that must not depend on each other."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GOLDEN_INT, _MIX_1_INT, _MIX_2_INT = int(_GOLDEN), int(_MIX_1), int(_MIX_2)
_U27, _U30, _U31, _U32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_LOW_32 = np.uint64(0xFFFFFFFF)
_MASK_64 = (1 << 64) - 1


@kernel
def random_bits(key, counter):
    """The 64 random bits of `key` (uint64) at `counter` (uint64)."""
    z = key + (counter + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> _U30)) * _MIX_1
    z = (z ^ (z >> _U27)) * _MIX_2
    return z ^ (z >> _U31)


@kernel
def below(bits, limit):
    """The high half of bits * limit: uniform on [0, limit) for uniform 64 bits and a limit of less than 2**31."""
    low = ((bits & _LOW_32) * limit) >> _U32
    return ((bits >> _U32) * limit + low) >> _U32


def stream_key(seed: int, step: int, chunk: int, stream: int) -> np.uint64:
    """The key of one stream of draws.

    Args:
        seed: of the run.
        step: of the trunk.
        chunk: within the step.
        stream: `NEGATIVES`, `POSITIVES`, `ROUNDING` or `FRESH_ROWS`.
    """
    key = 0
    for part in (seed, step, chunk, stream):
        key = _splitmix(key ^ (part & _MASK_64))
    return np.uint64(key)


def _splitmix(state: int) -> int:
    z = (state + _GOLDEN_INT) & _MASK_64
    z = ((z ^ (z >> 30)) * _MIX_1_INT) & _MASK_64
    z = ((z ^ (z >> 27)) * _MIX_2_INT) & _MASK_64
    return z ^ (z >> 31)
