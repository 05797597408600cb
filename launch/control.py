"""The control socket of a run: `status`, `scale` and `stop` from another terminal.

    1. client REQ  -> launcher REP   {"op": "status" | "scale" | "stop", ...}     one msgpack map
    2. client      <- launcher       {"ok": true, ...} or {"ok": false, "error": text}

The socket lies in a private directory (mode 0700), so only the run's owner reaches it. The launcher answers between two
looks at its processes and waits for nobody; the client waits a bounded time.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import zmq

from workers.errors import HybridError, RunError

Handler = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Answers a request; raises HybridError to refuse it."""

_MAX_REQUEST_BYTES = 64 << 10
_MAX_REQUESTS_AT_ONCE = 16
_REPLY_LIMIT_S = 10.0


class ControlServer:
    """The launcher's end."""

    def __init__(self, endpoint: str, handlers: Mapping[str, Handler]) -> None:
        self.endpoint = endpoint
        self._handlers = handlers
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
        self.socket.bind(endpoint)

    def serve(self) -> None:
        """Answer the requests that have arrived; does not wait."""
        for _ in range(_MAX_REQUESTS_AT_ONCE):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self.socket.send(msgpack.packb(self._answer(frames)), zmq.DONTWAIT)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self.socket.close()

    def _answer(self, frames: list[bytes]) -> dict[str, Any]:
        try:
            request = msgpack.unpackb(frames[0])
            if len(frames) != 1 or not isinstance(request, dict):
                raise RunError(f"control: a request is one map, got {len(frames)} frames.")
            handler = self._handlers.get(str(request.get("op")))
            if handler is None:
                raise RunError(f"control: op = {request.get('op')!r}, expected one of {', '.join(self._handlers)}.")
            return {"ok": True, **handler(request)}
        except HybridError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:  # noqa: BLE001 - msgpack raises many types on hostile bytes; the run must go on
            return {"ok": False, "error": f"control: not a request: {error}"}


def ask(endpoint: str, op: str, timeout_s: float = _REPLY_LIMIT_S, **fields: Any) -> dict[str, Any]:
    """One request to a launcher.

    Raises:
        RunError: the launcher refused, or did not answer in time.
    """
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(msgpack.packb({"op": op, **fields}))
        if not socket.poll(int(timeout_s * 1000)):
            raise RunError(f"the launcher did not answer {op!r} within {timeout_s:g} s at {endpoint}.")
        reply = msgpack.unpackb(socket.recv())
    finally:
        socket.close(0)
    if not isinstance(reply, dict) or not reply.get("ok"):
        raise RunError(str(reply.get("error", reply)) if isinstance(reply, dict) else f"not an answer: {reply!r}")
    return {name: value for name, value in reply.items() if name != "ok"}
