"""The trunk's side of the protocol: hands chunks to workers, collects each chunk's reply once.

There is no thread: everything happens inside `service`, which `submit` and `collect` call. Nothing in here waits
without a limit, and no send blocks. What survives losses is said in `workers.flights`.
"""

import logging
import time
from collections.abc import Callable, Sequence

from workers.array_codec import Frame
from workers.chunk import Chunk, Reply
from workers.chunk_messages import error_of, refusal_message
from workers.codec import encode
from workers.config import MAX_WORKERS, HeadConfig
from workers.errors import MatrixMismatch, ProtocolError, WorkerLost
from workers.exchange import Exchange
from workers.flights import Ticket
from workers.greeting import mismatch
from workers.lines import TrunkLine
from workers.matrix import TagMatrix
from workers.membership import Membership
from workers.peers import Peer, Peers, State, WorkerStatus
from workers.protocol import Message
from workers.ring import Ring, check_reach
from workers.router_counters import RouterCounters
from workers.settings import check, to_plain

_MEMBERSHIP_POLL_S, _LATE_REPLIES_S, _ABSENCE_S = 0.05, 0.2, 1.0
_TICK_MS = 20

_log = logging.getLogger(__name__)


class Router:
    """Binds the endpoint and serves the workers that connect to it.

    Args:
        endpoint: `ipc://...` from `workers.endpoint.make_endpoint`, or any that ZeroMQ can bind.
        head: sent to each worker that joins.
        matrix: workers must have mapped this very matrix.
        membership: told to kill silent workers, asked for dead ones.
        ring: through which arrays pass to workers that mapped it too; None: all arrays are frames.
        heartbeat_s: how often an idle worker says that it lives.
        silence_s: a worker that holds chunks and answers none for so long, and for what the largest of them may take
            (`workers.flights.longest_s`), or that is idle without a heartbeat for so long, is killed.
        start_limit_s: the same for the time from HELLO to READY, when kernels may have to be compiled, and beside
            that what filling the matrix may take (`TagMatrix.fill_limit_s`).

    Raises:
        ConfigError: a ring at an endpoint that is not `ipc://`.
        ProtocolError: the endpoint cannot be bound.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        head: HeadConfig,
        matrix: TagMatrix,
        membership: Membership,
        ring: Ring | None = None,
        heartbeat_s: float = 1.0,
        silence_s: float = 15.0,
        start_limit_s: float = 300.0,
    ) -> None:
        check(silence_s >= 3 * heartbeat_s, "silence_s", silence_s, f"at least three heartbeats of {heartbeat_s} s")
        check_reach(ring, endpoint)
        self._matrix, self._membership, self._ring = matrix, membership, ring
        self._silence_s, self._start_limit_s = silence_s, start_limit_s + matrix.fill_limit_s
        self._welcome = encode(Message("WELCOME", {"head": to_plain(head), "heartbeat_s": heartbeat_s}))
        self.counters = RouterCounters()
        self._peers = Peers()
        self._leaving: set[str] = set()  # told to drain before they said HELLO
        self._serviced_s = self._membership_polled_s = time.monotonic()
        self._excused_s = 0.0
        self._line = TrunkLine(endpoint)
        self._exchange = Exchange(self._line, ring)
        self.endpoint = self._line.endpoint

    # What a trunk calls.

    def wait_ready(self, num_workers: int, timeout_s: float, give_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until so many workers can take chunks, or until `give_up`, asked again and again, says so.

        Raises:
            WorkerLost: they cannot within the limit, or die again and again.
        """
        in_state, wanted = self._peers.in_state, f"{num_workers} ready workers"
        self._serve_until(lambda: len(in_state(State.READY)) >= num_workers or give_up(), timeout_s, wanted)

    def wait_joined(self, num_workers: int, timeout_s: float) -> None:
        """Wait until so many workers were welcomed: from there on they load or compile kernels by themselves.

        Raises:
            WorkerLost: they were not within the limit, or die again and again.
        """
        in_state, joined = self._peers.in_state, (State.STARTING, State.READY)
        self._serve_until(lambda: len(in_state(*joined)) >= num_workers, timeout_s, f"{num_workers} workers")

    def submit(self, chunks: Sequence[Chunk]) -> Ticket:
        """Send chunks to the least loaded workers; what they cannot take waits here. Never blocks.

        The arrays of the chunks must stay as they are until their replies are collected: they are sent uncopied, and
        sent again if a worker dies.

        Raises:
            ProtocolError: an array has the wrong type or number of dimensions.
            WorkerLost: workers die again and again; the chunks are given up.
        """
        ticket = self._exchange.submit(chunks)
        self.counters.chunks_submitted += len(chunks)
        try:
            self.service()
        except BaseException:
            self.give_up(ticket)
            raise
        return ticket

    def collect(self, ticket: Ticket, timeout_s: float) -> list[Reply]:
        """The replies, in the order of the chunks; waits for those that are missing.

        Raises:
            ChunkError: a worker refused a chunk; the message names the field. The ticket's other chunks are given up.
            WorkerLost: no answer within the limit and what its chunks may take, or workers die again and again.
        """
        try:
            limit_s = timeout_s + ticket.longest_s
            self._serve_until(lambda: ticket.is_done, limit_s, f"the replies to {len(ticket.flight_ids)} chunks")
        finally:
            self.give_up(ticket)  # of a complete ticket nothing is left
        if ticket.error is not None:
            raise ticket.error
        return [reply for reply in ticket.replies if reply is not None]

    def give_up(self, ticket: Ticket) -> None:
        """Forget a ticket that nobody will collect; late answers are ignored, but rows may have learned."""
        self._exchange.give_up(ticket)

    def service(self) -> None:
        """Do whatever can be done at once: take in messages, notice losses, send what waits. Never blocks.

        Raises:
            WorkerLost: workers die again and again.
        """
        now_s = time.monotonic()
        self._excuse_absence(now_s)
        for name, frames in self._line.receive():
            self._take(name, frames, now_s)
        if now_s - self._membership_polled_s >= _MEMBERSHIP_POLL_S:
            self._membership_polled_s = now_s
            for name in self._membership.poll():
                self._bury(name, now_s)
        self._expel_silent(now_s)
        self._forget_lost(now_s)
        self._dispatch(now_s)

    def drain(self, name: str) -> None:
        """Give this worker no more chunks and let it leave when it has answered those it holds."""
        peer = self._peers.get(name)
        if peer is None:
            self._leaving.add(name)
        elif peer.state in (State.STARTING, State.READY):
            peer.state = State.DRAINING
            self._tell_to_leave(peer)

    def workers(self) -> list[WorkerStatus]:
        """The workers that have said HELLO, by index."""
        return self._peers.statuses(time.monotonic())

    @property
    def num_in_flight(self) -> int:
        """Chunks submitted that nobody has answered yet."""
        return len(self._exchange)

    def close(self) -> None:
        """Close the socket; whoever owns the workers ends them. Safe to call twice."""
        self._line.close()

    # Time.

    def _serve_until(self, is_done: Callable[[], bool], limit_s: float, wanted: str) -> None:
        deadline = time.monotonic() + limit_s - self._excused_s
        while True:
            self.service()
            if is_done():
                return
            left_s = deadline + self._excused_s - time.monotonic()
            if left_s <= 0:
                states = ", ".join(f"{w.name} {w.state}" for w in self.workers()) or "none"
                raise WorkerLost(
                    f"waited {round(limit_s, 4)} s for {wanted} in vain. Workers: {states}. Their logs may say why."
                )
            self._line.wait(min(_TICK_MS, int(left_s * 1000) + 1))

    def _excuse_absence(self, now_s: float) -> None:
        """Time counts only while we listen: a trunk that was busy, or stopped, blames nobody on its return."""
        gap_s = now_s - self._serviced_s
        self._serviced_s = now_s
        if gap_s > _ABSENCE_S:
            self._excused_s += gap_s
            self._peers.skip(gap_s)

    # Sending.

    def _dispatch(self, now_s: float) -> None:
        self._exchange.dispatch(self._peers.in_state(State.READY), now_s, self.counters)
        for peer in self._peers.in_state(State.DRAINING):
            if not peer.knows_it_leaves:
                self._tell_to_leave(peer)

    def _tell_to_leave(self, peer: Peer) -> None:
        peer.knows_it_leaves = self._line.send(peer.name, encode(Message("DRAIN")))

    # Losing workers.

    def _expel_silent(self, now_s: float) -> None:
        for peer, owed_s in self._peers.silent(now_s, self._silence_s, self._start_limit_s):
            self._expel(peer, now_s, f"was silent for {owed_s:.1f} s")

    def _expel(self, peer: Peer, now_s: float, reason: str) -> None:
        self._membership.kill(peer.name)
        self._lose(peer.name, now_s, reason)

    def _lose(self, name: str, now_s: float, reason: str) -> None:
        self._leaving.discard(name)
        peer = self._peers.get(name)
        if peer is not None and peer.state is not State.LOST:
            _log.warning("worker %s %s; it had %d unanswered chunks", name, reason, len(peer.in_flight))
            self.counters.workers_lost += 1
            peer.state, peer.forget_at_s = State.LOST, now_s + _LATE_REPLIES_S

    def _bury(self, name: str, now_s: float) -> None:
        """Its death is known: it writes into no berth any more, but its last answers may still be on their way."""
        self._lose(name, now_s, "died")
        self._exchange.bury(name)
        if name in self._peers:
            self._peers[name].is_dead = True

    def _forget_lost(self, now_s: float) -> None:
        for peer in self._peers.in_state(State.LOST):
            if now_s >= peer.forget_at_s:
                self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        del self._peers[peer.name]
        self.counters.chunks_resent += self._exchange.leave(peer)

    # Receiving; the numbers are those of `workers.protocol`.

    def _take(self, name: str, frames: list[Frame], now_s: float) -> None:
        peer = self._peers.get(name)
        try:
            message = self._exchange.decode(frames)
            if message.kind == "HELLO":
                self._greet(name, message, now_s)  # 1
            elif peer is None:
                self._ignore(name, f"{message.kind} from nobody we know")
            elif peer.may_be_awake:
                self._ignore(name, f"{message.kind} of a worker that was given up")
            else:
                peer.heard_s = now_s
                self._take_from(peer, message, now_s)
        except (ProtocolError, MatrixMismatch) as error:
            self._ignore(name, str(error))
            if peer is None:  # of another version, say
                self._line.send(name, encode(refusal_message(None, error)))
            elif peer.state is not State.LOST:
                self._expel(peer, now_s, "broke the protocol")

    def _ignore(self, name: str, reason: str) -> None:
        self.counters.messages_ignored += 1
        _log.warning("ignored a message of %.40r: %s", name, reason)

    def _greet(self, name: str, message: Message, now_s: float) -> None:
        if (hello := message.fields)["name"] != name or hello["index"] >= MAX_WORKERS:
            raise ProtocolError(f"name: {hello['name']!r}, index {hello['index']} from {name!r}.")
        if (error := mismatch(hello, self._matrix, self._ring)) is not None:
            raise error
        if name not in self._peers:
            self._peers[name] = Peer(name, hello["index"], now_s, now_s, has_ring=hello["ring"] is not None)
            if name in self._leaving:
                self._leaving.discard(name)
                self.drain(name)
            else:
                self._line.send(name, self._welcome)  # 2

    def _take_from(self, peer: Peer, message: Message, now_s: float) -> None:
        if message.kind == "READY":  # 3
            if peer.state is State.STARTING:
                peer.become_ready(now_s)
        elif message.kind in ("REPLY", "REFUSED"):  # 5
            if message.fields["flight_id"] is None:
                self._ignore(peer.name, f"REFUSED: {error_of(message)}")
            else:
                self._exchange.take_answer(peer, message, now_s, self.counters)
        elif message.kind == "BYE":  # 8
            self._forget(peer)
        elif message.kind != "HEARTBEAT":  # 6
            raise ProtocolError(f"kind: {message.kind} goes from trunk to worker only.")
