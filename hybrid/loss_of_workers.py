"""How a loss that other processes computed enters autograd."""

from typing import Any

import torch
from torch import Tensor

from hybrid.head_result import HeadResult

REDUCTIONS = ("mean", "none")
"""What a call may give: the examples' mean loss, the default, or the loss of each."""


class LossOfWorkers(torch.autograd.Function):
    """Gives the workers' loss on the way forward, their feature gradient on the way back."""

    @staticmethod
    def forward(context: Any, features_BD: Tensor, loss: Tensor, grad_BD: Tensor) -> Tensor:
        """The mean loss, or one of each example `[B]`; `grad_BD`, float32, is its gradient, kept for the way back.

        An example's features reach its own loss alone, so that one row is all that its loss has of a gradient.
        """
        context.save_for_backward(grad_BD)
        context.dtype = features_BD.dtype
        return loss.clone()

    @staticmethod
    def backward(context: Any, *loss_grads: Tensor) -> tuple[Tensor, None, None]:
        """The kept gradient times whatever factor each loss received since: in float16 it may vanish without that.

        Raises:
            RuntimeError: a graph of this very pass is wanted (`create_graph`), for second derivatives.
        """
        if torch.is_grad_enabled():  # in a backward pass: only with create_graph; they would silently be 0
            raise RuntimeError(
                "the loss of a WideHead has no second derivatives: workers return its gradient as numbers. Call "
                "backward() or torch.autograd.grad() without create_graph=True."
            )
        (grad_BD,) = context.saved_tensors
        return (loss_grads[0].unsqueeze(-1) * grad_BD).to(context.dtype), None, None


def loss_of_workers(features_BD: Tensor, result: HeadResult, reduction: str, *, teaches: bool) -> Tensor:
    """The examples' losses on the features' device; a backward pass gives their gradient to the features.

    Args:
        features_BD: that were served.
        result: what workers returned for them.
        reduction: one of `REDUCTIONS`.
        teaches: whether rows learned: then `backward()` of an unchanged loop must work, though the trunk is frozen.

    Returns:
        A scalar, the mean, or with `none` the loss of each example `[B]`.
    """
    loss_B, is_mean = result.loss_B, reduction == "mean"
    value = (loss_B.mean() if len(loss_B) else 0.0) if is_mean else loss_B
    loss = torch.tensor(value, device=features_BD.device)  # a copy
    if not torch.is_grad_enabled():
        return loss
    if not features_BD.requires_grad:
        return loss.requires_grad_(teaches)
    grad_BD = torch.from_numpy(result.feature_grad_BD).to(features_BD.device)
    return LossOfWorkers.apply(features_BD, loss, grad_BD / max(len(loss_B), 1) if is_mean else grad_BD)
