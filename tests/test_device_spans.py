"""The device's own clock: what it adds up, what lies between, when it does not know yet."""

import pytest
import torch

from hybrid.device_spans import DeviceSpans

CUDA = torch.device("cuda")


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

    def record(self, stream):
        assert stream == f"the stream of {CUDA}"
        self.at_ms = self.stream.now_ms

    def query(self):
        return not self.stream.is_behind

    def elapsed_time(self, later):
        return later.at_ms - self.at_ms


@pytest.fixture
def stream(monkeypatch):
    made = FakeStream()
    monkeypatch.setattr("hybrid.device_spans.torch.cuda.Event", made.event)
    monkeypatch.setattr("hybrid.device_spans.torch.cuda.current_stream", lambda device: f"the stream of {device}")
    return made


def step(spans, stream, forward_ms, idle_ms, backward_ms):
    for name, work_ms in (("forward", forward_ms), ("forward", forward_ms), ("backward", backward_ms)):
        with spans.phase(name):
            stream.now_ms += work_ms
        stream.now_ms += idle_ms


def test_phases_add_up_and_gaps_are_waiting(stream):
    spans = DeviceSpans(CUDA)
    step(spans, stream, 10.0, 3.0, 40.0)
    assert spans.end_step(host_wait_s=1.0) == {}
    step(spans, stream, 1.0, 0.0, 1.0)
    assert spans.end_step(host_wait_s=1.0) == pytest.approx({"forward": 0.020, "backward": 0.040, "wait": 0.006})
    assert spans.end_step(host_wait_s=1.0) == pytest.approx({"forward": 0.002, "backward": 0.001, "wait": 0.0})
    assert spans.end_step(host_wait_s=1.0) == {}


def test_a_device_that_waits_for_the_host_to_do_something_else_does_not_wait_for_workers(stream):
    """As while the host ships the last micro-batch: the device idles for 6 ms, the host waited for workers for 1."""
    spans = DeviceSpans(CUDA)
    for host_wait_s in (0.001, 1.0):
        step(spans, stream, 10.0, 3.0, 40.0)
        seconds = spans.end_step(host_wait_s)
    assert seconds["wait"] == pytest.approx(0.001)
    assert spans.end_step(0.0)["wait"] == pytest.approx(0.006)


def test_a_device_that_is_behind_is_not_waited_for(stream):
    spans = DeviceSpans(CUDA)
    step(spans, stream, 1.0, 1.0, 1.0)
    spans.end_step(host_wait_s=1.0)
    stream.is_behind = True
    assert spans.end_step(host_wait_s=1.0) == {}


def test_a_phase_that_fails_is_closed(stream):
    spans = DeviceSpans(CUDA)
    with pytest.raises(ValueError), spans.phase("forward"):
        stream.now_ms += 2.0
        raise ValueError
    spans.end_step(host_wait_s=1.0)
    assert spans.end_step(host_wait_s=1.0) == pytest.approx({"forward": 0.002, "wait": 0.0})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_times_its_own_work():
    spans, matrix = DeviceSpans(CUDA), torch.randn(4096, 4096, device="cuda")
    for _ in range(2):
        with spans.phase("forward"):
            for _ in range(50):
                matrix @ matrix
        torch.cuda.synchronize()
        seconds = spans.end_step(host_wait_s=1.0)
    assert seconds["forward"] > 0.001
