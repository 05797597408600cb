"""What a process wants of the cores: time on them and time in line."""

from types import SimpleNamespace

import pytest

import hybrid.core_demand
from hybrid.core_demand import CoreDemand


class FakeProcess:
    def __init__(self, folder, monkeypatch):
        self.folder, self.cpu_s = folder, 7.0
        monkeypatch.setattr(hybrid.core_demand, "time", SimpleNamespace(process_time=lambda: self.cpu_s))

    def thread(self, name, waited_ns):
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "schedstat").write_text(f"123456789 {waited_ns} 42\n")

    def end(self, name):
        (self.folder / name / "schedstat").unlink()
        (self.folder / name).rmdir()


@pytest.fixture
def process(tmp_path, monkeypatch):
    return FakeProcess(tmp_path, monkeypatch)


def test_time_in_line_counts_like_time_on_a_core(process):
    """A trunk that others keep from its core half of the time wants the whole core."""
    process.thread("1", 5_000_000_000)
    demand = CoreDemand(process.folder)
    process.cpu_s += 0.5
    process.thread("1", 5_500_000_000)
    assert demand.seconds() == pytest.approx(1.0)
    demand.begin()
    assert demand.seconds() == 0.0


def test_threads_that_come_and_go_are_no_mistake(process):
    process.thread("1", 10**9)
    process.thread("2", 9 * 10**9)
    demand = CoreDemand(process.folder)
    process.end("2")
    process.thread("3", 250_000_000)
    assert demand.seconds() == pytest.approx(0.25)


@pytest.mark.parametrize("text", ["", "12", "a b c"])
def test_a_kernel_that_does_not_count_leaves_time_on_cores(process, text):
    process.thread("1", 0)
    (process.folder / "1" / "schedstat").write_text(text)
    demand = CoreDemand(process.folder)
    process.cpu_s += 0.125
    assert demand.seconds() == 0.125


def test_a_thread_that_computes_is_seen():
    demand = CoreDemand()
    start = hybrid.core_demand.time.process_time()
    while hybrid.core_demand.time.process_time() - start < 0.05:
        pass
    assert demand.seconds() >= 0.05
