"""The device's own clock: what it adds up, what lies between, when it does not know yet."""

import pytest
import torch

from hybrid.device_spans import DeviceSpans


class FakeStream:
    """A device that works through what is enqueued; its events hold milliseconds."""

    def __init__(self):
        self.now_ms, self.is_behind = 0.0, False

    def event(self, enable_timing):
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, stream):
        self.stream = stream

    def record(self):
        self.at_ms = self.stream.now_ms

    def query(self):
        return not self.stream.is_behind

    def elapsed_time(self, later):
        return later.at_ms - self.at_ms


@pytest.fixture
def stream(monkeypatch):
    made = FakeStream()
    monkeypatch.setattr("hybrid.device_spans.torch.cuda.Event", made.event)
    return made


def step(spans, stream, forward_ms, idle_ms, backward_ms):
    for name, work_ms in (("forward", forward_ms), ("forward", forward_ms), ("backward", backward_ms)):
        with spans.phase(name):
            stream.now_ms += work_ms
        stream.now_ms += idle_ms


def test_phases_add_up_and_gaps_are_waiting(stream):
    spans = DeviceSpans()
    step(spans, stream, 10.0, 3.0, 40.0)
    assert spans.end_step() == {}
    step(spans, stream, 1.0, 0.0, 1.0)
    assert spans.end_step() == pytest.approx({"forward": 0.020, "backward": 0.040, "wait": 0.006})
    assert spans.end_step() == pytest.approx({"forward": 0.002, "backward": 0.001, "wait": 0.0})
    assert spans.end_step() == {}


def test_a_device_that_is_behind_is_not_waited_for(stream):
    spans = DeviceSpans()
    step(spans, stream, 1.0, 1.0, 1.0)
    spans.end_step()
    stream.is_behind = True
    assert spans.end_step() == {}


def test_a_phase_that_fails_is_closed(stream):
    spans = DeviceSpans()
    with pytest.raises(ValueError), spans.phase("forward"):
        stream.now_ms += 2.0
        raise ValueError
    spans.end_step()
    assert spans.end_step() == pytest.approx({"forward": 0.002, "wait": 0.0})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_times_its_own_work():
    spans, matrix = DeviceSpans(), torch.randn(4096, 4096, device="cuda")
    for _ in range(2):
        with spans.phase("forward"):
            for _ in range(50):
                matrix @ matrix
        torch.cuda.synchronize()
        seconds = spans.end_step()
    assert seconds["forward"] > 0.001
