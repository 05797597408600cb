"""The pictures of a view, at the size that training reads."""

# Shapes: B items, S side in pixels, C channels.

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from hybrid.data.images import BadImage
from hybrid.data.pictures import Pictures
from workers.errors import DataError

IMAGES_FILE = "images.npy"
"""The array of a decoded set: uint8 `[R, S, S, C]`."""
_ITEMS_PER_PART = 256


Empty = Callable[[tuple[int, ...]], np.ndarray]
"""Makes a uint8 array of a shape, for pictures to be read into."""


def empty_pictures(shape: tuple[int, ...]) -> np.ndarray:
    """An `Empty` in ordinary memory."""
    return np.empty(shape, dtype=np.uint8)


class ImageStore(Protocol):
    """Pictures by item number."""

    size: int
    """S."""
    channels: int
    """C: 4 where the background is for the reader to choose (straight, not premultiplied, alpha), else 3."""
    is_decoded: bool
    """Whether reading is a plain copy, so that processes for it would be in the way."""

    def __len__(self) -> int: ...

    def read(self, items_B: np.ndarray, empty: Empty = empty_pictures) -> tuple[np.ndarray, dict[int, str]]:
        """uint8 `[good, S, S, C]` in order, and why the others could not be decoded, by item."""


class DecodedImages:
    """Pictures in a memory-mapped array, all of them good."""

    is_decoded = True

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        """`images` uint8 `[R, S, S, C]`; `rows[item]` is where an item's picture lies, all below R."""
        self.images = images
        self.rows = rows
        self.size, self.channels = int(images.shape[1]), int(images.shape[3])

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, items_B: np.ndarray, empty: Empty = empty_pictures) -> tuple[np.ndarray, dict[int, str]]:
        images = empty((len(items_B), *self.images.shape[1:]))
        np.take(self.images, self.rows[items_B], axis=0, out=images, mode="clip")  # "raise" would copy twice
        return images, {}


class EncodedImages:
    """Pictures decoded whenever they are asked for."""

    is_decoded = False

    def __init__(self, pictures: Pictures, numbers: np.ndarray, size: int) -> None:
        """`numbers[item]` is an item's number in `pictures`."""
        self.pictures = pictures
        self.numbers = numbers
        self.size, self.channels = size, pictures.channels

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, items_B: np.ndarray, empty: Empty = empty_pictures) -> tuple[np.ndarray, dict[int, str]]:
        images = empty((len(items_B), self.size, self.size, self.channels))
        bad: dict[int, str] = {}
        num_good = 0
        for item in items_B:
            try:
                images[num_good] = self.pictures.square(int(self.numbers[item]), self.size)
                num_good += 1
            except BadImage as e:
                bad[int(item)] = str(e)
        return images[:num_good], bad


def in_parts(images: ImageStore) -> Iterator[np.ndarray]:
    """All pictures of a decoded set in order, some at a time: uint8 `[B, S, S, C]`."""
    for start in range(0, len(images), _ITEMS_PER_PART):
        yield images.read(np.arange(start, min(start + _ITEMS_PER_PART, len(images))))[0]


def open_decoded(folder: Path, view_folder: Path, rows: np.ndarray) -> DecodedImages:
    """The pictures of a decoded set, memory-mapped.

    Args:
        folder: of their array.
        view_folder: of the view that refers to it.
        rows: where in the array each item's picture lies.

    Raises:
        DataError: the array is gone or damaged, or has no such rows.
    """
    try:
        images = np.load(folder / IMAGES_FILE, mmap_mode="r", allow_pickle=False)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(images):
            raise ValueError(f"{len(images)} pictures, of which the view names {rows.min()} to {rows.max()}")
        return DecodedImages(images, rows)
    except (OSError, ValueError, EOFError) as e:
        raise DataError(
            f"the stored pictures in {folder} are gone or damaged ({e}). "
            f"Remove this folder and {view_folder}: both are made again."
        ) from e
