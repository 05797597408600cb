"""The number of negatives with which workers fill the shadow of the trunk."""

import math
from dataclasses import dataclass

_MOST_PER_UPDATE = 2.0
"""Bound on the factor, or divisor, of one change."""
_RISE_ABOVE, _FALL_BELOW = 1.1, 0.95
"""Factors between them are not worth a change; falling is quicker, since waiting costs time and idling does not."""
_SMOOTHING = 0.5
"""Weight of the newest measurement in each running mean."""
_TAKING_IN_S = 0.0003
"""How long the trunk takes to read replies that have already arrived, per micro-batch."""
_WAIT_IS_NOISE = 0.01
"""Share of a step."""
_FORGET_DELAY = 0.95
"""Factor per measurement on a delay that was seen once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Typical times of some steps that all drew the same number of negatives, in seconds."""

    worker_s: float
    """How long workers compute on one micro-batch."""
    shadow_s: float
    """How long they might compute on it, see `hybrid.shadow`."""
    wait_s: float
    """How long the trunk waited for one micro-batch, on average over a step's."""
    step_s: float

    @property
    def is_sound(self) -> bool:
        """A clock that failed must not steer."""
        times = (self.worker_s, self.shadow_s, self.wait_s, self.step_s)
        return all(map(math.isfinite, times)) and min(self.worker_s, self.shadow_s, self.step_s) > 0 <= self.wait_s


class AutoNegatives:
    """Raises or lowers the number of negatives K until workers fill a share of the shadow.

    Worker time is about a + b K. The step K <- K target shadow / (worker time) has its fixed point where the share is
    reached, whatever a and b are, and approaches it from one side. What workers do not compute but the trunk waits for
    (the wire, a core that somebody else took) is seen only when the trunk waits: then the delay, by which the answer
    came later than computed, is added to the worker time, and is forgotten slowly.

    Args:
        start: K before the first measurement; moved into the bounds.
        lowest: bound on K.
        highest: bound on K, at least `lowest`.
        target: share of the shadow to fill.

    Example:
        >>> auto = AutoNegatives(1024, lowest=64, highest=16_384, target=0.9)
        >>> auto.update(Measurement(worker_s=0.004, shadow_s=0.008, wait_s=0.0, step_s=0.05))
        1843
    """

    def __init__(self, start: int, *, lowest: int, highest: int, target: float) -> None:
        self.lowest, self.highest, self.target = lowest, highest, target
        self.negatives = self._bounded(start)
        self._worker_s: float | None = None
        """At the present K; a change of K makes earlier measurements useless."""
        self._shadow_s: float | None = None
        self._delay_s = 0.0

    @property
    def fill(self) -> float | None:
        """Share of the shadow that workers fill, with delays; None before the first measurement at this K."""
        if self._worker_s is None or self._shadow_s is None:
            return None
        return (self._worker_s + self._delay_s) / self._shadow_s

    def update(self, seen: Measurement) -> int:
        """The number of negatives for the next steps; a measurement that is not sound changes nothing."""
        if not seen.is_sound:
            return self.negatives
        self._learn(seen)
        assert self.fill is not None, "something was just learned"
        factor = min(max(self.target / self.fill, 1 / _MOST_PER_UPDATE), _MOST_PER_UPDATE)
        if not _FALL_BELOW < factor < _RISE_ABOVE:
            self._change_to(self._bounded(round(self.negatives * factor)))
        return self.negatives

    def workers_changed(self) -> None:
        """More or fewer workers serve a micro-batch: earlier worker times and delays say nothing any more."""
        self._worker_s, self._delay_s = None, 0.0

    def _learn(self, seen: Measurement) -> None:
        self._worker_s = _mixed(self._worker_s, seen.worker_s)
        self._shadow_s = _mixed(self._shadow_s, seen.shadow_s)
        self._delay_s *= _FORGET_DELAY
        wait_s = seen.wait_s - _TAKING_IN_S
        if wait_s > _WAIT_IS_NOISE * seen.step_s:
            self._delay_s = max(self._delay_s, seen.shadow_s + wait_s - seen.worker_s)

    def _change_to(self, negatives: int) -> None:
        if negatives != self.negatives:
            self.negatives, self._worker_s = negatives, None

    def _bounded(self, negatives: int) -> int:
        return min(max(negatives, self.lowest), self.highest)


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else (1 - _SMOOTHING) * old + _SMOOTHING * new
