"""Faults, made with real signals on real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from worker_system import LIMIT_S, WorkerSystem, make_chunk, wait_for_exit, worker_system

from workers.config import TRANSPORTS
from workers.errors import ChunkError
from workers.router_counters import RouterCounters
from workers.worker_stats import SERVED, WARM_UP_NS

_HERE = Path(__file__).parent

_OWNER = """
import os, signal, sys, time
from worker_system import *
with worker_system(2) as system:
    if "loader" in sys.argv:
        loader = os.fork()  # like a DataLoader's process, it keeps all descriptors of its parent
        if loader == 0:
            signal.pause()
        print("loader", loader, flush=True)
    print("workers", *(worker.pid for worker in system.pool.workers), flush=True)
    print("endpoint", system.router.endpoint, flush=True)
    system.router.submit([make_chunk(n) for n in range(200)])
    if "stopped" in sys.argv:
        stopped = system.pool.workers[0].pid
        os.kill(stopped, signal.SIGSTOP)
        def is_stopped(thread):
            return open(f"/proc/{stopped}/task/{thread}/stat").read().rpartition(")")[2].split()[0] == "T"
        while not all(map(is_stopped, os.listdir(f"/proc/{stopped}/task"))):
            time.sleep(0.01)  # the kernel wakes what is stopped when its owner dies, not what is about to stop
    print("running", flush=True)
    while True:
        system.router.service()
