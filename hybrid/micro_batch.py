"""Parts of a batch, each of which passes through trunk and workers as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from hybrid.tag_batch import read_tags
from launch.config import num_parts
from workers.errors import DataError


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A slice of a batch."""

    images: Tensor
    """What the trunk takes, on the trunk's device."""
    tags: Any
    """True tags of its examples, as `WideHead` takes them."""


def cut_batch(images: Tensor, tags: Any, num_tags: int, parts: int) -> list[MicroBatch]:
    """Parts of two examples at least, as BatchNorm has no variance of a single one; a batch of one is one part.

    Raises:
        DataError: images are no tensor, or none; or see `read_tags`.
    """
    if not isinstance(images, Tensor):
        raise DataError(
            f"images are a {type(images).__name__}; expected one tensor with an example in each row: "
            "torch.as_tensor makes one of an array. For a trunk that takes several, put them into one, or use the head "
            "without a Pipeline."
        )
    if not len(images):
        raise DataError("a batch has no examples; expected one at least: leave empty batches out.")
    batch = read_tags(tags, num_tags, len(images), "images")
    bounds = np.linspace(0, len(images), num_parts(len(images), parts) + 1).astype(int)
    return [MicroBatch(images[i:j], batch.slice(i, j)) for i, j in pairwise(bounds)]


def as_pair(batch: Any) -> tuple[Any, Any]:
    """Images and tags of what a loader gives.

    Raises:
        DataError: it is no pair.
    """
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 2:
        images, tags = batch
        return images, tags
    number = f" of {len(batch)}" if isinstance(batch, Sequence) else ""
    raise DataError(
        f"a batch is a {type(batch).__name__}{number}; expected a pair (images, tags): have a collate_fn make it."
    )
