"""What workers returned for some examples."""

# Shapes: B examples, D dim.

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.flights import Ticket


@dataclass(frozen=True, slots=True)
class HeadResult:
    """The replies to consecutive chunks, put together in the order of the examples."""

    loss_B: npt.NDArray[np.float32]
    """Loss of each example, times its weight."""
    feature_grad_BD: npt.NDArray[np.float32]
    """Gradient of each example's own loss by its features."""
    chunk_s: tuple[float, ...] = ()
    """Seconds that a worker computed on each chunk."""

    @classmethod
    def of(cls, ticket: Ticket, dim: int) -> "HeadResult":
        """What a collected ticket holds, uncopied."""
        computed_s = ((reply.draw_ns + reply.kernel_ns) * 1e-9 for reply in ticket.replies if reply is not None)
        return cls(ticket.loss_B, ticket.feature_grads.reshape(-1, dim), tuple(computed_s))
