"""A set of named arrays in one file of anonymous shared memory.

The owner creates the file, children inherit its descriptor and map it; it has no name, so nothing is left behind
whoever dies. Page 0 holds a header (magic, version, JSON: name -> dtype, shape, offset); arrays follow, aligned for
vectors and huge pages.
"""

import ctypes
import errno
import gc
import json
import logging
import math
import mmap
import os
import struct
import tempfile
import uuid
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from workers.cores import available_cores
from workers.errors import MatrixMismatch
from workers.host_memory import available_bytes
from workers.memory_units import HUGE_PAGE_BYTES, LINE_BYTES
from workers.refused_write import refused_write, size_text

HEADER_BYTES = 4096
POISON_BYTE = 0xFF  # NaN as a float, -1 as an integer: a value that was never written is seen
poisons = False
"""Whether fresh memory is filled with it, as in tests: else it is zero. A pass over all of it, by one thread."""

_COLLAPSED_BYTES = 32 * HUGE_PAGE_BYTES  # by one thread, one after the other
_MAX_THREADS = 8
_WORTH_TELLING = 10 << 20
_MAGIC, _VERSION = b"HYBRIDSM", 1
_PREFIX = struct.Struct("<8sII")
_MADV_COLLAPSE, _MAP_FIXED, _MAP_FAILED = 25, 0x10, ctypes.c_void_p(-1).value

_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class ArraySpec(NamedTuple):
    """Type and shape of one shared array."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size without padding."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


class _Descriptor:
    """A file descriptor that is closed once: by `close`, or when nobody has this object any more."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.close = weakref.finalize(self, os.close, number)
        self.close.atexit = False  # the kernel does it

    @property
    def number(self) -> int:
        return self._number if self.close.alive else -1


class SharedArrays:
    """Named arrays in shared memory: `arrays["rows_NS"]`. Make one with `create` or `attach`.

    Concurrency: nothing is locked. Whoever writes must keep the invariant of that array, see `workers.matrix`.
    """

    def __init__(self, descriptor: _Descriptor, buffer: np.ndarray, header: dict[str, Any], huge_pages: str) -> None:
        self._descriptor = descriptor
        self.identity: str = header["identity"]
        """A random name given at creation, equal in every process that maps this memory."""
        self.huge_pages = huge_pages
        """What the kernel granted, in one sentence."""
        self.spec: dict[str, ArraySpec] = {}
        self._arrays: dict[str, np.ndarray] = {}
        for name, (dtype, shape, offset) in header["arrays"].items():
            spec = self.spec[name] = ArraySpec(dtype, tuple(shape))
            self._arrays[name] = buffer[offset : offset + spec.num_bytes].view(dtype).reshape(shape)

    @classmethod
    def create(cls, spec: Mapping[str, ArraySpec], reserve: bool = True) -> "SharedArrays":
        """Allocate the arrays, on huge pages where the kernel grants them.

        Args:
            spec: type and shape of each array.
            reserve: take all memory now. Otherwise a page is taken when it is first written.

        Raises:
            MemoryError: the machine cannot hold them.
        """
        header, num_bytes = _layout(spec)
        packed = json.dumps(header).encode()
        if _PREFIX.size + len(packed) > HEADER_BYTES:
            raise ValueError(f"the description of {len(spec)} arrays takes {len(packed)} bytes, more than one page")
        if reserve:
            _check_fits(num_bytes)  # or else the kernel kills us, or somebody, in the middle
        descriptor, is_file = _anonymous_file()
        try:
            os.ftruncate(descriptor.number, num_bytes)
            buffer = _map(descriptor.number, num_bytes)
            huge_pages = f"ordinary pages, {'those of a temporary file' if is_file else 'taken as they are used'}"
            if reserve and not is_file:
                huge_pages = _collapse(buffer)  # before the next, or pages that are there would be copied
            if reserve or is_file:
                os.posix_fallocate(descriptor.number, 0, num_bytes)  # an error here, not a SIGBUS in a kernel later
            if reserve:
                _held[buffer.ctypes.data] = num_bytes
            if reserve and poisons:
                buffer[HEADER_BYTES:] = POISON_BYTE
            buffer[: _PREFIX.size + len(packed)] = np.frombuffer(
                _PREFIX.pack(_MAGIC, _VERSION, len(packed)) + packed, np.uint8
            )
            return cls(descriptor, buffer, header, huge_pages)
        except OSError as e:
            descriptor.close()
            raise MemoryError(f"cannot allocate {size_text(num_bytes)} of shared memory: {refused_write(e)}") from e
        except BaseException:  # Ctrl-C: many gigabytes take seconds
            descriptor.close()
            raise

    @classmethod
    def attach(cls, fd: int) -> "SharedArrays":
        """Map the memory behind an inherited descriptor, which stays open and yours.

        Raises:
            MatrixMismatch: it does not hold what `create` writes.
        """
        try:
            num_bytes = os.fstat(fd).st_size
        except OSError as e:
            raise MatrixMismatch(f"file descriptor {fd} is not open: {e}; pass the one that the owner created") from e
        header = _read_header(fd, num_bytes)
        descriptor = _Descriptor(os.dup(fd))
        try:
            return cls(descriptor, _map(descriptor.number, num_bytes), header, "mapped as its owner made it")
        except OSError as e:
            descriptor.close()
            raise MatrixMismatch(f"cannot map {num_bytes} bytes of shared memory: {e}") from e

    @property
    def fd(self) -> int:
        """The descriptor, for children to inherit while these arrays are there; -1 when they are closed."""
        return self._descriptor.number

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            if self.fd >= 0:
                raise
            raise MatrixMismatch(f"{name} lies in shared memory that was closed: read it before `close`.") from None

    def close(self) -> None:
        """Close the descriptor; memory is unmapped once the last array on it is gone. Idempotent.

        Arrays that nobody closes are closed when nobody has this object any more.
        """
        self._arrays = {}
        self._descriptor.close()


