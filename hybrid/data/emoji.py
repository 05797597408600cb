"""The emoji of four open designs with the names that more than a hundred languages give them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.data import annotations
from hybrid.data.annotations import Annotations, bare
from hybrid.data.cache import ProgressCallback, key_of
from hybrid.data.collection import Collection
from hybrid.data.concepts import concept_of
from hybrid.data.npm import Package, fetch, read_json_files
from hybrid.data.pictures import save_vectors
from hybrid.data.pool import run_in_processes
from hybrid.data.ragged import Ragged
from workers.errors import DataError

TEST_FRACTION = 0.10
VALID_FRACTION = 0.05
FORMAT_VERSION = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """One artist's drawings of all emoji."""

    name: str
    package: Package
    licence: str
    """Attribution as the licence asks for it."""


DESIGNS = (
    Design(
        name="noto",
        package=Package(name="@iconify-json/noto", version="1.2.9"),
        licence="Noto Emoji, (c) Google Inc, Apache-2.0: https://github.com/googlefonts/noto-emoji",
    ),
    Design(
        name="fluent-emoji-flat",
        package=Package(name="@iconify-json/fluent-emoji-flat", version="1.2.6"),
        licence="Fluent Emoji Flat, (c) Microsoft Corporation, MIT: https://github.com/microsoft/fluentui-emoji",
    ),
    Design(
        name="twemoji",
        package=Package(name="@iconify-json/twemoji", version="1.2.5"),
        licence="Twemoji, (c) Twitter, Inc and other contributors, CC-BY-4.0: https://github.com/jdecked/twemoji",
    ),
    Design(
        name="openmoji",
        package=Package(name="@iconify-json/openmoji", version="1.2.29"),
        licence="OpenMoji, the open-source emoji and icon project, CC-BY-SA-4.0: https://openmoji.org",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawing:
    design: int
    code: str
    title: str
    svg: str

    @property
    def character(self) -> str:
        return "".join(chr(int(point, 16)) for point in self.code.split("-"))


def emoji_key() -> str:
    """Names the collection by everything that determines its content."""
    packages = [str(package) for package in (*(design.package for design in DESIGNS), *annotations.PACKAGES)]
    return f"emoji-{key_of(FORMAT_VERSION, packages)}"


def build_emoji(folder: Path, packages_folder: Path, progress: ProgressCallback) -> None:
    """Write the collection, and the drawings for `VectorPictures`, into `folder`.

    An item is a character in a design (code points and their picture); a drawing that stands for two characters is two
    items. Characters that no language annotates, such as a design's own inventions, are skipped.
    """
    tarballs = fetch([*(design.package for design in DESIGNS), *annotations.PACKAGES], packages_folder, progress)
    tagged, facts = _read_annotations(tarballs[len(DESIGNS) :], progress)
    drawings = [d for number, tarball in enumerate(tarballs[: len(DESIGNS)]) for d in _read_design(number, tarball)]
    collection, svgs = _collect(drawings, tagged, facts)
    save_vectors(folder, svgs)
    collection.save(folder)


def _read_annotations(tarballs: list[Path], progress: ProgressCallback) -> tuple[Annotations, dict[str, int]]:
    progress("reading names and keywords", 0, len(tarballs))
    parts = []
    num_locales = 0
    for tags_of, titles, locales in run_in_processes(annotations.read_package, tarballs):
        parts.append((tags_of, titles))
        num_locales = max(num_locales, locales)
        progress("reading names and keywords", len(parts), len(tarballs))
    tagged = annotations.merge(sorted(parts, key=lambda part: len(part[0])))
    return tagged, {"locales": num_locales, "distinct annotations": len(tagged.tags)}


def _read_design(number: int, tarball: Path) -> list[_Drawing]:
    icons, characters = read_json_files(tarball, ["icons.json", "chars.json"])
    try:
        return [
            _Drawing(design=number, code=code, title=icon.replace("-", " "), svg=_svg(icons, icon))
            for code, icon in sorted(characters.items())
        ]
    except (KeyError, TypeError, AttributeError) as e:
        raise DataError(f"{tarball} is not a set of icons as expected ({e!r}); remove it, it is fetched again.") from e


def _svg(icons: dict[str, Any], name: str) -> str:
    """A whole document; a drawing that is not square is centred in the square by SVG's own rule."""
    icon = icons["icons"][name]
    left, top, width, height = (icon.get(key, icons.get(key, default)) for key, default in _VIEW_BOX)
    box = f'width="100" height="100" viewBox="{left} {top} {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{icon["body"]}</svg>'


_VIEW_BOX = (("left", 0), ("top", 0), ("width", 16), ("height", 16))
"""Where an icon's box is written, and iconify's defaults."""


def _collect(drawings: list[_Drawing], tagged: Annotations, facts: dict[str, int]) -> tuple[Collection, list[str]]:
    def name(drawing: _Drawing) -> str:
        return f"{DESIGNS[drawing.design].name}/{drawing.code}"

    untagged = {name(d): d.title for d in drawings if bare(d.character) not in tagged.row_of}
    kept = [d for d in drawings if name(d) not in untagged]
    rows = np.array([tagged.row_of[bare(d.character)] for d in kept], dtype=np.int64)
    raw_tags, tags_of = _only_used(tagged, rows)
    collection = Collection(
        names=[name(d) for d in kept],
        split_keys=[concept_of(d.character) for d in kept],
        groups=[d.design for d in kept],
        group_names=[design.name for design in DESIGNS],
        details=[_details(d, tagged) for d in kept],
        raw_tags=raw_tags,
        tags_of=tags_of,
        licences={design.name: design.licence for design in DESIGNS} | {"annotations": annotations.LICENCE},
        skipped={"without tags": untagged},
        facts=facts,
    )
    return collection, [d.svg for d in kept]


def _only_used(tagged: Annotations, rows: np.ndarray) -> tuple[list[str], Ragged]:
    """Renumber tags so that only those on items remain; their order stays that of their text."""
    tags_of = tagged.tags_of.take(rows)
    used, values = np.unique(tags_of.values, return_inverse=True)
    return [tagged.tags[i] for i in used], Ragged(tags_of.offsets, values.astype(np.int32))


def _details(drawing: _Drawing, tagged: Annotations) -> dict[str, str]:
    character = drawing.character
    return {
        "title": tagged.titles.get(bare(character), drawing.title),
        "character": character,
        "design": DESIGNS[drawing.design].name,
        "code": drawing.code,
        "concept": concept_of(character),
    }
