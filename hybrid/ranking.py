"""Exact best tags of features, over all rows in blocks of bounded memory."""

# Shapes: B items, D dim, N tags, n tags of one block, k ranks, g groups of a block, m members of a group.

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.errors import DataError, MatrixMismatch
from workers.settings import check, positive_number

SCORES_PER_BLOCK = 1 << 24
"""Scores of a block: 64 MiB of float32."""
BLOCK_ROWS = 16_384
"""Most rows of one block."""
MEMBERS = 64
"""Scores of a group, of which only the largest is looked at first."""
NOT_RANKED = -1
"""The id where fewer tags than asked for can be ranked."""


class Rows(Protocol):
    """What ranking needs of a tag matrix, live in shared memory or mapped from a file."""

    @property
    def num_tags(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 `[stop - start, D]`."""
        ...


class LiveRows:
    """A plain array of rows seen as `Rows`."""

    def __init__(self, rows_ND: NDArray[np.float32]) -> None:
        self.rows_ND = rows_ND

    @property
    def num_tags(self) -> int:
        return len(self.rows_ND)

    @property
    def dim(self) -> int:
        return self.rows_ND.shape[1]

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """A view, not a copy."""
        return self.rows_ND[start:stop]


class WatchedRows:
    """Rows that tell how far each pass over them is: over very many it takes minutes.

    Args:
        rows: the rows.
        tell: told before each block how many tags were passed, of how many; what it raises ends the pass.
    """

    def __init__(self, rows: Rows, tell: Callable[[int, int], None]) -> None:
        self._rows, self._tell = rows, tell

    @property
    def num_tags(self) -> int:
        return self._rows.num_tags

    @property
    def dim(self) -> int:
        return self._rows.dim

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Those of the rows that are watched."""
        self._tell(start, self.num_tags)
        return self._rows.rows(start, stop)


class Ranker:
    """Best tags by `row . features + score bias`.

    Args:
        rows: the tag matrix, as `Rows` or as an array `[N, D]`.
        score_bias_N: float32, added to each tag's score: its bias and, to rank by probability, the objective's
            correction. -inf means that the tag is never ranked.
        device: where scores are computed.
    """

    def __init__(
        self, rows: Rows | NDArray[np.float32], score_bias_N: NDArray[np.float32], device: str | torch.device = "cpu"
    ) -> None:
        rows = LiveRows(rows) if isinstance(rows, np.ndarray) else rows
        if len(score_bias_N) != rows.num_tags:
            raise MatrixMismatch(f"score bias of {len(score_bias_N)} tags for a matrix of {rows.num_tags}.")
        self.rows = rows
        self.device = torch.device(device)
        self._bias_N = torch.from_numpy(np.ascontiguousarray(score_bias_N, np.float32))

    def topk(self, features_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best tags of each item, best first; exact.

        Memory: one block of scores, and 2 k numbers per item, whatever the number of tags.

        Args:
            features_BD: float32.
            k: tags wanted.

        Returns:
            ids int64 `[B, k]` and scores float32 `[B, k]`, on the features' device; `NOT_RANKED` and -inf where fewer
            tags can be ranked.

        Raises:
            DataError: features that are no float tensor, or not finite.
            MatrixMismatch: features of another length than the rows.
        """
        return self.topk_scaled(features_BD, k, [1.0])[0]

    @torch.no_grad()
    def topk_scaled(self, features_BD: Tensor, k: int, factors: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
        """What `topk` finds for the features times each factor, from one product of features and rows.

        Memory: with several factors a second block of scores.

        Args:
            features_BD: as in `topk`.
            k: as in `topk`.
            factors: what the features are multiplied by, one after the other.

        Returns:
            Ids and scores as of `topk`, for each factor.

        Raises:
            DataError, MatrixMismatch: as `topk`.
        """
        k = positive_number("k", k)
        check(len(factors) >= 1, "factors", list(factors), "at least one")
        features = checked_features(features_BD, self.rows.dim).to(self.device)
        found = [_Best(len(features), k, self.device) for _ in factors]
        block = max(MEMBERS, min(BLOCK_ROWS, SCORES_PER_BLOCK // max(len(features), 1)))
        for start in range(0, self.rows.num_tags, block):
            stop = min(start + block, self.rows.num_tags)
            products_Bn, bias_n = self._products(features, start, stop), self._bias_N[start:stop].to(self.device)
            for best, factor in zip(found[:-1], factors[:-1], strict=True):
                best.add(torch.add(bias_n, products_Bn, alpha=factor), start)
            found[-1].add(torch.add(bias_n, products_Bn, alpha=factors[-1], out=products_Bn), start)
        return [best.result(features_BD.device) for best in found]

    def _products(self, features_BD: Tensor, start: int, stop: int) -> Tensor:
        """float32, whatever the caller's autocast says: in bfloat16 tags that are close would change places."""
        rows_nD = torch.from_numpy(np.array(self.rows.rows(start, stop), np.float32, order="C")).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            return features_BD @ rows_nD.T


class _Best:
    """The best tags so far of each item."""

    def __init__(self, num_items: int, k: int, device: torch.device) -> None:
        self._k = k
        self._ids_Bk = torch.full((num_items, k), NOT_RANKED, dtype=torch.int64, device=device)
        self._scores_Bk = torch.full((num_items, k), -torch.inf, device=device)

    def add(self, scores_Bn: Tensor, first: int) -> None:
        """Let the tags from `first` on compete."""
        best_Bk, places_Bk = two_level_topk(scores_Bn, self._k)
        self._scores_Bk, chosen = torch.cat([self._scores_Bk, best_Bk], dim=1).topk(self._k, dim=1)
        self._ids_Bk = torch.cat([self._ids_Bk, places_Bk + first], dim=1).gather(1, chosen)

    def result(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Ids and scores, best first."""
        ids_Bk = self._ids_Bk.masked_fill(self._scores_Bk == -torch.inf, NOT_RANKED)
        return ids_Bk.to(device), self._scores_Bk.to(device)


def two_level_topk(scores_Bn: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` along the last axis, several times faster for small k.

    The k largest scores lie in k groups whose maxima are the k largest maxima, so a selection among maxima and one
    among the members of k groups replace the selection among all. Groups are strided, which makes the first maximum
    run along memory.
    """
    B, n = scores_Bn.shape
    num_groups = n // MEMBERS
    if num_groups <= k:
        best = scores_Bn.topk(min(k, n), dim=1)
        return best.values, best.indices
    in_groups = num_groups * MEMBERS
    scores_Bmg = scores_Bn[:, :in_groups].unflatten(1, (MEMBERS, num_groups))
    groups_Bk = scores_Bmg.amax(dim=1).topk(k, dim=1).indices
    members = torch.arange(0, in_groups, num_groups, device=scores_Bn.device)
    rest = torch.arange(in_groups, n, device=scores_Bn.device).expand(B, -1)
    places = torch.cat([(groups_Bk[:, :, None] + members).flatten(1), rest], dim=1)
    best = scores_Bn.gather(1, places).topk(k, dim=1)
    return best.values, places.gather(1, best.indices)


def check_float_tensor(features: object) -> None:
    """Raise DataError unless features are a tensor of floats, whose gradient a trunk can take."""
    if not isinstance(features, Tensor):
        kind = f"{type(features).__module__}.{type(features).__name__}"
        raise DataError(f"features are a {kind}; expected a float tensor [B, D] (torch.as_tensor makes one).")
    if not features.is_floating_point():
        raise DataError(f"features are a tensor of {features.dtype}; expected floats, [B, D]: the trunk's output.")


def checked_features(features_BD: Tensor, dim: int) -> Tensor:
    """Features as float32 `[B, dim]`.

    Raises:
        MatrixMismatch: another shape.
        DataError: no float tensor, or values that are not finite.
    """
    check_float_tensor(features_BD)
    if features_BD.ndim != 2 or features_BD.shape[1] != dim:
        raise MatrixMismatch(f"features of shape {list(features_BD.shape)}, expected [items, {dim}].")
    features_BD = features_BD.float()
    is_finite_B = torch.isfinite(features_BD).all(dim=1)
    if not is_finite_B.all():
        bad = int(is_finite_B.logical_not().nonzero()[0])
        raise DataError(
            f"features of item {bad} hold NaN or infinity: what the trunk was given holds one, or the trunk diverged. "
            "If it diverged, train a fresh one with a lower learning rate; a run that is resumed keeps its own."
        )
    return features_BD
