"""The user's own pictures in a folder, with tags in files beside them or in a manifest."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from hybrid.data.cache import Progress
from hybrid.data.collection import Collection
from hybrid.data.images import SUFFIXES
from hybrid.data.ragged import Ragged
from hybrid.data.vocabulary import normalise_tag
from workers.errors import DataError

FORMAT_VERSION = 1
MANIFEST = "manifest.tsv"
WITHOUT_TAGS = "without tags"
BAD_TAGS = "with unreadable tags"
_MAX_SIDECAR_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What a folder holds, without having read any of it."""

    root: Path
    manifest: Path | None
    """If there is one, it alone says which pictures belong to the set."""
    images: list[str]
    """Pictures by path below the root, sorted; empty with a manifest."""
    sidecars: frozenset[str]
    """Files that may hold tags, by path below the root."""
    key: str
    """Names the content: path, size and time of change of the manifest with all that it lists, or of all pictures and
    sidecars; and which of them this user may read. So what was missing or locked is looked at again when it is not."""


def scan(path: str) -> Listing:
    """List a folder and everything below it; hidden files and folders do not count.

    Raises:
        DataError: there is no such folder, or nothing in it looks like a picture.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"folder:{path}: {root} is not a folder.")
    manifest = root / MANIFEST
    files = dict(_stamps_of(manifest) if manifest.is_file() else _walk(root))
    images = [] if manifest.is_file() else sorted(name for name in files if _suffix(name) in SUFFIXES)
    if not images and not manifest.is_file():
        wanted = ", ".join(sorted(SUFFIXES))
        raise DataError(f"folder:{path}: no {MANIFEST} and no pictures ({wanted}) in or below {root}.")
    digest = hashlib.blake2b(os.fsencode(f"{FORMAT_VERSION}\0{root}"), digest_size=8)
    for name in sorted(files):
        digest.update(os.fsencode(f"{name}\0{files[name]}\0"))
    sidecars = frozenset(name for name in files if _suffix(name) in {".txt", ".json"})
    is_listed = manifest if manifest.is_file() else None
    return Listing(root=root, manifest=is_listed, images=images, sidecars=sidecars, key=f"folder-{digest.hexdigest()}")


def build_folder(target: Path, listing: Listing, progress: Progress) -> None:
    """Write the collection of a folder into `target`."""
    found = Findings()
    if listing.manifest:
        _read_manifest(listing.manifest, found)
    else:
        for done, name in enumerate(listing.images):
            if done % 1000 == 0:
                progress("reading tags", done, len(listing.images))
            _read_sidecars(listing, name, found)
    collect(found).save(target)


class Findings:
    """Tags by picture, and pictures to skip, as they are read."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, None]] = {}
        self.skipped: dict[str, dict[str, str]] = {WITHOUT_TAGS: {}, BAD_TAGS: {}}
        self.untabbed: dict[str, int] = {}
        """Pictures of a manifest whose line ends with the path, with its number."""
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


def collect(found: Findings) -> Collection:
    """The collection of all pictures with tags that could be read; each is split by its own name."""
    readable = {name: own for name, own in found.tags.items() if name not in found.skipped[BAD_TAGS]}
    for name, own in readable.items():
        if not own:
            line = found.untabbed.get(name)
            found.skip(WITHOUT_TAGS, name, f"no tab in line {line}" if line else "no tag is given for it")
    names = sorted(name for name, own in readable.items() if own)
    raw_tags = sorted(set().union(*(found.tags[name] for name in names)))
    number = {tag: i for i, tag in enumerate(raw_tags)}
    lengths = [len(found.tags[name]) for name in names]
    values = np.fromiter(
        (number[tag] for name in names for tag in found.tags[name]), dtype=np.int32, count=sum(lengths)
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Collection(
        names=names,
        split_keys=names,
        groups=None,
        group_names=[],
        details=[{"title": Path(name).stem} for name in names],
        raw_tags=raw_tags,
        tags_of=Ragged(offsets, values).sorted_rows(),
        licences={},
        skipped=found.skipped,
        facts={"repeated tags": found.num_repeated_tags},
    )


def _stamps_of(manifest: Path) -> Iterator[tuple[str, str]]:
    yield from _stamp(manifest, MANIFEST).items()
    for line in _lines(manifest):
        if name := os.fsdecode(line.partition(b"\t")[0].strip()):
            yield from _stamp(manifest.parent / name, name).items()


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and _suffix(name) in SUFFIXES | {".txt", ".json"}:
                path = Path(place, name)
                yield from _stamp(path, path.relative_to(root).as_posix()).items()


def _stamp(path: Path, name: str) -> dict[str, str]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return {name: "missing"}  # a dangling link, a share that is away: reading it says so, with its name
    locked = "" if os.access(path, os.R_OK) else " locked"
    return {name: f"{status.st_size} {status.st_mtime_ns}{locked}"}


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _read_manifest(path: Path, found: Findings) -> None:
    """Lines of a path below the folder and tags, tab-separated; a path may have several lines.

    Raises:
        DataError: it cannot be read, or no line has a tab.
    """
    lines = _lines(path)
    written = [number for number, line in enumerate(lines, start=1) if line.strip()]
    if written and not any(b"\t" in line for line in lines):
        form = "the path of a picture, then its tags, separated by tabs (not by spaces or commas)"
        raise DataError(f"{path}: no tab in line {written[0]}, nor in any other. Each line is to hold {form}.")
    for number, line in enumerate(lines, start=1):
        try:
            name, *tags = line.decode("utf-8").split("\t")
        except UnicodeDecodeError as e:
            found.skip(BAD_TAGS, f"{MANIFEST} line {number}", f"not UTF-8: {e.reason}")
            continue
        if name.strip():
            picture = Path(name.strip()).as_posix()
            found.add(picture, tags)
            if not tags:
                found.untabbed[picture] = number


def _lines(manifest: Path) -> list[bytes]:
    try:
        return manifest.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as e:
        raise DataError(f"cannot read {manifest}: {e.strerror}.") from e


def _read_sidecars(listing: Listing, name: str, found: Findings) -> None:
    found.add(name, [])
    for suffix, parse in ((".txt", _parse_text), (".json", _parse_json)):
        sidecar = str(PurePosixPath(name).with_suffix(suffix))
        if sidecar in listing.sidecars:
            try:
                found.add(name, parse(_read_text(listing.root / sidecar)))
            except (OSError, ValueError, RecursionError) as e:
                found.skip(BAD_TAGS, name, f"{sidecar}: {e}")


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MAX_SIDECAR_BYTES:
        raise ValueError(f"more than {_MAX_SIDECAR_BYTES:,} bytes of tags")
    return path.read_text(encoding="utf-8-sig")


def _parse_text(text: str) -> list[str]:
    return text.replace("\n", ",").split(",")


def _parse_json(text: str) -> list[str]:
    content = json.loads(text)
    tags = content.get("tags") if isinstance(content, dict) else None
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("expected an object with a list of strings under 'tags'")
    return tags
