"""What may be asked of a wide head's rows without its workers."""

# Shapes: B examples, D dim, k results.

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hybrid.loss_weights import checked_tag_weights
from hybrid.open_head import while_open
from hybrid.ranking import Ranker, check_float_tensor
from hybrid.score_bias import score_bias_N
from hybrid.sole_use import SoleUse
from hybrid.tag_batch import Integers, integers
from hybrid.uncompiled import uncompiled
from workers.config import HeadConfig
from workers.errors import DataError
from workers.matrix import TagMatrix
from workers.rows import unpack


class HeadQueries:
    """Part of `WideHead`, which has the matrix and the configuration."""

    matrix: TagMatrix
    config: HeadConfig
    sole_use: SoleUse
    is_closed: bool

    @uncompiled
    @while_open
    def topk(
        self,
        features_BD: Tensor,
        k: int,
        *,
        score: str = "probability",
        pos_weights: npt.NDArray[np.float32] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best tags of each example, exactly, over all rows, in float32 also under autocast.

        If you allow torch to multiply float32 less exactly (TF32), tags that are close may change places. Each call
        reads all rows: gather the features of many examples, and ask once.

        Args:
            features_BD: `[B, D]`.
            k: results per example, at least 1.
            score: `probability` ranks by log p(tag | example), `lift` by the bare score, which favours rare tags.
            pos_weights: `[N]`, those that the rows learned with, if any: tags of great weight score too high, and
                `probability` takes that off again.

        Returns:
            ids int64 `[B, k]` and scores float32 `[B, k]`, best first, on the features' device. Where fewer tags can be
            ranked (those that `tag_counts` says were never seen cannot), -1 and -inf.

        Raises:
            ConfigError: `k` or `score` is none of these, or this process is a fork of the one that made the head:
                torch's threads may not be there, and would be waited for.
            MatrixMismatch: features are not `[B, D]`.
            DataError: features are no float tensor, or not finite; or see `score_bias_N`.
            HeadClosed: the head was closed.
        """
        self.sole_use.check_process()
        check_float_tensor(features_BD)
        ranker = Ranker(self.matrix, self.score_bias_N(score, pos_weights), features_BD.device)
        return ranker.topk(features_BD.detach(), k)

    @while_open
    def score_bias_N(
        self, score: str = "probability", pos_weights: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """What `topk` adds to `row . features` to rank tags: float32 `[N]`, -inf for those that are not ranked.

        With `rows`, all that a search elsewhere needs, in Faiss say.

        Args:
            score: as of `topk`.
            pos_weights: as of `topk`.

        Raises:
            ConfigError: `score` is none of these.
            DataError: `pos_weights` are not `[N]`, or not between 0 and 1e6.
            HeadClosed: the head was closed.

        Example:
            >>> from hybrid import WideHead
            >>> with WideHead(num_tags=1000, dim=8, workers=0) as head:
            ...     features = torch.randn(4, 8)
            ...     scores = features @ head.rows(range(1000)).T + torch.from_numpy(head.score_bias_N())
            ...     ids, _ = head.topk(features, k=5)
            >>> bool((scores.topk(5).indices == ids).all())
            True
        """
        return score_bias_N(self.matrix, self.config, score, checked_tag_weights(pos_weights, self.matrix.num_tags))

    @while_open
    def rows(self, ids: Integers | Sequence[int]) -> Tensor:
        """A copy of the rows of some tags, float32 `[len(ids), D]`, in host memory.

        Raises:
            DataError: an id is out of range, or no integer.
            HeadClosed: the head was closed.
        """
        wanted = integers(ids, "ids")
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.matrix.num_tags):
            raise DataError(
                f"tag ids from {wanted.min()} to {wanted.max()}; expected ids from 0 to {self.matrix.num_tags - 1}."
            )
        return torch.from_numpy(unpack(self.matrix.rows_NS[wanted]))
