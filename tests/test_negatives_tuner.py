"""From timings of steps to the number of negatives: what is measured, what is left out, when it declines."""

from types import SimpleNamespace

import pytest

import hybrid.negatives_tuner
from hybrid.negatives_tuner import NegativesTuner, bounds
from launch.config import TrainConfig
from workers.config import MAX_DRAWS, HeadConfig

CHUNKS = 4
TRUNK_S = {"augment": 0.005, "forward": 0.04, "ship": 0.0, "wait": 0.0, "backward": 0.08, "optimizer": 0.001}
"""Of two micro-batches: a shadow of 20 ms each."""


class Bench:
    """A tuner on a head without workers, and the clocks by which it is fooled."""

    def __init__(self, monkeypatch, *, cores=8, workers=1, head=None, num_tags=10**6, **train):
        self.now_s = self.core_s = 0.0
        demand = SimpleNamespace(begin=lambda: None, seconds=lambda: self.core_s)
        monkeypatch.setattr(hybrid.negatives_tuner, "time", SimpleNamespace(perf_counter=lambda: self.now_s))
        monkeypatch.setattr(hybrid.negatives_tuner, "CoreDemand", lambda: demand)
        self.workers, self.told = workers, []
        config = head or HeadConfig(negatives=1024)
        ready, starting = SimpleNamespace(state="ready"), SimpleNamespace(state="starting")
        router = SimpleNamespace(workers=lambda: [starting] + [ready] * self.workers)
        self.head = SimpleNamespace(config=config, num_negatives=config.negatives, num_tags=num_tags, router=router)
        train = TrainConfig(auto_negatives=True, **train)
        self.tuner = NegativesTuner(self.head, train, self.told.append, cores)

    def step(self, *, is_full=True, chunk_us_per_negative=4.0, cores=0.2, host=None, device=None, parts=2):
        """A step of the trunk whose workers need so long for each chunk."""
        self.tuner.begin_step()
        step_s = 0.13
        self.now_s += step_s
        self.core_s = cores * step_s
        chunk_s = 1e-6 * chunk_us_per_negative * self.head.num_negatives
        self.tuner.end_step(host or TRUNK_S, device, [chunk_s] * CHUNKS, parts=parts, is_full=is_full)

    def steps(self, number=200, **how):
        for _ in range(number):
            self.step(**how)
        return self.head.num_negatives


def worker_s(negatives, *, chunks, us_per_negative=4.0):
    return chunks * negatives * us_per_negative * 1e-6


def test_workers_fill_the_target_share_of_the_shadow(monkeypatch):
    bench = Bench(monkeypatch)
    assert 0.8 < worker_s(bench.steps(), chunks=2) / 0.02 <= 0.95
    figures = bench.tuner.figures()
    assert figures["shadow_ms"] == pytest.approx(20)
    assert figures["worker_ms"] == pytest.approx(1000 * worker_s(bench.head.num_negatives, chunks=2))
    assert figures["shadow_fill"] == pytest.approx(figures["worker_ms"] / 20)
    assert figures["trunk_cores"] == pytest.approx(0.2)


def test_a_lower_target_leaves_more_of_it_empty(monkeypatch):
    assert 0.4 < worker_s(Bench(monkeypatch, negatives_target=0.5).steps(), chunks=2) / 0.02 <= 0.53


def test_two_workers_serve_twice_as_many_and_a_third_finds_no_chunk(monkeypatch):
    alone, pair, three = (Bench(monkeypatch, workers=workers).steps() for workers in (1, 2, 3))
    assert pair == pytest.approx(2 * alone, rel=0.2)
    assert three == pair


def test_it_follows_workers_that_come_and_die(monkeypatch):
    bench = Bench(monkeypatch, workers=2)
    pair = bench.steps()
    bench.workers = 1
    alone = bench.steps()
    bench.workers = 2
    assert bench.steps() == pytest.approx(pair, rel=0.2) and alone == pytest.approx(pair / 2, rel=0.2)


def test_without_a_ready_worker_nothing_is_judged(monkeypatch):
    bench = Bench(monkeypatch, workers=0)
    assert bench.steps() == 1024 and bench.tuner.figures() == {}


def test_the_last_batch_of_an_epoch_is_left_out(monkeypatch):
    bench = Bench(monkeypatch)
    before = bench.steps()
    assert bench.steps(is_full=False, chunk_us_per_negative=400.0) == before


