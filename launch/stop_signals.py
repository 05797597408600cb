"""Counting the signals that ask a run to stop."""

import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""The last two are what batch systems send some time before a job has to end. The trunk ignores them all."""


class StopSignals:
    """While it is entered, SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are counted instead of ending the process.

    A signal that was already ignored when the process started (SIGHUP under `nohup`) stays ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        """Whether any of them has come, or somebody has asked in another way: finish the step, save, exit."""
        self._num_interrupts = 0
        self._previous: dict[signal.Signals, object] = {}

    @property
    def impatient(self) -> bool:
        """Whether Ctrl-C came a second time: end everything now.

        The first is a wish to stop like any other, also of somebody who has not seen that there was one before.
        """
        return self._num_interrupts >= 2

    def __enter__(self) -> Self:
        counted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._count) for number in counted}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _count(self, number: int, frame: FrameType | None) -> None:
        self._num_interrupts += number == signal.SIGINT
        self.asked = True
