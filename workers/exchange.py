"""Chunks out to workers, answers back: flights, berths, and what each worker holds, kept in step.

What survives losses is said in `workers.flights`, and of shared memory in `workers.ring`.
"""

import heapq
from collections.abc import Sequence

from workers.array_codec import Frame, Part
from workers.berths import Berths
from workers.chunk import Chunk, Reply
from workers.chunk_messages import error_of, reply_of
from workers.codec import decode, encode_into
from workers.errors import HybridError, ProtocolError
from workers.flights import Flight, Flights, Ticket
from workers.lines import TrunkLine
from workers.peers import Peer
from workers.protocol import Message
from workers.ring import Ring
from workers.router_counters import RouterCounters

_MAX_IN_FLIGHT_PER_WORKER = 64  # enough to last while the trunk is busy and hands out nothing


def _load(peer: Peer) -> tuple[int, float, int, str]:
    """Order in which workers are given chunks: of those with equally many the longest idle first; no two are equal."""
    return len(peer.in_flight), peer.progress_s, peer.index, peer.name


class Exchange:
    """All chunks of a trunk that are not answered, and the ring through which their arrays pass."""

    def __init__(self, line: TrunkLine, ring: Ring | None) -> None:
        self._line = line
        self._replies = None if ring is None else [Part(memory_P) for memory_P in ring.replies_RP]
        self._flights, self._berths = Flights(), Berths(ring)

    def __len__(self) -> int:
        return len(self._flights)

    def submit(self, chunks: Sequence[Chunk]) -> Ticket:
        """Take chunks into the backlog; see `Flights.submit`."""
        return self._flights.submit(chunks)

    def give_up(self, ticket: Ticket) -> None:
        """Forget what is left of a ticket; berths of its chunks come back with the workers' answers."""
        self._flights.give_up(ticket)

    def decode(self, frames: Sequence[Frame]) -> Message:
        """A worker's message, checked; arrays may lie in the ring."""
        return decode(frames, self._replies)

    def dispatch(self, takers: list[Peer], now_s: float, counters: RouterCounters) -> None:
        """Send what waits to the least loaded of these workers, as far as they can take it."""
        if self._flights.first_waiting() is None:
            return
        least_loaded = [(_load(peer), peer) for peer in takers]
        heapq.heapify(least_loaded)
        while least_loaded and (waiting := self._flights.first_waiting()) is not None:
            flight_id, flight = waiting
            (load, *_), peer = least_loaded[0]
            if load >= _MAX_IN_FLIGHT_PER_WORKER or not self._send(peer, flight_id, flight, now_s, counters):
                heapq.heappop(least_loaded)  # full; or unreachable, then it falls silent and is dealt with as such
            else:
                heapq.heapreplace(least_loaded, (_load(peer), peer))

    def _send(self, peer: Peer, flight_id: int, flight: Flight, now_s: float, counters: RouterCounters) -> bool:
        """Send the head of the backlog; whether the worker took it. Then it is booked, whatever interrupts us here."""
        message, num_taken = flight.message, self._line.num_taken
        frames, berth = self._berths.load(message) if peer.has_ring else (encode_into(None, message), None)
        try:
            self._berths.lend(berth)
            peer.sent(flight_id, berth, flight.longest_s, now_s)
            self._line.send(peer.name, frames)
        finally:
            is_taken = self._line.num_taken > num_taken
            if is_taken:
                self._flights.depart(peer.name)
            else:
                peer.not_sent(flight_id)
                self._berths.take_back(berth)
        counters.chunks_in_frames += is_taken and peer.has_ring and len(frames) > 1
        return is_taken

    def take_answer(self, peer: Peer, message: Message, now_s: float, counters: RouterCounters) -> None:
        """Count the REPLY or REFUSED of a flight, once; whatever it says, the chunk's berth comes back.

        Raises:
            ProtocolError: it is no answer to what this worker was sent.
        """
        flight_id = message.fields["flight_id"]
        if flight_id not in peer.in_flight:
            counters.replies_ignored += 1
            return
        berth, flight = peer.in_flight[flight_id], self._flights.held_by(peer.name, flight_id)
        if message.kind == "REPLY" and message.fields["berth"] != berth:
            got = message.fields["berth"]
            raise ProtocolError(f"berth: got {got}, expected {berth}, which went with flight_id {flight_id}.")
        answer = _answer_in(message, flight.chunk if flight else None)
        if flight is None:
            counters.replies_ignored += 1
        elif answer is not None:
            self._flights.land(flight_id, answer)
            staleness_chunks = answer.staleness_chunks if isinstance(answer, Reply) else 0
            counters.max_staleness_chunks = max(counters.max_staleness_chunks, staleness_chunks)
        try:
            peer.answered(flight_id, answer, now_s)
        finally:  # Ctrl-C, too: a berth that nobody answers for any more is free
            if flight_id not in peer.in_flight:
                self._berths.give_back([berth])

    def leave(self, peer: Peer) -> int:
        """Put what a worker still had first in the backlog; returns how many chunks. Nothing more is heard of it."""
        if peer.may_be_awake:
            self._berths.keep(peer.name, peer.in_flight.values())
        else:
            self._berths.give_back(peer.in_flight.values())
        return self._flights.requeue(peer.name, peer.in_flight)

    def bury(self, worker: str) -> None:
        """This worker is dead: berths kept because it might have been awake are free."""
        self._berths.bury(worker)


def _answer_in(message: Message, chunk: Chunk | None) -> Reply | HybridError | None:
    """What a REPLY or REFUSED says; a reply to a chunk that was given up cannot be checked, nor is it needed."""
    if message.kind == "REFUSED":
        return error_of(message)
    return None if chunk is None else reply_of(message, chunk)
