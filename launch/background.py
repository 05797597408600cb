"""Work in a thread whose owner serves others until it is done."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_NICER = 5
"""Than the process: a thread gets a quarter of the time of a core that another wants, too."""


class Background(Generic[T]):
    """Calls a function in a thread at once; the process may end before it returns.

    The thread, with all that it starts, leaves the cores to whatever else wants them: beside it the trunk loads its
    libraries, on one core, and everybody waits for that.

    Example:
        >>> work = Background(lambda: 6 * 7)
        >>> while not work.is_done(wait_s=0.1):
        ...     pass  # serve others
        >>> work.result()
        42
    """

    def __init__(self, function: Callable[[], T], name: str = "background") -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(function,), name=name, daemon=True)
        self._thread.start()

    def is_done(self, wait_s: float) -> bool:
        """Whether it returned or raised, now or while we wait."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def result(self) -> T:
        """What it returned, or its error raised; once it is done."""
        if self._errors:
            raise self._errors[0]
        return self._results[0]

    def _run(self, function: Callable[[], T]) -> None:
        if sys.platform == "linux":  # where a thread has a priority of its own, which its threads inherit
            with contextlib.suppress(OSError):
                niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICER
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
        try:
            self._results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asks for the result
            self._errors.append(error)
