"""The pool: real processes that are started, replaced, scaled and ended."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_system import LIMIT_S, private_endpoint, small_matrix, until, wait_for_exit

from workers import crash_loops
from workers.config import MAX_WORKERS
from workers.errors import ConfigError, WorkerLost
from workers.lifeline import TERMINATED_STATUS
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.pooled_worker import PooledWorker
from workers.worker_log import WorkerLog
from workers.worker_stats import SERVED, WARM_UP_NS


@pytest.fixture(scope="module")
def matrix() -> Iterator[TagMatrix]:
    """Workers only map it here."""
    with small_matrix() as matrix:
        yield matrix


@pytest.fixture
def pool(matrix: TagMatrix) -> Iterator[WorkerPool]:
    """One worker, nobody at the endpoint."""
    with private_endpoint() as endpoint:
        pool = WorkerPool(matrix, endpoint, 1)
        yield pool
        pool.close()


def _names(pool: WorkerPool) -> list[str]:
    return [worker.name for worker in pool.workers]


def _be_ready(matrix: TagMatrix) -> None:
    """As workers say whose kernels are ready; here nobody tells them what to compile."""
    matrix.worker_stats_WS[:, WARM_UP_NS] += 1


def _poll_until_lost(pool: WorkerPool, num_lost: int) -> list[str]:
    lost: list[str] = []
    until(lambda: len(lost) >= num_lost, lambda: lost.extend(pool.poll()))
    return lost


def test_killed_worker_is_named_and_replaced(pool: WorkerPool) -> None:
    assert _names(pool) == ["worker-0-1"] and pool.poll() == []
    pool.kill("worker-0-1")
    assert _poll_until_lost(pool, 1) == ["worker-0-1"] and pool.place_of("worker-0-1") == "filled"
    assert _names(pool) == ["worker-0-2"] and pool.poll() == []


def test_worker_killed_by_somebody_else_is_replaced(pool: WorkerPool) -> None:
    os.kill(pool.workers[0].pid, signal.SIGKILL)
    assert _poll_until_lost(pool, 1) == ["worker-0-1"]
    assert _names(pool) == ["worker-0-2"]


def test_a_place_whose_worker_cannot_be_started_now_is_filled_later(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as crowded:
        crowded.setattr(subprocess, "Popen", fail)
        pool.kill("worker-0-1")
        assert _poll_until_lost(pool, 1) == ["worker-0-1"]
        assert pool.poll() == [] and _names(pool) == []
        with pytest.raises(WorkerLost, match=r"worker 0 cannot be started: .*Resource temporarily unavailable"):
            pool.scale(2)
    assert pool.poll() == [] and [worker.index for worker in pool.workers] == [0]
    pool.scale(2)
    assert [worker.index for worker in pool.workers] == [0, 1]


def test_killing_nobody_is_harmless(pool: WorkerPool) -> None:
    pool.kill("worker-7-1")
    assert pool.poll() == [] and _names(pool) == ["worker-0-1"]


def test_scaling_up_by_more_than_can_be_started_leaves_as_many_as_before(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = subprocess.Popen, []

    def fail_at_the_third(*arguments: object, **named: object) -> object:
        if len(started) == 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(start(*arguments, **named))  # type: ignore[call-overload]
        return started[-1]

    before = _names(pool)
    with monkeypatch.context() as crowded:
        crowded.setattr(subprocess, "Popen", fail_at_the_third)
        with pytest.raises(WorkerLost, match=r"worker \d cannot be started"):
            pool.scale(len(before) + 3)
    assert [worker.name for worker in pool.workers if not worker.is_leaving] == before
    for process in started:
        process.wait(LIMIT_S)
    assert pool.poll() == [] and _names(pool) == before


def test_scale_up_takes_free_places_and_scale_down_names_the_last(pool: WorkerPool) -> None:
    assert pool.scale(3) == []
    assert _names(pool) == ["worker-0-1", "worker-1-1", "worker-2-1"]
    assert pool.scale(1) == ["worker-1-1", "worker-2-1"] and pool.scale(1) == []
    assert [worker.is_leaving for worker in pool.workers] == [False, True, True]
    assert pool.scale(2) == []  # places of those that leave are still theirs
    assert [w.name for w in pool.workers if not w.is_leaving] == ["worker-0-1", "worker-3-1"]


def test_more_workers_than_have_a_place_are_refused_as_a_whole(pool: WorkerPool, monkeypatch) -> None:
    monkeypatch.setattr("workers.pool.MAX_WORKERS", 3)
    pool.scale(3)
    pool.scale(1)  # the others may still be leaving
    with pytest.raises(ConfigError, match="workers = 3, but it must be at most 1 until"):
        pool.scale(3)
    assert len(_names(pool)) == 3
    until(lambda: _names(pool) == ["worker-0-1"], pool.poll)
    pool.scale(3)
    assert len([w for w in pool.workers if not w.is_leaving]) == 3


def test_worker_that_is_still_starting_leaves_at_once_and_in_order(pool: WorkerPool) -> None:
    pool.scale(3)
    assert pool.scale(1) == ["worker-1-1", "worker-2-1"]
    lost: list[str] = []
    until(lambda: _names(pool) == ["worker-0-1"], lambda: lost.extend(pool.poll()))
    assert lost == []


def test_leaving_worker_that_dies_is_named_but_not_replaced(pool: WorkerPool, matrix: TagMatrix) -> None:
    pool.scale(2)
    _be_ready(matrix)
    assert pool.scale(1) == ["worker-1-1"]
    pool.kill("worker-1-1")
    assert _poll_until_lost(pool, 1) == ["worker-1-1"] and pool.place_of("worker-1-1") == "given up"
    assert _names(pool) == ["worker-0-1"]


@pytest.mark.parametrize(
    ("status", "was_ready", "lost"),
    [
        (0, True, []),
        (TERMINATED_STATUS, True, ["worker-1-1"]),
        (-signal.SIGTERM, True, ["worker-1-1"]),
        (TERMINATED_STATUS, False, []),
        (-signal.SIGTERM, False, []),
        (1, False, ["worker-1-1"]),
    ],
)
def test_leaving_worker_is_named_unless_it_said_so_or_never_held_a_chunk(
    pool: WorkerPool, matrix: TagMatrix, status: int, was_ready: bool, lost: list[str]
) -> None:
    pool.scale(2)
    pool.scale(1)
    (leaving,) = (worker for worker in pool.workers if worker.is_leaving)
    leaving.process.kill()
    leaving.process.wait(LIMIT_S)
    leaving.process.returncode = status
    if was_ready:
        _be_ready(matrix)
    assert pool.poll() == lost
    assert _names(pool) == ["worker-0-1"]


def test_worker_that_does_not_leave_is_killed(
    pool: WorkerPool, matrix: TagMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.pool._LEAVE_LIMIT_S", -1.0)
    pool.scale(2)
    _be_ready(matrix)
    pool.scale(1)
    assert _poll_until_lost(pool, 1) == ["worker-1-1"]
    assert _names(pool) == ["worker-0-1"]


def test_worker_that_leaves_has_time_as_long_as_it_answers_what_it_holds(
    pool: WorkerPool, matrix: TagMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.pool._LEAVE_LIMIT_S", -1.0)
    pool.scale(2)
    _be_ready(matrix)
    pool.scale(1)
    for _ in range(20):
        matrix.worker_stats_WS[1, SERVED] += 1
        assert pool.poll() == []
    assert _poll_until_lost(pool, 1) == ["worker-1-1"]


def test_worker_that_was_given_up_is_named_even_if_it_leaves_in_order(pool: WorkerPool, matrix: TagMatrix) -> None:
    """It may have woken before the signal came; whoever waits for its name holds what it held."""
    pool.scale(2)
    _be_ready(matrix)
    pool.scale(1)
    (leaving,) = (worker for worker in pool.workers if worker.is_leaving)
    pool.kill(leaving.name)
    leaving.process.wait(LIMIT_S)
    leaving.process.returncode = 0
    assert pool.poll() == ["worker-1-1"]


@pytest.mark.parametrize("num_workers", [0, -1, MAX_WORKERS + 1])
def test_impossible_sizes_are_refused(pool: WorkerPool, matrix: TagMatrix, num_workers: int) -> None:
    with pytest.raises(ConfigError, match="workers = "):
        pool.scale(num_workers)
    with pytest.raises(ConfigError, match="workers = "):
        WorkerPool(matrix, "ipc:///nowhere", num_workers)
    assert _names(pool) == ["worker-0-1"]


def test_crash_loop_ends_with_the_last_words(matrix: TagMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_loops, "WINDOW_S", 3600.0)  # on a busy machine each death may take a while
    pool = WorkerPool(matrix, "carrier-pigeon://loft", 1)
    try:
        with pytest.raises(WorkerLost, match=r"(?s)served nothing.*status 1 .*Protocol not supported"):
            _poll_until_lost(pool, 1000)
        with pytest.raises(WorkerLost):
            pool.poll()
    finally:
        pool.close()


def test_there_is_hope_as_long_as_one_worker_is_ready(matrix: TagMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves nothing while the trunk submits nothing (it saves, say), and others die as soon as they are started."""
    monkeypatch.setattr(crash_loops, "_DEATHS", 0)
    pool = WorkerPool(matrix, "carrier-pigeon://loft", 1)
    try:
        idle = subprocess.Popen(["sleep", str(LIMIT_S)])
        pool._workers["worker-1-1"] = PooledWorker("worker-1-1", 1, idle, WorkerLog(None, 1), earlier_warm_up_ns=-1)
        assert _poll_until_lost(pool, 4) == [f"worker-0-{death}" for death in range(1, 5)]
        pool.workers[-1].earlier_warm_up_ns = int(matrix.worker_stats_WS[1, WARM_UP_NS])
        with pytest.raises(WorkerLost, match="no other is ready"):  # this one is still starting, too
            _poll_until_lost(pool, 1)
    finally:
        pool.close()


