"""What a trunk is told when matrix and workers are there: it was started before, to load torch in the meantime."""

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from workers.errors import ProtocolError

_MOST_BYTES = 1 << 16
_MOST_FDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Descriptors are the receiver's own: those that are sent stay open here."""

    matrix_fd: int
    """Of the shared tag matrix."""
    ring_fd: int | None
    """Of the ring; None: all arrays go over ZeroMQ."""
    endpoint: str
    """Where the workers connect."""
    threads: int
    """CPU threads of the trunk."""
    are_threads_fixed: bool = False
    """Whether that number stays; else a trunk on the CPU looks for a better one."""
    cores: str = ""
    """What to keep to while training, see `workers.cores.of_text`; empty: all."""
    resume: Path | None = None
    """The checkpoint to go on from."""
    trace: str | None = None
    """Which steps to trace, see `TraceWindow.of_text`."""

    def send(self, connection: socket.socket) -> None:
        """Hand it to the process at the other end.

        Raises:
            BrokenPipeError, ConnectionResetError: that process has ended.
            OSError: the system refuses.
        """
        fds = [self.matrix_fd] if self.ring_fd is None else [self.matrix_fd, self.ring_fd]
        words = {
            "descriptors": len(fds),
            "endpoint": self.endpoint,
            "threads": self.threads,
            "are_threads_fixed": self.are_threads_fixed,
            "cores": self.cores,
            "resume": None if self.resume is None else os.fspath(self.resume),
            "trace": self.trace,
        }
        socket.send_fds(connection, [json.dumps(words).encode()], fds)

    @classmethod
    def receive(cls, fd: int) -> "Assignment | None":
        """Wait for it at this end of a socket pair, which is closed then; None if there will be none.

        Raises:
            ProtocolError: descriptors were lost on the way, as where this process may open no more files.
        """
        with socket.socket(fileno=fd) as connection:
            data, fds, _, _ = socket.recv_fds(connection, _MOST_BYTES, _MOST_FDS)
        for received_fd in fds:
            os.set_inheritable(received_fd, False)
        if not data:
            return None
        words = json.loads(data)
        if len(fds) != words["descriptors"]:
            raise ProtocolError(
                f"got {len(fds)} of {words['descriptors']} descriptors of shared memory. Can this process open more "
                "files (`ulimit -n`)?"
            )
        return cls(
            matrix_fd=fds[0],
            ring_fd=fds[1] if len(fds) > 1 else None,
            endpoint=words["endpoint"],
            threads=words["threads"],
            are_threads_fixed=words["are_threads_fixed"],
            cores=words["cores"],
            resume=None if words["resume"] is None else Path(words["resume"]),
            trace=words["trace"],
        )


def make_connection() -> tuple[socket.socket, socket.socket]:
    """A pair of ends: one to send an assignment, one for the process that receives it. Both close on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
