"""Pictures of any kind become upright RGB squares; what cannot is refused with a reason."""

import errno
import io
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import mean_colour, png_bytes

from hybrid.data.images import SUFFIXES, BadImage, NotReadNow, decode_square, encode_png, probe


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def red(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (40, 30), (255, 0, 0)).convert(mode)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGB", "x.jpg"), ("RGB", "x.png"), ("RGB", "x.webp"), ("RGB", "x.bmp"), ("RGB", "x.tif"), ("RGB", "X.JPEG"),
        ("CMYK", "x.jpg"), ("CMYK", "x.tif"), ("P", "x.png"), ("P", "x.gif"), ("RGBA", "x.png"), ("YCbCr", "x.jpg"),
    ],
)  # fmt: skip
def test_red_stays_red(tmp_path: Path, mode: str, name: str) -> None:
    square = decode_square(saved(tmp_path, red(mode), name), 16)
    assert square.shape == (16, 16, 3) and square.dtype == np.uint8
    assert mean_colour(square) == pytest.approx([255, 0, 0], abs=8)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_keep_their_meaning(tmp_path: Path, name: str) -> None:
    grey = Image.fromarray(np.full((20, 20), 0x8000, dtype=np.uint16))
    assert mean_colour(decode_square(saved(tmp_path, grey, name), 8)) == [128, 128, 128]


def test_floats_are_stretched_over_their_range(tmp_path: Path) -> None:
    values = np.repeat(np.array([[-3.0, 5.0, np.nan]], dtype=np.float32), 9, axis=0).repeat(9, axis=1)
    square = decode_square(saved(tmp_path, Image.fromarray(values), "x.tif"), 27)
    assert mean_colour(square[:, :6]) == [0, 0, 0] and mean_colour(square[:, 11:16]) == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey(tmp_path: Path, mode: str) -> None:
    assert mean_colour(decode_square(saved(tmp_path, Image.new(mode, (9, 5), 0), "x.png"), 8)) == (
        [255] * 3 if mode == "LA" else [0] * 3
    )


def test_transparency_shows_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 40))
    square = decode_square(saved(tmp_path, image, "x.png"), 16)
    assert mean_colour(square[:, :6]) == [0, 0, 255] and mean_colour(square[:, 10:]) == [255, 255, 255]
    assert square[:, :, 0].astype(int).max() <= 255 and np.all(square[:, 9, 2] > 200)  # hidden red bleeds nowhere


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert mean_colour(decode_square(saved(tmp_path, image, "x.png", transparency=0), 8)) == [255, 255, 255]


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, name: str, orientation: int) -> None:
    """The stored picture is made from an upright one by undoing the turn that its EXIF data ask for."""
    upright = Image.new("RGB", (32, 32), "white")
    upright.paste((255, 0, 0), (0, 0, 16, 16))
    upright.paste((0, 0, 255), (16, 0, 32, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that the inverse of each orientation is
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, stored, name, exif=exif)
    square = decode_square(path, 16)
    assert mean_colour(square[1:6, 1:6]) == pytest.approx([255, 0, 0], abs=40)
    assert mean_colour(square[1:6, 10:15]) == pytest.approx([0, 0, 255], abs=40)
    with Image.open(io.BytesIO(encode_png(path, 32))) as shown:
        assert np.abs(np.asarray(shown).astype(int) - np.asarray(upright)).mean() < 12


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp"])
@pytest.mark.parametrize("exif", [b"garbage", b"MM\0\x2a\0\0"], ids=["garbage", "cut"])
def test_a_sound_picture_with_malformed_exif_data_is_taken_as_it_is_stored(
    tmp_path: Path, name: str, exif: bytes
) -> None:
    path = saved(tmp_path, red(), name, exif=b"Exif\0\0" + exif, dpi=(72, 72))
    assert mean_colour(decode_square(path, 16)) == pytest.approx([255, 0, 0], abs=8)
    assert encode_png(path, 16).startswith(b"\x89PNG")


def test_stretched_to_the_square(tmp_path: Path) -> None:
    image = Image.new("RGB", (90, 30), "white")
    image.paste((0, 0, 0), (0, 0, 30, 30))
    square = decode_square(saved(tmp_path, image, "x.png"), 30)
    assert np.count_nonzero(square[15, :, 0] < 128) == 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3000, 2)])
