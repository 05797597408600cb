"""Compiling kernels in turn, so that workers that start together do not all compile the same."""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator

from workers.jit import cache_directory

_TURN_LIMIT_S = 120.0
_LOOK_S = 0.05


def warm_up_in_turn(warm_up: Callable[[], None]) -> None:
    """Run `warm_up`, which compiles or loads kernels: one process first, all others together when it is done.

    With a full cache the first takes a fraction of a second. The limit is for a first one that hangs: then we compile.
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
        file = (directory / "warm-up.lock").open("a")
    except OSError:  # a full disk, say: then all may compile at once
        yield
        return
    with file:  # closing it, and dying, unlock it
        deadline = time.monotonic() + _TURN_LIMIT_S
        if not _lock(file.fileno(), fcntl.LOCK_EX):
            while not _lock(file.fileno(), fcntl.LOCK_SH) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
        yield


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:  # held by another
        return False
    except OSError:  # no locks on this file system: then nobody waits
        return True
    return True
