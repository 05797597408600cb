"""Folders that are built once, whole or not at all."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from workers.disk import sync
from workers.errors import DataError, RunError
from workers.file_lock import await_lock
from workers.refused_write import NO_ROOM, refused_write

ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and out of how much (0: unknown)."""

_LOCK_LIMIT_S = 3600.0
_LOCK_POLL_S = 0.2


def key_of(*parts: Any) -> str:
    """A short name for whatever determines the content of a folder."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def damaged(path: Path, why: object) -> DataError:
    """What is wrong with a file of a folder that was built once, or with the folder itself, and what to do."""
    folder = path if path.is_dir() else path.parent
    return DataError(f"prepared data are damaged: {path}: {why}. Remove {folder}: it is made again.")


def build_once(folder: Path, build: Callable[[Path], None], progress: ProgressCallback) -> Path:
    """Return `folder`, building it first if it is not there.

    `build` fills a temporary folder beside it, which is synchronised to the disk and renamed: whoever sees `folder`
    sees all of it. After a kill midway the next builder starts afresh.

    Concurrency: builders of one folder take turns by a file lock, which the system frees when its holder dies.

    Raises:
        DataError: the place cannot be written, or another process has been building for an hour.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder, progress):
            if not folder.is_dir():
                _build_and_rename(folder, build)
    except (OSError, RunError) as e:
        why = str(e).removesuffix(".")
        if isinstance(e, OSError) and (e.filename is None or e.errno in NO_ROOM):
            why = refused_write(e, folder)
        place = "Choose another place with --cache-dir or $HYBRID_CACHE."
        raise DataError(f"cannot write the cache of prepared data at {folder.parent}: {why}. {place}") from e
    return folder


def _build_and_rename(folder: Path, build: Callable[[Path], None]) -> None:
    for stale in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        build(partial)
        for path in [*sorted(partial.iterdir()), partial]:
            sync(path)
        partial.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(folder: Path, progress: ProgressCallback) -> Iterator[None]:
    """Hold the lock of `folder`; the lock file stays behind, because removing it would let two holders in."""
    fd = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        told = partial(progress, "waiting for another process that prepares the same data", 0, 0)
        if not await_lock(fd, limit_s=_LOCK_LIMIT_S, pause_s=_LOCK_POLL_S, waiting=told):
            minutes = f"{_LOCK_LIMIT_S / 60:.0f} minutes"
            raise DataError(f"another process has been preparing {folder} for {minutes}; is it stuck?")
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough while a process forked meanwhile holds the file open
        os.close(fd)
