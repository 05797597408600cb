"""What a tag matrix is made from, checked."""

# Shapes: N tags.

import numpy as np

from workers.errors import DataError

ARRAYS = ("counts", "marginal", "item_offsets", "item_tags")
"""As `TagMatrix.create` calls them; each is a file NAME.npy of prepared data."""


def checked_counts_N(counts: np.ndarray | None, num_tags: int) -> np.ndarray:
    """Training counts as int64, whatever type they have; 1 each where they are not known.

    Raises:
        DataError: they are not `[N]` whole numbers, one of them above 0.
    """
    if counts is None:
        return np.ones(num_tags, np.int64)
    given = np.asarray(counts)
    if given.shape != (num_tags,):
        raise DataError(f"counts have shape {given.shape}; expected ({num_tags},), one for each tag")
    if given.dtype.kind not in "biuf":
        raise DataError(f"counts are of type {given.dtype}; expected whole numbers")
    with np.errstate(invalid="ignore"):
        counts_N = given.astype(np.int64, copy=False)  # unsigned ones would come out of a sort by -count upside down
    if (counts_N != given).any() or counts_N.min() < 0 or counts_N.max() < 1:
        raise DataError(
            f"counts range from {given.min()} to {given.max()}; expected whole numbers, not negative, one above 0"
        )
    return counts_N


def checked_marginal_N(marginal: np.ndarray, num_tags: int) -> np.ndarray:
    """The expected weight of each tag among an example's positive terms, as float64; it is not scaled.

    Raises:
        DataError: it is not `[N]` finite numbers, not negative, one of them above 0.
    """
    marginal_N = np.asarray(marginal, np.float64)
    if marginal_N.shape != (num_tags,) or not (marginal_N.min() >= 0 and 0 < marginal_N.sum() < np.inf):
        raise DataError(f"marginal has shape {marginal_N.shape}; expected ({num_tags},), not negative, sum above 0")
    return marginal_N


def checked_truth(offsets: np.ndarray | None, tags: np.ndarray | None, num_tags: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and tags of the items' true tags; of no item where both are None.

    Raises:
        DataError: they do not fit together, or a tag is out of range or out of order.
    """
    if offsets is None or tags is None:
        if offsets is not None or tags is not None:
            raise DataError("item_offsets and item_tags belong together: give both or none")
        return np.zeros(1, np.int64), np.zeros(0, np.int32)
    for name, array in (("item_offsets", offsets), ("item_tags", tags)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(f"{name}: {array.dtype} of shape {array.shape}; expected whole numbers in one dimension")
    is_from_0_on = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(tags)
    if not is_from_0_on or (offsets[1:] < offsets[:-1]).any():  # differences of unsigned ones would never be below 0
        raise DataError(f"item_offsets must rise from 0 to {len(tags)}, the length of item_tags")
    if len(tags):
        if tags.min() < 0 or tags.max() >= num_tags:
            raise DataError(f"item_tags range from {tags.min()} to {tags.max()}, but there are {num_tags} tags")
        falls = np.flatnonzero(tags[1:] <= tags[:-1]) + 1
        if len(np.setdiff1d(falls, offsets, assume_unique=False)):
            raise DataError("item_tags must ascend within each item, each tag once")
    return offsets, tags
