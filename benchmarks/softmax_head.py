"""Dense softmax cross-entropy on the trunk's device, in chunks of tags."""

# Shapes: B examples, D dim, N tags, n tags of one chunk, X entries (example, true tag).

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.chunked_head import ChunkedHead, ChunkGrads, backward
from benchmarks.rival_head import Setting, softmax_targets


class SoftmaxHead(ChunkedHead):
    """Softmax over all tags, averaged over all true tags of an example.

        L = log sum_t e^{s_t} - (1/|T(x)|) sum_{t in T(x)} s_t        (0 for an example without true tags)

    Twice over the chunks: first the log-sum-exp, kept as a running maximum and a running sum, then the gradients from
    logits that are computed again. So never more logits than those of one chunk, for a fourth product beside three.

    All true tags, not drawn ones: this is the expectation of the loss of a positive that is drawn uniformly, which the
    hybrid's positives are, without the noise of drawing. It favours the rival, and costs it next to nothing, since
    logits of all tags are there anyway. The optimum is s_t = log p(t|x) + const with the same p that the hybrid ranks
    by, so ranking is by the score; biases start at log p without an image.

    Source: the reduction PAL-N of Menon, Rawat, Reddi and Kumar (2019), "Multilabel reductions", section 3.
    """

    def __init__(self, setting: Setting, chunk_logits: int | None = None) -> None:
        super().__init__(setting, setting.log_marginal_N(), chunk_logits)
        self._loss_sum = torch.zeros((), device=setting.device)

    def chunk_grads(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> Iterator[ChunkGrads]:
        features = features_BD.to(self.setting.precision)
        example_X, tag_X = self.true_by_tag(items_B)
        share_X, has_tags_B1 = softmax_targets(example_X, len(features))
        log_z_B = self._log_sum_exp_B(features, example_X, tag_X)
        self._loss_sum = (log_z_B * has_tags_B1[:, 0]).sum()
        done = 0
        for chunk in self.tag_chunks(len(features), example_X, tag_X):
            logits_Bn = (features @ chunk.rows_nD.T).float().add_(self.bias_N[chunk.tags])
            share_x = share_X[done : done + len(chunk.true_x[0])]
            done += len(share_x)
            self._loss_sum -= (logits_Bn[chunk.true_x] * share_x).sum()
            logit_grad_Bn = logits_Bn.sub_(log_z_B[:, None]).exp_().mul_(has_tags_B1)
            logit_grad_Bn[chunk.true_x] -= share_x
            yield backward(chunk, features, logit_grad_Bn)

    def _log_sum_exp_B(self, features: Tensor, example_X: Tensor, tag_X: Tensor) -> Tensor:
        """log Z of each example. Invariant: Z of the chunks so far is total * e^top, and no term exceeds e^top."""
        top_B = torch.full((len(features),), -torch.inf, device=features.device)
        total_B = torch.zeros_like(top_B)
        for chunk in self.tag_chunks(len(features), example_X, tag_X):
            logits_Bn = (features @ chunk.rows_nD.T).float().add_(self.bias_N[chunk.tags])
            new_top_B = torch.maximum(top_B, logits_Bn.amax(1))
            total_B = total_B * (top_B - new_top_B).exp() + logits_Bn.sub_(new_top_B[:, None]).exp_().sum(1)
            top_B = new_top_B
        return top_B + total_B.log()

    @property
    def last_loss_sum(self) -> Tensor:
        return self._loss_sum
