"""The control socket of a run: `status`, `scale` and `stop` from another terminal.

    1. client REQ  -> launcher REP   {"op": "status" | "scale" | "stop", ...}     one msgpack map
    2. client      <- launcher       {"ok": true, ...} or {"ok": false, "error": text}

The socket lies in a private directory (mode 0700), so only the run's owner reaches it. The launcher answers between two
looks at its processes and waits for nobody; the client waits a bounded time.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import zmq

from workers.errors import HybridError, RunError


class NoAnswer(RunError):
    """A launcher did not answer in time: it is busy, or was about to end."""


Handler = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Answers a request; raises HybridError to refuse it."""

_MAX_REQUEST_BYTES = 64 << 10
_MAX_REQUESTS_AT_ONCE = 16
REPLY_LIMIT_S = 10.0
_LOOK_S = 0.5


class ControlServer:
    """The launcher's end.

    Raises:
        RunError: there can be no socket at the endpoint.
    """

    def __init__(self, endpoint: str, handlers: Mapping[str, Handler]) -> None:
        self.endpoint = endpoint
        self._handlers = handlers
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.socket.close(0)
            raise RunError(
                f"no socket can be made at {endpoint}: {error}. Set TMPDIR to a folder on a local disk."
            ) from error

    def serve(self) -> None:
        """Answer the requests that have arrived; does not wait."""
        for _ in range(_MAX_REQUESTS_AT_ONCE):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self.socket.send(self._reply(frames), zmq.DONTWAIT)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self.socket.close()

    def _reply(self, frames: list[bytes]) -> bytes:
        reply: bytes
        try:
            reply = msgpack.packb({"ok": True, **self._answer(frames)})
        except HybridError as error:
            reply = _refusal(str(error))
        except Exception as error:  # noqa: BLE001 - hostile bytes, or an answer that cannot be packed; the run goes on
            reply = _refusal(f"control: cannot be answered: {error}")
        return reply

    def _answer(self, frames: list[bytes]) -> dict[str, Any]:
        request = msgpack.unpackb(frames[0])
        if len(frames) != 1 or not isinstance(request, dict):
            raise RunError(f"control: a request is one map, got {len(frames)} frames.")
        handler = self._handlers.get(str(request.get("op")))
        if handler is None:
            raise RunError(f"control: op = {request.get('op')!r}, expected one of {', '.join(self._handlers)}.")
        return handler(request)


def _refusal(reason: str) -> bytes:
    packed: bytes = msgpack.packb({"ok": False, "error": reason.encode(errors="backslashreplace").decode()})
    return packed


def ask(
    endpoint: str,
    op: str,
    timeout_s: float = REPLY_LIMIT_S,
    is_there: Callable[[], bool] = lambda: True,
    **fields: Any,
) -> dict[str, Any]:
    """One request to a launcher.

    Args:
        endpoint: of its control socket.
        op: what is asked.
        timeout_s: how long to wait for the answer.
        is_there: asked now and then, while no answer comes: whether this launcher is still the one to wait for.
        **fields: of the request.

    Raises:
        NoAnswer: the launcher did not answer in time, or is not there any more.
        RunError: it refused.
    """
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(msgpack.packb({"op": op, **fields}))
        if not _has_reply(socket, timeout_s, is_there):
            raise NoAnswer(f"the launcher did not answer {op!r} within {timeout_s:.3g} s at {endpoint}.")
        reply = msgpack.unpackb(socket.recv())
    finally:
        socket.close(0)
    if not isinstance(reply, dict) or not reply.get("ok"):
        raise RunError(str(reply.get("error", reply)) if isinstance(reply, dict) else f"not an answer: {reply!r}")
    return {name: value for name, value in reply.items() if name != "ok"}


def _has_reply(socket: "zmq.Socket[bytes]", timeout_s: float, is_there: Callable[[], bool]) -> bool:
    give_up_s = time.monotonic() + timeout_s
    while (left_s := give_up_s - time.monotonic()) > 0:
        if socket.poll(int(1000 * min(left_s, _LOOK_S)) + 1):
            return True
        if not is_there():
            return False
    return False
