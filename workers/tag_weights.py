"""Weights of tags' positive terms in the loss."""

import numpy as np


def inverse_frequency_weights(counts_N: np.ndarray, num_items: int) -> np.ndarray:
    """log(items / count) for each tag: the information, in nats, of an item carrying it.

    Args:
        counts_N: training items that carry each tag.
        num_items: training items.

    Returns:
        float32 `[N]`. A tag that every item carries has weight 0 and is not learned; one that no item carries is never
        a positive and has weight 0.
    """
    counts_N = np.asarray(counts_N, np.float64)
    seen_N = counts_N > 0
    weights_N = np.zeros(len(counts_N), np.float32)
    weights_N[seen_N] = np.log(max(num_items, 1) / np.minimum(counts_N[seen_N], num_items))
    return weights_N


def weights_above_zero(weight_N: np.ndarray, counts_N: np.ndarray) -> np.ndarray:
    """The weights with 1/n in place of 0, n being the largest count: float64 `[N]`, whose logarithms are finite.

    So 0, of a tag that every item carries, stands for less than any rarer tag weighs by inverse frequency
    (log(n/c) > 1/n). The loss says nothing of such a tag, for no draw of it is ever a negative. What ranks it high is
    that everything carries it: its bias starts with this weight, and its score has the same weight taken off again.

    Args:
        weight_N: of the loss, not negative.
        counts_N: training items that carry each tag.
    """
    least = 1 / max(np.max(counts_N, initial=1), 1)
    return np.where(weight_N > 0, weight_N, least).astype(np.float64)
