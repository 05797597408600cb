"""Counting the signals that ask a run to stop."""

import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """While it is entered, SIGINT, SIGTERM and SIGHUP are counted instead of ending the process."""

    def __init__(self) -> None:
        self.asked = False
        """Whether any of them has come: finish the step, save, exit."""
        self.impatient = False
        """Whether Ctrl-C came a second time: end everything now."""
        self._previous: list[object] = []

    def __enter__(self) -> Self:
        self._previous = [signal.signal(number, self._count) for number in _SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in zip(_SIGNALS, self._previous, strict=True):
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _count(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            self.impatient = True
        self.asked = True
