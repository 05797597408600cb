"""How a loss that other processes computed enters autograd."""

from typing import Any

import torch
from torch import Tensor

from hybrid.head_result import HeadResult


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
        """The kept gradient times whatever factor the loss received since: in float16 it may vanish without that.

        Raises:
            RuntimeError: a graph of this very pass is wanted (`create_graph`), for second derivatives.
        """
        if torch.is_grad_enabled():  # in a backward pass: only with create_graph; they would silently be 0
            raise RuntimeError(
                "the loss of a WideHead has no second derivatives: workers return its gradient as numbers. Call "
                "backward() or torch.autograd.grad() without create_graph=True."
            )
        (grad_BD,) = context.saved_tensors
        return (loss_grads[0] * grad_BD).to(context.dtype), None, None


def mean_loss(features_BD: Tensor, result: HeadResult, *, teaches: bool) -> Tensor:
    """The examples' mean loss, a scalar on the features' device; `backward()` gives its gradient to the features.

    Args:
        features_BD: that were served.
        result: what workers returned for them.
        teaches: whether rows learned: then `backward()` of an unchanged loop must work, though the trunk is frozen.
    """
    loss = torch.tensor(result.loss_B.mean() if len(result.loss_B) else 0.0, device=features_BD.device)
    if not torch.is_grad_enabled():
        return loss
    if not features_BD.requires_grad:
        return loss.requires_grad_(teaches)
    grad_BD = torch.from_numpy(result.feature_grad_BD).to(features_BD.device) / max(len(result.loss_B), 1)
    return LossOfWorkers.apply(features_BD, loss, grad_BD)
