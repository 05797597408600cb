"""The user's own pictures in a folder, with tags in files beside them or in a manifest."""

import contextlib
import json
from pathlib import Path

from hybrid.data.cache import ProgressCallback
from hybrid.data.collection import Collection
from hybrid.data.copies import split_keys
from hybrid.data.images import is_trouble_of_the_machine, not_read_now
from hybrid.data.listing import MANIFEST, Listing, listed_picture, manifest_lines, without_suffix
from hybrid.data.ragged import Ragged
from hybrid.data.vocabulary import normalise_tag
from workers.errors import DataError

WITHOUT_TAGS = "without tags"
BAD_TAGS = "with unreadable tags"
UNREAD = "in folders that cannot be listed (each counts once)"
HOW_TO_TAG = (
    "Tags of x.jpg belong in x.txt beside it (separated by commas or lines), in x.json (a list of strings under "
    f"'tags'), or in {MANIFEST} in the folder (path, then tags, separated by tabs)."
)
_MAX_SIDECAR_BYTES = 4 * 2**20


def build_folder(target: Path, listing: Listing, progress: ProgressCallback) -> None:
    """Write the collection of a folder into `target`.

    Raises:
        DataError: a file could not be read for trouble of the machine, not of the file; or no line of the manifest has
            a tab.
    """
    found = Findings()
    found.skipped[UNREAD] = listing.unread
    if listing.manifest:
        _read_manifest(listing.manifest, found)
    else:
        for done, name in enumerate(listing.images):
            if done % 1000 == 0:
                progress("reading tags", done, len(listing.images))
            _read_sidecars(listing, name, found)
    collect(found, listing.root, progress).save(target)


def with_tags(listing: Listing, names: list[str]) -> list[str]:
    """Those of some pictures of a folder that have tags which can be read now."""
    found = Findings()
    for name in names if listing.manifest is None else ():
        with contextlib.suppress(DataError):  # `build_folder` would say it
            _read_sidecars(listing, name, found)
    if listing.manifest is not None and names:
        with contextlib.suppress(DataError):
            _read_manifest(listing.manifest, found)
    return [name for name in names if found.tags.get(name) and name not in found.skipped[BAD_TAGS]]


class Findings:
    """Tags by picture, and pictures to skip, as they are read."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, None]] = {}
        self.skipped: dict[str, dict[str, str]] = {WITHOUT_TAGS: {}, BAD_TAGS: {}}
        self.hints: dict[str, str] = {}
        """Why a picture may turn out to have no tags."""
        self.num_repeated_tags = 0
        self._normal: dict[str, str] = {}

    def add(self, name: str, texts: list[str]) -> None:
        """Give a picture further tags; spellings of one tag count once."""
        own = self.tags.setdefault(name, {})
        for text in texts:
            if text not in self._normal:
                self._normal[text] = normalise_tag(text)
            tag = self._normal[text]
            if tag:
                self.num_repeated_tags += tag in own
                own[tag] = None

    def skip(self, reason: str, name: str, why: str) -> None:
        """Leave a picture out."""
        self.skipped[reason][name] = why


def collect(found: Findings, root: Path, progress: ProgressCallback) -> Collection:
    """The collection of all pictures below `root` with tags that could be read."""
    readable = {name: own for name, own in found.tags.items() if name not in found.skipped[BAD_TAGS]}
    for name, own in readable.items():
        if not own:
            found.skip(WITHOUT_TAGS, name, found.hints.get(name, "no tag is given for it"))
    names = sorted(name for name, own in readable.items() if own)
    raw_tags = sorted(set().union(*(found.tags[name] for name in names)))
    number = {tag: i for i, tag in enumerate(raw_tags)}
    return Collection(
        names=names,
        split_keys=split_keys(root, names, progress),
        groups=None,
        group_names=[],
        details=[{"title": Path(name).stem} for name in names],
        raw_tags=raw_tags,
        tags_of=Ragged.of_tags([found.tags[name] for name in names], number),
        licences={},
        skipped=found.skipped,
        facts={"repeated tags": found.num_repeated_tags},
    )


def _read_manifest(path: Path, found: Findings) -> None:
    """Lines of a path below the folder and tags, tab-separated; a path may have several lines.

    Raises:
        DataError: it cannot be read, or no line has a tab.
    """
    lines = manifest_lines(path)
    written = [number for number, line in enumerate(lines, start=1) if line.strip()]
    if written and not any(b"\t" in line for line in lines):
        form = "the path of a picture, then its tags, separated by tabs (not by spaces or commas)"
        raise DataError(f"{path}: no tab in line {written[0]}, nor in any other. Each line is to hold {form}.")
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as e:
            found.skip(BAD_TAGS, f"{MANIFEST} line {number}", f"not UTF-8: {e.reason}")
            continue
        if picture := listed_picture(text):
            tags = text.split("\t")[1:]
            found.add(picture, tags)
            if not tags:
                found.hints[picture] = f"no tab in line {number}"


def _read_sidecars(listing: Listing, name: str, found: Findings) -> None:
    found.add(name, [])
    for sidecar in listing.sidecars.get(without_suffix(name), ()):
        try:
            text = _read_text(listing.root / sidecar)
            tags = _parse_text(text) if sidecar.lower().endswith(".txt") else _parse_json(text)
        except (OSError, ValueError, RecursionError) as e:
            if is_trouble_of_the_machine(e):
                raise not_read_now(listing.root / sidecar, e) from e
            found.skip(BAD_TAGS, name, f"{sidecar}: {e}")
            continue
        if tags is None:
            found.hints[name] = f"{sidecar} has nothing under 'tags'"
        else:
            found.add(name, tags)


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MAX_SIDECAR_BYTES:
        raise ValueError(f"more than {_MAX_SIDECAR_BYTES:,} bytes of tags")
    return path.read_text(encoding="utf-8-sig")


def _parse_text(text: str) -> list[str]:
    return text.replace("\n", ",").split(",")


def _parse_json(text: str) -> list[str] | None:
    """None for an object that says nothing of tags: some programs leave one beside each picture, for other facts."""
    content = json.loads(text)
    if isinstance(content, dict) and "tags" not in content:
        return None
    tags = content["tags"] if isinstance(content, dict) else None
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("expected an object with a list of strings under 'tags'")
    return tags
