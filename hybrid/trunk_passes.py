"""A trunk's forward and backward passes on micro-batches."""

# Shapes: B examples of a micro-batch, D dim.

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hybrid.grad_totals import GradTotals
from hybrid.trunk_inputs import Inputs, arguments_of, device_type_of


class TrunkPasses:
    """Runs a trunk operation by operation, as torch does by itself.

    Args:
        trunk: any module that maps its inputs to features `[B, D]`.
        precision: dtype of autocast; float32 turns autocast off, None leaves it as the caller has it.
    """

    totals: GradTotals | None = None
    """Where gradients lie at every step, or None: anywhere."""

    def __init__(self, trunk: nn.Module, precision: torch.dtype | None) -> None:
        self.trunk, self.precision = trunk, precision

    def forward(self, inputs: Inputs, number: int) -> Tensor:
        """Features `[B, D]` of micro-batch `number` of a step, for whose gradient `backward` is called afterwards."""
        arguments, by_name = arguments_of(inputs)
        with self._autocast(device_type_of(inputs)):
            return self.trunk(*arguments, **by_name)

    def backward(self, features_BD: Tensor, grad_BD: Tensor, number: int) -> None:
        """Add to the gradients of the trunk's weights.

        Args:
            features_BD: what `forward` returned for this micro-batch.
            grad_BD: of any float type, on the host or on the device.
            number: of the micro-batch.
        """
        if features_BD.requires_grad:  # else the trunk is frozen, and only rows learn
            features_BD.backward(beside(features_BD, grad_BD))

    def autocast_dtype(self, device_type: str) -> torch.dtype | None:
        """What a pass that begins now computes in where autocast says so; None: autocast is off."""
        if self.precision is None:
            return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None
        return None if self.precision == torch.float32 else self.precision

    def _autocast(self, device_type: str) -> AbstractContextManager[Any]:
        if self.precision is None:
            return nullcontext()
        dtype = self.autocast_dtype(device_type)
        return torch.autocast(device_type, dtype, enabled=dtype is not None)


def beside(features_BD: Tensor, grad_BD: Tensor) -> Tensor:
    """The gradient on the device of the features, in their type; on CUDA the host goes on while it is copied."""
    return pinned_for(features_BD, grad_BD).to(features_BD.device, non_blocking=True).to(features_BD.dtype)


def pinned_for(features_BD: Tensor, grad_BD: Tensor) -> Tensor:
    """The gradient where the features' device copies it from by itself: from other memory the host waits for a copy."""
    is_copied = features_BD.device.type == "cuda" and grad_BD.device.type == "cpu"
    return grad_BD.pin_memory() if is_copied else grad_BD
