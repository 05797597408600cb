"""The link between the launcher and a process that it started: small messages, either way, that never block.

A link is one ZeroMQ PAIR of sockets on an ipc endpoint in a private directory. The launcher binds, the started process
connects, and each link serves one process only. A message is one msgpack map; its `kind` names a row of `MESSAGES`,
which lists the fields that must be there. More fields may follow.

    started process                          launcher
      progress, step, note    ----------->     shows them
      metrics, done           ----------->     shows them at the end
      kill(worker)            ----------->     kills that worker, then answers `lost`
      trained                 ----------->     needs no worker for what is left to do
                              <-----------     stop: finish the step, save, exit 0
                              <-----------     lost(worker): that worker is dead, send its chunks again
                              <-----------     drain(worker): let that worker finish and leave
                              <-----------     no_workers: none will come any more; before `trained` this is a `stop`

`send` never waits: what the socket does not take stays in a bounded outbox, where a newer `step` or `progress` replaces
an older one, so that a slow or absent peer costs neither time nor memory. `stop`, `metrics` and the like are kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import msgpack
import zmq

from workers.errors import ProtocolError

logger = logging.getLogger(__name__)

Message = dict[str, Any]

_NUMBER = (int, float)
MESSAGES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "progress": {"phase": str, "text": str, "done": int, "total": int},
    "step": {
        "step": int,
        "epoch": _NUMBER,
        "examples_per_s": _NUMBER,
        "loss": _NUMBER,
        "lr": _NUMBER,
        "row_lr": _NUMBER,
        "in_flight": int,
        "wait_fraction": _NUMBER,
        "negatives": int,
        "fraction": _NUMBER,
        "eta_s": _NUMBER,
        "staleness_chunks": _NUMBER,
        "chunks_resent": int,
        "workers": list,
    },
    "metrics": {"table": dict},
    "note": {"text": str},
    "done": {"outputs": dict},
    "kill": {"worker": str},
    "trained": {},
    "stop": {},
    "lost": {"worker": str},
    "drain": {"worker": str},
    "no_workers": {},
}
"""Kind of message -> the fields that it must have, with their types."""

WORKER_FIELDS: dict[str, type | tuple[type, ...]] = {"name": str, "state": str, "rows_per_s": _NUMBER, "in_flight": int}
"""Fields of each entry of a step's `workers`."""

_REPLACEABLE = frozenset({"step", "progress"})
_MAX_MESSAGE_BYTES = 8 << 20
_MAX_OUTBOX = 1024
_QUEUE_MESSAGES = 256
_ARRIVED_MESSAGES = 1 << 16
"""More than the system holds of a peer: where ZeroMQ stops to take them, and the peer ends, the rest is lost."""
_MAX_PER_RECEIVE = 256
_LINGER_MS = 2000
_ON_THE_WAY_MS = 50  # what a process that ended has left with the system is there sooner
_REST_LIMIT_S = 5.0


