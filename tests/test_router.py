"""The router against peers that follow a script: every way in which a worker can be slow, wrong or gone."""

import contextlib
import dataclasses
import stat
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
from worker_system import (
    HEAD,
    LIMIT_S,
    ScriptedPeer,
    make_chunk,
    make_reply,
    private_endpoint,
    small_matrix,
    small_ring,
    until,
)

from workers.chunk import Chunk
from workers.chunk_messages import chunk_of, refusal_message
from workers.codec import encode
from workers.config import TRANSPORTS, HeadConfig
from workers.endpoint import make_endpoint, remove_endpoint
from workers.errors import ChunkError, MatrixMismatch, ProtocolError, WorkerLost
from workers.matrix import TagMatrix
from workers.protocol import VERSION, Message
from workers.ring import Ring
from workers.router import Router
from workers.settings import from_plain


class Register:
    """A membership that does nothing but note what is asked of it."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self.killed: list[str] = []

    def poll(self) -> list[str]:
        """Those that the test said are dead."""
        dead, self.dead = self.dead, []
        return dead

    def kill(self, name: str) -> None:
        """Note it."""
        self.killed.append(name)


class Clock:
    """Time as the router sees it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """A moment passes at each look, so that no wait lasts for ever."""
        self.now_s += 1e-4
        return self.now_s


class Stage:
    """A router, its scripted peers, its clock."""

    def __init__(self, router: Router, matrix: TagMatrix, register: Register, clock: Clock) -> None:
        self.router, self.matrix, self.register, self.clock = router, matrix, register, clock
        self.peers: list[ScriptedPeer] = []
        self.ring: Ring | None = None

    def peer(self, name: str, index: int = 0) -> ScriptedPeer:
        """Somebody who connects."""
        self.peers.append(ScriptedPeer(self.router.endpoint, name, index, self.ring))
        return self.peers[-1]

    def worker(self, index: int = 0, incarnation: int = 1) -> ScriptedPeer:
        """A peer that is ready."""
        peer = self.peer(f"worker-{index}-{incarnation}", index)
        peer.hello(self.matrix.fingerprint)
        assert self.hear(peer).kind == "WELCOME"
        peer.say("READY")
        self.until(lambda: self.state(peer) == "ready")
        return peer

    def state(self, peer: ScriptedPeer) -> str | None:
        """As the router shows it."""
        return next((w.state for w in self.router.workers() if w.name == peer.name), None)

    def hear(self, peer: ScriptedPeer) -> Message:
        """The next message that the router sends to this peer."""
        messages: list[Message] = []
        self.until(lambda: bool(messages), lambda: messages.extend(m for m in [peer.received()] if m is not None))
        return messages[0]

    def until(self, holds, meanwhile=lambda: None) -> None:
        """Service the router until something holds."""
        until(holds, lambda: (self.router.service(), meanwhile()))

    def pass_time(self, seconds: float) -> None:
        """Time during which the router listens, in small moments."""
        for _ in range(int(seconds / 0.5)):
            self.clock.now_s += 0.5
            self.router.service()

    def answer(self, peer: ScriptedPeer, flight_id: int, chunk: Chunk, **changes: object) -> None:
        """Send a REPLY."""
        peer.reply(flight_id, make_reply(chunk, **changes))

    def answer_next(self, peer: ScriptedPeer, **changes: object) -> int:
        """Wait for a chunk, answer it, return its flight."""
        message = self.hear(peer)
        self.answer(peer, message.fields["flight_id"], chunk_of(message), **changes)
        return message.fields["flight_id"]


