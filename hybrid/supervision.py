"""The trunk's side of the link to the launcher: news out, orders in."""

from typing import Any

from workers.errors import WorkerLost
from workers.link import Link
from workers.router import Router


class Supervision:
    """Serves as the router's `Membership` in a run whose workers the launcher owns.

    Args:
        endpoint: of the launcher's link.
    """

    def __init__(self, endpoint: str) -> None:
        self._link = Link.connect(endpoint)
        self._router: Router | None = None
        self._lost: list[str] = []
        self.is_told_to_stop = False
        """Whether somebody wishes the run to end."""
        self._are_workers_gone = False
        self._are_workers_needed = True

    @property
    def stop_asked(self) -> bool:
        """Whether the run shall finish its step, save and end: it is told to, or lacks workers that it needs."""
        return self.is_told_to_stop or self._is_forsaken

    @property
    def _is_forsaken(self) -> bool:
        return self._are_workers_gone and self._are_workers_needed

    def release_workers(self) -> None:
        """All is learned: nothing that comes now needs a worker."""
        self._are_workers_needed = False
        self._link.send("trained")

    def serve(self, router: Router) -> None:
        """Pass orders to drain workers on to this router."""
        self._router = router

    def poll(self) -> list[str]:
        """Workers that the launcher reports lost since the last call; takes in its other orders too.

        Raises:
            WorkerLost: chunks are in flight, and nobody will answer them.
        """
        for message in self._link.receive():
            if message["kind"] == "stop":
                self.is_told_to_stop = True
            elif message["kind"] == "no_workers":
                self._are_workers_gone = True
            elif message["kind"] == "lost":
                self._lost.append(message["worker"])
            elif message["kind"] == "drain" and self._router is not None:
                self._router.drain(message["worker"])
        if self._is_forsaken and self._router is not None and self._router.num_in_flight:
            raise WorkerLost("workers die as fast as they are replaced, so the step was given up.")
        lost, self._lost = self._lost, []
        return lost

    def kill(self, name: str) -> None:
        """Have the launcher end a worker that does not answer."""
        self._link.send("kill", worker=name)

    def tell(self, kind: str, **fields: Any) -> None:
        """Send news: `progress`, `step`, `metrics`, `note` or `done`."""
        self._link.send(kind, **fields)

    def progress(self, phase: str, text: str, done: int = 0, total: int = 0) -> None:
        """Say what is going on; `total` 0 means that its end is not known."""
        self._link.send("progress", phase=phase, text=text, done=done, total=total)

    def close(self) -> None:
        """Hand over what is left."""
        self._link.close()