def check_fits(spec: Mapping[str, ArraySpec]) -> None:
    """What `SharedArrays.create` checks of the machine's memory, for who has much to do before.

    Raises:
        MemoryError: there is less available just now than the arrays take.
    """
    _check_fits(_layout(spec)[1])


def _check_fits(num_bytes: int) -> None:
    available = available_bytes()
    if available is not None and num_bytes > available:
        gc.collect()  # heads that nobody closed may lie in reference cycles: shared memory does not count for Python
        available = available_bytes()
    if available is not None and num_bytes > available:
        held = sum(_held.values())
        told = f" {held / 2**30:.2f} GiB are held by this process: close what is not needed."
        raise MemoryError(
            f"shared memory of {num_bytes / 2**30:.2f} GiB is wanted, {available / 2**30:.2f} GiB are available: "
            f"use fewer tags, a smaller dim, or bfloat16 rows.{told if held >= _WORTH_TELLING else ''}"
        )


_held: dict[int, int] = {}
"""Address -> bytes of each mapping that this process has reserved memory for."""


class _Mapping:
    """Mapped memory as something NumPy can wrap; unmapped when the last array on it is collected, never under one."""

    def __init__(self, address: int, num_bytes: int, reserved: int, reserved_bytes: int) -> None:
        self.__array_interface__ = {"data": (address, False), "shape": (num_bytes,), "typestr": "|u1", "version": 3}
        unmap = weakref.finalize(self, _unmap, address, reserved, reserved_bytes)
        unmap.atexit = False  # at the end of the process arrays may still be in use; the kernel unmaps all


def _unmap(address: int, reserved: int, reserved_bytes: int) -> None:
    _held.pop(address, None)
    _libc.munmap(reserved, reserved_bytes)


