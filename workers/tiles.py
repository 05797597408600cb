"""Tiles of matrix products that stay in registers, and transposed blocks.

A tile is `TILE_ROWS` rows by two vectors of a product. Its sums stay in registers along the product's depth: with
AVX-512 each step loads two vectors and eight numbers for sixteen multiply-adds, which are enough, and independent
enough, to hide their latency. Where there are half as many registers of half the width, a tile has twelve rows and is
computed in four parts: six rows by one vector, which is two registers there, are twelve sums and leave four.

BLAS is made for large products: it copies both sides first, and memory is idle meanwhile. Here one side is some
kilobytes, and while a tile is computed, `add_tile_fetching` prefetches other rows of the matrix, a cache line a step.

Source: Goto, van de Geijn, "Anatomy of high-performance matrix multiplication" (2008), section 4.
"""

# mypy: allow-untyped-defs

from typing import Any

from workers import tiles_uncompiled
from workers.jit import JIT_ENABLED
from workers.widths import BLOCK

if JIT_ENABLED:
    import numba
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.core.codegen import get_host_cpu_features
    from numba.extending import intrinsic

    from workers.lanes import Lanes, ask_for_line, call_llvm, shuffled, spread
    from workers.prefetch import ALL_LEVELS, LINE_FLOATS
    from workers.vectors import VectorType

    _I64 = ir.IntType(64)
    _VECTORS = 2
    _config: Any = numba.config
    _features = get_host_cpu_features() if _config.CPU_FEATURES is None else _config.CPU_FEATURES  # as Numba has it
    TILE_ROWS, _PART_ROWS, _PART_VECTORS = (8, 8, _VECTORS) if "+avx512f" in _features else (12, 6, 1)

    class _Part:
        """Some rows and vectors of a tile, whose sums fit into registers."""

        def __init__(self, context, builder, signature, args, row: int, vector: int) -> None:
            self._context, self._builder, self._types = context, builder, signature.args
            self._out, self._out_stride, self._factors, self._row_stride, self._step = args[:5]
            self._columns, self._column_stride, self._depth, self._adds, self._num_rows = args[5:10]
            self._width = signature.args[10].width
            self._vector = ir.VectorType(ir.FloatType(), self._width)
            self._rows = range(row, row + _PART_ROWS)
            self._starts = [_I64(self._width * v) for v in range(vector, vector + _PART_VECTORS)]

        def compute(self, fetch=None) -> None:
            """Write its code, with that of `fetch(step)` in each step."""
            builder = self._builder
            sums = [[cgutils.alloca_once(builder, self._vector) for _ in self._starts] for _ in self._rows]
            for place in (place for row in sums for place in row):
                builder.store(ir.Constant(self._vector, None), place)
            with builder.if_then(self._adds):
                self._move(sums, lambda place, out: builder.store(out.load(), place))
            factors = [builder.gep(self._factors, [builder.mul(self._row_stride, _I64(row))]) for row in self._rows]
            with cgutils.for_range(builder, self._depth) as loop:
                self._add_step(loop.index, factors, sums)
                if fetch is not None:
                    fetch(loop.index)
            self._move(sums, lambda place, out: out.store(builder.load(place)))

        def _add_step(self, step, factors, sums) -> None:
            builder, first = self._builder, self._builder.mul(step, self._column_stride)
            columns = [self._lanes(5, self._columns, first, start).load() for start in self._starts]
            for row_factors, row_sums in zip(factors, sums, strict=True):
                factor = builder.load(builder.gep(row_factors, [builder.mul(step, self._step)]))
                factor = spread(builder, factor, self._width)
                for column, place in zip(columns, row_sums, strict=True):
                    total = call_llvm(builder, "fma", self._vector, [factor, column, builder.load(place)])
                    builder.store(total, place)

        def _move(self, sums, move) -> None:
            """Call `move` with each vector of sums and its place in the product, in rows that are part of it."""
            builder = self._builder
            for row, row_sums in zip(self._rows, sums, strict=True):
                with builder.if_then(builder.icmp_signed("<", _I64(row), self._num_rows)):
                    first = builder.mul(self._out_stride, _I64(row))
                    for start, place in zip(self._starts, row_sums, strict=True):
                        move(place, self._lanes(0, self._out, first, start))

        def _lanes(self, argument: int, array, first, offset):
            return Lanes(self._context, self._builder, self._types[argument], array, first, self._width, offset)

    def _compute_tile(context, builder, signature, args, fetch=None):
        num_rows = args[9]
        for row in range(0, TILE_ROWS, _PART_ROWS):
            with builder.if_then(builder.icmp_signed("<", _I64(row), num_rows)):
                for vector in range(0, _VECTORS, _PART_VECTORS):
                    is_first = row == vector == 0
                    _Part(context, builder, signature, args, row, vector).compute(fetch if is_first else None)
        return context.get_dummy_value()

    def _tile_types(out, factors, columns, like):
        """Types of the arguments of a tile; None if they are others."""
        pointer, size = types.CPointer(types.float32), types.int64
        if not (out == factors == columns == pointer and isinstance(like, VectorType)):
            return None
        return out, size, factors, size, size, columns, size, size, types.boolean, size, like

    def _add_tile(
        typing_context, out, out_stride, factors, row_stride, step, columns, column_stride, depth, adds, num_rows, like
    ):  # fmt: skip
        taken = _tile_types(out, factors, columns, like)
        return None if taken is None else (types.void(*taken), _compute_tile)

    def _add_tile_fetching(
        typing_context, out, out_stride, factors, row_stride, step, columns, column_stride, depth, adds, num_rows, like,
        rows_NW, words, ids, num_lines,
    ):  # fmt: skip
        taken = _tile_types(out, factors, columns, like)
        if taken is None or not (isinstance(rows_NW, types.Array) and rows_NW.layout == "C" and rows_NW.ndim == 2):
            return None

        def generate(context, builder, signature, args):
            matrix = context.make_array(rows_NW)(context, builder, args[11]).data
            words, ids, num_lines = args[12:]
            row_lines = builder.udiv(builder.add(words, _I64(LINE_FLOATS - 1)), _I64(LINE_FLOATS))

            def fetch(step):
                with builder.if_then(builder.icmp_signed("<", step, num_lines)):
                    tag = builder.sext(builder.load(builder.gep(ids, [builder.udiv(step, row_lines)])), _I64)
                    line = builder.mul(builder.urem(step, row_lines), _I64(LINE_FLOATS))
                    place = builder.add(builder.mul(tag, words), line)
                    ask_for_line(builder, builder.gep(matrix, [place]), ALL_LEVELS)

            return _compute_tile(context, builder, signature, args, fetch)

        return types.void(*taken, rows_NW, types.int64, types.CPointer(types.int32), types.int64), generate

    def _put_transposed(typing_context, source, stride, num_rows, target, target_stride):
        pointer, size = types.CPointer(types.float32), types.int64
        if not source == target == pointer:
            return None

        def generate(context, builder, signature, args):
            def lanes(argument, array, row, stride):
                return Lanes(context, builder, signature.args[argument], array, builder.mul(row, stride), BLOCK)

            source, stride, num_rows, target, target_stride = args
            last, vectors = builder.sub(num_rows, _I64(1)), []
            for row in map(_I64, range(BLOCK)):
                taken = builder.select(builder.icmp_signed("<", row, last), row, last)
                vectors.append(lanes(0, source, taken, stride).load())
            half = BLOCK // 2
            for _ in range(half.bit_length()):  # each round, a riffle of the block's values, turns one bit of places
                pairs = zip(vectors[:half], vectors[half:], strict=True)
                vectors = [riffled for a, b in pairs for riffled in _riffle(builder, a, b)]
            for row, vector in enumerate(vectors):
                lanes(3, target, _I64(row), target_stride).store(vector)
            return context.get_dummy_value()

        return types.void(source, size, size, target, size), generate

    def _riffle(builder, a, b):
        """The values of two vectors in turns, as two vectors."""
        order = [i // 2 + i % 2 * BLOCK for i in range(2 * BLOCK)]
        return [shuffled(builder, a, b, order[at : at + BLOCK]) for at in (0, BLOCK)]

    add_tile: Any = intrinsic(_add_tile)
    add_tile_fetching: Any = intrinsic(_add_tile_fetching)
    put_transposed: Any = intrinsic(_put_transposed)
else:
    TILE_ROWS = tiles_uncompiled.TILE_ROWS
    add_tile, add_tile_fetching = tiles_uncompiled.add_tile, tiles_uncompiled.add_tile_fetching
    put_transposed = tiles_uncompiled.put_transposed
