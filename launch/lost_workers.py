"""What a launcher does about workers that die."""

import contextlib
from collections.abc import Callable, Iterator

from launch.snapshot import Snapshot
from workers.errors import RunError, WorkerLost
from workers.link import Link
from workers.pool import WorkerPool

_PLACES = {
    "filled": "another takes its place",
    "waiting": "the next one in its place comes later",
    "given up": "it was about to leave, and is not replaced",
}
"""What to say of a lost worker's place, see `WorkerPool.place_of`."""


class LostWorkers:
    """Tells the trunk which workers died; once replacing them is hopeless, has it save what it learned and end.

    That ends the run only if the trunk needs workers: one that has spent its budget saves and measures without.

    Args:
        pool: of the run.
        snapshot: what is shown.
        note: takes remarks for people.
    """

    def __init__(self, pool: WorkerPool, snapshot: Snapshot, note: Callable[[str], None]) -> None:
        self._pool, self._snapshot, self._note = pool, snapshot, note
        self._are_needed = True
        self._is_hopeless = False
        self._state_before = ""
        self.failure: WorkerLost | None = None
        """Why the run ends, once no worker will come any more and the trunk needs some."""

    def look(self, link: Link | None) -> None:
        """Replace who died, and pass on who it was.

        Args:
            link: to the trunk, if it listens.
        """
        if self._is_hopeless:
            return
        try:
            lost = self._pool.poll()
        except WorkerLost as error:
            self._lose_hope(error, link)
            return
        for name in lost:
            self._snapshot.workers_lost += 1
            self._note(f"{name} was lost; {_PLACES[self._pool.place_of(name)]}")
            if link is not None:
                link.send("lost", worker=name)

    def release(self) -> None:
        """The trunk has learned all that it shall: from here on it needs no worker."""
        self._are_needed = False
        if self.failure is not None:
            self.failure, self._snapshot.state = None, self._state_before
            self._note("nothing was left to learn: the run goes on without workers")

    def _lose_hope(self, error: WorkerLost, link: Link | None) -> None:
        self._is_hopeless = True
        if not self._are_needed:
            self._note("workers die as fast as they are replaced, but none is needed any more")
            return
        self.failure, self._state_before = error, self._snapshot.state
        self._note("workers die as fast as they are replaced: the trunk saves what it learned, and ends")
        self._snapshot.state = "stopping"
        self._snapshot.hear()  # from here on it may be silent for as long as after a wish to stop
        if link is not None:
            link.send("no_workers")

    @contextlib.contextmanager
    def told_first(self, was_stopped: Callable[[], bool]) -> Iterator[None]:
        """See the trunk to its end inside of this: what becomes of it after a failure of the pool is told beside that.

        Args:
            was_stopped: whether a user wanted the run to end, which it does in order if the trunk could save.

        Raises:
            WorkerLost: the failure.
        """
        try:
            yield
        except RunError as error:
            if self.failure is None:
                raise
            self.failure.add_note(str(error))
            raise self.failure from error
        if self.failure is not None and not was_stopped():
            if self._snapshot.step:
                self.failure.add_note("what the trunk had learned by then is saved.")
            raise self.failure
