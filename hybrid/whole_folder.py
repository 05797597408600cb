"""Folders that appear whole or not at all."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.disk import make_folder, sync

_UNFINISHED, _REPLACED = ".unfinished-", ".replaced-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of linux/fcntl.h and linux/fs.h

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A fresh folder beside `place`, which takes its name once everything in it is written and synced.

    A kill at any moment leaves the folder that was there before, or the new one. What an earlier writer left behind
    when it was killed is removed first; so a place has one writer. The folder around it is made if it is missing.

    On a file system that cannot exchange two names the folder that was there before is `.replaced-NAME` for an instant.
    After a kill in that instant the next writer gives it its name back; until then `where_whole` finds it.

    Raises:
        OSError: it cannot be made or renamed; `place` is as it was.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _settle_replaced(place.parent)
    for left_behind in place.parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    fresh = make_folder(place.parent, _UNFINISHED)
    try:
        yield fresh
        sync(fresh)
        _take_name(fresh, place)
        sync(place.parent)
    finally:
        _settle_replaced(place.parent)
        shutil.rmtree(fresh, ignore_errors=True)


def where_whole(place: Path) -> Path:
    """Where a reader finds what `whole_folder` wrote: at `place`, or where a writer that was killed has left it.

    **Concurrency**: nothing is renamed, for that would be in the way of a writer that lives. Beside one the folder may
    be gone in the next instant, as any that is replaced; files that are open or mapped stay.
    """
    aside = _aside(place)
    return aside if not place.exists() and aside.is_dir() else place


def _take_name(fresh: Path, place: Path) -> None:
    """Afterwards a folder that had the name before is under the fresh one's, or under `.replaced-NAME`, or gone."""
    if not place.exists():
        fresh.rename(place)
    elif not _exchange(fresh, place):  # this file system cannot: for an instant neither has the name
        place.rename(_aside(place))
        fresh.rename(place)


def _aside(place: Path) -> Path:
    return place.with_name(f"{_REPLACED}{place.name}")


def _settle_replaced(parent: Path) -> None:
    """A folder that nothing has replaced after all gets its name back; others go."""
    for aside in parent.glob(f"{_REPLACED}*"):
        place = aside.with_name(aside.name.removeprefix(_REPLACED))
        if place.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(place)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False if kernel, C library or file system cannot."""
    rename = getattr(_libc, "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