@pytest.fixture(params=TRANSPORTS)
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A router without workers."""
    clock = Clock()
    monkeypatch.setattr("workers.router.time", clock)
    with small_matrix() as matrix, small_ring(request.param) as ring, private_endpoint() as endpoint:
        register = Register()
        router = Router(endpoint, head=HEAD, matrix=matrix, membership=register, ring=ring)
        stage = Stage(router, matrix, register, clock)
        stage.ring = ring
        yield stage
        for peer in stage.peers:
            peer.socket.close()
        router.close()


def test_welcome_carries_the_head(stage: Stage) -> None:
    peer = stage.peer("worker-0-1")
    peer.hello(stage.matrix.fingerprint)
    message = stage.hear(peer)
    assert message.kind == "WELCOME" and from_plain(HeadConfig, message.fields["head"]) == HEAD
    assert stage.state(peer) == "starting"


def test_replies_come_in_the_order_of_the_chunks(stage: Stage) -> None:
    peer = stage.worker()
    chunks = [make_chunk(n) for n in range(3)]
    ticket = stage.router.submit(chunks)
    messages = [stage.hear(peer) for _ in chunks]
    for message in reversed(messages):
        stage.answer(peer, message.fields["flight_id"], chunk_of(message), rows_written=message.fields["step"])
    replies = stage.router.collect(ticket, LIMIT_S)
    assert [reply.rows_written for reply in replies] == [0, 1, 2]
    assert stage.router.num_in_flight == 0 and stage.router.counters.max_staleness_chunks == 2


def test_chunks_go_to_the_least_loaded(stage: Stage) -> None:
    first, second = stage.worker(0), stage.worker(1)
    stage.router.submit([make_chunk(0)])
    stage.hear(first)
    stage.router.submit([make_chunk(1), make_chunk(2), make_chunk(3)])
    assert [stage.hear(second).fields["step"], stage.hear(first).fields["step"]] == [1, 2]
    assert stage.hear(second).fields["step"] == 3
    assert [w.in_flight for w in stage.router.workers()] == [2, 2]


def test_chunks_wait_for_a_first_worker(stage: Stage) -> None:
    ticket = stage.router.submit([make_chunk()])
    stage.router.service()
    assert stage.router.num_in_flight == 1
    stage.answer_next(stage.worker())
    assert len(stage.router.collect(ticket, LIMIT_S)) == 1


def test_one_worker_is_not_flooded(stage: Stage) -> None:
    peer = stage.worker()
    ticket = stage.router.submit([make_chunk()] * 100)
    assert stage.router.workers()[0].in_flight == 64
    for _ in range(100):
        stage.answer_next(peer)
    assert len(stage.router.collect(ticket, LIMIT_S)) == 100


def test_no_chunks_need_no_worker(stage: Stage) -> None:
    assert stage.router.collect(stage.router.submit([]), 0.0) == []


def test_chunks_that_are_submitted_when_workers_are_past_hope_are_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up() -> list[str]:
        raise WorkerLost("workers died again and again")

    monkeypatch.setattr(stage.register, "poll", give_up)
    stage.clock.now_s += 1.0
    with pytest.raises(WorkerLost, match="again and again"):
        stage.router.submit([make_chunk(0)])
    assert stage.router.num_in_flight == 0


def test_chunks_of_a_dead_worker_are_sent_again_in_order(stage: Stage) -> None:
    dead = stage.worker(0)
    ticket = stage.router.submit([make_chunk(0), make_chunk(1)])
    stage.hear(dead)
    other = stage.worker(1)
    stage.register.dead.append(dead.name)
    stage.pass_time(1.0)
    assert [stage.answer_next(other), stage.answer_next(other)] == [0, 1]
    assert len(stage.router.collect(ticket, LIMIT_S)) == 2
    counters = stage.router.counters
    assert (counters.chunks_resent, counters.workers_lost, counters.replies_ignored) == (2, 1, 0)
    assert [w.name for w in stage.router.workers()] == [other.name]


def test_last_reply_of_a_dead_worker_counts_if_it_comes_soon(stage: Stage) -> None:
    dead = stage.worker(0)
    ticket = stage.router.submit([make_chunk(0)])
    stage.hear(dead)
    stage.clock.now_s += 0.06
    stage.register.dead.append(dead.name)
    stage.router.service()
    assert stage.state(dead) == "lost"
    stage.answer(dead, 0, make_chunk(0))
    until(
        lambda: ticket.is_done,
        lambda: [stage.router._take(*m, stage.clock.now_s) for m in stage.router._line.receive()],
    )
    assert stage.router.counters.chunks_resent == 0


def test_a_reply_counts_once(stage: Stage) -> None:
    late, other = stage.worker(0), stage.worker(1)
    ticket = stage.router.submit([make_chunk(0)])
    stage.hear(late)
    stage.register.dead.append(late.name)
    stage.pass_time(1.0)
    stage.answer_next(other, rows_written=5)
    stage.answer(other, 0, make_chunk(0), rows_written=6)
    stage.answer(late, 0, make_chunk(0), rows_written=7)
    assert stage.router.collect(ticket, LIMIT_S)[0].rows_written == 5
    counters = stage.router.counters
    stage.until(lambda: counters.replies_ignored + counters.messages_ignored == 2)
    assert stage.router.num_in_flight == 0


def test_a_worker_cannot_answer_for_another(stage: Stage) -> None:
    holder, liar = stage.worker(0), stage.worker(1)
    ticket = stage.router.submit([make_chunk(0)])
    stage.hear(holder)
    stage.answer(liar, 0, make_chunk(0))
    stage.until(lambda: stage.router.counters.replies_ignored == 1)
    assert not ticket.is_done
    stage.answer(holder, 0, make_chunk(0))
    stage.router.collect(ticket, LIMIT_S)


def test_refused_chunk_raises_its_error(stage: Stage) -> None:
    peer = stage.worker()
    ticket = stage.router.submit([make_chunk(0), make_chunk(1)])
    peer.send(refusal_message(stage.hear(peer).fields["flight_id"], ChunkError("pos_ids: got 9, expected less.")))
    with pytest.raises(ChunkError, match=r"^pos_ids: "):
        stage.router.collect(ticket, LIMIT_S)
    assert stage.router.num_in_flight == 0
    stage.answer_next(peer)  # the other chunk of that ticket
    stage.until(lambda: stage.router.counters.replies_ignored == 1)
    assert stage.state(peer) == "ready" and stage.router.workers()[0].in_flight == 0


def test_chunk_that_no_worker_survives_is_given_up(stage: Stage) -> None:
    ticket = stage.router.submit([make_chunk(3)])
    for incarnation in range(1, 6):
        peer = stage.worker(0, incarnation)
        stage.hear(peer)
        stage.register.dead.append(peer.name)
        stage.pass_time(1.0)
    with pytest.raises(WorkerLost, match="chunk 0 of step 3 was sent to 5 workers"):
        stage.router.collect(ticket, LIMIT_S)
    assert stage.router.num_in_flight == 0


def test_waiting_in_vain_ends(stage: Stage) -> None:
    ticket = stage.router.submit([make_chunk()])
    with pytest.raises(WorkerLost, match=r"waited 0.01\d* s for the replies to 1 chunks in vain. Workers: none"):
        stage.router.collect(ticket, 0.01)
    with pytest.raises(WorkerLost, match="2 ready workers"):
        stage.router.wait_ready(2, 0.01)
    assert stage.router.num_in_flight == 0


def test_a_worker_has_joined_before_it_is_ready(stage: Stage) -> None:
    """Chunks that are submitted meanwhile are served once it is."""
    peer = stage.peer("worker-0-1")
    peer.hello(stage.matrix.fingerprint)
    stage.router.wait_joined(1, LIMIT_S)
    assert stage.state(peer) == "starting"
    with pytest.raises(WorkerLost, match=r"for 2 workers in vain. Workers: worker-0-1 starting"):
        stage.router.wait_joined(2, 0.01)
    ticket = stage.router.submit([make_chunk()])
    assert stage.hear(peer).kind == "WELCOME"
    peer.say("READY")
    stage.answer_next(peer)
    assert len(stage.router.collect(ticket, LIMIT_S)) == 1


def test_silent_worker_with_chunks_is_killed_whatever_it_says_of_its_health(stage: Stage) -> None:
    silent, other = stage.worker(0), stage.worker(1)
    ticket = stage.router.submit([make_chunk()])
    stage.hear(silent)
    for _ in range(20):
        said_s = stage.clock.now_s
        silent.say("HEARTBEAT")
        other.say("HEARTBEAT")
        stage.until(lambda said_s=said_s: stage.router._peers[other.name].heard_s > said_s)
        stage.pass_time(1.0)
    assert stage.register.killed == [silent.name]
    stage.answer_next(other)
    stage.router.collect(ticket, LIMIT_S)


def test_worker_with_a_large_chunk_has_the_time_that_it_may_take(stage: Stage) -> None:
    """Killed in the midst of it, each of its successors would be, too."""
    worker = stage.worker()
    large = make_chunk()
    large = dataclasses.replace(large, num_negatives=round(30e9 / (6 * large.features_BD.size)))  # 30 s
    stage.router.submit([large])
    stage.hear(worker)
    stage.pass_time(44.0)
    assert stage.register.killed == []
    stage.pass_time(2.0)
    assert stage.register.killed == [worker.name]


def test_after_a_large_chunk_silence_is_as_long_as_ever(stage: Stage) -> None:
    """Though its worker still has others."""
    worker = stage.worker()
    large = make_chunk()
    large = dataclasses.replace(large, num_negatives=round(30e9 / (6 * large.features_BD.size)))
    stage.router.submit([large, make_chunk(1)])
    stage.answer_next(worker)
    stage.hear(worker)
    stage.until(lambda: stage.router.num_in_flight == 1)
    stage.pass_time(16.0)
    assert stage.register.killed == [worker.name]


def test_collecting_a_large_chunk_takes_as_long_as_it_may(stage: Stage) -> None:
    large = make_chunk()
    ticket = stage.router.submit([dataclasses.replace(large, num_negatives=round(3e6 / (6 * large.features_BD.size)))])
    with pytest.raises(WorkerLost, match=r"waited 0.013\d* s"):
        stage.router.collect(ticket, 0.01)


def test_idle_worker_without_heartbeat_is_killed(stage: Stage) -> None:
    peer = stage.worker()
    stage.pass_time(14.0)
    assert stage.register.killed == []
    stage.pass_time(2.0)
    assert stage.register.killed == [peer.name]


def test_worker_that_does_not_get_ready_is_killed(stage: Stage) -> None:
    peer = stage.peer("worker-0-1")
    peer.hello(stage.matrix.fingerprint)
    stage.hear(peer)
    stage.pass_time(299.0)
    assert stage.register.killed == []
    stage.pass_time(2.0)
    assert stage.register.killed == [peer.name]


def test_worker_may_take_longer_to_get_ready_while_a_large_matrix_is_filled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TagMatrix, "fill_limit_s", 200.0)
    matrix, register = stage.matrix, stage.register
    with (
        private_endpoint() as endpoint,
        contextlib.closing(
            Router(endpoint, head=HEAD, matrix=matrix, membership=register, ring=stage.ring)
        ) as stage.router,
    ):
        peer = stage.peer("worker-0-1")
        peer.hello(matrix.fingerprint)
        stage.hear(peer)
        stage.pass_time(499.0)
        assert register.killed == []
        stage.pass_time(2.0)
        assert register.killed == [peer.name]


def test_trunk_that_was_busy_or_stopped_kills_nobody(stage: Stage) -> None:
    stage.worker()
    stage.router.submit([make_chunk()])
    for _ in range(5):
        stage.clock.now_s += 3600
        stage.router.service()
    assert stage.register.killed == []


def test_a_pause_of_the_whole_machine_does_not_count_against_a_wait(stage: Stage) -> None:
    worker, pauses_s = stage.worker(), [3600.0, 3600.0]
    ticket = stage.router.submit([make_chunk()])
    wait = stage.router._line.wait

    def pause_or_wait(limit_ms: int) -> None:
        if pauses_s:
            stage.clock.now_s += pauses_s.pop()
        else:
            stage.answer_next(worker)
        wait(limit_ms)

    stage.router._line.wait = pause_or_wait
    assert len(stage.router.collect(ticket, LIMIT_S)) == 1 and not pauses_s
    assert stage.register.killed == []


def test_drained_worker_gets_no_more_chunks(stage: Stage) -> None:
    leaving, other = stage.worker(0), stage.worker(1)
    ticket = stage.router.submit([make_chunk(0)])
    stage.router.drain(leaving.name)
    later = stage.router.submit([make_chunk(1), make_chunk(2)])
    assert stage.answer_next(leaving) == 0 and stage.hear(leaving).kind == "DRAIN"
    assert {stage.answer_next(other), stage.answer_next(other)} == {1, 2}
    leaving.say("BYE")
    stage.until(lambda: stage.state(leaving) is None)
    assert len(stage.router.collect(ticket, LIMIT_S) + stage.router.collect(later, LIMIT_S)) == 3
    assert stage.router.counters.chunks_resent == 0


def test_worker_drained_before_it_came_is_sent_away(stage: Stage) -> None:
    stage.router.drain("worker-4-1")
    peer = stage.peer("worker-4-1", 4)
    peer.hello(stage.matrix.fingerprint)
    assert stage.hear(peer).kind == "DRAIN"
    peer.say("BYE")
    stage.until(lambda: stage.state(peer) is None)


def test_worker_that_says_bye_with_chunks_loses_none(stage: Stage) -> None:
    rude, other = stage.worker(0), stage.worker(1)
    ticket = stage.router.submit([make_chunk(0)])
    stage.hear(rude)
    rude.say("BYE")
    stage.answer_next(other)
    assert len(stage.router.collect(ticket, LIMIT_S)) == 1


@pytest.mark.parametrize("frames", [[b""], [b"\xc1\x00"], [b"\x80\x04K\x01."], [b"x" * 100_000], [b""] * 30])
def test_garbage_from_strangers_is_ignored(stage: Stage, frames: list[bytes]) -> None:
    stranger, worker = stage.peer("stranger"), stage.worker()
    stranger.socket.send_multipart(frames)
    stage.until(lambda: stage.router.counters.messages_ignored == 1)
    ticket = stage.router.submit([make_chunk()])
    stage.answer_next(worker)
    assert len(stage.router.collect(ticket, LIMIT_S)) == 1 and stage.register.killed == []


def test_strangers_cannot_answer(stage: Stage) -> None:
    stranger, worker = stage.peer("stranger"), stage.worker()
    ticket = stage.router.submit([make_chunk()])
    stage.hear(worker)
    stage.answer(stranger, 0, make_chunk())
    stage.until(lambda: stage.router.counters.messages_ignored == 1)
    assert not ticket.is_done


@pytest.mark.parametrize(
    "broken",
    [
        lambda peer, chunk: peer.socket.send_multipart([b"\xc1"]),
        lambda peer, chunk: peer.reply(0, make_reply(chunk, loss_B=np.zeros(3, np.float32))),
        lambda peer, chunk: peer.say("DRAIN"),
    ],
)
def test_worker_that_breaks_the_protocol_is_replaced(stage: Stage, broken) -> None:
    bad, other = stage.worker(0), stage.worker(1)
    ticket = stage.router.submit([make_chunk()])
    stage.hear(bad)
    broken(bad, make_chunk())
    stage.until(lambda: stage.register.killed == [bad.name])
    stage.clock.now_s += 0.5
    stage.answer_next(other)
    assert len(stage.router.collect(ticket, LIMIT_S)) == 1


def test_worker_of_another_matrix_is_refused(stage: Stage) -> None:
    peer = stage.peer("worker-0-1")
    peer.hello(stage.matrix.fingerprint + "-other")
    message = stage.hear(peer)
    assert message.kind == "REFUSED" and message.fields["error"] == MatrixMismatch.__name__
    assert stage.router.workers() == []


@pytest.mark.parametrize("changes", [{"name": "worker-9-1"}, {"index": 256}])
def test_hello_that_lies_is_refused(stage: Stage, changes: dict) -> None:
    peer = stage.peer("worker-0-1")
    peer.hello(stage.matrix.fingerprint, **changes)
    assert stage.hear(peer).fields["error"] == ProtocolError.__name__
    assert stage.router.workers() == [] and stage.register.killed == []


def test_hello_of_another_version_is_refused(stage: Stage) -> None:
    """Else that worker would wait for its WELCOME for ever, and its place would stay empty."""
    peer = stage.peer("worker-0-1")
    header = encode(Message("HELLO", {"name": "worker-0-1", "index": 0, "matrix": "", "ring": None}))[0]
    of_another = msgpack.packb([VERSION + 1, *msgpack.unpackb(header)[1:]])
    peer.socket.send_multipart([of_another])
    message = stage.hear(peer)
    assert message.kind == "REFUSED" and message.fields["error"] == ProtocolError.__name__
    assert "version" in message.fields["message"]
    assert stage.router.workers() == []


def test_bad_chunk_is_refused_before_it_is_sent(stage: Stage) -> None:
    with pytest.raises(ProtocolError, match=r"^features_BD: "):
        stage.router.submit([make_chunk(), make_chunk(features_BD=np.zeros((8, 16)))])
    assert stage.router.num_in_flight == 0


def test_endpoint_that_cannot_be_bound_is_an_error(stage: Stage) -> None:
    for endpoint in ("carrier-pigeon://loft", "ipc:///nonexistent/directory/head", f"ipc:///tmp/{'x' * 200}"):
        with pytest.raises(ProtocolError, match=r"^endpoint: "):
            Router(endpoint, head=HEAD, matrix=stage.matrix, membership=stage.register)


def test_rates_are_those_of_the_last_seconds(stage: Stage) -> None:
    peer = stage.worker()
    for _ in range(2):
        stage.clock.now_s += 1.0
        ticket = stage.router.submit([make_chunk()])
        stage.answer_next(peer, rows_written=30)
        stage.router.collect(ticket, LIMIT_S)
    (status,) = stage.router.workers()
    assert 25 < status.rows_per_s < 31
    stage.clock.now_s += 10
    assert stage.router.workers()[0].rows_per_s == 0


def test_private_endpoint_is_private_and_leaves_nothing() -> None:
    endpoint = make_endpoint()
    directory = Path(endpoint.removeprefix("ipc://")).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    remove_endpoint(endpoint)
    assert not directory.exists()
    remove_endpoint(endpoint)
    remove_endpoint("tcp://127.0.0.1:5555")


def test_endpoints_of_others_are_not_removed(tmp_path: Path) -> None:
    remove_endpoint(f"ipc://{tmp_path}/head")
    assert tmp_path.exists()
    endpoint = make_endpoint()
    valuable = Path(endpoint.removeprefix("ipc://")).parent / "thesis.txt"
    valuable.write_text("years of work")
    remove_endpoint(endpoint)
    assert valuable.exists()
    with contextlib.suppress(OSError):
        valuable.unlink()
        valuable.parent.rmdir()
