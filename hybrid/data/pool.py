"""Forked processes for work on many pictures, which never outlive their parent."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from workers.cores import available_cores
from workers.errors import DataError

T = TypeVar("T")
R = TypeVar("R")

_PR_SET_PDEATHSIG = 1
_TASK_LIMIT_S = 1800.0
_TASKS_AHEAD = 4


def num_processes() -> int:
    """As many as the cores that this process may use, at most 16."""
    return min(available_cores(), 16)


def not_started(error: OSError) -> str:
    """Why processes for pictures cannot be had."""
    needs = "a few small files in /dev/shm (is it there, may you write to it, is it full?)"
    limits = f"memory, and up to {num_processes()} processes (ulimit -u, or the limit of the container)"
    return f"cannot start processes that prepare pictures: {error}. They need {needs}, {limits}."


def run_in_processes(function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """Results of `function` for each task, in the order in which they are done.

    Forked rather than spawned: a fresh interpreter would import this package's heavy libraries once more per process.
    The children only decode pictures or parse text, so no lock of the parent's threads concerns them.

    Raises:
        DataError: the processes cannot be started, one of them died, or no task is done for half an hour; then they are
            killed.
    """
    context = multiprocessing.get_context("fork")
    workers = num_processes()
    try:
        made = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(os.getpid(), function))
    except OSError as e:
        raise DataError(not_started(e)) from e
    with made as pool:
        queue = iter(tasks)
        running: set[Future[R]] = set()
        try:
            while True:
                while len(running) < _TASKS_AHEAD * workers and (task := next(queue, pool)) is not pool:
                    running.add(_submit(pool, task))
                if not running:
                    return
                done, running = wait(running, timeout=_TASK_LIMIT_S, return_when=FIRST_COMPLETED)
                if not done:
                    _kill(pool)
                    raise DataError(
                        f"no task on the pictures was done within {_TASK_LIMIT_S / 60:.0f} minutes; is the disk stuck?"
                    )
                for future in done:
                    yield future.result()
        except BrokenProcessPool as e:
            raise DataError(
                "a process that decodes pictures was killed, perhaps for want of memory; free some and try again."
            ) from e
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, task: Any) -> Future[Any]:
    """Give it a task; the first one starts the processes.

    Raises:
        DataError: they cannot be started.
    """
    try:
        return pool.submit(_work, task)
    except OSError as e:
        _kill(pool)  # those that were started would wait for tasks for ever
        raise DataError(not_started(e)) from e


def _kill(pool: ProcessPoolExecutor) -> None:
    """End its processes, which leaving it would wait for, as would the end of this interpreter."""
    for process in list(pool._processes.values()):
        process.kill()


_function: Callable[
    [Any], Any
]  # of a child: inherited by fork, since the pictures and names inside would be pickled per task


def _start(parent: int, function: Callable[[Any], Any]) -> None:
    """Have the system end this process with its parent; the terminal's Ctrl-C is the parent's business alone."""
    global _function
    _function = function
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:
        os._exit(1)


def _work(task: Any) -> Any:
    return _function(task)
