"""The shadow of a trunk: up to it the trunk never waits, beyond it does."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hybrid.shadow import TrunkWork, shadow_s, waiting_s

TIMES = st.floats(1e-4, 10.0)
WORKS = st.builds(TrunkWork, forward_s=TIMES, backward_s=TIMES, ship_s=st.floats(0.0, 1.0))
MICROBATCHES = st.integers(2, 9)


def simulated_wait_s(worker_s, work, microbatches):
    """The trunk and one line of workers as two clocks, an event at a time."""
    trunk_s, shipped = 0.0, []
    for _ in range(microbatches):
        trunk_s += work.forward_s + work.ship_s
        shipped.append(trunk_s)
    workers_s, waited_s = 0.0, 0.0
    for at_s in shipped:
        workers_s = (workers_s if workers_s > at_s else at_s) + worker_s
        if workers_s > trunk_s:
            waited_s += workers_s - trunk_s
            trunk_s = workers_s
        trunk_s += work.backward_s
    return waited_s


@given(WORKS, MICROBATCHES)
def test_the_trunk_begins_to_wait_at_the_shadow(work, microbatches):
    limit_s = shadow_s(work, microbatches)
    assert simulated_wait_s(limit_s * 0.999, work, microbatches) == 0.0
    assert simulated_wait_s(limit_s * 1.001, work, microbatches) > 0.0


@given(WORKS, MICROBATCHES, st.floats(0.0, 20.0))
def test_predicted_waiting_is_that_of_two_clocks(work, microbatches, worker_s):
    assert waiting_s(worker_s, work, microbatches) == pytest.approx(
        simulated_wait_s(worker_s, work, microbatches), rel=1e-9, abs=1e-9
    )


@given(WORKS, MICROBATCHES, st.floats(0.5, 4.0))
def test_a_shadow_scales_with_the_trunk(work, microbatches, factor):
    scaled = TrunkWork(
        forward_s=work.forward_s * factor, backward_s=work.backward_s * factor, ship_s=work.ship_s * factor
    )
    assert shadow_s(scaled, microbatches) == pytest.approx(factor * shadow_s(work, microbatches))


@given(WORKS, MICROBATCHES)
def test_all_shadows_of_a_step_are_shorter_than_the_trunks_work(work, microbatches):
    assume(work.forward_s + work.backward_s > 0)
    whole_s = microbatches * (work.forward_s + work.ship_s + work.backward_s)
    assert 0 < microbatches * shadow_s(work, microbatches) < whole_s


@pytest.mark.parametrize(("microbatches", "share"), [(1, 0), (2, 1 / 3), (3, 2 / 3), (4, 3 / 4), (6, 5 / 6)])
def test_more_micro_batches_hide_more_of_a_step(microbatches, share):
    """With a backward pass of twice the forward pass, as is common."""
    work = TrunkWork(forward_s=20 / microbatches, backward_s=40 / microbatches)
    assert microbatches * shadow_s(work, microbatches) == pytest.approx(60 * share)


def test_two_micro_batches_hide_the_shorter_pass():
    assert shadow_s(TrunkWork(forward_s=3.0, backward_s=2.0), 2) == 2.0
    assert shadow_s(TrunkWork(forward_s=2.0, backward_s=9.0, ship_s=0.5), 2) == 2.5
