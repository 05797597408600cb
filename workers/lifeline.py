"""The lifeline: how a process learns, at once and without polling anybody, that its owner is gone.

The owner holds the writing end of a pipe and never writes. Its children inherit the reading end: whatever ends the
owner, `kill -9` included, the kernel closes the writing end and every child reads end-of-file. A process that the
owner forked (a loader of images, say) may hold a copy of the writing end for longer; so children also look at their
parent's process id, once a second.
"""

import os
import select
import signal
import threading
from collections.abc import Callable

TERMINATED_STATUS = 128 + signal.SIGTERM
"""Exit status of a worker that SIGTERM ended. One that said BYE ends with 0: it was drained, or SIGTERM came while it
started, between HELLO and READY."""
_PARENT_CHECK_S = 1.0


class Lifeline:
    """The owner's side: while this object is open, watchers know that the owner lives."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()  # both close on exec: children get the reading end by pass_fds only

    def close(self) -> None:
        """Let go: whoever still watches takes the owner for dead. Safe to call twice."""
        for fd in (self._write_fd, self.read_fd):
            if fd >= 0:
                os.close(fd)
        self.read_fd = self._write_fd = -1


def watch_owner(lifeline_fd: int, on_death: Callable[[], None], owner_pid: int | None = None) -> threading.Thread:
    """Call `on_death` in a thread when the owner of the lifeline is gone.

    Args:
        lifeline_fd: the inherited reading end of the owner's `Lifeline`.
        on_death: runs once, in the watching thread; the main thread may be inside a kernel, so end by `os._exit`.
        owner_pid: process id of the owner where it is this process's parent.

    Raises:
        OSError: the descriptor is not open.
    """
    os.fstat(lifeline_fd)

    def watch() -> None:
        while not _is_closed(lifeline_fd) and owner_pid in (None, os.getppid()):
            pass
        on_death()

    thread = threading.Thread(target=watch, name="lifeline", daemon=True)
    thread.start()
    return thread


def _is_closed(lifeline_fd: int) -> bool:
    """Wait a moment for end-of-file."""
    poller = select.poll()
    poller.register(lifeline_fd, select.POLLIN)
    return bool(poller.poll(_PARENT_CHECK_S * 1000)) and os.read(lifeline_fd, 1) == b""
