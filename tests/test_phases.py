"""Seconds by phase."""

from types import SimpleNamespace

import pytest

import hybrid.phases
from hybrid.phases import PhaseTimer


def test_seconds_add_up_until_they_are_taken(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(hybrid.phases, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    timer = PhaseTimer()
    for name, seconds in (("wait", 1.0), ("forward", 4.0), ("wait", 2.0)):
        with timer.phase(name):
            now[0] += seconds
    now[0] += 100.0
    assert timer.take() == {"wait": 3.0, "forward": 4.0}
    assert timer.take() == {}


def test_a_phase_that_fails_is_counted(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(hybrid.phases, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    timer = PhaseTimer()
    with pytest.raises(ValueError), timer.phase("load"):
        now[0] += 2.0
        raise ValueError
    assert timer.take() == {"load": 2.0}
