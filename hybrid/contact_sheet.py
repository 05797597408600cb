"""The pictures that a search found, as one PNG or one HTML file."""

# Captions in a PNG: DejaVu Sans, which comes with matplotlib, draws Latin, Greek, Cyrillic, Arabic, Hebrew and more. A
# word with letters that it lacks (Chinese, Hindi, Korean, ...) is drawn with the first installed font that has them
# all. Where there is none, missing letters become boxes, and the sheet's last line says so. An HTML sheet leaves fonts
# to the browser.

import functools
import io
from pathlib import Path

import matplotlib
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from hybrid.page import found, header, legend, page, query_section
from hybrid.search import Hit, SearchResult, TaggedPictures
from workers.disk import write_whole

COLUMNS, TILE, GAP, CAPTION, REMARK = 5, 160, 24, 62, 48
"""Pictures in a row; pixels of a picture's side, between pictures, of a caption's height, and of a remark's."""
PAPER, INK, SOFT, LINE, TRUE = "#fbfaf7", "#1f1e1b", "#6a665e", "#e5e1d8", "#15724c"
BOX = "\u25a1"
DEFAULT_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def write_html_sheet(path: Path, result: SearchResult, pictures: TaggedPictures, run_name: str) -> None:
    """A page with the query on top and what was found beneath it; opens from disk."""
    facts = {"Run": run_name, "Searched": f"{result.num_images:,} pictures"}
    body = [header("hybrid · search", result.query.text, facts), legend(), query_section(result, pictures)]
    write_whole(path, page(f"{result.query.text} · hybrid", body))


def write_png_sheet(path: Path, result: SearchResult, pictures: TaggedPictures) -> None:
    """The same as a picture: query, then tiles with captions; true hits have a frame and a tick."""
    sheet = draw_sheet(result, pictures)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())


def draw_sheet(result: SearchResult, pictures: TaggedPictures) -> Image.Image:
    """The contact sheet as an RGB picture."""
    num_rows = -(-len(result.hits) // COLUMNS)
    top, pitch = 4 * GAP + (REMARK if result.remark else 0), TILE + CAPTION + GAP
    sheet = Image.new("RGB", (COLUMNS * (TILE + GAP) + GAP, top + num_rows * pitch + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    widest = sheet.width - 2 * GAP
    _text(draw, (GAP, GAP), result.query.text, 26, INK, widest)
    _text(draw, (GAP, GAP + 38), found(result), 13, SOFT, widest)
    _text(draw, (GAP, GAP + 60), result.remark, 12, SOFT, widest, lines=3)
    for place, hit in enumerate(result.hits):
        row, column = divmod(place, COLUMNS)
        _draw_hit(sheet, draw, (GAP + column * (TILE + GAP), top + GAP // 2 + row * pitch), hit, pictures)
    captions = [result.query.text, result.remark, *(text for hit in result.hits for text in (hit.title, *hit.tags))]
    if any(font_file(word) is None for text in captions for word in text.split()):
        note = f"{BOX}: no installed font has this letter; an HTML sheet (--html) shows all."
        _text(draw, (GAP, sheet.height - GAP - 8), note, 12, SOFT, widest)
    return sheet


def _draw_hit(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], hit: Hit, pictures: TaggedPictures
) -> None:
    x, y = corner
    inset = 10
    outline, thickness = (TRUE, 3) if hit.is_true else (LINE, 1)
    draw.rounded_rectangle((x, y, x + TILE, y + TILE), 12, "white", outline, thickness)
    with Image.open(io.BytesIO(pictures.png(hit.item, TILE - 2 * inset)), formats=["PNG"]) as image:
        picture = image.convert("RGBA")
    picture.thumbnail((TILE - 2 * inset, TILE - 2 * inset))
    place = (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2)
    sheet.paste(picture, place, picture)
    if hit.is_true:
        draw.ellipse((x + TILE - 17, y - 7, x + TILE + 7, y + 17), TRUE)
        draw.text((x + TILE - 5, y + 5), "✓", "white", _font(DEFAULT_FONT, 15), anchor="mm")
    _text(draw, (x, y + TILE + 8), hit.title, 13, INK, TILE)
    _text(draw, (x, y + TILE + 27), ", ".join(hit.tags), 11, SOFT, TILE, lines=2)


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: str, width: int, lines: int = 1
) -> None:
    """Words, each in a font that has its letters, on at most so many lines; what does not fit ends in an ellipsis."""
    x, line, space = 0.0, 0, _font(DEFAULT_FONT, size).getlength(" ")
    for word in text.split():
        file = font_file(word)
        font, piece = _font(file or DEFAULT_FONT, size), word if file else drawable(word)
        if x > 0 and x + font.getlength(piece) > width and line + 1 < lines:
            x, line = 0.0, line + 1
        fitting = _cut(piece, font, width - x)
        draw.text((at[0] + x, at[1] + line * round(size * 1.35) + size), fitting, colour, font, anchor="ls")
        x += font.getlength(fitting) + space
        if fitting != piece or x > width:
            return


@functools.cache
def _font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def _cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def drawable(text: str) -> str:
    """The text with boxes in the place of letters that the default font lacks."""
    known = _letters_of(DEFAULT_FONT)
    return "".join(c if ord(c) in known or c.isspace() else BOX for c in text)


@functools.cache
def font_file(text: str) -> Path | None:
    """The default font, or the first installed one, that has every letter of the text; None if there is none."""
    letters = {ord(c) for c in text if not c.isspace()}
    if letters <= _letters_of(DEFAULT_FONT):
        return DEFAULT_FONT
    return next((file for file in _installed_fonts() if letters <= _letters_of(file)), None)


@functools.cache
def _installed_fonts() -> tuple[Path, ...]:
    """Upright fonts of normal weight first."""
    files = map(Path, findSystemFonts())
    return tuple(sorted(files, key=lambda file: ("Regular" not in file.stem, file.name)))


@functools.cache
def _letters_of(file: Path) -> frozenset[int]:
    """Code points that a font draws; none for a file that cannot be read or scaled."""
    try:
        font = FT2Font(str(file))
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
