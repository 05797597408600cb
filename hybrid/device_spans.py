"""How long a CUDA device computed in each phase of a step, whenever the host called for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MS_PER_S = 1000.0
_Event = torch.cuda.Event


class DeviceSpans:
    """Pairs of events around what the host enqueues; the host's own clock would time the enqueueing.

    A step's events are read when the next step has shipped its features: the device has passed all of them by then, so
    reading never waits.

    Args:
        device: of the trunk; on its current stream.

    Example:
        with spans.phase("forward"):
            features = trunk(images)
        spans.end_step(host_wait_s=0.001)
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host_wait_s = 0.0
        self._open: list[tuple[str, _Event, _Event]] = []
        self._ended: list[tuple[str, _Event, _Event]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(torch.cuda.current_stream(self._device))
        try:
            yield
        finally:
            stop.record(torch.cuda.current_stream(self._device))
            self._open.append((name, start, stop))

    def end_step(self, host_wait_s: float) -> dict[str, float]:
        """Seconds by phase of the step before this one, and as `wait` how long it idled for workers; {} at first.

        What lies between phases is not all waiting: the host also ships features and enqueues what comes next. Nor is
        all that the host waited, while the device still computed. So it is the shorter of both.

        Args:
            host_wait_s: how long the host waited for workers in the step that ends now.
        """
        before, self._ended, self._open = self._ended, self._open, []
        host_wait_s, self._host_wait_s = self._host_wait_s, host_wait_s
        if not before or not all(stop.query() for _, _, stop in before):
            return {}
        seconds: dict[str, float] = {}
        for name, start, stop in before:
            seconds[name] = seconds.get(name, 0.0) + start.elapsed_time(stop) / _MS_PER_S
        whole_s = before[0][1].elapsed_time(before[-1][2]) / _MS_PER_S
        idle_s = max(0.0, whole_s - sum(seconds.values()))
        return seconds | {"wait": min(idle_s, host_wait_s)}
