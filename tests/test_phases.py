"""Seconds by phase."""

from types import SimpleNamespace

import pytest

import hybrid.phases
from hybrid.phases import PhaseTimer


def test_seconds_add_up_until_they_are_taken(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(hybrid.phases, "time", SimpleNamespace(perf_counter_ns=lambda: int(now[0] * 1e9)))
    timer = PhaseTimer()
    now[0] += 50.0  # before the first phase: no part of a step
    for name, seconds in (("wait", 1.0), ("forward", 4.0), ("wait", 2.0)):
        with timer.phase(name):
            now[0] += seconds
    now[0] += 100.0
    assert timer.take(step=0) == {"wait": 3.0, "forward": 4.0, "other": 100.0}
    now[0] += 7.0
    assert timer.take(step=1) == {"other": 7.0}


def test_a_phase_that_fails_is_counted(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(hybrid.phases, "time", SimpleNamespace(perf_counter_ns=lambda: int(now[0] * 1e9)))
    timer = PhaseTimer()
    with pytest.raises(ValueError), timer.phase("load"):
        now[0] += 2.0
        raise ValueError
    assert timer.take(step=0) == {"load": 2.0, "other": 0.0}
