"""The workers of a wide head: how many there are, and the router that reaches them."""

from hybrid.open_head import check_open
from hybrid.own_workers import OwnWorkers
from hybrid.sole_use import SoleUse, in_turn
from workers.config import MAX_WORKERS
from workers.errors import ConfigError
from workers.router import Router
from workers.settings import check, whole_number


class HeadWorkers:
    """Part of `WideHead`; one for queries alone has neither pool nor router until it is scaled."""

    is_closed: bool
    sole_use: SoleUse
    _own: OwnWorkers | None = None
    """None where the workers belong to a run."""
    _router: Router | None = None
    _was_ready = False
    """Whether one of the workers had its kernels."""

    @property
    def router(self) -> Router:
        """Which hands chunks to workers.

        Raises:
            ConfigError: there are no workers.
        """
        if self._router is None:
            raise ConfigError(
                "this head has no workers, as it was made with workers=0, or scaled to 0, for topk, rows, score_bias_N "
                "and save. For losses and training call head.scale(1), or with more, first."
            )
        return self._router

    def check_serves(self) -> None:
        """Refuse what needs workers where there are none.

        Raises:
            ConfigError: the head is for queries alone.
            HeadClosed: it was closed.
        """
        check_open(self)
        _ = self.router

    @in_turn
    def scale(self, workers: int) -> None:
        """Change the number of worker processes; nothing in flight is lost.

        With 0 all of them end, and with them what they share but the matrix: the head goes on for queries alone, as one
        that was made so. Any other number starts workers again.

        Raises:
            ConfigError: the number is out of bounds, or it is 0 while chunks are in flight; or the workers belong to a
                run.
            HeadClosed: the head was closed.
            WorkerLost: workers cannot be started.

        Example:
            >>> import torch
            >>> from hybrid import WideHead
            >>> with WideHead(num_tags=1000, dim=8, workers=1) as head:
            ...     loss = head(torch.randn(4, 8), [[1], [2, 3], [4], [5]])
            ...     head.scale(0)
            ...     ids, _ = head.topk(torch.randn(2, 8), k=5)
            >>> ids.shape
            torch.Size([2, 5])
        """
        check_open(self)
        if self._own is None:
            raise ConfigError("this head's workers belong to a run; use `hybrid scale RUN N`.")
        number = whole_number("workers", workers)
        check(0 <= number <= MAX_WORKERS, "workers", number, f"between 0 and {MAX_WORKERS}")
        if number == 0:
            self._rest(self._own)
        elif self._own.pool is None:
            self._router = self._own.serve(number)
        else:
            for name in self._own.pool.scale(number):
                self.router.drain(name)

    def _rest(self, own: OwnWorkers) -> None:
        if self._router is not None and (num_chunks := self._router.num_in_flight):
            raise ConfigError(
                f"workers = 0, but {num_chunks} chunks are in flight: collect what was submitted, and scale then."
            )
        self._router, self._was_ready = None, False
        own.rest()

    def _num_workers(self) -> int:
        """That serve, or will when they have started."""
        if self._own is None:
            return len(self.router.workers())
        return 0 if self._own.pool is None else sum(not worker.is_leaving for worker in self._own.pool.workers)
