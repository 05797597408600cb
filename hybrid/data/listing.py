"""What a folder of pictures holds, before any of it is read."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hybrid.data.images import SUFFIXES
from launch.run_settings import CONFIG_FILE
from launch.runs import RUN_FILE
from workers.errors import DataError

FORMAT_VERSION = 2
MANIFEST = "manifest.tsv"
_SIDECARS = frozenset({".txt", ".json"})
_MISSING = "missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Files of a folder by path below it."""

    root: Path
    manifest: Path | None
    """If there is one, it alone says which pictures belong to the set."""
    images: list[str]
    """Pictures, sorted; empty with a manifest."""
    sidecars: dict[str, list[str]]
    """Files that may hold the tags of a picture, by the picture's path without suffix; empty with a manifest."""
    stamps: dict[str, str]
    """Size and time of change of the manifest with all that it lists, or of all pictures and sidecars; and which of
    them this user may read. So what was missing or locked is looked at again when it is not."""
    unread: dict[str, str]
    """Folders that could not be listed, and why."""

    @property
    def key(self) -> str:
        """Names the content: changes with any stamp, and with what could not be listed."""
        return self._key([*sorted(self.stamps.items()), *((name, "unread") for name in sorted(self.unread))])

    @property
    def pictures(self) -> list[str]:
        """All pictures of the set that are there."""
        named = self.images if self.manifest is None else self.stamps.keys() - {MANIFEST}
        return [name for name in named if self.stamps[name] != _MISSING]

    def pictures_key(self, names: Iterable[str]) -> str:
        """Names the content of these pictures alone: their tags may change."""
        return self._key((name, self.stamps[name]) for name in names)

    def _key(self, stamps: Iterable[tuple[str, str]]) -> str:
        digest = hashlib.blake2b(f"{FORMAT_VERSION}\0{self.root}".encode("utf-8", "surrogateescape"), digest_size=8)
        for name, stamp in stamps:
            digest.update(f"{name}\0{stamp}\0".encode("utf-8", "surrogateescape"))
        return f"folder-{digest.hexdigest()}"


def scan(path: str, cache: Path | None = None) -> Listing:
    """List a folder and everything below it; hidden files and folders, runs, and the cache do not count.

    Args:
        path: of the folder.
        cache: where prepared data are kept, perhaps in the folder itself.

    Raises:
        DataError: there is no such folder, or nothing in it looks like a picture.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"folder:{path}: {root} is not a folder.")
    manifest = root / MANIFEST
    if manifest.is_file():
        stamps = dict(_stamps_of(manifest))
        return Listing(root=root, manifest=manifest, images=[], sidecars={}, stamps=stamps, unread={})
    unread: dict[str, str] = {}
    stamps = dict(_walk(root, cache, unread))
    images = sorted(name for name in stamps if _suffix(name) in SUFFIXES)
    if not images:
        wanted = ", ".join(sorted(SUFFIXES))
        closed = "".join(f" {root / name} cannot be listed: {why}." for name, why in unread.items())
        raise DataError(f"folder:{path}: no {MANIFEST} and no pictures ({wanted}) in or below {root}.{closed}")
    sidecars: dict[str, list[str]] = {}
    for name in stamps:
        if _suffix(name) in _SIDECARS:
            sidecars.setdefault(without_suffix(name), []).append(name)
    return Listing(root=root, manifest=None, images=images, sidecars=sidecars, stamps=stamps, unread=unread)


def without_suffix(name: str) -> str:
    """The path of a picture, or of a file beside it, without what says which kind of file it is."""
    return str(PurePosixPath(name).with_suffix("")) if _suffix(name) in SUFFIXES | _SIDECARS else name


def manifest_lines(manifest: Path) -> list[bytes]:
    """Its lines, without the mark that some editors begin with.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return manifest.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as e:
        raise DataError(f"cannot read {manifest}: {e.strerror}.") from e


def listed_picture(line: str) -> str:
    """The path with which a line of a manifest begins, or '' for a blank one."""
    name = line.partition("\t")[0].strip()
    return Path(name).as_posix() if name else ""


def _stamps_of(manifest: Path) -> Iterator[tuple[str, str]]:
    yield MANIFEST, _stamp(manifest)
    for line in manifest_lines(manifest):
        if name := listed_picture(line.decode("utf-8", "surrogateescape")):
            yield name, _stamp(manifest.parent / name)


def _walk(root: Path, cache: Path | None, unread: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Stamps of pictures, and of sidecars of which a picture has the stem: other texts have nothing to do with the set.

    Links are followed, but no folder is entered twice. Runs that lie in the folder hold pictures of their own, and
    change while they go on.
    """

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # another program has just removed it: nothing is left out
            unread[Path(error.filename).relative_to(root).as_posix()] = error.strerror or str(error)

    entered: set[tuple[int, int]] = set()
    for place_of_its_own in filter(None, (root, cache)):
        _is_first_visit(place_of_its_own, entered)
    for place, folders, names in os.walk(root, onerror=note, followlinks=True):
        if {RUN_FILE, CONFIG_FILE} <= set(names) and Path(place) != root:  # `run.json` alone may be tags of run.jpg
            folders.clear()
            continue
        folders[:] = [f for f in sorted(folders) if not f.startswith(".") and _is_first_visit(Path(place, f), entered)]
        suffixes = {name: _suffix(name) for name in names if not name.startswith(".")}
        stems = {without_suffix(name) for name, suffix in suffixes.items() if suffix in SUFFIXES}
        below = Path(place).relative_to(root)
        for name, suffix in suffixes.items():
            if suffix in SUFFIXES or (suffix in _SIDECARS and without_suffix(name) in stems):
                yield (below / name).as_posix(), _stamp(Path(place, name))


def _is_first_visit(folder: Path, entered: set[tuple[int, int]]) -> bool:
    """Whether a folder was not entered before, by whatever path; from now on it was."""
    try:
        status = folder.stat()
    except OSError:
        return True  # listing it says what is wrong with it
    place = status.st_dev, status.st_ino
    is_first = place not in entered
    entered.add(place)
    return is_first


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _MISSING  # a dangling link, a share that is away: reading it says so, with its name
    locked = "" if os.access(path, os.R_OK) else " locked"
    return f"{status.st_size} {status.st_mtime_ns}{locked}"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
