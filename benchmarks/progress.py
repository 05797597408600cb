"""Lines that say what a benchmark is doing, while it does it."""

import sys
import time

_QUIET_S = 5.0


class Progress:
    """Writes to standard error: a line for each stage, and for the rounds one that changes on a terminal.

    Elsewhere rounds give a line when they are complete, and every few seconds.
    """

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._said_s = self._start_s

    def stage(self, text: str) -> None:
        """Something longer begins."""
        self._write(f"[{time.monotonic() - self._start_s:6.1f} s] {text}", "\n")

    def round(self, names: str, counted: int, wanted: int, disturbance: str) -> None:
        """A round is over."""
        note = f" (this one does not count: {disturbance})" if disturbance else ""
        if self._is_terminal or counted == wanted or time.monotonic() - self._said_s > _QUIET_S:
            end = "\n" if counted == wanted or not self._is_terminal else ""
            self._write(f"    {names}: {counted} of {wanted} rounds{note}", end)

    def _write(self, text: str, end: str) -> None:
        self._said_s = time.monotonic()
        start = "\r\x1b[K" if self._is_terminal else ""
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)
