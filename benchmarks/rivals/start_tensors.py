"""Tensors that torch's contestants start from."""

# Shapes: B examples, D dim, N tags, T tags of an example (positives first).

import torch
from torch import Tensor

from benchmarks.id_streams import POSITIVES
from benchmarks.rivals.same_start import ROW_SCALE


def random_rows(num_tags: int, dim: int) -> Tensor:
    """Fresh rows as the engine's: float32 [N, D]."""
    return fill_rows(torch.empty(num_tags, dim))


def fill_rows(rows_ND: Tensor) -> Tensor:
    """The same, in place."""
    return rows_ND.normal_(0, ROW_SCALE / rows_ND.shape[1] ** 0.5)


def random_features(num_examples: int, dim: int) -> Tensor:
    """Like layer norm's, as the engine's: float32 [B, D]."""
    return torch.randn(num_examples, dim)


def weights_and_targets(num_examples: int, num_tags: int) -> tuple[Tensor, Tensor]:
    """Of each example's terms, float32 [B, T] both: positives are averaged, and so are negatives."""
    targets_T = (torch.arange(num_tags) < POSITIVES).float()
    weights_T = torch.where(targets_T > 0, 1 / POSITIVES, 1 / (num_tags - POSITIVES))
    return weights_T.repeat(num_examples, 1), targets_T.repeat(num_examples, 1)
