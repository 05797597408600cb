"""Row-wise Adagrad in torch, for rivals that keep rows on the trunk's device."""

# Shapes: D dim, N tags, n tags of one update.

import torch
from torch import Tensor

_EPSILON = 1e-10


class RowAdagrad:
    """Rows and biases with the optimizer that the workers use: one accumulator per row, one per bias.

        a <- a + mean_j g_j^2;  row <- row - lr g / sqrt(a + eps)

    Its state is 8 bytes per tag, and its steps do not depend on the scale of the loss.

    Source: `workers.row_optimizers`.

    Args:
        rows_ND: float32, changed in place.
        bias_N: float32, changed in place.
    """

    def __init__(self, rows_ND: Tensor, bias_N: Tensor) -> None:
        self.rows_ND, self.bias_N = rows_ND, bias_N
        self.row_acc_N, self.bias_acc_N = torch.zeros_like(bias_N), torch.zeros_like(bias_N)

    def step_range(self, tags: slice, row_grad_nD: Tensor, bias_grad_n: Tensor, lr: float) -> None:
        """One update of consecutive tags."""
        row_acc_n = self.row_acc_N[tags].add_(_mean_square(row_grad_nD))
        bias_acc_n = self.bias_acc_N[tags].addcmul_(bias_grad_n, bias_grad_n)
        self.rows_ND[tags].addcdiv_(row_grad_nD, row_acc_n.add(_EPSILON).sqrt_()[:, None], value=-lr)
        self.bias_N[tags].addcdiv_(bias_grad_n, bias_acc_n.add(_EPSILON).sqrt_(), value=-lr)

    def step_ids(self, ids_n: Tensor, row_grad_nD: Tensor, bias_grad_n: Tensor, lr: float) -> None:
        """One update of distinct tags anywhere; `row_grad_nD` is used up."""
        row_acc_n = self.row_acc_N.index_add_(0, ids_n, _mean_square(row_grad_nD))[ids_n]
        bias_acc_n = self.bias_acc_N.index_add_(0, ids_n, bias_grad_n.square())[ids_n]
        row_step_nD = row_grad_nD.div_(row_acc_n.add_(_EPSILON).sqrt_()[:, None])
        self.rows_ND.index_add_(0, ids_n, row_step_nD, alpha=-lr)
        self.bias_N.index_add_(0, ids_n, bias_grad_n / bias_acc_n.add_(_EPSILON).sqrt_(), alpha=-lr)


def _mean_square(grad_nD: Tensor) -> Tensor:
    return torch.linalg.vector_norm(grad_nD, dim=1).square_().div_(grad_nD.shape[1])