class Link:
    """One end of a link; not for use from several threads."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.socket = socket
        self.endpoint = endpoint
        self._outbox: list[tuple[str, bytes]] = []
        """Kind and frame of each message that waits."""

    @classmethod
    def bind(cls, endpoint: str) -> Link:
        """The launcher's end; at most one process connects to it."""
        return cls._open(endpoint, bind=True)

    @classmethod
    def connect(cls, endpoint: str) -> Link:
        """The started process's end; succeeds at once, whether or not the launcher listens."""
        return cls._open(endpoint, bind=False)

    @classmethod
    def _open(cls, endpoint: str, *, bind: bool) -> Link:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        for option, value in (
            (zmq.LINGER, _LINGER_MS),
            (zmq.SNDHWM, _QUEUE_MESSAGES),
            (zmq.RCVHWM, _ARRIVED_MESSAGES),
            (zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES),
        ):
            socket.setsockopt(option, value)
        try:
            (socket.bind if bind else socket.connect)(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise ProtocolError(f"link: cannot open endpoint {endpoint!r}: {error}.") from error
        return cls(socket, endpoint)

    def send(self, kind: str, **fields: Any) -> bool:
        """Hand a message over without waiting; numpy scalars become plain numbers.

        Returns:
            Whether everything handed over so far has left the outbox.

        Raises:
            ProtocolError: the message is not one of `MESSAGES`, or the peer has taken nothing for too long.
        """
        message = {"kind": kind, **{name: _plain(value) for name, value in fields.items()}}
        validate(message)
        try:
            frame: bytes = msgpack.packb(message)
        except (ValueError, OverflowError, TypeError) as error:
            raise ProtocolError(f"link: {kind} cannot be packed: {error}.") from error
        if kind in _REPLACEABLE:
            self._outbox = [waiting for waiting in self._outbox if waiting[0] != kind]
        if len(self._outbox) >= _MAX_OUTBOX:
            raise ProtocolError(f"link: {_MAX_OUTBOX} messages wait and the peer takes none; last kind {kind!r}.")
        self._outbox.append((kind, frame))
        return self.flush()

    def flush(self) -> bool:
        """Move the outbox to the socket as far as it takes it; whether the outbox is empty now."""
        while self._outbox:
            try:
                self.socket.send(self._outbox[0][1], zmq.DONTWAIT)
            except zmq.Again:
                return False
            del self._outbox[0]
        return True

    def receive(self, timeout_s: float = 0.0) -> list[Message]:
        """Every valid message that has arrived, oldest first; waits up to `timeout_s` for a first one.

        What is not one of `MESSAGES` is dropped with a warning in the log: news must not end a run.
        """
        self.flush()
        messages: list[Message] = []
        if timeout_s > 0 and not self.socket.poll(int(timeout_s * 1000)):
            return messages
        self.flush()  # whoever sends to us is there to take what waited for it
        while len(messages) < _MAX_PER_RECEIVE:
            try:
                frame = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            try:
                messages.append(decode(frame))
            except ProtocolError as error:
                logger.warning("Dropped: %s", error)
        return messages

    def receive_rest(self) -> list[Message]:
        """Every valid message of a peer that has ended, oldest first: those too that the system still holds."""
        messages: list[Message] = []
        give_up_s = time.monotonic() + _REST_LIMIT_S
        while time.monotonic() < give_up_s and self.socket.poll(_ON_THE_WAY_MS):
            messages += self.receive()
        return messages

    def close(self, timeout_s: float = 2.0) -> None:
        """Hand over what is left within the limit, then close; safe to call twice."""
        if self.socket.closed:
            return
        deadline = time.monotonic() + timeout_s
        while not self.flush() and (left_s := deadline - time.monotonic()) > 0:
            self.socket.poll(min(100, int(left_s * 1000) + 1), zmq.POLLOUT)
        self.socket.close(int(max(0.0, deadline - time.monotonic()) * 1000))


def decode(frame: bytes) -> Message:
    """A received frame as a valid message.

    Raises:
        ProtocolError: the frame is not msgpack, or not one of `MESSAGES`.
    """
    try:
        message = msgpack.unpackb(frame)
    except Exception as error:
        raise ProtocolError(f"link: a frame of {len(frame)} bytes is not msgpack: {error}.") from error
    validate(message)
    return message


def validate(message: object) -> None:
    """Check a message against `MESSAGES`.

    Raises:
        ProtocolError: names the kind and field, what it got and what it expected.
    """
    if not isinstance(message, dict) or not all(isinstance(name, str) for name in message):
        raise ProtocolError(f"link: a message is a map with text keys, got {type(message).__name__}.")
    kind = message.get("kind")
    if not isinstance(kind, str) or kind not in MESSAGES:
        raise ProtocolError(f"link: kind = {kind!r}, expected one of {', '.join(MESSAGES)}.")
    _check_fields(message, MESSAGES[kind], f"link: {kind}")
    if kind == "step":
        for worker in message["workers"]:
            if not isinstance(worker, dict):
                raise ProtocolError(f"link: step.workers holds {type(worker).__name__}, expected maps.")
            _check_fields(worker, WORKER_FIELDS, "link: step.workers")


def _check_fields(values: Mapping[str, Any], fields: Mapping[str, type | tuple[type, ...]], where: str) -> None:
    for name, wanted in fields.items():
        value = values.get(name)
        if not isinstance(value, wanted) or isinstance(value, bool):
            types = wanted if isinstance(wanted, tuple) else (wanted,)
            expected = " or ".join(one.__name__ for one in types)
            raise ProtocolError(f"{where}.{name} = {value!r} is {type(value).__name__}, expected {expected}.")


def _plain(value: Any) -> Any:
    """Plain values for msgpack: scalars of numpy by `.item()`, paths as text, nested containers alike.

    Text for people: of a path that is not UTF-8, the bytes that are none are written as escapes.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float, bytes)):
        return value
    if hasattr(value, "item"):
        return value.item()
    return str(value).encode(errors="backslashreplace").decode()
