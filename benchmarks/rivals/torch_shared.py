"""torch with negatives that a batch shares, by matrix products: as users write it, and by hand."""

# Shapes: B examples, D dim, N tags, P positives of an example, K negatives, T = P + K.

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contestant import Prepared
from benchmarks.id_streams import BATCH, POSITIVES, make_stream
from benchmarks.rivals.forms import AUTOGRAD
from benchmarks.rivals.same_start import LEARNING_RATE
from benchmarks.rivals.start_tensors import random_features, random_rows
from benchmarks.rivals.tuned_memory import tune_memory

_BATCHES = 32


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is a pair of an example and a tag of its own or a shared one; ids are made in advance. Nothing is masked.

    Args:
        settings: `num_tags`, `dim`, `negatives`; `form`: `AUTOGRAD` or `BY_HAND` of `forms`; `batch` and `positives`
            where they are not those of the suite.
    """
    tune_memory()
    torch.set_num_threads(1)
    num_tags, K = settings["num_tags"], settings["negatives"]
    B, P = settings.get("batch", BATCH), settings.get("positives", POSITIVES)
    rows_ND, features_BD = random_rows(num_tags, settings["dim"]), random_features(B, settings["dim"])
    learn: Callable[[Tensor, Tensor, Tensor], Tensor]
    learn = Autograd(rows_ND) if settings["form"] == AUTOGRAD else ByHand(rows_ND)
    batches = itertools.cycle(make_batches(num_tags, B, P, K))

    def step() -> float:
        learn(features_BD, *next(batches))
        return float(B * (P + K))

    step()
    return Prepared(step, {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()})


def make_batches(num_tags: int, batch: int, positives: int, negatives: int) -> list[tuple[Tensor, Tensor]]:
    """Positives [B, P] by Zipf(1.0) with shared negatives [K] by Zipf(0.75)."""
    pos = make_stream(num_tags, num_batches=_BATCHES, batch=batch, positives=positives, negatives=0).batches
    neg = make_stream(num_tags, num_batches=_BATCHES, batch=1, positives=0, negatives=negatives).batches
    return [
        (torch.from_numpy(pos_BP).long(), torch.from_numpy(neg_1K[0]).long())
        for pos_BP, neg_1K in zip(pos, neg, strict=True)
    ]


class Autograd:
    """As users write it: two look-ups, one product for the negatives, sparse gradients, SGD."""

    def __init__(self, rows_ND: Tensor) -> None:
        torch.sparse.check_sparse_tensor_invariants.disable()  # they cost time, and torch's own are valid
        self.rows = nn.Embedding.from_pretrained(rows_ND, freeze=False, sparse=True)
        self.optimizer = torch.optim.SGD(self.rows.parameters(), lr=LEARNING_RATE)

    def __call__(self, features_BD: Tensor, pos_BP: Tensor, neg_K: Tensor) -> Tensor:
        features = features_BD.detach().requires_grad_()
        scores_BP = torch.bmm(self.rows(pos_BP), features[:, :, None])[:, :, 0]
        scores_BK = features @ self.rows(neg_K).T
        self.optimizer.zero_grad(set_to_none=True)
        (F.softplus(-scores_BP).sum() / scores_BP.shape[1] + F.softplus(scores_BK).sum() / len(neg_K)).backward()
        self.optimizer.step()
        assert features.grad is not None, "the loss depends on the features"
        return features.grad


class ByHand:
    """Gather, three matrix products for the negatives, `index_add_`; no graph, no needless temporaries."""

    def __init__(self, rows_ND: Tensor) -> None:
        self.rows_ND = rows_ND

    @torch.inference_mode()
    def __call__(self, features_BD: Tensor, pos_BP: Tensor, neg_K: Tensor) -> Tensor:
        (B, P), D = pos_BP.shape, features_BD.shape[1]
        rows_BPD = self.rows_ND.index_select(0, pos_BP.flatten()).view(B, P, D)
        rows_KD = self.rows_ND.index_select(0, neg_K)
        grads_BP = torch.bmm(rows_BPD, features_BD[:, :, None])[:, :, 0].sigmoid_().sub_(1).div_(P)
        grads_BK = (features_BD @ rows_KD.T).sigmoid_().div_(len(neg_K))
        feature_grad_BD = torch.bmm(grads_BP[:, None], rows_BPD)[:, 0].addmm_(grads_BK, rows_KD)
        torch.mul(grads_BP[:, :, None], features_BD[:, None], out=rows_BPD)
        self.rows_ND.index_add_(0, pos_BP.flatten(), rows_BPD.flatten(0, 1), alpha=-LEARNING_RATE)
        self.rows_ND.index_add_(0, neg_K, torch.mm(grads_BK.T, features_BD, out=rows_KD), alpha=-LEARNING_RATE)
        return feature_grad_BD
