"""The number of negatives, steered on simulated machines: it converges, stays in bounds, and does not flutter."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.auto_negatives import AutoNegatives, Measurement

LOWEST, HIGHEST, TARGET = 64, 16_384, 0.9


class Plant:
    """Workers that need a + b K per micro-batch, and a trunk that waits for what does not fit into the shadow.

    Args:
        shadow_s: of the trunk.
        base_s: a, seconds.
        slope_s: b, seconds per negative.
        noise: relative standard deviation of what is measured.
        hidden_s: by which answers come later than workers computed.
    """

    def __init__(self, shadow_s, base_s, slope_s, *, noise=0.0, hidden_s=0.0, seed=0):
        self.shadow_s, self.base_s, self.slope_s = shadow_s, base_s, slope_s
        self.noise, self.hidden_s, self._rng = noise, hidden_s, np.random.default_rng(seed)

    def worker_s(self, negatives):
        return self.base_s + self.slope_s * negatives

    def measure(self, negatives):
        wait_s = max(0.0, self.worker_s(negatives) + self.hidden_s - self.shadow_s)
        worker_s, shadow_s = (t * self._factor() for t in (self.worker_s(negatives), self.shadow_s))
        return Measurement(worker_s=worker_s, shadow_s=shadow_s, wait_s=wait_s, step_s=6 * self.shadow_s + 2 * wait_s)

    def _factor(self):
        return math.exp(self.noise * self._rng.standard_normal())

    def ideal(self, target=TARGET):
        """The K that fills the target share of the shadow, in bounds."""
        return min(max((target * self.shadow_s - self.base_s) / self.slope_s, LOWEST), HIGHEST)


def make(start=1024, **changes):
    return AutoNegatives(start, **{"lowest": LOWEST, "highest": HIGHEST, "target": TARGET, **changes})


def run(auto, plant, updates):
    return [auto.update(plant.measure(auto.negatives)) for _ in range(updates)]


plants = st.builds(
    Plant,
    shadow_s=st.floats(1e-3, 1.0),
    base_s=st.floats(0.0, 0.4e-3),
    slope_s=st.floats(1e-7, 1e-4),
)


@given(plants, st.integers(1, 40_000))
def test_it_converges_within_twenty_updates_and_then_stands_still(plant, start):
    auto = make(start)
    path = run(auto, plant, 20)
    assert all(LOWEST <= k <= HIGHEST for k in path)
    assert len(set(run(auto, plant, 30))) == 1
    is_at_bound = auto.negatives in (LOWEST, HIGHEST)
    fill = plant.worker_s(auto.negatives) / plant.shadow_s
    assert fill <= 0.95 or auto.negatives == LOWEST
    assert fill >= TARGET / 1.1 or is_at_bound
    if is_at_bound:
        assert 0.5 <= plant.ideal() / auto.negatives <= 1.3


@given(st.floats(0.5, 1.5), st.integers(LOWEST, HIGHEST))
def test_workers_that_are_slow_without_negatives_only_take_longer_to_settle(base, start):
    """The larger a, the less does K change worker time."""
    plant, auto = Plant(0.001, 0.001 * base, 1e-7), make(start)
    run(auto, plant, 200)
    assert len(set(run(auto, plant, 50))) == 1
    if base >= 1:
        assert auto.negatives <= LOWEST * 1.25


@given(plants, st.integers(LOWEST, HIGHEST))
def test_it_comes_from_one_side(plant, start):
    """Without noise K rises to its place or falls to it; it never turns round."""
    steps = np.diff([start, *run(make(start), plant, 25)])
    assert (steps >= 0).all() or (steps <= 0).all()


@given(plants, st.integers(LOWEST, HIGHEST))
def test_no_change_is_larger_than_twofold(plant, start):
    auto = make(start)
    path = [auto.negatives, *run(auto, plant, 25)]
    for before, after in itertools.pairwise(path):
        assert before / 2 - 1 <= after <= before * 2


@pytest.mark.parametrize("noise", [0.01, 0.03])
@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_make_it_flutter(noise, seed):
    plant = Plant(0.02, 0.001, 4e-6, noise=noise, seed=seed)
    auto = make()
    run(auto, plant, 20)
    path = run(auto, plant, 200)
    assert np.count_nonzero(np.diff(path)) <= 20
    assert 0.75 < np.mean(path) / plant.ideal() < 1.1
    assert max(plant.worker_s(k) for k in path) < 1.1 * plant.shadow_s


def test_it_follows_a_trunk_that_becomes_quicker_and_slower():
    plant, auto = Plant(0.02, 0.001, 4e-6), make()
    for shadow_s in (0.02, 0.006, 0.04):
        plant.shadow_s = shadow_s
        run(auto, plant, 20)
        assert 0.8 < plant.worker_s(auto.negatives) / shadow_s <= 0.95


def test_it_follows_the_number_of_workers():
    plant, auto = Plant(0.02, 0.001, 4e-6), make()
    run(auto, plant, 20)
    before = auto.negatives
    plant.base_s, plant.slope_s = plant.base_s / 2, plant.slope_s / 2  # twice as many workers
    auto.workers_changed()
    run(auto, plant, 20)
    assert auto.negatives == pytest.approx(2 * before, rel=0.25)
    assert 0.8 < plant.worker_s(auto.negatives) / plant.shadow_s <= 0.95


def test_what_only_the_trunk_can_see_counts():
    """Answers come 6 ms later than computed; a model of the computing alone would let the trunk wait for ever."""
    plant, auto = Plant(0.02, 0.001, 4e-6, hidden_s=0.006), make()
    run(auto, plant, 30)
    path = run(auto, plant, 100)
    waits = [plant.measure(k).wait_s for k in path]
    assert np.mean(waits) < 0.005 * 6 * plant.shadow_s
    assert np.count_nonzero(np.diff(path)) <= 12
    assert plant.worker_s(min(path)) > 0.4 * plant.shadow_s


def test_a_delay_that_is_over_is_forgotten():
    plant, auto = Plant(0.02, 0.001, 4e-6, hidden_s=0.015), make()
    run(auto, plant, 20)
    low = auto.negatives
    plant.hidden_s = 0.0
    run(auto, plant, 100)
    assert low < 0.5 * auto.negatives
    assert 0.8 < plant.worker_s(auto.negatives) / plant.shadow_s <= 0.95


def test_a_shadow_too_small_for_the_least_number_ends_there():
    auto = make()
    assert run(auto, Plant(1e-4, 1e-3, 1e-6), 20)[-1] == LOWEST


def test_workers_too_quick_for_the_largest_number_end_there():
    assert run(make(), Plant(10.0, 1e-3, 1e-6), 20)[-1] == HIGHEST


SOUND = {"worker_s": 0.001, "shadow_s": 0.02, "wait_s": 0.0, "step_s": 0.12}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
@pytest.mark.parametrize("field", SOUND)
def test_a_clock_that_failed_changes_nothing(field, bad):
    if field == "wait_s" and bad == 0.0:
        pytest.skip("no waiting is sound")
    auto, twin = make(), make()
    assert auto.update(Measurement(**{**SOUND, field: bad})) == 1024
    assert auto.fill is None
    assert auto.update(Measurement(**SOUND)) == twin.update(Measurement(**SOUND)) == 2048


@pytest.mark.parametrize(("start", "first"), [(1, LOWEST), (100, 100), (99_999, HIGHEST)])
def test_it_starts_within_its_bounds(start, first):
    assert make(start).negatives == first


def test_bounds_that_are_no_multiples_are_kept():
    auto = make(lowest=5, highest=21)
    assert run(auto, Plant(10.0, 0.0, 1e-6), 10)[-1] == 21
    assert run(auto, Plant(1e-6, 1.0, 1e-6), 10)[-1] == 5
