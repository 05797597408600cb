"""The whole layer on the trunk's device, trained by sampling with torch's sparse gradients."""

# Shapes: B examples, D dim, N tags, K negatives, C chunks, c examples of a chunk, P positives of all examples,
# U distinct (chunk, negative) pairs, X entries (example, true tag).

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.rival_head import RivalHead, Setting
from workers import objectives
from workers.counters import NEGATIVES, POSITIVES, stream_key
from workers.positives import draw_positives
from workers.sampler import build_groups, draw_ids, sampling_probabilities


class SampledHead(RivalHead):
    """Negative sampling as the workers do it, written as a torch user would.

        L = -(1/P) sum_p log sigmoid(s_p) - (w/K) sum_k 1[k not in T(x)] log sigmoid(-s_k)

    The same draws as `WideHead` makes for the same seed (negatives shared by `chunk_size` examples), the same weight,
    start of the bias and ranking. Rows and biases are `nn.Embedding(sparse=True)` trained by `torch.optim.Adagrad`,
    one merged update per row and step; its state is as large as the matrix. Products in `precision`.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        config, device = setting.config, setting.device
        q_N = sampling_probabilities(setting.counts_N, config.alpha)
        with np.errstate(divide="ignore"):
            self._log_q_N = np.log(q_N)
        self._groups_G4, self._members = build_groups(setting.counts_N, q_N)
        bias_N = objectives.initial_bias_N(config, setting.marginal_N, self._log_q_N)
        self.rows = nn.Embedding.from_pretrained(setting.initial_rows_ND(), freeze=False, sparse=True)
        self.bias = nn.Embedding.from_pretrained(
            torch.from_numpy(bias_N)[:, None].to(device), freeze=False, sparse=True
        )
        self.optimizer = torch.optim.Adagrad(self.parameters(), lr=config.row_lr)
        torch.sparse.check_sparse_tensor_invariants.disable()  # they cost time, and torch's own are valid
        self._item_offsets = setting.true_tags.offsets.cpu().numpy()
        self._item_tags = setting.true_tags.tags.cpu().numpy()
        self._slot_of_pair = torch.full((0,), -1, dtype=torch.int32, device=device)

    def learn(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        features = features_BD.detach().requires_grad_()
        for group in self.optimizer.param_groups:
            group["lr"] = self.row_lr
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = self.loss_sum(features, items_B)
        loss_sum.backward()
        self.optimizer.step()
        self.step += 1
        assert features.grad is not None, "the loss depends on the features"
        return loss_sum.detach(), features.grad

    def loss_sum(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> Tensor:
        """The sum of the examples' losses, with a graph."""
        pos_ids, pos_offsets, neg_ids_CK = self.draw(items_B)
        positives_P, negatives_CK = (torch.from_numpy(ids).to(features_BD.device) for ids in (pos_ids, neg_ids_CK))
        positives = self.rows(positives_P), self.bias(positives_P)[:, 0]
        negatives = self.rows(negatives_CK), self.bias(negatives_CK)[:, :, 0]
        return self.loss_sum_of(features_BD, items_B, pos_offsets, positives, negatives_CK, negatives)

    def loss_sum_of(
        self,
        features_BD: Tensor,
        items_B: NDArray[np.int64],
        pos_offsets: NDArray,
        positives: tuple[Tensor, Tensor],
        negatives_CK: Tensor,
        negatives: tuple[Tensor, Tensor],
    ) -> Tensor:
        """The same of rows `[..., D]` and biases that were looked up for the positives and the negatives of `draw`."""
        hits_BK = self._hits(items_B, negatives_CK)
        lengths_B = torch.from_numpy(np.diff(pos_offsets)).to(features_BD.device)
        example_P = torch.arange(len(items_B), device=features_BD.device).repeat_interleave(lengths_B)
        rows_PD, bias_P = positives
        scores_P = (rows_PD * features_BD[example_P]).sum(1) + bias_P
        return (F.softplus(-scores_P) / lengths_B[example_P]).sum() + self._negative_terms(
            features_BD, *negatives, hits_BK
        )

    def draw(self, items_B: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
        """Positives (ids, offsets `[B + 1]`) and negatives `[C, K]` of this step, as `WideHead` draws them."""
        size, seed, parts, offsets = self.config.chunk_size, self.setting.seed, [], [np.zeros(1, np.int64)]
        starts = range(0, len(items_B), size)
        neg_ids_CK = np.empty((len(starts), self.config.negatives), np.int32)
        for chunk, start in enumerate(starts):
            key = stream_key(seed, self.step, chunk, POSITIVES)
            items = items_B[start : start + size]
            ids, ends = draw_positives(self._item_offsets, self._item_tags, items, self.setting.positives, key)
            parts.append(ids)
            offsets.append(ends[1:] + offsets[-1][-1])
            key = stream_key(seed, self.step, chunk, NEGATIVES)
            draw_ids(self._groups_G4, self._members, key, neg_ids_CK[chunk])
        return np.concatenate(parts).astype(np.int64), np.concatenate(offsets), neg_ids_CK.astype(np.int64)

    def _negative_terms(self, features_BD: Tensor, rows_CKD: Tensor, bias_CK: Tensor, hits_BK: Tensor) -> Tensor:
        C, K = bias_CK.shape
        B, size = len(features_BD), self.config.chunk_size
        features_CcD = F.pad(features_BD, (0, 0, 0, C * size - B)).unflatten(0, (C, size))
        with torch.autocast(
            features_BD.device.type, self.setting.precision, enabled=self.setting.precision != torch.float32
        ):
            products_CcK = torch.bmm(features_CcD, rows_CKD.transpose(1, 2))
        scores_BK = (products_CcK.float() + bias_CK[:, None]).flatten(0, 1)[:B]
        return F.softplus(scores_BK).masked_fill(hits_BK, 0).sum() * (self.config.negative_weight / K)

    def _hits(self, items_B: NDArray[np.int64], negatives_CK: Tensor) -> Tensor:
        """Which of an example's negatives are true, bool `[B, K]`, by a table from (chunk, tag) to a slot."""
        C, size = len(negatives_CK), self.config.chunk_size
        if len(self._slot_of_pair) < C * self.num_tags:
            self._slot_of_pair = self._slot_of_pair.new_full((C * self.num_tags,), -1)
        first_C = torch.arange(C, device=negatives_CK.device) * self.num_tags
        pairs_U, slot_CK = torch.unique(negatives_CK + first_C[:, None], return_inverse=True)
        self._slot_of_pair[pairs_U] = torch.arange(len(pairs_U), dtype=torch.int32, device=pairs_U.device)
        example_X, tag_X = self.setting.true_tags.of(items_B)
        slot_X = self._slot_of_pair[first_C[example_X // size] + tag_X]
        self._slot_of_pair[pairs_U] = -1
        is_drawn_X = slot_X >= 0
        is_true_BU = torch.zeros(len(items_B), len(pairs_U), dtype=torch.bool, device=pairs_U.device)
        is_true_BU[example_X[is_drawn_X], slot_X[is_drawn_X].long()] = True
        slot_BK = slot_CK[torch.arange(len(items_B), device=pairs_U.device) // size]
        return is_true_BU.gather(1, slot_BK)

    def correction_N(self) -> NDArray[np.float32]:
        """What added to scores gives log p(t|x)."""
        return objectives.log_probability_correction_N(self.config, self._log_q_N, self.setting.counts_N)

    def for_ranking(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        bias_N = self.bias.weight.detach()[:, 0].cpu().numpy()
        return self.rows.weight.detach().cpu().numpy(), bias_N + self.correction_N()
