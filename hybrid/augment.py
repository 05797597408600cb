"""Random changes to training pictures that leave their tags true."""

# Shapes: B images, C channels, H x W stored pixels, S side of the trunk's input, A = S x S its pixels, F numbers that a
# picture draws.

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid.data.store import ImageStore
from hybrid.recording import NoRoom
from hybrid.replayed import Replayed
from hybrid.trunks import PIXEL_STD, WHITE, premultiplied, standardised

T = TypeVar("T")


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
    """Share of the pictures that are laid on a random colour instead of white: it shows where they are transparent, and
    in corners that turning or shrinking leaves."""


class _Drawn(NamedTuple, Generic[T]):
    """What a picture draws."""

    angle: T
    scale: T
    shift_x: T
    shift_y: T
    saturation: T
    contrast: T
    brightness: T
    coloured: T
    red: T
    green: T
    blue: T

    @classmethod
    def bounds(cls, of: Augmentation) -> "_Drawn[tuple[float, float]]":
        """Between which numbers each is drawn; angles are in radians, shifts in the coordinates of `grid_sample`."""
        turn, unit, shift = math.radians(of.rotation_degrees), (0.0, 1.0), (-2 * of.shift, 2 * of.shift)
        return _Drawn(
            angle=(-turn, turn),
            scale=of.scale,
            shift_x=shift,
            shift_y=shift,
            saturation=(1 - of.saturation, 1 + of.saturation),
            contrast=(1 - of.contrast, 1 + of.contrast),
            brightness=(-of.brightness, of.brightness),
            coloured=unit,
            red=unit,
            green=unit,
            blue=unit,
        )


class Augmenter:
    """Applies an `Augmentation` to batches, with a random generator of its own.

    What becomes of a picture's colours, from its background to the trunk's normalisation, is one affine map of its four
    channels, and where its pixels come from another: a batch takes few operations, each of which a card's host would
    have to queue, and few passes over its pixels.

    Args:
        augmentation: bounds of the changes.
        image_size: S, of the trunk's input.
        seed: of the draws.
        device: where the pictures are; their draws come from the host, and are the same on all.
    """

    def __init__(self, augmentation: Augmentation, image_size: int, seed: int, device: torch.device) -> None:
        self.augmentation = augmentation
        self.image_size = image_size
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self._changed = Replayed(self._change)
        low_high_F2 = torch.tensor(_Drawn.bounds(augmentation), dtype=torch.float32)
        self._low_F = low_high_F2[:, 0].to(device)
        self._range_F = (low_high_F2[:, 1] - low_high_F2[:, 0]).to(device)
        self._grey_33 = torch.full((3, 3), 1 / 3, dtype=torch.float32).to(device)
        self._unit_33 = torch.eye(3, dtype=torch.float32).to(device)
        self._centres_3A = _centres_3A(image_size).to(device)

    def reseed(self, *parts: int) -> None:
        """Make the next draws a function of these numbers alone, whatever was drawn before."""
        self.generator.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1))

    def record(self, images: ImageStore, batch_size: int, tell: Callable[[str], None]) -> None:
        """Change full batches of these pictures as one CUDA graph from now on; no other thread uses the card now.

        Where the card has no room for it, `tell` gets that.

        Raises:
            ConfigError: torch or CUDA cannot record it.
        """
        shape = batch_size, images.size, images.size, images.channels
        try:
            images_BHWC = torch.zeros(shape, dtype=torch.uint8, device=self.device)
            units_BF = torch.zeros((batch_size, len(self._low_F)), dtype=torch.float32, device=self.device)
            self._changed.record("augmentation", images_BHWC, units_BF)
        except NoRoom as e:
            tell(str(e))

    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """Stored uint8 pictures `[B, H, W, 3 or 4]` as the trunk's input, float32 `[B, 3, S, S]`, channels last.

        Pictures are resampled once, straight from the stored size, so that enlarging shows real detail.
        """
        shape = len(images_BHWC), len(self._low_F)
        is_copied = self.device.type == "cuda"  # from pinned memory the host does not wait for it
        units_BF = torch.rand(shape, generator=self.generator, dtype=torch.float32, device="cpu", pin_memory=is_copied)
        return self._changed(images_BHWC, units_BF.to(self.device, non_blocking=True))

    def _change(self, images_BHWC: Tensor, units_BF: Tensor) -> Tensor:
        """See `__call__`; units are what each picture draws, from 0 to 1."""
        B, side = len(images_BHWC), self.image_size
        drawn = _Drawn(*torch.addcmul(self._low_F, units_BF, self._range_F).unbind(1))
        grid_B2A = _affine_B23(drawn) @ self._centres_3A
        grid = grid_B2A.view(B, 2, side, side).permute(0, 2, 3, 1)
        images = F.grid_sample(
            premultiplied(images_BHWC), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        map_B34, shift_B31 = self._colours(drawn)
        images = torch.baddbmm(shift_B31, map_B34, images.flatten(2))
        images.clamp_(standardised(0.0), standardised(1.0))
        return images.view(B, 3, side, side).contiguous(memory_format=torch.channels_last)

    def _colours(self, drawn: _Drawn[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps `[B, 3, 4]` and shifts `[B, 3, 1]` from premultiplied pictures with alpha to the trunk's input.

        On the background b a picture of colours p and alpha a is p + (1 - a) b. Saturation moves that to or from its
        grey, contrast to or from mid-grey, brightness shifts all: again a matrix and a shift.
        """
        saturation, contrast, brightness, coloured = (
            of_B[:, None, None] for of_B in (drawn.saturation, drawn.contrast, drawn.brightness, drawn.coloured)
        )
        matrix_B33 = torch.lerp(self._grey_33, self._unit_33, saturation) * (contrast / PIXEL_STD)
        colour_B31 = torch.stack([drawn.red, drawn.green, drawn.blue], dim=1)[:, :, None]
        background_B31 = torch.where(coloured < self.augmentation.coloured_backgrounds, colour_B31, WHITE)
        laid_B31 = matrix_B33 @ background_B31
        shift_B11 = standardised(0.5 - 0.5 * contrast + brightness)
        return torch.cat([matrix_B33, -laid_B31], dim=2), laid_B31 + shift_B11


def _affine_B23(drawn: _Drawn[Tensor]) -> Tensor:
    """Maps from output to input coordinates: shrink the grid to enlarge the object."""
    cos, sin = torch.cos(drawn.angle) / drawn.scale, torch.sin(drawn.angle) / drawn.scale
    return torch.stack([cos, -sin, drawn.shift_x, sin, cos, drawn.shift_y], dim=1).view(-1, 2, 3)


def _centres_3A(side: int) -> Tensor:
    """Of a picture's pixels, row by row: x, y and 1, in the coordinates of `grid_sample`."""
    along = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones(side * side, dtype=torch.float32)])
