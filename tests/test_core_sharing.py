"""Whether trunk and workers compete for cores is judged by what was measured."""

import math

import pytest

from hybrid.core_sharing import CoreSharing


@pytest.mark.parametrize(
    ("cores", "trunk_cores", "workers_at_once", "is_shared"),
    [
        (2, 1.2, 2, True),  # a trunk on one of two cores, beside two workers
        (2, 1.0, 1, False),
        (2, 0.1, 2, False),  # a trunk that only waits
        (16, 1.5, 8, False),  # a trunk on a GPU
        (16, 12.0, 8, True),
        (1, 0.9, 1, True),
    ],
)
def test_cores_are_shared_if_workers_find_none(cores, trunk_cores, workers_at_once, is_shared):
    assert CoreSharing(cores).update(trunk_cores, workers_at_once) is is_shared


def test_a_verdict_does_not_change_back_for_little():
    sharing = CoreSharing(cores=4)
    assert sharing.update(2.6, 2)
    for _ in range(10):
        assert sharing.update(2.4, 2)  # would not have been shared at first
    for _ in range(10):
        last = sharing.update(2.2, 2)
    assert not last
    for _ in range(10):
        assert not sharing.update(2.4, 2)


def test_the_number_of_workers_counts_at_once():
    sharing = CoreSharing(cores=4)
    assert sharing.update(2.0, 4)
    assert not sharing.update(2.0, 2)


def test_one_odd_step_does_not_decide():
    sharing = CoreSharing(cores=4)
    for _ in range(10):
        sharing.update(1.0, 2)
    assert not sharing.update(3.5, 2)


def test_a_clock_that_failed_says_nothing():
    sharing = CoreSharing(cores=2)
    assert not sharing.update(math.nan, 8)
    assert sharing.update(2.0, 2)
    assert sharing.update(math.inf, 2)
