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
    """Inputs of a trunk, NumPy arrays among them as tensors on the same memory.

    Raises:
        DataError: there is none, one is neither, or they have not equally many examples.
    """
    if not isinstance(values, Tensor | np.ndarray | tuple | list | Mapping):
        raise DataError(f"inputs are a {type(values).__name__}; {_EXPECTED}.")
    inputs = mapped(values, _as_tensor)
    named = {name: len(one) for name, one in _named(inputs)}
    if not named:
        raise DataError(f"inputs are a {type(values).__name__} of none; {_EXPECTED}.")
    if len(set(named.values())) > 1:
        sizes = ", ".join(f"{name} {size}" for name, size in named.items())
        raise DataError(
            f"inputs have not equally many examples: {sizes}. Tensors in a tuple or dict are arguments of the trunk, "
            "each with all examples; where each is an example, torch.stack makes one of them."
        )
    return inputs


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


def arguments_of(inputs: Inputs) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Of the call, by place and by name."""
    return ((), dict(inputs)) if isinstance(inputs, Mapping) else (tensors_of(inputs), {})


def device_type_of(inputs: Inputs) -> str:
    """Where a trunk computes: on a card if one of its inputs lies there, as lengths of sequences stay on the host."""
    return next((one.device.type for one in tensors_of(inputs) if one.device.type != "cpu"), "cpu")


def _named(inputs: Inputs) -> list[tuple[str, Tensor]]:
    if isinstance(inputs, Tensor):
        return [("", inputs)]
    return list(inputs.items()) if isinstance(inputs, Mapping) else [(str(i), one) for i, one in enumerate(inputs)]


def _as_tensor(value: Any) -> Tensor:
    tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    if not isinstance(tensor, Tensor) or not tensor.ndim:
        kind = "tensor of one number" if isinstance(tensor, Tensor) else type(value).__name__
        raise DataError(f"inputs have a {kind}; {_EXPECTED}.")
    return tensor
