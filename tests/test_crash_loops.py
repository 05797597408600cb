"""When a pool gives up on workers that die, and how long a place waits for its next one."""

import numpy as np

from workers.crash_loops import CrashLoops


def _died(loops: CrashLoops, index: int, times: int, served_W: np.ndarray, now_s: float = 0.0) -> None:
    for _ in range(times):
        loops.note_death(index, served_W, now_s)


def test_a_pool_that_serves_nothing_gives_up() -> None:
    loops, served_W = CrashLoops(3), np.zeros(3, np.int64)
    _died(loops, 0, 6, served_W)
    assert loops.num_hopeless(num_workers=1) == 0
    _died(loops, 1, 1, served_W)
    assert loops.num_hopeless(num_workers=1) == 7


def test_deaths_of_long_ago_do_not_count() -> None:
    loops, served_W = CrashLoops(1), np.zeros(1, np.int64)
    _died(loops, 0, 6, served_W, now_s=0.0)
    _died(loops, 0, 1, served_W, now_s=61.0)
    assert loops.num_hopeless(num_workers=0) == 0


def test_a_place_whose_workers_die_while_others_serve_waits_longer_and_longer() -> None:
    loops, served_W = CrashLoops(3), np.zeros(3, np.int64)
    pauses_s = []
    for _ in range(15):
        served_W[1] += 1
        _died(loops, 0, 1, served_W)
        assert loops.num_hopeless(num_workers=2) == 0
        pauses_s.append(loops.pause_s(0))
    assert pauses_s == [0.0] * 5 + [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    assert loops.pause_s(1) == loops.pause_s(2) == 0.0


def test_a_place_that_served_again_is_filled_at_once_again() -> None:
    loops, served_W = CrashLoops(2), np.array([5, 0])
    _died(loops, 0, 8, served_W)
    assert loops.pause_s(0) > 0
    served_W[0] += 1
    _died(loops, 0, 1, served_W)
    assert loops.pause_s(0) == 0.0
