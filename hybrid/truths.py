"""The true tags of some items, as ragged rows."""

# Shapes: I items, X entries (item, true tag).

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.data.ragged import Ragged
from workers.errors import DataError


@dataclass(frozen=True, slots=True)
class Truths:
    """What is true of each item: known tag ids in CSR form, and how many true tags the vocabulary lacks."""

    offsets: NDArray[np.int64]
    """`[I + 1]`: item i owns `tags[offsets[i] : offsets[i + 1]]`."""
    tags: NDArray[np.int32]
    """`[X]`: tag ids, ascending and without repetition within each item."""
    num_unseen_I: NDArray[np.int64]
    """True tags of each item that are not in the vocabulary."""

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.num_unseen_I) + 1:
            raise DataError(
                f"{len(self.offsets)} offsets for {len(self.num_unseen_I)} items; expected one more than items."
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.tags) or np.any(np.diff(self.offsets) < 0):
            raise DataError(
                f"offsets must rise from 0 to the number of tags, {len(self.tags)}; they end at {self.offsets[-1]}."
            )

    def __len__(self) -> int:
        return len(self.num_unseen_I)

    @property
    def num_known_I(self) -> NDArray[np.int64]:
        """True tags of each item that have an id."""
        return np.diff(self.offsets)

    @property
    def num_true_I(self) -> NDArray[np.int64]:
        """All true tags of each item, known or not."""
        return self.num_known_I + self.num_unseen_I

    @property
    def item_of_entry_X(self) -> NDArray[np.int64]:
        """The item that owns each entry of `tags`."""
        return np.repeat(np.arange(len(self)), self.num_known_I)

    def of(self, item: int) -> NDArray[np.int32]:
        """The known true tags of one item."""
        return self.tags[self.offsets[item] : self.offsets[item + 1]]

    def slice(self, start: int, stop: int) -> "Truths":
        """The truths of items `start` to `stop`, renumbered from 0."""
        offsets = self.offsets[start : stop + 1]
        return Truths(offsets - offsets[0], self.tags[offsets[0] : offsets[-1]], self.num_unseen_I[start:stop])

    def blocks(self, items: int) -> Iterator["Truths"]:
        """Consecutive slices of at most `items` items."""
        for start in range(0, len(self), items):
            yield self.slice(start, min(start + items, len(self)))


def select_truths(item_offsets: NDArray, item_tags: NDArray, num_unseen_I: NDArray, items: NDArray) -> Truths:
    """The truths of chosen items of a data set, in the order given.

    Args:
        item_offsets: int64 `[all items + 1]`, where each item's tags start in `item_tags`.
        item_tags: int32, sorted tag ids of all items.
        num_unseen_I: true tags outside the vocabulary, of all items.
        items: int64, the items wanted.
    """
    items = np.asarray(items, np.int64)
    chosen = Ragged(item_offsets, item_tags).take(items)
    tags = np.asarray(chosen.values, np.int32)
    return Truths(chosen.offsets, tags, np.asarray(num_unseen_I[items], np.int64))
