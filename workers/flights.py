"""The chunks in flight: where each one is until its reply is counted.

What holds, whoever dies: a chunk that was submitted and not given up is in the backlog, or with exactly one worker, or
answered. So none is lost and each reply counts once; but the rows of a chunk whose worker was lost may have been
updated already when the chunk is sent again.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from workers.chunk import Chunk, Reply
from workers.chunk_messages import chunk_message
from workers.codec import check_outgoing
from workers.errors import HybridError, WorkerLost
from workers.protocol import Message

_MAX_SENDS = 5  # of one chunk; if its worker dies each time, the chunk is the cause
_SLOWEST_FLOPS = 1e9
"""Operations a second of a worker that is slow, but works: its core serves others too."""


def longest_s(chunk: Chunk) -> float:
    """How many seconds a chunk's arithmetic may take; 0.1 with the defaults.

    Example:
        >>> from types import SimpleNamespace
        >>> chunk = SimpleNamespace(features_BD=np.zeros((4096, 128)), num_negatives=200_000, pos_ids=[])
        >>> round(longest_s(chunk))
        629
    """
    num_examples, dim = chunk.features_BD.shape
    return 6 * (num_examples * chunk.num_negatives + len(chunk.pos_ids)) * dim / _SLOWEST_FLOPS


@dataclass(slots=True)
class Ticket:
    """Chunks that were submitted together, with room for what they are answered."""

    flight_ids: range
    loss_B: np.ndarray
    """float32, of the examples of all chunks; complete when `is_done` without an error."""
    feature_grads: np.ndarray
    """float32, flat: the feature gradients of all chunks, one after the other."""
    replies: list[Reply | None]
    num_missing: int
    longest_s: float = 0.0
    """What one slow worker may need for all chunks."""
    error: HybridError | None = None

    @classmethod
    def of(cls, flight_ids: range, chunks: Sequence[Chunk]) -> "Ticket":
        """A ticket for these chunks, none of which is answered."""
        num_examples = sum(len(chunk.features_BD) for chunk in chunks)
        num_values = sum(chunk.features_BD.size for chunk in chunks)
        loss_B, grads = np.empty(num_examples, np.float32), np.empty(num_values, np.float32)
        return cls(flight_ids, loss_B, grads, [None] * len(chunks), len(chunks))

    @property
    def is_done(self) -> bool:
        """Every reply is there, or one chunk failed for good."""
        return self.error is not None or self.num_missing == 0


@dataclass(slots=True)
class Flight:
    """A chunk that is not answered yet."""

    chunk: Chunk
    message: Message
    """Checked, without a berth: each sending has its own."""
    ticket: Ticket
    loss_B: np.ndarray
    """Where in the ticket the loss of its examples belongs."""
    feature_grad_BD: np.ndarray
    """The same for their feature gradient."""
    longest_s: float
    """What a slow worker may need for it."""
    worker: str | None = None
    """Who has it; None while it is in the backlog."""
    num_sends: int = 0


class Flights:
    """All chunks that are not answered, with the backlog of those that no worker has."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}
        self._backlog: collections.deque[int] = collections.deque()
        self._next_flight_id = 0

    def __len__(self) -> int:
        return len(self._flights)

    def submit(self, chunks: Sequence[Chunk]) -> Ticket:
        """Put chunks last in the backlog.

        Raises:
            ProtocolError: a chunk cannot be sent; then none of them was taken.
        """
        flight_ids = range(self._next_flight_id, self._next_flight_id + len(chunks))
        messages = [chunk_message(flight_id, chunk) for flight_id, chunk in zip(flight_ids, chunks, strict=True)]
        for message in messages:
            check_outgoing(message)
        ticket = Ticket.of(flight_ids, chunks)
        end_B = end_BD = 0
        for flight_id, chunk, message in zip(flight_ids, chunks, messages, strict=True):
            start_B, start_BD, shape = end_B, end_BD, chunk.features_BD.shape
            end_B, end_BD = start_B + shape[0], start_BD + chunk.features_BD.size
            loss_B, grad_BD = ticket.loss_B[start_B:end_B], ticket.feature_grads[start_BD:end_BD].reshape(shape)
            self._flights[flight_id] = Flight(chunk, message, ticket, loss_B, grad_BD, longest_s(chunk))
            ticket.longest_s += self._flights[flight_id].longest_s
        self._backlog.extend(flight_ids)
        self._next_flight_id = flight_ids.stop
        return ticket

    def first_waiting(self) -> tuple[int, Flight] | None:
        """The flight at the head of the backlog, with its number."""
        while self._backlog:
            flight = self._flights.get(self._backlog[0])
            if flight is not None and flight.worker is None:
                return self._backlog[0], flight
            self._backlog.popleft()  # given up; or sent, but Ctrl-C came before this could be noted here
        return None

    def depart(self, worker: str) -> None:
        """The head of the backlog was sent to this worker."""
        flight = self._flights[self._backlog[0]]
        flight.worker, flight.num_sends = worker, flight.num_sends + 1
        self._backlog.popleft()

    def held_by(self, worker: str, flight_id: int) -> Flight | None:
        """The flight if this worker has it; an answer to anything else is late, or a lie."""
        flight = self._flights.get(flight_id)
        return flight if flight is not None and flight.worker == worker else None

    def land(self, flight_id: int, result: Reply | HybridError) -> None:
        """Count the one answer of a chunk; arrays of a reply are copied to where its ticket wants them."""
        flight = self._flights.pop(flight_id)
        ticket = flight.ticket
        if isinstance(result, HybridError):
            ticket.error = result
        else:
            ticket.replies[flight_id - ticket.flight_ids.start] = _settled(result, flight)
            ticket.num_missing -= 1

    def requeue(self, worker: str, flight_ids: Iterable[int]) -> int:
        """Put the chunks of a lost worker first in the backlog, in their order; returns how many will be sent again."""
        held = {number: flight for number in flight_ids if (flight := self.held_by(worker, number)) is not None}
        num_hopeless = 0
        for flight_id, flight in reversed(held.items()):
            flight.worker = None
            self._backlog.appendleft(flight_id)
            if flight.num_sends >= _MAX_SENDS:
                num_hopeless += 1
                what = f"chunk {flight.chunk.chunk} of step {flight.chunk.step}"
                self.land(flight_id, WorkerLost(f"{what} was sent to {_MAX_SENDS} workers and each was lost with it."))
        return len(held) - num_hopeless

    def give_up(self, ticket: Ticket) -> None:
        """Forget what is left of a ticket; late answers are ignored."""
        for flight_id in ticket.flight_ids:
            self._flights.pop(flight_id, None)


def _settled(reply: Reply, flight: Flight) -> Reply:
    """The reply with its arrays in the ticket: where they lie now, those of another chunk will lie."""
    np.copyto(flight.loss_B, reply.loss_B)
    np.copyto(flight.feature_grad_BD, reply.feature_grad_BD)
    return dataclasses.replace(reply, loss_B=flight.loss_B, feature_grad_BD=flight.feature_grad_BD)
