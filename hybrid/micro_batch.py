"""Parts of a batch, each of which passes through trunk and workers as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hybrid.tag_batch import read_tags
from hybrid.trunk_inputs import Inputs, as_inputs, mapped, num_examples
from launch.config import num_parts
from workers.errors import DataError


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A slice of a batch."""

    inputs: Inputs
    """What the trunk takes, on the trunk's device."""
    tags: Any
    """True tags of its examples, as `WideHead` takes them."""

    def __len__(self) -> int:
        return num_examples(self.inputs)


def cut_batch(inputs: Inputs, tags: Any, num_tags: int, parts: int) -> list[MicroBatch]:
    """Parts of two examples at least, as BatchNorm has no variance of a single one; a batch of one is one part.

    Raises:
        DataError: there are no examples, or see `as_inputs` and `read_tags`.
    """
    inputs = as_inputs(inputs)
    if not (size := num_examples(inputs)):
        raise DataError("a batch has no examples; expected one at least: leave empty batches out.")
    batch = read_tags(tags, num_tags, size, "inputs")
    bounds = np.linspace(0, size, num_parts(size, parts) + 1).astype(int)
    return [MicroBatch(_rows(inputs, i, j), batch.slice(i, j)) for i, j in pairwise(bounds)]


def _rows(inputs: Inputs, start: int, stop: int) -> Inputs:
    return mapped(inputs, lambda one: one[start:stop])


def as_pair(batch: Any) -> tuple[Any, Any]:
    """Inputs and tags of what a loader gives.

    Raises:
        DataError: it is no pair.
    """
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 2:
        inputs, tags = batch
        return inputs, tags
    number = f" of {len(batch)}" if isinstance(batch, Sequence) else ""
    raise DataError(
        f"a batch is a {type(batch).__name__}{number}; expected a pair (inputs, tags): have a collate_fn make it."
    )
