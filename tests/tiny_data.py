"""Small data sets made by hand: an emoji registry of six characters in four designs, folders of coloured squares."""

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybrid.data.annotations import PACKAGES
from hybrid.data.emoji import DESIGNS
from hybrid.data.npm import Package

COLOURS = {"noto": "#ff0000", "fluent-emoji-flat": "#00ff00", "twemoji": "#0000ff", "openmoji": "#ffff00"}
CHARACTERS = {
    "1f468-200d-1f680": "man astronaut",
    "1f469-1f3fd-200d-1f680": "woman astronaut",
    "2764-fe0f": "red heart",
    "1f431": "cat",
    "1f420": "fish",
    "e001": "house style",
}
ENGLISH = {
    "👨‍🚀": {"default": ["Space", "  rocket "], "tts": ["man astronaut"]},
    "❤": {"default": ["love", "↑↑↑"], "tts": ["red heart"]},
    "🐱": {"default": ["pet", "animal"], "tts": ["cat"]},
    "🐠": {"default": ["animal", "sea"], "tts": ["fish"]},
}
GERMAN = {"🐱": {"default": ["TIER", "Straße"], "tts": ["Katze"]}, "❤️": {"default": ["LOVE"], "tts": ["rotes Herz"]}}
DERIVED = {"👩🏽‍🚀": {"default": ["space"], "tts": ["woman astronaut: medium skin tone"]}}


def write_tarball(folder: Path, package: Package, files: Mapping[str, Any]) -> Path:
    """A package as `npm pack` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.file_name
    contents = {"package.json": {"name": package.name, "version": package.version}, **files}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_packages(folder: Path, bodies: Mapping[str, str] | None = None) -> None:
    """All packages of the emoji set, with the characters above; `bodies` replaces drawings by code."""
    for design in DESIGNS:
        square = f'<path fill="{COLOURS[design.name]}" d="M4 4h8v8H4z"/>'
        icons = {name: {"body": (bodies or {}).get(code, square)} for code, name in CHARACTERS.items()}
        icons["cat"]["height"] = 8
        files = {"icons.json": {"icons": icons, "width": 16, "height": 16}, "chars.json": CHARACTERS}
        write_tarball(folder, design.package, files)
    full, derived = PACKAGES
    write_tarball(folder, full, {**_locale("annotations", "en", ENGLISH), **_locale("annotations", "de", GERMAN)})
    write_tarball(
        folder, derived, {**_locale("annotationsDerived", "en", DERIVED), **_locale("annotationsDerived", "x", None)}
    )


def _locale(kind: str, locale: str, entries: Any) -> dict[str, Any]:
    body = {"identity": {"language": locale}} | ({} if entries is None else {"annotations": entries})
    return {f"{kind}/{locale}/annotations.json": {kind: body}}


def write_photos(folder: Path, num_photos: int) -> list[str]:
    """Coloured rectangles `a000.png` ... with tags in text files; every third is also `rare`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"a{i:03}.png" for i in range(num_photos)]
    for i, name in enumerate(names):
        Image.new("RGB", (30, 20), (i % 256, 40, 200)).save(folder / name)
        tags = ["square", f"own {i % 7}", *(["rare"] if i % 3 == 0 else [])]
        (folder / name).with_suffix(".txt").write_text(", ".join(tags))
    return names


def png_bytes(width: int, height: int) -> bytes:
    """A grey PNG that claims any size; its pixel data are a few bytes, so a huge one costs nothing to make."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"few")
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", data) + _png_chunk(b"IEND", b"")


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def mean_colour(image_HWC: np.ndarray) -> list[int]:
    """The mean over pixels, rounded."""
    return np.rint(image_HWC.reshape(-1, image_HWC.shape[-1]).mean(axis=0)).astype(int).tolist()
