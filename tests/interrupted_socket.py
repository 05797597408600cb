"""A socket whose user presses Ctrl-C at a chosen moment."""

from typing import Any

import zmq


class InterruptedSocket:
    """Passes everything on; one call of `send` or `recv` is interrupted, before it has done anything or after.

    Args:
        socket: what it stands in for.
        method: which calls count.
        call: the number of the one that is interrupted, from 0 on.
        is_done: whether the frame was sent, or received and lost, by then.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", method: str, call: int, *, is_done: bool) -> None:
        self.socket, self._method, self._left, self._is_done = socket, method, call, is_done

    def __getattr__(self, name: str) -> Any:
        passed_on = getattr(self.socket, name)
        return self._interrupt_in_time if name == self._method else passed_on

    def _interrupt_in_time(self, *arguments: Any, **named: Any) -> Any:
        self._left -= 1
        if self._left != -1:
            return getattr(self.socket, self._method)(*arguments, **named)
        if self._is_done:
            getattr(self.socket, self._method)(*arguments, **named)
        raise KeyboardInterrupt