"""


def _serve_stream(system: WorkerSystem, first: int, num_steps: int) -> None:
    """Two tickets in flight, as a trunk with two micro-batches has; every chunk must be answered."""
    tickets = []
    for step in range(first, first + num_steps):
        tickets.append(system.router.submit([make_chunk(step, chunk=n) for n in range(4)]))
        if len(tickets) == 2:
            assert len(system.router.collect(tickets.pop(0), LIMIT_S)) == 4
    assert len(system.router.collect(tickets.pop(), LIMIT_S)) == 4


def _ready(system: WorkerSystem) -> list[str]:
    return [worker.name for worker in system.router.workers() if worker.state == "ready"]


@pytest.fixture(scope="module", params=TRANSPORTS)
def lasting_system(request: pytest.FixtureRequest) -> Iterator[WorkerSystem]:
    """One system for all faults: each test hurts it, the next one finds it healed.

    A worker that a busy machine starves is not taken for one that hangs.
    """
    with worker_system(2, request.param, heartbeat_s=0.2, silence_s=60.0) as system:
        yield system


@pytest.fixture
def pair(lasting_system: WorkerSystem) -> WorkerSystem:
    """Two ready workers, counters at zero."""
    _resize(lasting_system, 2)
    lasting_system.router.counters = RouterCounters()
    stats_WS = lasting_system.matrix.worker_stats_WS
    warm_up_ns_W = stats_WS[:, WARM_UP_NS].copy()  # the pool knows by it whose kernels are ready
    stats_WS[:] = lasting_system.matrix.applied_W[:] = 0
    stats_WS[:, WARM_UP_NS] = warm_up_ns_W
    return lasting_system


def _resize(system: WorkerSystem, num_workers: int) -> None:
    def is_settled() -> bool:
        sizes = {len(_ready(system)), len(system.pool.workers), len(system.router.workers())}
        return sizes == {num_workers}

    system.scale(num_workers)
    system.serve_until(is_settled)


def _successor(name: str) -> str:
    stem, incarnation = name.rsplit("-", 1)
    return f"{stem}-{int(incarnation) + 1}"


def test_killed_worker_is_replaced_and_its_chunks_are_sent_again(pair: WorkerSystem) -> None:
    victim, other = pair.pool.workers
    os.kill(victim.pid, signal.SIGSTOP)  # so that it dies with chunks in hand
    ticket = pair.router.submit([make_chunk(n) for n in range(10)])
    held = next(w.in_flight for w in pair.router.workers() if w.name == victim.name)
    os.kill(victim.pid, signal.SIGKILL)
    replies = pair.router.collect(ticket, LIMIT_S)
    assert len(replies) == 10 and all(np.isfinite(reply.loss_B).all() for reply in replies)
    assert held > 0 and pair.router.counters.chunks_resent == held and pair.router.counters.workers_lost == 1
    pair.serve_until(lambda: len(_ready(pair)) == 2)
    assert _ready(pair) == [_successor(victim.name), other.name]
    _serve_stream(pair, 100, 3)
    assert pair.router.num_in_flight == 0


def test_all_workers_killed_at_once_lose_no_chunk(pair: WorkerSystem) -> None:
    for worker in pair.pool.workers:
        os.kill(worker.pid, signal.SIGSTOP)
    ticket = pair.router.submit([make_chunk(n) for n in range(10)])
    for worker in pair.pool.workers:
        os.kill(worker.pid, signal.SIGKILL)
    assert len(pair.router.collect(ticket, LIMIT_S)) == 10
    assert pair.router.counters.chunks_resent == 10


def test_stopped_worker_is_noticed_killed_and_replaced(pair: WorkerSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair.router, "_silence_s", 3.0)
    victim = pair.pool.workers[1]
    os.kill(victim.pid, signal.SIGSTOP)
    ticket = pair.router.submit([make_chunk(n) for n in range(6)])
    assert len(pair.router.collect(ticket, LIMIT_S)) == 6
    assert wait_for_exit([victim.pid]) == []
    pair.serve_until(lambda: _successor(victim.name) in _ready(pair))


def test_killing_workers_again_and_again_loses_no_chunk(pair: WorkerSystem) -> None:
    for round_number in range(4):
        ticket = pair.router.submit([make_chunk(n, step=round_number) for n in range(40)])
        pair.pool.kill(pair.pool.workers[round_number % 2].name)
        assert len(pair.router.collect(ticket, LIMIT_S)) == 40
    assert pair.router.num_in_flight == 0 and pair.router.counters.chunks_submitted == 160
    applied = int(pair.matrix.applied_W.sum())
    assert 160 <= applied <= 160 + pair.router.counters.chunks_resent
    assert np.isfinite(pair.matrix.rows_ND).all()


def test_scale_from_1_to_3_to_1_during_a_stream_loses_no_chunk(pair: WorkerSystem) -> None:
    _resize(pair, 1)
    (lasting,) = _ready(pair)
    _serve_stream(pair, 0, 5)
    served_W = pair.matrix.worker_stats_WS[:, SERVED].copy()
    pair.scale(3)
    _serve_stream(pair, 5, 5)
    pair.serve_until(lambda: len(_ready(pair)) == 3)
    _serve_stream(pair, 10, 20)
    assert (pair.matrix.worker_stats_WS[:, SERVED] > served_W).sum() == 3
    ticket = pair.router.submit([make_chunk(n) for n in range(30)])
    pair.scale(1)
    _serve_stream(pair, 40, 5)
    assert len(pair.router.collect(ticket, LIMIT_S)) == 30
    _resize(pair, 1)
    assert _ready(pair) == [lasting] and pair.pool.poll() == []
    counters = pair.router.counters
    assert (counters.chunks_resent, counters.workers_lost, counters.replies_ignored) == (0, 0, 0)
    assert int(pair.matrix.applied_W.sum()) == counters.chunks_submitted


def test_one_and_three_workers_agree_bit_for_bit_without_updates(pair: WorkerSystem) -> None:
    results, chunks = [], [make_chunk(n, update=False) for n in range(12)]
    before_ND = pair.matrix.rows_ND.copy()
    for num_workers in (1, 3):
        _resize(pair, num_workers)
        results.append(pair.router.collect(pair.router.submit(chunks), LIMIT_S))
    np.testing.assert_array_equal(pair.matrix.rows_ND, before_ND)
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one.loss_B, three.loss_B)
        np.testing.assert_array_equal(one.feature_grad_BD, three.feature_grad_BD)
        assert one.accidental_hits == three.accidental_hits


def test_refused_chunk_leaves_workers_and_other_tickets_alone(pair: WorkerSystem) -> None:
    pids = [worker.pid for worker in pair.pool.workers]
    bad = make_chunk(0, features_BD=np.full((8, 16), np.nan, np.float32))
    tickets = [pair.router.submit([make_chunk(1)]), pair.router.submit([bad]), pair.router.submit([make_chunk(2)])]
    with pytest.raises(ChunkError, match=r"^features_BD: "):
        pair.router.collect(tickets[1], LIMIT_S)
    for ticket in (tickets[0], tickets[2]):
        assert len(pair.router.collect(ticket, LIMIT_S)) == 1
    assert [worker.pid for worker in pair.pool.workers] == pids and pair.pool.poll() == []


@pytest.mark.parametrize("circumstance", ["plain", "loader and stopped"])
def test_workers_of_a_killed_owner_end_and_remove_its_endpoint(circumstance: str, tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, *circumstance.split()],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{_HERE}:{_HERE.parent}", "TMPDIR": str(tmp_path), "PYTHONFAULTHANDLER": "1"},
        start_new_session=True,
    )
    said: dict[str, list[str]] = {}
    assert owner.stdout is not None
    try:
        for line in owner.stdout:
            key, *values = line.split()
            said[key] = values
            if key == "running":
                break
        assert "running" in said, f"the owner ended with status {owner.wait(LIMIT_S)} after {said}"
        endpoint = Path(said["endpoint"][0].removeprefix("ipc://"))
        assert endpoint.exists()
        owner.kill()
        owner.wait(LIMIT_S)
        assert wait_for_exit([int(pid) for pid in said["workers"]]) == []
        assert not endpoint.parent.exists()
    finally:
        owner.kill()
        for pid in said.get("loader", []):
            os.kill(int(pid), signal.SIGKILL)
        owner.stdout.close()
        owner.wait(LIMIT_S)
