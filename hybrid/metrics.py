"""Streaming measures of ranked tags against true tags."""

# Shapes: B items of one update, N tags, k ranks, X entries (item, true tag).

import numpy as np
from numpy.typing import NDArray

from hybrid.truths import Truths
from workers.settings import check

DEPTH = 10
"""Ranks that the measures look at."""
PRECISION_KS, NDCG_KS, PSP_KS, RECALL_KS, DISTINCT_K = (1, 3, 5), (5,), (1, 5), (10,), 5


A, B = 0.55, 1.5
"""Constants of the propensity model, as for data sets that have none of their own."""


def inverse_propensity_N(counts_N: NDArray, num_train_items: int) -> NDArray[np.float64]:
    """Inverse propensity of each tag, and 0 for tags never seen in training.

        1 + C (n + B)^(-A),   C = (ln N - 1)(B + 1)^A

    Args:
        counts_N: n, training items that carry each tag.
        num_train_items: N, the number of training items (not of tags).

    Source: Jain, Prabhu and Varma 2016, equation (2) and section 4.
    """
    check(num_train_items >= 1, "num_train_items", num_train_items, "at least 1")
    counts_N = np.asarray(counts_N, np.float64)
    C = (np.log(num_train_items) - 1) * (B + 1) ** A
    return np.where(counts_N > 0, 1 + C * (counts_N + B) ** -A, 0.0)


class RankingMetrics:
    """P@k, nDCG@k, PSP@k, R@k and the number of distinct tags predicted, summed over updates of any size.

    - P@k divides hits by k, even where an item has fewer true tags.
    - nDCG@k divides by the ideal DCG of min(k, true tags).
    - R@k divides hits by the number of true tags.
    - PSP@k is a ratio of means: mean(sum of hit weights / k) / mean(best possible sum / k);
      weights are inverse propensities.
    - Items without tags count as 0 and stay in the means.
    - True tags that training never saw stay in P, R and nDCG, where they cannot be hit; they leave PSP's ideal.
    - `distinct tags`: how many different tags appear among the five best of all items.
    """

    def __init__(self, counts_N: NDArray, num_train_items: int) -> None:
        self._weight_N = inverse_propensity_N(counts_N, num_train_items)
        self._is_predicted_N = np.zeros(len(self._weight_N), bool)
        self._num_items = 0
        self._sums = dict.fromkeys([f"P@{k}" for k in PRECISION_KS], 0.0)
        self._sums |= dict.fromkeys([f"nDCG@{k}" for k in NDCG_KS], 0.0)
        self._sums |= dict.fromkeys([f"PSP@{k}" for k in PSP_KS], 0.0)
        self._sums |= dict.fromkeys([f"R@{k}" for k in RECALL_KS], 0.0)
        self._ideal = dict.fromkeys([f"PSP@{k}" for k in PSP_KS], 0.0)

    def update(self, top_ids_Bk: NDArray, truths: Truths) -> None:
        """Add items: their best tags, best first (-1 where fewer could be ranked), and what is true of them.

        Args:
            top_ids_Bk: integers `[B, k]`, k at least `DEPTH` or the number of tags; no tag twice in a row.
            truths: of the same B items in the same order.

        Raises:
            ConfigError: the shapes do not fit.
        """
        check(
            len(top_ids_Bk) == len(truths),
            "items in top_ids_Bk",
            len(top_ids_Bk),
            f"as many as the truths, {len(truths)}",
        )
        least = min(DEPTH, len(self._weight_N))
        check(top_ids_Bk.shape[1] >= least, "ranks in top_ids_Bk", top_ids_Bk.shape[1], f"at least {least}")
        hits_Bk = _hits(top_ids_Bk, truths, len(self._weight_N))
        self._num_items += len(truths)
        num_true_B = truths.num_true_I
        discount_k = 1 / np.log2(np.arange(2, max(DEPTH, hits_Bk.shape[1]) + 2))
        ideal_dcg = np.concatenate([[0.0], np.cumsum(discount_k)])
        for k in PRECISION_KS:
            self._sums[f"P@{k}"] += hits_Bk[:, :k].sum() / k
        for k in NDCG_KS:
            gain_B = hits_Bk[:, :k] @ discount_k[: min(k, hits_Bk.shape[1])]
            self._sums[f"nDCG@{k}"] += _ratio(gain_B, ideal_dcg[np.minimum(num_true_B, k)]).sum()
        for k in RECALL_KS:
            self._sums[f"R@{k}"] += _ratio(hits_Bk[:, :k].sum(1), num_true_B).sum()
        self._add_propensity_scored(top_ids_Bk, hits_Bk, truths)
        best = top_ids_Bk[:, :DISTINCT_K]
        self._is_predicted_N[best[best >= 0]] = True

    def result(self) -> dict[str, float]:
        """The measures over all items so far; 0 where nothing can be measured."""
        result = {name: total / max(self._num_items, 1) for name, total in self._sums.items()}
        for name, ideal in self._ideal.items():
            result[name] = self._sums[name] / ideal if ideal > 0 else 0.0
        return {name: float(value) for name, value in result.items()} | {
            "distinct tags": int(self._is_predicted_N.sum())
        }

    def _add_propensity_scored(self, top_ids_Bk: NDArray, hits_Bk: NDArray, truths: Truths) -> None:
        """Sums only: the common factors 1/k and 1/items cancel in the ratio of means."""
        gained_Bk = np.where(hits_Bk, self._weight_N[top_ids_Bk], 0.0)
        weight_X, item_X = self._weight_N[truths.tags], truths.item_of_entry_X
        order = np.lexsort((-weight_X, item_X))
        rank_X = np.arange(len(order)) - np.repeat(truths.offsets[:-1], truths.num_known_I)
        for k in PSP_KS:
            self._sums[f"PSP@{k}"] += gained_Bk[:, :k].sum()
            self._ideal[f"PSP@{k}"] += weight_X[order][rank_X < k].sum()


def popularity_ids(counts_N: NDArray, k: int = DEPTH) -> NDArray[np.int64]:
    """The k most frequent training tags, lower ids first among equals, -1 where fewer were seen: the baseline."""
    ids = np.argsort(-np.asarray(counts_N, np.int64), kind="stable")[:k]
    ids = np.where(np.asarray(counts_N)[ids] > 0, ids, -1)
    return np.concatenate([ids, np.full(k - len(ids), -1)])


def _hits(top_ids_Bk: NDArray, truths: Truths, num_tags: int) -> NDArray[np.bool_]:
    """Whether each ranked tag is true, by one search among (item, tag) pairs that are sorted by construction."""
    if len(truths.tags) == 0:
        return np.zeros(top_ids_Bk.shape, bool)
    true_X = truths.item_of_entry_X * num_tags + truths.tags
    ranked_Bk = np.arange(len(top_ids_Bk))[:, None] * num_tags + top_ids_Bk
    found_Bk = np.minimum(np.searchsorted(true_X, ranked_Bk), len(true_X) - 1)
    return (true_X[found_Bk] == ranked_Bk) & (top_ids_Bk >= 0)


def _ratio(part_B: NDArray, whole_B: NDArray) -> NDArray[np.float64]:
    """Elementwise quotient, 0 where the whole is 0."""
    return np.divide(part_B, whole_B, out=np.zeros(len(part_B)), where=whole_B > 0)
