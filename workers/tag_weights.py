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

    A tag weighs 0 because every item carries it. So the loss says nothing of it (as a positive it weighs 0, as a
    negative it is always masked), and its bias stays where it starts. With z for its weight and p for its share of the
    positive draws, negative sampling starts the bias and corrects the score, see `workers.objectives`, by

        b = log(z p) - log q - log w,          b + log q + log w - log z = log p

    So it ranks by log p for any z above 0. 1/n is less than any rarer tag weighs: log(n/c) > 1/n for a count c < n.

    Args:
        weight_N: of the loss, not negative.
        counts_N: training items that carry each tag.
    """
    least = 1 / max(np.max(counts_N, initial=1), 1)
    return np.where(weight_N > 0, weight_N, least).astype(np.float64)