def test_a_few_steps_are_not_enough_to_judge(monkeypatch):
    assert Bench(monkeypatch).steps(7) == 1024


def test_the_devices_clock_replaces_the_hosts(monkeypatch):
    """With CUDA the host's phases say how long it enqueued; what the device says is a step late."""
    device = {"forward": 0.08, "backward": 0.16, "wait": 0.0}
    bench = Bench(monkeypatch)
    bench.steps(20, device={})
    assert bench.tuner.figures() == {} and bench.head.num_negatives == 1024
    assert 0.8 < worker_s(bench.steps(device=device), chunks=2) / 0.04 <= 0.95


def test_on_a_devices_clock_a_step_counts_where_the_one_before_was_of_its_kind(monkeypatch):
    """What the device says is of the step before: a short one's would be taken for a full one's."""
    device, short = {"forward": 0.08, "backward": 0.16, "wait": 0.0}, {"forward": 0.001, "backward": 0.001, "wait": 0.0}
    bench = Bench(monkeypatch)
    for _ in range(100):
        bench.steps(2, device=device)
        bench.step(device=device, is_full=False)
        bench.step(device=short)
    assert bench.tuner.figures()["shadow_ms"] == pytest.approx(40)
    assert bench.head.num_negatives == pytest.approx(Bench(monkeypatch).steps(device=device), rel=0.1)


def test_a_batch_that_was_not_cut_has_no_shadow(monkeypatch):
    bench = Bench(monkeypatch)
    assert bench.steps(parts=1) == 1024 and bench.tuner.figures()["shadow_ms"] == 0


def test_waiting_that_computing_does_not_explain_lowers_the_number(monkeypatch):
    bench = Bench(monkeypatch)
    before = bench.steps()
    assert bench.steps(host={**TRUNK_S, "wait": 0.01}) < 0.8 * before


def test_a_worker_that_died_once_is_not_waiting(monkeypatch):
    bench = Bench(monkeypatch)
    before = bench.steps()
    for _ in range(20):
        bench.step(host={**TRUNK_S, "wait": 2.0})
        bench.steps(9)
    assert bench.head.num_negatives == before


def test_on_shared_cores_it_declines_and_says_why(monkeypatch):
    bench = Bench(monkeypatch, cores=2, workers=2)
    assert bench.steps(cores=1.3) == 1024
    assert bench.told[1:] == [
        "negatives stay at 1,024: the trunk wants 1.3 of 2 cores, and 2 workers at a time want one each, "
        "so more of them would slow the trunk"
    ]


def test_cores_that_become_free_are_used_and_said_once(monkeypatch):
    bench = Bench(monkeypatch, cores=2, workers=2)
    bench.steps(50, cores=1.3)
    assert bench.steps(cores=0.2) > 1024
    assert len(bench.told) == 3 and bench.told[-1].startswith("negatives follow the trunk")


def test_cores_of_a_trunk_that_waits_are_not_taken_for_idle(monkeypatch):
    """It used 0.65 cores over a step of which it waited for half: 1.3 while it worked."""
    bench = Bench(monkeypatch, cores=2, workers=2)
    assert bench.steps(cores=0.65, host={**TRUNK_S, "wait": 0.065}) == 1024
    assert "wants 1.3 of 2 cores" in bench.told[1]


def test_what_it_will_do_is_said_at_the_start(monkeypatch):
    assert Bench(monkeypatch).told == [
        "negatives: from 1,024, between 64 and 16,384, until workers fill 90% of what hides behind the trunk"
    ]


@pytest.mark.parametrize(
    ("head", "train", "num_tags", "expected"),
    [
        ({}, {}, 10**6, (64, 16_384)),
        ({}, {"min_negatives": 5, "max_negatives": 40}, 10**6, (5, 40)),
        ({}, {}, 1000, (64, 1000)),
        ({}, {}, 10, (10, 10)),
        ({"objective": "sampled-softmax", "negatives": 512}, {}, 10**6, (512, 16_384)),
        ({"objective": "sampled-softmax", "negatives": 20_000}, {}, 10**6, (20_000, 20_000)),
        ({"private_negatives": True, "chunk_size": 4096}, {"max_negatives": 10**6}, 10**8, (64, MAX_DRAWS // 4096)),
    ],
)
def test_bounds(head, train, num_tags, expected):
    """Draws stay within what a worker takes; sampled softmax never gets more biased than was asked for."""
    assert bounds(HeadConfig(**head), TrainConfig(**train), num_tags) == expected
