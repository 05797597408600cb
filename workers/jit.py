"""The one way in which this project compiles Numba kernels.

Kernels are cached on disk, so that a worker starts in a second. Numba invalidates a cached kernel when the *kernel's*
file changes, but not when a function that it inlines from another file does; the cache directory's name therefore
holds a hash of all the sources beside this file.
"""

import functools
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

from workers.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

FASTMATH = {"reassoc", "contract", "arcp", "nsz", "afn"}  # not nnan, not ninf: kernels must see NaN and infinity
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}

_config: Any = numba.config  # its names are made at run time
JIT_ENABLED = not _config.DISABLE_JIT

UNUSED_DAYS = 30
"""Kernels of other sources that no process has used for so long are removed."""

_silent = np.errstate(over="ignore", invalid="ignore")
"""As plain Python kernels do not warn either: unsigned numbers are meant to wrap, NaN and infinity are looked for."""


def kernel(function: F) -> F:
    """Compile a function on first call, with the project's options and its disk cache.

    It may not make arrays: then Numba need not count references to those that it is given, an atomic operation each.
    When Python calls it for every chunk, its arguments should lie flat: Numba takes a microsecond to look at each
    NamedTuple, and no time to speak of to look at what is in it; inside of kernels NamedTuples cost nothing.
    """
    return _compile(function, FASTMATH, _nrt=False)


def allocating_kernel(function: F) -> F:
    """Like `kernel`, for code that makes arrays."""
    return _compile(function, FASTMATH)


def finite_kernel(function: F) -> F:
    """Like `kernel`, for values that were already found to be finite: LLVM may reorder comparisons, NaN is not seen."""
    return _compile(function, True, _nrt=False)


def inlined_kernel(function: F) -> F:
    """Like `kernel`, for parts of other kernels: the code becomes theirs, and their constants are constants in it."""
    return _compile(function, FASTMATH, _nrt=False, forceinline=True)


class Entry:
    """A kernel that Python calls for every chunk, with arguments of the same types each time, by position.

    Numba looks at the types of all arguments of each call, a microsecond for fifty: after the first call `call` is the
    compiled code itself. It takes an array to be of the type that the first call had: whoever calls has checked that.
    """

    __slots__ = ("_kernel", "call")

    def __init__(self, kernel: Callable[..., Any]) -> None:
        self._kernel, self.call = kernel, self._call_first

    def _call_first(self, *arguments: Any) -> Any:
        compiled: Any = self._kernel
        self.call = compiled.compile(tuple(map(numba.typeof, arguments))) if JIT_ENABLED else compiled
        return self.call(*arguments)


_first_call_lock = threading.Lock()


class ExactEntry:
    """A kernel for arguments of exactly one list of types: what looks at arrays that come from elsewhere.

    Numba looks at the types of all arguments in less time than Python needs for a few. Compiled for one list of types
    and no more, a kernel does not take a read-only or strided array, nor one of another type; an unaligned one it does.
    Numbers are converted as C does it: a fraction loses what is behind the point.
    """

    __slots__ = ("_kernel", "_types", "call")

    def __init__(self, kernel: Callable[..., Any], *types: Any) -> None:
        self._kernel, self._types = kernel, types
        self.call = self._call_first if JIT_ENABLED else self._call_uncompiled
        """Call it.

        Raises:
            TypeError: an argument is of another type. Or ValueError, OverflowError: of none that Numba knows.
        """

    def _call_first(self, *arguments: Any) -> Any:
        compiled: Any = self._kernel
        with _first_call_lock:
            if self.call is not compiled:  # another thread was here meanwhile
                compiled.compile(self._types)
                compiled.disable_compile()
                self.call = compiled
        return compiled(*arguments)

    def _call_uncompiled(self, *arguments: Any) -> Any:
        for argument, wanted in zip(arguments, self._types, strict=True):
            found = numba.typeof(argument)
            if found != wanted and isinstance(wanted, numba.types.Array | numba.types.Integer):
                raise TypeError(f"an argument of type {found}, expected {wanted}")
        return self._kernel(*arguments)


def _compile(function: F, fastmath: bool | set[str], **options: Any) -> F:
    if not JIT_ENABLED:
        return _silent(function)
    compiled: Any = numba.njit(function, fastmath=fastmath, **OPTIONS, **options)
    if (directory := cache_directory()) is not None:
        from workers.kernel_files import keep_on_disk  # here, as in `cache_directory`

        keep_on_disk(compiled, directory)
    return cast(F, compiled)


@functools.cache
def cache_directory() -> Path | None:
    """Where compiled kernels of exactly these sources are kept; None if no such directory can be made and written to.

    Its time of change says when it was last used. The first process of new sources removes the directories of others
    that were not used for `UNUSED_DAYS`.
    """
    from workers.cache_root import cache_root  # here: this module ends long chains of imports
    from workers.kernel_files import warn_of_no_cache

    try:
        directory = cache_root() / "numba" / _source_hash()
        is_new = not directory.exists()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # ours alone: a cached kernel is code that we run
        if directory.stat().st_uid != os.getuid():
            raise PermissionError(f"{directory} belongs to another user")
        directory.chmod(0o700)
        os.utime(directory)
        tempfile.TemporaryFile(dir=directory).close()  # as Numba tries it, which would go elsewhere
    except (OSError, ConfigError) as e:
        warn_of_no_cache(str(e))
        return None
    if is_new:
        remove_unused(directory.parent)
    return directory


def remove_unused(folder: Path) -> None:
    """Remove directories of kernels that are ours and were not used for `UNUSED_DAYS`; what resists stays.

    **Concurrency**: any number of processes may do it at once, each passes over what another has removed. One that is
    using a directory has just renewed its time.
    """
    oldest_s = time.time() - UNUSED_DAYS * 86400
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
            is_ours = entry.is_dir(follow_symlinks=False) and status.st_uid == os.getuid()
        except OSError:
            continue
        if is_ours and status.st_mtime < oldest_s and re.fullmatch("[0-9a-f]{16}", entry.name):
            shutil.rmtree(entry.path, ignore_errors=True)


def _source_hash() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
