"""How often each tag occurs in the training data, as users give it."""

# Shapes: N tags.

import numpy as np
import numpy.typing as npt

from workers.errors import ConfigError


def checked_counts(tag_counts: npt.ArrayLike | None) -> npt.NDArray[np.int64] | None:
    """Counts as int64, or None for none; their number and signs are for `TagMatrix` to check.

    Raises:
        ConfigError: a number that is not whole; cut off, shares of the data would all be 0: tags that nobody ever saw.
    """
    if tag_counts is None:
        return None
    counts = np.asarray(tag_counts)
    kind = counts.dtype.kind
    is_whole = kind in "biu" or (kind == "f" and bool((np.isfinite(counts) & (counts == np.floor(counts))).all()))
    if not is_whole:
        raise ConfigError(
            f"tag_counts holds {counts.dtype} values that are no whole numbers; expected how often each tag occurs in "
            "the training data. Of shares give counts: np.rint(share * number of examples)."
        )
    return np.ascontiguousarray(counts, dtype=np.int64)
