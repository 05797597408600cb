"""A real trunk that also waits, so that it takes the time of a larger one and leaves its cores to the workers."""

from torch import Tensor, nn

from benchmarks.latency_trunk import Latency
from hybrid.trunks import cnn_small

FORWARD_S, BACKWARD_S = 0.030, 0.060
"""Added to each pass of each micro-batch in training."""


class WaitingTrunk(nn.Module):
    """What a trunk computes, later.

    Args:
        trunk: computes the features.
        forward_s: added to each forward pass in training mode; measuring is not slowed down.
        backward_s: added to each backward pass.
    """

    def __init__(self, trunk: nn.Module, forward_s: float, backward_s: float) -> None:
        super().__init__()
        self.trunk, self.forward_s, self.backward_s = trunk, forward_s, backward_s

    def forward(self, images: Tensor) -> Tensor:
        features_BD = self.trunk(images)
        return Latency.apply(features_BD, self.forward_s, self.backward_s) if self.training else features_BD


def waiting_cnn_small(dim: int, image_size: int) -> WaitingTrunk:
    """For `--trunk benchmarks.waiting_trunk:waiting_cnn_small`."""
    return WaitingTrunk(cnn_small(dim, image_size), FORWARD_S, BACKWARD_S)
