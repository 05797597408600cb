"""The true tags of all items, kept on the trunk's device for the rivals."""

# Shapes: B examples of a batch, X entries (example, true tag).

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class TrueTags:
    """The data set's true tags on a device, so that a batch of them costs one gather.

    Args:
        item_offsets: int64 `[I + 1]`.
        item_tags: int32, ascending within each item.
        device: of the trunk.
    """

    def __init__(self, item_offsets: NDArray, item_tags: NDArray, device: torch.device) -> None:
        self.offsets = torch.from_numpy(np.array(item_offsets, np.int64)).to(device)
        self.tags = torch.from_numpy(np.array(item_tags, np.int32)).to(device)

    def of(self, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Every pair (example in the batch, its true tag): two int64 tensors `[X]`, ascending by example, then tag."""
        items = torch.from_numpy(np.asarray(items_B, np.int64)).to(self.offsets.device)
        starts_B = self.offsets[items]
        lengths_B = self.offsets[items + 1] - starts_B
        example_X = torch.arange(len(items), device=items.device).repeat_interleave(lengths_B)
        first_B = lengths_B.cumsum(0) - lengths_B
        source_X = torch.arange(len(example_X), device=items.device) + (starts_B - first_B)[example_X]
        return example_X, self.tags[source_X].long()
