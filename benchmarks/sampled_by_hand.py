"""The sampled rival without sparse gradients: the distinct rows of a step are gathered, stepped and put back."""

# Shapes: B examples, D dim, C chunks, K negatives, P positives of all examples, U distinct tags of a step.

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.rival_head import Setting
from benchmarks.row_adagrad import RowAdagrad
from benchmarks.sampled_head import SampledHead


class SampledByHand(SampledHead):
    """The same draws, loss and start as `SampledHead`, without sparse gradients.

    Gradients of the gathered rows are dense and merged by the lookup's own backward pass; rows are stepped by row-wise
    Adagrad, whose state is two numbers a tag, not one for each weight.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.rows_ND, self.bias_N = self.rows.weight.detach(), self.bias.weight.detach()[:, 0]
        del self.optimizer, self.rows, self.bias  # with the state that is as large as the matrix
        self.by_hand = RowAdagrad(self.rows_ND, self.bias_N)

    def learn(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        features = features_BD.detach().requires_grad_()
        pos_ids, pos_offsets, neg_ids_CK = self.draw(items_B)
        drawn = torch.from_numpy(np.concatenate([pos_ids, neg_ids_CK.ravel()])).to(features.device)
        ids_U, slots = drawn.unique(return_inverse=True)
        rows_UD, bias_U = self.rows_ND[ids_U].requires_grad_(), self.bias_N[ids_U].requires_grad_()
        pos_slots_P, neg_slots_CK = slots[: len(pos_ids)], slots[len(pos_ids) :].view(neg_ids_CK.shape)
        positives, negatives = (
            (F.embedding(at, rows_UD), F.embedding(at, bias_U[:, None])[..., 0]) for at in (pos_slots_P, neg_slots_CK)
        )
        negatives_CK = drawn[len(pos_ids) :].view(neg_ids_CK.shape)
        loss_sum = self.loss_sum_of(features, items_B, pos_offsets, positives, negatives_CK, negatives)
        loss_sum.backward()
        assert features.grad is not None and rows_UD.grad is not None and bias_U.grad is not None
        self.by_hand.step_ids(ids_U, rows_UD.grad, bias_U.grad, self.row_lr)
        self.step += 1
        return loss_sum.detach(), features.grad

    def for_ranking(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.rows_ND.cpu().numpy(), self.bias_N.cpu().numpy() + self.correction_N()
