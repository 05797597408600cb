"""Where a worker's time goes: booked by the worker itself, read by the trunk."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from worker_system import make_chunk as chunk_for
from worker_system import make_reply, worker_system

import hybrid.worker_phases
import workers.phase_clock
from hybrid.worker_phases import WorkerPhases, mean_shares
from workers.phase_clock import PHASES, PhaseClock
from workers.worker_stats import COMPILED, DRAW_NS, KERNEL_NS, RECEIVE_NS, REPLY_NS, SERVED, WAIT_NS, WARM_UP_NS

LIMIT_S = 60.0


@pytest.fixture
def now(monkeypatch):
    """A clock that the test sets, in nanoseconds."""
    now = [1000]
    for module in (workers.phase_clock, hybrid.worker_phases):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter_ns=lambda: now[0]))
    return now


def booked(stats_S):
    return {name: int(stats_S[column]) for name, column in PHASES.items()}


def test_the_phases_of_a_chunk_leave_nothing_out(now):
    stats_S = np.zeros(16, np.int64)
    clock = PhaseClock(stats_S)
    now[0] += 700
    clock.waited()
    now[0] += 160  # 10 of decoding and checks, then what the engine measured
    clock.computed(make_reply(chunk_for(), draw_ns=50, kernel_ns=100))
    now[0] += 30
    clock.answered(step=0, chunk=0)
    assert booked(stats_S) == {"wait": 700, "receive": 10, "draw": 50, "kernel": 100, "reply": 30}


def test_an_engine_that_measured_more_than_went_by_books_no_negative_time(now):
    stats_S = np.zeros(16, np.int64)
    clock = PhaseClock(stats_S)
    now[0] += 100
    clock.computed(make_reply(chunk_for(), draw_ns=500, kernel_ns=80))
    assert booked(stats_S) == {"wait": 0, "receive": 0, "draw": 20, "kernel": 80, "reply": 0}
    clock.computed(make_reply(chunk_for(), draw_ns=0, kernel_ns=10**9))
    assert sum(booked(stats_S).values()) == 100 and min(booked(stats_S).values()) >= 0


def test_a_start_is_measured_and_is_no_phase(now):
    stats_S = np.zeros(16, np.int64)
    clock = PhaseClock(stats_S)
    now[0] += 5
    with clock.warming_up():
        now[0] += 900
    assert stats_S[WARM_UP_NS] == 900 and stats_S[COMPILED] == 0 and sum(booked(stats_S).values()) == 0
    now[0] += 1
    clock.waited()
    assert stats_S[WAIT_NS] == 1


def test_kernels_that_are_compiled_are_counted():
    numba = pytest.importorskip("numba")
    if numba.config.DISABLE_JIT:
        pytest.skip("nothing is compiled")
    stats_S = np.zeros(16, np.int64)

    @numba.njit
    def add(a, b):
        return a + b

    with PhaseClock(stats_S).warming_up():
        add(1, 2)
    assert stats_S[COMPILED] == 1 and stats_S[WARM_UP_NS] > 0
    with PhaseClock(stats_S).warming_up():
        add(3, 4)
    assert stats_S[COMPILED] == 0


def test_shares_of_a_place_add_up_to_one_whatever_was_booked(now):
    matrix = SimpleNamespace(worker_stats_WS=np.zeros((3, 16), np.int64))
    phases = WorkerPhases(matrix)
    stats_WS = matrix.worker_stats_WS
    stats_WS[0, [WAIT_NS, RECEIVE_NS, DRAW_NS, KERNEL_NS, REPLY_NS]] = (
        10**9,
        50,
        100,
        200,
        50,
    )  # the wait began long ago
    stats_WS[1, KERNEL_NS] = 10**6  # a kernel that began before the last look
    now[0] += 1000
    shares = phases.take([0, 1, 2])
    assert shares[0] == pytest.approx({"wait": 0.6, "receive": 0.05, "draw": 0.1, "kernel": 0.2, "reply": 0.05})
    assert shares[1] == pytest.approx({"wait": 0.0, "receive": 0.0, "draw": 0.0, "kernel": 1.0, "reply": 0.0})
    assert shares[2]["wait"] == 1.0
    assert mean_shares(shares)["wait"] == pytest.approx(1.6 / 3)
    now[0] += 1000
    assert phases.take([0])[0]["wait"] == 1.0  # only what is new counts
    assert mean_shares({}) == {}


def test_real_workers_book_their_whole_time():
    with worker_system(2) as system:
        start_ns = time.perf_counter_ns()
        before_WS = system.matrix.worker_stats_WS.copy()
        for step in range(20):
            system.router.collect(system.router.submit([chunk_for(4 * step + i) for i in range(4)]), LIMIT_S)
        after_WS = system.matrix.worker_stats_WS.copy()
        elapsed_ns = time.perf_counter_ns() - start_ns
    booked_WS = (after_WS - before_WS)[:2]
    assert booked_WS[:, SERVED].sum() == 80
    for row_S in booked_WS:
        phases = booked(row_S)
        assert all(phases[name] > 0 for name in PHASES)
        assert sum(phases.values()) - phases["wait"] <= elapsed_ns
    assert (after_WS[:2, WARM_UP_NS] > 0).all()
    assert not after_WS[2:].any()  # each worker writes its own row alone
