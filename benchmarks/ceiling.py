"""The ceiling of a row kernel: the bare read-modify-write of the same rows on the same memory.

`ceiling.c` is compiled by the system's compiler for one D; where there is none, a Numba copy does the same, and
`Ceiling.program` says so. How many rows ahead are fetched, into which cache, and whether to be written, is tried out
and the best is taken: or else it were none.

Legend: N tags, D dim, M ids.
"""

# mypy: allow-untyped-defs

import ctypes
import functools
import hashlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.jit import cache_directory, kernel
from workers.prefetch import LINE_FLOATS, prefetch_write
from workers.vectors import values_from

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
AHEAD_TRIED = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Rows fetched ahead."""
WAYS = ("to be written, into all caches", "to be read, into all caches", "to be read, not into the first cache")
"""How rows are fetched, by the number that `ceiling.c` gives to it. The Numba copy knows the first alone."""
_PASSES = 3
_COMPILE_LIMIT_S = 60.0
_ONE, _ZERO = np.float32(1), np.float32(0)
"""Factor and summand: rows are read, computed and written, and stay what they were."""

Rewrite = Callable[[NDArray[Any], NDArray[np.int32], int, int], None]
"""(rows_ND, ids_M, ahead, number of a way)"""


class Ceiling:
    """Rewrites rows of one matrix as fast as memory allows.

    Args:
        rows_ND: float32, or uint16 holding bfloat16; the rows of the matrix whose kernel is compared. They keep their
            values, but a racing writer's update may be lost.
        batches: int32 ids, any shape; the stream that the kernel updates too.
    """

    def __init__(self, rows_ND: NDArray[Any], batches: Sequence[NDArray[np.int32]]) -> None:
        if rows_ND.dtype not in (np.float32, np.uint16) or not rows_ND.flags.c_contiguous:
            raise TypeError(f"rows_ND is {rows_ND.dtype}, expected contiguous float32 or uint16 [N, D]")
        self._rows_ND = rows_ND
        self._batches = [np.ascontiguousarray(ids).ravel() for ids in batches]
        self._next = 0
        self._rewrite, program, num_ways = _program(rows_ND.shape[1], rows_ND.dtype == np.float32)
        self.ahead, self._way = self._best_fetching(num_ways)
        self.program = f"{program}, {self.ahead} rows ahead {WAYS[self._way]}"

    def step(self) -> float:
        """Rewrite the rows of the next batch; returns how many that were."""
        ids = self._batches[self._next]
        self._next = (self._next + 1) % len(self._batches)
        self._rewrite(self._rows_ND, ids, self.ahead, self._way)
        return float(len(ids))

    def _best_fetching(self, num_ways: int) -> tuple[int, int]:
        """The fastest pass of each distance and way, in turns."""
        best_s = dict.fromkeys(itertools.product(AHEAD_TRIED, range(num_ways)), float("inf"))
        for _ in range(_PASSES):
            for fetching in best_s:
                start_s = time.perf_counter()
                for ids in self._batches:
                    self._rewrite(self._rows_ND, ids, *fetching)
                best_s[fetching] = min(best_s[fetching], time.perf_counter() - start_s)
        return min(best_s, key=lambda fetching: best_s[fetching])


@functools.cache
def _program(dim: int, is_float32: bool) -> tuple[Rewrite, str, int]:
    """What rewrites rows, what it is, and how many ways of fetching it knows."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        return _compile_numba(dim, is_float32), "Numba copy of ceiling.c, no C compiler found", 1
    try:
        library = _load(compiler, dim)
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or error
        return _compile_numba(dim, is_float32), f"Numba copy of ceiling.c, {compiler} failed: {words}", 1
    function = library.rewrite_float32 if is_float32 else library.rewrite_bfloat16
    size, number = ctypes.c_int64, ctypes.c_float
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, size, size, ctypes.c_int, number, number]
    function.restype = None

    def rewrite(rows_ND: NDArray[Any], ids_M: NDArray[np.int32], ahead: int, way: int) -> None:
        function(rows_ND.ctypes.data, ids_M.ctypes.data, len(ids_M), ahead, way, 1.0, 0.0)

    return rewrite, f"ceiling.c, {_version(compiler)}, {' '.join(FLAGS[:2])}", len(WAYS)


def _load(compiler: str, dim: int) -> ctypes.CDLL:
    """The program for one dim; it stays in memory where no folder can keep it."""
    folder = cache_directory()
    if folder is not None:
        return ctypes.CDLL(str(_compiled(compiler, dim, folder)))
    with tempfile.TemporaryDirectory(prefix="hybrid-ceiling-") as temporary:
        return ctypes.CDLL(str(_compiled(compiler, dim, Path(temporary))))


def _compiled(compiler: str, dim: int, folder: Path) -> Path:
    """The shared library for one dim, compiled once for each source, compiler and CPU."""
    key = "\0".join((SOURCE.read_text(), _version(compiler), *FLAGS, _cpu_flags(), str(dim)))
    library = folder / f"ceiling-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        unfinished = library.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, f"-DDIM={dim}", str(SOURCE), "-o", str(unfinished)]
        subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_LIMIT_S, check=True)
        unfinished.replace(library)
    return library


@functools.cache
def _version(compiler: str) -> str:
    command = [compiler, "--version"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_LIMIT_S, check=True).stdout
    return text.partition("\n")[0]


def _cpu_flags() -> str:
    """A library made for another CPU, in a home directory that machines share, would crash on this one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile_numba(dim: int, is_float32: bool) -> Rewrite:
    run = _make_float32(dim) if is_float32 else _make_bfloat16(dim)

    def rewrite(rows_ND: NDArray[Any], ids_M: NDArray[np.int32], ahead: int, way: int) -> None:
        run(rows_ND, ids_M, ahead, _ONE, _ZERO)

    return rewrite


def _make_float32(D: int) -> Any:
    @kernel
    def run(rows_ND, ids_M, ahead, a, b):
        for i in range(-ahead, len(ids_M)):
            if i + ahead < len(ids_M):
                for j in range(0, D, LINE_FLOATS):
                    prefetch_write(values_from(rows_ND, ids_M[i + ahead]), j)
            if i >= 0:
                row_D = rows_ND[np.uint64(ids_M[i])]
                for j in range(D):
                    row_D[j] = row_D[j] * a + b

    return run


def _make_bfloat16(D: int) -> Any:
    @kernel
    def run(rows_ND, ids_M, ahead, a, b):
        for i in range(-ahead, len(ids_M)):
            if i + ahead < len(ids_M):
                for j in range(0, D, 2 * LINE_FLOATS):
                    prefetch_write(values_from(rows_ND, ids_M[i + ahead]), j)
            if i >= 0:
                row_D = rows_ND[np.uint64(ids_M[i])]
                for j in range(D):
                    bits = np.uint32(np.uint32(row_D[j]) << np.uint32(16))
                    wide = np.float32(bits.view(np.float32) * a + b)
                    row_D[j] = np.uint16(wide.view(np.uint32) >> np.uint32(16))

    return run
