"""Ctrl-C ends a command with one line and status 130 instead of a traceback."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED_STATUS = 130
"""What shells report of a command that Ctrl-C ended."""


def end_quietly_when_interrupted() -> None:
    """From here on SIGINT ends the process in order, a second one at once; one that was held back counts now.

    For processes that run one command, before they load anything: loading takes long enough for an impatient user.
    Where SIGINT is ignored (what a script puts in the background), or somebody has a handler of their own, that stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """While a program is about to replace this one a SIGINT waits: until that one is ready for it, or cannot start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.write(2, b"\nInterrupted.\n")  # not by sys.stderr, in the midst of whose work this may come
    raise SystemExit(INTERRUPTED_STATUS)
