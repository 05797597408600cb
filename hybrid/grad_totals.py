"""Gradients of a trunk's weights that lie where they lay in the step before."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Layout = tuple[torch.dtype, torch.device, torch.Size, tuple[int, ...]]

_ALIGNED = 128
"""Elements between two starts, or a multiple: kernels read whole vectors where all of their tensors start at such."""


class GradTotals:
    """For each parameter the memory of its gradient, to which recorded passes add.

    What is recorded goes by address, so this memory stays, whatever becomes of `.grad` in between. A gradient that
    somebody keeps is overwritten by the first pass after `zero_grad`, unless it is copied.

    Args:
        parameters: that learn, all on one device.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> totals = GradTotals([weight])
        >>> for _ in range(2):
        ...     totals.add([0], lambda: totals.part(0).add_(torch.ones(2)))
        >>> weight.grad
        tensor([2., 2.])
        >>> totals.hold_all()
        True
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._layouts = [_layout_of(p) for p in self.parameters]
        self._starts, sizes = _starts(self.parameters)
        devices = {p.dtype: p.device for p in self.parameters}
        self._flat = {dtype: torch.zeros(size, dtype=dtype, device=devices[dtype]) for dtype, size in sizes.items()}
        self._parts = [self._cut(i) for i in range(len(self.parameters))]
        self._addresses = [part.data_ptr() for part in self._parts]

    def part(self, i: int) -> Tensor:
        """The memory of gradient i, laid out as a gradient that torch makes.

        It is handed out as `.grad`, whose `.data` others may set, as a module does that is moved: then it is cut anew.
        """
        if self._parts[i].data_ptr() != self._addresses[i]:
            self._parts[i] = self._cut(i)
        return self._parts[i]

    def _cut(self, i: int) -> Tensor:
        dtype, _, shape, strides = self._layouts[i]
        return self._flat[dtype].as_strided(shape, strides, self._starts[i])

    def fits(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether it was made for these parameters, as they lie now."""
        are_same = len(parameters) == len(self.parameters)
        pairs = zip(parameters, self.parameters, self._layouts, strict=False)
        return are_same and all(p is own and _layout_of(p) == layout for p, own, layout in pairs)

    def hold_all(self) -> bool:
        """Whether there are parameters, and the gradient of each lies here."""
        return bool(self.parameters) and all(map(self._holds, range(len(self.parameters))))

    def _holds(self, i: int) -> bool:
        grad = self.parameters[i].grad
        return grad is not None and grad.data_ptr() == self._addresses[i]

    def add(self, which: Sequence[int], replay: Callable[[], object]) -> None:
        """Add to the gradients of some parameters, as a backward pass does.

        Args:
            which: numbers of the parameters.
            replay: adds to their parts.
        """
        elsewhere = [i for i in which if not self._holds(i)]
        if len(elsewhere) == len(self.parameters):
            for flat in self._flat.values():
                flat.zero_()
        elif elsewhere:
            torch._foreach_zero_([self.part(i) for i in elsewhere])
        replay()
        for i in elsewhere:
            p = self.parameters[i]
            if p.grad is None:
                p.grad = self.part(i)
            else:
                p.grad.add_(self.part(i))


def _layout_of(p: nn.Parameter) -> Layout:
    return p.dtype, p.device, p.shape, torch.empty_like(p, device="meta").stride()


def _starts(parameters: Sequence[nn.Parameter]) -> tuple[list[int], dict[torch.dtype, int]]:
    """Where each parameter's part begins among those of its dtype, and how many elements there are in all."""
    starts, sizes = [], dict.fromkeys((p.dtype for p in parameters), 0)
    for p in parameters:
        starts.append(sizes[p.dtype])
        sizes[p.dtype] += -(-p.numel() // _ALIGNED) * _ALIGNED
    return starts, sizes