def test_any_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = saved(tmp_path, Image.new("RGB", shape, (9, 9, 9)), "x.png")
    assert decode_square(path, 16).shape == (16, 16, 3)
    with Image.open(io.BytesIO(encode_png(path, 64))) as shown:
        assert max(shown.size) <= 64


def test_large_jpeg_is_decoded_small(tmp_path: Path) -> None:
    square = decode_square(saved(tmp_path, Image.new("RGB", (9000, 9000), (0, 255, 0)), "x.jpg"), 16)  # 81 megapixels
    assert mean_colour(square) == pytest.approx([0, 255, 0], abs=4)


def test_what_pillow_takes_for_a_bomb_is_decoded_small_if_it_is_a_jpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg, png = (saved(tmp_path, Image.new("RGB", (200, 100), (0, 255, 0)), name) for name in ("x.jpg", "x.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)  # twice as many are an error
    assert mean_colour(decode_square(jpeg, 16)) == pytest.approx([0, 255, 0], abs=4)
    probe(jpeg)
    assert Image.MAX_IMAGE_PIXELS == 9_999
    with pytest.raises(BadImage, match="gigantic"):
        decode_square(png, 16)
    monkeypatch.setattr("hybrid.data.images.MAX_JPEG_PIXELS", 19_999)
    with pytest.raises(BadImage, match=r"gigantic: 200 x 100 pixels, of a JPEG at most 19,999"):
        probe(jpeg)


@pytest.mark.parametrize(("width", "height"), [(20_990, 29_700), (10_000, 9_000), (2**31 - 1, 2**31 - 1)])
def test_gigantic(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "x.png").write_bytes(png_bytes(width, height))
    for refuse in (probe, lambda path: decode_square(path, 16), lambda path: encode_png(path, 16)):
        with pytest.raises(BadImage, match="gigantic"):
            refuse(tmp_path / "x.png")


def whole(suffix: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()))
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"])
def test_cut_short(tmp_path: Path, suffix: str) -> None:
    data = whole(suffix)
    path = tmp_path / f"x{suffix}"
    for length in (0, 1, 10, len(data) // 3, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(BadImage):
            decode_square(path, 16)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"])
def test_damaged_bytes_raise_nothing_but_bad_image(tmp_path: Path, suffix: str) -> None:
    data, path, chance = whole(suffix), tmp_path / f"x{suffix}", random.Random(0)
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(8):
            broken[chance.randrange(len(data) if chance.random() < 0.5 else 100)] = chance.randrange(256)
        path.write_bytes(broken)
        try:
            assert decode_square(path, 16).shape == (16, 16, 3)
        except BadImage:
            continue


def test_what_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("%!PS-Adobe\nshowpage")
    reasons = {
        "pipe": "regular",
        "folder": "regular",
        "dangling": "no such file",
        "empty": "empty",
        "text": "known format",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImage, match=reason):
            decode_square(tmp_path / f"{name}.jpg", 16)
    with pytest.raises(BadImage):
        decode_square(tmp_path / "nul\0.jpg", 16)


def test_every_suffix_is_in_lower_case() -> None:
    assert all(suffix == suffix.lower() for suffix in SUFFIXES)


@pytest.mark.parametrize(
    ("error", "is_of_the_machine"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (MemoryError(), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (OSError(errno.EINVAL, "Invalid argument"), False),  # what seeking before the beginning says
        (OSError("image file is truncated"), False),
        (SyntaxError("broken PNG file"), False),
    ],
    ids=repr,
)
def test_trouble_of_the_machine_is_told_from_a_defect_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, is_of_the_machine: bool
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    path = saved(tmp_path, red(), "x.png")
    monkeypatch.setattr(Image, "open", fail)
    for read in (probe, lambda path: decode_square(path, 16)):
        with pytest.raises(BadImage) as caught:
            read(path)
        assert isinstance(caught.value, NotReadNow) == is_of_the_machine


def test_a_picture_that_could_not_be_read_crosses_between_processes() -> None:
    error = pickle.loads(pickle.dumps(NotReadNow(Path("x.png"), "Input/output error")))
    assert (error.path, str(error)) == (Path("x.png"), "Input/output error")
