"""How a loss that other processes computed enters autograd."""

from typing import Any

import torch
from torch import Tensor


class LossOfWorkers(torch.autograd.Function):
    """Gives the workers' loss on the way forward, their feature gradient on the way back."""

    @staticmethod
    def forward(context: Any, features_BD: Tensor, mean_loss: Tensor, grad_BD: Tensor) -> Tensor:
        """The mean loss; `grad_BD`, float32, is its gradient by the features, kept for the way back."""
        context.save_for_backward(grad_BD)
        context.dtype = features_BD.dtype
        return mean_loss.clone()

    @staticmethod
    def backward(context: Any, *loss_grads: Tensor) -> tuple[Tensor, None, None]:
        """The kept gradient times whatever factor the loss received since: in float16 it may vanish without that."""
        (grad_BD,) = context.saved_tensors
        return (loss_grads[0] * grad_BD).to(context.dtype), None, None
