"""Folders that appear whole or not at all."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.disk import sync

_UNFINISHED = ".unfinished-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of linux/fcntl.h and linux/fs.h

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A fresh folder beside `place`, which takes its name once everything in it is written and synced.

    A kill at any moment leaves the folder that was there before, or the new one. What an earlier writer left behind
    when it was killed is removed first; so a place has one writer. The folder around it is made if it is missing.

    Raises:
        OSError: it cannot be made or renamed; `place` is as it was.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    for left_behind in place.parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=place.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        sync(fresh)
        _take_name(fresh, place)
        sync(place.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _take_name(fresh: Path, place: Path) -> None:
    """Afterwards a folder that had the name before is under the fresh one's, or gone."""
    if not place.exists():
        fresh.rename(place)
    elif not _exchange(fresh, place):  # this file system cannot: for an instant neither has the name
        aside = fresh.with_name(f"{fresh.name}-replaced")
        place.rename(aside)
        fresh.rename(place)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False if kernel, C library or file system cannot."""
    rename = getattr(_libc, "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
