"""Working memory that is kept from chunk to chunk, since fresh arrays cost page faults."""

import contextlib
import math
import mmap
from collections.abc import Callable, Hashable
from operator import gt
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from workers.memory_units import HUGE_PAGE_BYTES, LINE_BYTES

T = TypeVar("T")


def roomy(size: int) -> int:
    """The next multiple of 16, or up to an eighth more than `size`: what chunks that are nearly alike share."""
    step = max(16, 1 << max(size - 1, 0).bit_length() >> 4)
    return -(-max(size, 1) // step) * step


def _huge_pages(num_bytes: int) -> np.ndarray:
    """Zeroed memory of at least that size, of whole huge pages; ordinary ones where the kernel has no others."""
    num_bytes = -(-num_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    try:
        pages = mmap.mmap(-1, num_bytes + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{num_bytes} bytes of working memory: {error}") from error
    memory = np.frombuffer(pages, np.uint8)
    start = -memory.ctypes.data % HUGE_PAGE_BYTES
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memory[start : start + num_bytes]


class Scratch:
    """Arrays by name, each the front of a buffer that only grows and begins with a cache line.

    Buffers lie one after the other on huge pages, where the kernel grants them: the next chunk finds their addresses
    in the TLB, whatever rows went through the caches meanwhile.
    """

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)
        self._buffers: dict[str, np.ndarray] = {}
        self._latest: dict[str, tuple[tuple[int, ...] | int, np.ndarray]] = {}
        self._kept: dict[str, tuple[Hashable, object]] = {}
        self._grown: dict[str, tuple[tuple[int, ...], object]] = {}

    def empty(self, shape: tuple[int, ...] | int, dtype: npt.DTypeLike) -> np.ndarray:
        """Zeroed memory from the start of a cache line: vectors across two lines would be read and written twice."""
        num_bytes = math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(dtype).itemsize
        taken = -(-num_bytes // LINE_BYTES) * LINE_BYTES
        if taken > len(self._block):
            self._block = _huge_pages(taken)
        memory, self._block = self._block[:num_bytes], self._block[taken:]
        return memory.view(dtype).reshape(shape)

    def array(self, name: str, shape: tuple[int, ...] | int, dtype: npt.DTypeLike) -> np.ndarray:
        """The front of this name's buffer, C-contiguous, with arbitrary contents; a name has one type for good."""
        latest = self._latest.get(name)
        if latest is not None and latest[0] == shape:  # chunks are mostly alike
            return latest[1]
        size = shape if isinstance(shape, int) else math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = self.empty(max(size, 16), dtype)
        array = buffer[:size] if isinstance(shape, int) else buffer[:size].reshape(shape)
        self._latest[name] = shape, array
        return array

    def kept(self, name: str, sizes: Hashable, make: Callable[..., T], *arguments: Any) -> T:
        """What `make(*arguments)` returned when the sizes last changed: many arrays at the price of one."""
        found = self._kept.get(name)
        if found is None or found[0] != sizes:
            found = self._kept[name] = sizes, make(*arguments)
        return cast(T, found[1])

    def grown(self, name: str, sizes: tuple[int, ...], make: Callable[..., T], *arguments: Any) -> T:
        """What `make` returned for sizes at least as large, each of them: chunks of several sizes share it.

        It is called with the largest sizes so far, each `roomy`, and the arguments.
        """
        found = self._grown.get(name)
        if found is None or any(map(gt, sizes, found[0])):
            largest = tuple(map(roomy, sizes if found is None else map(max, sizes, found[0])))
            found = self._grown[name] = largest, make(largest, *arguments)
        return cast(T, found[1])

    def plain(self, name: str, source: np.ndarray) -> np.ndarray:
        """The array itself, or a copy if it is read-only, unaligned or strided: kernels would be compiled anew."""
        if source.flags.carray:
            return source
        array = self.array(name, source.shape, source.dtype)
        np.copyto(array, source)
        return array
