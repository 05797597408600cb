"""Following the shadow of a trunk while it trains: from timings of steps to the number of negatives."""

import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hybrid.auto_negatives import AutoNegatives, Measurement
from hybrid.core_demand import CoreDemand
from hybrid.core_sharing import CoreSharing
from hybrid.head import WideHead
from hybrid.shadow import TrunkWork, shadow_s
from launch.config import TrainConfig
from workers.config import MAX_DRAWS, HeadConfig
from workers.cores import available_cores

logger = logging.getLogger(__name__)

_WINDOW_STEPS, _WINDOW_S = 8, 1.0
"""Of steps that are judged together: as many and as long at least."""
_QUARTILES = 4


@dataclass(slots=True)
class _Window:
    """Timings of full steps that drew the same number of negatives."""

    phases: list[Mapping[str, float]] = field(default_factory=list)
    chunk_s: list[float] = field(default_factory=list)
    step_s: float = 0.0
    core_s: float = 0.0
    host_wait_s: float = 0.0

    @property
    def is_full(self) -> bool:
        return len(self.phases) >= _WINDOW_STEPS and self.step_s >= _WINDOW_S

    def median_s(self, phase: str) -> float:
        return statistics.median(seconds.get(phase, 0.0) for seconds in self.phases)

    def upper_quartile_s(self, phase: str) -> float:
        """What a quarter of the steps exceed: sees waiting that is frequent, not a worker that died once."""
        return statistics.quantiles((seconds.get(phase, 0.0) for seconds in self.phases), n=_QUARTILES)[-1]

    @property
    def trunk_cores(self) -> float:
        """Cores that the trunk's process wanted while it did not wait for workers."""
        return self.core_s / max(self.step_s - self.host_wait_s, 1e-9)


class NegativesTuner:
    """Sets `head.num_negatives` as steps go by.

    Where trunk and workers compete for cores, it leaves the number as it is and says so: there more negatives take time
    from the trunk, and how much gradient quality is worth that time cannot be measured from a step.

    Sampled softmax estimates log Z with a bias that shrinks with K. So that the objective never gets worse than was
    asked for, K only rises above `head.config.negatives` there. Negative sampling has no such bias.

    Args:
        head: as configured, or as a resumed run left it.
        config: target, bounds, micro-batches.
        tell: takes remarks for people.
        cores: that trunk and workers may use.
    """

    def __init__(
        self, head: WideHead, config: TrainConfig, tell: Callable[[str], None], cores: int | None = None
    ) -> None:
        self._head, self._config, self._tell = head, config, tell
        lowest, highest = bounds(head.config, config, head.num_tags)
        self._auto = AutoNegatives(head.num_negatives, lowest=lowest, highest=highest, target=config.negatives_target)
        head.num_negatives = self._auto.negatives
        self._sharing = CoreSharing(available_cores() if cores is None else cores)
        self._is_shared = False
        self._workers = 0
        self._window = _Window()
        self._step_before = False, 0
        """Whether it was full, and how many negatives it drew."""
        self._demand = CoreDemand()
        self._start_s = 0.0
        self._figures: dict[str, float] = {}
        tell(
            f"negatives: from {self._auto.negatives:,}, between {lowest:,} and {highest:,}, "
            f"until workers fill {config.negatives_target:.0%} of what hides behind the trunk"
        )

    def begin_step(self) -> None:
        """The trunk starts a step."""
        self._start_s = time.perf_counter()
        self._demand.begin()

    def end_step(
        self,
        host_s: Mapping[str, float],
        device_s: Mapping[str, float] | None,
        chunk_s: Sequence[float],
        *,
        parts: int,
        is_full: bool,
    ) -> None:
        """Take in a step, and judge when enough of them have gathered.

        Args:
            host_s: seconds by phase on the host's clock.
            device_s: of the step before, on the trunk's device, if it has a clock of its own; empty if not known yet.
            chunk_s: seconds that a worker computed on each chunk.
            parts: micro-batches of the step.
            is_full: whether the batch had its full size; others are left out.
        """
        step_s, core_s = time.perf_counter() - self._start_s, self._demand.seconds()
        workers = sum(worker.state == "ready" for worker in self._head.router.workers())
        if workers != self._workers:
            self._workers, self._window = workers, _Window()
            self._auto.workers_changed()
        phases = host_s if device_s is None else device_s
        step = is_full, self._head.num_negatives
        is_of_this_kind = device_s is None or step == self._step_before
        self._step_before = step
        if not is_full or not is_of_this_kind or not phases or not chunk_s or not workers:
            return
        window = self._window
        window.phases.append(phases)
        window.chunk_s += chunk_s
        window.step_s += step_s
        window.core_s += core_s
        window.host_wait_s += host_s.get("wait", 0.0)
        if window.is_full:
            self._window = _Window()
            self._judge(window, math.ceil(len(chunk_s) / parts), parts)

    def figures(self) -> dict[str, float]:
        """The latest judgement, for the log of metrics."""
        return self._figures

    def _judge(self, window: _Window, chunks: int, parts: int) -> None:
        """Decide on the steps of a window, in each of which so many micro-batches had so many chunks each."""
        before = self._auto.negatives
        forward_s, ship_s, backward_s = (window.median_s(name) / parts for name in ("forward", "ship", "backward"))
        work = TrunkWork(forward_s=forward_s, ship_s=ship_s, backward_s=backward_s)
        seen = Measurement(
            worker_s=math.ceil(chunks / self._workers) * statistics.median(window.chunk_s),
            shadow_s=shadow_s(work, parts),
            wait_s=window.upper_quartile_s("wait") / parts,
            step_s=window.step_s / len(window.phases),
        )
        self._see_sharing(window, min(self._workers, chunks))
        if not self._is_shared:
            self._head.num_negatives = self._auto.update(seen)
        self._figures = {
            "shadow_ms": 1000 * seen.shadow_s,
            "worker_ms": 1000 * seen.worker_s,
            "shadow_fill": seen.worker_s / seen.shadow_s if seen.shadow_s > 0 else math.nan,
            "trunk_cores": window.trunk_cores,
        }
        if self._auto.negatives != before:
            logger.info("negatives: %d -> %d; %s", before, self._auto.negatives, seen)

    def _see_sharing(self, window: _Window, workers_at_once: int) -> None:
        is_shared = self._sharing.update(window.trunk_cores, workers_at_once)
        if is_shared == self._is_shared:
            return
        self._is_shared = is_shared
        use = f"the trunk wants {window.trunk_cores:.1f} of {self._sharing.cores} cores, and {workers_at_once}"
        if is_shared:
            why = "workers at a time want one each, so more of them would slow the trunk"
            self._tell(f"negatives stay at {self._head.num_negatives:,}: {use} {why}")
        else:
            self._tell(f"negatives follow the trunk: {use} workers at a time find a core each")


def bounds(head: HeadConfig, train: TrainConfig, num_tags: int) -> tuple[int, int]:
    """The smallest and largest number of negatives that may be drawn."""
    draws = MAX_DRAWS // (head.chunk_size if head.private_negatives else 1)
    highest = min(train.max_negatives, draws, num_tags)
    lowest = min(train.min_negatives, highest)
    if head.objective == "sampled-softmax":
        lowest = max(lowest, head.negatives)
    return lowest, max(lowest, highest)
