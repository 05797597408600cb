"""How rows lie in memory.

    float32    [N, D] values
    bfloat16   [N, D/2] uint32 words; word j holds column j in its low and column j + D/2 in its high 16 bits

A bfloat16 is the upper half of a float32. Values are rounded at random when a kernel writes them (`vectors.put`): with
rounding to the nearest, updates below half of a value's last bit, 0.4% of it, would be lost for ever; rounded at
random, they arrive on average, down to what `workers.rounding` says.

Source: Gupta et al., "Deep learning with limited numerical precision" (2015), section 3.1.
"""

# Shapes: N tags, D dim, X rows.

import numpy as np

from workers.config import ROW_FACTORS
from workers.errors import DataError
from workers.vectors_uncompiled import HIGH_BITS

FLOAT32, BFLOAT16 = ROW_FACTORS  # its keys

_ROUND_HALF, _SIXTEEN, _ONE = np.uint32(0x7FFF), np.uint32(16), np.uint32(1)


def stored_form(num_tags: int, dim: int, row_dtype: str) -> tuple[str, tuple[int, int]]:
    """Type and shape of stored rows.

    Raises:
        DataError: the dim is not a multiple of what the form needs.
    """
    factor = ROW_FACTORS[row_dtype]
    if dim < factor or dim % factor:
        raise DataError(f"rows of dim {dim} cannot be {row_dtype}; a multiple of {factor} is needed.")
    return ("<f4", (num_tags, dim)) if row_dtype == FLOAT32 else ("<u4", (num_tags, dim // 2))


def dim_of(stored: np.ndarray) -> int:
    """D of rows as they are stored, `[..., D]` or `[..., D/2]`."""
    return stored.shape[-1] * (1 if stored.dtype == np.float32 else 2)


def row_dtype_of(stored: np.ndarray) -> str:
    """`float32` or `bfloat16`."""
    return FLOAT32 if stored.dtype == np.float32 else BFLOAT16


def unpack(stored: np.ndarray) -> np.ndarray:
    """Stored rows as float32 `[X, D]`: the same array, or a widened copy.

    Example:
        >>> unpack(pack(np.array([[1.0, -2.5, 3.0, 0.1]], np.float32), BFLOAT16)).tolist()
        [[1.0, -2.5, 3.0, 0.10009765625]]
    """
    if stored.dtype == np.float32:
        return stored
    return np.concatenate([stored << _SIXTEEN, stored & HIGH_BITS], axis=-1).view(np.float32)


def pack(values_XD: np.ndarray, row_dtype: str) -> np.ndarray:
    """Float32 rows `[X, D]` as they are stored; bfloat16 is rounded to the nearest, ties to even."""
    if row_dtype == FLOAT32:
        return values_XD
    bits = np.ascontiguousarray(values_XD, np.float32).view(np.uint32)
    rounded = bits + _ROUND_HALF + ((bits >> _SIXTEEN) & _ONE)
    half = bits.shape[-1] // 2
    return (rounded[..., :half] >> _SIXTEEN) | (rounded[..., half:] & HIGH_BITS)
