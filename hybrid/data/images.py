"""Picture files of any kind, decoded with distrust."""

import errno
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from workers.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 2**26
"""Pictures that need more pixels than this in memory (256 MiB with alpha) are refused as gigantic."""
MAX_JPEG_PIXELS = 2**28
"""JPEG files of more pixels are refused, however small they are decoded: of progressive ones the coefficients of all
pixels are in memory (6 bytes a pixel)."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_WHITE = (255, 255, 255)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
_OF_THE_FILE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EACCES,
        errno.EPERM,
        errno.EINVAL,
        errno.EOVERFLOW,
    }
)
"""What the system says of a file that is missing, or locked, or in which a decoder looks for what no file can hold."""


class BadImage(Exception):
    """A picture that cannot be used; the message says why, the caller knows which."""


class NotReadNow(BadImage):
    """A picture that the machine could not read, of which nothing bad is known: the next time it may be fine."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[1])


def is_trouble_of_the_machine(error: Exception) -> bool:
    """Whether reading failed for what has nothing to do with the file: a disk or share in trouble, no memory.

    The errors that Pillow itself raises about files that it cannot decode have no number of the system's.
    """
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _OF_THE_FILE
    return isinstance(error, MemoryError)


def not_read_now(path: Path, why: object) -> DataError:
    """What ends a preparation which would otherwise leave out, from then on, a file that may be sound."""
    return DataError(
        f"{path} could not be read: {why}. Nothing is known to be wrong with the file itself, so it is not left out: "
        "run again. If that does not help, take it out of the data."
    )


def decode_square(path: Path, size: int) -> np.ndarray:
    """The picture as uint8 `[size, size, 3]`, upright, on white where it is transparent.

    It is *stretched* to the square: cropping would cut off what the tags speak of, bars would spend pixels on nothing.
    JPEG files are decoded at the smallest of their built-in scales that is at least twice as large.

    Raises:
        BadImage: missing, locked, empty, broken, cut short, gigantic, or no picture at all; `NotReadNow`, a kind of it:
            see there.
    """
    with _opened(path, draft=2 * size) as image:
        return np.asarray(_upright_rgb(image, (size, size)))


def encode_png(path: Path, size: int) -> bytes:
    """The picture as a PNG, its longer side `size` pixels (never enlarged), upright; raises BadImage."""
    with _opened(path, draft=size) as image:
        scale = min(1.0, size / max(image.size))
        shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        buffer = io.BytesIO()
        _upright_rgb(image, shape).save(buffer, "PNG")
        return buffer.getvalue()


def probe(path: Path) -> None:
    """Check what can be known without decoding: that this is a picture file of a bearable size; raises BadImage."""
    with _opened(path, draft=64):
        pass


@contextmanager
def _opened(path: Path, draft: int) -> Iterator[Image.Image]:
    """An open picture that is safe to decode; whatever a decoder raises inside becomes a BadImage."""
    try:
        _check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused below, by our own bound; odd metadata does not matter
            with _read_header(path) as image:
                image.draft(None, (draft, draft))
                if image.width * image.height > MAX_PIXELS:
                    raise BadImage(
                        f"gigantic: {image.width:,} x {image.height:,} pixels, at most {MAX_PIXELS:,} are decoded"
                    )
                yield image
    except BadImage:
        raise
    except Image.DecompressionBombError as e:
        raise BadImage(f"gigantic: {e}") from e
    except FileNotFoundError as e:
        raise BadImage("no such file") from e
    except Image.UnidentifiedImageError as e:
        raise BadImage("not a picture of a known format") from e
    except Exception as e:  # decoders raise nearly anything on hostile bytes, and one file must not end a run
        if is_trouble_of_the_machine(e):
            why = e.strerror if isinstance(e, OSError) else "does not fit in memory"
            raise NotReadNow(path, str(why)) from e
        raise BadImage(f"broken: {type(e).__name__}: {e}") from e


def _read_header(path: Path) -> Image.Image:
    """Pillow refuses what is large as it is stored, but a JPEG is decoded at a fraction of that.

    Pillow's bound is a global of the process, on which others may rely, so it stays; large JPEG files pass it by.
    """
    try:
        return Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError as e:
        try:
            image = JpegImageFile(path)
        except SyntaxError:
            raise e from None  # another format
    if image.width * image.height > MAX_JPEG_PIXELS:
        image.close()
        raise BadImage(f"gigantic: {image.width:,} x {image.height:,} pixels, of a JPEG at most {MAX_JPEG_PIXELS:,}")
    return image


def _check_file(path: Path) -> None:
    """Refuse what `open` could hang on (a pipe named x.jpg) or what is too short to mean anything."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadImage("not a regular file")
    if status.st_size == 0:
        raise BadImage("empty file")


def _upright_rgb(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """The picture as RGB, resized to `shape` (width, height as stored), then turned upright."""
    image.load()  # first: the TIFF decoder turns the picture itself, then forgets the orientation
    turn = _turn_of(image)
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    rgba = image.convert("RGBA" if image.has_transparency_data else "RGB")
    resized = _on_white(rgba.resize(shape, Image.Resampling.BICUBIC, reducing_gap=3.0))
    return resized if turn is None else resized.transpose(turn)


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """What its EXIF data ask for; None if they ask for nothing, or cannot be read: the picture itself may be sound."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything on malformed EXIF data, SyntaxError among it
        return None


def _on_white(image: Image.Image) -> Image.Image:
    """Pillow premultiplies alpha while it resizes, so hidden colours have not bled in."""
    if image.mode == "RGB":
        return image
    rgb = Image.new("RGB", image.size, _WHITE)
    rgb.paste(image, mask=image.getchannel("A"))
    return rgb


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits by its full range; grey of 32 bits or floats, which has no natural range, by its own."""
    values = np.asarray(image).astype(np.float32)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
    grey = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8))
