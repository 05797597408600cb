"""A trunk's view of its workers: their states, the chunks they hold, how fast they are."""

import enum
from dataclasses import dataclass, field

from workers.chunk import Reply
from workers.errors import HybridError

_WINDOW_S = 2.0


class State(enum.StrEnum):
    """`STARTING` -> `READY` -> `DRAINING` -> gone; from each of them to `LOST`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What to show of a worker."""

    name: str
    index: int
    state: str
    in_flight: int
    """Chunks sent to it that it has not answered."""
    rows_per_s: float
    """Rows written per second of the last seconds."""


@dataclass(slots=True)
class RateMeter:
    """Rows written in the last complete window of `_WINDOW_S`, as a rate."""

    rows: int = 0
    since_s: float = 0.0
    rows_per_s: float = 0.0

    def add(self, rows: int, now_s: float) -> None:
        """Count one reply."""
        self.rows += rows
        self.roll(now_s)

    def roll(self, now_s: float) -> None:
        """Start another window if this one is complete."""
        elapsed_s = now_s - self.since_s
        if elapsed_s >= _WINDOW_S:
            self.rows_per_s = self.rows / elapsed_s
            self.rows, self.since_s = 0, now_s


@dataclass(slots=True)
class Peer:
    """One worker. Times are `time.monotonic()` seconds, moved on by whatever time nobody was listening."""

    name: str
    index: int
    heard_s: float
    """Last message from it."""
    progress_s: float
    """Last reply from it, or the first chunk sent to it while it had none."""
    state: State = State.STARTING
    in_flight: dict[int, int | None] = field(default_factory=dict)
    """Flight ids in the order sent, each with the berth lent with its chunk; None: that one went in frames."""
    longest_s: dict[int, float] = field(default_factory=dict)
    """For each of them the seconds that its arithmetic may take."""
    has_ring: bool = False
    """It mapped the trunk's ring."""
    was_ready: bool = False
    """Until then it compiles, and says nothing for long."""
    is_dead: bool = False
    """Its death is known, not only its silence: it writes nothing any more."""
    knows_it_leaves: bool = False
    """DRAIN was sent."""
    forget_at_s: float = 0.0
    """Of a lost worker: when its unanswered chunks go to others. Until then its last replies may still arrive."""
    meter: RateMeter = field(default_factory=RateMeter)

    def sent(self, flight_id: int, berth: int | None, longest_s: float, now_s: float) -> None:
        """It was given a chunk, whose arithmetic may take `longest_s`."""
        if not self.in_flight:
            self.progress_s = now_s
        self.longest_s[flight_id] = longest_s
        self.in_flight[flight_id] = berth

    def not_sent(self, flight_id: int) -> None:
        """It was not given that chunk after all."""
        self.in_flight.pop(flight_id, None)
        self.longest_s.pop(flight_id, None)

    def answered(self, flight_id: int, answer: Reply | HybridError | None, now_s: float) -> None:
        """It answered a chunk; the answer is None if nobody needs it any more."""
        self.in_flight.pop(flight_id, None)
        self.longest_s.pop(flight_id, None)
        self.progress_s = now_s
        if isinstance(answer, Reply):
            self.meter.add(answer.rows_written, now_s)

    def become_ready(self, now_s: float) -> None:
        """It can take chunks."""
        self.state, self.was_ready, self.meter.since_s = State.READY, True, now_s

    def silence_s(self, now_s: float) -> float:
        """For how long it has owed us a sign of life: an answer if it holds chunks, anything at all if not.

        Heartbeats do not count while it holds chunks, or a worker that lost one would keep it for ever.
        """
        return now_s - (self.progress_s if self.in_flight else self.heard_s)

    def skip(self, gap_s: float) -> None:
        """Nobody listened for this long: it is not held against the worker."""
        self.heard_s += gap_s
        self.progress_s += gap_s

    @property
    def may_be_awake(self) -> bool:
        """Given up, but not known to be dead: it may still write and say anything."""
        return self.state is State.LOST and not self.is_dead

    def status(self, now_s: float) -> WorkerStatus:
        """What to show."""
        self.meter.roll(now_s)
        return WorkerStatus(self.name, self.index, str(self.state), len(self.in_flight), self.meter.rows_per_s)


class Peers(dict[str, Peer]):
    """The workers that have said HELLO and are not forgotten, by name."""

    def in_state(self, *states: State) -> list[Peer]:
        """Those in one of these states, in the order of their HELLOs."""
        return [peer for peer in self.values() if peer.state in states]

    def silent(self, now_s: float, silence_s: float, start_limit_s: float) -> list[tuple[Peer, float]]:
        """Those that have owed a sign of life for too long, each with the seconds; large chunks may take longer."""
        found = []
        for peer in self.values():
            limit_s = silence_s + max(peer.longest_s.values(), default=0.0) if peer.was_ready else start_limit_s
            if peer.state is not State.LOST and (owed_s := peer.silence_s(now_s)) > limit_s:
                found.append((peer, owed_s))
        return found

    def skip(self, gap_s: float) -> None:
        """Nobody listened for this long."""
        for peer in self.values():
            peer.skip(gap_s)

    def statuses(self, now_s: float) -> list[WorkerStatus]:
        """What to show of each, by index."""
        return [peer.status(now_s) for peer in sorted(self.values(), key=lambda p: (p.index, p.name))]
