"""Comparisons of sixteen tags at once: which of them are equal, as bits of a number, the first tag's the lowest.

The intrinsics live at module level: kept in a closure they would defeat Numba's disk cache.
"""

# mypy: allow-untyped-defs

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from workers.jit import JIT_ENABLED, inlined_kernel
from workers.lanes import Lanes, spread

BLOCK = 16
"""Tags compared at once. All of them are read, so that many must lie behind the pointer."""
_I16, _I64 = ir.IntType(BLOCK), ir.IntType(64)


def _bits(builder, one, other):
    return builder.zext(builder.bitcast(builder.icmp_unsigned("==", one, other), _I16), _I64)


def _equal_pairs(typing_context, tags, start, other_start):
    if tags != types.CPointer(types.int32):
        return None

    def generate(context, builder, signature, args):
        one, other = (Lanes(context, builder, tags, args[0], args[i], BLOCK).load() for i in (1, 2))
        return _bits(builder, one, other)

    return types.int64(tags, types.int64, types.int64), generate


def _equal_to(typing_context, tags, start, tag):
    if not (tags == types.CPointer(types.int32) and tag == types.int32):
        return None

    def generate(context, builder, signature, args):
        values = Lanes(context, builder, tags, args[0], args[1], BLOCK).load()
        return _bits(builder, values, spread(builder, args[2], BLOCK))

    return types.int64(tags, types.int64, types.int32), generate


def _number(are_equal: np.ndarray) -> int:
    return int(np.packbits(are_equal, bitorder="little").view(np.uint16)[0])


def _equal_pairs_uncompiled(tags: np.ndarray, start: int, other_start: int) -> int:
    """Which of tags[start:] equal those in the same place of tags[other_start:]; int32 behind a pointer."""
    return _number(tags[start : start + BLOCK] == tags[other_start : other_start + BLOCK])


def _equal_to_uncompiled(tags: np.ndarray, start: int, tag: np.int32) -> int:
    """Which of tags[start:] equal the tag; int32 behind a pointer."""
    return _number(tags[start : start + BLOCK] == tag)


equal_pairs: Any = intrinsic(_equal_pairs) if JIT_ENABLED else _equal_pairs_uncompiled
equal_to: Any = intrinsic(_equal_to) if JIT_ENABLED else _equal_to_uncompiled


@inlined_kernel
def front(count):
    """The bits of the first `count` of a block's tags."""
    return (np.int64(1) << min(count, BLOCK)) - 1


@inlined_kernel
def has_repeats(tags, S):
    """Whether one of S tags, none below 0, occurs twice; overwrites `BLOCK` numbers after them."""
    for i in range(BLOCK):
        tags[S + i] = -1 - i  # equal to none
    found = np.int64(0)
    for i in range(0, S, BLOCK):
        for j in range(i + 1, S):
            found |= equal_pairs(tags, i, j)
    return found != 0


@inlined_kernel
def place_among(tags, S, tag):
    """Where a tag is among the first S; S if it is not."""
    for start in range(0, S, BLOCK):
        found = equal_to(tags, start, tag) & front(S - start)
        if found != 0:
            while tags[start] != tag:
                start += 1
            return start
    return S
