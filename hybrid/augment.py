"""Random changes to training pictures that leave their tags true."""

# Shapes: B images, C channels, H x W stored pixels, S side of the trunk's input.

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid.trunks import normalise, on_background, premultiplied


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Bounds of the random changes; each picture draws its own, uniformly."""

    rotation_degrees: float = 12.0
    """Largest rotation either way."""
    scale: tuple[float, float] = (0.75, 1.15)
    """Smallest and largest size of the object, relative to the stored picture."""
    shift: float = 0.08
    """Largest shift either way, as a share of the side."""
    brightness: float = 0.15
    """Largest change of brightness either way."""
    contrast: float = 0.25
    """Largest relative change of contrast either way."""
    saturation: float = 0.5
    """Largest relative change of saturation either way."""
    coloured_backgrounds: float = 0.5
    """Share of the pictures with alpha that are laid on a random colour instead of white."""


class Augmenter:
    """Applies an `Augmentation` to batches, with a random generator of its own."""

    def __init__(self, augmentation: Augmentation, image_size: int, seed: int, device: torch.device) -> None:
        self.augmentation = augmentation
        self.image_size = image_size
        self.device = device
        self.generator = torch.Generator(device=device).manual_seed(seed)

    def reseed(self, *parts: int) -> None:
        """Make the next draws a function of these numbers alone, whatever was drawn before."""
        self.generator.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1))

    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """Stored uint8 pictures `[B, H, W, 3 or 4]` as the trunk's input, float32 `[B, 3, S, S]`.

        Pictures are resampled once, straight from the stored size, so that enlarging shows real detail.
        """
        images = premultiplied(images_BHWC)
        grid = F.affine_grid(
            self._affine(len(images)), [len(images), 4, self.image_size, self.image_size], align_corners=False
        )
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return normalise(self._jitter(on_background(images, self._backgrounds(len(images)))))

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def _affine(self, B: int) -> Tensor:
        """Maps from output to input coordinates: shrink the grid to enlarge the object."""
        bounds = self.augmentation
        angle = self._uniform(-bounds.rotation_degrees, bounds.rotation_degrees, B) * (math.pi / 180)
        zoom = 1 / self._uniform(*bounds.scale, B)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        shift = self._uniform(-2 * bounds.shift, 2 * bounds.shift, B, 2)
        rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1)
        return rows.view(B, 2, 3)

    def _backgrounds(self, B: int) -> Tensor:
        colours = self._uniform(0, 1, B, 3, 1, 1)
        is_coloured = self._uniform(0, 1, B, 1, 1, 1) < self.augmentation.coloured_backgrounds
        return torch.where(is_coloured, colours, torch.ones_like(colours))

    def _jitter(self, images_BCHW: Tensor) -> Tensor:
        """Saturation moves colours to or from their grey, contrast to or from mid-grey, brightness shifts all."""
        bounds, B = self.augmentation, len(images_BCHW)
        grey = images_BCHW.mean(dim=1, keepdim=True)
        saturation = self._uniform(1 - bounds.saturation, 1 + bounds.saturation, B, 1, 1, 1)
        contrast = self._uniform(1 - bounds.contrast, 1 + bounds.contrast, B, 1, 1, 1)
        brightness = self._uniform(-bounds.brightness, bounds.brightness, B, 1, 1, 1)
        images = grey + saturation * (images_BCHW - grey)
        return (contrast * (images - 0.5) + 0.5 + brightness).clamp_(0, 1)
