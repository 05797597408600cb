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
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from workers import vectors_uncompiled
from workers.jit import JIT_ENABLED
from workers.vectors_uncompiled import HIGH_BITS, LOW_BITS

_I32, _F32 = ir.IntType(32), ir.FloatType()


class VectorType(types.Type):
    """So many float32 values in registers."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"float32x{width}")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector) -> None:
        super().__init__(manager, vector, ir.VectorType(_F32, vector.width))


class _Lanes:
    """Consecutive values of an array, or behind a pointer; they are aligned to single values only."""

    def __init__(self, context, builder, array_type, array, start, width: int, offset=None) -> None:
        is_pointer = isinstance(array_type, types.CPointer)
        data = array if is_pointer else context.make_array(array_type)(context, builder, array).data
        first = start if offset is None else builder.add(start, offset)
        self._builder, self._vector = builder, ir.VectorType(data.type.pointee, width)
        self._pointer = builder.bitcast(builder.gep(data, [first]), self._vector.as_pointer())

    def load(self, as_type=None):
        values = self._builder.load(self._pointer, align=4)
        return values if as_type is None else self._builder.bitcast(values, as_type)

    def store(self, values) -> None:
        self._builder.store(self._builder.bitcast(values, self._vector), self._pointer, align=4)


def _is_float32(array) -> bool:
    return isinstance(array, types.Array | types.CPointer) and array.dtype == types.float32


def _is_row(array) -> bool:
    return isinstance(array, types.Array | types.CPointer) and array.dtype in (types.float32, types.uint32)


def spread(builder, scalar, width: int):
    """A vector whose values all are the scalar."""
    vector = ir.VectorType(scalar.type, width)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _I32(0))
    lanes = ir.Constant(ir.VectorType(_I32, width), [_I32(0)] * width)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), lanes)


def call_llvm(builder, name: str, result, args, **options):
    """Call one of LLVM's own functions, in the form that works on the type of the last argument."""
    kind = f"v{args[-1].type.count}f32" if isinstance(args[-1].type, ir.VectorType) else "f32"
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{kind}")
    return builder.call(function, args, **options)


def _row_of(typing_context, shared, copies, place):
    is_pair = isinstance(shared, types.Array) and isinstance(copies, types.Array) and shared.dtype == copies.dtype
    if not (is_pair and shared.ndim == copies.ndim == 2 and shared.layout == copies.layout == "C"):
        return None

    def generate(context, builder, signature, args):
        arrays = [context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 1)]
        words = builder.extract_value(arrays[0].shape, 1)
        from_end = builder.not_(args[2])  # -1 - place
        in_shared = builder.gep(arrays[0].data, [builder.mul(args[2], words)])
        in_copies = builder.gep(arrays[1].data, [builder.mul(from_end, words)])
        is_copy = builder.icmp_signed("<", args[2], args[2].type(0))
        return builder.select(is_copy, in_copies, in_shared)

    return types.CPointer(shared.dtype)(shared, copies, types.int64), generate


def _load(typing_context, array, start, like):
    if not (_is_float32(array) and isinstance(like, VectorType)):
        return None

    def generate(context, builder, signature, args):
        return _Lanes(context, builder, signature.args[0], args[0], args[1], like.width).load()

    return like(array, types.int64, like), generate


def _store(typing_context, array, start, vector):
    if not (_is_float32(array) and isinstance(vector, VectorType)):
        return None

    def generate(context, builder, signature, args):
        _Lanes(context, builder, signature.args[0], args[0], args[1], vector.width).store(args[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), generate


def _low(typing_context, row, start, like):
    if not (_is_row(row) and isinstance(like, VectorType)):
        return None

    def generate(context, builder, signature, args):
        lanes = _Lanes(context, builder, signature.args[0], args[0], args[1], like.width)
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
            return _Lanes(context, builder, signature.args[0], args[0], args[1], like.width, args[2]).load()
        words = _Lanes(context, builder, signature.args[0], args[0], args[1], like.width).load()
        bits = builder.and_(words, spread(builder, _I32(int(HIGH_BITS)), like.width))
        return builder.bitcast(bits, ir.VectorType(_F32, like.width))

    return like(row, types.int64, types.int64, like), generate


def _put(typing_context, row, start, half, low, high, noise, noise_start):
    if not (_is_row(row) and isinstance(low, VectorType) and low == high):
        return None

    def generate(context, builder, signature, args):
        row_type, width = signature.args[0], low.width
        at_start = _Lanes(context, builder, row_type, args[0], args[1], width)
        if _is_float32(row):
            at_start.store(args[3])
            _Lanes(context, builder, row_type, args[0], args[1], width, args[2]).store(args[4])
            return context.get_dummy_value()
        integers, sixteen = ir.VectorType(_I32, width), spread(builder, _I32(16), width)
        random = _Lanes(context, builder, signature.args[5], args[5], args[6], width).load()
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
    load: Any = intrinsic(_load)
    store: Any = intrinsic(_store)
    low: Any = intrinsic(_low)
    high: Any = intrinsic(_high)
    put: Any = intrinsic(_put)
    fma: Any = intrinsic(_fma)
    scaled: Any = intrinsic(_scaled)
    zeros: Any = intrinsic(_zeros)
    total: Any = intrinsic(_total)
    length: Any = intrinsic(_length)
else:
    row_of, load, store = (getattr(vectors_uncompiled, n) for n in ("row_of", "load", "store"))
    low, high, put = (getattr(vectors_uncompiled, n) for n in ("low", "high", "put"))
    fma, scaled, zeros, total = (getattr(vectors_uncompiled, n) for n in ("fma", "scaled", "zeros", "total"))
    length = len
