"""Lists of different lengths in two flat arrays."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Ragged(NamedTuple):
    """Row i is `values[offsets[i] : offsets[i + 1]]`; `offsets` is int64 `[rows + 1]` and starts at 0."""

    offsets: np.ndarray
    values: np.ndarray

    @classmethod
    def of_tags(cls, rows: Sequence[Collection[str]], number: Mapping[str, int]) -> "Ragged":
        """The tags of each row by their numbers (int32), ascending."""
        lengths = [len(row) for row in rows]
        values = np.fromiter((number[tag] for row in rows for tag in row), dtype=np.int32, count=sum(lengths))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(offsets, values).sorted_rows()

    def lengths(self) -> np.ndarray:
        """int64 `[rows]`."""
        return np.diff(self.offsets)

    def row_of_each_value(self) -> np.ndarray:
        """int64 `[len(values)]`: the row that each value belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths())

    def take(self, rows: np.ndarray) -> "Ragged":
        """The given rows, in the given order."""
        lengths = self.lengths()[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shift = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(offsets, self.values[np.arange(offsets[-1]) + shift])

    def keep(self, is_kept: np.ndarray) -> "Ragged":
        """The same rows without the values that `is_kept` (bool, one per value) leaves out."""
        before = np.concatenate([[0], np.cumsum(is_kept)]).astype(np.int64)
        return Ragged(before[self.offsets], self.values[is_kept])

    def sorted_rows(self) -> "Ragged":
        """The same rows, each in ascending order."""
        span = int(self.values.max(initial=0)) + 1
        keys = np.sort(self.row_of_each_value() * span + self.values)
        return Ragged(self.offsets, (keys % span).astype(self.values.dtype))
