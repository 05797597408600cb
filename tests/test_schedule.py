"""Learning rates and budgets."""

import itertools
import math
from types import SimpleNamespace

import pytest

import hybrid.schedule
from hybrid.schedule import Budget, warmup_cosine
from workers.errors import ConfigError


@pytest.mark.parametrize(
    ("fraction", "factor"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0), (1.7, 0.0)]
)
def test_linear_rise_then_half_a_cosine(fraction, factor):
    assert warmup_cosine(fraction, 0.1) == pytest.approx(factor)


def test_without_warm_up_it_starts_at_the_peak():
    assert warmup_cosine(0.0, 0.0) == 1.0


def test_the_factor_never_rises_after_the_warm_up_and_never_jumps():
    factors = [warmup_cosine(i / 1000, 0.1) for i in range(1001)]
    assert max(abs(a - b) for a, b in itertools.pairwise(factors)) < 0.011
    after = factors[100:]
    assert after == sorted(after, reverse=True)


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(hybrid.schedule, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_epochs_count_examples_not_time(clock):
    budget = Budget(epochs=2.5, minutes=None, num_items=100)
    budget.start()
    clock[0] += 1e6
    assert [budget.fraction(n) for n in (0, 125, 250, 300)] == [0.0, 0.5, 1.0, 1.2]


def test_minutes_count_time_from_the_first_start(clock):
    budget = Budget(epochs=None, minutes=2.0, num_items=100)
    clock[0] += 500
    assert budget.used_s == budget.fraction(10) == 0.0
    budget.start()
    clock[0] += 30
    budget.start()
    assert budget.used_s == 30.0 and budget.fraction(10**9) == 0.25


def test_a_clock_that_was_stopped_goes_on_where_it_stood(clock):
    budget = Budget(epochs=None, minutes=2.0, num_items=100, used_s=10.0)
    budget.stop()
    budget.start()
    clock[0] += 30
    for _ in range(2):
        budget.stop()
        clock[0] += 1000
        assert budget.used_s == 40.0
    budget.start()
    clock[0] += 20
    assert budget.used_s == 60.0 and budget.fraction(0) == 0.5


@pytest.mark.parametrize("num_items", [0, -3, 2.5, None])
def test_an_epoch_without_items_is_refused_by_name(num_items):
    for limits in ({"epochs": 1.0, "minutes": None}, {"epochs": None, "minutes": 1.0}):
        with pytest.raises(ConfigError, match=f"num_items = {num_items}, but it must be a"):
            Budget(**limits, num_items=num_items)


def test_a_resumed_budget_goes_on(clock):
    budget = Budget(epochs=None, minutes=1.0, num_items=100, used_s=45.0)
    budget.start()
    clock[0] += 5
    assert budget.used_s == 50.0
    assert budget.remaining_s(1) == pytest.approx(10.0)


def test_remaining_time_follows_the_pace(clock):
    budget = Budget(epochs=1.0, minutes=None, num_items=100)
    budget.start()
    assert budget.remaining_s(0) == math.inf
    clock[0] += 20
    assert budget.remaining_s(25) == pytest.approx(60.0)
