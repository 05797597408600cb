"""Parts of a batch, each of which passes through trunk and workers as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.loss_weights import checked_example_weights
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
    example_weights: npt.NDArray[np.float32] | None = None
    """`[B]` factor of each example's loss; None: 1."""

    def __len__(self) -> int:
        return num_examples(self.inputs)


def cut_batch(inputs: Inputs, tags: Any, num_tags: int, parts: int, example_weights: Any = None) -> list[MicroBatch]:
    """Parts of two examples at least, as BatchNorm has no variance of a single one; a batch of one is one part.

    Raises:
        DataError: there are no examples, or see `as_inputs`, `read_tags` and `checked_example_weights`.
    """
    inputs = as_inputs(inputs)
    if not (size := num_examples(inputs)):
        raise DataError("a batch has no examples; expected one at least: leave empty batches out.")
    batch = read_tags(tags, num_tags, size, "inputs")
    weights_B = checked_example_weights(example_weights, size)
    bounds = np.linspace(0, size, num_parts(size, parts) + 1).astype(int)
    return [
        MicroBatch(_rows(inputs, i, j), batch.slice(i, j), None if weights_B is None else weights_B[i:j])
        for i, j in pairwise(bounds)
    ]


def _rows(inputs: Inputs, start: int, stop: int) -> Inputs:
    return mapped(inputs, lambda one: one[start:stop])


def as_batch(batch: Any) -> tuple[Any, Any, Any]:
    """Inputs, tags, and weights or None, of what a loader gives.

    Raises:
        DataError: it is neither a pair nor these three.
    """
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) in (2, 3):
        inputs, tags, *weights = batch
        return inputs, tags, weights[0] if weights else None
    number = f" of {len(batch)}" if isinstance(batch, Sequence) else ""
    raise DataError(
        f"a batch is a {type(batch).__name__}{number}; expected (inputs, tags) or (inputs, tags, example_weights): "
        "have a collate_fn make it."
    )
