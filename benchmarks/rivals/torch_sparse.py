"""torch with private negatives: `nn.Embedding(sparse=True)` with SGD, and the same written by hand."""

# Shapes: B examples, D dim, N tags, T tags of an example (positives first).

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contestant import Prepared
from benchmarks.id_streams import BATCH, NEGATIVES, POSITIVES, make_stream
from benchmarks.rivals.forms import AUTOGRAD
from benchmarks.rivals.same_start import LEARNING_RATE
from benchmarks.rivals.start_tensors import random_features, random_rows, weights_and_targets
from benchmarks.rivals.tuned_memory import tune_memory

Learner = Callable[[Tensor, Tensor], Tensor]
"""Called with features and ids, updates the rows, returns the feature gradient."""


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is a pair of example and tag; ids, negatives included, are made in advance.

    Args:
        settings: `num_tags`, `dim`; `form`: `AUTOGRAD` or `BY_HAND` of `forms`.
    """
    tune_memory()
    torch.set_num_threads(1)
    rows_ND = random_rows(settings["num_tags"], settings["dim"])
    step = make_step(make_learner(settings["form"], rows_ND), settings["num_tags"], settings["dim"])
    step()
    return Prepared(step, {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()})


def make_learner(form: str, rows_ND: Tensor) -> Learner:
    """What updates these rows in the form of `forms`."""
    return Autograd(rows_ND) if form == AUTOGRAD else ByHand(rows_ND)


def make_step(learn: Learner, num_tags: int, dim: int, seed: int = 0) -> Callable[[], float]:
    """A step that gives the next batch of the stream to `learn`."""
    batches = itertools.cycle([torch.from_numpy(ids).long() for ids in make_stream(num_tags, seed=seed).batches])
    features_BD = random_features(BATCH, dim)

    def step() -> float:
        ids_BT = next(batches)
        learn(features_BD, ids_BT)
        return float(ids_BT.numel())

    return step


class Autograd:
    """As users write it. Called with features and ids, updates the rows, returns the feature gradient."""

    def __init__(self, rows_ND: Tensor) -> None:
        torch.sparse.check_sparse_tensor_invariants.disable()  # they cost time, and torch's own are valid
        self.rows = nn.Embedding.from_pretrained(rows_ND, freeze=False, sparse=True)
        self.optimizer = torch.optim.SGD(self.rows.parameters(), lr=LEARNING_RATE)
        self._weights_BT, self._targets_BT = weights_and_targets(BATCH, POSITIVES + NEGATIVES)

    def __call__(self, features_BD: Tensor, ids_BT: Tensor) -> Tensor:
        features = features_BD.detach().requires_grad_()
        scores_BT = torch.bmm(self.rows(ids_BT), features[:, :, None])[:, :, 0]
        self.optimizer.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(scores_BT, self._targets_BT, self._weights_BT, reduction="sum").backward()
        self.optimizer.step()
        assert features.grad is not None, "the loss depends on the features"
        return features.grad


class ByHand:
    """The same by gather, batched products and `index_add_`; gathered rows' memory serves for their gradients."""

    def __init__(self, rows_ND: Tensor) -> None:
        self.rows_ND = rows_ND
        self._weights_BT, self._targets_BT = weights_and_targets(BATCH, POSITIVES + NEGATIVES)

    @torch.inference_mode()
    def __call__(self, features_BD: Tensor, ids_BT: Tensor) -> Tensor:
        ids, (B, T) = ids_BT.flatten(), ids_BT.shape
        rows_BTD = self.rows_ND.index_select(0, ids).view(B, T, -1)
        scores_BT = torch.bmm(rows_BTD, features_BD[:, :, None])[:, :, 0]
        grads_BT = scores_BT.sigmoid_().sub_(self._targets_BT).mul_(self._weights_BT)
        feature_grad_BD = torch.bmm(grads_BT[:, None], rows_BTD)[:, 0]
        torch.mul(grads_BT[:, :, None], features_BD[:, None], out=rows_BTD)
        self.rows_ND.index_add_(0, ids, rows_BTD.flatten(0, 1), alpha=-LEARNING_RATE)
        return feature_grad_BD
