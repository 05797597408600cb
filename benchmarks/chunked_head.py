"""The whole layer on the trunk's device, trained on all tags, in chunks of tags."""

# Shapes: B examples, D dim, N tags, n tags of one chunk, X entries (example, true tag).

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.rival_head import RivalHead, Setting
from benchmarks.row_adagrad import RowAdagrad

CPU_LOGITS, CUDA_LOGITS = 1 << 20, 1 << 26
"""Logits of one chunk: what fits into a core's cache; or what keeps a card busy for longer than its host takes to queue
the work on it, in about a GiB of temporaries."""


@dataclass(frozen=True, slots=True)
class ChunkGrads:
    """What one chunk of tags contributes; gradients are of the sum over examples."""

    tags: slice
    row_grad_nD: Tensor
    bias_grad_n: Tensor
    feature_grad_BD: Tensor


@dataclass(frozen=True, slots=True)
class TagChunk:
    """Some consecutive tags, their rows, and which of them are true of which example."""

    tags: slice
    rows_nD: Tensor
    """In the precision of the products."""
    true_x: tuple[Tensor, Tensor]
    """Examples and columns of the chunk, one entry per pair that is true."""


class ChunkedHead(RivalHead):
    """Logits and gradients exist for one chunk of tags at a time, and each chunk's rows are stepped at once.

    The feature gradient uses the rows as they were before the step. Products in the trunk's precision, all else in
    float32. Rows learn by row-wise Adagrad, the optimizer of the workers.

    Source: the chunked layer of ELMO (arXiv 2510.11168), section 4, with an adaptive row optimizer.

    Args:
        setting: what all rivals are made from.
        bias_N: float32, where the biases start.
        chunk_logits: logits of one chunk; None takes `CPU_LOGITS` or `CUDA_LOGITS`.
    """

    def __init__(self, setting: Setting, bias_N: NDArray[np.float32], chunk_logits: int | None = None) -> None:
        super().__init__(setting)
        device = setting.device
        self.rows_ND = setting.initial_rows_ND()
        self.bias_N = torch.from_numpy(bias_N).to(device)
        self.optimizer = RowAdagrad(self.rows_ND, self.bias_N)
        self._chunk_logits = chunk_logits or (CUDA_LOGITS if device.type == "cuda" else CPU_LOGITS)

    def learn(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        feature_grad_BD = torch.zeros_like(features_BD)
        for grads in self.chunk_grads(features_BD, items_B):
            feature_grad_BD += grads.feature_grad_BD
            self.optimizer.step_range(grads.tags, grads.row_grad_nD, grads.bias_grad_n, self.row_lr)
        self.step += 1
        return self.last_loss_sum, feature_grad_BD

    @abstractmethod
    def chunk_grads(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> Iterator[ChunkGrads]:
        """Gradients chunk by chunk; a chunk's rows may change as soon as it was given out."""

    @property
    @abstractmethod
    def last_loss_sum(self) -> Tensor:
        """The sum of the examples' losses in the batch that `chunk_grads` went through last, a scalar."""

    def tag_chunks(self, num_examples: int, example_X: Tensor, tag_X: Tensor) -> Iterator[TagChunk]:
        """All tags in chunks.

        Args:
            num_examples: B; the more examples, the fewer tags in a chunk.
            example_X: of each pair that is true, as `true_by_tag` gives them.
            tag_X: ascending.
        """
        size = max(1, self._chunk_logits // max(num_examples, 1))
        starts = torch.arange(0, self.num_tags + size, size)
        bounds = torch.searchsorted(tag_X, starts.to(tag_X.device)).tolist()
        for i, start in enumerate(range(0, self.num_tags, size)):
            tags = slice(start, min(start + size, self.num_tags))
            pairs = slice(bounds[i], bounds[i + 1])
            yield TagChunk(
                tags, self.rows_ND[tags].to(self.setting.precision), (example_X[pairs], tag_X[pairs] - start)
            )

    def true_by_tag(self, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Pairs (example, true tag) sorted by tag, so that a chunk's pairs lie together."""
        example_X, tag_X = self.setting.true_tags.of(items_B)
        order = tag_X.argsort()
        return example_X[order], tag_X[order]

    def for_ranking(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.rows_ND.cpu().numpy(), self.setting.only_seen(self.bias_N.cpu().numpy())


def backward(chunk: TagChunk, features_BD: Tensor, logit_grad_Bn: Tensor) -> ChunkGrads:
    """Gradients of rows, biases and features from those of the logits (float32)."""
    grad_Bn = logit_grad_Bn.to(features_BD.dtype)
    return ChunkGrads(
        chunk.tags,
        (grad_Bn.T @ features_BD).float(),
        logit_grad_Bn.sum(0),
        (grad_Bn @ chunk.rows_nD).float(),
    )
