"""When checkpoints are due: as soon as they cost next to nothing, and never later than the configuration says."""

import pytest

from hybrid.checkpoint_pace import CheckpointPace


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test moves on."""
    now = [100.0]
    monkeypatch.setattr("hybrid.checkpoint_pace.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("num_bytes", "took_s", "first_s", "later_s"),
    [(0, 0.01, 30, 30), (300_000_000, 2.0, 50, 100), (10**11, 0.1, 300, 30), (0, 40.0, 30, 300)],
)
def test_pauses_are_fifty_times_what_a_checkpoint_takes_within_bounds(clock, num_bytes, took_s, first_s, later_s):
    pace = CheckpointPace(num_bytes, most_s=300.0)
    for pause_s in (first_s, later_s):
        clock[0] += pause_s - 1
        assert not pace.is_due()
        clock[0] += 2
        assert pace.is_due()
        pace.saved(took_s)


def test_who_wants_checkpoints_sooner_gets_them(clock):
    pace = CheckpointPace(10**12, most_s=0.3)
    clock[0] += 0.4
    assert pace.is_due()
    pace.saved(500.0)
    clock[0] += 0.4
    assert pace.is_due()


def test_after_a_failure_the_next_attempt_is_late(clock):
    pace = CheckpointPace(0, most_s=300.0)
    pace.failed()
    clock[0] += 299
    assert not pace.is_due()
    clock[0] += 2
    assert pace.is_due()
