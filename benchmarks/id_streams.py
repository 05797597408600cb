"""The ids that all contestants update: positives and negatives by Zipf's law, the same for everybody.

Legend: B examples, T ids per example (positives first), N tags.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POSITIVES, NEGATIVES = 5, 20
POSITIVE_EXPONENT, NEGATIVE_EXPONENT = 1.0, 0.75
BATCH = 256
_COUNT_OF_LAST = 100
"""Of the rarest tag: counts are rounded, and so follow the law to 0.5%."""


@dataclass(frozen=True, slots=True)
class IdStream:
    """Batches of ids, made in advance and used in turn, so that making them is not timed."""

    num_tags: int
    batches: list[NDArray[np.int32]]
    """int32 [B, T] each; ids are in order of frequency (0 is the most frequent), as the product numbers tags."""
    description: str
    """For the record and the tables."""

    @property
    def ids_per_batch(self) -> int:
        """B times T."""
        return self.batches[0].size


def make_stream(
    num_tags: int,
    *,
    num_batches: int = 32,
    batch: int = BATCH,
    positives: int = POSITIVES,
    negatives: int = NEGATIVES,
    hot_rows: int | None = None,
    seed: int = 0,
) -> IdStream:
    """Ids of examples: positives with p ~ rank^-1, negatives with p ~ rank^-0.75.

    Args:
        num_tags: N.
        num_batches: how many; 32 of 6,400 ids touch more rows than any cache holds.
        batch: B.
        positives: per example.
        negatives: per example.
        hot_rows: draw all ids uniformly from so many rows instead.
        seed: equal seeds give equal streams.
    """
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(num_batches):
        if hot_rows is not None:
            ids_BT = rng.integers(min(hot_rows, num_tags), size=(batch, positives + negatives), dtype=np.int32)
        else:
            pos_BP = zipf_ids(rng, POSITIVE_EXPONENT, (batch, positives), num_tags)
            neg_BK = zipf_ids(rng, NEGATIVE_EXPONENT, (batch, negatives), num_tags)
            ids_BT = np.concatenate([pos_BP, neg_BK], axis=1)
        batches.append(ids_BT)
    law = f"uniform on {hot_rows} rows" if hot_rows else f"{positives} Zipf(1.0) + {negatives} Zipf(0.75) ids"
    sizes = f"{batch} examples, {num_tags:,} tags, rows in order of frequency"
    return IdStream(num_tags, batches, f"{law} per example, {sizes}")


def zipf_ids(rng: np.random.Generator, exponent: float, shape: tuple[int, ...], num_tags: int) -> NDArray[np.int32]:
    """Ids in [0, N) with p(id) ~ (id + 1)^-exponent, by inverting the continuous law over [1, N + 1)."""
    u, end = rng.random(shape), float(num_tags + 1)
    if exponent == 1.0:
        rank = np.exp(u * math.log(end))
    else:
        power = 1.0 - exponent
        rank = ((end**power - 1.0) * u + 1.0) ** (1.0 / power)
    return np.minimum(rank.astype(np.int64) - 1, num_tags - 1).astype(np.int32)


def zipf_counts(num_tags: int, exponent: float = NEGATIVE_EXPONENT) -> NDArray[np.int64]:
    """Counts with which the product's sampler draws negatives by the same law (alpha = 1): int64 [N]."""
    frequency_N = np.arange(1, num_tags + 1, dtype=np.float64) ** -exponent
    return np.rint(_COUNT_OF_LAST * frequency_N / frequency_N[-1]).astype(np.int64)
