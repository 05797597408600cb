"""The true tags of a batch of examples, in the forms that users have them."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from workers.errors import DataError

Integers = npt.NDArray[np.integer] | torch.Tensor
_MAX_ID = np.iinfo(np.int64).max
_FROM_MATRIX = (
    " A tensor with a column for every tag, 1 where it is true, becomes lists by [row.nonzero().flatten() for row in "
    "tags]; one with as many ids in each row by tags.tolist()."
)


@dataclass(frozen=True, slots=True)
class ItemNumbers:
    """Examples named by their number in the data set whose true tags already lie in shared memory."""

    items_B: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if not isinstance(self.items_B, np.ndarray) or self.items_B.dtype.kind not in "iu" or self.items_B.ndim != 1:
            raise DataError(
                f"ItemNumbers hold a {type(self.items_B).__name__}; expected a flat NumPy array of integers, the "
                "number of each example's item."
            )

    def __len__(self) -> int:
        return len(self.items_B)

    def slice(self, start: int, stop: int) -> "ItemNumbers":
        """The examples from start to stop."""
        return ItemNumbers(self.items_B[start:stop])


@dataclass(frozen=True, slots=True)
class TagBatch:
    """Ragged true tags: those of example b are `ids[offsets[b]:offsets[b + 1]]`, sorted, each once.

    `TagBatch.of` makes one of any accepted form; one that was made by hand is checked where it is used.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, tags: object, num_tags: int, num_examples: int | None = None) -> "TagBatch | ItemNumbers":
        """Read tags in any accepted form.

        Args:
            tags: a list of id lists, or sets, one for each example; a CSR pair (ids, offsets): a tuple of two arrays; a
                flat array or tensor of integers: one tag for each example; or a class of this file. A tuple of two
                lists is the tags of two examples. A DataLoader makes lists of tuples: collate to a `TagBatch` in its
                workers.
            num_tags: N.
            num_examples: B, if it is known: tells the tags of two examples from a pair that became a list.

        Raises:
            DataError: a tag id outside [0, num_tags) (names the example), offsets that do not fit, or another form.
        """
        if isinstance(tags, ItemNumbers):
            return tags
        if isinstance(tags, TagBatch):
            tags._check(num_tags)
            return tags
        if isinstance(tags, tuple) and len(tags) == 2 and all(hasattr(part, "dtype") for part in tags):
            ids, offsets = integers(tags[0], "ids"), integers(tags[1], "offsets")
            if num_examples == len(tags) and not _cuts(offsets, ids):
                raise DataError(
                    "tags are a tuple of two arrays, which is a pair (ids, offsets), but the second does not cut the "
                    "first into examples. If they are the tags of two examples, pass a list: list(tags)."
                )
            return cls._from_csr(ids, offsets, num_tags)
        if isinstance(tags, np.ndarray | torch.Tensor) and tags.ndim == 1:
            ids = integers(tags, "one tag for each example")
            return cls._sorted(ids, np.arange(len(ids) + 1), num_tags)
        if isinstance(tags, Sequence):
            return cls._from_lists(tags, num_tags, num_examples)
        raise DataError(
            f"tags are a {type(tags).__name__}{_form_of(tags)}; expected a list of id lists, a pair of arrays (ids, "
            f"offsets), or a flat array with one id for each example.{_FROM_MATRIX if _is_matrix(tags) else ''}"
        )

    @classmethod
    def _from_lists(cls, tags: Sequence[Any], num_tags: int, num_examples: int | None) -> "TagBatch":
        listed = (list(ids) if isinstance(ids, Set) else ids for ids in _from_card(tags))
        lists = [integers(ids, f"example {b}") for b, ids in enumerate(listed)]
        are_arrays = len(tags) == 2 and all(hasattr(part, "dtype") for part in tags)
        if are_arrays and _are_csr(*lists) and num_examples in (None, len(lists[1]) - 1):
            raise DataError(
                f"tags are a {type(tags).__name__} of two arrays, the second of which cuts the first into "
                f"{len(lists[1]) - 1} examples: a pair (ids, offsets) that became a list, as in a DataLoader. Pass "
                "tuple(tags), or have collate_fn return a hybrid.TagBatch. If they are the tags of two examples, "
                "pass lists of numbers (.tolist())."
            )
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])]).astype(np.int64)
        return cls._sorted(np.concatenate(lists) if lists else np.empty(0, np.int64), offsets, num_tags)

    @classmethod
    def _from_csr(cls, ids: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], num_tags: int) -> "TagBatch":
        _check_offsets(offsets, ids)
        return cls._sorted(ids, offsets, num_tags)

    @classmethod
    def _sorted(cls, ids: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], num_tags: int) -> "TagBatch":
        _check_ids(ids, offsets, num_tags)
        if not _ascend(ids, offsets):
            ids, offsets = _sorted_and_distinct(ids, offsets)
        return cls(ids.astype(np.int32), offsets)

    def _check(self, num_tags: int) -> None:
        """Refuse what draws of positives, which are compiled and do not look at bounds, could not read safely."""
        wanted = np.dtype(np.int32), np.dtype(np.int64)
        got = getattr(self.ids, "dtype", None), getattr(self.offsets, "dtype", None)
        if got != wanted or self.ids.ndim != 1 or self.offsets.ndim != 1:
            raise DataError(
                f"a TagBatch has ids of {got[0]} and offsets of {got[1]}; expected flat NumPy arrays of int32 and "
                "int64. TagBatch.of((ids, offsets), num_tags) makes them of any integers."
            )
        _check_offsets(self.offsets, self.ids)
        _check_ids(self.ids, self.offsets, num_tags)
        if not _ascend(self.ids, self.offsets):
            raise DataError(
                "a TagBatch has ids that do not ascend within an example; expected them sorted, each once. "
                "TagBatch.of((ids, offsets), num_tags) sorts them."
            )

    def slice(self, start: int, stop: int) -> "TagBatch":
        """The examples from start to stop, with offsets from 0."""
        first, last = self.offsets[start], self.offsets[stop]
        return TagBatch(self.ids[first:last], self.offsets[start : stop + 1] - first)


