"""Gradients of a trunk's weights that lie where they lay in the step before."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class GradTotals:
    """For each parameter the place of its gradient, to which recorded passes add.

    What is recorded goes through memory by address, so these places stay, whatever becomes of `.grad` in between. A
    gradient that somebody keeps for longer than a step is therefore overwritten, unless it is copied.

    Args:
        parameters: that learn, all on one device.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> totals = GradTotals([weight])
        >>> for _ in range(2):
        ...     totals.add([0], lambda: totals.places[0].add_(torch.ones(2)))
        >>> weight.grad
        tensor([2., 2.])
        >>> totals.hold_all()
        True
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._flat = {
            dtype: torch.zeros(sum(p.numel() for p in self.parameters if p.dtype == dtype), dtype=dtype, device=device)
            for dtype, device in {(p.dtype, p.device) for p in self.parameters}
        }
        self.places = self._cut()
        """Laid out as the parameters are, one after the other."""

    def _cut(self) -> list[Tensor]:
        places, starts = [], dict.fromkeys(self._flat, 0)
        for p in self.parameters:
            strides = torch.empty_like(p, device="meta").stride()  # those of a gradient that torch makes
            places.append(self._flat[p.dtype].as_strided(p.shape, strides, starts[p.dtype]))
            starts[p.dtype] += p.numel()
        return places

    def fit(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether they are for these parameters, as they lie now."""
        are_same = len(parameters) == len(self.parameters)
        pairs = zip(parameters, self.parameters, self.places, strict=False)
        return are_same and all(
            p is own
            and (p.dtype, p.device, p.shape) == (place.dtype, place.device, place.shape)
            and torch.empty_like(p, device="meta").stride() == place.stride()
            for p, own, place in pairs
        )

    def hold_all(self) -> bool:
        """Whether there are parameters, and the gradient of each is in its place."""
        return bool(self.parameters) and all(
            p.grad is place for p, place in zip(self.parameters, self.places, strict=True)
        )

    def add(self, which: Sequence[int], replay: Callable[[], object]) -> None:
        """Add to the gradients of some parameters, as a backward pass does.

        Args:
            which: numbers of the parameters.
            replay: adds to their places.
        """
        elsewhere = [(self.parameters[i], self.places[i], self.parameters[i].grad) for i in which]
        elsewhere = [(p, place, grad) for p, place, grad in elsewhere if grad is not place]
        if len(elsewhere) == len(self.parameters):
            for flat in self._flat.values():
                flat.zero_()
        elif elsewhere:
            torch._foreach_zero_([place for _, place, _ in elsewhere])
        replay()
        for p, place, grad in elsewhere:
            if grad is None:
                p.grad = place
            else:
                grad.add_(place)
