"""Tags whose rows point the same way as a tag's row."""

# Shapes: N tags, D dim, n tags of one block, k neighbours.

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from hybrid.ranking import Rows
from workers.settings import positive_number

BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class ScoredTag:
    """A tag with its score: a cosine among neighbours, a logarithm of probability (or a lift) in annotations."""

    tag: str
    tag_id: int
    score: float
    count: int
    """Training items that carry it."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"tag": self.tag, "id": self.tag_id, "score": self.score, "count": self.count}


def nearest_tags(rows: Rows, counts_N: NDArray, tag_id: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k other tags, among those seen in training, of largest cosine; exact, in blocks of rows.

    Returns:
        ids and cosines, best first; fewer than k where fewer tags were seen.

    Raises:
        ConfigError: `k` is no number from 1 on.
    """
    k = positive_number("k", k)
    query_1D = unit_rows(rows.rows(tag_id, tag_id + 1))
    ids, cosines = np.zeros(0, np.int64), np.zeros(0, np.float32)
    for start in range(0, rows.num_tags, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows.num_tags)
        seen = np.flatnonzero(np.asarray(counts_N[start:stop]) > 0)
        seen = seen[seen != tag_id - start]
        if len(seen) == 0:
            continue
        block = unit_rows(rows.rows(start, stop)[seen])
        found, places = faiss.knn(query_1D, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        ids, cosines = np.concatenate([ids, seen[places[0]] + start]), np.concatenate([cosines, found[0]])
        order = np.argsort(-cosines, kind="stable")[:k]
        ids, cosines = ids[order], cosines[order]
    return ids, cosines


def unit_rows(rows_nD: NDArray) -> NDArray[np.float32]:
    """Rows scaled to length 1; a row of zeros stays as it is."""
    rows_nD = np.ascontiguousarray(rows_nD, np.float32)
    return rows_nD / np.maximum(np.linalg.norm(rows_nD, axis=1, keepdims=True), np.float32(1e-12))