def read_tags(tags: object, num_tags: int, num_examples: int, what: str = "features") -> TagBatch | ItemNumbers:
    """The tags of so many examples, in any form that `TagBatch.of` takes.

    Args:
        tags: the true tags.
        num_tags: N.
        num_examples: B.
        what: the examples are given as; named in the error.

    Raises:
        DataError: they are of another number of examples, or see `TagBatch.of`.
    """
    batch = TagBatch.of(tags, num_tags, num_examples)
    if len(batch) == num_examples:
        return batch
    advice = ""
    if isinstance(tags, Sequence) and len(tags) and all(isinstance(part, torch.Tensor) for part in tags):
        advice = (
            " A DataLoader turns batches into lists of tensors, of the first tags of all examples, then of the second "
            "ones: give it a collate_fn that keeps a list for each example, or makes a hybrid.TagBatch."
        )
    raise DataError(f"tags are given for {len(batch)} examples, {what} for {num_examples}.{advice}")


def _is_matrix(tags: Any) -> bool:
    return isinstance(tags, np.ndarray | torch.Tensor) and tags.ndim == 2


def _form_of(tags: Any) -> str:
    return f" of {tags.dtype} {list(tags.shape)}" if isinstance(tags, np.ndarray | torch.Tensor) else ""


def _from_card(tags: Sequence[Any]) -> Sequence[Any]:
    """Tensors on a card are copied together: one by one each copy would wait for the card."""
    kinds = {(part.device, part.dtype, part.ndim) if isinstance(part, torch.Tensor) else None for part in tags}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is None or kind[0].type == "cpu" or kind[2] != 1:
        return tags
    return torch.split(torch.cat(list(tags)).cpu(), [len(part) for part in tags])


def _are_csr(ids: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> bool:
    """Whether two arrays can be ids and their offsets, of two examples or more: as lists of one they do not fit."""
    return len(offsets) > 2 and _cuts(offsets, ids)


def _cuts(offsets: npt.NDArray[np.int64], ids: npt.NDArray[Any]) -> bool:
    """Whether offsets cut ids into examples."""
    fits = len(offsets) >= 1 and offsets[0] == 0 and offsets[-1] == len(ids)
    return bool(fits) and bool((offsets[1:] >= offsets[:-1]).all())


def _check_offsets(offsets: npt.NDArray[np.int64], ids: npt.NDArray[Any]) -> None:
    if not _cuts(offsets, ids):
        raise DataError(
            f"tag offsets of shape {offsets.shape} do not cut ids of shape {ids.shape} into examples; "
            "expected offsets[0] == 0, never falling, offsets[-1] == len(ids)."
        )


def _check_ids(ids: npt.NDArray[Any], offsets: npt.NDArray[np.int64], num_tags: int) -> None:
    wrong = np.flatnonzero((ids < 0) | (ids >= num_tags))
    if len(wrong):
        example = int(np.searchsorted(offsets, wrong[0], side="right")) - 1
        raise DataError(f"example {example} has tag id {ids[wrong[0]]}; expected ids from 0 to {num_tags - 1}.")


def _ascend(ids: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> bool:
    """Whether ids ascend within each example, so that each is there once."""
    begins = np.zeros(len(ids) + 1, bool)
    begins[offsets] = True
    return bool((begins[1:-1] | (ids[1:] > ids[:-1])).all())


def _sorted_and_distinct(
    ids: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The ids of each example in order, each once, with their new offsets."""
    example_of_id = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    ids = ids[np.lexsort((ids, example_of_id))]
    is_new = np.ones(len(ids), bool)
    is_new[1:] = (ids[1:] != ids[:-1]) | (example_of_id[1:] != example_of_id[:-1])
    num_distinct = np.bincount(example_of_id[is_new], minlength=len(offsets) - 1)
    return ids[is_new], np.concatenate([[0], np.cumsum(num_distinct)]).astype(np.int64)


def integers(values: object, where: str) -> npt.NDArray[np.int64]:
    """A flat list of integers, from any device; numbers with a fraction, truth values and text are not bent into ids.

    Raises:
        DataError: it is something else.
    """
    try:
        array = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    except (ValueError, TypeError) as e:
        raise DataError(f"tags: {where} cannot be read as a list of tag ids: {e}.") from e
    if array.ndim == 0 and array.dtype.kind in "iu":
        raise DataError(
            f"tags: {where} is one number; expected a list of tag ids for each example. If each has a single tag, pass "
            "a flat array or tensor: torch.as_tensor(tags)."
        )
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(
            f"tags: {where} is {array.dtype} of shape {array.shape}; expected a flat list of integer tag ids."
        )
    if array.dtype.kind == "u" and array.size and array.max() > _MAX_ID:
        raise DataError(f"tags: {where} has id {array.max()}, which no tag has.")
    return array.astype(np.int64)
