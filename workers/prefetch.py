"""Prefetches of array elements inside kernels.

The intrinsics live at module level: kept in a closure they would defeat Numba's disk cache.
"""

# mypy: allow-untyped-defs

from typing import Any

from workers.jit import JIT_ENABLED

LINE_FLOATS = 16
"""float32 values in a cache line of 64 bytes."""
AHEAD_ROWS = 16
"""Where rows are taken one after the other, each is asked for so many rows before its turn."""

if JIT_ENABLED:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    def _make(write: int, locality: int) -> Any:
        def prefetch(typing_context, values, place):
            if not (isinstance(values, types.CPointer) or (isinstance(values, types.Array) and values.ndim == 1)):
                return None

            def generate(context, builder, signature, args):
                byte_pointer, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
                is_pointer = isinstance(values, types.CPointer)
                data = args[0] if is_pointer else context.make_array(values)(context, builder, args[0]).data
                address = builder.bitcast(builder.gep(data, [args[1]]), byte_pointer)
                function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, i32, i32, i32])
                function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
                builder.call(function, [address, i32(write), i32(locality), i32(1)])  # data
                return context.get_dummy_value()

            return types.void(values, types.int64), generate

        return intrinsic(prefetch)

    prefetch_read = _make(0, 3)
    """prefetch_read(values, place): ask for the cache line of values[place], into all levels of the cache.

    The values are contiguous, in an array or behind a pointer; the place may lie outside of them.
    """
    prefetch_write = _make(1, 3)
    """The same, with the intent to write it."""
    prefetch_near = _make(0, 2)
    """The same into the second level only, where it does not push out what the first level holds."""
else:

    def prefetch_read(values: Any, place: Any) -> None:
        """Nothing to fetch ahead in plain Python."""

    prefetch_write = prefetch_near = prefetch_read
