"""The shadow: how long workers may compute on a micro-batch without the trunk ever waiting for them."""

# Legend: M micro-batches of equal size, numbered from 0; all times are seconds.

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkWork:
    """What the trunk itself does with one micro-batch; waiting for workers is not part of it."""

    forward_s: float
    backward_s: float
    ship_s: float = 0.0
    """Between the end of the forward pass and the moment at which workers have the features."""

    def shipped_s(self, number: int) -> float:
        """When micro-batch `number` is with the workers, from the start of the step."""
        return (number + 1) * (self.forward_s + self.ship_s)

    def collected_s(self, number: int, microbatches: int) -> float:
        """When the trunk wants the gradient of micro-batch `number`, if it never waited before."""
        return microbatches * (self.forward_s + self.ship_s) + number * self.backward_s


def shadow_s(work: TrunkWork, microbatches: int) -> float:
    """The longest worker time per micro-batch that hides behind the trunk.

    Workers serve micro-batches in order. They have finished m in time if, for each j <= m, they can serve j to m
    between the shipping of j and the collection of m:

        shadow = min over j <= m of (collected_m - shipped_j) / (m - j + 1)

    For M = 2 that is min(forward, backward) of one micro-batch (without shipping). With a backward pass of twice the
    forward pass, M = 2 hides a third of a step over both micro-batches; M = 3 hides two thirds, M = 4 three quarters.

    Example:
        >>> shadow_s(TrunkWork(forward_s=0.010, backward_s=0.020), microbatches=2)
        0.01
    """
    return min(
        (work.collected_s(m, microbatches) - work.shipped_s(j)) / (m - j + 1)
        for m in range(microbatches)
        for j in range(m + 1)
    )


def waiting_s(worker_s: float, work: TrunkWork, microbatches: int) -> float:
    """How long the trunk waits in a step whose micro-batches take workers `worker_s` each; 0 up to the shadow."""
    finished_s, waited_s = 0.0, 0.0
    for number in range(microbatches):
        finished_s = max(finished_s, work.shipped_s(number)) + worker_s
        wanted_s = work.collected_s(number, microbatches) + waited_s
        waited_s += max(0.0, finished_s - wanted_s)
    return waited_s
