"""Lines that say what a benchmark is doing, while it does it."""

import sys
import time


class Progress:
    """Writes to standard error: a line for each stage, and on a terminal one that changes with every round."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def stage(self, text: str) -> None:
        """Something longer begins."""
        self._write(f"[{time.monotonic() - self._start_s:6.1f} s] {text}", "\n")

    def round(self, names: str, counted: int, wanted: int, disturbance: str) -> None:
        """A round is over."""
        end = "\n" if counted == wanted or not self._is_terminal else ""
        note = f" ({disturbance})" if disturbance else ""
        if self._is_terminal or counted == wanted or disturbance:
            self._write(f"    {names}: {counted} of {wanted} rounds{note}", end)

    def _write(self, text: str, end: str) -> None:
        start = "\r\x1b[K" if self._is_terminal else ""
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)
