"""Working memory that is kept from chunk to chunk, since fresh arrays cost page faults."""

import math
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
LINE_BYTES = 64
"""Of a cache line."""


def empty_lines(shape: tuple[int, ...] | int, dtype: npt.DTypeLike) -> np.ndarray:
    """`np.empty` from the start of a cache line: vectors that lie across two lines are read and written twice."""
    num_bytes = math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(dtype).itemsize
    memory = np.empty(num_bytes + LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % LINE_BYTES
    return memory[start : start + num_bytes].view(dtype).reshape(shape)


def roomy(size: int) -> int:
    """The next power of two: a size that chunks which are nearly alike have in common."""
    return 1 << max(4, (size - 1).bit_length())


class Scratch:
    """Arrays by name, each the front of a buffer that only grows and begins with a cache line."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}
        self._latest: dict[str, tuple[tuple[int, ...] | int, np.ndarray]] = {}
        self._kept: dict[str, tuple[Hashable, object]] = {}

    def array(self, name: str, shape: tuple[int, ...] | int, dtype: type) -> np.ndarray:
        """A C-contiguous array with arbitrary contents; the same memory at every call with this name."""
        latest = self._latest.get(name)
        if latest is not None and latest[0] == shape:  # chunks are mostly alike
            return latest[1]
        size = math.prod((shape,) if isinstance(shape, int) else shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = empty_lines(max(size, 16), dtype)
        array = buffer[:size].reshape(shape)
        self._latest[name] = shape, array
        return array

    def kept(self, name: str, sizes: Hashable, make: Callable[[], T]) -> T:
        """What `make` returned when the sizes last changed: many arrays at the price of one."""
        found = self._kept.get(name)
        if found is None or found[0] != sizes:
            found = self._kept[name] = sizes, make()
        return cast(T, found[1])

    def plain(self, name: str, source: np.ndarray, dtype: type) -> np.ndarray:
        """The array itself, or a copy if it is read-only, unaligned or strided: kernels would be compiled anew."""
        if source.dtype == dtype and source.flags.carray:
            return source
        array = self.array(name, source.shape, dtype)
        np.copyto(array, source)
        return array
