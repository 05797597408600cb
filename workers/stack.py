"""A few numbers in a kernel's own stack frame: what one loop leaves for the next, without memory to be passed in.

The intrinsics live at module level: kept in a closure they would defeat Numba's disk cache.
"""

# mypy: allow-untyped-defs

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workers.jit import JIT_ENABLED


def _make(of: types.Type) -> Any:
    def stacked(typing_context, count):
        if not isinstance(count, types.IntegerLiteral):
            return None

        def generate(context, builder, signature, args):
            size = ir.IntType(64)(count.literal_value)
            return cgutils.alloca_once(builder, context.get_value_type(of), size=size, zfill=False)

        return types.CPointer(of)(count), generate

    return intrinsic(stacked)


if JIT_ENABLED:
    stacked_uint64: Any = _make(types.uint64)
    """stacked_uint64(count): a pointer to so many numbers, a constant, with arbitrary contents."""
    stacked_uint32: Any = _make(types.uint32)
    """The same of uint32."""
else:

    def stacked_uint64(count: int) -> np.ndarray:
        """So many numbers."""
        return np.empty(count, np.uint64)

    def stacked_uint32(count: int) -> np.ndarray:
        """So many numbers."""
        return np.empty(count, np.uint32)
