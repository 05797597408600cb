"""Where pictures come from, at any size."""

# Shapes: S side in pixels, C channels.

import io
from pathlib import Path
from typing import Protocol

import numpy as np
import resvg_py
from PIL import Image

from hybrid.data.cache import damaged
from hybrid.data.images import (
    BadImage,
    decode_square,
    encode_png,
    is_trouble_of_the_machine,
    not_read_now,
    probe,
)


class Pictures(Protocol):
    """Pictures by number."""

    channels: int

    def square(self, number: int, size: int) -> np.ndarray:
        """uint8 `[S, S, C]`; raises BadImage."""

    def probe(self, number: int) -> None:
        """Check what can be known without decoding; raises BadImage."""

    def png(self, number: int, size: int) -> bytes:
        """A PNG for people to look at, `size` pixels on its longer side; raises BadImage."""

    def trace(self, number: int) -> bytes:
        """What tells it from another at no cost: the text of a drawing, the size in bytes of a file.

        Raises:
            DataError: the file could not be looked at for trouble of the machine.
        """


class PhotoPictures:
    """Files of a folder, as RGB."""

    channels = 3

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = root
        self.names = names

    def square(self, number: int, size: int) -> np.ndarray:
        return decode_square(self.root / self.names[number], size)

    def probe(self, number: int) -> None:
        probe(self.root / self.names[number])

    def png(self, number: int, size: int) -> bytes:
        return encode_png(self.root / self.names[number], size)

    def trace(self, number: int) -> bytes:
        path = self.root / self.names[number]
        try:
            return b"%d" % path.stat().st_size
        except (OSError, ValueError) as e:
            if is_trouble_of_the_machine(e):
                raise not_read_now(path, e) from e
            return b"missing"


class VectorPictures:
    """SVG drawings kept one after another in a file, as RGBA.

    Raises:
        DataError: the file is gone or damaged.
    """

    channels = 4

    def __init__(self, folder: Path) -> None:
        try:
            self.texts = np.memmap(folder / "svgs.bin", dtype=np.uint8, mode="r")
            self.offsets = np.load(folder / "svg_offsets.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise damaged(folder, e) from e

    def square(self, number: int, size: int) -> np.ndarray:
        with Image.open(io.BytesIO(self.png(number, size)), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGBA"))

    def probe(self, number: int) -> None:
        self.png(number, 16)

    def png(self, number: int, size: int) -> bytes:
        text = self.trace(number).decode()
        try:
            return resvg_py.svg_to_bytes(svg_string=text, width=size, height=size, skip_system_fonts=True)
        except ValueError as e:
            raise BadImage(f"not a drawing that can be rendered ({e})") from e

    def trace(self, number: int) -> bytes:
        return bytes(self.texts[self.offsets[number] : self.offsets[number + 1]])


def save_vectors(folder: Path, svgs: list[str]) -> None:
    """Write drawings for `VectorPictures`."""
    texts = [svg.encode() for svg in svgs]
    np.save(
        folder / "svg_offsets.npy", np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    )
    (folder / "svgs.bin").write_bytes(b"".join(texts))
