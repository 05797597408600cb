"""The true tags of a batch of examples, in the forms that users have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from workers.errors import DataError

Integers = npt.NDArray[np.integer] | torch.Tensor


@dataclass(frozen=True, slots=True)
class ItemNumbers:
    """Examples named by their number in the data set whose true tags already lie in shared memory."""

    items_B: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items_B)

    def slice(self, start: int, stop: int) -> "ItemNumbers":
        """The examples from start to stop."""
        return ItemNumbers(self.items_B[start:stop])


@dataclass(frozen=True, slots=True)
class TagBatch:
    """Ragged true tags: those of example b are `ids[offsets[b]:offsets[b + 1]]`, sorted, each once."""

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, tags: object, num_tags: int) -> "TagBatch | ItemNumbers":
        """Read tags in any accepted form.

        Raises:
            DataError: a tag id outside [0, num_tags) (names the example), offsets that do not fit, or another form.
        """
        if isinstance(tags, TagBatch | ItemNumbers):
            return tags
        if isinstance(tags, tuple) and len(tags) == 2 and all(hasattr(part, "dtype") for part in tags):
            return cls._from_csr(integers(tags[0], "ids"), integers(tags[1], "offsets"), num_tags)
        if isinstance(tags, Sequence):
            lists = [np.unique(integers(ids, f"example {b}")) for b, ids in enumerate(tags)]
            offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])]).astype(np.int64)
            ids = np.concatenate(lists) if lists else np.empty(0, np.int64)
            return cls._checked(ids, offsets, num_tags)
        raise DataError(
            f"tags are a {type(tags).__name__}; expected a list of id lists, or a pair of arrays (ids, offsets)."
        )

    @classmethod
    def _from_csr(cls, ids: np.ndarray, offsets: np.ndarray, num_tags: int) -> "TagBatch":
        fits = len(offsets) >= 1 and offsets[0] == 0 and offsets[-1] == len(ids)
        if not fits or (np.diff(offsets) < 0).any():
            raise DataError(
                f"tag offsets of shape {offsets.shape} do not cut ids of shape {ids.shape} into examples; "
                "expected offsets[0] == 0, never falling, offsets[-1] == len(ids)."
            )
        return cls.of([ids[start:stop] for start, stop in pairwise(offsets)], num_tags)  # type: ignore[return-value]

    @classmethod
    def _checked(cls, ids: np.ndarray, offsets: np.ndarray, num_tags: int) -> "TagBatch":
        wrong = np.flatnonzero((ids < 0) | (ids >= num_tags))
        if len(wrong):
            example = int(np.searchsorted(offsets, wrong[0], side="right")) - 1
            raise DataError(f"example {example} has tag id {ids[wrong[0]]}; expected ids from 0 to {num_tags - 1}.")
        return cls(ids.astype(np.int32), offsets)

    def slice(self, start: int, stop: int) -> "TagBatch":
        """The examples from start to stop, with offsets from 0."""
        first, last = self.offsets[start], self.offsets[stop]
        return TagBatch(self.ids[first:last], self.offsets[start : stop + 1] - first)


def integers(values: object, where: str) -> npt.NDArray[np.int64]:
    """A flat list of integers, from any device; numbers with a fraction, truth values and text are not bent into ids.

    Raises:
        DataError: it is something else.
    """
    try:
        array = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    except (ValueError, TypeError) as e:
        raise DataError(f"tags: {where} cannot be read as a list of tag ids: {e}.") from e
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(
            f"tags: {where} is {array.dtype} of shape {array.shape}; expected a flat list of integer tag ids."
        )
    return array.astype(np.int64)
