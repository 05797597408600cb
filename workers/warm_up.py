"""Compiling kernels in turn, so that workers that start together do not all compile the same."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from workers.file_lock import try_lock
from workers.jit import cache_directory

_TURN_LIMIT_S = 120.0
_LOOK_S = 0.05
_UNDONE_BYTES, _DONE_BYTES = 0, 1
"""Size of the lock file: whether whoever had it alone last has compiled. A size without content needs no disk."""


def warm_up_in_turn(warm_up: Callable[[], None]) -> None:
    """Run `warm_up`, which compiles or loads kernels: one process first, all others together when it is done.

    If the first one dies another takes its place, and the others go on waiting. With a full cache the first takes a
    fraction of a second. The limit is for a first one that hangs: then we compile.
    """
    with _turn():
        warm_up()


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    directory = cache_directory()
    if directory is None:
        yield
        return
    try:
        file = (directory / "warm-up.lock").open("a+")  # NFS grants shared locks only on files that may be read, too
    except OSError:  # a full disk, say: then all may compile at once
        yield
        return
    with file:  # closing it, and dying, unlock it
        is_first = _await_turn(file.fileno())
        if is_first:
            _note(file.fileno(), _UNDONE_BYTES)
        yield
        if is_first:
            _note(file.fileno(), _DONE_BYTES)


def _await_turn(fd: int) -> bool:
    """Wait for the lock, alone if nobody has compiled since we came, else with others; whether alone."""
    deadline = time.monotonic() + _TURN_LIMIT_S
    if _lock(fd, fcntl.LOCK_EX):
        return True
    while time.monotonic() < deadline:
        if _lock(fd, fcntl.LOCK_SH):
            if os.fstat(fd).st_size == _DONE_BYTES:
                return False
            if _lock(fd, fcntl.LOCK_EX):  # the one before us died; if this fails the shared lock is gone, too
                return True
        time.sleep(_LOOK_S)
    return False


def _note(fd: int, num_bytes: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(fd, num_bytes)


def _lock(fd: int, kind: int) -> bool:
    try:
        return try_lock(fd, kind)
    except OSError:  # no locks on this file system: then nobody waits
        return True
