"""Explicit vectors in kernels: a few float32 values that are loaded, combined and stored together.

LLVM turns most plain loops into vector code by itself, but not one that writes several rows at once: for all it knows,
the rows overlap. Written with these words it need not know.

A row of the tag matrix is read and written by halves, so that one source serves both forms of rows (`workers.rows`):
float32 values; or uint32 words that hold bfloat16 column j in their low and column j + D/2 in their high 16 bits. Then
to widen a pair is a shift and a mask, and no value changes its lane.

The width of a vector is a constant of the code, taken from the type of `like`. The intrinsics live at module level:
kept in a closure they would defeat Numba's disk cache. Without compilation a vector is a NumPy array
(`workers.vectors_uncompiled`).
"""

# mypy: allow-untyped-defs

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from workers import vectors_uncompiled
from workers.jit import JIT_ENABLED, inlined_kernel
from workers.lanes import Lanes, call_llvm, spread, sums_of_four
from workers.vectors_uncompiled import HIGH_BITS, LOW_BITS

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()


class VectorType(types.Type):
    """So many float32 values in registers."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"float32x{width}")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector) -> None:
        super().__init__(manager, vector, ir.VectorType(_F32, vector.width))


def _is_float32(array) -> bool:
    return isinstance(array, types.Array | types.CPointer) and array.dtype == types.float32


def _is_row(array) -> bool:
    return isinstance(array, types.Array | types.CPointer) and array.dtype in (types.float32, types.uint32)


def _row_of(typing_context, shared, copies, place, words):
    is_pair = isinstance(shared, types.Array) and isinstance(copies, types.Array) and shared.dtype == copies.dtype
    if not (is_pair and shared.ndim == copies.ndim == 2 and shared.layout == copies.layout == "C"):
        return None

    def generate(context, builder, signature, args):
        arrays = [context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 1)]
        is_copy = builder.icmp_signed("<", args[2], _I64(0))
        index = builder.xor(args[2], builder.ashr(args[2], _I64(63)))  # place, or else -1 - place
        data = builder.select(is_copy, arrays[1].data, arrays[0].data)
        return builder.gep(data, [builder.mul(index, args[3])])

    return types.CPointer(shared.dtype)(shared, copies, types.int64, types.int64), generate


def _values_from(typing_context, array, place):
    if not (isinstance(array, types.Array) and array.ndim in (1, 2) and array.layout == "C"):
        return None

    def generate(context, builder, signature, args):
        values = context.make_array(signature.args[0])(context, builder, args[0])
        first = args[1] if array.ndim == 1 else builder.mul(args[1], builder.extract_value(values.shape, 1))
        return builder.gep(values.data, [first])

    return types.CPointer(array.dtype)(array, types.int64), generate


def _load(typing_context, array, start, like):
    if not (_is_float32(array) and isinstance(like, VectorType)):
        return None

    def generate(context, builder, signature, args):
        return Lanes(context, builder, signature.args[0], args[0], args[1], like.width).load()

    return like(array, types.int64, like), generate


def _store(typing_context, array, start, vector):
    if not (_is_float32(array) and isinstance(vector, VectorType)):
        return None

    def generate(context, builder, signature, args):
        Lanes(context, builder, signature.args[0], args[0], args[1], vector.width).store(args[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), generate


def _low(typing_context, row, start, like):
    if not (_is_row(row) and isinstance(like, VectorType)):
        return None

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature.args[0], args[0], args[1], like.width)
        if _is_float32(row):
            return lanes.load()
        bits = builder.shl(lanes.load(), spread(builder, _I32(16), like.width))
        return builder.bitcast(bits, ir.VectorType(_F32, like.width))

    return like(row, types.int64, like), generate


def _high(typing_context, row, start, half, like):
    if not (_is_row(row) and isinstance(like, VectorType)):
        return None

    def generate(context, builder, signature, args):
        if _is_float32(row):
            return Lanes(context, builder, signature.args[0], args[0], args[1], like.width, args[2]).load()
        words = Lanes(context, builder, signature.args[0], args[0], args[1], like.width).load()
        bits = builder.and_(words, spread(builder, _I32(int(HIGH_BITS)), like.width))
        return builder.bitcast(bits, ir.VectorType(_F32, like.width))

    return like(row, types.int64, types.int64, like), generate


def _put(typing_context, row, start, half, low, high, noise, noise_start):
    if not (_is_row(row) and isinstance(low, VectorType) and low == high):
        return None

    def generate(context, builder, signature, args):
        row_type, width = signature.args[0], low.width
        at_start = Lanes(context, builder, row_type, args[0], args[1], width)
        if _is_float32(row):
            at_start.store(args[3])
            Lanes(context, builder, row_type, args[0], args[1], width, args[2]).store(args[4])
            return context.get_dummy_value()
        integers, sixteen = ir.VectorType(_I32, width), spread(builder, _I32(16), width)
        random = Lanes(context, builder, signature.args[5], args[5], args[6], width).load()
        random_low = builder.and_(random, spread(builder, _I32(int(LOW_BITS)), width))
        low_bits = builder.add(builder.bitcast(args[3], integers), random_low)
        high_bits = builder.add(builder.bitcast(args[4], integers), builder.lshr(random, sixteen))
        rounded_high = builder.and_(high_bits, spread(builder, _I32(int(HIGH_BITS)), width))
        at_start.store(builder.or_(builder.lshr(low_bits, sixteen), rounded_high))
        return context.get_dummy_value()

    return types.void(row, types.int64, types.int64, low, high, noise, types.int64), generate


def _fma(typing_context, factor, vector, addend):
    """The factor is a scalar or a vector."""
    if not (isinstance(vector, VectorType) and addend == vector and factor in (types.float32, vector)):
        return None

    def generate(context, builder, signature, args):
        factors = args[0] if factor == vector else spread(builder, args[0], vector.width)
        return call_llvm(builder, "fma", args[1].type, [factors, *args[1:]])

    return vector(factor, vector, addend), generate


def _scaled(typing_context, factor, vector):
    if not (isinstance(vector, VectorType) and factor == types.float32):
        return None

    def generate(context, builder, signature, args):
        return builder.fmul(spread(builder, args[0], vector.width), args[1])

    return vector(factor, vector), generate


def _zeros(typing_context, width):
    if not isinstance(width, types.IntegerLiteral):
        return None

    def generate(context, builder, signature, args):
        return ir.Constant(ir.VectorType(_F32, signature.return_type.width), None)

    return VectorType(width.literal_value)(width), generate


def _alone(typing_context, value, like):
    if not (value == types.float32 and isinstance(like, VectorType)):
        return None

    def generate(context, builder, signature, args):
        return builder.insert_element(ir.Constant(ir.VectorType(_F32, like.width), None), args[0], _I32(0))

    return like(value, like), generate


def _load_front(typing_context, array, start, count, like):
    if not (_is_float32(array) and isinstance(like, VectorType)):
        return None

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature.args[0], args[0], args[1], like.width)
        return lanes.load_front(args[2])

    return like(array, types.int64, types.int64, like), generate


def _store_front(typing_context, array, start, count, vector):
    if not (_is_float32(array) and isinstance(vector, VectorType)):
        return None

    def generate(context, builder, signature, args):
        Lanes(context, builder, signature.args[0], args[0], args[1], vector.width).store_front(args[2], args[3])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, vector), generate


def _put_totals(typing_context, array, start, a, b, c, d):
    if not (_is_float32(array) and isinstance(a, VectorType) and a == b == c == d):
        return None

    def generate(context, builder, signature, args):
        sums = sums_of_four(builder, args[2:])
        Lanes(context, builder, signature.args[0], args[0], args[1], 4).store(sums)
        return context.get_dummy_value()

    return types.void(array, types.int64, a, b, c, d), generate


def _total(typing_context, vector):
    if not isinstance(vector, VectorType):
        return None

    def generate(context, builder, signature, args):
        return call_llvm(builder, "vector.reduce.fadd", _F32, [ir.Constant(_F32, -0.0), args[0]], fastmath=("reassoc",))

    return types.float32(vector), generate


def _length(typing_context, vector):
    if not isinstance(vector, VectorType):
        return None
    return types.int64(vector), lambda context, builder, signature, args: ir.IntType(64)(vector.width)


if JIT_ENABLED:
    row_of: Any = intrinsic(_row_of)
    values_from: Any = intrinsic(_values_from)
    load: Any = intrinsic(_load)
    store: Any = intrinsic(_store)
    low: Any = intrinsic(_low)
    high: Any = intrinsic(_high)
    put: Any = intrinsic(_put)
    fma: Any = intrinsic(_fma)
    scaled: Any = intrinsic(_scaled)
    zeros: Any = intrinsic(_zeros)
    alone: Any = intrinsic(_alone)
    load_front: Any = intrinsic(_load_front)
    store_front: Any = intrinsic(_store_front)
    put_totals: Any = intrinsic(_put_totals)
    total: Any = intrinsic(_total)
    length: Any = intrinsic(_length)
else:
    row_of, values_from = vectors_uncompiled.row_of, vectors_uncompiled.values_from
    load, store = vectors_uncompiled.load, vectors_uncompiled.store
    load_front, store_front = vectors_uncompiled.load_front, vectors_uncompiled.store_front
    alone, put_totals = vectors_uncompiled.alone, vectors_uncompiled.put_totals
    low, high, put = vectors_uncompiled.low, vectors_uncompiled.high, vectors_uncompiled.put
    fma, scaled = vectors_uncompiled.fma, vectors_uncompiled.scaled
    zeros, total = vectors_uncompiled.zeros, vectors_uncompiled.total
    length = len


@inlined_kernel
def whole_of(count, likes):
    """How far the wide vectors go."""
    return count // length(likes[0]) * length(likes[0])
