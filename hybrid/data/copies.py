"""Pictures that show the same, told by their names or their bytes."""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from hybrid.data.cache import ProgressCallback
from hybrid.data.images import is_trouble_of_the_machine, not_read_now
from hybrid.data.listing import without_suffix

_END_BYTES = 4096
_NAMES_PER_REPORT = 1000


def split_keys(root: Path, names: Sequence[str], progress: ProgressCallback) -> list[str]:
    """A key for each picture, which those that show the same share: a split keeps them on one side.

    These are pictures of one name but for the suffix, and files with the same bytes. If one of a name is a copy of one
    of another, all of both names have the key of the first.

    Args:
        root: folder of the pictures.
        names: paths below it.
        progress: told how many files were looked at.

    Raises:
        DataError: a file could not be read for trouble of the machine, not of the file.
    """
    first: dict[str, str] = {}

    def key_of_name(name: str) -> str:
        key = without_suffix(name)
        while key in first:
            key = first[key]
        return key

    for copies in _copies(root, names, progress):
        key, *others = sorted({key_of_name(name) for name in copies})
        first.update(dict.fromkeys(others, key))
    return [key_of_name(name) for name in names]


def _copies(root: Path, names: Sequence[str], progress: ProgressCallback) -> list[list[str]]:
    """Groups of files with the same bytes: only those of equal size and equal end are read as a whole."""
    groups = [list(names)]
    for look in (_size, _end, _content):
        done, total = 0, sum(map(len, groups))
        finer: list[list[str]] = []
        for group in groups:
            alike: dict[object, list[str]] = {}
            for name in group:
                if done % _NAMES_PER_REPORT == 0:
                    progress("looking for copies", done, total)
                done += 1
                _put(alike, look, root / name, name)
            finer += [same for same in alike.values() if len(same) > 1]
        groups = finer
    return groups


def _put(alike: dict[object, list[str]], look: Callable[[Path], object], path: Path, name: str) -> None:
    """Put a name to those that look the same; a file that cannot be read is no copy, decoding says what is wrong."""
    try:
        alike.setdefault(look(path), []).append(name)
    except (OSError, ValueError) as e:
        if is_trouble_of_the_machine(e):
            raise not_read_now(path, e) from e


def _size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")  # opening a pipe could wait for ever
    return status.st_size


def _end(path: Path) -> bytes:
    """Pictures differ at their ends, while many begin with the same header."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _END_BYTES))
        return hashlib.blake2b(file.read(_END_BYTES)).digest()


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
