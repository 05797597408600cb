"""The first content of a matrix's rows, made by one process and awaited by all."""

import logging
import threading
import time

import numpy as np

from workers.errors import MatrixMismatch
from workers.fresh_rows import fill_rows
from workers.memory import SharedArrays

_log = logging.getLogger(__name__)

_LOOK_S = 0.005
_FILLED, _FAILED = 1, -1
"""What `is_filled` says; 0 before."""


class RowFill:
    """Fills rows, in a thread if wanted, and says through shared memory when they are ready.

    Args:
        arrays: with `is_filled`, int64 `[1]`, which is looked up whenever it is needed: whoever holds one of them keeps
            the memory.
    """

    def __init__(self, arrays: SharedArrays) -> None:
        self._arrays = arrays
        self._error: BaseException | None = None
        self._is_stopping = threading.Event()

    def run(self, rows_NS: np.ndarray, deviation: float, seed: int) -> None:
        """Fill rows with small random numbers, see `fill_rows`."""
        self._run(rows_NS, deviation, seed, self._arrays["is_filled"])

    def start(self, rows_NS: np.ndarray, deviation: float, seed: int) -> None:
        """The same in a thread; what goes wrong there is raised by `wait`."""
        is_filled_1 = self._arrays["is_filled"]  # here: the thread may go on when the memory was let go of

        def run_or_tell() -> None:
            try:
                self._run(rows_NS, deviation, seed, is_filled_1)
            except BaseException as e:  # noqa: BLE001 - raised in the thread that waits
                _log.exception("the rows of the tag matrix could not be filled")
                self._error = e
                is_filled_1[0] = _FAILED

        threading.Thread(target=run_or_tell, name="fill-rows", daemon=True).start()

    def mark(self) -> None:
        """Rows hold what they shall begin with."""
        self._arrays["is_filled"][0] = _FILLED

    def stop(self) -> None:
        """A thread that still fills ends with its present block, and marks nothing."""
        self._is_stopping.set()

    def wait(self, limit_s: float) -> None:
        """Wait until rows are filled, in whichever process.

        Raises:
            MatrixMismatch: they were not, within the limit, or filling failed, or the matrix was closed.
        """
        deadline = time.monotonic() + limit_s
        while (state := self._arrays["is_filled"][0]) != _FILLED:
            if state == _FAILED:
                why = f": {self._error!r}" if self._error else "; its own error says why"
                raise MatrixMismatch(f"the owner of the tag matrix could not fill its rows{why}.") from self._error
            if time.monotonic() > deadline:
                raise MatrixMismatch(f"the owner of the tag matrix has not filled its rows within {limit_s:.0f} s")
            time.sleep(_LOOK_S)  # shared memory can only be looked at

    def _run(self, rows_NS: np.ndarray, deviation: float, seed: int, is_filled_1: np.ndarray) -> None:
        fill_rows(rows_NS, deviation, seed, self._is_stopping.is_set)
        if not self._is_stopping.is_set():
            is_filled_1[0] = _FILLED
