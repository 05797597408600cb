"""Widths of the vectors that kernels compute with."""

BLOCK = 16
"""float32 values of the widest vector: so many terms or examples are computed together."""

_WIDTHS = (BLOCK, 8, 4, 2)


def vector_widths(dim: int) -> tuple[int, int]:
    """Widths of vectors that go through half a row: the widest that fits, and the widest that divides what is left.

    Example:
        >>> vector_widths(256), vector_widths(44)
        ((16, 16), (16, 2))
    """
    half = dim // 2
    wide = next(width for width in _WIDTHS if width <= half)
    return wide, next(width for width in _WIDTHS if width <= wide and half % wide % width == 0)
