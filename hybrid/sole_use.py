"""Who may use what belongs to one process: that process alone, one thread at a time."""

import functools
import os
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from workers.errors import ConfigError, WorkerLost

P = ParamSpec("P")
R = TypeVar("R")


_LIMIT_S = 600.0
"""Longer than a thread waits for workers to start, and then for replies."""


class SoleUse:
    """A lock that a fork of the process cannot take: it has copies of sockets and workers that are its parent's.

    Args:
        fill_limit_s: for how much longer a thread may hold it, as its first call waits for the matrix to be filled.

    Raises:
        ConfigError: on entering it in another process than it was made in.
        WorkerLost: on entering it, another thread has held it for `_LIMIT_S` and that.

    **Concurrency**: any number of threads; one that holds it may enter it again.
    """

    def __init__(self, fill_limit_s: float = 0.0) -> None:
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._limit_s = _LIMIT_S + fill_limit_s

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that made it."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        """Raise ConfigError in another process than it was made in."""
        if not self.is_ours:
            raise ConfigError(
                f"this head belongs to process {self._pid}, and this is process {os.getpid()}, a fork of it: only the "
                "process that made a head can use it. A DataLoader's workers should return what the head needs."
            )

    def __enter__(self) -> None:
        self.check_process()
        if not self._lock.acquire(timeout=self._limit_s):
            raise WorkerLost(f"another thread has been using this head for {self._limit_s:.0f} s.")

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


class _HasSoleUse(Protocol):
    sole_use: SoleUse


S = TypeVar("S", bound=_HasSoleUse)


def in_turn(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that holds the object's `sole_use` while it runs."""

    @functools.wraps(method)
    def in_turn(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.sole_use:
            return method(self, *args, **kwargs)

    return in_turn
