"""Workers that start together compile one after the other, and never wait for each other without a limit."""

import errno
import fcntl
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from workers import warm_up


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock file of an empty cache."""
    monkeypatch.setattr(warm_up, "cache_directory", lambda: tmp_path)
    return tmp_path / "warm-up.lock"


def _is_free(lock: Path, kind: int) -> bool:
    with lock.open("a") as file:
        return warm_up._lock(file.fileno(), kind)


def test_first_one_compiles_alone(lock: Path) -> None:
    seen = []
    warm_up.warm_up_in_turn(lambda: seen.append((_is_free(lock, fcntl.LOCK_EX), _is_free(lock, fcntl.LOCK_SH))))
    assert seen == [(False, False)] and _is_free(lock, fcntl.LOCK_EX)


def test_others_load_together_when_it_is_done(lock: Path) -> None:
    warm_up.warm_up_in_turn(lambda: None)
    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        seen = []
        warm_up.warm_up_in_turn(lambda: seen.append(_is_free(lock, fcntl.LOCK_SH)))
    assert seen == [True]


def test_on_nfs_nobody_goes_on_while_the_first_one_has_the_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There flock is emulated by locks that need a file opened for reading to share, for writing to have it alone."""
    really = fcntl.flock

    def flock(fd: int, how: int) -> None:
        if how & fcntl.LOCK_SH and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        really(fd, how)

    warm_up.warm_up_in_turn(lambda: None)  # leaves its mark
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(warm_up, "_TURN_LIMIT_S", 0.01)
    waits: list[float] = []
    monkeypatch.setattr(warm_up.time, "sleep", waits.append)
    with lock.open("a") as other:
        really(other, fcntl.LOCK_EX)
        warm_up.warm_up_in_turn(lambda: None)
    assert waits


def test_one_that_dies_lets_the_next_one_compile(lock: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            warm_up.warm_up_in_turn(lambda: os._exit(1))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    seen = []
    warm_up.warm_up_in_turn(lambda: seen.append(True))
    assert seen == [True]


def test_of_two_that_wait_for_one_that_fails_one_compiles_and_the_other_loads(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though an earlier start has left its mark."""
    warm_up.warm_up_in_turn(lambda: None)
    both_wait, mine = threading.Barrier(3, timeout=60), threading.local()

    def sleep(seconds: float) -> None:
        if hasattr(mine, "has_waited"):
            time.sleep(seconds)
        else:
            mine.has_waited = True
            both_wait.wait()

    monkeypatch.setattr(warm_up, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    seen: list[bool] = []
    both: list[Future[None]] = []

    def fail() -> None:
        for _ in range(2):
            both.append(threads.submit(warm_up.warm_up_in_turn, lambda: seen.append(_is_free(lock, fcntl.LOCK_SH))))
        both_wait.wait()
        raise MemoryError

    with ThreadPoolExecutor(2) as threads:
        with pytest.raises(MemoryError):
            warm_up.warm_up_in_turn(fail)
        for one in both:
            one.result(timeout=60)
    assert seen == [False, True]


def test_one_that_hangs_is_not_waited_for_without_limit(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "_TURN_LIMIT_S", 0.01)
    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        seen = []
        warm_up.warm_up_in_turn(lambda: seen.append(True))
    assert seen == [True]


def test_where_files_cannot_be_locked_nobody_waits(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(warm_up.time, "sleep", lambda seconds: pytest.fail("waited"))
    seen: list[bool] = []
    warm_up.warm_up_in_turn(lambda: seen.append(True))
    assert seen == [True]


def test_without_a_cache_everybody_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "cache_directory", lambda: None)
    seen = []
    warm_up.warm_up_in_turn(lambda: seen.append(True))
    assert seen == [True]
