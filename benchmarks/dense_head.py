"""The whole layer on the trunk's device, trained with dense binary cross-entropy in chunks of tags."""

# Shapes: B examples, D dim, N tags, n tags of one chunk, X entries (example, true tag).

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.rival_head import RivalHead, Setting

_EPSILON = 1e-10
_CPU_LOGITS, _CUDA_LOGITS = 1 << 20, 1 << 26
"""Logits of one chunk: what fits into a core's cache, or keeps a GPU busy in 256 MiB."""
_LOSS_PERIOD = 10
"""The loss costs a pass over all logits that the gradient does not need, so it is computed every so many steps."""


@dataclass(frozen=True, slots=True)
class ChunkGrads:
    """What one chunk of tags contributes; gradients are of the sum over examples."""

    tags: slice
    row_grad_nD: Tensor
    bias_grad_n: Tensor
    feature_grad_BD: Tensor
    loss_sum: Tensor | None


class DenseHead(RivalHead):
    """Multi-label logistic regression on all tags, all true tags of an example being positives.

        L = sum_t softplus(s_t) - sum_{t in T(x)} s_t

    Logits and gradients exist for one chunk of tags at a time, and each chunk's rows are stepped at once; the feature
    gradient uses the rows as they were before. Products in `precision`, all else in float32. Rows learn by row-wise
    Adagrad, the optimizer of the workers: it needs 4 bytes of state per row, and its steps do not depend on the scale
    of the loss. Biases start at the log-odds of their tags' frequencies; ranking is by the score, which estimates
    log-odds.

    Source: the chunked layer of ELMO (arXiv 2510.11168), section 4, with an adaptive row optimizer.
    """

    def __init__(self, setting: Setting, chunk_logits: int | None = None) -> None:
        super().__init__(setting)
        device = setting.device
        self.rows_ND = setting.initial_rows_ND()
        self.bias_N = torch.from_numpy(initial_bias_N(setting.counts_N, setting.num_train_items)).to(device)
        self.row_acc_N = torch.zeros(self.num_tags, device=device)
        self.bias_acc_N = torch.zeros(self.num_tags, device=device)
        self._chunk_logits = chunk_logits or (_CUDA_LOGITS if device.type == "cuda" else _CPU_LOGITS)
        self._step, self._loss_sum = 0, torch.zeros((), device=device)

    def learn(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        with_loss = self._step % _LOSS_PERIOD == 0
        feature_grad_BD, loss_sum = torch.zeros_like(features_BD), torch.zeros_like(self._loss_sum)
        for grads in self.chunk_grads(features_BD, items_B, with_loss):
            feature_grad_BD += grads.feature_grad_BD
            if grads.loss_sum is not None:
                loss_sum += grads.loss_sum
            self._update(grads)
        if with_loss:
            self._loss_sum = loss_sum / len(features_BD)
        self._step += 1
        return self._loss_sum * len(features_BD), feature_grad_BD

    def chunk_grads(self, features_BD: Tensor, items_B: NDArray[np.int64], with_loss: bool) -> Iterator[ChunkGrads]:
        """Loss and gradients chunk by chunk; a chunk's rows may change as soon as it was given out."""
        precision = self.setting.precision
        features = features_BD.to(precision)
        example_X, tag_X = self._true_by_tag(items_B)
        size = max(1, self._chunk_logits // max(len(features_BD), 1))
        starts = torch.arange(0, self.num_tags + size, size)
        bounds = torch.searchsorted(tag_X, starts.to(tag_X.device)).tolist()
        for i, start in enumerate(range(0, self.num_tags, size)):
            tags = slice(start, min(start + size, self.num_tags))
            true_x = example_X[bounds[i] : bounds[i + 1]], tag_X[bounds[i] : bounds[i + 1]] - start
            rows_nD = self.rows_ND[tags].to(precision)
            logits_Bn = (features @ rows_nD.T).float().add_(self.bias_N[tags])
            loss_sum = F.softplus(logits_Bn).sum() - logits_Bn[true_x].sum() if with_loss else None
            logit_grad_Bn = logits_Bn.sigmoid_()
            logit_grad_Bn[true_x] -= 1
            grad_Bn = logit_grad_Bn.to(precision)
            yield ChunkGrads(
                tags, (grad_Bn.T @ features).float(), logit_grad_Bn.sum(0), (grad_Bn @ rows_nD).float(), loss_sum
            )

    def _update(self, grads: ChunkGrads) -> None:
        """Row-wise Adagrad: a <- a + mean_j g_j^2; row <- row - lr g / sqrt(a + eps); `workers.row_optimizers`."""
        tags, grad_nD = grads.tags, grads.row_grad_nD
        row_acc_n = self.row_acc_N[tags].add_(torch.linalg.vector_norm(grad_nD, dim=1).square_().div_(self.dim))
        bias_acc_n = self.bias_acc_N[tags].addcmul_(grads.bias_grad_n, grads.bias_grad_n)
        self.rows_ND[tags].addcdiv_(grad_nD, row_acc_n.add(_EPSILON).sqrt_()[:, None], value=-self.row_lr)
        self.bias_N[tags].addcdiv_(grads.bias_grad_n, bias_acc_n.add(_EPSILON).sqrt_(), value=-self.row_lr)

    def _true_by_tag(self, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Pairs (example, true tag) sorted by tag, so that a chunk's pairs lie together."""
        example_X, tag_X = self.setting.true_tags.of(items_B)
        order = tag_X.argsort()
        return example_X[order], tag_X[order]

    def for_ranking(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        bias_N = np.where(self.setting.counts_N > 0, self.bias_N.cpu().numpy(), -np.inf)
        return self.rows_ND.cpu().numpy(), bias_N.astype(np.float32)


def initial_bias_N(counts_N: NDArray, num_train_items: int) -> NDArray[np.float32]:
    """Log-odds of each tag's frequency, float32 `[N]`; 0 and all items count as half an item more or less."""
    frequency_N = np.clip(np.asarray(counts_N, np.float64), 0.5, num_train_items - 0.5) / num_train_items
    return np.log(frequency_N / (1 - frequency_N)).astype(np.float32)
