"""Prefetches of array elements inside kernels.

The intrinsics live at module level: kept in a closure they would defeat Numba's disk cache.
"""

# mypy: allow-untyped-defs

from typing import Any

from workers.jit import JIT_ENABLED
from workers.memory_units import LINE_BYTES

LINE_FLOATS = LINE_BYTES // 4
"""float32 values in a cache line."""
AHEAD_ROWS = 16
"""Where rows are taken one after the other, each is asked for so many rows before its turn."""
ALL_LEVELS, SECOND_LEVEL = 3, 2
"""Of the cache, where a line is wanted: in all of them, or not in the first."""

if JIT_ENABLED:
    from numba import types
    from numba.extending import intrinsic

    from workers.lanes import ask_for_line

    def _make(write: bool, locality: int) -> Any:
        def prefetch(typing_context, values, place):
            if not (isinstance(values, types.CPointer) or (isinstance(values, types.Array) and values.ndim == 1)):
                return None

            def generate(context, builder, signature, args):
                is_pointer = isinstance(values, types.CPointer)
                data = args[0] if is_pointer else context.make_array(values)(context, builder, args[0]).data
                ask_for_line(builder, builder.gep(data, [args[1]]), locality, write=write)
                return context.get_dummy_value()

            return types.void(values, types.int64), generate

        return intrinsic(prefetch)

    prefetch_read = _make(False, ALL_LEVELS)
    """prefetch_read(values, place): ask for the cache line of values[place], into all levels of the cache.

    The values are contiguous, in an array or behind a pointer; the place may lie outside of them.
    """
    prefetch_write = _make(True, ALL_LEVELS)
    """The same, with the intent to write it."""
    prefetch_near = _make(False, SECOND_LEVEL)
    """The same into the second level only, where it does not push out what the first level holds."""
else:

    def prefetch_read(values: Any, place: Any) -> None:
        """Nothing to fetch ahead in plain Python."""

    prefetch_write = prefetch_near = prefetch_read
