"""The deep networks that turn images into features."""

# Shapes: B images, C channels, H x W pixels, D dim.

import importlib
import inspect
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from launch.config import TrunkConfig
from workers.errors import ConfigError

T = TypeVar("T", float, Tensor)

WHITE = 1.0
PIXEL_MEAN, PIXEL_STD = 0.7, 0.3
"""Pictures of objects on white are bright; these centre them without a pass over the data."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    Source: He et al. 2015 (arXiv 1512.03385), figure 5 left; where it shrinks, the shortcut averages as in ResNet-D
    (He et al. 2018, arXiv 1812.01187).
    """

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(num_out)
        self.shortcut = nn.Identity() if num_in == num_out and stride == 1 else _projection(num_in, num_out, stride)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        inner = torch.relu_(self.norm1(self.conv1(maps_BCHW)))
        inner = self.norm2(self.conv2(inner))
        return torch.relu_(inner + self.shortcut(maps_BCHW))


class ResidualTrunk(nn.Module):
    """A stem, stages of residual blocks (each halves the side), mean over pixels, a linear map, layer norm.

    Args:
        dim: D, length of the features.
        widths: channels of the stem and of each stage.
        blocks: residual blocks in each stage.
        stem_stride: 1 keeps the side of the picture, 2 halves it.

    The last layer norm bounds the features' scale, so that the rows' learning rate means the same for every trunk.
    """

    def __init__(self, dim: int, widths: tuple[int, ...], blocks: int, stem_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        stages: list[nn.Module] = []
        for num_in, num_out in pairwise(widths):
            stages.append(ResidualBlock(num_in, num_out, stride=2))
            stages.extend(ResidualBlock(num_out, num_out, stride=1) for _ in range(blocks - 1))
        self.stages = nn.Sequential(*stages)
        self.project = nn.Linear(widths[-1], dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        pooled_BC = self.stages(self.stem(images_BCHW)).mean(dim=(2, 3))
        return self.norm(self.project(pooled_BC).float())


def cnn_small(dim: int, image_size: int) -> nn.Module:
    """1.2 M weights; over a thousand 48x48 pictures a second, forward and backward, on two CPU cores with bfloat16."""
    return ResidualTrunk(dim, widths=(32, 64, 128, 256), blocks=1, stem_stride=1 if image_size <= 32 else 2)


def resnet18(dim: int, image_size: int) -> nn.Module:
    """The 18-layer layout of He et al. 2015 with a 3x3 stem; 11 M weights."""
    return ResidualTrunk(dim, widths=(64, 64, 128, 256, 512), blocks=2, stem_stride=1 if image_size <= 64 else 2)


TRUNKS: dict[str, Callable[..., nn.Module]] = {"cnn-small": cnn_small, "resnet18": resnet18}


def build_trunk(config: TrunkConfig, image_size: int) -> nn.Module:
    """The trunk that `config.factory` names, with fresh weights from torch's global random state.

    A `module:factory` is also looked for in the working directory, which stays the last of `sys.path`: its files must
    not hide modules of Python's own.

    Raises:
        ConfigError: the name is not known, or `module:factory` cannot be imported or does not build an `nn.Module`, or
            builds one with a state that a checkpoint cannot hold.
    """
    trunk = find_factory(config.factory)(dim=config.dim, image_size=image_size)
    if not isinstance(trunk, nn.Module):
        raise ConfigError(
            f"trunk.factory = {config.factory!r} built a {type(trunk).__name__}, expected a torch.nn.Module."
        )
    for name, value in trunk.state_dict().items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"trunk.factory = {config.factory!r}: {name} in the trunk's state_dict is a {type(value).__name__}, "
                "but checkpoints hold tensors alone. Keep it as a buffer, or let get_extra_state return a tensor."
            )
    return trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def prepare_images(images_BHWC: Tensor) -> Tensor:
    """Stored pictures as a trunk's input: on white, centred.

    Args:
        images_BHWC: uint8 `[B, H, W, 3]`, or `[B, H, W, 4]` with alpha.

    Returns:
        float32 `[B, 3, H, W]`, channels last in memory.
    """
    return normalise(on_background(premultiplied(images_BHWC), WHITE))


def premultiplied(images_BHWC: Tensor) -> Tensor:
    """float32 `[B, 4, H, W]` in [0, 1] whose colours are multiplied by alpha (1 where the pictures have none)."""
    images_BCHW = images_BHWC.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
    if images_BCHW.shape[1] == 3:
        return F.pad(images_BCHW, (0, 0, 0, 0, 0, 1), value=1.0)
    images_BCHW[:, :3].mul_(images_BCHW[:, 3:])
    return images_BCHW


def on_background(images_BCHW: Tensor, background: Tensor | float) -> Tensor:
    """Lay premultiplied pictures `[B, 4, H, W]` over a background (anything that broadcasts to `[B, 3, H, W]`).

    A constant one is given as a number: as a tensor it would have to be copied to the pictures' device, and waited for.
    """
    return images_BCHW[:, :3] + (1 - images_BCHW[:, 3:]) * background


def normalise(images_BCHW: Tensor) -> Tensor:
    """Centre and scale pixels in [0, 1]; channels last, which convolutions on CPUs and tensor cores prefer."""
    return standardised(images_BCHW).contiguous(memory_format=torch.channels_last)


def standardised(value: T) -> T:
    """A trunk's input where a pixel has this value, or these values, in [0, 1]."""
    return (value - PIXEL_MEAN) / PIXEL_STD


def _projection(num_in: int, num_out: int, stride: int) -> nn.Module:
    layers: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
    return nn.Sequential(*layers, nn.Conv2d(num_in, num_out, 1, bias=False), nn.BatchNorm2d(num_out))


def find_factory(name: str) -> Callable[..., nn.Module]:
    """What `build_trunk` calls.

    Raises:
        ConfigError: it is not known, cannot be imported, or cannot be called with dim and image_size.
    """
    if name in TRUNKS:
        return TRUNKS[name]
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as e:
        raise ConfigError(
            f"trunk.factory = {name!r} cannot be imported: {e}. "
            "Is the module in the working directory or on PYTHONPATH, under a name that no installed one has?"
        ) from e
    if not callable(factory):
        raise ConfigError(
            f"trunk.factory = {name!r} is a {type(factory).__name__}, expected a function of dim and image_size."
        )
    try:
        inspect.signature(factory).bind(dim=0, image_size=0)
    except TypeError as e:
        raise ConfigError(f"trunk.factory = {name!r} is called with dim and image_size: {e}.") from e
    return factory