def _layout(spec: Mapping[str, ArraySpec]) -> tuple[dict[str, Any], int]:
    arrays, end = {}, HEADER_BYTES
    for name, array in spec.items():
        alignment = HUGE_PAGE_BYTES if array.num_bytes >= HUGE_PAGE_BYTES else LINE_BYTES
        offset = -(-end // alignment) * alignment
        arrays[name] = (np.dtype(array.dtype).str, list(array.shape), offset)
        end = offset + array.num_bytes
    page = HUGE_PAGE_BYTES if end >= HUGE_PAGE_BYTES else mmap.PAGESIZE
    return {"identity": uuid.uuid4().hex[:16], "arrays": arrays}, -(-end // page) * page


_MFD_NOEXEC_SEAL = 0x8
"""Hardened kernels refuse memory that might be executed (`vm.memfd_noexec`); those before 6.3 do not know the flag."""
_WITHOUT_MEMFD = (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL)


def _anonymous_file() -> tuple[_Descriptor, bool]:
    """A descriptor of memory, or of a file without a name where the kernel has none; which of them it is."""
    for flags in (os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL, os.MFD_CLOEXEC) if hasattr(os, "memfd_create") else ():
        try:
            return _Descriptor(os.memfd_create("hybrid-matrix", flags)), False
        except OSError as e:
            if e.errno not in _WITHOUT_MEMFD:
                raise MemoryError(f"the system gives no shared memory: {e}") from e
    with tempfile.TemporaryFile(prefix="hybrid-matrix-") as file:  # has no name on Linux
        return _Descriptor(os.dup(file.fileno())), True


def _map(fd: int, num_bytes: int) -> np.ndarray:
    """Map the whole file at an address that huge pages can use."""
    reserved_bytes = num_bytes + HUGE_PAGE_BYTES
    reserved = _libc.mmap(None, reserved_bytes, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if reserved == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), "mmap could not reserve addresses")
    aligned = -(-reserved // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    if _libc.mmap(aligned, num_bytes, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) != aligned:
        number = ctypes.get_errno()
        _libc.munmap(reserved, reserved_bytes)
        raise OSError(number, os.strerror(number))
    return np.asarray(_Mapping(aligned, num_bytes, reserved, reserved_bytes))


def _collapse(buffer: np.ndarray) -> str:
    """Ask for huge pages. Before the pages are filled this costs 0.1 s per GiB; afterwards it would copy them all."""
    num_bytes = len(buffer)
    if num_bytes < HUGE_PAGE_BYTES:
        return "smaller than one huge page, on ordinary pages"
    buffer[::HUGE_PAGE_BYTES] = 0  # the kernel refuses ranges in which no page exists yet

    def collapse(start: int) -> int:
        part = buffer[start : start + _COLLAPSED_BYTES]
        return 0 if _libc.madvise(part.ctypes.data, len(part), _MADV_COLLAPSE) == 0 else ctypes.get_errno()

    with ThreadPoolExecutor(min(available_cores(), _MAX_THREADS), "huge-pages") as threads:  # the kernel clears pages
        errors = list(threads.map(collapse, range(0, num_bytes, _COLLAPSED_BYTES)))
    if not any(errors):
        return f"{num_bytes // HUGE_PAGE_BYTES} huge pages of 2 MiB"
    reason, refused = os.strerror(next(filter(None, errors))), sum(map(bool, errors))
    if refused < len(errors):
        _log.info("%d of %d parts of shared memory got no huge pages (%s)", refused, len(errors), reason)
        return f"huge pages of 2 MiB, ordinary ones in {refused} of {len(errors)} parts ({reason})"
    _log.info("no huge pages for shared memory (%s): kernels run up to 1.4 times slower on a large matrix", reason)
    return f"ordinary pages, the kernel refused huge ones ({reason})"


def _read_header(fd: int, num_bytes: int) -> dict[str, Any]:
    page = os.pread(fd, HEADER_BYTES, 0)
    if len(page) < HEADER_BYTES:
        raise MatrixMismatch(f"shared memory of {num_bytes} bytes has no header; pass the owner's file descriptor")
    magic, version, length = _PREFIX.unpack_from(page)
    if magic != _MAGIC or version != _VERSION:
        raise MatrixMismatch(f"shared memory starts with {magic!r}, version {version}; expected {_MAGIC!r}, {_VERSION}")
    try:
        header = json.loads(page[_PREFIX.size : _PREFIX.size + length])
        for name, (dtype, shape, offset) in header["arrays"].items():
            end = offset + ArraySpec(dtype, tuple(shape)).num_bytes
            if offset < HEADER_BYTES or end > num_bytes or min(shape, default=0) < 0:
                raise MatrixMismatch(f"array {name!r} ends at byte {end}, but the shared memory has {num_bytes}")
        str(header["identity"])
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise MatrixMismatch(f"the header of the shared memory is damaged: {e!r}") from e
    return dict(header)
