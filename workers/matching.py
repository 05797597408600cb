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

TAGS_AT_ONCE = 16
"""Tags compared at once. All of them are read, so that many must lie behind the pointer."""
_I16, _I64 = ir.IntType(TAGS_AT_ONCE), ir.IntType(64)


def _equal_to(typing_context, tags, start, tag):
    if not (tags == types.CPointer(types.int32) and tag == types.int32):
        return None

    def generate(context, builder, signature, args):
        values = Lanes(context, builder, tags, args[0], args[1], TAGS_AT_ONCE).load()
        are_equal = builder.icmp_unsigned("==", values, spread(builder, args[2], TAGS_AT_ONCE))
        return builder.zext(builder.bitcast(are_equal, _I16), _I64)

    return types.int64(tags, types.int64, types.int32), generate


def _equal_to_uncompiled(tags: np.ndarray, start: int, tag: np.int32) -> int:
    """Which of tags[start:] equal the tag; int32 behind a pointer."""
    are_equal = tags[start : start + TAGS_AT_ONCE] == tag
    return int(np.packbits(are_equal, bitorder="little").view(np.uint16)[0])


equal_to: Any = intrinsic(_equal_to) if JIT_ENABLED else _equal_to_uncompiled


@inlined_kernel
def front(count):
    """The bits of the first `count` of a block's tags."""
    return (np.int64(1) << min(count, TAGS_AT_ONCE)) - 1


@inlined_kernel
def place_among(tags, S, tag):
    """Where a tag is among the first S; S if it is not."""
    for start in range(0, S, TAGS_AT_ONCE):
        found = equal_to(tags, start, tag) & front(S - start)
        if found != 0:
            while tags[start] != tag:
                start += 1
            return start
    return S
