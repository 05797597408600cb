"""The whole layer on the trunk's device, trained by softmax over a sample of a tenth of the tags."""

# Shapes: B examples, D dim, N tags, S tags of the sample, X entries (example, true tag).

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.rival_head import RivalHead, Setting, softmax_targets
from benchmarks.row_adagrad import RowAdagrad

SAMPLE_RATE = 0.1
"""Share of the tags that are drawn beside those of the batch."""
SAMPLE_BLOCK = 64
"""A sample is of whole blocks of tags: oneDNN keeps code and memory for each size of a product that it meets."""


class PartialHead(RivalHead):
    """Partial FC for examples with many true tags: softmax over the batch's tags and a random tenth of the others.

        L = log sum_{i in S} c_i e^{s_i} - (1/|T(x)|) sum_{t in T(x)} s_t        (0 for an example without true tags)

    S is shared by the batch: every true tag of every example (c = 1), and of all other tags each with probability r
    (c = 1/r, a little more where some are left out again to fill whole blocks). Only rows of S are read and stepped, by
    row-wise Adagrad. Logits of S exist all at once, as in the paper.

    Source: An et al. (2020), "Partial FC", arXiv 2010.05222, section 3. Deviations: (1) faces have one class each,
    and the batch's classes count towards the tenth; here they are more than a tenth of a small vocabulary (a batch of
    128 emoji has 7,800 distinct ones of 10,000), so the tenth is drawn beside them. (2) c = 1/r makes the normaliser
    unbiased; the paper leaves it out, which its ranking by angle forgives and ours does not: scores of tags that are
    rarely in a batch would be too high by up to log(1/r). (3) The loss is averaged over all true tags and ranked like
    that of `SoftmaxHead`. (4) No angular margin, and the rivals' row optimizer in the place of SGD with momentum.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.rows_ND = setting.initial_rows_ND()
        self.bias_N = torch.from_numpy(setting.log_marginal_N()).to(setting.device)
        self.optimizer = RowAdagrad(self.rows_ND, self.bias_N)
        self._generator = torch.Generator(setting.device).manual_seed(setting.seed)

    def learn(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        example_X, tag_X = self.setting.true_tags.of(items_B)
        ids_S, log_weight_S = self.draw(tag_X)
        loss_sum, row_grad_SD, bias_grad_S, feature_grad_BD = self.grads(
            features_BD, example_X, tag_X, ids_S, log_weight_S
        )
        self.optimizer.step_ids(ids_S, row_grad_SD, bias_grad_S, self.row_lr)
        self.step += 1
        return loss_sum, feature_grad_BD

    def draw(self, tag_X: Tensor) -> tuple[Tensor, Tensor]:
        """This step's sample: distinct ids in ascending order, and log c of each."""
        random_N = torch.rand(self.num_tags, generator=self._generator, device=self.setting.device)
        random_N[tag_X] = -1.0
        ids_S = (random_N < SAMPLE_RATE).nonzero()[:, 0]
        num_drawn = num_kept = int((random_N[ids_S] >= 0).sum())
        surplus = len(ids_S) % SAMPLE_BLOCK
        if surplus < num_drawn:
            num_kept -= surplus
            is_kept_S = torch.ones_like(ids_S, dtype=torch.bool)
            is_kept_S[random_N[ids_S].topk(surplus).indices] = False
            ids_S = ids_S[is_kept_S]
        log_weight = math.log(num_drawn / (SAMPLE_RATE * num_kept)) if num_drawn else 0.0
        return ids_S, (random_N[ids_S] >= 0) * log_weight

    def grads(
        self, features_BD: Tensor, example_X: Tensor, tag_X: Tensor, ids_S: Tensor, log_weight_S: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The sum of the losses, and its gradients by rows `[S, D]`, biases `[S]` and features `[B, D]`."""
        precision = self.setting.precision
        features, rows_SD = features_BD.to(precision), self.rows_ND[ids_S].to(precision)
        true_X = example_X, torch.searchsorted(ids_S, tag_X)
        share_X, has_tags_B1 = softmax_targets(example_X, len(features))
        logits_BS = (features @ rows_SD.T).float().add_(self.bias_N[ids_S])
        loss_sum = -(logits_BS[true_X] * share_X).sum()
        logits_BS += log_weight_S
        log_z_B = logits_BS.logsumexp(1).nan_to_num(neginf=0.0)  # nothing was drawn for a batch without true tags
        loss_sum += (log_z_B * has_tags_B1[:, 0]).sum()
        logit_grad_BS = logits_BS.sub_(log_z_B[:, None]).exp_().mul_(has_tags_B1)
        logit_grad_BS[true_X] -= share_X
        grad_BS = logit_grad_BS.to(precision)
        return loss_sum, (grad_BS.T @ features).float(), logit_grad_BS.sum(0), (grad_BS @ rows_SD).float()

    def for_ranking(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.rows_ND.cpu().numpy(), self.setting.only_seen(self.bias_N.cpu().numpy())
