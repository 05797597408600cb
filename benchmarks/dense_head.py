"""Dense binary cross-entropy on the trunk's device, in chunks of tags."""

# Shapes: B examples, D dim, N tags, n tags of one chunk.

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.chunked_head import ChunkedHead, ChunkGrads, backward
from benchmarks.rival_head import Setting

_LOSS_PERIOD = 10
"""The loss costs a pass over all logits that the gradient does not need, so it is computed every so many steps."""


class DenseHead(ChunkedHead):
    """Multi-label logistic regression on all tags, all true tags of an example being positives.

        L = sum_t softplus(s_t) - sum_{t in T(x)} s_t

    Biases start at the log-odds of their tags' frequencies; ranking is by the score, which estimates log-odds.
    """

    def __init__(self, setting: Setting, chunk_logits: int | None = None) -> None:
        super().__init__(setting, initial_bias_N(setting.counts_N, setting.num_train_items), chunk_logits)
        self._mean_loss, self._num_examples = torch.zeros((), device=setting.device), 0

    def chunk_grads(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> Iterator[ChunkGrads]:
        features, with_loss = features_BD.to(self.setting.precision), self.step % _LOSS_PERIOD == 0
        loss_sum = torch.zeros_like(self._mean_loss)
        for chunk in self.tag_chunks(len(features), *self.true_by_tag(items_B)):
            logits_Bn = (features @ chunk.rows_nD.T).float().add_(self.bias_N[chunk.tags])
            if with_loss:
                loss_sum += F.softplus(logits_Bn).sum() - logits_Bn[chunk.true_x].sum()
            logit_grad_Bn = logits_Bn.sigmoid_()
            logit_grad_Bn[chunk.true_x] -= 1
            yield backward(chunk, features, logit_grad_Bn)
        self._num_examples = len(features)
        if with_loss:
            self._mean_loss = loss_sum / max(len(features), 1)

    @property
    def last_loss_sum(self) -> Tensor:
        """At the mean loss of the last step that computed it, one of every `_LOSS_PERIOD`."""
        return self._mean_loss * self._num_examples


def initial_bias_N(counts_N: NDArray, num_train_items: int) -> NDArray[np.float32]:
    """Log-odds of each tag's frequency, float32 `[N]`; 0 and all items count as half an item more or less."""
    frequency_N = np.clip(np.asarray(counts_N, np.float64), 0.5, num_train_items - 0.5) / num_train_items
    return np.log(frequency_N / (1 - frequency_N)).astype(np.float32)
