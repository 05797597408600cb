"""Features on their way from a device to the host."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hybrid.pipeline
from hybrid.pipeline import _ALMOST_S, _LOOK_S, _Departure

D = 8


class Card:
    """What a departure uses of CUDA: an event that passes at a moment, and a clock that goes while it is slept."""

    def __init__(self, passed_at_s):
        self.passed_at_s, self.now_s, self.looks = passed_at_s, 0.0, 0

    def query(self):
        self.looks += 1
        return self.now_s >= self.passed_at_s

    def record(self, stream):
        pass

    def perf_counter(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def departure_from(card, monkeypatch):
    host = SimpleNamespace(copy_=lambda features, non_blocking: None)
    monkeypatch.setattr(torch, "empty", lambda *shape, **named: host)
    monkeypatch.setattr(torch.cuda, "Event", lambda **named: card)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(hybrid.pipeline, "time", card)
    source = SimpleNamespace(device=torch.device("cuda"), shape=(2, D))
    return _Departure(SimpleNamespace(detach=lambda: source))


@pytest.mark.parametrize("passed_at_s", [0.0, _LOOK_S / 2, _ALMOST_S * 0.9])
def test_a_device_that_keeps_up_is_waited_for(passed_at_s, monkeypatch):
    """Else workers would wait until the next forward pass is queued."""
    card = Card(passed_at_s)
    assert departure_from(card, monkeypatch).is_almost_ready()
    assert passed_at_s <= card.now_s < passed_at_s + _LOOK_S + 1e-9


def test_a_device_that_is_behind_is_not_waited_for(monkeypatch):
    """Else it would idle before its next pass."""
    card = Card(passed_at_s=1.0)
    assert not departure_from(card, monkeypatch).is_almost_ready()
    assert card.looks > 2 and card.now_s <= _ALMOST_S + 2 * _LOOK_S


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_features_of_an_idle_card_are_there_at_once_and_those_of_a_busy_one_are_not():
    matrix, features = torch.randn(8192, 8192, device="cuda"), torch.zeros(5, D, device="cuda")
    idle = []
    for _ in range(20):  # other processes may use the card, too
        torch.cuda.synchronize()
        idle.append(_Departure(features).is_almost_ready())
        for _ in range(20):
            matrix @ matrix
        busy = _Departure(features)
        assert not busy.is_almost_ready() and np.array_equal(busy.wait(), np.zeros((5, D)))
    assert any(idle)


def test_features_are_copied_to_the_host_whatever_torchs_default_device_is(monkeypatch):
    """Under `torch.set_default_device("cuda")` it would be made on the card, where nothing can be pinned."""
    made, event = [], SimpleNamespace(record=lambda stream: None)
    source = SimpleNamespace(device=torch.device("cuda"), shape=(2, D))
    host = SimpleNamespace(copy_=lambda features, non_blocking: None)
    monkeypatch.setattr(torch, "empty", lambda *shape, **named: made.append(named) or host)
    monkeypatch.setattr(torch.cuda, "Event", lambda **named: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    _Departure(SimpleNamespace(detach=lambda: source))
    (named,) = made
    assert named["device"] == "cpu" and named["pin_memory"]


def test_features_of_any_other_device_come_to_the_host_and_those_of_the_cpu_are_not_copied():
    on_host = torch.randn(2, D)
    moved = {("cpu", torch.float32): on_host}
    source = SimpleNamespace(device=torch.device("xpu"), shape=(2, D), to=lambda *wanted: moved[wanted])
    for features in (SimpleNamespace(detach=lambda: source), on_host):
        departure = _Departure(features)
        assert departure.is_almost_ready() and departure.wait().ctypes.data == on_host.data_ptr()
