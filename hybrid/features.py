"""Features of stored pictures, computed in batches by a trunk that does not learn."""

# Shapes: B pictures, I items, D dim.

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.data.loader import batches
from hybrid.data.view import View
from hybrid.trunks import prepare_images

_MOST_PICTURES, _MOST_PIXELS = 256, 1 << 23
"""Of a batch: small pictures are no faster in larger ones; of large ones, a trunk's first maps take half a GiB."""


def batch_size_of(side: int) -> int:
    """How many stored pictures of so many pixels a side go through a trunk at once; at least one.

    Example:
        >>> batch_size_of(64), batch_size_of(688)
        (256, 17)
    """
    return max(1, min(_MOST_PICTURES, _MOST_PIXELS // side**2))


def resized(images_BCHW: Tensor, image_size: int) -> Tensor:
    """Prepared pictures at the trunk's size; a smaller one averages, so that nothing is skipped."""
    if images_BCHW.shape[-1] == image_size:
        return images_BCHW
    smaller = F.interpolate(images_BCHW, image_size, mode="bilinear", antialias=True, align_corners=False)
    return smaller.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class FeatureMaker:
    """A trunk with all that decides which features it makes of stored pictures."""

    trunk: nn.Module
    """On `device`; left in evaluation mode."""
    image_size: int
    """Side of its input, in pixels."""
    device: torch.device
    precision: torch.dtype
    """Of autocast; float32 turns it off."""
    processes: int = 0
    """That decode pictures, see `DataConfig.loader_processes`."""

    @torch.no_grad()
    def of_pictures(self, images_BHWC: Tensor) -> Tensor:
        """Features float32 `[B, D]`, on the trunk's device, of stored uint8 pictures."""
        self.trunk.eval()
        images = resized(prepare_images(images_BHWC.to(self.device)), self.image_size)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            return self.trunk(images).float()

    def of_items(
        self,
        view: View,
        items: npt.NDArray[np.int64],
        dim: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Features of items of a data set.

        Args:
            view: the data set.
            items: numbers of items.
            dim: D, of the features.
            progress: told how many items are done, of how many.

        Returns:
            The items whose pictures could be read, in the order given, and their features `[I, dim]`, even if I is 0.

        Raises:
            DataError: what reads pictures has died.
        """
        found_items, found_features, done = [], [], 0
        for batch_items, images in batches(view, items, batch_size_of(view.images.size), self.processes):
            features = self.of_pictures(torch.from_numpy(images))
            found_items.append(batch_items)
            found_features.append(features.cpu().numpy())
            done += len(batch_items)
            progress(done, len(items))
        if not found_items:
            return np.empty(0, np.int64), np.empty((0, dim), np.float32)
        return np.concatenate(found_items), np.concatenate(found_features)
