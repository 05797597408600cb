"""Exponentials by polynomials, of a float32 or of a vector (`workers.arithmetic`)."""

# mypy: allow-untyped-defs

import numpy as np

from workers.arithmetic import floor, greater, power_of_two
from workers.jit import inlined_kernel

_ZERO, _ONE, _TWO, _HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)  # e**-87 is the last power above float32's subnormal numbers
_E2, _E3, _E4, _E5, _E6 = (np.float32(1.0 / f) for f in (2, 6, 24, 120, 720))
_L3, _L5, _L7, _L9, _L11, _L13 = (np.float32(2.0 / n) for n in (3, 5, 7, 9, 11, 13))


@inlined_kernel
def exp_of_negative(x):
    """e**x for x <= 0, relative error below 5e-7; exactly 0 below -87. NaN is not kept: check before."""
    n = floor(greater(x, _LOWEST, x, _LOWEST) * _LOG2_E + _HALF)
    f = greater(x, _LOWEST, x, _LOWEST) - n * _LN2_HIGH - n * _LN2_LOW
    p = _ONE + f * (_ONE + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    return greater(_LOWEST, x, _ZERO, p * power_of_two(n))


@inlined_kernel
def log1p_of_unit(e):
    """log(1 + e) for e in [0, 1], relative error below 3e-7: 2 artanh(z), z = e / (2 + e)."""
    z = e / (_TWO + e)
    z2 = z * z
    return z * (_TWO + z2 * (_L3 + z2 * (_L5 + z2 * (_L7 + z2 * (_L9 + z2 * (_L11 + z2 * _L13))))))
