"""A trunk may have as many files open as its workers and its data need."""

import resource
from collections.abc import Iterator

import pytest
from worker_system import private_endpoint

from workers.lines import TrunkLine


@pytest.fixture
def hard() -> Iterator[int]:
    """The limit that nobody here can raise; the other one is put back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _limit_of_a_trunk_that_begins_with(soft: int, hard: int) -> int:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with private_endpoint() as endpoint:
        TrunkLine(endpoint).close()
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_low_limit_is_raised_as_far_as_it_may_be(hard: int) -> None:
    most = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    assert _limit_of_a_trunk_that_begins_with(512, hard) == most


def test_a_limit_that_is_high_enough_stays(hard: int) -> None:
    if hard != resource.RLIM_INFINITY and hard < 4097:
        pytest.skip("this system does not allow so many")
    assert _limit_of_a_trunk_that_begins_with(4097, hard) == 4097
