"""One worker: answers the chunks of one trunk until it is told to leave."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from workers.array_codec import Frame, Part, Room
from workers.chunk_messages import chunk_of, error_of, refusal_message, reply_message
from workers.codec import check_outgoing, decode, encode_into, flight_id_of
from workers.config import HeadConfig
from workers.engine import WideEngine
from workers.errors import HybridError, MatrixMismatch, ProtocolError
from workers.lines import WorkerLine
from workers.matrix import TagMatrix
from workers.phase_clock import PhaseClock, warm_up_report
from workers.prepared_chunk import Answer
from workers.protocol import Message
from workers.reply_rooms import ReplyRooms
from workers.ring import Ring
from workers.settings import from_plain
from workers.trace import TraceWindow
from workers.warm_up import warm_up_in_turn
from workers.worker_trace import WorkerTrace

_WELCOME_PATIENCE_S = 1.0
_FILL_LIMIT_S = 300.0  # beside `TagMatrix.fill_limit_s`
_MIN_HEARTBEAT_S, _MAX_HEARTBEAT_S = 0.05, 60.0

_NOWHERE: tuple[Room | None, Answer | None] = (None, None)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who a worker is: a name never used twice, and a place in the pool that its successor takes over."""

    name: str
    index: int


def serve(
    endpoint: str, matrix: TagMatrix, ring: Ring | None, me: WorkerIdentity, window: TraceWindow | None = None
) -> None:
    """Serve the trunk at `endpoint` until DRAIN, or until SIGTERM while not yet ready; then say BYE and return.

    The numbers are those of `workers.protocol`.

    Args:
        endpoint: where the trunk listens.
        matrix: that of the trunk.
        ring: that of the trunk, if arrays pass through one.
        me: who this is.
        window: which steps to trace; None traces nothing.

    Raises:
        MatrixMismatch: the trunk works with another matrix.
        ProtocolError: the trunk speaks another version of the protocol, or takes no worker of this name or place.
    """
    trace = None if window is None else WorkerTrace(window, me.name, me.index)
    clock = PhaseClock(matrix.worker_stats_WS[me.index], trace)
    talk = _Talk(WorkerLine(endpoint, me.name), ring, clock)
    is_done = False
    try:
        with contextlib.suppress(_LeavesEarly):
            engine, heartbeat_s = _start(talk, matrix, me)
            _answer_chunks(talk, engine, heartbeat_s)
        talk.say("BYE")  # 8
        is_done = True
    finally:
        talk.line.close(hand_over=is_done)


class _LeavesEarly(Exception):
    """This worker was told to leave before it was ready: it holds no chunk."""


def _start(talk: "_Talk", matrix: TagMatrix, me: WorkerIdentity) -> tuple[WideEngine, float]:
    """1 to 3; returns what computes chunks, and how often to say that it lives.

    Raises:
        _LeavesEarly: by DRAIN or SIGTERM.
    """
    try:
        about = {"matrix": matrix.fingerprint, "ring": talk.ring and talk.ring.identity}
        talk.say("HELLO", name=me.name, index=me.index, **about)  # 1
        welcome = talk.hear({"WELCOME", "DRAIN"}, _WELCOME_PATIENCE_S, on_idle=lambda: None)  # 2
        if welcome.kind == "DRAIN":
            raise _LeavesEarly
        talk.is_welcome = True
        engine = WideEngine(matrix, from_plain(HeadConfig, welcome.fields["head"], "head"), me.index)
        with talk.clock.warming_up():
            warm_up_in_turn(engine.warm_up)
        matrix.wait_filled(_FILL_LIMIT_S)
    except SystemExit:
        raise _LeavesEarly from None
    talk.say("READY")  # 3
    _log.info("ready; %s", warm_up_report(matrix.worker_stats_WS[me.index : me.index + 1]))
    return engine, welcome.fields["heartbeat_s"]


def _answer_chunks(talk: "_Talk", engine: WideEngine, heartbeat_s: float) -> None:
    """4 to 7, until DRAIN."""
    patience_s = min(max(heartbeat_s, _MIN_HEARTBEAT_S), _MAX_HEARTBEAT_S)
    rooms = None if talk.ring is None else ReplyRooms(talk.ring.replies_RP, engine.matrix.dim)
    while True:
        message = talk.hear({"CHUNK", "DRAIN"}, patience_s, on_idle=lambda: talk.say("HEARTBEAT"))
        if message.kind == "DRAIN":
            return
        berth = message.fields["berth"]
        room, answer = _NOWHERE
        if rooms is not None and berth is not None:
            room, answer = rooms.of(berth, len(message.arrays["features_BD"]))
        talk.send(_answer(engine, message, answer, talk.clock), room)
        talk.clock.answered(message.fields["step"], message.fields["chunk"])


def _answer(engine: WideEngine, message: Message, answer: Answer | None, clock: PhaseClock) -> Message:
    """REPLY, its arrays in `answer` if there is one, or REFUSED with the error that names the field.

    Any other exception is a defect and ends the worker.
    """
    flight_id, berth = message.fields["flight_id"], message.fields["berth"]
    try:
        reply = engine.apply(chunk_of(message), answer)
        clock.computed(reply)
        return reply_message(flight_id, reply, berth)
    except HybridError as error:
        _log.warning("refused a chunk: %s", error)
        return refusal_message(flight_id, error)


class _Talk:
    """Checked messages on the worker's line."""

    def __init__(self, line: WorkerLine, ring: Ring | None, clock: PhaseClock) -> None:
        self.line, self.ring, self.clock = line, ring, clock
        self._requests = None if ring is None else [Part(memory_Q) for memory_Q in ring.requests_RQ]
        self.is_welcome = False
        """Until then whatever cannot be read, or refuses us, ends this worker: it cannot serve such a trunk."""

    def say(self, kind: str, **fields: object) -> None:
        """Send a message without arrays."""
        message = Message(kind, fields)
        check_outgoing(message)
        self.send(message)

    def send(self, message: Message, room: Room | None = None) -> None:
        """Send a message that cannot be wrong, or drop it after a while: then somebody else gets its chunk.

        Args:
            message: REPLY or REFUSED, or one that was checked.
            room: for its arrays; None sends them as frames.
        """
        if not self.line.send(encode_into(room, message)):
            _log.warning("dropped a %s: the trunk takes nothing", message.kind)

    def hear(self, kinds: set[str], patience_s: float, on_idle: Callable[[], None]) -> Message:
        """The next message of one of these kinds. Calls `on_idle` whenever nothing came for `patience_s`.

        This has no limit of its own: a worker whose owner is gone is ended by its lifeline.
        """
        while True:
            frames = self.line.receive(patience_s)
            self.clock.waited()
            if frames is None:
                on_idle()
                continue
            message = self._checked(frames)
            if message is not None and message.kind in kinds:
                return message

    def _checked(self, frames: list[Frame]) -> Message | None:
        """The message in these frames; None, after a refusal, if it is not one for a worker."""
        try:
            message = decode(frames, self._requests)
            if message.kind == "REFUSED":
                self._refused(message)
                return None
            if message.kind not in ("WELCOME", "CHUNK", "DRAIN"):
                raise ProtocolError(f"kind: {message.kind} goes from worker to trunk only.")
        except ProtocolError as error:
            if not self.is_welcome:
                raise
            _log.warning("refused a message: %s", error)
            self.send(refusal_message(flight_id_of(frames), error))
            return None
        return message

    def _refused(self, message: Message) -> None:
        error = error_of(message)
        if isinstance(error, MatrixMismatch) or not self.is_welcome:
            raise error
        _log.warning("the trunk refused a message: %s", error)
