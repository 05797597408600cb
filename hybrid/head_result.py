"""What workers returned for some examples."""

# Shapes: B examples, D dim.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.chunk import Reply


@dataclass(frozen=True, slots=True)
class HeadResult:
    """The replies to consecutive chunks, put together in the order of the examples."""

    loss_B: npt.NDArray[np.float32]
    """Loss of each example."""
    feature_grad_BD: npt.NDArray[np.float32]
    """Gradient of each example's own loss by its features."""
    chunk_s: tuple[float, ...] = ()
    """Seconds that a worker computed on each chunk."""

    @classmethod
    def of(cls, replies: Sequence[Reply], dim: int) -> "HeadResult":
        """Join replies; none at all belong to a batch without examples."""
        if not replies:
            return cls(np.empty(0, np.float32), np.empty((0, dim), np.float32))
        return cls(
            np.concatenate([reply.loss_B for reply in replies]),
            np.concatenate([reply.feature_grad_BD for reply in replies]),
            tuple((reply.draw_ns + reply.kernel_ns) * 1e-9 for reply in replies),
        )
