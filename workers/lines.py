"""The two ends of the wire as sockets whose sends and receives never wait without a limit."""

from collections.abc import Iterator, Sequence

import zmq

from workers.array_codec import Frame
from workers.descriptors import allow_many_descriptors
from workers.errors import ProtocolError
from workers.protocol import MAX_FRAME_BYTES

_QUEUE_MESSAGES = 1000
_LINGER_MS = 1000
_SEND_LIMIT_MS = 5000
_RECONNECT_MS, _RECONNECT_MAX_MS = 20, 500
_MAX_PER_RECEIVE = 10_000
_MORE_FOLLOWS = int(zmq.DONTWAIT | zmq.SNDMORE)
_SPOILT = b"\0"
"""A frame that is no header, nor any array, of which none has a single byte."""


class TrunkLine:
    """The trunk's ROUTER: binds the endpoint, knows its peers by name.

    Ctrl-C may come in the middle of a message, and the trunk go on: the next message begins with its first frame all
    the same. Whether the interrupted one was sent, `num_taken` says.
    """

    def __init__(self, endpoint: str) -> None:
        allow_many_descriptors()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        _set_limits(self._socket)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an unreachable peer is an error, not a silent loss
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close(linger=0)
            raise ProtocolError(f"endpoint: cannot bind {endpoint!r}: {error}.") from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.num_taken = 0
        """Messages that peers get, or have got, whole; one counts even if its `send` was interrupted."""
        self._kept: list[tuple[str, list[Frame]]] = []
        """What was received while we were interrupted."""

    def send(self, name: str, frames: Sequence[Frame]) -> bool:
        """Whether the peer's queue took the message; False if it is full or the peer cannot be reached.

        A message that is interrupted before its last frame is spoilt: its peer refuses it.
        """
        socket, num_taken, is_single = self._socket, self.num_taken, len(frames) == 1
        try:
            socket.send(name.encode(), _MORE_FOLLOWS)
            if not is_single:
                for frame in frames[:-1]:
                    socket.send(frame, _MORE_FOLLOWS, copy=False)
            self.num_taken = num_taken + 1
            socket.send(frames[-1], zmq.DONTWAIT, copy=is_single)
        except zmq.ZMQError as error:
            self.num_taken = num_taken
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        except BaseException:  # which frame was the last one sent? A last frame too many is ignored, as it has no name
            socket.send(frames[-1] if self.num_taken > num_taken else _SPOILT, zmq.DONTWAIT)
            raise
        return True

    def receive(self) -> Iterator[tuple[str, list[Frame]]]:
        """What has arrived: name and frames of each message, up to a bound; the rest waits for the next call.

        A frame that an interruption takes with it is lost, and its message cannot be read, or never comes.
        """
        while self._kept:
            yield self._kept.pop()
        for _ in range(_MAX_PER_RECEIVE):
            identity: zmq.Frame | None = None
            frames: list[Frame] = []
            try:
                identity = self._socket.recv(zmq.DONTWAIT, copy=False)
                _receive_rest(self._socket, frames, identity)
            except zmq.Again:
                return
            except BaseException:
                self._keep(identity, frames)
                raise
            yield identity.bytes.decode(errors="replace"), frames

    def _keep(self, identity: zmq.Frame | None, frames: list[Frame]) -> None:
        """Receive the rest of a message in whose middle we were interrupted, for the next `receive`."""
        while self._socket.getsockopt(zmq.RCVMORE):
            part = self._socket.recv(copy=False)
            frames.append(part.buffer if frames else part.bytes)
        if identity is not None and frames:
            self._kept.append((identity.bytes.decode(errors="replace"), frames))

    def wait(self, limit_ms: int) -> None:
        """Until a message arrives, or the limit."""
        self._socket.poll(limit_ms)

    def close(self) -> None:
        """Drop what was not sent; safe to call twice."""
        self._socket.close(linger=0)


class WorkerLine:
    """A worker's DEALER: connects, whether or not the trunk listens yet."""

    def __init__(self, endpoint: str, name: str) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        _set_limits(self._socket)
        self._socket.setsockopt(zmq.SNDTIMEO, _SEND_LIMIT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        self._socket.setsockopt(zmq.IDENTITY, name.encode())
        self._socket.connect(endpoint)

    def send(self, frames: Sequence[Frame]) -> bool:
        """Whether the message was taken within the limit. Frames are copied: they may be reused at once."""
        try:
            if len(frames) == 1:  # as nearly always with a ring; saves the look at each part of several
                self._socket.send(frames[0])
            else:
                self._socket.send_multipart(frames, copy=True)
        except zmq.Again:
            return False
        return True

    def receive(self, limit_s: float) -> list[Frame] | None:
        """The frames of the next message, or None if there is none within the limit."""
        try:
            header = self._socket.recv(zmq.DONTWAIT, copy=False)  # with a chunk ahead it is there: no poll, no sleep
        except zmq.Again:
            if not self._socket.poll(int(limit_s * 1000)):
                return None
            header = self._socket.recv(zmq.DONTWAIT, copy=False)
        return _receive_rest(self._socket, [header.bytes], header)

    def close(self, *, hand_over: bool) -> None:
        """Close; before that, if wanted, hand over what was sent and has not left yet, within a limit."""
        self._socket.close(linger=_LINGER_MS if hand_over else 0)
        self._context.term()


def _receive_rest(socket: "zmq.Socket[bytes]", frames: list[Frame], part: zmq.Frame) -> list[Frame]:
    """Add what follows the part just received; it came with that, so this waits for nothing.

    A header, the first frame, is small: a copy is cheaper than a view of the message. Arrays are not copied.
    """
    while part.more:  # to ask the socket would take three times as long
        part = socket.recv(copy=False)
        frames.append(part.buffer if frames else part.bytes)
    return frames


def _set_limits(socket: "zmq.Socket[bytes]") -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _QUEUE_MESSAGES)
    socket.setsockopt(zmq.RCVHWM, _QUEUE_MESSAGES)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
