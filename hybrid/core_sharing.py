"""Whether trunk and workers compete for the cores of this machine."""

import math

_TOLERANCE = 0.5
"""Cores that may be missing: the trunk's demand is a mean over the step, and it seldom computes while workers do."""
_RETURN = 0.25
"""Cores by which the verdict must be wrong before it changes back."""
_SMOOTHING = 0.5


class CoreSharing:
    """Judges by measured demand, not by the kind of device: with a GPU the host may be busy, on a CPU it may idle.

    Cores are shared if the trunk leaves fewer than the workers that serve a micro-batch at the same time need, which is
    one each.

    Args:
        cores: that this process may use.

    Example:
        >>> sharing = CoreSharing(cores=2)
        >>> sharing.update(trunk_cores=1.2, workers_at_once=2)
        True
        >>> sharing.update(trunk_cores=0.1, workers_at_once=1)
        False
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.trunk_cores: float | None = None
        """Running mean of the cores that the trunk wants while it does not wait; None before the first update."""
        self._is_shared = False

    def update(self, trunk_cores: float, workers_at_once: int) -> bool:
        """The verdict after another measurement; one that is not a number is left out."""
        if math.isfinite(trunk_cores):
            old = trunk_cores if self.trunk_cores is None else self.trunk_cores
            self.trunk_cores = (1 - _SMOOTHING) * old + _SMOOTHING * trunk_cores
        if self.trunk_cores is not None:
            missing = workers_at_once - (self.cores - self.trunk_cores)
            self._is_shared = missing > _TOLERANCE - (_RETURN if self._is_shared else 0.0)
        return self._is_shared
