"""Work in a thread whose owner serves others until it is done."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Calls a function in a thread at once; the process may end before it returns.

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
        try:
            self._results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asks for the result
            self._errors.append(error)
