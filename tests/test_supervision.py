"""The trunk's side of the link, with a real router that nobody answers."""

import pytest
from worker_system import HEAD, LIMIT_S, make_chunk, private_endpoint, small_matrix, until

from hybrid.supervision import Supervision
from workers.errors import WorkerLost
from workers.link import Link
from workers.router import Router


@pytest.fixture
def trunk(tmp_path):
    """(the launcher's end of the link, supervision, router)"""
    launcher = Link.bind(f"ipc://{tmp_path}/link")
    supervision = Supervision(launcher.endpoint)
    with small_matrix() as matrix, private_endpoint() as endpoint:
        router = Router(endpoint, head=HEAD, matrix=matrix, membership=supervision)
        supervision.serve(router)
        supervision.tell("note", text="here")
        assert launcher.receive(LIMIT_S)  # they have met: what the launcher sends from here on leaves at once
        yield launcher, supervision, router
        router.close()
    supervision.close()
    launcher.close(0.0)


def test_a_step_whose_replies_will_never_come_is_given_up_at_once_and_the_run_stops(trunk):
    launcher, supervision, router = trunk
    ticket = router.submit([make_chunk(0), make_chunk(1)])
    launcher.send("no_workers")
    with pytest.raises(WorkerLost, match="die as fast as they are replaced"):
        router.collect(ticket, LIMIT_S)
    assert router.num_in_flight == 0 and supervision.stop_asked
    assert supervision.poll() == []  # as while it saves, when nobody need answer
    with pytest.raises(WorkerLost):
        until(lambda: False, lambda: router.submit([make_chunk(2)]))


def test_a_trunk_that_waits_for_its_first_worker_gives_up_when_none_will_come(trunk):
    launcher, supervision, router = trunk
    launcher.send("no_workers")
    router.wait_ready(1, LIMIT_S, lambda: supervision.stop_asked)
    assert router.workers() == []


@pytest.mark.parametrize("is_told_first", [True, False])
def test_once_all_is_learned_no_worker_is_missed(trunk, is_told_first):
    launcher, supervision, _ = trunk
    if is_told_first:
        launcher.send("no_workers")
        until(lambda: supervision.stop_asked, supervision.poll)
        assert not supervision.is_told_to_stop
    supervision.release_workers()
    assert [message["kind"] for message in launcher.receive(LIMIT_S)] == ["trained"]
    if not is_told_first:
        launcher.send("no_workers")
        until(lambda: supervision._are_workers_gone, supervision.poll)
    assert not supervision.stop_asked
    launcher.send("stop")
    until(lambda: supervision.stop_asked, supervision.poll)
    assert supervision.is_told_to_stop
