"""A trunk that takes given times without computing, as a trunk on an accelerator looks from the CPU."""

# Shapes: B examples, D dim.

import time
from typing import Any

import torch
from torch import Tensor, nn

_SPIN_S = 0.002
"""The end of a pause is waited for actively: a sleeping thread wakes up late, on some machines by a millisecond."""


def pause(seconds: float) -> None:
    """Return after so many seconds, to some microseconds where a core is free; computes at the very end only."""
    end_s = time.perf_counter() + seconds
    time.sleep(max(0.0, seconds - _SPIN_S))
    while time.perf_counter() < end_s:
        pass


class LatencyTrunk(nn.Module):
    """Scales its input by one parameter per dimension, and takes its time over it.

    Args:
        dim: D.
        forward_s: that a forward pass of one micro-batch takes.
        backward_s: the same of a backward pass.

    Example:
        >>> trunk = LatencyTrunk(dim=4, forward_s=0.0, backward_s=0.0)
        >>> trunk(torch.ones(2, 4)).sum().backward()
        >>> trunk.scale_D.grad
        tensor([2., 2., 2., 2.])
    """

    def __init__(self, dim: int, forward_s: float, backward_s: float) -> None:
        super().__init__()
        self.scale_D = nn.Parameter(torch.ones(dim))
        self.forward_s, self.backward_s = forward_s, backward_s

    def forward(self, inputs_BD: Tensor) -> Tensor:
        return Latency.apply(inputs_BD * self.scale_D, self.forward_s, self.backward_s)


class Latency(torch.autograd.Function):
    """Passes values and gradients on, later."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, forward_s: float, backward_s: float) -> Tensor:
        ctx.backward_s = backward_s
        pause(forward_s)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        pause(ctx.backward_s)
        return grads[0], None, None
