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
