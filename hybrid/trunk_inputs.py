"""What a trunk takes: one tensor, or several by their place or by name, with an example in each row of all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.errors import DataError

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""A trunk is called as `trunk(x)` with a tensor, `trunk(*xs)` with a tuple or list, `trunk(**xs)` with a mapping."""
_EXPECTED = "expected a tensor with an example in each row, or a tuple or dict of such"


def as_inputs(values: Any) -> Inputs:
    """Inputs of a trunk, NumPy arrays among them as tensors.

    Raises:
        DataError: there is none, one is neither, or they have not equally many examples.
    """
    if not isinstance(values, Tensor | np.ndarray | tuple | list | Mapping):
        raise DataError(f"inputs are a {type(values).__name__}; {_EXPECTED}.")
    named = {name: _as_tensor(one, name) for name, one in _named(values)}
    if not named:
        raise DataError(f"inputs are a {type(values).__name__} of none; {_EXPECTED}.")
    if len({len(one) for one in named.values()}) > 1:
        told = ", ".join(f"{len(one)} in inputs{name}" for name, one in named.items())
        raise DataError(
            f"inputs have not equally many examples: {told}. Tensors in a tuple or dict are arguments of the trunk, "
            "each with all examples; where each is an example, torch.stack makes one of them."
        )
    tensors = iter(named.values())
    return mapped(values, lambda _: next(tensors))


def num_examples(inputs: Inputs) -> int:
    """Rows of each tensor."""
    return len(tensors_of(inputs)[0])


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """All of them, in their order."""
    return tuple(one for _, one in _named(inputs))


def mapped(inputs: Any, change: Callable[[Any], Tensor]) -> Inputs:
    """The same with each tensor changed."""
    if isinstance(inputs, Mapping):
        return {name: change(one) for name, one in inputs.items()}
    return tuple(change(one) for one in inputs) if isinstance(inputs, tuple | list) else change(inputs)


def moved(values: Any, device: torch.device) -> Any:
    """All tensors and arrays of numbers on a device, wherever they are in tuples, lists and mappings; the rest stays.

    Mappings become dicts.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        values = torch.from_numpy(np.ascontiguousarray(values))
    if isinstance(values, Tensor):
        return values.to(device, non_blocking=True)
    if isinstance(values, Mapping):
        return {name: moved(one, device) for name, one in values.items()}
    if isinstance(values, tuple | list):
        parts = [moved(one, device) for one in values]
        return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
    return values


def arguments_of(inputs: Inputs) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Of the call, by place and by name."""
    return ((), dict(inputs)) if isinstance(inputs, Mapping) else (tensors_of(inputs), {})


def device_type_of(inputs: Inputs) -> str:
    """Where a trunk computes: on a card if one of its inputs lies there, as lengths of sequences stay on the host."""
    return next((one.device.type for one in tensors_of(inputs) if one.device.type != "cpu"), "cpu")


class Upstream:
    """Gradients for what made the inputs of several micro-batches: its graph is gone through once, after all of them.

    Example:
        >>> weight = torch.ones(2, 1, requires_grad=True)
        >>> upstream, halves = Upstream(), (weight * 3).split(1)
        >>> for half in [upstream.cut(half) for half in halves]:
        ...     half.sum().backward()
        >>> upstream.backward()
        >>> weight.grad.tolist()
        [[3.0], [3.0]]
    """

    def __init__(self) -> None:
        self._cut: list[tuple[Tensor, Tensor]] = []

    def cut(self, inputs: Inputs) -> Inputs:
        """The same inputs, without what made them."""
        return mapped(inputs, self._leaf)

    def backward(self) -> None:
        """Hand on what the inputs got."""
        reached = [(made, leaf.grad) for made, leaf in self._cut if leaf.grad is not None]
        if reached:
            torch.autograd.backward([made for made, _ in reached], [grad for _, grad in reached])

    def _leaf(self, tensor: Tensor) -> Tensor:
        if tensor.grad_fn is None:
            return tensor
        leaf = tensor.detach().requires_grad_()
        self._cut.append((tensor, leaf))
        return leaf.clone()  # a trunk may begin in place, which autograd does not let it do to a leaf


def _named(inputs: Any) -> list[tuple[str, Any]]:
    """Each with what follows `inputs` where it is named."""
    if isinstance(inputs, Mapping):
        if wrong := [name for name in inputs if not isinstance(name, str)]:
            raise DataError(f"inputs have the name {wrong[0]!r}; expected names of the trunk's arguments.")
        return [(f"[{name!r}]", one) for name, one in inputs.items()]
    return [(f"[{i}]", one) for i, one in enumerate(inputs)] if isinstance(inputs, tuple | list) else [("", inputs)]


def _as_tensor(value: Any, name: str) -> Tensor:
    tensor = moved(value, torch.device("cpu")) if isinstance(value, np.ndarray) else value
    kind = type(tensor).__name__
    if isinstance(tensor, Tensor):
        if tensor.layout == torch.strided and not tensor.is_nested and tensor.ndim:
            return tensor
        kind = "tensor of one number" if not tensor.ndim else f"tensor of layout {tensor.layout}, or nested"
    elif isinstance(tensor, np.ndarray):
        kind = f"array of {tensor.dtype}"
    raise DataError(f"inputs{name} is a {kind}; {_EXPECTED}.")
