"""The table of measures of a model on some items, beside popularity's."""

# Shapes: I items, D dim, N tags, Q tags whose average precision counts, k ranks.

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybrid.average_precision import TagsToRank, average_precision_Q, chance_Q, tags_to_rank
from hybrid.metrics import DEPTH, RankingMetrics, popularity_ids
from hybrid.ranking import BLOCK_ROWS, SCORES_PER_BLOCK, Ranker, Rows, checked_features
from hybrid.temperature import NEUTRAL
from hybrid.truths import Truths
from launch.config import MAP_BOUNDS

MEASURES = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@5", "R@10", "mAP", "distinct tags")
"""The keys of a table, in the order of its rows."""
ITEMS_PER_UPDATE = 4096


def evaluate(
    features_ID: NDArray[np.float32],
    rows: Rows,
    score_bias_N: NDArray[np.float32],
    truths: Truths,
    counts_N: NDArray,
    num_train_items: int,
    device: str | torch.device = "cpu",
    map_bounds: tuple[int, int] = MAP_BOUNDS,
    temperature: float = NEUTRAL,
) -> dict[str, Any]:
    """Measure predictions of all tags for all items, streamed: never items x tags in memory.

    Args:
        features_ID: the trunk's output for each item.
        rows: the tag matrix.
        score_bias_N: float32, bias (and correction) of each tag; -inf is never ranked.
        truths: of the same I items.
        counts_N: training items that carry each tag.
        num_train_items: items of the training split, for propensities.
        device: where scores are computed.
        map_bounds: a tag enters mAP if it was seen in training and has so many true items here, inclusive.
        temperature: what `row . features` is divided by, see `hybrid.temperature`; mAP does not depend on it.

    Returns:
        `MEASURES` by name, the same under `popularity`, and what they were measured on: `items`, `mAP tags`,
        `mAP bounds`, `temperature`. mAP is None if no tag enters it.
    """
    features = checked_features(torch.from_numpy(np.ascontiguousarray(features_ID, np.float32)), rows.dim)
    model, popular = RankingMetrics(counts_N, num_train_items), RankingMetrics(counts_N, num_train_items)
    ranker, popular_k = Ranker(rows, score_bias_N, device), popularity_ids(counts_N)
    for start, block in zip(range(0, len(truths), ITEMS_PER_UPDATE), truths.blocks(ITEMS_PER_UPDATE), strict=True):
        model.update(ranker.topk(features[start : start + len(block)] / temperature, DEPTH)[0].numpy(), block)
        popular.update(np.broadcast_to(popular_k, (len(block), DEPTH)), block)
    wanted = tags_to_rank(truths, counts_N, map_bounds)
    precision_Q = average_precision_Q(features_ID, _wanted_rows(rows, wanted, len(features_ID)), wanted, str(device))
    return {
        **_table(model.result(), precision_Q),
        "items": len(truths),
        "mAP tags": len(wanted),
        "mAP bounds": list(map_bounds),
        "temperature": temperature,
        "popularity": _table(popular.result(), chance_Q(wanted, len(truths))),
    }


def shown(name: str, value: float | None) -> str:
    """A measure for people: counts with separators, shares with three decimals, `-` where nothing was measured."""
    if value is None:
        return "-"
    return f"{value:,}" if name == "distinct tags" else f"{value:.3f}"


def _table(result: dict[str, float], precision_Q: NDArray) -> dict[str, float | None]:
    mean = float(precision_Q.mean()) if len(precision_Q) else None
    return {name: mean if name == "mAP" else result[name] for name in MEASURES}


def _wanted_rows(rows: Rows, wanted: TagsToRank, num_images: int) -> Iterator[NDArray[np.float32]]:
    """The wanted rows in blocks small enough that their scores fit in `SCORES_PER_BLOCK`."""
    most = max(1, min(BLOCK_ROWS, SCORES_PER_BLOCK // max(num_images, 1)))
    for start in range(0, rows.num_tags, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows.num_tags)
        first, last = np.searchsorted(wanted.tags_Q, [start, stop])
        if first == last:
            continue
        block = rows.rows(start, stop)[wanted.tags_Q[first:last] - start]
        for at in range(0, len(block), most):
            yield block[at : at + most]
