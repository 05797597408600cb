"""Compiled kernels on the disk: saved in turn, found again, and done without where a file or the disk is bad."""

import errno
import fcntl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from workers import kernel_files
from workers.jit import JIT_ENABLED
from workers.kernel_files import keep_on_disk

needs_compiler = pytest.mark.skipif(not JIT_ENABLED, reason="nothing is cached")


@pytest.fixture(autouse=True)
def fresh_warnings() -> Iterator[None]:
    """Each is said once in a process."""
    for warn in (kernel_files.warn_of_no_cache, kernel_files._warn_of_bad_file, kernel_files._warn_of_full_disk):
        warn.cache_clear()
    yield


def _cache(directory: Path, saved: list[Any]) -> Any:
    """Numba's cache of a function, as far as saving in turn has to do with it."""
    files = IndexDataCacheFile(str(directory), "module.function-1.py311", "stamp")
    cache = SimpleNamespace(save_overload=lambda *kernel: saved.append(kernel), _cache_file=files)
    kernel_files._save_in_turn(cache, directory)
    return cache


def _is_locked(directory: Path) -> bool:
    with (directory / "save.lock").open("a") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_kernels_are_saved_in_turn(tmp_path: Path) -> None:
    """Numba reads a function's index, gives a kernel a number and writes both: two at once would give one twice."""
    held = []
    cache = SimpleNamespace(save_overload=lambda *kernel: held.append((kernel, _is_locked(tmp_path))))
    cache._cache_file = IndexDataCacheFile(str(tmp_path), "module.function-1.py311", "stamp")
    kernel_files._save_in_turn(cache, tmp_path)
    cache.save_overload("types", "code")
    assert held == [(("types", "code"), True)] and not _is_locked(tmp_path)


def test_a_kernel_is_not_saved_where_somebody_keeps_the_lock_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved: list[Any] = []
    cache = _cache(tmp_path, saved)
    monkeypatch.setattr(kernel_files, "_LOCK_LIMIT_S", 0.0)
    monkeypatch.setattr(kernel_files, "_was_kept_for_long", threading.Event())
    with (tmp_path / "save.lock").open("a") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        cache.save_overload("types", "code")
        monkeypatch.setattr(kernel_files, "_LOCK_LIMIT_S", 1e9)
        cache.save_overload("other types", "code")  # waits no second time
    assert saved == [] and "could not be cached" in caplog.text and "too long" in caplog.text
    cache.save_overload("types", "code")
    assert saved == [("types", "code")]


def test_a_kernel_is_not_saved_where_files_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes could store their kernels under each other's types."""

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    saved: list[Any] = []
    cache = _cache(tmp_path, saved)
    monkeypatch.setattr(fcntl, "flock", refuse)
    cache.save_overload("types", "code")
    cache.save_overload("other types", "code")
    assert saved == [] and caplog.text.count("could not be cached") == 1 and "No locks available" in caplog.text


def test_a_number_is_not_given_again_while_its_old_file_is_there(tmp_path: Path) -> None:
    """Who reads between the two writes would run the old kernel for the new one's types."""
    files = IndexDataCacheFile(str(tmp_path), "module.function-1.py311", "stamp")
    files.save("types", "code")
    (named,) = tmp_path.glob("*.nbc")
    unnamed, foreign = (tmp_path / f"module.{name}.nbc" for name in ("function-1.py311.2", "function-11.py311.2"))
    unnamed.touch()
    foreign.touch()
    kernel_files._remove_unnamed(files)
    assert set(tmp_path.glob("*.nb?")) == {Path(files._index_path), named, foreign}
    Path(files._index_path).write_bytes(b"")
    kernel_files._remove_unnamed(files)
    assert set(tmp_path.glob("*.nb?")) == {foreign}


def test_an_index_that_the_disk_refuses_to_give_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be whole: too many open files, say."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    files = IndexDataCacheFile(str(tmp_path), "module.function-1.py311", "stamp")
    files.save("types", "code")
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(files, "_load_index", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        kernel_files._remove_unnamed(files)
    assert set(tmp_path.iterdir()) == before and len(before) == 2


def _kept(directory: Path) -> Any:
    """A function that is not compiled yet in this process, as far as it knows."""

    def double(number):
        return number + number

    compiled = numba.njit(double)
    keep_on_disk(compiled, directory)
    return compiled


def _was_loaded(compiled: Any) -> bool:
    assert compiled(21) == 42
    return bool(sum(compiled._cache_hits.values()))


@needs_compiler
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("left", [0, 30])
def test_a_file_that_breaks_off_is_compiled_and_saved_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, left: int
) -> None:
    assert not _was_loaded(_kept(tmp_path)) and _was_loaded(_kept(tmp_path))
    (file,) = tmp_path.rglob(f"*.{kind}")
    file.write_bytes(file.read_bytes()[:left])
    assert not _was_loaded(_kept(tmp_path))
    assert caplog.text.count("cannot be read") == 1 and str(tmp_path) in caplog.text
    assert _was_loaded(_kept(tmp_path))


@needs_compiler
def test_kernels_are_kept_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where our directory takes no file Numba would keep them beside the sources, stamped by one of these alone."""
    ours, make_file = tmp_path / "ours", tempfile.TemporaryFile

    def refuse_ours(*arguments: Any, **named: Any) -> Any:
        if str(named["dir"]).startswith(str(ours)):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return make_file(*arguments, **named)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse_ours)
    compiled = _kept(ours)
    assert compiled._cache.cache_path is None and compiled(21) == 42
    assert _kept(tmp_path / "other")._cache.cache_path.startswith(str(tmp_path / "other"))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **named: refuse_ours(dir=ours))
    assert _kept(ours)._cache.cache_path is None, "no place at all"
    assert caplog.text.count("not cached") == 1 and str(ours) in caplog.text
