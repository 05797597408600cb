"""Advisory locks on open files, which the system frees when their holder dies."""

import fcntl
import time
from collections.abc import Callable


def try_lock(fd: int, how: int = fcntl.LOCK_EX) -> bool:
    """Whether the lock is ours now; False if another holds it.

    Args:
        fd: of the open file.
        how: `fcntl.LOCK_EX` for one holder, `fcntl.LOCK_SH` for one of many.

    Raises:
        OSError: files cannot be locked here.
    """
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def await_lock(fd: int, *, limit_s: float, pause_s: float, waiting: Callable[[], None] = lambda: None) -> bool:
    """Wait for the lock of a file, for one holder; False if another has kept it until the limit.

    Args:
        fd: of the open file.
        limit_s: for how long to try; once in any case.
        pause_s: between two tries.
        waiting: called before each pause.

    Raises:
        OSError: see `try_lock`.
    """
    give_up_s = time.monotonic() + limit_s
    while not try_lock(fd):
        if time.monotonic() > give_up_s:
            return False
        waiting()
        time.sleep(pause_s)
    return True
