"""Random numbers as a function of a key: splitmix64 evaluated at a counter.

The key comes from (seed, step, chunk, stream), so that what a chunk draws does not depend on who computes it, or on
when.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), figure 17.
"""

# mypy: allow-untyped-defs

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from workers.jit import JIT_ENABLED, inlined_kernel, kernel

NEGATIVES, POSITIVES, ROUNDING, FRESH_ROWS = 1, 2, 3, 4
"""Streams: numbers of one (seed, step, chunk) that must not depend on each other."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: its multiples lie far apart, and their high bits depend on all bits of the factor."""
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_U27, _U30, _U31, _U32 = (np.uint64(number) for number in (27, 30, 31, 32))
_LOW_32, _FIRST = np.uint64(0xFFFFFFFF), np.uint64(0)
_I128 = ir.IntType(128)


@kernel
def random_bits(key, counter):
    """The 64 random bits of `key` (uint64) at `counter` (uint64)."""
    z = key + (counter + np.uint64(1)) * GOLDEN
    z = (z ^ (z >> _U30)) * _MIX_1
    z = (z ^ (z >> _U27)) * _MIX_2
    return z ^ (z >> _U31)


def _below(typing_context, bits, limit):
    if not bits == limit == types.uint64:
        return None

    def generate(context, builder, signature, args):
        wide = [builder.zext(arg, _I128) for arg in args]
        return builder.trunc(builder.lshr(builder.mul(*wide), _I128(64)), args[0].type)

    return types.uint64(bits, limit), generate


def _below_uncompiled(bits: np.uint64, limit: np.uint64) -> np.uint64:
    """The high half of bits * limit, both uint64: uniform on [0, limit) for uniform bits, but for limit / 2**64."""
    return np.uint64((int(bits) * int(limit)) >> 64)


below: Any = intrinsic(_below) if JIT_ENABLED else _below_uncompiled


@inlined_kernel
def below_32(bits, limit):
    """The same for a limit of at most 32 bits, from products that vectors of 64 bits can hold."""
    return ((bits >> _U32) * limit + (((bits & _LOW_32) * limit) >> _U32)) >> _U32


def stream_key(seed: int, step: int, chunk: int, stream: int) -> np.uint64:
    """The key of one stream of draws.

    Args:
        seed: of the run, 0 to 2**64 - 1.
        step: of the trunk, at least 0.
        chunk: within the step, at least 0.
        stream: `NEGATIVES`, `POSITIVES`, `ROUNDING` or `FRESH_ROWS`.
    """
    return np.uint64(key_of(np.uint64(seed), np.uint64(step), np.uint64(chunk), np.uint64(stream)))


@kernel
def key_of(seed, step, chunk, stream):
    """`stream_key` inside kernels, all uint64."""
    key = random_bits(seed, _FIRST)
    key = random_bits(key ^ step, _FIRST)
    key = random_bits(key ^ chunk, _FIRST)
    return random_bits(key ^ stream, _FIRST)


@inlined_kernel
def stream_key_of(seed, step, chunk, stream):
    """The same of whole numbers of other types, not below 0."""
    return key_of(np.uint64(seed), np.uint64(step), np.uint64(chunk), np.uint64(stream))
