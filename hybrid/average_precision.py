"""Mean average precision of tags that rank images, with ties averaged over all their orders."""

# Shapes: I images, Q qualifying tags, q tags of one block, D dim, N tags.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hybrid.truths import Truths
from workers.jit import allocating_kernel, kernel
from workers.settings import check

COUNTING_LIMIT = 64
"""Up to so many true images, counting larger scores one by one is quicker than sorting the tag's scores."""


@dataclass(frozen=True, slots=True)
class TagsToRank:
    """The tags whose average precision counts, each with its true images (CSR)."""

    tags_Q: NDArray[np.int64]
    """Ascending ids."""
    offsets: NDArray[np.int64]
    """`[Q + 1]`: tag q owns `images[offsets[q] : offsets[q + 1]]`."""
    images: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tags_Q)


def tags_to_rank(truths: Truths, counts_N: NDArray, bounds: tuple[int, int]) -> TagsToRank:
    """Tags seen in training (count > 0) whose number of true images lies within `bounds`, both inclusive."""
    low, high = bounds
    check(1 <= low <= high, "map_bounds", bounds, "(low, high) with 1 <= low <= high")
    num_true_N = np.bincount(truths.tags, minlength=len(counts_N))
    qualifies_N = (num_true_N >= low) & (num_true_N <= high) & (np.asarray(counts_N) > 0)
    kept_X = qualifies_N[truths.tags]
    by_tag = np.argsort(truths.tags[kept_X], kind="stable")
    tags_Q = np.flatnonzero(qualifies_N)
    offsets = np.concatenate([[0], np.cumsum(num_true_N[tags_Q])]).astype(np.int64)
    return TagsToRank(tags_Q, offsets, truths.item_of_entry_X[kept_X][by_tag])


def average_precision_Q(
    features_ID: NDArray, rows_QD_blocks: Iterator[NDArray], wanted: TagsToRank, device: str = "cpu"
) -> NDArray:
    """Average precision of each wanted tag when it ranks all I images by `row . features`.

    A tag's bias is the same for all images, so it is left out.

    Args:
        features_ID: float32, one row per image.
        rows_QD_blocks: the rows of `wanted.tags_Q` in that order, in consecutive float32 blocks.
        wanted: which tags, with their true images.
        device: where the products are computed.

    Returns:
        float64 `[Q]`.
    """
    features = torch.from_numpy(np.ascontiguousarray(features_ID, np.float32)).to(device)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(features_ID) + 1))])
    result_Q, start = np.zeros(len(wanted)), 0
    for rows_qD in rows_QD_blocks:
        stop = start + len(rows_qD)
        rows = torch.from_numpy(np.ascontiguousarray(rows_qD)).to(device)
        with torch.autocast(features.device.type, enabled=False):  # the caller's would round the scores
            scores_qI = (rows @ features.T).cpu().numpy()
        _average_precision(scores_qI, wanted.offsets[start : stop + 1], wanted.images, harmonic, result_Q[start:stop])
        start = stop
    return result_Q


def chance_Q(wanted: TagsToRank, num_images: int) -> NDArray[np.float64]:
    """Average precision of each wanted tag when all images tie: what ranking by popularity earns."""
    num_true_Q = np.diff(wanted.offsets)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, num_images + 1))])
    by_count = {int(m): _group_precision(0, 0, int(m), num_images, harmonic) / m for m in np.unique(num_true_Q)}
    return np.array([by_count[int(m)] for m in num_true_Q])


@allocating_kernel
def _average_precision(scores_qI, offsets, images, harmonic, out_q):  # type: ignore[no-untyped-def]
    """One tag after another: its distinct true scores from high to low, each with the images that tie with it."""
    for q in range(len(out_q)):
        scores_I = scores_qI[q]
        true_m = np.sort(scores_I[images[offsets[q] : offsets[q + 1]]])[::-1]
        sorted_I = np.sort(scores_I) if len(true_m) > COUNTING_LIMIT else scores_I
        total, first = 0.0, 0
        while first < len(true_m):
            after = first + 1
            while after < len(true_m) and true_m[after] == true_m[first]:
                after += 1
            greater, equal = _count(scores_I, sorted_I, true_m[first], len(true_m) > COUNTING_LIMIT)
            total += _group_precision(greater, first, after - first, equal, harmonic)
            first = after
        out_q[q] = total / len(true_m)


@kernel
def _count(scores_I, sorted_I, score, is_sorted):  # type: ignore[no-untyped-def]
    """How many images score higher, and how many the same."""
    if is_sorted:
        low, high = np.searchsorted(sorted_I, score, side="left"), np.searchsorted(sorted_I, score, side="right")
        return len(sorted_I) - high, high - low
    greater, equal = 0, 0
    for i in range(len(scores_I)):
        greater += scores_I[i] > score
        equal += scores_I[i] == score
    return greater, equal


@kernel
def _group_precision(ahead, true_ahead, true_tied, tied, harmonic):  # type: ignore[no-untyped-def]
    """Expected sum of the precisions at the true images of one group of ties, over all orders of the group.

        sum_{j=1..g} (r/g) (R + 1 + (j - 1)(r - 1)/(g - 1)) / (n + j)

    with n images and R true ones ahead of the group of g images, r of them true: the image at place j is true with
    probability r/g, and then (j - 1)(r - 1)/(g - 1) of those before it in the group are true on average. The sum is
    closed by harmonic numbers H: with b = (r - 1)/(g - 1) it is (r/g) (b g + (R + 1 - b (n + 1)) (H_{n+g} - H_n)).

    Source: McSherry and Najork 2008, section 2.4, written in closed form.
    """
    slope = (true_tied - 1) / (tied - 1) if tied > 1 else 0.0
    spread = harmonic[ahead + tied] - harmonic[ahead]
    return true_tied / tied * (slope * tied + (true_ahead + 1 - slope * (ahead + 1)) * spread)
