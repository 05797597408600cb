"""Processes that work on pictures report, fail and die as their parent expects."""

import errno
import multiprocessing
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.data.cache import build_once
from hybrid.data.pool import run_in_processes
from hybrid.data.prepare import silent
from workers.errors import DataError

LIMIT_S = 30


def test_every_task_is_done_once() -> None:
    assert sorted(run_in_processes(lambda task: task * task, range(100))) == [task * task for task in range(100)]
    assert list(run_in_processes(str, [])) == []


def test_errors_come_back() -> None:
    def fail(task: int) -> int:
        raise DataError(f"task {task}")

    with pytest.raises(DataError, match="task 7"):
        list(run_in_processes(fail, [7]))


def test_a_full_shared_memory_is_named_and_not_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hybrid.data.pool.ProcessPoolExecutor", refuse)
    with pytest.raises(DataError, match=r"^cannot start processes.*No space left.*/dev/shm"):
        build_once(tmp_path / "thing", lambda target: list(run_in_processes(str, [1])), silent)


def test_processes_that_cannot_be_forked_are_named_and_those_that_were_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, forked = os.fork, []

    def fork_once() -> int:
        if forked:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if pid := fork():
            forked.append(pid)
        return pid

    monkeypatch.setattr("hybrid.data.pool.num_processes", lambda: 3)
    monkeypatch.setattr("os.fork", fork_once)
    with pytest.raises(DataError, match=r"^cannot start processes.*temporarily unavailable.*3 processes"):
        build_once(tmp_path / "thing", lambda target: list(run_in_processes(str, [1])), silent)
    for process in multiprocessing.active_children():
        process.join(LIMIT_S)
    assert len(forked) == 1 and forked[0] not in {process.pid for process in multiprocessing.active_children()}


def test_a_killed_process_is_an_error_not_a_hang() -> None:
    with pytest.raises(DataError, match="killed"):
        list(run_in_processes(lambda task: os.kill(os.getpid(), signal.SIGKILL), range(3)))


def _wait_in_vain() -> None:
    with pytest.raises(DataError, match="no task on the pictures was done within"):
        list(run_in_processes(lambda task: signal.pause(), range(3)))


def test_tasks_that_never_end_are_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.data.pool._TASK_LIMIT_S", 0.2)
    parent = multiprocessing.get_context("fork").Process(target=_wait_in_vain)
    parent.start()
    parent.join(LIMIT_S)
    has_ended = not parent.is_alive()
    parent.kill()
    assert has_ended and parent.exitcode == 0


def _parent_of_sleepers(report_fd: int) -> None:
    def report_and_sleep(task: int) -> None:
        os.write(report_fd, b"x")
        signal.pause()

    list(run_in_processes(report_and_sleep, range(1)))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)


def test_children_die_with_their_parent(pipe: tuple[int, int]) -> None:
    """All descendants hold the writing end: its end of file is seen only when the last of them is gone."""
    read_fd, write_fd = pipe
    parent = multiprocessing.get_context("fork").Process(target=_parent_of_sleepers, args=(write_fd,))
    parent.start()
    os.close(write_fd)
    assert select.select([read_fd], [], [], LIMIT_S)[0] and os.read(read_fd, 1) == b"x"
    assert parent.pid is not None
    os.kill(parent.pid, signal.SIGKILL)
    parent.join(LIMIT_S)
    assert select.select([read_fd], [], [], LIMIT_S)[0] and os.read(read_fd, 1) == b""
