"""Arithmetic that reads the same on a float32 and on a vector of them (`workers.vectors`).

LLVM turns a loop over exponentials into vectors of half the width that the CPU has, and a short one into none at all.
Written with these words the width is ours: vectors take + - * / and a sign, beside a float32 or another vector, and

    floor(x)                        the largest whole number that is not above x
    magnitude(x)                    |x|
    power_of_two(n)                 2 ** n for a whole n in [-126, 127], written into the exponent bits
    greater(a, b, x, y)             x where a > b, else y; so y where a or b is NaN

and, as polynomials of these,

    exp_of_negative(x)              e ** x for x <= 0
    log1p_of_unit(e)                log(1 + e) for e in [0, 1]

The intrinsics live at module level: kept in a closure they would defeat Numba's disk cache. Without compilation both
are NumPy's, and so are their operators.
"""

# mypy: allow-untyped-defs

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from workers import arithmetic_uncompiled
from workers.jit import JIT_ENABLED, inlined_kernel
from workers.lanes import call_llvm, spread
from workers.vectors import VectorType

_I32, _F32 = ir.IntType(32), ir.FloatType()
_EXPONENT_BIAS, _MANTISSA_BITS = 127, 23
_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)  # e**-87 is the last power above float32's subnormal numbers
_E2, _E3, _E4, _E5, _E6 = (np.float32(1.0 / f) for f in (2, 6, 24, 120, 720))
_LOG1P = (
    0.99999997,
    -0.49999502,
    0.33319271,
    -0.24844370,
    0.19111431,
    -0.13674770,
    0.078361668,
    -0.029588507,
    0.0052534578,
)
_L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8, _L9 = (np.float32(c) for c in _LOG1P)
"""Of log(1 + e) / e on [0, 1], interpolated at the zeros of a Chebyshev polynomial."""


def _typed(generate, *values):
    """What an intrinsic returns: its type, and how `generate(builder, *arguments)` makes its code.

    The values are float32 or vectors of one width; if one is a vector, the arguments all are.
    """
    vectors = {value for value in values if isinstance(value, VectorType)}
    if len(vectors) > 1 or any(value not in vectors and value != types.float32 for value in values):
        return None
    if not vectors:
        return types.float32(*values), lambda context, builder, signature, args: generate(builder, *args)
    (vector,) = vectors

    def spread_and_generate(context, builder, signature, args):
        pairs = zip(signature.args, args, strict=True)
        return generate(builder, *(arg if of == vector else spread(builder, arg, vector.width) for of, arg in pairs))

    return vector(*values), spread_and_generate


def _constant(like: ir.Type, value: int) -> tuple[ir.Type, ir.Constant]:
    """A whole number, as many times as a value of the type `like` has float32s, and its type."""
    if like == _F32:
        return _I32, _I32(value)
    whole = ir.VectorType(_I32, like.count)
    return whole, ir.Constant(whole, [value] * like.count)


def _raise_two(builder, n):
    whole, bias = _constant(n.type, _EXPONENT_BIAS)
    exponent = builder.add(builder.fptosi(n, whole), bias)
    return builder.bitcast(builder.shl(exponent, _constant(n.type, _MANTISSA_BITS)[1]), n.type)


def _floor(typing_context, x):
    return _typed(lambda builder, x: call_llvm(builder, "floor", x.type, [x]), x)


def _magnitude(typing_context, x):
    return _typed(lambda builder, x: call_llvm(builder, "fabs", x.type, [x]), x)


def _power_of_two(typing_context, n):
    return _typed(_raise_two, n)


def _greater(typing_context, a, b, x, y):
    return _typed(lambda builder, a, b, x, y: builder.select(builder.fcmp_ordered(">", a, b), x, y), a, b, x, y)


def _sum(typing_context, a, b):
    return _typed(lambda builder, a, b: builder.fadd(a, b), a, b)


def _difference(typing_context, a, b):
    return _typed(lambda builder, a, b: builder.fsub(a, b), a, b)


def _product(typing_context, a, b):
    return _typed(lambda builder, a, b: builder.fmul(a, b), a, b)


def _quotient(typing_context, a, b):
    return _typed(lambda builder, a, b: builder.fdiv(a, b), a, b)


def _negative(typing_context, x):
    return _typed(lambda builder, x: builder.fneg(x), x)


if JIT_ENABLED:
    floor: Any = intrinsic(_floor)
    magnitude: Any = intrinsic(_magnitude)
    power_of_two: Any = intrinsic(_power_of_two)
    greater: Any = intrinsic(_greater)
    _add: Any = intrinsic(_sum)
    _subtract: Any = intrinsic(_difference)
    _multiply: Any = intrinsic(_product)
    _divide: Any = intrinsic(_quotient)
    _negate: Any = intrinsic(_negative)

    @overload(operator.add)
    def _plus(a, b):
        return (lambda a, b: _add(a, b)) if _is_vector(a, b) else None

    @overload(operator.sub)
    def _minus(a, b):
        return (lambda a, b: _subtract(a, b)) if _is_vector(a, b) else None

    @overload(operator.mul)
    def _times(a, b):
        return (lambda a, b: _multiply(a, b)) if _is_vector(a, b) else None

    @overload(operator.truediv)
    def _over(a, b):
        return (lambda a, b: _divide(a, b)) if _is_vector(a, b) else None

    @overload(operator.neg)
    def _less(x):
        return (lambda x: _negate(x)) if _is_vector(x) else None
else:
    floor, magnitude = arithmetic_uncompiled.floor, arithmetic_uncompiled.magnitude
    power_of_two, greater = arithmetic_uncompiled.power_of_two, arithmetic_uncompiled.greater


def _is_vector(*values) -> bool:
    return any(isinstance(value, VectorType) for value in values)


@inlined_kernel
def exp_of_negative(x):
    """e**x for x <= 0, relative error below 5e-7; exactly 0 below -87. NaN is not kept: check before."""
    n = floor(greater(x, _LOWEST, x, _LOWEST) * _LOG2_E + _HALF)
    f = greater(x, _LOWEST, x, _LOWEST) - n * _LN2_HIGH - n * _LN2_LOW
    p = _ONE + f * (_ONE + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    return greater(_LOWEST, x, _ZERO, p * power_of_two(n))


@inlined_kernel
def log1p_of_unit(e):
    """log(1 + e) for e in [0, 1], relative error below 3e-7; a division would take longer than the whole polynomial."""
    return e * (_L1 + e * (_L2 + e * (_L3 + e * (_L4 + e * (_L5 + e * (_L6 + e * (_L7 + e * (_L8 + e * _L9))))))))
