"""When the next checkpoint of a training is due."""

import time

from workers.disk import ASSUMED_BYTES_PER_S

_SHARE = 50
"""Pauses last this many times as long as saving took, so checkpoints cost at most a fiftieth of the time, unless
`most_s` makes them due sooner."""
_LEAST_PAUSE_S = 30.0


class CheckpointPace:
    """A checkpoint is due as soon as it costs next to nothing, and at the latest after a number of seconds.

    What a crash of the trunk costs is the time since the last checkpoint: with a small matrix half a minute.

    Args:
        num_bytes: about what a checkpoint holds.
        most_s: seconds between two of them at most, whatever they cost.

    Example:
        >>> CheckpointPace(num_bytes=10**6, most_s=300.0).pause_s
        30.0
        >>> CheckpointPace(num_bytes=10**12, most_s=300.0).pause_s
        300.0
    """

    def __init__(self, num_bytes: int, most_s: float) -> None:
        self._most_s, self._last_s = most_s, time.monotonic()
        self.pause_s = self._pause_s(num_bytes / ASSUMED_BYTES_PER_S)
        """Seconds from the last checkpoint to the next."""

    def is_due(self) -> bool:
        """Whether one should be written now."""
        return time.monotonic() - self._last_s > self.pause_s

    def saved(self, seconds: float) -> None:
        """One was written, which took so long."""
        self._last_s, self.pause_s = time.monotonic(), self._pause_s(seconds)

    def failed(self) -> None:
        """One could not be written: the next attempt is made as late as may be."""
        self._last_s, self.pause_s = time.monotonic(), self._most_s

    def _pause_s(self, cost_s: float) -> float:
        return min(self._most_s, max(_LEAST_PAUSE_S, _SHARE * cost_s))
