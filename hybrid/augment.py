"""Random changes to training pictures that leave their tags true."""

# Shapes: B images, C channels, H x W stored pixels, S side of the trunk's input, P = S x S its pixels, F numbers that a
# picture draws.

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid.trunks import PIXEL_STD, normalised, premultiplied


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
    """Applies an `Augmentation` to batches, with a random generator of its own.

    What becomes of a picture's colours, from its background to the trunk's normalisation, is one affine map of its four
    channels, and where its pixels come from another: a batch takes few operations, each of which a card's host would
    have to queue, and few passes over its pixels.
    """

    def __init__(self, augmentation: Augmentation, image_size: int, seed: int, device: torch.device) -> None:
        self.augmentation = augmentation
        self.image_size = image_size
        self.device = device
        self.generator = torch.Generator(device=device).manual_seed(seed)
        bounds = augmentation
        low_high = {
            "angle": (-math.radians(bounds.rotation_degrees), math.radians(bounds.rotation_degrees)),
            "scale": bounds.scale,
            "shift x": (-2 * bounds.shift, 2 * bounds.shift),
            "shift y": (-2 * bounds.shift, 2 * bounds.shift),
            "saturation": (1 - bounds.saturation, 1 + bounds.saturation),
            "contrast": (1 - bounds.contrast, 1 + bounds.contrast),
            "brightness": (-bounds.brightness, bounds.brightness),
            "coloured": (0.0, 1.0),
            "red": (0.0, 1.0),
            "green": (0.0, 1.0),
            "blue": (0.0, 1.0),
        }
        low_high_2F = torch.tensor(list(zip(*low_high.values(), strict=True)), dtype=torch.float32, device=device)
        self._low_F, self._range_F = low_high_2F[0], low_high_2F[1] - low_high_2F[0]
        self._grey_33 = torch.full((3, 3), 1 / 3, dtype=torch.float32, device=device)
        self._unit_33 = torch.eye(3, dtype=torch.float32, device=device)
        self._pixels_3P = _centres(image_size).to(device)

    def reseed(self, *parts: int) -> None:
        """Make the next draws a function of these numbers alone, whatever was drawn before."""
        self.generator.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1))

    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """Stored uint8 pictures `[B, H, W, 3 or 4]` as the trunk's input, float32 `[B, 3, S, S]`, channels last.

        Pictures are resampled once, straight from the stored size, so that enlarging shows real detail.
        """
        B, side = len(images_BHWC), self.image_size
        units_BF = torch.rand((B, len(self._low_F)), generator=self.generator, dtype=torch.float32, device=self.device)
        drawn_BF = torch.addcmul(self._low_F, units_BF, self._range_F)
        geometry_BF, colour_BF, background_BF = drawn_BF[:, :4], drawn_BF[:, 4:7], drawn_BF[:, 7:]
        grid_B2P = _affine_B23(geometry_BF) @ self._pixels_3P
        grid = grid_B2P.view(B, 2, side, side).permute(0, 2, 3, 1)
        images = F.grid_sample(
            premultiplied(images_BHWC), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        map_B34, shift_B31 = self._colours(colour_BF, background_BF)
        images = torch.baddbmm(shift_B31, map_B34, images.flatten(2))
        images.clamp_(normalised(0.0), normalised(1.0))
        return images.view(B, 3, side, side).contiguous(memory_format=torch.channels_last)

    def _colours(self, colour_BF: Tensor, background_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[B, 3, 4]` and shifts `[B, 3, 1]` from premultiplied pictures with alpha to the trunk's input.

        On the background b a picture of colours p and alpha a is p + (1 - a) b. Saturation moves that to or from its
        grey, contrast to or from mid-grey, brightness shifts all: again a matrix and a shift.
        """
        saturation, contrast, brightness = colour_BF[:, :, None, None].unbind(1)  # each [B, 1, 1]
        matrix_B33 = torch.lerp(self._grey_33, self._unit_33, saturation) * (contrast / PIXEL_STD)
        is_coloured = background_BF[:, :1] < self.augmentation.coloured_backgrounds
        background_B3 = torch.where(is_coloured, background_BF[:, 1:], 1.0)
        laid_B31 = matrix_B33 @ background_B3[:, :, None]
        shift_B11 = normalised(0.5 - 0.5 * contrast + brightness)
        return torch.cat([matrix_B33, -laid_B31], dim=2), laid_B31 + shift_B11


def _affine_B23(geometry_BF: Tensor) -> Tensor:
    """Maps from output to input coordinates: shrink the grid to enlarge the object."""
    angle, scale, shift_x, shift_y = geometry_BF.unbind(1)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    return torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).view(-1, 2, 3)


def _centres(side: int) -> Tensor:
    """Of the pixels of a picture, row by row: x, y and 1, in the coordinates of `grid_sample`. `[3, P]`."""
    along = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones_like(x.flatten())])