def test_a_place_whose_workers_die_at_once_is_not_filled_again_and_again(
    matrix: TagMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that others work beside: the run goes on, and the place waits."""
    monkeypatch.setattr(crash_loops, "_FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(crash_loops, "_LONGEST_PAUSE_S", 3600.0)
    pool = WorkerPool(matrix, "carrier-pigeon://loft", 1)
    try:
        for death in range(1, 7):
            matrix.worker_stats_WS[1, SERVED] += 1  # by somebody else
            assert _poll_until_lost(pool, 1) == [f"worker-0-{death}"]
        assert pool.poll() == [] and pool.workers == [] and pool.place_of("worker-0-6") == "waiting"
        pool.scale(1)
        assert _names(pool) == ["worker-0-7"], "whoever asks for workers gets them at once"
    finally:
        pool.close()


def test_deaths_of_workers_that_served_are_no_crash_loop(pool: WorkerPool, matrix: TagMatrix) -> None:
    for _ in range(12):
        matrix.worker_stats_WS[0, SERVED] += 1
        pool.kill(_names(pool)[0])
        _poll_until_lost(pool, 1)
    assert _names(pool) == ["worker-0-13"]


def test_close_ends_even_stopped_workers_and_may_be_called_twice(pool: WorkerPool) -> None:
    pool.scale(2)
    pids = [worker.pid for worker in pool.workers]
    os.kill(pids[0], signal.SIGSTOP)
    pool.close()
    assert wait_for_exit(pids, 0) == [] and pool.workers == []
    pool.close()


def test_close_in_a_forked_child_ends_nobody(pool: WorkerPool) -> None:
    child = os.fork()
    if child == 0:
        try:
            pool.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.poll() == [] and pool.workers[0].process.poll() is None


def test_logs_of_successive_workers_share_a_file(matrix: TagMatrix, tmp_path: Path) -> None:
    with private_endpoint() as endpoint:
        pool = WorkerPool(matrix, endpoint, 1, log_dir=tmp_path / "log")
        try:
            until(lambda: _is_watching(pool.workers[0].pid), lambda: None)
            os.kill(pool.workers[0].pid, signal.SIGSEGV)  # as a defect in a kernel would
            assert _poll_until_lost(pool, 1) == ["worker-0-1"]
            assert "Segmentation fault" in (tmp_path / "log" / "worker-0.log").read_text()
            assert pool.workers[0].log.last_words() == ""
        finally:
            pool.close()


def _is_watching(pid: int) -> bool:
    """It runs our code: the lifeline's thread is there."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1


def test_package_of_the_same_name_where_the_user_stands_is_not_run(matrix: TagMatrix, tmp_path: Path) -> None:
    package = tmp_path / "workers"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit(99)")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import os\n"
        "from worker_system import *\n"
        "with small_matrix() as matrix:\n"
        "    os.chdir(sys.argv[2])\n"
        "    pool = WorkerPool(matrix, 'carrier-pigeon://loft', 1)\n"
        "    print(pool.workers[0].process.wait(60), pool.workers[0].log.last_words())\n"
        "    pool.close()\n"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(here), str(tmp_path)],
        cwd=here.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert done.stdout.startswith("1 ") and "Protocol not supported" in done.stdout
