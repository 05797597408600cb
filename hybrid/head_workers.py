"""The workers of a wide head: how many there are, and the router that reaches them."""

from hybrid.own_workers import OwnWorkers
from hybrid.sole_use import SoleUse, in_turn
from workers.errors import ConfigError, WorkerLost
from workers.router import Router


class HeadWorkers:
    """Part of `WideHead`; one for queries alone has neither pool nor router before `scale`."""

    is_closed: bool
    sole_use: SoleUse
    _own: OwnWorkers | None = None
    """None where the workers belong to a run."""
    _router: Router | None = None

    @property
    def router(self) -> Router:
        """Which hands chunks to workers.

        Raises:
            ConfigError: there are no workers.
        """
        if self._router is None:
            raise ConfigError(
                "this head has no workers, as it was made with workers=0, for topk, rows, score_bias_N and save. "
                "For losses and training call head.scale(1), or with more, first."
            )
        return self._router

    def check_serves(self) -> None:
        """Refuse what needs workers where there are none.

        Raises:
            ConfigError: the head is for queries alone.
            WorkerLost: it was closed.
        """
        if self.is_closed:
            raise WorkerLost("this head was closed: it has no workers any more.")
        _ = self.router

    @in_turn
    def scale(self, workers: int) -> None:
        """Change the number of worker processes, or start the first ones; nothing in flight is lost.

        Raises:
            ConfigError: the number is out of bounds, the head was closed, or its workers belong to a run.
            WorkerLost: workers cannot be started.
        """
        if self.is_closed:
            raise ConfigError("this head was closed: it has no workers any more; load a saved one, or make another.")
        if self._own is None:
            raise ConfigError("this head's workers belong to a run; use `hybrid scale RUN N`.")
        if self._own.pool is None:
            self._router = self._own.serve(workers)
            return
        for name in self._own.pool.scale(workers):
            self.router.drain(name)

    def _num_workers(self) -> int:
        """That serve, or will when they have started."""
        if self._own is None:
            return len(self.router.workers())
        return 0 if self._own.pool is None else sum(not worker.is_leaving for worker in self._own.pool.workers)
