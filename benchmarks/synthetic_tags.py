"""Made-up batches for a head without a trunk: Zipf-like tags, random features."""

# Shapes: B examples, D dim, N tags, P positives of an example.

import numpy as np
from numpy.typing import NDArray

from hybrid.tag_batch import TagBatch

EXPONENT = 1.0
"""count(rank) ~ 1 / rank ** EXPONENT, as of words and tags."""


class SyntheticTags:
    """A vocabulary with Zipf-like counts, and batches whose true tags follow them.

    Args:
        num_tags: N.
        seed: of the batches.
    """

    def __init__(self, num_tags: int, seed: int) -> None:
        frequency_N = np.arange(1, num_tags + 1, dtype=np.float64) ** -EXPONENT
        self.counts_N: NDArray[np.int64] = np.ceil(frequency_N * num_tags).astype(np.int64)
        self._cumulative_N = np.cumsum(frequency_N) / frequency_N.sum()
        self._rng = np.random.default_rng(seed)

    def batch(self, num_examples: int, dim: int, positives: int) -> tuple[NDArray[np.float32], TagBatch]:
        """Features `[B, D]` of the scale that layer norm gives, and true tags, at most P each."""
        features_BD = self._rng.standard_normal((num_examples, dim), dtype=np.float32)
        drawn_BP = np.searchsorted(self._cumulative_N, self._rng.random((num_examples, positives)))
        rows = [np.unique(np.minimum(drawn_P, len(self.counts_N) - 1)) for drawn_P in drawn_BP]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return features_BD, TagBatch(np.concatenate(rows).astype(np.int32), offsets)
