"""LLVM code for vectors in registers: what the words of `workers.vectors` and `workers.arithmetic` are made of."""

# mypy: allow-untyped-defs

from llvmlite import ir
from numba import types
from numba.core import cgutils

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


class Lanes:
    """Consecutive values of an array, or behind a pointer; they are aligned to single values only."""

    def __init__(self, context, builder, array_type, array, start, width: int, offset=None) -> None:
        is_pointer = isinstance(array_type, types.CPointer)
        data = array if is_pointer else context.make_array(array_type)(context, builder, array).data
        first = start if offset is None else builder.add(start, offset)
        self._builder, self._vector = builder, ir.VectorType(data.type.pointee, width)
        self._pointer = builder.bitcast(builder.gep(data, [first]), self._vector.as_pointer())

    def load(self):
        return self._builder.load(self._pointer, align=4)

    def store(self, values) -> None:
        self._builder.store(self._builder.bitcast(values, self._vector), self._pointer, align=4)

    def load_front(self, count):
        """The first values, then zeros; memory after them is not touched."""
        vector, none = self._vector, ir.Constant(self._vector, None)
        return self._call_masked("load", vector, [self._pointer, _I32(4), self._is_front(count), none])

    def store_front(self, count, values) -> None:
        self._call_masked("store", ir.VoidType(), [values, self._pointer, _I32(4), self._is_front(count)])

    def _is_front(self, count):
        numbers = ir.Constant(ir.VectorType(_I64, self._vector.count), list(range(self._vector.count)))
        return self._builder.icmp_signed("<", numbers, spread(self._builder, count, self._vector.count))

    def _call_masked(self, verb: str, result, args):
        function_type = ir.FunctionType(result, [arg.type for arg in args])
        name = f"llvm.masked.{verb}.v{self._vector.count}f32.p0"
        return self._builder.call(cgutils.get_or_insert_function(self._builder.module, function_type, name), args)


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


def ask_for_line(builder, pointer, locality: int, *, write: bool = False) -> None:
    """Prefetch the cache line at a pointer, see `workers.prefetch`."""
    address = builder.bitcast(pointer, _I8.as_pointer())
    function_type = ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    builder.call(function, [address, _I32(int(write)), _I32(locality), _I32(1)])  # 1: data


def shuffled(builder, a, b, lanes):
    """Values of two vectors by their numbers; those of the second follow those of the first."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))


def _by_fours(builder, a, b, order):
    """From each four values of two vectors those in this order, where b's four are 4 to 7."""
    width = a.type.count
    return shuffled(builder, a, b, [four + i % 4 + i // 4 * width for four in range(0, width, 4) for i in order])


def sums_of_four(builder, vectors):
    """The totals of four vectors, as one vector."""
    if vectors[0].type.count < 4:
        none = ir.Constant(vectors[0].type, None)
        vectors = [shuffled(builder, vector, none, range(4)) for vector in vectors]
    a, b, c, d = vectors
    ab = builder.fadd(_by_fours(builder, a, b, (0, 4, 1, 5)), _by_fours(builder, a, b, (2, 6, 3, 7)))
    cd = builder.fadd(_by_fours(builder, c, d, (0, 4, 1, 5)), _by_fours(builder, c, d, (2, 6, 3, 7)))
    sums = builder.fadd(_by_fours(builder, ab, cd, (0, 1, 4, 5)), _by_fours(builder, ab, cd, (2, 3, 6, 7)))
    while sums.type.count > 4:
        half = sums.type.count // 2
        sums = builder.fadd(*(shuffled(builder, sums, sums, range(at, at + half)) for at in (0, half)))
    return sums
