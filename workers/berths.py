"""The trunk's account of the ring: which berth is free, and whose the others are.

The invariant is that of `workers.ring`: a berth comes back when its worker has answered, said BYE, or is dead. The
berths of a worker that was lost but may still be running are kept under its name until its death is known.
"""

import logging
from collections.abc import Iterable

from workers.array_codec import Frame, Room
from workers.codec import encode_into
from workers.protocol import Message
from workers.ring import Ring

_log = logging.getLogger(__name__)


class Berths:
    """The berths of a ring, or none of them where there is no ring."""

    def __init__(self, ring: Ring | None) -> None:
        self._requests_RQ = None if ring is None else ring.requests_RQ
        self._free = list(reversed(range(0 if ring is None else ring.num_berths)))
        self._kept: dict[str, list[int]] = {}
        self._has_warned = False

    def load(self, message: Message) -> tuple[list[Frame], int | None]:
        """Put the arrays of a checked CHUNK into a free berth, the one used last, so that few pages are touched.

        Returns:
            The frames to send, and the berth, which is free until `lend`; None if none is free, and then all arrays are
            frames. A single frame means that everything found room.
        """
        if self._requests_RQ is None or not self._free:
            berth, frames = None, encode_into(None, message)
        else:
            berth = self._free[-1]
            lent = Message(message.kind, {**message.fields, "berth": berth}, message.arrays)
            frames = encode_into(Room(self._requests_RQ[berth]), lent)
        if len(frames) > 1 and not self._has_warned:
            self._has_warned = True
            reason = "no berth is free" if berth is None else "a berth is too small"
            _log.warning("sent arrays of a chunk as frames: %s. This is said once, and counted.", reason)
        return frames, berth

    def lend(self, berth: int | None) -> None:
        """The berth that was just loaded goes to a worker: until it comes back it is not free."""
        if berth is not None:
            self._free.pop()

    def give_back(self, berths: Iterable[int | None]) -> None:
        """Nobody writes into these any more; None stands for a chunk that had no berth."""
        self._free.extend(berth for berth in berths if berth is not None)

    def keep(self, worker: str, berths: Iterable[int | None]) -> None:
        """This worker is lost and may still write into these: nobody gets them before `bury`."""
        self._kept.setdefault(worker, []).extend(berth for berth in berths if berth is not None)

    def take_back(self, berth: int | None) -> None:
        """What was loaded goes to nobody, whether or not the berth was lent already."""
        if berth not in self._free:
            self.give_back([berth])

    def bury(self, worker: str) -> None:
        """This worker is dead: what was kept because of it is free."""
        self._free.extend(self._kept.pop(worker, ()))
