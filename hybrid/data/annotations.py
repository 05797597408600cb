"""The names that the world's languages give to characters, from Unicode CLDR."""

from dataclasses import dataclass
from pathlib import Path

from hybrid.data.npm import Package, read_json
from hybrid.data.ragged import Ragged
from hybrid.data.vocabulary import normalise_tag

PACKAGES = (
    Package(name="cldr-annotations-full", version="48.2.0"),
    Package(name="cldr-annotations-derived-full", version="48.2.0"),
)
LICENCE = "Unicode CLDR annotations, (c) Unicode, Inc., Unicode-3.0: https://www.unicode.org/license.txt"
_INHERITED = "↑↑↑"
_VARIATION_SELECTOR = "\ufe0f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotations:
    """Tags of characters; characters are written without variation selectors."""

    tags: list[str]
    """Distinct normalised tags, sorted."""
    row_of: dict[str, int]
    """The row of `tags_of` for each character."""
    tags_of: Ragged
    """Numbers in `tags`, ascending and distinct in each row."""
    titles: dict[str, str]
    """The English name of each character that has one."""


def bare(character: str) -> str:
    """The character without variation selectors: sources differ in where they write them."""
    return character.replace(_VARIATION_SELECTOR, "")


def read_package(tarball: Path) -> tuple[dict[str, set[str]], dict[str, str], int]:
    """Names and keywords of each character over all locales of one package, English names, and the number of locales.

    A locale contributes what its own file says. What it would inherit from another locale is written there.
    """
    tags_of: dict[str, set[str]] = {}
    titles: dict[str, str] = {}
    normal: dict[str, str] = {_INHERITED: ""}
    num_locales = 0
    for path, content in read_json(tarball, lambda path: path.endswith("/annotations.json")):
        num_locales += 1
        locale = path.split("/")[-2]
        (body,) = content.values()
        for character, entry in body.get("annotations", {}).items():
            tags = tags_of.setdefault(bare(character), set())
            for text in (*entry.get("default", ()), *entry.get("tts", ())):
                if text not in normal:
                    normal[text] = normalise_tag(text)
                tags.add(normal[text])
            if locale == "en" and entry.get("tts"):
                titles[bare(character)] = entry["tts"][0]
    for tags in tags_of.values():
        tags.discard("")
    return tags_of, titles, num_locales


def merge(parts: list[tuple[dict[str, set[str]], dict[str, str]]]) -> Annotations:
    """Union of packages."""
    tags_of: dict[str, set[str]] = {}
    titles: dict[str, str] = {}
    for part_tags, part_titles in parts:
        for character, tags in part_tags.items():
            tags_of.setdefault(character, set()).update(tags)
        titles |= part_titles
    all_tags = sorted(set().union(*tags_of.values()))
    number = {tag: i for i, tag in enumerate(all_tags)}
    row_of = {character: row for row, character in enumerate(tags_of)}
    rows = Ragged.of_tags(list(tags_of.values()), number)
    return Annotations(tags=all_tags, row_of=row_of, tags_of=rows, titles=titles)
