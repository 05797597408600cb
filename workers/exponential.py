"""Exponentials by polynomials, of a float32 or of a vector (`workers.arithmetic`)."""

# mypy: allow-untyped-defs

import numpy as np

from workers.arithmetic import floor, greater, power_of_two
from workers.jit import inlined_kernel

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
