"""The files in which Numba keeps a function's compiled kernels, for processes that may die or meet a bad disk.

    NAME.nbi      the index: which data file belongs to which types of arguments
    NAME.1.nbc    the kernel that was compiled first; NAME.2.nbc ...

Numba writes the index first. What holds all the same, whoever dies when: a data file is that of the types for which the
index names it, or is not there, or cannot be read. For a kernel is saved by one process at a time, and a number is
given only when no older file of that number is left.
"""

import errno
import functools
import logging
import threading
from pathlib import Path
from typing import Any

import numba

from workers.file_lock import await_lock

_LOCK_FILE = "save.lock"
_LOCK_LIMIT_S = 10.0
_LOCK_PAUSE_S = 0.01
_was_kept_for_long = threading.Event()
"""A process waits for that lock once, not for each of its many kernels."""

_config: Any = numba.config  # its names are made at run time
_log = logging.getLogger(__name__)


def keep_on_disk(compiled: Any, directory: Path) -> None:
    """Have Numba load a function's kernels from this directory and save them there, if it can.

    Where it cannot it would take another place, whose kernels may be those of other sources: then they are not kept.
    """
    not_kept, previous = compiled._cache, _config.CACHE_DIR
    _config.CACHE_DIR = str(directory)  # Numba reads it while it looks for a place; other kernels keep theirs
    try:
        compiled.enable_caching()
        is_there = Path(compiled._cache.cache_path).is_relative_to(directory)
    except RuntimeError:  # no place at all
        is_there = False
    finally:
        _config.CACHE_DIR = previous
    if is_there:
        _load_what_can_be_read(compiled._cache, directory)
        _save_in_turn(compiled._cache, directory)
    else:
        compiled._cache = not_kept
        warn_of_no_cache(f"Numba can make no file in {directory}, or was told to use another place")


@functools.cache
def warn_of_no_cache(why: str) -> None:
    """Say once that kernels are not kept."""
    _log.warning("compiled kernels are not cached, so every worker compiles them again: %s. Set HYBRID_CACHE.", why)


def _load_what_can_be_read(cache: Any, directory: Path) -> None:
    """A file that breaks off (a machine that lost its power leaves such) is as good as none: its kernel is compiled."""
    load = cache.load_overload

    def load_if_possible(*kernel: Any) -> Any:
        try:
            return load(*kernel)
        except Exception as error:  # noqa: BLE001 - whatever half a file leads to
            _warn_of_bad_file(directory, type(error).__name__)
            return None

    cache.load_overload = load_if_possible


def _save_in_turn(cache: Any, directory: Path) -> None:
    """One process saves at a time; a kernel that cannot be kept on disk is used all the same."""
    save = cache.save_overload

    def save_if_possible(*kernel: Any) -> None:
        try:
            with (directory / _LOCK_FILE).open("a") as lock:
                _lock(lock.fileno())
                _remove_unnamed(cache._cache_file)
                save(*kernel)
        except OSError as error:
            _warn_of_full_disk(error.strerror or str(error))  # no file name: once, not for each kernel

    cache.save_overload = save_if_possible


def _lock(fd: int) -> None:
    """Take the lock.

    Raises:
        OSError: files cannot be locked here; or somebody has kept it for too long, who may have been stopped in the
            middle.
    """
    limit_s = 0.0 if _was_kept_for_long.is_set() else _LOCK_LIMIT_S
    if not await_lock(fd, limit_s=limit_s, pause_s=_LOCK_PAUSE_S):
        _was_kept_for_long.set()
        raise OSError(errno.EWOULDBLOCK, "another process has been writing there for too long")


def _remove_unnamed(files: Any) -> None:
    """Remove data files that the index does not name; then the index itself, if it cannot be read.

    Raises:
        OSError: the disk does not let it be read, or them be removed.
    """
    index, named, is_bad = Path(files._index_path), set(), False
    try:
        named = set(files._load_index().values())
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - whatever half a file leads to; loading it has said so
        is_bad = True
    for data in index.parent.glob(f"{index.stem}.*.nbc"):
        if data.name not in named:
            data.unlink(missing_ok=True)
    if is_bad:
        index.unlink(missing_ok=True)


@functools.cache
def _warn_of_bad_file(directory: Path, error: str) -> None:
    _log.warning("a compiled kernel in %s cannot be read (%s): it is compiled again", directory, error)


@functools.cache
def _warn_of_full_disk(why: str) -> None:
    _log.warning("a compiled kernel could not be cached, the next worker compiles it again: %s", why)
